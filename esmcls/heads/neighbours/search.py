"""Exact nearest-neighbour search over a fixed base: FAISS, or matrix products with exact re-scoring.

The second way is several times faster where the hardware multiplies eight-bit integers (AVX512-VNNI, AMX): products of
rounded vectors bound the scores of groups of rows, and every row that may belong to the answer is scored in float32. A
query that this would leave too many rows is compared with all of them in float32, as a CUDA device does at once. Where
faiss-gpu is installed instead of faiss-cpu, a CUDA device has FAISS's own index.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import faiss
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmcls.errors import ModelError
from esmcls.heads.neighbours.int8_bounds import LANES, Bounds, Metric, addend, has_int8_units
from esmcls.heads.saved_tensors import AGAIN
from esmcls.types import Indices

_HEAD: Final = struct.Struct("<4siqqqbiQ")
"""Of a flat index's file: kind, width, rows, two fillers, whether it is trained, metric, numbers (index_write.cpp)."""
_KINDS: Final[dict[Metric, tuple[bytes, int]]] = {"cosine": (b"IxFI", 0), "l2": (b"IxF2", 1)}
Engine = Literal["auto", "faiss", "torch"]
Nearest: TypeAlias = tuple[npt.NDArray[np.float32], Indices]
"""Scores and row numbers of the nearest rows, best first, (queries, k)."""
LARGE = 50_000
"""Rows of base from which the matrix products win on a CPU with eight-bit units."""
FEW = 512
"""Queries that are not worth making bounds for: that costs about as much as comparing so many with all rows."""
QUERIES = 1024
"""Queries that are searched at a time."""
ROWS = 1 << 16
"""Base rows that are compared at a time in float32."""
SPARE, MOST_SPARE = 16, 1024
"""Rows beyond the asked for that are scored exactly after a float32 product: at first, and where many are equal."""
SCORED = 1024
"""Rows that are fetched for exact scores at a time."""
MOST = 1024
"""Groups to score for one query, above which comparing it with all rows is cheaper."""
MOST_OF_GPU = 2048
"""Nearest rows that FAISS's index on a GPU can find (faiss/gpu/utils/DeviceDefs.cuh)."""


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
        self._gpu: _OnGPU | None = None

    @classmethod
    def empty(cls, width: int, metric: Metric, engine: Engine = "auto", device: str = "cpu") -> Search:
        """Return an index without rows."""
        return cls(faiss.IndexFlatIP(width) if metric == "cosine" else faiss.IndexFlatL2(width), metric, engine, device)

    def add(self, block: Tensor) -> None:
        """Append float32 rows (n, width)."""
        self.index.add(np.ascontiguousarray(block.cpu().numpy()))
        self._base = self._gpu = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.index.ntotal)

    def __call__(self, queries: Tensor, k: int) -> Nearest:
        """Return scores and row numbers of the k nearest, best first: both (n, min(k, rows))."""
        k = min(k, len(self))
        if not len(queries) or not k:
            return np.zeros((len(queries), k), dtype=np.float32), np.zeros((len(queries), k), dtype=np.int64)
        return self._with_torch(queries, k) if self._use_torch(k) else self._with_faiss(queries, k)

    def _use_torch(self, k: int = 1) -> bool:
        if self.engine != "auto":
            return self.engine == "torch"
        if self.device != "cpu":
            return gpu_of_faiss(self.device) is None or k > MOST_OF_GPU
        return len(self) >= LARGE and has_int8_units()

    def _with_faiss(self, queries: Tensor, k: int) -> Nearest:
        index, gpu = self.index, gpu_of_faiss(self.device)
        if gpu is not None and k <= MOST_OF_GPU:
            self._gpu = self._gpu or _OnGPU(self.index, gpu)
            index = self._gpu.index
        scores, rows = index.search(np.ascontiguousarray(queries.cpu().numpy()), k)
        return (scores if self.metric == "cosine" else -0.5 * scores), rows.astype(np.int64)

    def _with_torch(self, queries: Tensor, k: int) -> Nearest:
        if self._base is None:
            self._base = _Base(self.rows(), self.metric, self.device)
        self._base.prepare(len(queries))
        parts = [self._base.search(block.to(self.device), k) for block in torch.split(queries, QUERIES)]
        scores, rows = (np.concatenate(part) for part in zip(*parts, strict=True))
        return scores, rows

    def rows(self) -> npt.NDArray[np.float32]:
        """Return the index's rows (n, width): a view of its memory, not a copy."""
        flat = faiss.rev_swig_ptr(self.index.get_xb(), len(self) * self.index.d)
        return np.asarray(flat, dtype=np.float32).reshape(len(self), self.index.d)

    def save(self, path: Path) -> None:
        """Write FAISS's own file."""
        faiss.write_index(self.index, str(path))

    @classmethod
    def load(
        cls, path: Path, metric: Metric, engine: Engine = "auto", device: str = "cpu", width: int | None = None
    ) -> Search:
        """Read what `save` wrote, rows of so many numbers: FAISS itself reads nothing that was not checked.

        Raises
        ------
        ModelError
            If the file is no flat index of this metric, or not as long as it says, or a row is not finite.
        """
        rows = _rows_of(path, metric, width)
        search = cls.empty(rows.shape[1], metric, engine, device)
        for start in range(0, len(rows), ROWS):
            block = np.array(rows[start : start + ROWS], dtype=np.float32)
            if not np.isfinite(block).all():
                raise ModelError(path, "a row with NaN or infinity", AGAIN)
            search.index.add(block)
        return search


