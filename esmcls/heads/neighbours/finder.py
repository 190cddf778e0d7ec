"""The training rows and the search for the nearest of them, for whichever labels these have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmcls.errors import ModelError
from esmcls.heads.neighbours.int8_bounds import Metric
from esmcls.heads.neighbours.search import Engine, Search
from esmcls.heads.saved_tensors import AGAIN, check_codes, check_rows, read_tensors, write_state
from esmcls.heads.whitening import SHRINKAGES, Whitening, WithinClass, row_blocks
from esmcls.plain_values import read_as, write_json
from esmcls.types import Indices, Vectors

SHAPES = {"codes": ("int64", "rows"), "mean": ("float32", "width"), "matrix": ("float32", "width", "seen")}
"""Of the tensors beside an index."""
Nearness = npt.NDArray[np.float32]


def whitening_of(vectors: Vectors, within: WithinClass | None, shrinkage: float | None) -> Whitening:
    """Return the map that rows are compared after: without a covariance only their mean is subtracted."""
    if within is not None:
        return within(SHRINKAGES[1] if shrinkage is None else shrinkage)
    total = sum((block.double().sum(0) for _, block in row_blocks(vectors)), torch.zeros(()))
    return Whitening((total / len(vectors)).float(), torch.eye(vectors.shape[1]))


@dataclass(frozen=True, eq=False)
class Finder:
    """Training rows, whitened, in an index.

    Parameters
    ----------
    whitening : Whitening
    search : Search
        The training rows as `project` gives them.
    ids : list of str
        Of the training rows.
    device : str

    Examples
    --------
    >>> vectors = np.array([[1, 0], [0, 2], [-3, 1]], dtype=np.float32)
    >>> bare = Whitening(torch.zeros(2), torch.eye(2))
    >>> finder = Finder.of(vectors, ["a", "b", "c"], bare, "cosine", "faiss")
    >>> [(rows, nearest.tolist()) for rows, _, nearest in finder(vectors[:1] * 5, 2)]
    [(slice(0, 1, None), [[0, 1]])]
    """

    whitening: Whitening
    search: Search
    ids: list[str]
    device: str = "cpu"

    @classmethod
    def of(
        cls, vectors: Vectors, ids: list[str], whitening: Whitening, metric: Metric, engine: Engine, device: str = "cpu"
    ) -> Finder:
        """Put the training rows into an index."""
        search = Search.empty(whitening.matrix.shape[1], metric, engine, device)
        finder = cls(whitening, search, ids, device)
        for _, block in row_blocks(vectors, device):
            search.add(finder.project(block))
        return finder

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return len(self.whitening.mean)

    def project(self, block: Tensor) -> Tensor:
        """Return float32 rows (n, width) as they are compared: their cosine or distance a dimension is the nearness."""
        if self.search.metric == "cosine":
            return self.whitening.unit(block)
        return self.whitening(block) / math.sqrt(block.shape[1])

    def __call__(self, vectors: Vectors, k: int) -> Iterator[tuple[slice, Nearness, Indices]]:
        """Give slices of rows with nearness and training rows of the k nearest, both (rows, min(k, training rows))."""
        for rows, block in row_blocks(vectors, self.device):
            yield rows, *self.search(self.project(block), k)

    def whole(self, vectors: Vectors, k: int) -> tuple[Nearness, Indices]:
        """Return nearness and training rows of the k nearest of all rows, both (n, min(k, training rows))."""
        blocks = [(nearness, rows) for _, nearness, rows in self(vectors, k)]
        nearness, rows = (np.concatenate(part) for part in zip(*blocks, strict=True))
        return nearness, rows

    def nearest(self, vectors: Vectors) -> tuple[Nearness, list[str | None]]:
        """Return the distance of the nearest training row, float32 (n,), and its id.

        The distance is 1 - cosine ("cosine") or the root mean square difference of the whitened vectors ("l2").
        """
        distances = np.zeros(len(vectors), dtype=np.float32)
        ids: list[str | None] = []
        for rows, nearness, training_rows in self(vectors, 1):
            near = nearness[:, 0]
            distances[rows] = 1 - near if self.search.metric == "cosine" else np.sqrt(-2 * near)
            ids += [self.ids[row] for row in training_rows[:, 0]]
        return np.maximum(distances, 0), ids

    def save(self, folder: Path, codes: Indices) -> None:
        """Write `index.faiss`, `ids.json` and `knn.safetensors` (codes int64; mean, matrix float32).

        Parameters
        ----------
        folder : Path
        codes : int64 array, (training rows,)
            The class of each; 0 where rows have no class, but labels of another kind.
        """
        self.search.save(folder / "index.faiss")
        write_json(folder / "ids.json", self.ids)
        tensors = {"codes": torch.from_numpy(codes), "mean": self.whitening.mean, "matrix": self.whitening.matrix}
        write_state(folder / "knn.safetensors", tensors)

    @classmethod
    def load(
        cls, folder: Path, metric: Metric, engine: Engine, n_classes: int, device: str = "cpu"
    ) -> tuple[Finder, Indices]:
        """Read what `save` wrote, of a model of so many classes: the finder and the codes.

        Raises
        ------
        ModelError
            If a file is damaged, or they do not fit one another.
        """
        state = read_tensors(folder / "knn.safetensors", SHAPES)
        whitening = Whitening(state["mean"], state["matrix"])
        search = Search.load(folder / "index.faiss", metric, engine, device, state["matrix"].shape[1])
        codes = check_codes(folder / "knn.safetensors", state["codes"].numpy(), max(1, n_classes))
        ids = read_as(folder / "ids.json", list[str], ModelError, AGAIN)
        check_rows(folder / "index.faiss", len(search), len(codes))
        check_rows(folder / "ids.json", len(ids), len(codes))
        return cls(whitening, search, ids, device), codes
