"""Distances between CA atoms in bins, and what a distribution over the bins says of a pair of residues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from esmcls.types import Coordinates, Floats, Indices, Positions, Probabilities

BINS: Final = 64
NEAREST: Final = 2.0
FARTHEST: Final = 22.0
"""Å: the first bin begins at `NEAREST`, the last holds all that lies beyond its lower end."""
WIDTH: Final = (FARTHEST - NEAREST) / BINS
CONTACT: Final = 8.0
"""Å: CA atoms nearer than this are in contact."""
CENTRES: Final[Floats] = NEAREST + WIDTH * (np.arange(BINS, dtype=np.float64) + 0.5)
"""(64,): the middle of each bin in Å."""
UNRESOLVED: Final = -1
_LEAST: Final = 1e-12
"""What a share of a bin counts as at least."""


@dataclass(frozen=True, eq=False)
class PairAnswer:
    """What a head says of the pairs of residues of a protein.

    Parameters
    ----------
    positions : int64 array, (seen,)
        0-based places in the sequence that some encoder input held: all, unless a long sequence was cut.
    distogram : float32 array, (seen, seen, 64)
        Probability of each bin of distance, symmetric; sums to 1.
    confidence : float32 array, (seen,)
        Predicted lDDT of each residue, 0 to 1.
    length : int
        Residues of the sequence.
    """

    positions: Positions
    distogram: Probabilities
    confidence: Probabilities
    length: int

    def whole(self, seen: Probabilities) -> Probabilities:
        """Return what is said of pairs of seen residues as that of all, (length, length), NaN where nothing is said."""
        if len(self.positions) == self.length:
            return seen
        pairs = np.full((self.length, self.length), np.nan, dtype=np.float32)
        pairs[np.ix_(self.positions, self.positions)] = seen
        return pairs

    def loss(self, trace: Coordinates) -> float:
        """Return the cross-entropy of the distogram, in nats a pair of residues that were resolved and seen.

        NaN where there is none.

        Parameters
        ----------
        trace : float32 array, (length, 3)
            The true one in Å.
        """
        bins = binned(distances(trace[self.positions]))
        known = np.triu(bins != UNRESOLVED, 1)
        if not known.any():
            return float("nan")
        shares = np.take_along_axis(self.distogram[known], bins[known][:, None], 1)
        return float(-np.log(np.maximum(shares, _LEAST)).mean())


def distances(trace: Coordinates) -> Probabilities:
    """Return the distances between all CA atoms, float32 (residues, residues), NaN where one was not resolved."""
    squared = np.zeros((len(trace), len(trace)), dtype=np.float32)
    for axis in range(3):
        squared += np.square(trace[:, None, axis] - trace[None, :, axis])
    return np.sqrt(squared)


def binned(distance: Probabilities) -> Indices:
    """Return the bin of each distance in Å, int64 of the same shape, -1 where it is NaN.

    Examples
    --------
    >>> binned(np.array([0.0, 2.1, 3.8, 21.9, 50.0, np.nan])).tolist()
    [0, 0, 5, 63, 63, -1]
    """
    place = np.floor((np.nan_to_num(distance, nan=0.0) - NEAREST) / WIDTH)
    return np.where(np.isnan(distance), UNRESOLVED, np.clip(place, 0, BINS - 1)).astype(np.int64)


def contact_probabilities(distogram: Probabilities, within: float = CONTACT) -> Probabilities:
    """Return the probability that each pair is nearer than `within` Å, float32 (residues, residues).

    A bin that the limit divides counts by the share of it that lies below.

    Parameters
    ----------
    distogram : float32 array, (residues, residues, 64)
        Probabilities of the bins.
    """
    share = np.clip((within - NEAREST) / WIDTH - np.arange(BINS), 0.0, 1.0).astype(np.float32)
    return np.asarray(distogram @ share)


def expected_distances(distogram: Probabilities) -> Probabilities:
    """Return the mean distance of each pair in Å, float32 (residues, residues); the last bin counts as its middle."""
    return np.asarray(distogram @ CENTRES.astype(np.float32))
