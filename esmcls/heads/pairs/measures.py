"""What a head for structures reaches on chains whose structures are known, a row of measures a chain."""

from __future__ import annotations

from typing import Final

import numpy as np

from esmcls.structures.distogram import (
    CONTACT,
    PairAnswer,
    binned,
    contact_probabilities,
    distances,
    expected_distances,
)
from esmcls.types import Coordinates, Floats, Positions, Probabilities

LONG_RANGE: Final = 24
"""Residues along the sequence from which on a contact is of long range."""
MEASURES: Final = ("precision_l", "precision_l5", "lddt", "loss")


def contact_precision(
    probabilities: Probabilities, true: Probabilities, positions: Positions, share: float = 1.0
) -> float:
    """Return the share of true contacts among the pairs of long range that are said most probable; NaN without any.

    Parameters
    ----------
    probabilities, true : float32 arrays, (residues, residues)
        Of a contact, and the true distances in Å, NaN where unknown.
    positions : int64 array, (residues,)
        In the sequence.
    share : float
        Pairs that are looked at, as a multiple of the residues that are known.
    """
    candidate = np.triu(positions[None] - positions[:, None] >= LONG_RANGE) & ~np.isnan(true)
    said, near = probabilities[candidate], true[candidate] < CONTACT
    wanted = max(1, round(share * int((~np.isnan(np.diagonal(true))).sum())))
    best = np.argsort(-said, kind="stable")[:wanted]
    return float(near[best].mean()) if len(best) else float("nan")


def lddt_of_distances(predicted: Probabilities, true: Probabilities) -> float:
    """Return the lDDT of predicted distances (residues, residues) in Å; NaN where no true pair is near."""
    near = np.triu(true < 15.0, 1)
    off = np.abs(predicted - true)[near]
    return float(np.mean([(off < threshold).mean() for threshold in (0.5, 1.0, 2.0, 4.0)])) if len(off) else np.nan


def measured(answer: PairAnswer, trace: Coordinates) -> Floats:
    """Return the measures of an answer about a chain, in the order of `MEASURES`, (4,)."""
    true = distances(trace[answer.positions])
    contacts = contact_probabilities(answer.distogram)
    bins = binned(true)
    known = np.triu(bins >= 0, 1)
    said = np.take_along_axis(answer.distogram[known], bins[known][:, None], 1)
    loss = -np.log(np.maximum(said, 1e-12)).mean() if len(said) else np.nan
    precisions = [contact_precision(contacts, true, answer.positions, share) for share in (1.0, 0.2)]
    return np.array([*precisions, lddt_of_distances(expected_distances(answer.distogram), true), loss])
