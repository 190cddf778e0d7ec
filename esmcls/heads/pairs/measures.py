"""What a head for structures reaches on chains whose structures are known, a row of measures a chain."""

from __future__ import annotations

from typing import Final

import numpy as np

from esmcls.metrics.structures.distances import contact_precision, lddt_of_distances
from esmcls.structures.distogram import PairAnswer, binned, contact_probabilities, distances, expected_distances
from esmcls.types import Coordinates, Floats, Positions, Probabilities

MEASURES: Final = ("precision_l", "precision_l5", "lddt", "loss")


def measured(answer: PairAnswer, trace: Coordinates) -> Floats:
    """Return the measures of an answer about a chain, in the order of `MEASURES`, (4,).

    Residues that were not resolved, or that no encoder input held, are left out; NaN where nothing is left.

    Parameters
    ----------
    trace : float32 array, (residues, 3)
        The true one of the whole sequence in Å.
    """
    true = distances(trace[answer.positions])
    bins = binned(true)
    known = np.triu(bins >= 0, 1)
    shares = np.take_along_axis(answer.distogram[known], bins[known][:, None], 1)
    loss = -np.log(np.maximum(shares, 1e-12)).mean() if len(shares) else np.nan
    contacts = spread(contact_probabilities(answer.distogram), answer.positions, answer.length)
    apart = spread(true, answer.positions, answer.length)
    precisions = [contact_precision(contacts, apart, share) for share in (1.0, 0.2)]
    return np.array([*precisions, lddt_of_distances(expected_distances(answer.distogram), true).mean, loss])


def spread(pairs: Probabilities, positions: Positions, length: int) -> Probabilities:
    """Return numbers of pairs that were seen at their places in the sequence, NaN elsewhere, (length, length).

    Examples
    --------
    >>> spread(np.ones((2, 2), np.float32), np.array([0, 2]), 3).tolist()
    [[1.0, nan, 1.0], [nan, nan, nan], [1.0, nan, 1.0]]
    """
    if len(positions) == length:
        return pairs
    whole = np.full((length, length), np.nan, dtype=np.float32)
    whole[np.ix_(positions, positions)] = pairs
    return whole
