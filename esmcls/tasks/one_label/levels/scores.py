"""Test proteins at every level of a hierarchy: how many are named right, and what answers at a level reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esmcls.labels.hierarchy import NONE, ClassTree, Hierarchy
from esmcls.labels.labels import Labels
from esmcls.metrics.classification import FOLDS, Interval, bootstrap_interval
from esmcls.metrics.tree_answers import answered_levels, path_masses
from esmcls.reporting.phrases import counted, percent
from esmcls.types import Indices, Probabilities


@dataclass(frozen=True)
class LevelScore:
    """How many proteins are named right at a level.

    Parameters
    ----------
    name : str
        Of the level.
    n : int
        Proteins whose class names that level; all, where classes do not end above it.
    right : int
    accuracy : Interval or None
        With its 95 % bootstrap interval; None without proteins.
    """

    name: str
    n: int
    right: int
    accuracy: Interval | None


def level_scores(
    tree: ClassTree, truth: Indices, answered: Indices, *, folds: int = FOLDS, seed: int = 0
) -> list[LevelScore]:
    """Return the accuracy at each level, the broadest first.

    Parameters
    ----------
    tree : ClassTree
    truth, answered : int64 arrays, (n,)
        Places among its classes.
    folds, seed : int
        Of the bootstrap.
    """
    counts, right = tree.counts_at(truth), tree.right_at(truth, answered)
    scores = []
    for level, name in enumerate(tree.hierarchy.levels):
        hits = right[counts[:, level], level]
        interval = (
            bootstrap_interval(_share(hits), len(hits), folds=folds, seed=seed)["accuracy"] if len(hits) else None
        )
        scores.append(LevelScore(name, len(hits), int(hits.sum()), interval))
    return scores


def _share(hits: npt.NDArray[np.bool_]) -> Callable[[Indices], dict[str, float]]:
    return lambda weights: {"accuracy": float(weights[hits].sum() / weights.sum())}


def near_misses(tree: ClassTree, truth: Indices, answered: Indices) -> npt.NDArray[np.bool_]:
    """Return which answers are wrong, but lie under the same node as the true class, (n,)."""
    agree = tree.agreement(truth, answered)
    near: npt.NDArray[np.bool_] = (truth != answered) & (agree >= 1) & (agree >= tree.depths[truth] - 1)
    return near


def agreed_level(tree: ClassTree, truth: int, answered: int) -> str:
    """Return the name of the narrowest level at which an answer is right, `none` where it is at none."""
    [agree] = tree.agreement(np.array([truth]), np.array([answered])).tolist()
    return tree.hierarchy.levels[agree - 1] if agree else NONE


class AnsweredLevels:
    """Answers at a level for proteins of known classes, gathered block by block.

    Parameters
    ----------
    hierarchy : Hierarchy
    classes : tuple of str
        Of the head.
    labels : sequence of str
        All true ones.
    threshold : float
        See `esmcls.metrics.tree_answers`.
    """

    def __init__(self, hierarchy: Hierarchy, classes: tuple[str, ...], labels: Sequence[str], threshold: float) -> None:
        self.classes = (*classes, *sorted(set(labels) - set(classes)))
        self.tree = ClassTree.of(hierarchy, self.classes)
        self.threshold = threshold
        self.levels: list[Indices] = []
        self.held: list[npt.NDArray[np.bool_]] = []

    def add(self, probabilities: Probabilities, labels: Sequence[str]) -> None:
        """Answer proteins by the head's probabilities, (n, classes); `labels` are their true classes."""
        likeliest, masses = path_masses(probabilities, self.tree)
        agreement = self.tree.agreement(Labels.from_names(labels, self.classes).codes, likeliest)
        levels = answered_levels(masses, self.threshold)
        self.levels.append(self.tree.shown_level(likeliest, levels))
        self.held.append(levels <= agreement)

    def joined(self) -> tuple[Indices, npt.NDArray[np.bool_]]:
        """Return at which level each is answered, 0 for none, and whether that holds the true class, (n,) each."""
        return np.concatenate(self.levels), np.concatenate(self.held)


@dataclass(frozen=True)
class LevelShare:
    """The share of proteins that are answered at a level."""

    name: str
    share: float


@dataclass(frozen=True)
class LevelSets:
    """How often answers at a level hold the true class, and at which levels they are.

    Parameters
    ----------
    coverage, held_half, test : float
        As wanted; on the half of the calibration rows that the threshold is not from; on the test part.
    levels : list of LevelShare
        Of the test proteins, the narrowest level first; `none` is no answer.
    calibration_rows : int
    """

    coverage: float
    held_half: float
    test: float
    levels: list[LevelShare]
    calibration_rows: int

    @classmethod
    def of(
        cls,
        coverage: float,
        held_half: float,
        calibration_rows: int,
        names: Sequence[str],
        answered: tuple[Indices, npt.NDArray[np.bool_]],
    ) -> LevelSets:
        """Return it of test proteins.

        Parameters
        ----------
        coverage, held_half : float
        calibration_rows : int
        names : sequence of str
            Of the levels, the broadest first.
        answered : (int64 array, bool array)
            See `AnsweredLevels.joined`.
        """
        levels, held = answered
        shares = [LevelShare(name, float((levels == place).mean())) for place, name in enumerate((NONE, *names))]
        return cls(coverage, held_half, float(held.mean()), shares[::-1], calibration_rows)

    def to_json(self) -> dict[str, Any]:
        """Return plain values under their name in metrics.json."""
        return {"answers_at_a_level": asdict(self)}

    def lines(self) -> list[str]:
        """Say it for people."""
        where = ", ".join(f"{level.name} {percent(level.share)} %" for level in self.levels)
        rows = counted(self.calibration_rows, "calibration row")
        return [
            f"answers at a level, of {100 * self.coverage:g} % by {rows}: {percent(self.test)} % hold the true class",
            f"answered at: {where}",
        ]


def lines_of_levels(scores: Sequence[LevelScore], near: int) -> list[str]:
    """Return a table of the accuracy at each level for people, and how many mistakes are near misses."""
    rows = [
        f"{score.name:20}  {percent(score.accuracy.value, 2):>7}  {score.n:>8,}"
        f"  {percent(score.accuracy.low, 2)} – {percent(score.accuracy.high, 2)}"
        for score in scores
        if score.accuracy is not None
    ]
    missed = f"near misses: {counted(near, 'protein')} of a wrong class under the right node of the level above"
    return ["", f"{'level':20}  {'percent':>7}  {'proteins':>8}  95 % interval", *rows, missed]
