"""Which training rows are aligned with a protein: those that a sequence search finds, and the nearest mean vectors."""

from __future__ import annotations

import numpy as np

from esmcls.types import Indices


def union(hits: Indices, nearest: Indices, width: int) -> Indices:
    """Return the first `width` different rows of both for each protein, hits first, int64 (n, width).

    Parameters
    ----------
    hits : int64 array, (n, most)
        Training rows, the best first; -1 where there is no further one.
    nearest : int64 array, (n, at least width)
        Training rows, each once, the nearest first: they fill what hits leave.
    width : int

    Examples
    --------
    >>> union(np.array([[7, 2], [-1, -1]]), np.array([[2, 4, 7, 5], [2, 4, 7, 5]]), width=3).tolist()
    [[7, 2, 4], [2, 4, 7]]
    """
    both = np.concatenate([hits, nearest], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    ranked = np.take_along_axis(both, order, axis=1)
    unwanted = both < 0
    again = unwanted.copy()
    np.put_along_axis(again, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
    first = np.argsort(unwanted | again, axis=1, kind="stable")[:, :width]
    return np.take_along_axis(both, first, axis=1)
