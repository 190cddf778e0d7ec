"""What a head for structures reaches on chains whose structures are known, a row of measures a chain."""

from __future__ import annotations

from typing import Final

import numpy as np

from esmcls.metrics.structures.distances import contact_precision, lddt_of_distances
from esmcls.structures.distogram import PairAnswer, contact_probabilities, distances, expected_distances
from esmcls.types import Coordinates, Floats

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
    contacts = answer.whole(contact_probabilities(answer.distogram))
    apart = answer.whole(true)
    precisions = [contact_precision(contacts, apart, share) for share in (1.0, 0.2)]
    of_distances = lddt_of_distances(expected_distances(answer.distogram), true).mean
    return np.array([*precisions, of_distances, answer.loss(trace)])