def gpu_of_faiss(device: str) -> int | None:
    """Return the number of the GPU that FAISS reports for a device; None where it is faiss-cpu, or finds no driver.

    Examples
    --------
    >>> gpu_of_faiss("cpu") is None
    True
    """
    kind, _, number = device.partition(":")
    gpu = int(number or 0)
    return gpu if kind == "cuda" and gpu < faiss.get_num_gpus() else None


class _OnGPU:
    """A copy of an index in the memory of a GPU, and what it needs there for as long as it lives."""

    def __init__(self, index: Any, gpu: int) -> None:
        self.resources = faiss.StandardGpuResources()
        self.index = faiss.index_cpu_to_gpu(self.resources, gpu, index)


def _rows_of(path: Path, metric: Metric, width: int | None) -> npt.NDArray[np.float32]:
    """Return the rows of the file of a flat index, mapped: its head is of one size, and says that of all."""
    size = path.stat().st_size
    with open(path, "rb") as handle:
        head = handle.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise ModelError(path, f"cut off after {size} bytes", AGAIN)
    kind, columns, rows, _, _, trained, number, values = _HEAD.unpack(head)
    if (kind, number, trained) != (*_KINDS[metric], 1):
        raise ModelError(path, f"no flat index of FAISS for {metric}", AGAIN)
    if not 0 < columns == (width or columns) or rows < 0 or values != rows * columns:
        raise ModelError(path, f"an index of {rows} rows of {columns} numbers that holds {values}", AGAIN)
    if size != _HEAD.size + 4 * values:
        raise ModelError(path, f"{size:,} bytes instead of {_HEAD.size + 4 * values:,}", AGAIN)
    if not rows:
        return np.zeros((0, columns), dtype=np.float32)
    return np.memmap(path, dtype="<f4", mode="r", offset=_HEAD.size, shape=(rows, columns))


