"""What speaks for each of the few classes that a row may be of: the features that a ranker orders them by.

A threshold of a tree turns the last bit of a feature into a jump, and a product of many rows rounds otherwise than that
of one. So features are computed from float64 and rounded to float32: a row is told the same alone and among others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from esmcls.labels.labels import Labels
from esmcls.types import Indices, Vectors

Numbers = npt.NDArray[np.float64]

FEATURES = (
    "best",  # cosine of the row with the nearest member of the class, if that is among the neighbours
    "second",
    "mean",  # of the cosines of all members among the neighbours
    "votes",  # share of the neighbours' votes
    "near_rank",
    "near_margin",  # ahead of the best other candidate
    "ridge",  # output of the regression: about 1 for the class, about 0 for others
    "ridge_rank",
    "ridge_margin",
    "centre",  # cosine with the mean of the class
    "centre_rank",
    "centre_margin",
    "spread",  # length of that mean: 1 where all members are one
    "size",  # log of the number of members
    "length",  # log of the number of residues
    "longer",  # than the members of the class on average, as a log ratio
    "nearest",  # cosine of the nearest row of all, whatever its class
    "foremost",  # largest output of the regression
    "agree",  # whether both sources name the same class first
    "candidates",  # how many
)
"""What is told of each candidate; sizes, means and lengths are those of the rows that the sources were fitted on."""
SHARPNESS = 0.05
"""A neighbour votes with exp(cosine / this)."""
LAST = np.iinfo(np.int64).max


class Rows(NamedTuple):
    """Rows to fit or choose on: vectors (n, width), labels and residues (n,)."""

    vectors: Vectors
    labels: Labels
    lengths: Indices

    def take(self, rows: Indices) -> Rows:
        """Return some of the rows."""
        return Rows(self.vectors[rows], self.labels.take(rows), self.lengths[rows])


@dataclass(frozen=True, eq=False)
class Candidates:
    """The classes that rows may be of.

    Parameters
    ----------
    codes : int64 array, (n, m)
        Rising; -1 after the last of a row.
    features : float32 array, (n, m, features)
        In the order of `FEATURES`; NaN where a source says nothing of a class.
    """

    codes: Indices
    features: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Hits:
    """The neighbours of rows, the nearest first.

    Parameters
    ----------
    cosines : float64 array, (n, k)
    codes : int64 array, (n, k)
        Their classes.
    """

    cosines: Numbers
    codes: Indices

    @cached_property
    def _turns(self) -> Indices:
        """How many nearer hits of a row are of the same class (n, k)."""
        same = self.codes[:, :, None] == self.codes[:, None, :]
        return np.asarray(np.tril(same, -1).sum(2))

    def classes(self, k: int) -> Indices:
        """Return the k classes with the nearest members, (n, hits), in their places; -1 in all others."""
        first = self._turns == 0
        return np.where(first & (np.cumsum(first, 1) <= k), self.codes, -1)

    def of(self, codes: Indices) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """Return best, second and mean cosine of the hits of each class, NaN without, and share of votes: all (n, m).

        Examples
        --------
        >>> hits = Hits(np.array([[0.9, 0.8, 0.4]]), np.array([[7, 4, 7]]))
        >>> [values.round(2).tolist() for values in hits.of(np.array([[4, 7]]))[:3]]
        [[[0.8, 0.9]], [[nan, 0.4]], [[0.8, 0.65]]]
        """
        match = codes[:, :, None] == self.codes[:, None, :]  # (n, m, k)
        weights = np.exp((self.cosines - self.cosines[:, :1]) / SHARPNESS)
        counts, sums = match.sum(2), (match * self.cosines[:, None]).sum(2)
        mean = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        votes = (match * weights[:, None]).sum(2) / weights.sum(1, keepdims=True)
        return self._pick(match, 0), self._pick(match, 1), mean, votes

    def _pick(self, match: npt.NDArray[np.bool_], turn: int) -> Numbers:
        taken = match & (self._turns == turn)[:, None]
        return np.where(taken.any(2), (taken * self.cosines[:, None]).sum(2), np.nan)  # one is taken, at most


def rounded(values: Tensor) -> Numbers:
    """Return float64 numbers of float32 precision: what differs by the rounding of a product alone is equal then."""
    return np.asarray(values.float().numpy(), dtype=np.float64)


def ranked(values: Numbers) -> tuple[Numbers, Numbers]:
    """Return the rank of each candidate in its row, from 1, and how far it is ahead of the best other; NaN stays NaN.

    Examples
    --------
    >>> [one.round(2).tolist() for one in ranked(np.array([[0.2, 0.9, np.nan, 0.5]]))]
    [[[3.0, 1.0, nan, 2.0]], [[-0.7, 0.4, nan, -0.4]]]
    """
    filled = np.where(np.isnan(values), -np.inf, values)
    order = np.argsort(-filled, axis=1, kind="stable")
    ranks = np.argsort(order, axis=1, kind="stable") + 1.0
    best = np.take_along_axis(filled, order[:, :2], 1)
    ahead = filled - np.where(ranks == 1, best[:, -1:], best[:, :1])
    lone = best.shape[1] == 1 or ~np.isfinite(best[:, -1:]) & (ranks == 1)  # nothing to be ahead of
    return np.where(np.isnan(values), np.nan, ranks), np.where(np.isnan(values) | lone, np.nan, ahead)


def unite(*codes: Indices) -> Indices:
    """Return all class codes of each row once, rising, -1 after the last; -1 among those given is none.

    Examples
    --------
    >>> unite(np.array([[5, -1], [2, 3]]), np.array([[5, 1], [3, 2]])).tolist()
    [[1, 5], [2, 3]]
    """
    every = np.concatenate(codes, 1)
    every = np.sort(np.where(every < 0, LAST, every), axis=1)
    every[:, 1:][every[:, 1:] == every[:, :-1]] = LAST
    every.sort(axis=1)
    most = int((every < LAST).sum(1).max(initial=0))
    return np.where(every < LAST, every, -1)[:, :most]
