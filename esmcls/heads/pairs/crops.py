"""Crops of chains: the part of a chain whose pairs a training step sees."""

from __future__ import annotations

import numpy as np

from esmcls.types import Indices


def crop_of(seen: int, size: int, two: float, generator: np.random.Generator) -> Indices:
    """Return which of the residues seen of a chain a crop holds, ascending, int64 (at most size,).

    Parameters
    ----------
    seen : int
        Residues; a chain of no more than `size` is not cropped.
    size : int
    two : float
        Share of crops that are two stretches of half the size, anywhere in the chain, so that pairs which lie farther
        apart than a crop is long are seen, too.

    Examples
    --------
    >>> crop_of(3, 4, 0.0, np.random.default_rng(0)).tolist()
    [0, 1, 2]
    >>> len(crop_of(100, 4, 0.5, np.random.default_rng(0)))
    4
    """
    if seen <= size:
        return np.arange(seen, dtype=np.int64)
    if generator.random() >= two:
        start = int(generator.integers(seen - size + 1))
        return np.arange(start, start + size, dtype=np.int64)
    half = size // 2
    starts = np.sort(generator.choice(seen - 2 * half + 1, 2, replace=True)) + [0, half]
    return np.concatenate([np.arange(start, start + half, dtype=np.int64) for start in starts.tolist()])
