"""What a fitted model knows of its own doubts: measured once, kept beside the head, used at every prediction.

confidence.json (format 1) holds the probability of the true class of each calibration row, from which sets of any
coverage follow, and the score below which a protein is rejected as of no known family.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.labels.labels import Labels
from esmcls.metrics.calibration import auroc, conformal_threshold, rejection_threshold
from esmcls.types import Indices, Probabilities

FORMAT: Final = 1
HALVINGS: Final = 200
CELLS: Final = 1 << 26
"""Probabilities that are held at a time: 256 MiB."""

Floats = npt.NDArray[np.float64]
Score = Literal["familiarity", "probability"]
SCORES: Final[tuple[Score, ...]] = ("familiarity", "probability")


class Classifier(Protocol):
    """A fitted head, as far as it is needed here."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    def predict_proba(self, x: Features) -> Probabilities: ...
    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]: ...
    def familiarity(self, x: Features) -> Floats: ...


@dataclass(frozen=True)
class Rejection:
    """The threshold of "none of these" and what it reaches.

    Parameters
    ----------
    score : {"familiarity", "probability"}
        What is compared: the head's own score, or the log of the likeliest class's probability; that which tells
        validation proteins better from those of the families that set the threshold.
    threshold : float
        A protein is accepted if its score is greater.
    wanted, reached : float
        Share of proteins of unknown families that is accepted: asked for on the families that set the threshold, and
        found on others that training never saw either; None where these have no proteins.
    auroc : float or None
        How often a validation protein's score is higher than that of one of the latter.
    strangers, checks : int
        Proteins of the families that set the threshold, and of the others.
    """

    score: Score
    threshold: float
    wanted: float
    reached: float | None
    auroc: float | None
    strangers: int
    checks: int


@dataclass(frozen=True)
class Confidence:
    """Calibration and rejection of a model.

    Parameters
    ----------
    true_probabilities : tuple of float
        Of the true class of each calibration row; empty where none was set aside.
    rejection : Rejection or None
        None where no families were held out.
    """

    true_probabilities: tuple[float, ...] = ()
    rejection: Rejection | None = None

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
        found = conformal_threshold(np.array(self.true_probabilities), coverage)
        if (n + 1) * (1 - coverage) < 1:
            raise UsageError(
                f"coverage {coverage:g} needs more than {n} calibration rows; fit with more, or ask for less"
            )
        return found

    def held_half(self, coverage: float) -> float:
        """Return the coverage that sets from one half of the calibration rows reach on the other half.

        It is the mean over `HALVINGS` draws of the halves: one draw of a thousand rows can be 2 points off by chance.
        """
        rows, random, reached = np.array(self.true_probabilities), np.random.default_rng(0), 0.0
        for _ in range(HALVINGS):
            one, other = np.array_split(random.permutation(rows), 2)
            reached += float((other >= conformal_threshold(one, coverage)).mean())
        return reached / HALVINGS

    def to_json(self) -> dict[str, Any]:
        """Return what confidence.json holds."""
        return {"format": FORMAT} | dataclasses.asdict(self) | {"true_probabilities": list(self.true_probabilities)}

    @classmethod
    def from_json(cls, flat: dict[str, Any]) -> Confidence:
        """Read what `to_json` gave; what is missing or unknown raises KeyError or TypeError."""
        rejection = flat["rejection"]
        return cls(tuple(flat["true_probabilities"]), None if rejection is None else Rejection(**rejection))


def blocks(x: Features, n_classes: int) -> Iterator[tuple[slice, Features]]:
    """Give slices of rows, and these rows, as many as may have all their probabilities in memory at a time."""
    size = max(1, CELLS // max(1, n_classes))
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        yield rows, x if len(x) <= size else x.take(rows)


def true_probabilities(head: Classifier, x: Features, labels: Labels) -> Floats:
    """Return the probability of each row's class (n,); 0 where the head does not know it."""
    found = np.zeros(len(x))
    for rows, block in blocks(x, len(head.classes)):
        codes = labels.codes[rows]
        known = np.flatnonzero(codes >= 0)
        found[rows][known] = head.predict_proba(block)[known, codes[known]]
    return found


def known_score(head: Classifier, x: Features, score: Score) -> Floats:
    """Return how much each protein looks like one of a known family, (n,)."""
    if score == "familiarity":
        return head.familiarity(x)
    return log_probability(head.top_k(x, 1)[1][:, 0])


def log_probability(probabilities: npt.NDArray[np.floating]) -> Floats:
    """Return the log of probabilities, which float32 may round to 0."""
    return np.asarray(np.log(np.maximum(probabilities, 1e-30, dtype=np.float64)))


def reject(
    head: Classifier, known: Mapping[Score, Floats], strangers: Features, checks: Features, wanted: float
) -> Rejection:
    """Choose the score and set the threshold on one set of unknown families, and measure them on another.

    Parameters
    ----------
    head : Classifier
    known : mapping of float arrays, (n,)
        Each score of proteins of known families that were not fitted on when they were asked for; empty for unknown.
    strangers, checks : Features
        Proteins of families that were not fitted on.
    wanted : float
        Share of strangers that may be accepted at most.
    """
    found = {score: known_score(head, strangers, score) for score in SCORES[: len(known) or 1]}
    best = max(found, key=lambda score: auroc(known[score], found[score]) if len(strangers) and known else 0.0)
    threshold = rejection_threshold(found[best], wanted)
    scores = known_score(head, checks, best)
    area = auroc(known[best], scores) if known and len(checks) else None
    reached = float((scores > threshold).mean()) if len(checks) else None
    return Rejection(best, threshold, wanted, reached, area, len(strangers), len(checks))
