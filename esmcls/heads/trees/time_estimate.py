"""How long boosting will take: operations are counted, and what one of them takes is timed on a small example.

Nothing is decided by it: a slower machine gives the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import lightgbm
import numpy as np
import torch

EIGEN = 50
"""Multiplications that both eigendecompositions of a (width, width) matrix count for, in width³."""
GATHER = 150
"""Multiplications that a number of a gathered row counts for: memory is what it waits for."""
SPLIT = 4000
"""Rows that the search for the splits of a tree counts for."""
ROWS, FEATURES, ROUNDS = 2000, 20, 5
"""Of the small example."""


@dataclass(frozen=True)
class Size:
    """The size of a fit: rows to fit, rows to choose on, rows the ranker learns from, width and classes."""

    rows: int
    held: int
    asked: int
    width: int
    classes: int


@dataclass(frozen=True)
class Speed:
    """Seconds that a multiplication in a product of matrices takes, and a number in a tree."""

    product: float
    cell: float

    @classmethod
    def measure(cls, leaves: int) -> Speed:
        """Time a product of matrices and a few trees, in some hundredths of a second."""
        rng = np.random.default_rng(0)
        square = torch.from_numpy(rng.normal(size=(512, 512)).astype(np.float32))
        features = rng.normal(size=(ROWS, FEATURES))
        params = {"objective": "binary", "num_leaves": leaves, "num_threads": torch.get_num_threads(), "verbosity": -1}
        data = lightgbm.Dataset(features, features[:, 0] > 0, params={"verbosity": -1}).construct()
        product = _seconds(lambda: square @ square)
        trees = _seconds(lambda: lightgbm.train(params, data, ROUNDS))
        return cls(product / 512**3, trees / (ROUNDS * FEATURES * (ROWS + SPLIT)))

    def multiclass(self, size: Size, rounds: int) -> float:
        """Return seconds for one tree a class and round on two features a class."""
        return self.cell * rounds * size.classes * 2 * size.classes * (size.rows + size.held + SPLIT)

    def ranker(self, size: Size, rounds: int, folds: int, grid: int, candidates: int, neighbours: int) -> float:
        """Return seconds for sources of every fold and of all rows, their candidates and one tree a round.

        On held rows `grid` shrinkages are tried; `candidates` is how many a row has.
        """
        width = size.width
        asked = size.asked + size.held
        fit = width**2 * (3 * size.rows + 4 * size.classes + EIGEN * width)
        ask = width * (size.rows + 2 * size.classes + 2 * width + GATHER * neighbours)
        choose = grid * width * size.rows * (width + size.held)
        trees = rounds * (asked * candidates + SPLIT) * FEATURES
        return self.product * ((folds + 1) * fit + asked * ask + choose) + self.cell * trees


def _seconds(work: Callable[[], object]) -> float:
    """Return the shorter of two times: the first may have to start threads."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def in_words(seconds: float) -> str:
    """Return a time as a person would say it.

    Examples
    --------
    >>> [in_words(seconds) for seconds in (0.2, 50, 200, 20_000, 1e6)]
    ['1 s', '50 s', '3 min', '5.6 h', '12 days']
    """
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:,.0f} days"
