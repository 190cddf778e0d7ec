"""Scores of the best local alignments of one protein with several, from their reduced residues.

Products of codes are whole numbers, exact in int32 as in float32: which of both the processor multiplies faster decides
nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from esmcls.encoders.devices import multiplies_int8_exactly
from esmcls.heads.alignment.residues.reduction import Codes
from esmcls.heads.alignment.residues.store import Residues
from esmcls.types import Indices

if TYPE_CHECKING:
    from esmcls.heads.alignment.residues.kernel import Products

N = TypeVar("N", bound=np.generic)


@dataclass(frozen=True)
class Scheme:
    """What a local alignment scores.

    Parameters
    ----------
    offset : float
        Taken off the similarity of each pair of residues, which is a mean of two standard scores.
    opening, extension : float
        Cost of the first residue of a gap, and of each further one.
    """

    offset: float = 1.0
    opening: float = 2.0
    extension: float = 0.5


@dataclass(frozen=True, eq=False)
class Alignment:
    """The best local alignment of a query with a target.

    Parameters
    ----------
    score : float
    query, target : int64 arrays, (pairs,)
        Residues that are aligned, 0-based, in order.
    gains : float32 array, (pairs,)
        The similarity of each pair; gap costs apart, they add up to the score.
    """

    score: float
    query: Indices
    target: Indices
    gains: npt.NDArray[np.float32]


class Scratch:
    """Arrays that are filled again and again: fresh memory costs more than the products that go there.

    One a thread.

    Examples
    --------
    >>> scratch = Scratch()
    >>> first = scratch.array("products", (2, 3), np.int32)
    >>> np.shares_memory(first, scratch.array("products", (3, 1), np.int32))
    True
    """

    def __init__(self) -> None:
        self._arrays: dict[str, npt.NDArray[np.generic]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type[N]) -> npt.NDArray[N]:
        """Return an array of any content, which the next call of this name and type takes back."""
        size = int(np.prod(shape))
        key = f"{name} {np.dtype(dtype)}"
        if key not in self._arrays or self._arrays[key].size < size:
            self._arrays[key] = np.empty(size, dtype=dtype)
        return np.asarray(self._arrays[key][:size].reshape(shape), dtype=dtype)


def _products(query: Codes, targets: Codes, scratch: Scratch) -> Products:
    """Return products of whole numbers, (query residues, target residues): int32, or float32 where that is faster."""
    one = torch.from_numpy(query)
    other = torch.from_numpy(targets)
    shape = (len(query), len(targets))
    if multiplies_int8_exactly():
        integers = scratch.array("products", shape, np.int32)
        torch._int_mm(one, other.T, out=torch.from_numpy(integers))
        return integers
    floats = scratch.array("products", shape, np.float32)
    numbers = torch.from_numpy(scratch.array("targets", targets.shape, np.float32))
    torch.mm(one.float(), numbers.copy_(other).T, out=torch.from_numpy(floats))
    return floats


def scores(
    query: Codes, targets: Residues, rows: Indices, scheme: Scheme, scratch: Scratch | None = None
) -> npt.NDArray[np.float32]:
    """Return the score of the best local alignment of a protein with each of some targets.

    Parameters
    ----------
    query : int8 array, (residues, components)
    targets : Residues
    rows : int64 array, (n,)
        Of `targets`.
    scheme : Scheme
    scratch : Scratch, optional
        This thread's, where many proteins are asked about.

    Returns
    -------
    float32 array, (n,)
        At least 0.
    """
    from esmcls.heads.alignment.residues import kernel  # numba takes a second to import, and is needed here alone

    best = np.zeros(len(rows), dtype=np.float32)
    if not len(query):
        return best
    scratch = scratch or Scratch()
    order = np.argsort(-targets.lengths[rows], kind="stable")  # alike lengths together; a block that is not full: short
    for start in range(0, len(rows), kernel.LANES):
        places = order[start : start + kernel.LANES]
        lengths = np.zeros(kernel.LANES, dtype=np.int64)
        lengths[: len(places)] = targets.lengths[rows[places]]
        block = _score_lanes(query, targets.codes, targets.starts[rows[places]], lengths, scheme, scratch)
        best[places] = block[: len(places)]
    return best


def _score_lanes(
    query: Codes, codes: Codes, starts: Indices, lengths: Indices, scheme: Scheme, scratch: Scratch
) -> npt.NDArray[np.float32]:
    """Return the scores of at most LANES targets, (LANES,)."""
    from esmcls.heads.alignment.residues import kernel

    columns = max(int(lengths.max()), 1)
    lanes = kernel.LANES
    woven = scratch.array("woven", (columns * lanes, codes.shape[1]), np.int8)
    kernel.interleave(codes, starts, lengths, woven)
    products = _products(query, woven, scratch).reshape(len(query), columns, lanes)
    row_scale = np.empty((len(query), lanes), dtype=np.float32)
    row_shift = np.empty_like(row_scale)
    column_scale = np.empty((columns, lanes), dtype=np.float32)
    column_shift = np.empty_like(column_scale)
    best = np.empty(lanes, dtype=np.float32)
    standards = (row_scale, row_shift, column_scale, column_shift)
    kernel.standardise(products, lengths, np.float32(scheme.offset), *standards)
    kernel.best_scores(products, *standards, np.float32(scheme.opening), np.float32(scheme.extension), best)
    return best


def similarities(query: Codes, target: Codes, offset: float) -> npt.NDArray[np.float32]:
    """Return the similarity of each pair of residues, (query residues, target residues).

    The mean of two standard scores of a product, in its row and in its column, less the offset.

    Examples
    --------
    >>> codes = np.array([[127, 0], [0, 127]], dtype=np.int8)
    >>> similarities(codes, codes, offset=0.5).tolist()
    [[0.5, -1.5], [-1.5, 0.5]]
    """
    from esmcls.heads.alignment.residues.kernel import FLAT

    products = _products(query, target, Scratch()).astype(np.float32)
    total = np.zeros_like(products)
    for axis in (0, 1):
        mean = products.mean(axis, keepdims=True)
        square = np.square(products).mean(axis, keepdims=True)
        variance = square - mean * mean
        spread = variance > FLAT * square
        total += np.where(spread, (products - mean) / np.sqrt(np.where(spread, variance, 1)), 0)
    return np.asarray(total / 2 - np.float32(offset), dtype=np.float32)


def align(query: Codes, target: Codes, scheme: Scheme) -> Alignment:
    """Return the best local alignment of two proteins."""
    from esmcls.heads.alignment.residues import kernel

    similar = similarities(query, target, scheme.offset)
    score, of_query, of_target = kernel.trace(similar, np.float32(scheme.opening), np.float32(scheme.extension))
    return Alignment(float(score), of_query, of_target, similar[of_query, of_target])


def align_apart(query: Codes, target: Codes, scheme: Scheme, least: float, most: int) -> list[Alignment]:
    """Return local alignments of two proteins that share no residue of the query, the best first.

    Parameters
    ----------
    query, target : int8 arrays, (residues, components)
    scheme : Scheme
    least : float
        Each has this score or more.
    most : int
        As many as these.
    """
    from esmcls.heads.alignment.residues import kernel

    similar = similarities(query, target, scheme.offset)
    alignments: list[Alignment] = []
    while len(alignments) < most:
        score, of_query, of_target = kernel.trace(similar, np.float32(scheme.opening), np.float32(scheme.extension))
        if not len(of_query) or score < least:
            break
        alignments.append(Alignment(float(score), of_query, of_target, similar[of_query, of_target]))
        similar[of_query[0] : of_query[-1] + 1] = -kernel.NEVER
    return alignments
