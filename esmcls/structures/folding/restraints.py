"""What a distogram asks of a trace: a potential a pair, distances to begin with, and where helices are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from esmcls.structures.distogram import BINS, CENTRES, PairAnswer
from esmcls.structures.folding.handedness import expected_volumes
from esmcls.types import Floats, Indices, Probabilities

BOND: Final = 3.8
"""Å between the CA atoms of neighbours in the chain (trans peptide)."""
OPEN_BINS: Final = 30.0
"""The last bin holds all that is farther: its density is that of so many bins."""
_DOUBT: Final = 1e-3
"""Share of a flat distribution that is mixed in: no distance is impossible."""


@dataclass(frozen=True, eq=False)
class Restraints:
    """What a trace is to fulfil.

    Parameters
    ----------
    first, second : int64 arrays, (pairs,)
        The two residues of each pair that has a potential, first < second.
    potentials : float32 array, (pairs, 64)
        -log of the density at the middle of each bin, 0 at the likeliest.
    bonded : int64 array, (bonds,)
        Residues whose successor is their neighbour in the chain.
    apart : bool array, (pairs,)
        Pairs of more than two steps in the chain, which must not clash.
    turns : int64 array, (turns,)
        The first of each four neighbours.
    volumes, variances : float32 arrays, (turns,)
        What is expected of (b1 x b2) . b3 of their bonds; see `handedness`.
    """

    first: Indices
    second: Indices
    potentials: Probabilities
    bonded: Indices
    apart: npt.NDArray[np.bool_]
    turns: Indices
    volumes: Probabilities
    variances: Probabilities

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
        turns, volumes, variances = expected_volumes(answer)
        potentials = _potentials(answer.distogram[first, second])
        return cls(first, second, potentials, bonded, steps > 2, turns, volumes, variances)


def _potentials(probabilities: Probabilities) -> Probabilities:
    """Return -log of the density of each bin, less that of the likeliest, in the array that is given: it is large."""
    probabilities *= 1 - _DOUBT
    probabilities += _DOUBT / BINS
    probabilities[:, -1] /= OPEN_BINS
    np.log(probabilities, out=probabilities)
    np.subtract(probabilities.max(1, keepdims=True), probabilities, out=probabilities)
    return probabilities


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
    for first, second in ((neighbours, neighbours + 1), (neighbours + 1, neighbours)):
        mean[first, second], weights[first, second] = BOND, 4.0
    return mean, weights, answer.distogram[:, :, -1]
