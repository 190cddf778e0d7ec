"""From what probability on a term is predicted: chosen for each term, and the less for itself the rarer it is.

thresholds.json      of a model folder; where there were no validation rows, all thresholds are .5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, cast

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from esmcls.errors import ModelError, UsageError
from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import raise_parents
from esmcls.plain_values import from_plain, read_as, write_json
from esmcls.tasks.label_sets.hierarchy import ClassHierarchy
from esmcls.tasks.label_sets.trust.expected import Trust
from esmcls.tasks.label_sets.trust.sets import CalibratedSets
from esmcls.types import Probabilities

THRESHOLDS: Final = "thresholds.json"
GRID: Final = np.linspace(0.1, 0.9, 17).astype(np.float32)
"""The thresholds tried."""
PRIOR: Final = 10.0
"""Positives that the aspect's threshold counts for, against those of the term.

Chosen on one half of GO's validation part and measured on the other (`knn`, bundled encoder), 0, 10 and infinitely many
reach a mean F1 over terms of .152, .147 and .138, and over proteins of .531, .557 and .559: 10 keeps most of both.
"""
UNKNOWN: Final = 0.5
"""The threshold where there was nothing to choose it on."""


@dataclass(frozen=True, eq=False)
class Thresholds:
    """What was chosen on validation rows.

    Parameters
    ----------
    values : float32 array, (classes,)
        A term is predicted from this probability on.
    pooled : dict
        The threshold of each aspect: that of terms without a positive.
    prior : float
        Positives that the aspect's counts for.
    n : int
        Validation rows; 0 where there were none, and all thresholds are .5.
    """

    values: npt.NDArray[np.float32]
    pooled: Mapping[str, float]
    prior: float = PRIOR
    n: int = 0

    @classmethod
    def unknown(cls, groups: Sequence[str]) -> Thresholds:
        """Return what stands where nothing can be chosen."""
        return cls(np.full(len(groups), UNKNOWN, np.float32), dict.fromkeys(sorted(set(groups)), UNKNOWN))

    def recoded(self, before: Sequence[str], after: Sequence[str], groups: Sequence[str]) -> Thresholds:
        """Return the same for other classes, `groups` their aspects: one that is new has the aspect's threshold."""
        known = dict(zip(before, self.values.tolist(), strict=True))
        pairs = zip(after, groups, strict=True)
        values = [known.get(name, self.pooled.get(group, UNKNOWN)) for name, group in pairs]
        return Thresholds(np.array(values, np.float32), self.pooled, self.prior, self.n)

    def decide(self, scores: Probabilities, terms: ClassHierarchy, at_least: int = 1) -> npt.NDArray[np.bool_]:
        """Say which terms proteins are predicted to have, bool (n, classes).

        With a term all are predicted that contain it, whatever their own thresholds.

        Parameters
        ----------
        scores : float array, (n, classes)
            No parent's below its child's.
        terms : ClassHierarchy
        at_least : int
            Where no term of an aspect reaches its threshold, so many of its most probable ones are predicted.
        """
        decided: Any = np.asfortranarray(scores >= self.values)  # of truths the larger is either, as of numbers
        raise_parents(decided, terms.edges)
        for aspect in sorted(set(terms.groups)) if at_least else []:
            columns = np.flatnonzero(terms.members(aspect))
            columns = columns[np.argsort(terms.depth[columns])]  # of equals, the parent first
            empty = np.flatnonzero(~decided[:, columns].any(axis=1))
            best = columns[np.argsort(-scores[np.ix_(empty, columns)], axis=1, kind="stable")[:, :at_least]]
            decided[empty[:, None], best] = scores[empty[:, None], best] > 0
        return cast("npt.NDArray[np.bool_]", decided)

    def line(self, noun: str = "term") -> str:
        """Say what was chosen, for people; the noun is what a class is called."""
        if not self.n:
            return f"thresholds: {UNKNOWN:g} for every {noun}, for want of validation proteins"
        pooled = ", ".join(f"{aspect} {value:g}" for aspect, value in self.pooled.items())
        shared = f"their aspect's: {pooled}" if noun == "term" else f"that of all: {pooled.rpartition(' ')[2]}"
        return f"thresholds from {self.n:,} validation proteins, those of rare {noun}s near {shared}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        values = [round(value, 4) for value in self.values.tolist()]
        return {"format": 1, "values": values, "pooled": dict(self.pooled), "prior": self.prior, "n": self.n}

    @classmethod
    def from_json(cls, flat: Mapping[str, Any]) -> Thresholds:
        """Read what `to_json` gave.

        Raises
        ------
        ValueError
            If it is not that.
        """
        saved = from_plain(_Saved, flat)
        if any(not 0 <= value <= 1 for value in (*saved.values, *saved.pooled.values())):
            raise ValueError("a threshold that is no probability")
        return cls(np.array(saved.values, dtype=np.float32), saved.pooled, float(saved.prior), saved.n)


@dataclass(frozen=True)
class _Saved:
    """What thresholds.json holds."""

    values: list[float]
    pooled: dict[str, float]
    prior: float
    n: int


