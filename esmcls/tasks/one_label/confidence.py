"""What a fitted model knows of its own doubts: measured once, kept beside the head, used at every prediction.

confidence.json (format 2) holds the probability of the true class of each calibration row, from which sets of any
coverage follow; with a hierarchy of the classes each row's score for answers at a level of it; and the score below
which a protein is rejected as a stranger, one of no known family.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.datasets.held_out import Shares
from esmcls.errors import UsageError
from esmcls.labels.hierarchy import ClassTree, Hierarchy
from esmcls.labels.labels import Labels
from esmcls.metrics.calibration import auroc, conformal_threshold
from esmcls.metrics.open_set import Rate, fit_logistic, threshold_for, wilson, without
from esmcls.metrics.tree_answers import least_thresholds, path_masses, tree_threshold
from esmcls.plain_values import from_plain
from esmcls.tasks.one_label.validation_answers import FoldAnswers
from esmcls.types import Indices, Probabilities

FORMAT: Final = 2
HALVINGS: Final = 200
CELLS: Final = 1 << 26
"""Probabilities that are held at a time: 256 MiB."""

Floats = npt.NDArray[np.float64]
Score = Literal["probability", "familiarity", "combined"]
SCORES: Final[tuple[Score, ...]] = ("probability", "familiarity", "combined")
WEIGHTS: Final = 4
"""Of the combined score: one of each of `signals`, and a constant."""
FEW: Final = 20
"""Proteins of either side that it takes to fit the combined score."""
_TOLD: Final = {
    "probability": "the likeliest class's probability",
    "familiarity": "the head's familiarity",
    "combined": "probability, margin and familiarity",
}
GAIN: Final = 0.02
"""Share of proteins by which a score must be better than the naive cut: what is less, chance can do."""
Point = Literal["false_acceptance", "accept_known"]


class Classifier(Protocol):
    """A fitted head, as far as it is needed here."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    def predict_proba(self, x: Features) -> Probabilities: ...
    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]: ...
    def familiarity(self, x: Features) -> Floats: ...


@dataclass(frozen=True)
class Rejection:
    """The threshold below which a protein is taken for a stranger, and what it reaches.

    Parameters
    ----------
    score : {"probability", "familiarity", "combined"}
        What is compared: the log of the likeliest class's probability, the head's own score, or both with the margin
        to the second class, by `weights`.
    threshold : float
        A protein is accepted if its score is greater.
    wanted : float
    point : {"false_acceptance", "accept_known"}
        Whose share was wanted: of strangers that are accepted at most, or of proteins of known families at least.
    known, strangers : Rate or None
        Share of proteins of known families and of strangers that are accepted, by thresholds that other folds set.
    auroc : float or None
        How often a protein of a known family scores higher than a stranger.
    folds : int
        In which families were held out; 0 where they were taken away for good.
    families : int
        Those held out.
    weights : tuple of float
        Of the columns of `signals`, and a constant; empty for the other scores.
    """

    score: Score
    threshold: float
    wanted: float
    point: Point = "false_acceptance"
    known: Rate | None = None
    strangers: Rate | None = None
    auroc: float | None = None
    folds: int = 0
    families: int = 0
    weights: tuple[float, ...] = ()

    def scores(self, probabilities: npt.NDArray[np.floating], familiarity: Floats | None) -> Floats:
        """Return the score of rows (n,).

        Parameters
        ----------
        probabilities : float array, (n, 2 or more)
            Of the likeliest classes; one column is enough where the score is not combined.
        familiarity : float64 array, (n,), or None
            None where the score is the probability.
        """
        if self.score == "probability":
            return log_probability(probabilities[:, 0])
        assert familiarity is not None
        if self.score == "familiarity":
            return familiarity
        return combined(signals(probabilities, familiarity), np.array(self.weights))

    def of(self, head: Classifier, x: Features) -> Floats:
        """Ask a head about rows and return their score, (n,)."""
        probabilities = head.top_k(x, 2)[1] if self.score != "familiarity" else np.ones((len(x), 1))
        return self.scores(probabilities, None if self.score == "probability" else head.familiarity(x))

    def lines(self) -> list[str]:
        """Say it for people."""
        way = f"strangers once each, in {self.folds} folds" if self.folds else "taken away"
        families = f"{self.families:,} families {way}" if self.families else "families held out"
        aim = {
            "false_acceptance": f"at most {100 * self.wanted:g} % of strangers accepted",
            "accept_known": f"at least {100 * self.wanted:g} % of known accepted",
        }[self.point]
        lines = [f"{families}: {aim}, by {_TOLD[self.score]}"]
        if self.known is not None:
            lines.append(f"known accepted: {self.known}")
        if self.strangers is not None:
            area = "" if self.auroc is None else f"; AUROC {self.auroc:.3f}"
            lines.append(f"strangers accepted: {self.strangers}{area}")
        return lines

    @classmethod
    def from_json(cls, flat: dict[str, Any]) -> Rejection:
        """Read what `dataclasses.asdict` gave, or esmcls 0.1.0 wrote.

        Raises
        ------
        ValueError
            If it is neither.
        """
        if "checks" in flat:  # format 1
            first = from_plain(_FirstRejection, flat)
            reached, checks = first.reached, first.checks
            if reached is not None and not (0 <= reached <= 1 and checks > 0):
                raise ValueError("reached: no share of its checks")
            rate = None if reached is None else Rate(reached, *wilson(reached, checks), checks)
            return cls(first.score, first.threshold, first.wanted, strangers=rate, auroc=first.auroc)
        rejection = from_plain(cls, flat)
        if len(rejection.weights) != (WEIGHTS if rejection.score == "combined" else 0):
            raise ValueError(
                f"weights: {len(rejection.weights)} of them, which the score {rejection.score} does not have"
            )
        return rejection


