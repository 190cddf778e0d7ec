"""From the probabilities of several heads to one: each is calibrated and then weighed, in each aspect for itself.

Proteins that have a relative among those of training, as alignment tells, are weighed apart from those that have none:
what holds of the ones is wrong of the others, and a validation part of whole clusters has fewer of them than new
proteins have. A member that does not make Fmax higher on the held rows is left out.

All is learnt from the pairs of a held protein and a term to which any member gives 1 % or more: no threshold of Fmax
is below, and they are few, where all pairs would be a (n, classes) array a member.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from esmcls.heads.blocks import row_slices
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import group_codes, mean_fmax
from esmcls.types import Indices, Probabilities

Numbers: TypeAlias = npt.NDArray[np.float64]
MemberBlocks: TypeAlias = Iterable[tuple[slice, Sequence[Probabilities]]]
"""Slices of rows and, of each member, the probabilities of all their terms, float32 (rows, classes)."""

LEAST: Final = 0.01
EDGE: Final = 1e-6
"""Probabilities are taken to be no nearer to 0 and 1."""
STEPS: Final = 100
"""Of expectation and maximisation."""
_NO_CELLS: Final = (np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a held protein and a term.

    Parameters
    ----------
    groups : int64 array, (pairs,)
        Place of the term's group.
    given : float32 array, (pairs, members)
        Probabilities.
    right : bool array, (pairs,)
    rows : int
        Proteins that there are.
    cells : int64 arrays, (pairs,) and (pairs,)
        The protein and the term of each, in the order of the proteins.
    """

    groups: Indices
    given: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]
    rows: int
    cells: tuple[Indices, Indices] = _NO_CELLS

    @classmethod
    def of(cls, truth: LabelSets, blocks: MemberBlocks, members: int) -> Pairs:
        """Take those to which a member gives at least `LEAST`."""
        _, place = group_codes(truth)
        groups = [np.zeros(0, dtype=np.int64)]
        given = [np.zeros((0, members), dtype=np.float32)]
        right = [np.zeros(0, dtype=bool)]
        cells = [np.zeros((2, 0), dtype=np.int64)]
        for rows, parts in blocks:
            proteins, codes = np.nonzero(np.maximum.reduce(list(parts)) >= LEAST)
            groups.append(place[codes])
            given.append(np.stack([part[proteins, codes] for part in parts], 1))
            right.append(truth.dense(rows)[proteins, codes])
            cells.append(np.stack([proteins + rows.start, codes]))
        proteins, codes = np.concatenate(cells, axis=1)
        return cls(np.concatenate(groups), np.concatenate(given), np.concatenate(right), len(truth), (proteins, codes))

    def take(self, chosen: npt.NDArray[Any]) -> Pairs:
        """Return some pairs: places or a mask."""
        proteins, codes = (part[chosen] if len(part) else part for part in self.cells)
        return Pairs(self.groups[chosen], self.given[chosen], self.right[chosen], self.rows, (proteins, codes))

    def fmax(self, scores: npt.NDArray[np.floating[Any]], truth: LabelSets) -> float:
        """Return the mean Fmax over groups of a score for each pair, and 0 for all others."""
        proteins, codes = self.cells

        def blocks() -> Iterator[tuple[slice, Probabilities]]:
            for rows in row_slices(self.rows, truth.n_classes):
                some = slice(*np.searchsorted(proteins, [rows.start, rows.stop]))
                block = np.zeros((rows.stop - rows.start, truth.n_classes), dtype=np.float32)
                block[proteins[some] - rows.start, codes[some]] = scores[some]
                yield rows, block

        return mean_fmax(truth, blocks())


@dataclass(frozen=True)
class Mix:
    """How members are mixed in one group: the weighed mean of sigmoid(slope x logit + shift).

    Parameters
    ----------
    slopes, shifts, weights : tuple of float, (members,)
        Weights are at least 0 and sum to 1.

    Examples
    --------
    >>> mix = Mix((1.0, 2.0), (0.0, 0.0), (0.5, 0.5))
    >>> mix([np.array([0.5, 0.2]), np.array([0.5, 0.5])]).round(3).tolist()
    [0.5, 0.35]
    """

    slopes: tuple[float, ...]
    shifts: tuple[float, ...]
    weights: tuple[float, ...]

    @classmethod
    def plain(cls, members: int) -> Mix:
        """Return the mean."""
        return cls((1.0,) * members, (0.0,) * members, (1 / members,) * members)

    @classmethod
    def fit(cls, pairs: Pairs) -> Mix:
        """Calibrate each member, then weigh them, both by the least log loss; without pairs it is the mean."""
        return Calibrated.of(pairs).weighed(range(pairs.given.shape[1]))

    def __call__(self, given: Sequence[npt.NDArray[np.floating[Any]]]) -> npt.NDArray[np.floating[Any]]:
        """Return the mix of members' probabilities, each of any one shape."""
        parts = zip(given, self.slopes, self.shifts, self.weights, strict=True)
        return np.asarray(sum(weight * _sigmoid(part, slope, shift) for part, slope, shift, weight in parts))


@dataclass(frozen=True, eq=False)
class Calibrated:
    """The pairs of one cell with each member calibrated.

    Parameters
    ----------
    pairs : Pairs
    knobs : list of (float, float), (members,)
        Slopes and shifts.
    given : float array, (pairs, members)
    """

    pairs: Pairs
    knobs: list[tuple[float, float]]
    given: npt.NDArray[np.floating[Any]]

    @classmethod
    def of(cls, pairs: Pairs) -> Calibrated:
        """Calibrate each member by the least log loss."""
        members = range(pairs.given.shape[1])
        knobs = [_calibrated(pairs.given[:, member], pairs.right, _about_a_row(pairs)) for member in members]
        return cls(pairs, knobs, np.stack([_sigmoid(pairs.given[:, member], *knobs[member]) for member in members], 1))

    def weighed(self, members: Sequence[int]) -> Mix:
        """Weigh some of the members, by the least log loss."""
        if not len(self.pairs.right):
            return Mix.plain(len(members))
        given = self.given[:, list(members)]
        weights = _weights(np.where(self.pairs.right[:, None], given, 1 - given), _about_a_row(self.pairs))
        slopes, shifts = zip(*(self.knobs[member] for member in members), strict=True)
        return Mix(slopes, shifts, tuple(float(f"{weight:.6g}") for weight in weights))


def _about_a_row(pairs: Pairs) -> float:
    return max(1.0, len(pairs.right) / max(1, pairs.rows))


Mixes: TypeAlias = tuple[tuple[Mix, ...], ...]
"""One a group: of proteins without a relative, and of those with one; or of all, where no member tells."""


def choose_members(
    pairs: Pairs, truth: LabelSets, related: npt.NDArray[np.bool_] | None = None, first: int | None = None
) -> tuple[list[int], Mixes]:
    """Choose members one after another, each the one that makes Fmax on the held rows highest, until none does.

    Parameters
    ----------
    pairs : Pairs
        With all members' probabilities.
    truth : LabelSets
    related : bool array, (n,), optional
        Whether a held protein has a relative among those of training.
    first : int, optional
        The member to begin with: the one that tells.

    Returns
    -------
    list of int
        The members, ascending.
    Mixes

    References
    ----------
    Caruana et al. 2004, doi:10.1145/1015330.1015432 (forward selection).
    """
    names, _ = group_codes(truth)
    kinds = np.zeros(len(pairs.right), np.int64) if related is None else related[pairs.cells[0]].astype(np.int64)
    places = [
        [np.flatnonzero((kinds == kind) & (pairs.groups == group)) for group in range(len(names))]
        for kind in range(1 if related is None else 2)
    ]
    cells = [[Calibrated.of(pairs.take(some)) for some in kind] for kind in places]

    def tried(members: list[int]) -> tuple[float, list[int], Mixes]:
        mixes = tuple(tuple(cell.weighed(members) for cell in kind) for kind in cells)
        scores = np.zeros(len(pairs.right))
        for kind, kind_mixes, kind_cells in zip(places, mixes, cells, strict=True):
            for some, mix, cell in zip(kind, kind_mixes, kind_cells, strict=True):
                scores[some] = cell.given[:, members] @ np.array(mix.weights)
        return pairs.fmax(scores, truth), members, mixes

    best = (-1.0, list[int](), Mixes()) if first is None else tried([first])
    while left := [member for member in range(pairs.given.shape[1]) if member not in best[1]]:
        better = max((tried(sorted([*best[1], member])) for member in left), key=lambda trial: trial[0])
        if better[0] <= best[0]:
            break
        best = better
    return best[1], best[2]


def mixed(
    mixes: Mixes, place: Indices, given: Sequence[Probabilities], related: npt.NDArray[np.bool_] | None = None
) -> Probabilities:
    """Return members' probabilities mixed, float32 (rows, classes).

    Parameters
    ----------
    mixes : Mixes
    place : int64 array, (classes,)
        The group of each class.
    given : sequence of float32 arrays, (rows, classes)
        One a member.
    related : bool array, (rows,), optional
        Whether a protein has a relative among those of training, where a member tells.
    """
    out = np.zeros_like(given[0])
    kinds = np.zeros(len(out), np.int64) if related is None or len(mixes) == 1 else related.astype(np.int64)
    for kind, kind_mixes in enumerate(mixes):
        rows = np.flatnonzero(kinds == kind)
        for group, mix in enumerate(kind_mixes):
            cells = np.ix_(rows, np.flatnonzero(place == group))
            out[cells] = mix([probabilities[cells] for probabilities in given])
    return out


def _sigmoid(given: npt.NDArray[np.floating[Any]], slope: float, shift: float) -> npt.NDArray[np.floating[Any]]:
    return np.asarray(expit(slope * logit(np.clip(given, EDGE, 1 - EDGE)) + shift))


def _calibrated(given: npt.NDArray[np.float32], right: npt.NDArray[np.bool_], ridge: float) -> tuple[float, float]:
    """Return slope, above 0, and shift of the least log loss; 1 and 0 are worth as much as the pairs of one row."""
    from scipy.optimize import minimize

    logits = logit(np.clip(given.astype(np.float64), EDGE, 1 - EDGE))

    def loss(knobs: Numbers) -> tuple[float, Numbers]:
        scores = knobs[0] * logits + knobs[1]
        away = knobs - (1.0, 0.0)
        slope = expit(scores) - right
        value = np.logaddexp(0, scores).sum() - scores[right].sum() + ridge * away @ away
        return float(value), np.array([slope @ logits, slope.sum()]) + 2 * ridge * away

    best = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0.05, 20), (-10, 10)]).x
    return float(f"{best[0]:.6g}"), float(f"{best[1]:.6g}")


def _weights(likelihood: npt.NDArray[np.floating[Any]], more: float) -> Numbers:
    """Return the weights, of sum 1, of the largest likelihood (EM), with so many pairs more for each member."""
    weights = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    for _ in range(STEPS):
        shared = likelihood * weights
        weights = (shared / shared.sum(1, keepdims=True)).sum(0) + more
        weights /= weights.sum()
    return weights
