"""Places from distances: weighted multidimensional scaling, where not every distance is known."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.sparse.csgraph import shortest_path

from esmcls.structures.distogram import FARTHEST, PairAnswer
from esmcls.structures.folding.restraints import expected
from esmcls.types import Floats

_PATH_WEIGHT: Final = 0.01
"""Of a distance that is known as a path through others alone, and of being beyond the bins."""
_ROUNDS: Final = 60


def start_places(answer: PairAnswer, rng: np.random.Generator | None = None) -> Floats:
    """Return places at which to begin, float64 (seen, 3); a generator draws distances as unsure as they are.

    Pairs that are probably beyond the bins get the length of the shortest path through the others.
    """
    distances, weights, beyond = expected(answer)
    if rng is not None:
        noise = rng.normal(size=distances.shape) / np.sqrt(np.maximum(weights, 1e-3))
        noise = np.triu(noise, 1)
        distances = np.clip(distances + noise + noise.T, 2.5, None)
    known = beyond < 0.5
    distances, weights = _completed(distances, weights, known)
    return stress_least(classical(distances), distances, weights)


def _completed(distances: Floats, weights: Floats, known: np.ndarray) -> tuple[Floats, Floats]:
    """Return distances and weights of all pairs."""
    np.fill_diagonal(known, False)
    paths = shortest_path(np.where(known, distances, 0.0), method="FW", directed=False)
    longest = paths[np.isfinite(paths)].max(initial=FARTHEST)
    paths = np.where(np.isfinite(paths), paths, longest)
    distances = np.where(known, distances, np.maximum(paths, FARTHEST))
    weights = np.where(known, weights, _PATH_WEIGHT)
    np.fill_diagonal(distances, 0.0)
    np.fill_diagonal(weights, 0.0)
    return distances, weights


def classical(distances: Floats) -> Floats:
    """Return places whose distances are as given, as near as three dimensions allow (Torgerson 1952), (n, 3)."""
    squared = np.square(distances)
    means = squared.mean(0)
    inner = -0.5 * (squared - means[None, :] - means[:, None] + squared.mean())
    values, vectors = np.linalg.eigh(inner)
    places = vectors[:, -3:] * np.sqrt(np.maximum(values[-3:], 0.0))
    return np.pad(places, ((0, 0), (3 - places.shape[1], 0)))  # one or two places need no three dimensions


def stress_least(places: Floats, distances: Floats, weights: Floats, rounds: int = _ROUNDS) -> Floats:
    """Return places of less stress, by majorisation (de Leeuw 1977: SMACOF), float64 (n, 3).

    Parameters
    ----------
    places : float64 array, (n, 3)
    distances, weights : float64 arrays, (n, n)
        What is wanted of each pair, and how much it counts.
    rounds : int
    """
    n = len(places)
    laplacian = np.diag(weights.sum(1)) - weights
    inverse = np.linalg.inv(laplacian + 1.0 / n) - 1.0 / n  # pseudo-inverse: all weights are positive
    wanted = weights * distances
    for _ in range(rounds):
        squared = np.square(places).sum(1)
        now = np.sqrt(np.maximum(squared[:, None] + squared[None, :] - 2 * places @ places.T, 1e-6))
        ratio = wanted / now
        guttman = np.diag(ratio.sum(1)) - ratio
        places = inverse @ (guttman @ places)
    return places