class _Base:
    """The rows on the device, with bounds of their scores once these are worth making."""

    def __init__(self, rows: npt.NDArray[np.float32], metric: Metric, device: str) -> None:
        self.exact = torch.from_numpy(rows).to(device)
        self.metric = metric
        self.norms = torch.cat([block.norm(dim=1) for block in torch.split(self.exact, ROWS)])
        self.few = FEW if device == "cpu" and has_int8_units() else None
        self.bounds: Bounds | None = None

    def prepare(self, queries: int) -> None:
        """Make bounds if so many queries more are worth them."""
        if self.few is not None and self.bounds is None:
            self.few -= queries
            self.bounds = Bounds(self.exact, self.norms, self.metric) if self.few < 0 else None

    def search(self, queries: Tensor, k: int) -> Nearest:
        """Return scores and rows of the k nearest of float32 queries (q, width), the lower row first of equals."""
        return self._exhaustive(queries, k) if self.bounds is None else self._pruned(self.bounds, queries, k)

    def _pruned(self, bounds: Bounds, queries: Tensor, k: int) -> Nearest:
        """Score the groups of the highest bounds, then all that may hold a row as good as the k-th of those."""
        limits, unit = bounds(queries)  # (groups, q)
        leading = _leading(limits, k)
        [n, m] = leading.shape
        owners = torch.arange(n).repeat_interleave(m)
        rows = bounds.groups[leading.flatten()]  # (q m, rows of a group)
        scores = self._score(queries, owners, rows)
        least = scores.view(n, -1).topk(k).values[:, -1]
        more, groups = _promising(limits.scatter_(0, leading.T, -torch.inf), least / unit)
        crowded = torch.bincount(more, minlength=n) > MOST
        bearable = ~crowded[more]
        more, groups = more[bearable], groups[bearable]
        owners = torch.cat((owners, more))
        rows = torch.cat((rows, bounds.groups[groups]))
        scores = torch.cat((scores, self._score(queries, more, bounds.groups[groups])))
        good = scores >= least[owners][:, None]
        best = _ranked(owners[:, None].expand_as(rows)[good], scores[good], rows[good], k)
        if crowded.any():
            best[0][crowded.numpy()], best[1][crowded.numpy()] = self._exhaustive(queries[crowded], k)
        return best

    def _exhaustive(self, queries: Tensor, k: int, spare: int = SPARE) -> Nearest:
        """Multiply with every row in float32 and score more than k of the best; yet more where rounding asks for it."""
        limits, rows = self._products(queries, min(k + spare, len(self.exact)))  # (q, k + spare)
        [n, m] = rows.shape
        owners = torch.arange(n, device=rows.device).repeat_interleave(m)
        scores = self._score(queries, owners, rows.view(-1, 1))
        best = _ranked(owners, scores[:, 0], rows.flatten(), k)
        unsure = limits[:, -1].cpu().numpy() >= best[0][:, -1]
        if m < len(self.exact) and spare < MOST_SPARE and unsure.any():
            again = self._exhaustive(queries[torch.from_numpy(unsure).to(queries.device)], k, 8 * spare)
            best[0][unsure], best[1][unsure] = again
        return best

    def _products(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k largest bounds from float32 products and their rows, both (q, k)."""
        [n, width] = queries.shape
        values = torch.empty(n, 0, device=queries.device)
        places = torch.empty(n, 0, device=queries.device, dtype=torch.int64)
        for start in range(0, len(self.exact), ROWS):
            part = slice(start, start + ROWS)
            products = (queries @ self.exact[part].T).add_(addend(self.norms[part], width, self.metric))
            best, rows = products.topk(min(k, products.shape[1]))
            values, order = torch.cat((values, best), 1).topk(min(k, values.shape[1] + best.shape[1]))
            places = torch.cat((places, rows + start), 1).gather(1, order)
        return values + addend(queries.norm(dim=1), width, self.metric)[:, None], places

    def _score(self, queries: Tensor, owners: Tensor, rows: Tensor) -> Tensor:
        """Return the scores of rows (p, any) with the queries that own them (p,), -inf for row -1.

        The bits of a score depend on its query and row alone: equal rows are equally near whatever else is asked.
        """
        size = max(1, SCORED // rows.shape[1])
        parts = [torch.empty(0, rows.shape[1], device=queries.device)]
        for owner, row in zip(torch.split(owners, size), torch.split(rows, size), strict=True):
            query = queries[owner][:, None]
            block = self.exact.index_select(0, row.flatten().clamp(min=0)).view(*row.shape, queries.shape[1])
            scores = (
                block.mul_(query).sum(2) if self.metric == "cosine" else block.sub_(query).square_().sum(2).mul_(-0.5)
            )
            parts.append(scores.masked_fill_(row < 0, -torch.inf))
        return torch.cat(parts)


def _leading(limits: Tensor, k: int) -> Tensor:
    """Return k different groups (q, k) of high bounds (or all, if fewer): the best of each of the best LANES-tuples."""
    [groups, n] = limits.shape
    if groups < LANES * k:
        return limits.T.topk(min(k, groups)).indices
    lanes = limits.view(LANES, -1, n)
    places = lanes.amax(0).T.contiguous().topk(k).indices  # (q, k)
    lane = lanes[:, places, torch.arange(n)[:, None]].argmax(0)
    return lane * lanes.shape[1] + places


def _promising(limits: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Return queries (p,) and groups (p,) whose bound is not below `least` (q,)."""
    lanes = limits.view(LANES, -1, len(least))
    place, query = (lanes.amax(0) >= least).nonzero(as_tuple=True)
    lane, chosen = (lanes[:, place, query] >= least[query]).nonzero(as_tuple=True)
    return query[chosen], lane * lanes.shape[1] + place[chosen]


def _ranked(owners: Tensor, scores: Tensor, rows: Tensor, k: int) -> Nearest:
    """Return the k best of each query, (queries, k), from flat lists in which each has at least k."""
    who, value, row = (part.cpu().numpy() for part in (owners, scores, rows))
    order = np.lexsort((row, -value, who))
    _, first = np.unique(who[order], return_index=True)
    best = order[first[:, None] + np.arange(k)]
    return value[best], row[best]
