"""RMSD, TM-score and GDT-TS: how near a trace lies when it is laid over the true one, residue on the same residue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from esmcls.errors import MissingExtraError
from esmcls.types import Coordinates, Floats, Indices

GDT_CUTOFFS: Final = (1.0, 2.0, 4.0, 8.0)
"""Å: GDT-TS is the mean share of residues within these (Zemla 2003, doi:10.1093/nar/gkg571)."""
_ITERATIONS: Final = 20
_SHORTEST: Final = 4
"""Residues of the shortest fragments that a superposition begins with; both as TM-score has them (TMscore.cpp)."""
_AT_ONCE: Final = 1 << 21
"""Distances that are held at a time."""


def rmsd(predicted: Coordinates, true: Coordinates) -> float:
    """Return the root of the mean squared distance in Å after the best superposition, without mirroring.

    Residues without a place in one of both are left out; NaN where fewer than three are left.

    Examples
    --------
    >>> line = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    >>> round(rmsd(line[:, [1, 0, 2]] + 7, line), 6), round(rmsd(2 * line, line), 4)
    (0.0, 0.8165)
    """
    both, target, _ = _shared(predicted, true)
    if len(both) < 3:
        return float("nan")
    squared = _squared_distances(both, target, np.ones((1, len(both))))
    return float(np.sqrt(squared.mean()))


class Superposed(NamedTuple):
    """Measures of one search for superpositions, each of the superposition that is best for it, in [0, 1]."""

    tm_score: float
    gdt_ts: float


def superposed(predicted: Coordinates, true: Coordinates) -> Superposed:
    """Return the TM-score and GDT-TS of residues in the order of the sequence, over those that are resolved.

    Superpositions are searched for as the program TM-score does, which tells both: begun on fragments of the whole
    length, half of it, a quarter and so on, and each taken again on the residues that it brings near.

    Parameters
    ----------
    predicted, true : float arrays, (residues, 3)
        Å; residues that are NaN in `true` are left out, those that are NaN in `predicted` alone add nothing.

    Returns
    -------
    Superposed
        NaN where no residue is resolved; 0 where fewer than three have a predicted place.

    References
    ----------
    Zhang and Skolnick 2004, doi:10.1002/prot.20264, and TMscore.cpp of zhanggroup.org/TM-score.
    """
    both, target, length = _shared(predicted, true)
    if len(both) < 3:
        return Superposed(0.0, 0.0) if length else Superposed(float("nan"), float("nan"))
    scale = tm_scale(length)
    search = min(max(scale, 4.5), 8.0)
    best = np.zeros(1 + len(GDT_CUTOFFS))
    for squared in _superpositions(both, target, (search - 1, search + 1)):
        within = [(squared < cutoff**2).sum(axis=1).max() for cutoff in GDT_CUTOFFS]
        best = np.maximum(best, [(1 / (1 + squared / scale**2)).sum(axis=1).max(), *within])
    return Superposed(float(best[0]) / length, float(best[1:].mean()) / length)


def best_rotation(covariance: Floats) -> Floats:
    """Return the rotations that lay centred places on others with the least squared distances, without mirroring.

    Parameters
    ----------
    covariance : float64 array, (…, 3, 3)
        Sums over residues of products of a coordinate (row) with one of the target (column).

    Returns
    -------
    float64 array, (…, 3, 3)
        `mobile @ rotation` lies on the target.

    References
    ----------
    Kabsch 1976, doi:10.1107/S0567739476001873.

    Examples
    --------
    >>> best_rotation(np.array([[0.0, -2, 0], [3, 0, 0], [0, 0, 1]])).round(6) + 0
    array([[ 0., -1.,  0.],
           [ 1.,  0.,  0.],
           [ 0.,  0.,  1.]])
    """
    left, _, right = np.linalg.svd(covariance)
    left[..., 2] *= np.sign(np.linalg.det(left) * np.linalg.det(right))[..., None]  # no mirror image
    return np.asarray(left @ right)


def tm_score(predicted: Coordinates, true: Coordinates) -> float:
    """Return the TM-score alone; see `superposed`."""
    return superposed(predicted, true).tm_score


def gdt_ts(predicted: Coordinates, true: Coordinates) -> float:
    """Return GDT-TS alone, the mean share of residues within 1, 2, 4 and 8 Å; see `superposed`."""
    return superposed(predicted, true).gdt_ts


def tm_scale(length: int) -> float:
    """Return d0 in Å of the TM-score of so many residues, 0.5 at least.

    Examples
    --------
    >>> round(tm_scale(100), 3), tm_scale(15)
    (3.652, 0.5)
    """
    return max(1.24 * (length - 15) ** (1 / 3) - 1.8, 0.5) if length > 15 else 0.5


def realigned_tm_score(predicted: Coordinates, true: Coordinates, sequence: str) -> float:
    """Return the TM-score of TM-align, which may lay other residues on one another than the sequence says.

    Parameters
    ----------
    predicted, true : float arrays, (residues, 3)
        Å; residues without a place are left out of the trace that lacks them.
    sequence : str

    Raises
    ------
    MissingExtraError
        If `tmtools` is not installed.

    References
    ----------
    Zhang and Skolnick 2005, doi:10.1093/nar/gki524.
    """
    try:
        from tmtools import tm_align
    except ModuleNotFoundError:
        raise MissingExtraError("a TM-score that aligns anew", "tmtools", "structure") from None
    resolved = [~np.isnan(trace[:, 0]) for trace in (predicted, true)]
    if min(mask.sum() for mask in resolved) < 3:
        return float("nan")
    places = [
        np.ascontiguousarray(trace[mask], np.float64) for trace, mask in zip((predicted, true), resolved, strict=True)
    ]
    letters = ["".join(np.array(list(sequence))[mask]) for mask in resolved]
    return float(tm_align(*places, *letters).tm_norm_chain2)


def _shared(predicted: Coordinates, true: Coordinates) -> tuple[Floats, Floats, int]:
    """Return the places of the residues that have one in both, and the number of those that are resolved."""
    resolved = ~np.isnan(true[:, 0])
    both = resolved & np.isfinite(predicted).all(axis=1)
    return predicted[both].astype(np.float64), true[both].astype(np.float64), int(resolved.sum())


def _superpositions(mobile: Floats, target: Floats, within: tuple[float, float]) -> Iterator[Floats]:
    """Give squared distances, (superpositions, residues), of many superpositions, each nearer than those before.

    Parameters
    ----------
    mobile, target : float64 arrays, (residues, 3)
    within : (float, float)
        Å: the residues that a superposition is taken on next, the first time and later.
    """
    count = len(mobile)
    for seeds in _seeds(count):
        squared = _squared_distances(mobile, target, seeds)
        yield squared
        chosen = seeds > 0
        limit = within[0]
        for _ in range(_ITERATIONS):
            nearer = _near(squared, limit)
            moving = (nearer != chosen).any(axis=1)
            if not moving.any():
                break
            chosen = nearer[moving]
            squared = _squared_distances(mobile, target, chosen.astype(np.float64))
            yield squared
            limit = within[1]


def _seeds(count: int) -> Iterator[Floats]:
    """Give masks of fragments, (fragments, residues) of 0 and 1, some at a time."""
    rows = max(_AT_ONCE // (3 * count), 1)
    shortest = min(_SHORTEST, count)
    lengths = [count]
    while lengths[-1] > shortest:
        lengths.append(max(lengths[-1] // 2, shortest))
    starts = np.concatenate([np.arange(count - length + 1) for length in lengths])
    sizes = np.repeat(lengths, [count - length + 1 for length in lengths])
    places: Indices = np.arange(count)
    for first in range(0, len(starts), rows):
        start, size = starts[first : first + rows, None], sizes[first : first + rows, None]
        yield ((places >= start) & (places < start + size)).astype(np.float64)


def _near(squared: Floats, limit: float) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Return which residues are within a limit in Å, three at least of each superposition."""
    third = np.partition(squared, 2, axis=1)[:, 2:3]
    return np.asarray(squared <= np.maximum(limit**2, third))


def _squared_distances(mobile: Floats, target: Floats, weights: Floats) -> Floats:
    """Return squared distances of all residues after the best superpositions by some of them.

    Parameters
    ----------
    mobile, target : float64 arrays, (residues, 3)
    weights : float64 array, (superpositions, residues)

    Returns
    -------
    float64 array, (superpositions, residues)
    """
    [superpositions, residues] = weights.shape
    total = weights.sum(axis=1)[:, None]
    mobile = mobile - mobile.mean(axis=0)  # so that products below lose no digits
    target = target - target.mean(axis=0)
    centres = weights @ mobile / total, weights @ target / total  # (superpositions, 3)
    products = (mobile[:, :, None] * target[:, None, :]).reshape(residues, 9)
    covariance = (weights @ products).reshape(superpositions, 3, 3)
    covariance -= total[:, :, None] * centres[0][:, :, None] * centres[1][:, None, :]
    rotation = best_rotation(covariance)
    shift = centres[1] - (centres[0][:, None] @ rotation)[:, 0]
    distances = np.zeros((superpositions, residues))
    for axis in range(3):
        distances += np.square(rotation[:, :, axis] @ mobile.T + shift[:, axis, None] - target[:, axis])
    return distances