class Grouped(Protocol):
    """What knows the group of each class; an ontology its terms' aspects."""

    def groups_of(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Return the group of each class."""
        ...


@dataclass(frozen=True)
class TermFindings:
    """What validation rows tell of a head.

    Parameters
    ----------
    ontology : Grouped
        Of the classes.
    thresholds : Thresholds
    trust : Trust, optional
        What an answer is worth, and below what no term is taken for known.
    sets : CalibratedSets, optional
        What calibration rows tell of sets with a stated coverage, where any were set aside.
    """

    ontology: Grouped
    thresholds: Thresholds
    trust: Trust | None = None
    sets: CalibratedSets | None = None
    noun: ClassVar[str] = "term"
    """What a class is called."""

    @classmethod
    def unknown(cls, ontology: Grouped, classes: Sequence[str]) -> Self:
        """Return what stands where there are no validation rows."""
        return cls(ontology, Thresholds.unknown(ontology.groups_of(classes)))

    def recoded(self, before: Sequence[str], after: Sequence[str]) -> Self:
        """Return the same for other classes: one that is new has the threshold of its aspect."""
        groups = self.ontology.groups_of(after)
        return replace(self, thresholds=self.thresholds.recoded(before, after, groups))

    def save(self, folder: Path) -> None:
        """Write the thresholds, and what answers are worth; the ontology is the task's."""
        write_json(folder / THRESHOLDS, self.thresholds.to_json())
        if self.trust is not None:
            self.trust.save(folder)
        if self.sets is not None:
            self.sets.save(folder)

    @classmethod
    def load(cls, folder: Path, ontology: Grouped, classes: Sequence[str]) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If the file is damaged.
        """
        path, sets = folder / THRESHOLDS, CalibratedSets.load(folder)
        if not path.is_file():
            return replace(cls.unknown(ontology, classes), sets=sets)
        flat = read_as(path, dict[str, Any], ModelError, "fit again")
        try:
            thresholds = Thresholds.from_json(flat)
        except ValueError as error:
            raise ModelError(path, f"is damaged ({error})", "fit again") from None
        if len(thresholds.values) != len(classes):
            problem = f"is damaged ({len(thresholds.values)} thresholds of {len(classes)} classes)"
            raise ModelError(path, problem, "fit again")
        return cls(ontology, thresholds, Trust.load(folder), sets)

    def lines(self) -> list[str]:
        """Say what was chosen."""
        sentences = [part.line(self.noun) for part in (self.trust, self.sets) if part is not None]
        return [self.thresholds.line(self.noun), *sentences]

    def sets_of(self, coverage: float, groups: str | None = None) -> dict[str, float]:
        """Return from what probability on a class of each group is in a set of a coverage; see `CalibratedSets`.

        Raises
        ------
        UsageError
            If no rows were set aside to promise one by, or they are too few.
        """
        if self.sets is None:
            raise UsageError("no calibration rows were set aside for sets; fit with --calibration 10%")
        return self.sets.thresholds(coverage, groups)


class Counts:
    """Predicted and true rows of each term at each threshold of the grid, taken up in blocks of rows.

    Parameters
    ----------
    labels : LabelSets
        Of the rows that will come.
    """

    def __init__(self, labels: LabelSets) -> None:
        self.labels = labels
        self.predicted = np.zeros((labels.n_classes, len(GRID)), dtype=np.int64)
        self.right = np.zeros_like(self.predicted)

    def add(self, rows: slice, scores: Probabilities) -> None:
        """Take up the probabilities of some rows, (rows, classes)."""
        row, code = np.nonzero(scores >= GRID[0])
        step = np.searchsorted(GRID, scores[row, code], side="right") - 1
        truth = self.labels.dense(rows)[row, code]
        for table, counted in ((self.predicted, slice(None)), (self.right, truth)):
            places = (code * len(GRID) + step)[counted]
            at_step = np.bincount(places, minlength=table.size).reshape(table.shape)
            table += at_step[:, ::-1].cumsum(axis=1)[:, ::-1]  # what reaches a threshold reaches all below it

    def choose(self, prior: float = PRIOR) -> Thresholds:
        """Return the threshold of each term: its own optimum by F1, shrunk towards its aspect's.

            (positives * own + prior * pooled) / (positives + prior)

        `pooled` is where F1 over all decisions of the aspect is highest. Of equally good thresholds of a term, as a few
        positives leave many, its own is the nearest to that.
        """
        positives = self.labels.counts()
        groups = np.array(self.labels.groups or [""] * len(positives))
        values, pooled = np.empty(len(groups), np.float32), dict[str, float]()
        of_terms = _f1(self.right, self.predicted, positives)
        for group in sorted(set(groups.tolist())):
            members = groups == group
            whole = _f1(self.right[members].sum(0), self.predicted[members].sum(0), positives[members].sum())
            middle = float(GRID[np.argmax(whole)])
            nearest = GRID[np.argmax(of_terms[members] - 1e-9 * np.abs(GRID - middle), axis=1)]
            share = positives[members] / np.maximum(positives[members] + prior, 1e-9)
            values[members] = share * nearest + (1 - share) * middle
            pooled[group] = round(middle, 4)
        return Thresholds(values, pooled, prior, len(self.labels))


def _f1(right: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], positives: Any) -> npt.NDArray[np.float64]:
    """Return F1 at each threshold: 2 right / (predicted + positives), 0 where there is neither."""
    f1: npt.NDArray[np.float64] = 2 * right / np.maximum(predicted + np.asarray(positives)[..., None], 1)
    return f1
