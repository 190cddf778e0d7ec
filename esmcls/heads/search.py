"""Exact nearest-neighbour search over a fixed base: FAISS, or bfloat16 matrix products with exact re-scoring.

The second way is several times faster where the hardware multiplies bfloat16 (CUDA, AVX512-BF16). It keeps more
candidates than asked for, scores them again in float32 and proves from the rounding errors of query and base that no
other row can belong to the answer; a query without that proof is searched again in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmcls.types import Indices

Engine = Literal["auto", "faiss", "torch"]
Metric = Literal["cosine", "l2"]
LARGE = 50_000
"""Rows of base from which the matrix products win on a CPU with bfloat16 units."""
QUERIES, ROWS = 1024, 1 << 16
"""Queries and base rows that are compared at a time: 256 MiB of float32 scores."""
ROUNDOFF = 2.0**-8
"""Half the spacing of bfloat16 numbers just above 1."""


class Search:
    """An exact index of rows, which are unit vectors for "cosine".

    Scores are the inner product ("cosine") or minus half the squared Euclidean distance ("l2"): higher is nearer, and
    for unit vectors the two order alike.

    Examples
    --------
    >>> search = Search(faiss.IndexFlatL2(2), "l2")
    >>> search.add(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    >>> scores, rows = search(torch.tensor([[0.0, 1.0]]), k=2)
    >>> scores.tolist(), rows.tolist()
    ([[-0.5, -9.0]], [[0, 1]])
    """

    def __init__(self, index: Any, metric: Metric, engine: Engine = "auto", device: str = "cpu") -> None:
        self.index, self.metric, self.engine, self.device = index, metric, engine, device
        self._base: _Base | None = None

    @classmethod
    def empty(cls, width: int, metric: Metric, engine: Engine = "auto", device: str = "cpu") -> Search:
        """Return an index without rows."""
        return cls(faiss.IndexFlatIP(width) if metric == "cosine" else faiss.IndexFlatL2(width), metric, engine, device)

    def add(self, block: Tensor) -> None:
        """Append float32 rows (n, width)."""
        self.index.add(np.ascontiguousarray(block.cpu().numpy()))
        self._base = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.index.ntotal)

    def __call__(self, queries: Tensor, k: int) -> tuple[npt.NDArray[np.float32], Indices]:
        """Return scores and row numbers of the k nearest, best first: both (n, min(k, rows))."""
        k = min(k, len(self))
        if not len(queries) or not k:
            return np.zeros((len(queries), k), dtype=np.float32), np.zeros((len(queries), k), dtype=np.int64)
        return self._with_torch(queries, k) if self._use_torch() else self._with_faiss(queries, k)

    def _use_torch(self) -> bool:
        if self.engine != "auto":
            return self.engine == "torch"
        return self.device != "cpu" or (len(self) >= LARGE and has_bf16_units())

    def _with_faiss(self, queries: Tensor, k: int) -> tuple[npt.NDArray[np.float32], Indices]:
        found, rows = self.index.search(np.ascontiguousarray(queries.cpu().numpy()), k)
        return (found if self.metric == "cosine" else -0.5 * found), rows.astype(np.int64)

    def _with_torch(self, queries: Tensor, k: int) -> tuple[npt.NDArray[np.float32], Indices]:
        if self._base is None:
            self._base = _Base(self.rows(), self.metric, self.device)
        parts = [self._base.search(block.to(self.device), k) for block in torch.split(queries, QUERIES)]
        scores, rows = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
        return scores, rows

    def rows(self) -> npt.NDArray[np.float32]:
        """Return the index's rows (n, width): a view of its memory, not a copy."""
        flat = faiss.rev_swig_ptr(self.index.get_xb(), len(self) * self.index.d)
        return np.asarray(flat, dtype=np.float32).reshape(len(self), self.index.d)

    def save(self, path: Path) -> None:
        """Write FAISS's own file."""
        faiss.write_index(self.index, str(path))

    @classmethod
    def load(cls, path: Path, metric: Metric, engine: Engine = "auto", device: str = "cpu") -> Search:
        """Read what `save` wrote."""
        return cls(faiss.read_index(str(path)), metric, engine, device)


def has_bf16_units() -> bool:
    """Return whether this CPU multiplies bfloat16 matrices faster than float32 ones (AVX512-BF16 or AMX)."""
    tests = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(test() for test in tests if test is not None)


class _Base:
    """The rows as bfloat16 on the device, and what bounds the error of a product with them."""

    def __init__(self, rows: npt.NDArray[np.float32], metric: Metric, device: str) -> None:
        self.exact = torch.from_numpy(rows).to(device)
        self.coarse = torch.empty_like(self.exact, dtype=torch.bfloat16)
        self.bias = torch.zeros(len(rows), device=device)  # -|x|² / 2 turns the inner product into an order by distance
        longest, residual = 0.0, 0.0
        for part in self._parts():
            block, self.coarse[part] = self.exact[part], self.exact[part].bfloat16()
            longest = max(longest, float(block.norm(dim=1).max()))
            residual = max(residual, float((block - self.coarse[part].float()).norm(dim=1).max()))
            if metric == "l2":
                self.bias[part] = -0.5 * block.square().sum(1)
        self.longest, self.residual, self.metric = longest, residual, metric

    def _parts(self) -> Iterator[slice]:
        return (slice(start, start + ROWS) for start in range(0, len(self.exact), ROWS))

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return scores and rows of the k nearest of float32 queries (q, width)."""
        coarse = queries.bfloat16()
        found, rows = self._best(lambda part: (coarse @ self.coarse[part].T).float(), 4 * k + 32)
        scores, order = self._rescore(queries, rows).topk(k)
        rows_best = rows.gather(1, order)
        # |q·x - q'·x'| <= |q - q'| |x| + |q'| |x - x'|, then the product itself is rounded
        slack = (queries - coarse.float()).norm(dim=1) * self.longest + coarse.float().norm(dim=1) * self.residual
        slack = 1.02 * (slack + ROUNDOFF * queries.norm(dim=1) * self.longest)
        shift = 0.5 * queries.square().sum(1) if self.metric == "l2" else 0.0
        unproved = (scores[:, -1] + shift < found[:, -1] + slack) & (found.shape[1] < len(self.exact))
        if unproved.any():
            scores[unproved], rows_best[unproved] = self._exact(queries[unproved], k)
        return scores, rows_best

    def _exact(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        _, rows = self._best(lambda part: queries @ self.exact[part].T, k)
        scores, order = self._rescore(queries, rows).sort(dim=1, descending=True, stable=True)
        return scores, rows.gather(1, order)

    def _best(self, product: Any, k: int) -> tuple[Tensor, Tensor]:
        """Return the k best biased products and their rows, merged over parts of the base."""
        best: tuple[Tensor, Tensor] | None = None
        for part in self._parts():
            scores = product(part) + self.bias[part]
            values, places = scores.topk(min(k, scores.shape[1]))
            places = places + part.start
            if best is not None:
                values, places = torch.cat((best[0], values), 1), torch.cat((best[1], places), 1)
                values, order = values.topk(min(k, values.shape[1]))
                places = places.gather(1, order)
            best = values, places
        assert best is not None  # the base has rows
        return best

    def _rescore(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Return the exact scores of candidates, (q, candidates), some queries at a time."""
        parts = []
        for query, row in zip(torch.split(queries, 64), torch.split(rows, 64), strict=True):
            candidates = self.exact[row]  # (q, candidates, width)
            if self.metric == "cosine":
                parts.append((candidates @ query[:, :, None]).squeeze(2))
            else:
                parts.append(-0.5 * (candidates - query[:, None]).square().sum(2))
        return torch.cat(parts)