@dataclass(frozen=True)
class Confidence:
    """Calibration and rejection of a model.

    Parameters
    ----------
    true_probabilities : tuple of float
        Of the true class of each calibration row; empty where none was set aside.
    rejection : Rejection or None
        None where no families were held out.
    tree_scores : tuple of float
        Of each calibration row, see `esmcls.metrics.tree_answers`; empty without a hierarchy of the classes.
    hierarchy : str
        The digest of that hierarchy.
    """

    true_probabilities: tuple[float, ...] = ()
    rejection: Rejection | None = None
    tree_scores: tuple[float, ...] = ()
    hierarchy: str = ""

    def answers_in(self, hierarchy: Hierarchy) -> bool:
        """Return whether answers at a level of a hierarchy can be given: calibration rows were asked with it."""
        return bool(self.tree_scores) and self.hierarchy == hierarchy.digest()

    def threshold(self, coverage: float) -> float:
        """Return the least probability at which a class enters the set.

        Raises
        ------
        UsageError
            If there are no or too few calibration rows for the coverage, or it is out of range.
        """
        n = len(self.true_probabilities)
        if not n:
            raise UsageError("this model has no calibration rows for --coverage; fit it with --calibration 10%")
        threshold = conformal_threshold(np.array(self.true_probabilities), coverage)
        if (n + 1) * (1 - coverage) < 1:
            raise UsageError(
                f"coverage {coverage:g} needs more than {n} calibration rows; fit with more, or ask for less"
            )
        return threshold

    def tree_threshold(self, coverage: float) -> float:
        """Return the mass above which a node of the hierarchy is answered; errors are those of `threshold`."""
        self.threshold(coverage)
        return tree_threshold(np.array(self.tree_scores), coverage)

    def held_half(self, coverage: float) -> float:
        """Return the coverage that sets from one half of the calibration rows reach on the other half.

        It is the mean over `HALVINGS` draws of the halves: one draw of a thousand rows can be 2 points off by chance.
        """
        return _halved(
            np.array(self.true_probabilities), lambda half, other: other >= conformal_threshold(half, coverage)
        )

    def tree_held_half(self, coverage: float) -> float:
        """Return the same for answers at a level of the hierarchy."""
        return _halved(np.array(self.tree_scores), lambda half, other: other <= tree_threshold(half, coverage))

    def to_json(self) -> dict[str, Any]:
        """Return what confidence.json holds."""
        plain = {"format": FORMAT} | dataclasses.asdict(self) | {"true_probabilities": list(self.true_probabilities)}
        of_tree = {"tree_scores": list(self.tree_scores), "hierarchy": self.hierarchy}
        return {name: value for name, value in plain.items() if name not in of_tree} | (
            of_tree if self.tree_scores else {}
        )

    @classmethod
    def from_json(cls, flat: dict[str, Any]) -> Confidence:
        """Read what `to_json` gave, or esmcls 0.1.0 wrote.

        Raises
        ------
        ValueError
            If it is neither.
        """
        saved = from_plain(_Saved, flat)
        if any(not 0 <= probability <= 1 for probability in saved.true_probabilities):
            raise ValueError("true_probabilities: a number that is no probability")
        if len(saved.tree_scores) not in (0, len(saved.true_probabilities)) or any(s < 0 for s in saved.tree_scores):
            raise ValueError("tree_scores: not one of each calibration row")
        rejection = None if saved.rejection is None else Rejection.from_json(saved.rejection)
        return cls(saved.true_probabilities, rejection, saved.tree_scores, saved.hierarchy)


