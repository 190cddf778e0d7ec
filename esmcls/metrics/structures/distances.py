"""lDDT and contact precision: what can be said of distances alone, without laying one trace over the other."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from esmcls.types import Coordinates, Floats, Probabilities

INCLUSION: Final = 15.0
"""Å: distances of the true structure that are as long or longer are not looked at (Mariani et al. 2013)."""
TOLERANCES: Final = (0.5, 1.0, 2.0, 4.0)
"""Å: how far a distance may be off, each for a quarter of the score (the same)."""
CONTACT: Final = 8.0
"""Å: residues that are nearer are in contact."""
LONG_RANGE: Final = 24
"""Residues from one to the other along the sequence, from which on a contact is called long-range (CASP)."""


class Lddt(NamedTuple):
    """How many of the distances around residues are kept.

    Parameters
    ----------
    mean : float
        Over all pairs, in [0, 1]; NaN where there is none.
    residues : float64 array, (residues,)
        Over the pairs of each residue; NaN where it was not resolved or no other is near.
    """

    mean: float
    residues: Floats


def lddt(predicted: Coordinates, true: Coordinates) -> Lddt:
    """Return the lDDT of a predicted trace: distances are compared, so no superposition is needed; see `Lddt`.

    A residue that has no predicted place has kept no distance.

    Parameters
    ----------
    predicted, true : float arrays, (residues, 3)
        Å; residues that are NaN in `true` are left out.

    References
    ----------
    Mariani et al. 2013, doi:10.1093/bioinformatics/btt473; of CA atoms alone, without checks of stereochemistry.

    Examples
    --------
    >>> line = np.array([[0.0, 0, 0], [4, 0, 0], [8, 0, 0]])
    >>> score = lddt(line * 1.2, line)  # the near distances are 0.8 Å off, the far one 1.6 Å
    >>> round(score.mean, 3), score.residues.tolist()
    (0.667, [0.625, 0.75, 0.625])
    """
    return lddt_of_distances(between(predicted), between(true))


def lddt_of_distances(predicted: Floats | Probabilities, true: Floats | Probabilities) -> Lddt:
    """Return the lDDT of predicted distances, of which there need be no trace.

    Parameters
    ----------
    predicted, true : float arrays, (residues, residues)
        Å; NaN in `true` is left out, NaN in `predicted` alone is wrong.
    """
    near = true < INCLUSION
    np.fill_diagonal(near, False)
    with np.errstate(invalid="ignore"):
        off = np.abs(predicted - true)
        shares = sum(((off <= tolerance) & near).sum(axis=1) for tolerance in TOLERANCES) / len(TOLERANCES)
    partners = near.sum(axis=1)
    residues = np.divide(shares, partners, out=np.full(len(true), np.nan), where=partners > 0)
    total = int(partners.sum())
    return Lddt(float(np.sum(shares)) / total if total else float("nan"), residues)


def between(trace: Coordinates | Floats) -> Floats:
    """Return the distances between all residues of a trace, float64 (residues, residues)."""
    places = np.asarray(trace, dtype=np.float64)
    squared = sum(np.square(places[:, None, axis] - places[None, :, axis]) for axis in range(3))
    return np.asarray(np.sqrt(squared))


def contact_precision(
    probabilities: Probabilities | Floats,
    true_distances: Floats | Probabilities,
    share: float = 1.0,
    least_separation: int = LONG_RANGE,
    within: float = CONTACT,
) -> float:
    """Return which share of the pairs that are the most probable contacts are contacts: P@L, P@L/2 and so on.

    Of equal probabilities the pair that stands first counts as more probable. Where there are fewer pairs than asked
    for, all are taken.

    Parameters
    ----------
    probabilities : float array, (residues, residues)
        Of contacts; NaN is a pair that was not predicted, and is taken last.
    true_distances : float array, (residues, residues)
        Å; NaN where one of both was not resolved: such a pair is not asked for.
    share : float
        Of the number L of resolved residues: so many pairs are taken.
    least_separation : int
        Pairs that stand nearer along the sequence are not asked for.
    within : float
        Å: pairs that are nearer are contacts.

    Returns
    -------
    float
        In [0, 1]; NaN where there is no pair that can be asked for.

    Examples
    --------
    >>> distances = np.array([[0, 5, 5.0], [5, 0, 9], [5, 9, 0]])
    >>> contact_precision(np.array([[0, 0.1, 0.9], [0, 0, 0.8], [0, 0, 0]]), distances, 2 / 3, least_separation=1)
    0.5
    """
    rows, columns = np.triu_indices(len(true_distances), least_separation)
    distances = true_distances[rows, columns]
    asked = ~np.isnan(distances)
    if not asked.any():
        return float("nan")
    resolved = int((~np.isnan(np.diagonal(true_distances))).sum())
    taken = min(max(int(share * resolved + 1e-9), 1), int(asked.sum()))
    ranks = np.nan_to_num(np.asarray(probabilities)[rows, columns][asked], nan=-np.inf)
    best = np.argsort(-ranks, kind="stable")[:taken]
    return float((distances[asked][best] < within).mean())
