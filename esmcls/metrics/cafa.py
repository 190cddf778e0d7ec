"""How good scores of many labels are, as CAFA measures them: Fmax, and by information accretion Fmax, micro F, Smin.

blocks of scores ──▶ Counts: what each protein has right and predicted at each threshold ──▶ measures (term_curves)

All is measured apart in each group of classes: of GO terms in each aspect. A protein without a term of an aspect says
nothing there and is not measured in it. A score counts at a threshold where it is no smaller. Scores of float64 are
compared with the thresholds of the `cafaeval` package bit for bit, those of float32 with the nearest float32, so that a
score of 0.7 counts at 0.7.

Classes may be more than a block has columns: those beyond were never predicted, and count against recall.

References
----------
Radivojac et al. 2013, Nat. Methods 10:221 (Fmax); Clark & Radivojac 2013, Bioinformatics 29:i53 (remaining uncertainty,
misinformation, Smin); Piovesan et al. 2024, Bioinform. Adv. 4:vbae043 (cafaeval).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from esmcls.labels.labels import LabelSets
from esmcls.metrics.classification import Floats
from esmcls.types import Indices

Block: TypeAlias = tuple[slice, npt.NDArray[np.floating[Any]]]
"""Rows, and their scores (rows, classes), which are in [0, 1]."""

THRESHOLDS: Final[Floats] = np.arange(0.01, 1, 0.01)
"""0.01 to 0.99, (99,), with the rounding of cafaeval's."""
MEASURES: Final = ("fmax", "wfmax", "f_micro_w", "smin")


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums of what proteins have at each threshold, by number or by information accretion.

    Parameters
    ----------
    true, predicted : array, (groups, n, 99)
        Of the predicted classes those that are right, and all.
    members : array, (groups, n)
        True classes.
    """

    true: npt.NDArray[Any]
    predicted: npt.NDArray[Any]
    members: npt.NDArray[Any]

    def take(self, rows: npt.NDArray[Any]) -> Sums:
        """Return those of some proteins: row numbers or a mask."""
        return Sums(self.true[:, rows], self.predicted[:, rows], self.members[:, rows])


@dataclass(frozen=True, eq=False)
class Counts:
    """All that the measures need of a set of predictions.

    Parameters
    ----------
    groups : tuple of str
    plain : Sums
        Numbers of classes.
    weighted : Sums, optional
        Their information accretion, where it is known.
    """

    groups: tuple[str, ...]
    plain: Sums
    weighted: Sums | None = None

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures that there are: without information accretion `fmax` alone."""
        return MEASURES if self.weighted else MEASURES[:1]

    @property
    def measured(self) -> Indices:
        """How many proteins have a class of each group: int64 array, (groups,)."""
        proteins: Indices = (self.plain.members > 0).sum(axis=1)
        return proteins

    def take(self, rows: npt.NDArray[Any]) -> Counts:
        """Return those of some proteins: row numbers or a mask."""
        return Counts(self.groups, self.plain.take(rows), self.weighted and self.weighted.take(rows))

    def __len__(self) -> int:
        """Return the number of proteins."""
        return int(self.plain.members.shape[1])


def mean_fmax(labels: LabelSets, blocks: Iterable[Block]) -> float:
    """Return the mean over groups of the protein-centric Fmax, unweighted; what heads choose by.

    Parameters
    ----------
    labels : LabelSets
        Without groups, all classes are one.
    blocks : iterable of (slice, float array (rows, classes))
        Every row once. Each block is let go of before the next.

    Returns
    -------
    float
        Groups that no protein has a class of are left out; 0 where none has.

    Raises
    ------
    ValueError
        If blocks leave rows out or hold what is not a number.

    Examples
    --------
    >>> labels = LabelSets.from_names([["a"], ["b"]])
    >>> mean_fmax(labels, [(slice(0, 2), np.array([[0.9, 0.1], [0.2, 0.8]]))])
    1.0
    """
    by_group = fmax_by_group(labels, blocks)
    return float(np.mean(list(by_group.values()))) if by_group else 0.0


def fmax_by_group(labels: LabelSets, blocks: Iterable[Block]) -> dict[str, float]:
    """Return the Fmax of each group that a protein has a class of; the arguments are those of `mean_fmax`."""
    names, place = group_codes(labels)
    total = np.zeros((3, len(names), len(THRESHOLDS)))
    measured = np.zeros((len(names), 1))
    for rows, scores in whole(labels, blocks):
        sums = _count(labels.take(rows), place, len(names), scores, None)
        for group in range(len(names)):
            here = sums.members[group] > 0
            total[:, group] += [part.sum(axis=0) for part in shares(sums, group, here)]
            measured[group] += here.sum()
    best = f_measure(ratio(total[0], total[1]), ratio(total[2], measured)).max(axis=1)
    return {name: float(value) for name, value, n in zip(names, best, measured[:, 0], strict=True) if n}


