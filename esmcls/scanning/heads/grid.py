"""Windows of a protein and their scores: sums over a window are differences of sums from the start of the protein.

A window of many lengths stands at every few residues; of each the best family is kept, by the log odds of each family
against none of these, then the best of those that lie upon one another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from esmcls.scanning.windows import Windows
from esmcls.types import Floats, Indices

SAME: Final = 0.7
"""Windows of one family that have this share in common are one."""
MEASURES: Final = 6
"""By which a window is recognised; see `measures`."""
FLANK: Final = 10
"""Residues on either side of a window that are looked at."""


def sums_from_start(rows: npt.NDArray[np.floating]) -> Floats:
    """Return the sum of the rows before each position, float64 (residues + 1, columns).

    Examples
    --------
    >>> sums_from_start(np.array([[1.0], [2.0], [4.0]])).ravel().tolist()
    [0.0, 1.0, 3.0, 7.0]
    """
    sums = np.zeros((len(rows) + 1, rows.shape[1]))
    np.cumsum(rows, axis=0, dtype=np.float64, out=sums[1:])
    return sums


def means(sums: Floats, starts: Indices, ends: Indices) -> Floats:
    """Return the mean row of each window, (windows, columns).

    Examples
    --------
    >>> means(np.array([[0.0], [1.0], [3.0], [7.0]]), np.array([1]), np.array([3])).tolist()
    [[3.0]]
    """
    return np.asarray((sums[ends] - sums[starts]) / np.maximum(ends - starts, 1)[:, None])


def running_means(rows: npt.NDArray[np.floating], width: int) -> npt.NDArray[np.float32]:
    """Return the mean of the rows around each position, of `width` at most and fewer at the ends, float32."""
    positions = np.arange(len(rows))
    starts, ends = np.maximum(positions - width // 2, 0), np.minimum(positions + width // 2 + 1, len(rows))
    return means(sums_from_start(rows), starts, ends).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Lengths:
    """How long domains are.

    Parameters
    ----------
    tried : int64 array, (lengths,)
        Of windows, ascending.
    centres, spreads : float64 arrays, (families,)
        Mean and deviation of the logarithm of the length of each family's domains.
    """

    tried: Indices
    centres: Floats
    spreads: Floats

    def deviations(self, lengths: Indices, codes: Indices) -> Floats:
        """Return by how many deviations a window's length differs from its family's, (windows,)."""
        return np.asarray((np.log(np.maximum(lengths, 1)) - self.centres[codes]) / self.spreads[codes])


Scores: TypeAlias = Callable[[Indices, Indices], npt.NDArray[np.floating]]
"""Gives the log odds of each family in windows, by their starts and ends, (windows, families)."""


def best_windows(scores: Scores, residues: int, lengths: Lengths, stride: int) -> Windows:
    """Return the windows of a protein that may be domains: the best of those that lie upon one another.

    Parameters
    ----------
    scores : callable
    residues : int
        Of the protein.
    lengths : Lengths
    stride : int
        Residues from one window to the next, at least; windows of more than eight times that are farther apart.
    """
    windows, best = _on_a_grid(scores, residues, lengths, stride)
    return windows.take(_apart(windows, best, most=10 + residues // 10))


def _on_a_grid(scores: Scores, residues: int, lengths: Lengths, stride: int) -> tuple[Windows, Floats]:
    """Return the windows of all lengths with the best family of each, where its score is above 0, and the scores."""
    parts = [(np.zeros((0, 3), dtype=np.int64), np.zeros(0))]
    for length in sorted({min(length, residues) for length in lengths.tried.tolist()}) if residues else ():
        starts = np.unique([*range(0, residues - length + 1, max(stride, length // 8)), residues - length])
        odds = scores(starts, starts + length)
        families = odds.shape[1]
        deviations = lengths.deviations(np.full(families, length), np.arange(families))
        fitting = odds - np.square(deviations) / 2
        codes = fitting.argmax(1)
        best = fitting[np.arange(len(starts)), codes]
        rows = np.stack([starts, starts + length, codes], axis=1)
        parts.append((rows[best > 0], best[best > 0]))
    return Windows(*np.concatenate([rows for rows, _ in parts]).T), np.concatenate([best for _, best in parts])


def _apart(windows: Windows, scores: Floats, most: int) -> list[int]:
    """Return the numbers of the best windows, none of which is nearly another of its family."""
    left = np.argsort(-scores, kind="stable")
    chosen: list[int] = []
    while len(left) and len(chosen) < most:
        best, left = int(left[0]), left[1:]
        chosen.append(best)
        common = np.minimum(windows.ends[left], windows.ends[best])
        common = common - np.maximum(windows.starts[left], windows.starts[best])
        longer = np.maximum(windows.lengths[left], windows.lengths[best])
        left = left[(common < SAME * longer) | (windows.codes[left] != windows.codes[best])]
    return chosen


def moved(sums: Floats, windows: Windows, stride: int) -> Windows:
    """Return windows with each end where the sum of log odds is largest, not far from where it was.

    Parameters
    ----------
    sums : float64 array, (residues + 1, families)
        From `sums_from_start`.
    windows : Windows
    stride : int
        An end moves by a fifth of the window at most, or by this.
    """
    starts, ends = windows.starts.copy(), windows.ends.copy()
    for row, code in enumerate(windows.codes.tolist()):
        start, end = int(starts[row]), int(ends[row])
        reach = min(max(stride, (end - start) // 5), (end - start - 1) // 2)
        first = max(0, start - reach)
        starts[row] = first + int(sums[first : start + reach + 1, code].argmin())
        ends[row] = end - reach + int(sums[end - reach : end + reach + 1, code].argmax())
    return Windows(starts, ends, windows.codes)


def measures(sums: Floats, windows: Windows, lengths: Lengths, odds: Floats) -> Floats:
    """Return what a domain is recognised by, float64 (windows, 6).

    Parameters
    ----------
    sums : float64 array, (residues + 1, families)
        Of log odds.
    windows : Windows
    lengths : Lengths
    odds : float64 array, (windows,)
        The log odds of the family by the mean vector of each window.

    Returns
    -------
    float64 array
        The mean of the residues' log odds, their sum over the root of the length, the same before and after the
        window, `odds`, the squared deviation of the length, and the logarithm of the length.
    """
    residues = len(sums) - 1
    inside = _sums_of(sums, windows.starts, windows.ends, windows.codes)
    before = _sums_of(sums, np.maximum(windows.starts - FLANK, 0), windows.starts, windows.codes)
    after = _sums_of(sums, windows.ends, np.minimum(windows.ends + FLANK, residues), windows.codes)
    size = np.maximum(windows.lengths, 1)
    deviations = np.minimum(np.square(lengths.deviations(size, windows.codes)), 25.0)
    columns = [inside / size, inside / np.sqrt(size), (before + after) / FLANK, odds, deviations, np.log(size)]
    return np.stack(columns, axis=1)


def _sums_of(sums: Floats, starts: Indices, ends: Indices, codes: Indices) -> Floats:
    return np.asarray(sums[ends, codes] - sums[starts, codes])
