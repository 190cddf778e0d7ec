"""The best set of windows that do not overlap, by dynamic programming over their ends."""

from __future__ import annotations

import numpy as np

from esmcls.scanning.windows import Windows
from esmcls.types import Floats


def best_set(windows: Windows, weights: Floats) -> list[int]:
    """Return the numbers of windows of the largest sum of weights, none upon another, in the order of the protein.

    Parameters
    ----------
    windows : Windows
    weights : float64 array, (windows,)
        Log odds that each is a domain; what is not above 0 is never taken: the rest is none of these.

    Examples
    --------
    >>> windows = Windows(np.array([0, 4, 10]), np.array([6, 12, 20]), np.array([0, 0, 0]))
    >>> best_set(windows, np.array([2.0, 3.0, 2.0])), best_set(windows, np.array([1.0, 3.0, -1.0]))
    ([0, 2], [1])
    """
    order = np.argsort(windows.ends, kind="stable")
    ends = windows.ends[order]
    before = np.searchsorted(ends, windows.starts[order], side="right").tolist()  # how many end where it starts
    best = np.zeros(len(order) + 1)
    for place, row in enumerate(order.tolist()):
        best[place + 1] = max(best[place], best[before[place]] + weights[row])
    chosen: list[int] = []
    place = len(order)
    while place:
        if best[place] > best[place - 1]:
            chosen.append(int(order[place - 1]))
            place = before[place - 1]
        else:
            place -= 1
    return chosen[::-1]
