"""The training protein that is nearest to a new one, for models whose head knows none: by the cached vectors.

Nearness is the cosine of two vectors from which the mean of the training vectors is subtracted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import Shares, set_aside
from esmcls.errors import CacheError
from esmcls.models.manifest import Manifest
from esmcls.types import Indices
from esmcls.workspace.workspace import Workspace

MOST: Final = 50_000
"""Training proteins that are searched unasked: more would take longer than the embedding."""
READ: Final = 8192
"""Training vectors read at a time: what bounds the memory."""
HELD: Final = 1 << 24
"""Numbers that are kept in memory, where all training vectors are no more."""
Numbers = npt.NDArray[np.float32]


@dataclass(eq=False)
class Neighbours:
    """Training proteins with their vectors in a cache.

    Parameters
    ----------
    cache : EmbeddingCache
    pooling : str
    proteins : Dataset
        Each sequence once.

    Examples
    --------
    >>> class Stored:
    ...     def read(self, sequences, pooling):
    ...         return np.array([[len(text), text.count("K")] for text in sequences], dtype=np.float32)
    >>> known = Dataset(["a", "b"], ["KKKK", "MM"], ["x", "y"], ["train", "train"])
    >>> distances, rows = Neighbours(Stored(), "mean", known).nearest(np.array([[4, 3]], dtype=np.float32))
    >>> round(float(distances[0]), 4), rows.tolist()
    (0.0513, [0])
    """

    cache: EmbeddingCache
    pooling: str
    proteins: Dataset
    spec: EmbeddingSpec | None = None
    _kept: list[Numbers] = field(default_factory=list, init=False, repr=False)

    def find(self, x: Features) -> list[tuple[float, str, str]]:
        """Return the distance (1 - cosine), the id and the label of the training protein nearest to each row."""
        distances, rows = self.nearest(x.of(self.spec).vectors(self.pooling))
        known = self.proteins
        pairs = zip(distances.tolist(), rows.tolist(), strict=True)
        return [(distance, known.ids[row], known.labels[row]) for distance, row in pairs]

    def nearest(self, vectors: npt.NDArray[np.floating]) -> tuple[Numbers, Indices]:
        """Return distance and row of the nearest training protein of each vector, both (n,); the first of equals."""
        queries = self._directions(vectors)  # (n, width)
        best = np.full(len(queries), -np.inf, dtype=np.float32)
        rows = np.zeros(len(queries), dtype=np.int64)
        for start, block in self._blocks():
            cosines = np.round(queries @ block.T, 5)  # (n, rows of the block); beyond, threads would decide
            places = cosines.argmax(axis=1)
            values = np.take_along_axis(cosines, places[:, None], axis=1)[:, 0]
            nearer = values > best
            best[nearer], rows[nearer] = values[nearer], start + places[nearer]
        return np.maximum(1 - best, 0), rows

    def _blocks(self) -> Iterator[tuple[int, Numbers]]:
        """Give the directions of training vectors, some at a time; kept in memory where they are few."""
        if not self._kept:
            blocks = (self._directions(block) for block in self._read())
            if len(self.proteins) * len(self._mean) > HELD:
                yield from zip(range(0, len(self.proteins), READ), blocks, strict=True)
                return
            self._kept = list(blocks)
        yield from zip(range(0, len(self.proteins), READ), self._kept, strict=True)

    def _read(self) -> Iterator[Numbers]:
        for start in range(0, len(self.proteins), READ):
            sequences = self.proteins.sequences[start : start + READ]
            yield self.cache.read(sequences, self.pooling).astype(np.float32)

    @cached_property
    def _mean(self) -> Numbers:
        """The mean training vector, (width,)."""
        total = sum((block.sum(axis=0, dtype=np.float64) for block in self._read()), np.zeros(1))
        return np.asarray(total / len(self.proteins), dtype=np.float32)

    def _directions(self, vectors: npt.NDArray[np.floating]) -> Numbers:
        """Return vectors less the mean, brought to length 1; what lies at the mean stays there."""
        centred = vectors.astype(np.float32) - self._mean
        return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12), np.float32)


def find_neighbours(manifest: Manifest, workspace: Workspace | None, most: int = MOST) -> Neighbours | None:
    """Return the training proteins of a model; None where a workspace does not hold them, or they are too many.

    Parameters
    ----------
    manifest : Manifest
    workspace : Workspace, optional
        Where they may be: of the data and the split that the model was fitted on, with a cache of its vectors.
    most : int
        Training proteins to be searched at most.
    """
    if workspace is None or manifest.n_train > most or not workspace.has_dataset:
        return None
    if (workspace.dataset_digest, workspace.split_digest) != (manifest.dataset_digest, manifest.split_digest):
        return None
    folders = [entry.folder for entry in workspace.caches if entry.spec == manifest.spec]
    proteins = _fitted_on(manifest, workspace.dataset) if folders else Dataset([], [], [], [])
    for folder in folders if len(proteins) else []:
        with contextlib.suppress(CacheError):  # a damaged one answers nothing
            cache = EmbeddingCache.open(folder)
            if not cache.missing(proteins.sequences):
                pooled = manifest.spec.pooled
                pooling = manifest.pooling if manifest.pooling in pooled else pooled[0]
                return Neighbours(cache, pooling, proteins, manifest.spec)
    return None


def _fitted_on(manifest: Manifest, dataset: Dataset) -> Dataset:
    """Return the records that a model was fitted on in the end, each sequence once."""
    shares = Shares.of_setup(manifest.setup)
    kept = set_aside(dataset, shares, manifest.seed).kept if shares.families or shares.calibration else dataset
    parts = ("train", "validation") if manifest.setup.get("refit") else ("train",)
    first: dict[str, int] = {}
    for row, part in enumerate(kept.parts):
        if part in parts:
            first.setdefault(kept.sequences[row], row)
    return kept.take(list(first.values()))
