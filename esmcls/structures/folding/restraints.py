"""What a distogram asks of a trace: a potential a pair, distances to begin with, and where helices are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from esmcls.structures.distogram import BINS, CENTRES, WIDTH, PairAnswer
from esmcls.types import Floats, Indices, Positions, Probabilities

BOND: Final = 3.8
"""Å between the CA atoms of neighbours in the chain (trans peptide)."""
OPEN_BINS: Final = 30.0
"""The last bin holds all that is farther: its density is that of so many bins."""
_DOUBT: Final = 1e-3
"""Share of a flat distribution that is mixed in: no distance is impossible."""
_HELIX_STEPS: Final = ((2, 4.9, 6.0), (3, 4.4, 6.0), (4, 5.0, 7.2))
"""(residues apart, Å, Å): between what the distances in an alpha helix are."""


@dataclass(frozen=True, eq=False)
class Restraints:
    """What a trace is to fulfil.

    Parameters
    ----------
    n : int
        Residues that were seen.
    first, second : int64 arrays, (pairs,)
        The two residues of each pair that has a potential, first < second.
    potentials : float32 array, (pairs, 64)
        -log of the density at the middle of each bin.
    bonded : int64 array, (bonds,)
        Residues whose successor is their neighbour in the chain.
    apart : bool array, (pairs,)
        Pairs of more than two steps in the chain, which must not clash.
    helical : int64 array, (turns,)
        The first of four residues that are a turn of a helix by their distances.
    certainty : float32 array, (turns,)
        How probable that is.
    """

    n: int
    first: Indices
    second: Indices
    potentials: Probabilities
    bonded: Indices
    apart: npt.NDArray[np.bool_]
    helical: Indices
    certainty: Probabilities

    @classmethod
    def of(cls, answer: PairAnswer) -> Restraints:
        """Read them from what a head says of a protein."""
        positions = answer.positions
        n = len(positions)
        first, second = np.triu_indices(n, 1)
        steps = positions[second] - positions[first]
        free = steps > 1
        first, second, steps = first[free], second[free], steps[free]
        bonded = np.flatnonzero(np.diff(positions) == 1)
        helical, certainty = _helical(answer.distogram, positions)
        potentials = _potentials(answer.distogram[first, second])
        return cls(n, first, second, potentials, bonded, steps > 2, helical, certainty)


def _potentials(probabilities: Probabilities) -> Probabilities:
    """Return -log of the density of each bin, in the array that is given: it is the largest there is."""
    probabilities *= 1 - _DOUBT
    probabilities += _DOUBT / BINS
    probabilities[:, -1] /= OPEN_BINS
    np.log(probabilities, out=probabilities)
    return np.negative(probabilities, out=probabilities)


def _helical(distogram: Probabilities, positions: Positions) -> tuple[Indices, Probabilities]:
    """Return the first of each four neighbours that are a turn of a helix, and how probable that is."""
    n = len(positions)
    starts = np.flatnonzero(positions[3:] - positions[:-3] == 3) if n > 3 else np.zeros(0, dtype=np.int64)
    share = np.ones(len(starts), dtype=np.float32)
    for step, nearest, farthest in _HELIX_STEPS[:2]:
        within = _share_between(nearest, farthest)
        for shift in range(4 - step):
            share = np.minimum(share, distogram[starts + shift, starts + shift + step] @ within)
    certain = share > 0.5
    return starts[certain], share[certain]


def _share_between(nearest: float, farthest: float) -> Probabilities:
    """Return how much of each bin lies between two distances, float32 (64,)."""
    low, high = CENTRES - WIDTH / 2, CENTRES + WIDTH / 2
    overlap = np.minimum(high, farthest) - np.maximum(low, nearest)
    return np.clip(overlap / WIDTH, 0, 1).astype(np.float32)


def expected(answer: PairAnswer) -> tuple[Floats, Floats, Probabilities]:
    """Return how far apart residues are expected if nearer than 22 Å, how sure that is, and if they are not.

    Returns
    -------
    distances : float64 array, (seen, seen)
        Å; the mean of the bins but the last.
    weights : float64 array, (seen, seen)
        One by the variance, by the probability of being so near.
    beyond : float32 array, (seen, seen)
        The probability of being farther than the bins reach.
    """
    near = answer.distogram[:, :, :-1]
    mass = near.sum(2, dtype=np.float64)
    safe = np.maximum(mass, 1e-6)
    centres = CENTRES[:-1].astype(np.float32)
    mean = (near @ centres) / safe
    variance = np.maximum((near @ np.square(centres)) / safe - np.square(mean), 0.0)
    weights = mass / (variance + 0.25)
    neighbours = np.flatnonzero(np.diff(answer.positions) == 1)
    for one, other in ((neighbours, neighbours + 1), (neighbours + 1, neighbours)):
        mean[one, other], weights[one, other] = BOND, 4.0
    return mean, weights, answer.distogram[:, :, -1]
