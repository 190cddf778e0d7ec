"""The compiled core: similarity matrices standardised, and the best local alignment in each.

One query meets LANES targets at a time. Their residues lie interleaved, residue j of all targets side by side, so that
the product of both matrices is already in the order in which the cells are filled, and LANES cells are one step of the
processor's widest registers:

    products   (query residues, target residues, LANES)   whole numbers; a padded residue of a short target gives 0

Local alignment with affine gaps: Smith and Waterman (1981), J. Mol. Biol. 147, 195; Gotoh (1982), J. Mol. Biol. 162,
705.
The processor's width decides nothing: products are whole numbers, and each cell is computed alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Compiled = TypeVar("Compiled", bound=Callable[..., Any])
Floats = npt.NDArray[np.float32]
Products = npt.NDArray[np.int32] | npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]

LANES: Final = 32
"""Targets that are aligned at once."""
FLAT: Final = np.float32(1e-5)
"""Share of the mean square of a row or column below which its variance counts as none: all its scores are 0 then."""
NEVER: Final = np.float32(1e9)
"""What is taken off the similarity of a padded residue: no alignment goes through it."""
STOP, DIAGONAL, UP, LEFT = range(4)
"""Where the best alignment that ends in a cell comes from."""


def compiled(function: Compiled) -> Compiled:
    """Compile a function for this processor, once a machine: the result is kept beside this file, or in a cache folder.

    Where neither can be written it is compiled anew in each process.
    """
    # no number is NaN or infinite, so that a maximum is one instruction; sums keep their order on every processor
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "fastmath": {"nnan", "ninf", "nsz"}}
    try:
        return cast(Compiled, numba.njit(function, cache=True, **options))
    except RuntimeError:  # no place to keep it in
        return cast(Compiled, numba.njit(function, **options))


@compiled
def interleave(codes: Codes, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], out: Codes) -> None:
    """Lay residues of targets side by side into `out`, (target residues * LANES, components); 0 where there is none."""
    out[:] = 0
    for lane in range(len(starts)):
        for residue in range(lengths[lane]):
            out[residue * LANES + lane] = codes[starts[lane] + residue]


@compiled
def half_over_deviation(mean_square: np.float32, mean: np.float32) -> np.float32:
    """Return half of what standard scores are multiplied by; 0 where there is no deviation."""
    variance = mean_square - mean * mean
    return np.float32(0.5) / np.sqrt(variance) if variance > FLAT * mean_square else np.float32(0)


@compiled
def standardise(
    products: Products,
    lengths: npt.NDArray[np.int64],
    offset: np.float32,
    row_scale: Floats,
    row_shift: Floats,
    column_scale: Floats,
    column_shift: Floats,
) -> None:
    """Find what makes similarities of products: the mean of both standard scores of a cell, in its row and its column.

    similarity = product * (row scale + column scale) - (row shift + column shift), less `offset`.

    Parameters
    ----------
    products : int32 or float32 array, (query residues, target residues, LANES)
        Whole numbers.
    lengths : int64 array, (LANES,)
        Residues of each target.
    offset : float32
        What is taken off each similarity: unrelated residues must not add up.
    row_scale, row_shift : float32 arrays, (query residues, LANES)
    column_scale, column_shift : float32 arrays, (target residues, LANES)
        Filled.
    """
    [rows, columns, lanes] = products.shape
    sums = np.zeros((columns, lanes), np.float32)
    squares = np.zeros((columns, lanes), np.float32)
    row_sums = np.empty(lanes, np.float32)
    row_squares = np.empty(lanes, np.float32)
    for i in range(rows):
        row_sums[:] = 0
        row_squares[:] = 0
        for j in range(columns):
            for lane in range(lanes):
                value = np.float32(products[i, j, lane])
                row_sums[lane] += value
                row_squares[lane] += value * value
                sums[j, lane] += value
                squares[j, lane] += value * value
        for lane in range(lanes):
            length = np.float32(max(lengths[lane], 1))
            mean = row_sums[lane] / length
            row_scale[i, lane] = half_over_deviation(row_squares[lane] / length, mean)
            row_shift[i, lane] = mean * row_scale[i, lane]
    for j in range(columns):
        for lane in range(lanes):
            mean = sums[j, lane] / np.float32(rows)
            column_scale[j, lane] = half_over_deviation(squares[j, lane] / np.float32(rows), mean)
            padded = j >= lengths[lane]
            column_shift[j, lane] = NEVER if padded else mean * column_scale[j, lane] + offset


@compiled
def best_scores(
    products: Products,
    row_scale: Floats,
    row_shift: Floats,
    column_scale: Floats,
    column_shift: Floats,
    opening: np.float32,
    extension: np.float32,
    best: Floats,
) -> None:
    """Fill the score of the best local alignment with each target into `best`, (LANES,).

    A gap of n residues costs `opening` + (n - 1) * `extension`.
    """
    [rows, columns, lanes] = products.shape
    ending = np.zeros((columns, lanes), np.float32)  # best score of an alignment that ends in (row before, j)
    upward = np.full((columns, lanes), -NEVER, np.float32)  # of one that ends there in a gap of the target
    leftward = np.empty(lanes, np.float32)  # of one that ends in (i, j - 1) in a gap of the query
    diagonal = np.empty(lanes, np.float32)
    best[:] = 0
    for i in range(rows):
        leftward[:] = -NEVER
        diagonal[:] = 0
        for j in range(columns):
            for lane in range(lanes):
                scale = row_scale[i, lane] + column_scale[j, lane]
                similarity = np.float32(products[i, j, lane]) * scale - (row_shift[i, lane] + column_shift[j, lane])
                score = max(diagonal[lane] + similarity, leftward[lane])
                score = max(score, upward[j, lane])
                score = max(score, np.float32(0))
                diagonal[lane] = ending[j, lane]
                ending[j, lane] = score
                best[lane] = max(best[lane], score)
                leftward[lane] = max(leftward[lane] - extension, score - opening)
                upward[j, lane] = max(upward[j, lane] - extension, score - opening)


@compiled
def trace(
    similarities: Floats, opening: np.float32, extension: np.float32
) -> tuple[np.float32, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the score of the best local alignment and its aligned pairs of residues, 0-based, in order."""
    [rows, columns] = similarities.shape
    ending = np.zeros((rows + 1, columns + 1), np.float32)
    upward = np.full((rows + 1, columns + 1), -NEVER, np.float32)
    leftward = np.full((rows + 1, columns + 1), -NEVER, np.float32)
    best = np.float32(0)
    end = (0, 0)
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            upward[i, j] = max(upward[i - 1, j] - extension, ending[i - 1, j] - opening)
            leftward[i, j] = max(leftward[i, j - 1] - extension, ending[i, j - 1] - opening)
            score = max(ending[i - 1, j - 1] + similarities[i - 1, j - 1], np.float32(0))
            score = max(score, max(upward[i, j], leftward[i, j]))
            ending[i, j] = score
            if score > best:
                best = score
                end = (i, j)
    pairs = np.empty((min(rows, columns), 2), np.int64)
    count = 0
    i, j = end
    state = DIAGONAL
    while i > 0 and j > 0 and (state != DIAGONAL or ending[i, j] > 0):
        if state == UP:
            state = DIAGONAL if upward[i, j] == ending[i - 1, j] - opening else UP
            i -= 1
        elif state == LEFT:
            state = DIAGONAL if leftward[i, j] == ending[i, j - 1] - opening else LEFT
            j -= 1
        elif ending[i, j] == upward[i, j]:
            state = UP
        elif ending[i, j] == leftward[i, j]:
            state = LEFT
        else:
            i -= 1
            j -= 1
            pairs[count, 0] = i
            pairs[count, 1] = j
            count += 1
    found = pairs[:count][::-1]
    return best, found[:, 0].copy(), found[:, 1].copy()
