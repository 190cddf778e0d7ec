"""Upper bounds of scores: what no row of a group of rows can exceed, so that few rows need an exact score.

A product of vectors that were rounded to eight bits costs a quarter of one in float32. How far it can be off follows
from what the rounding took away, q·x - q'·x' = (q - q')·x + q'·(x - x'), by the inequality of Cauchy and Schwarz.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.encoders.devices import multiplies_int8_exactly

Metric = Literal["cosine", "l2"]
GROUP_ROWS = 8
LARGE_GROUP_ROWS = 16
"""Rows that share a bound, in a small and a large base: fewer cost more bounds, more cost more exact scores."""
LARGE_BASE = 150_000
"""Rows of a large base."""
LANES = 16
"""The number of groups is a multiple of this; the last ones may be empty."""
MULTIPLIED_ROWS = 2048
"""Rows that are multiplied at a time: with 1,024 queries, 8 MiB of products that stay in the processor's cache."""
LEVELS = 127
"""Of eight bits, on either side of zero."""
TINY = 1e-20
"""A range of values that is small enough to be rounded to zero."""
ROUNDOFF = 2.0**-23
"""Of float32 sums, relative and a dimension: the worst case. Turning rows adds, in practice, a hundredth of it."""


def has_int8_units() -> bool:
    """Return whether this CPU multiplies eight-bit matrices fast and exactly (AVX512-VNNI or AMX)."""
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    units = known.get("avx512_vnni") or known.get("amx_int8")
    return bool(units and multiplies_int8_exactly())  # oneDNN may be told to leave them alone


def addend(lengths: Tensor, width: int, metric: Metric) -> Tensor:
    """Return what a vector of each length adds to an inner product to make it a bound.

    For rows x and queries q, -|q - x|²/2 = q·x - |x|²/2 - |q|²/2, and float32 rounds a product and an exact score by at
    most c (|q| + |x|)² <= 2 c |q|² + 2 c |x|².
    """
    return (2 * width * ROUNDOFF - (0.5 if metric == "l2" else 0.0)) * lengths.square()


class Bounds:
    """Groups of rows and bounds of their scores.

    Rows are turned at random first: it changes no score and spreads over all columns what one might hold alone, so
    that rounding takes little away.

    Parameters
    ----------
    rows, norms : float32 tensors, (n, width) and (n,)
        Norms are the rows' lengths.
    metric : {"cosine", "l2"}
        A score is the inner product, or minus half the squared distance.

    Attributes
    ----------
    groups : int64 tensor, (groups, rows of one)
        Row numbers, -1 where there are no more; neighbours in number or, for "l2", in length.

    Examples
    --------
    >>> bounds = Bounds(torch.eye(2), torch.ones(2), "cosine")
    >>> limits, unit = bounds(torch.tensor([[0.6, 0.8]]))
    >>> bounds.groups[0, :3].tolist(), limits.shape, bool(0.8 <= limits[0, 0] * unit[0] < 0.83)
    ([0, 1, -1], torch.Size([16, 1]), True)
    """

    def __init__(self, rows: Tensor, norms: Tensor, metric: Metric) -> None:
        [n, width] = rows.shape
        self.kind = width, metric
        order = norms.argsort(stable=True) if metric == "l2" else torch.arange(n)
        self.size = LARGE_GROUP_ROWS if n >= LARGE_BASE else GROUP_ROWS
        self.groups = F.pad(order, (0, -n % (self.size * LANES)), value=-1).view(-1, self.size)
        random = torch.Generator().manual_seed(0)
        self.turn = torch.linalg.qr(torch.randn(width, width, generator=random)).Q
        self.coarse = torch.empty(self.groups.numel(), width, dtype=torch.int8)
        self.scale = torch.empty(len(self.groups), 1)
        self.terms = torch.ones(len(self.groups), 4)  # the largest length and loss by rounding of its rows, 1, addend
        self.out = torch.empty(len(self.groups), 0)
        for part in self._parts():
            self._fill(part, rows)

    def _parts(self) -> Iterator[slice]:
        step = MULTIPLIED_ROWS // self.size
        return (slice(start, start + step) for start in range(0, len(self.groups), step))

    def _fill(self, part: slice, rows: Tensor) -> None:
        members = self.groups[part]
        empty = members < 0
        block = rows[members.clamp(min=0)].masked_fill_(empty[:, :, None], 0) @ self.turn  # (groups, size, width)
        levels, scale = _rounded(block.flatten(1))
        self.coarse[part.start * self.size : part.stop * self.size] = levels.view(-1, block.shape[2])
        norms = block.norm(dim=2)
        lost = (block - (levels * scale).view_as(block)).norm(dim=2)
        added = addend(norms, *self.kind).masked_fill_(empty, -torch.inf)
        self.scale[part] = scale
        self.terms[part, :2] = torch.stack((norms.amax(1), lost.amax(1)), 1)
        self.terms[part, 3] = added.amax(1)

    def __call__(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bounds for float32 queries (q, width) and the unit of each query's, float32 (groups, q) and (q,).

        The bound of an empty group is -inf. The next call overwrites the result.
        """
        turned = queries @ self.turn
        levels, unit = _rounded(turned)
        coarse = levels * unit
        columns = levels.to(torch.int8).T
        lost = (turned - coarse).norm(dim=1)
        facts = torch.stack((lost, coarse.norm(dim=1), addend(queries.norm(dim=1), *self.kind)))
        factors = torch.cat((facts, torch.ones(1, len(queries)))) / unit.T  # (4, q)
        if self.out.shape[1] != len(queries):
            self.out = torch.empty(len(self.groups), len(queries))
        for part in self._parts():
            products = torch._int_mm(self.coarse[part.start * self.size : part.stop * self.size], columns)
            best = products.view(-1, self.size, len(queries)).amax(1).float()
            torch.addcmul(self.terms[part] @ factors, best, self.scale[part], out=self.out[part])
        return self.out, unit[:, 0]


def _rounded(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return whole numbers from -LEVELS to LEVELS, as floats, and the scale of each row (n, 1): vectors / scale."""
    scale = vectors.abs().amax(1, keepdim=True).clamp(min=TINY) / LEVELS
    return (vectors / scale).round_(), scale