@dataclass(frozen=True)
class _Saved:
    """What confidence.json holds."""

    true_probabilities: tuple[float, ...]
    rejection: dict[str, Any] | None
    tree_scores: tuple[float, ...] = ()
    hierarchy: str = ""


@dataclass(frozen=True)
class _FirstRejection:
    """What it held of rejection in format 1."""

    score: Score
    threshold: float
    wanted: float
    reached: float | None
    checks: int
    auroc: float | None


def blocks(x: Features, n_classes: int) -> Iterator[tuple[slice, Features]]:
    """Give slices of rows, and these rows, as many as may have all their probabilities in memory at a time."""
    size = max(1, CELLS // max(1, n_classes))
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        yield rows, x if len(x) <= size else x.take(rows)


def true_probabilities(head: Classifier, x: Features, labels: Labels) -> Floats:
    """Return the probability of each row's class (n,); 0 where the head does not know it."""
    probabilities = np.zeros(len(x))
    for rows, block in blocks(x, len(head.classes)):
        codes = labels.codes[rows]
        known = np.flatnonzero(codes >= 0)
        probabilities[rows][known] = head.predict_proba(block)[known, codes[known]]
    return probabilities


def tree_scores(head: Classifier, x: Features, names: Sequence[str], hierarchy: Hierarchy) -> Floats:
    """Return the score of each row's class for answers at a level of a hierarchy (n,).

    The head need not know the class: it may know what that lies under.
    """
    rest = sorted(set(names) - set(head.classes))
    tree = ClassTree.of(hierarchy, (*head.classes, *rest))
    truth = Labels.from_names(names, (*head.classes, *rest)).codes
    scores = np.zeros(len(x))
    for rows, block in blocks(x, len(head.classes)):
        likeliest, masses = path_masses(head.predict_proba(block), tree)
        scores[rows] = least_thresholds(masses, tree.agreement(truth[rows], likeliest), tree.depths[likeliest])
    return scores


def _halved(scores: Floats, covered: Callable[[Floats, Floats], npt.NDArray[np.bool_]]) -> float:
    """Return the mean share of one half of scores that is covered by the other, over draws of the halves."""
    random, reached = np.random.default_rng(0), 0.0
    for _ in range(HALVINGS):
        half, other = np.array_split(random.permutation(scores), 2)
        reached += float(covered(half, other).mean())
    return reached / HALVINGS


def log_probability(probabilities: npt.NDArray[np.floating]) -> Floats:
    """Return the log of probabilities, which float32 may round to 0."""
    return np.asarray(np.log(np.maximum(probabilities, 1e-30, dtype=np.float64)))


def signals(probabilities: npt.NDArray[np.floating], familiarity: Floats) -> Floats:
    """Return what may tell a stranger, (n, 3), each higher for what is known.

    The log of the likeliest class's probability, the head's familiarity, and the log of how many times likelier the
    first class is than the second.
    """
    first = log_probability(probabilities[:, 0])
    second = log_probability(probabilities[:, 1]) if probabilities.shape[1] > 1 else np.full(len(first), -1.0)
    return np.column_stack((first, familiarity, first - second))


def combined(columns: Floats, weights: Floats) -> Floats:
    """Return the weighted sum of signals, (n,)."""
    return np.asarray(columns @ weights[:-1] + weights[-1])


@dataclass(frozen=True, eq=False)
class Candidate:
    """A score that may serve for rejection, on the rows of folds.

    Parameters
    ----------
    values : float64 array, (n,)
        Of the model that is to be used.
    crossed : float64 array, (n,)
        The same with nothing fitted on a row's own fold.
    accepted : bool array, (n,)
        By thresholds that other folds set.
    weights : tuple of float
    """

    values: Floats
    crossed: Floats
    accepted: npt.NDArray[np.bool_]
    weights: tuple[float, ...] = ()


def reject(rows: FoldAnswers, shares: Shares, families: int) -> Rejection:
    """Choose the score, set the threshold, and tell what it reaches.

    The score is the one by which the most proteins of known families are accepted at the share of strangers that is
    wanted, or by which the fewest strangers are where it is the known's. Another than the likeliest class's probability
    must be better by `GAIN`.

    Parameters
    ----------
    rows : FoldAnswers
    shares : Shares
        With the operating point.
    families : int
        That were held out.

    Raises
    ------
    UsageError
        If there are no strangers, or none of the proteins whose share is wanted.
    """
    known, strangers = ~rows.strangers, rows.strangers
    if shares.accept_known is not None and not known.any():
        raise UsageError("--accept-known needs proteins of known families beside; give a validation part")
    candidates = _candidates(rows, shares)
    areas = dict.fromkeys(candidates, 0.0)
    if known.any():
        areas = {
            name: auroc(candidate.crossed[known], candidate.crossed[strangers])
            for name, candidate in candidates.items()
        }
    best = max(candidates, key=lambda name: _worth(candidates[name], rows, shares) + GAIN * (name == "probability"))
    chosen = candidates[best]
    threshold = threshold_for(
        chosen.values[known], chosen.values[strangers], shares.false_acceptance, shares.accept_known
    )
    point: Point = "false_acceptance" if shares.accept_known is None else "accept_known"
    return Rejection(
        score=best,
        threshold=threshold,
        wanted=shares.false_acceptance if shares.accept_known is None else shares.accept_known,
        point=point,
        known=Rate.of(chosen.accepted[known], rows.families[known]) if known.any() else None,
        strangers=Rate.of(chosen.accepted[strangers], rows.families[strangers]),
        auroc=areas[best] if known.any() else None,
        folds=shares.folds and len(np.unique(rows.folds)),
        families=families,
        weights=chosen.weights,
    )


def _worth(candidate: Candidate, rows: FoldAnswers, shares: Shares) -> float:
    """Return how good a score is at the operating point."""
    accepted = (
        candidate.accepted[rows.strangers] if shares.accept_known is not None else candidate.accepted[~rows.strangers]
    )
    share = float(accepted.mean()) if len(accepted) else 0.0
    return -share if shares.accept_known is not None else share


def _candidates(rows: FoldAnswers, shares: Shares) -> dict[Score, Candidate]:
    """Return the scores that can be had of rows."""
    columns = signals(rows.probabilities, rows.familiarity)
    candidates: dict[Score, Candidate] = {}
    for place, name in enumerate(SCORES[:2]):
        values = columns[:, place]
        candidates[name] = Candidate(values, values, _accepted(values, rows, shares))
    if min((~rows.strangers).sum(), rows.strangers.sum()) >= FEW:
        weights, crossed = fit_logistic(columns, ~rows.strangers), np.zeros(len(columns))
        for fold, others in without(rows.folds):
            both_sides = len(np.unique(rows.strangers[others])) == 2
            fitted = fit_logistic(columns[others], ~rows.strangers[others]) if both_sides else weights
            crossed[fold] = combined(columns[fold], fitted)
        values = combined(columns, weights)
        candidates["combined"] = Candidate(values, crossed, _accepted(crossed, rows, shares), tuple(weights.tolist()))
    return candidates


def _accepted(values: Floats, rows: FoldAnswers, shares: Shares) -> npt.NDArray[np.bool_]:
    """Return whether each row is accepted by the threshold of the other folds, (n,)."""
    accepted = np.zeros(len(values), dtype=bool)
    for fold, others in without(rows.folds):
        if len(np.unique(rows.strangers[others])) < 2:
            others = np.ones(len(values), dtype=bool)
        known, strangers = values[others & ~rows.strangers], values[others & rows.strangers]
        accepted[fold] = values[fold] > threshold_for(known, strangers, shares.false_acceptance, shares.accept_known)
    return accepted