def group_codes(labels: LabelSets) -> tuple[tuple[str, ...], Indices]:
    """Return the groups' names, sorted, and the place of each class among them, (classes,)."""
    groups = labels.groups or ("all",) * labels.n_classes
    names, place = np.unique(np.array(groups, dtype=str), return_inverse=True)
    return tuple(names.tolist()), place.astype(np.int64)


def whole(labels: LabelSets, blocks: Iterable[Block]) -> Iterator[Block]:
    """Pass blocks on in float32 or float64, and see that they are of every row once and hold numbers.

    Raises
    ------
    ValueError
        As `mean_fmax` says.
    """
    seen = np.zeros(len(labels), np.int64)
    for rows, scores in blocks:
        seen[rows] += 1
        here = len(range(*rows.indices(len(labels))))
        if scores.ndim != 2 or len(scores) != here or scores.shape[1] > labels.n_classes:
            raise ValueError(f"scores {scores.shape} of {here} rows and {labels.n_classes} classes")
        if np.isnan(scores).any():
            raise ValueError(f"scores of rows {rows.start} to {rows.stop} are not all numbers")
        yield rows, scores if scores.dtype == np.float64 else scores.astype(np.float32, copy=False)
    if (seen != 1).any():
        raise ValueError(f"scores of {np.count_nonzero(seen == 1)} of {len(labels)} rows, each wanted once")


def count(labels: LabelSets, blocks: Iterable[Block], ia: Floats | None = None) -> Counts:
    """Return what each protein has right and predicted at each threshold.

    Parameters
    ----------
    labels : LabelSets
        Propagated, without roots.
    blocks : iterable of (slice, float array (rows, classes))
        Every row once; of scores that rise towards parents.
    ia : float64 array, (classes,), optional
        Information accretion of each class.

    Returns
    -------
    Counts
        0.8 kB a protein and group, 2.4 kB with `ia`.

    Raises
    ------
    ValueError
        If blocks leave rows out, hold what is not a number, or `ia` is not of the classes.
    """
    names, place = group_codes(labels)
    if ia is not None and len(ia) != labels.n_classes:
        raise ValueError(f"information accretion of {len(ia)} terms for {labels.n_classes} classes")
    sums = [_empty(len(names), len(labels), kind) for kind in ((np.int32,) if ia is None else (np.int32, np.float64))]
    for rows, scores in whole(labels, blocks):
        for into, weights in zip(sums, (None, ia), strict=False):
            block = _count(labels.take(rows), place, len(names), scores, weights)
            into.true[:, rows] = block.true
            into.predicted[:, rows] = block.predicted
            into.members[:, rows] = block.members
    return Counts(names, *sums)


def _empty(groups: int, n: int, kind: type) -> Sums:
    shape = groups, n, len(THRESHOLDS)
    return Sums(np.zeros(shape, kind), np.zeros(shape, kind), np.zeros(shape[:2], kind))


def _count(labels: LabelSets, place: Indices, n_groups: int, scores: npt.NDArray[Any], weights: Floats | None) -> Sums:
    """Return the sums of a block: only scores that reach the lowest threshold are looked at closely."""
    edges = THRESHOLDS.astype(scores.dtype)
    rows, codes = np.nonzero(scores >= edges[0])
    reached = np.searchsorted(edges, scores[rows, codes], side="right") - 1  # the highest threshold, as its place
    right = labels.dense()[rows, codes]
    cells = (place[codes] * len(labels) + rows) * len(THRESHOLDS) + reached
    shape = (n_groups, len(labels), len(THRESHOLDS))
    true, predicted = (
        _histogram(cells[chosen], None if weights is None else weights[codes[chosen]], shape)[..., ::-1].cumsum(-1)
        for chosen in (right, slice(None))
    )
    member_cells = place[labels.codes] * len(labels) + np.repeat(np.arange(len(labels)), labels.sizes())
    members = _histogram(member_cells, None if weights is None else weights[labels.codes], shape[:2])
    return Sums(true[..., ::-1], predicted[..., ::-1], members)


def _histogram(cells: Indices, weights: Floats | None, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.bincount(cells, weights, minlength=int(np.prod(shape))).reshape(shape)


def shares(sums: Sums, group: int, rows: npt.NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Return precision, whether anything is predicted, and recall of some proteins, each (rows, 99)."""
    true = sums.true[group, rows].astype(np.float64)
    predicted = sums.predicted[group, rows]
    return ratio(true, predicted), (predicted > 0).astype(np.float64), ratio(true, sums.members[group, rows, None])


def f_measure(precision: Floats, recall: Floats) -> Floats:
    """Return the harmonic mean, 0 where both are 0."""
    return ratio(2 * precision * recall, precision + recall)


def ratio(above: Floats, below: Any) -> Floats:
    """Return a quotient, 0 where it has none."""
    quotient: Floats = np.zeros(np.broadcast_shapes(above.shape, np.shape(below)))
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient
