"""From the probabilities of several heads to one: each is calibrated and then weighed, in each aspect for itself.

All is learnt from the pairs of a held protein and a term to which any member gives 1 % or more: no threshold of Fmax
is below, and they are few, where all pairs would be a (n, classes) array a member.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from esmcls.labels import LabelSets
from esmcls.term_metrics import group_codes
from esmcls.types import Indices, Probabilities

Numbers: TypeAlias = npt.NDArray[np.float64]
MemberBlocks: TypeAlias = Iterable[tuple[slice, Sequence[Probabilities]]]
"""Slices of rows and, of each member, the probabilities of all their terms, float32 (rows, classes)."""

LEAST: Final = 0.01
EDGE: Final = 1e-6
"""Probabilities are taken to be no nearer to 0 and 1."""
STEPS: Final = 100
"""Of expectation and maximisation."""


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
    """

    groups: Indices
    given: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]
    rows: int

    @classmethod
    def of(cls, truth: LabelSets, blocks: MemberBlocks, members: int) -> Pairs:
        """Take those to which a member gives at least `LEAST`."""
        _, place = group_codes(truth)
        groups, given = [np.zeros(0, dtype=np.int64)], [np.zeros((0, members), dtype=np.float32)]
        right = [np.zeros(0, dtype=bool)]
        for rows, parts in blocks:
            own, codes = np.nonzero(np.maximum.reduce(list(parts)) >= LEAST)
            groups.append(place[codes])
            given.append(np.stack([part[own, codes] for part in parts], 1))
            right.append(truth.dense(rows)[own, codes])
        return cls(np.concatenate(groups), np.concatenate(given), np.concatenate(right), len(truth))

    def take(self, chosen: npt.NDArray[np.bool_]) -> Pairs:
        """Return some pairs."""
        return Pairs(self.groups[chosen], self.given[chosen], self.right[chosen], self.rows)


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
        members = pairs.given.shape[1]
        if not len(pairs.right):
            return cls.plain(members)
        about_a_row = max(1.0, len(pairs.right) / pairs.rows)
        found = [_calibrated(pairs.given[:, one], pairs.right, about_a_row) for one in range(members)]
        slopes, shifts = zip(*found, strict=True)
        given = np.stack([_sigmoid(pairs.given[:, one], *found[one]) for one in range(members)], 1)
        weights = _weights(np.where(pairs.right[:, None], given, 1 - given), about_a_row)
        return cls(slopes, shifts, tuple(float(f"{weight:.6g}") for weight in weights))

    def __call__(self, given: Sequence[npt.NDArray[np.floating[Any]]]) -> npt.NDArray[np.floating[Any]]:
        """Return the mix of members' probabilities, each of any one shape."""
        parts = zip(given, self.slopes, self.shifts, self.weights, strict=True)
        return np.asarray(sum(weight * _sigmoid(one, slope, shift) for one, slope, shift, weight in parts))


def mixed(mixes: Sequence[Mix], place: Indices, given: Sequence[Probabilities]) -> Probabilities:
    """Return members' probabilities mixed, float32 (rows, classes).

    Parameters
    ----------
    mixes : sequence of Mix, (groups,)
    place : int64 array, (classes,)
        The group of each class.
    given : sequence of float32 arrays, (rows, classes)
        One a member.
    """
    out = np.zeros_like(given[0])
    for group, mix in enumerate(mixes):
        own = np.flatnonzero(place == group)
        out[:, own] = mix([one[:, own] for one in given])
    return out


def _sigmoid(given: npt.NDArray[np.floating[Any]], slope: float, shift: float) -> npt.NDArray[np.floating[Any]]:
    return np.asarray(expit(slope * logit(np.clip(given, EDGE, 1 - EDGE)) + shift))


def _calibrated(given: npt.NDArray[np.float32], right: npt.NDArray[np.bool_], ridge: float) -> tuple[float, float]:
    """Return slope, above 0, and shift of the least log loss; 1 and 0 are worth as much as the pairs of one row."""
    logits = logit(np.clip(given.astype(np.float64), EDGE, 1 - EDGE))

    def loss(knobs: Numbers) -> tuple[float, Numbers]:
        scores, away = knobs[0] * logits + knobs[1], knobs - (1.0, 0.0)
        slope = expit(scores) - right
        value = np.logaddexp(0, scores).sum() - scores[right].sum() + ridge * away @ away
        return float(value), np.array([slope @ logits, slope.sum()]) + 2 * ridge * away

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0.05, 20), (-10, 10)]).x
    return float(f"{found[0]:.6g}"), float(f"{found[1]:.6g}")


def _weights(likelihood: npt.NDArray[np.floating[Any]], more: float) -> Numbers:
    """Return the weights, of sum 1, of the largest likelihood (EM), with so many pairs more for each member."""
    weights = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    for _ in range(STEPS):
        shared = likelihood * weights
        weights = (shared / shared.sum(1, keepdims=True)).sum(0) + more
        weights /= weights.sum()
    return weights
