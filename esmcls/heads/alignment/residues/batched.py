"""The same scores as the compiled kernel's, of many pairs at once by tensor operations: for devices that want such.

All pairs of a batch are padded to one size, and the cells of all of them are filled one antidiagonal after another:

    antidiagonal d    cells (i, d - i) of each pair: none needs another of its own
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.heads.alignment.residues.reduction import Codes
from esmcls.heads.alignment.residues.scoring import Scheme
from esmcls.heads.alignment.residues.store import Residues
from esmcls.types import Indices

FLAT = 1e-5
"""Share of the mean square of a row or column below which its variance counts as none."""
NEVER = 1e9
"""What is taken off the similarity of a padded residue."""
CELLS = 1 << 28
"""Of the matrices of a batch: 1 GiB."""


def batched_scores(
    queries: Sequence[Codes], targets: Residues, rows: Indices, scheme: Scheme, device: str
) -> npt.NDArray[np.float32]:
    """Return the score of the best local alignment of each protein with each of its targets, float32 (n, k).

    Parameters
    ----------
    queries : sequence of int8 arrays, (residues, components)
    targets : Residues
    rows : int64 array, (n, k)
        Of `targets`.
    scheme : Scheme
    device : str
    """
    [n, k] = rows.shape
    owners = np.repeat(np.arange(n), k)
    lengths = np.array([len(codes) for codes in queries], dtype=np.int64)
    sizes = np.stack([lengths[owners], targets.lengths[rows.ravel()]], axis=1)  # (pairs, 2)
    best = np.zeros(n * k, dtype=np.float32)
    order = np.argsort(sizes.prod(axis=1), kind="stable")  # alike sizes together: little is padded
    start = 0
    while start < len(order):
        widest = np.maximum.accumulate(sizes[order[start:]], axis=0).prod(axis=1)
        fitting = int(np.searchsorted(widest * np.arange(1, len(widest) + 1), CELLS, side="right"))
        pairs = order[start : start + max(fitting, 1)]
        of_query = _padded([queries[owner] for owner in owners[pairs].tolist()], device)
        of_target = _padded([targets.of(row) for row in rows.ravel()[pairs].tolist()], device)
        best[pairs] = _best(_similarities(*of_query, *of_target, scheme.offset), scheme).cpu().numpy()
        start += len(pairs)
    return best.reshape(n, k)


def _padded(codes: Sequence[Codes], device: str) -> tuple[Tensor, Tensor]:
    """Return codes as float32 (proteins, residues, components), 0 where there is none, and how many there are."""
    lengths = torch.tensor([len(protein) for protein in codes])
    out = torch.zeros(len(codes), max(1, int(lengths.max())), codes[0].shape[1])
    for row, protein in enumerate(codes):
        out[row, : len(protein)] = torch.from_numpy(np.ascontiguousarray(protein))
    return out.to(device), lengths.to(device)


def _similarities(
    query: Tensor, query_lengths: Tensor, target: Tensor, target_lengths: Tensor, offset: float
) -> Tensor:
    """Return similarities of residues, float32 (pairs, query residues, target residues); -NEVER where one is padded."""
    products = query @ target.transpose(1, 2)  # whole numbers below 2^24: exact
    total = torch.zeros_like(products)
    for axis, lengths in ((2, target_lengths), (1, query_lengths)):
        count = lengths.clamp(min=1)[:, None, None]
        mean = products.sum(axis, keepdim=True) / count
        square = products.square().sum(axis, keepdim=True) / count
        variance = square - mean.square()
        spread = variance > FLAT * square
        total += torch.where(spread, (products - mean) * variance.clamp(min=1e-30).rsqrt(), 0.0)
    there = torch.arange(query.shape[1], device=query.device)[None, :, None] < query_lengths[:, None, None]
    there = there & (torch.arange(target.shape[1], device=query.device)[None, None] < target_lengths[:, None, None])
    return torch.where(there, total / 2 - offset, -NEVER)


def _best(similarities: Tensor, scheme: Scheme) -> Tensor:
    """Return the score of the best local alignment in each matrix, (pairs,).

    What lies outside of a matrix or is padded takes part, as 0 at best: it ends alignments, and begins none.
    """
    [pairs, rows, columns] = similarities.shape
    padded = F.pad(similarities, (0, rows), value=-NEVER).flatten(1)
    skewed = padded[:, :-rows].view(pairs, rows, rows + columns - 1)  # (i, d): cell (i, d - i)
    before = similarities.new_zeros(pairs, rows + 1)  # scores of the antidiagonal before, from row -1 on
    twice_before = torch.zeros_like(before)
    leftward = similarities.new_full((pairs, rows), -NEVER)
    upward = similarities.new_full((pairs, rows + 1), -NEVER)
    best = similarities.new_zeros(pairs)
    for step in range(rows + columns - 1):
        leftward = torch.maximum(leftward - scheme.extension, before[:, 1:] - scheme.opening)
        from_above = torch.maximum(upward[:, :-1] - scheme.extension, before[:, :-1] - scheme.opening)
        score = (twice_before[:, :-1] + skewed[:, :, step]).maximum(leftward).maximum(from_above).clamp(min=0)
        best = torch.maximum(best, score.amax(1))
        upward = F.pad(from_above, (1, 0), value=-NEVER)
        twice_before = before
        before = F.pad(score, (1, 0))
    return best
