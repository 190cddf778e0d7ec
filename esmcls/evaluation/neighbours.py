"""The training protein that each of some proteins is nearest to: by the vectors in the cache, or as the head says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from esmcls.cache.features import Features
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.heads.base import FindsNearest
from esmcls.heads.registry import reads_residues, reads_vectors
from esmcls.metrics.classification import Floats
from esmcls.models.model import Model, cache_with
from esmcls.models.neighbours import Neighbours as CachedNeighbours
from esmcls.tasks.closeness import Neighbour, Neighbours
from esmcls.tasks.fitted import nearest_of
from esmcls.types import Indices, Vectors
from esmcls.workspace.workspace import Workspace


def neighbours(model: Model, x: Features, train: Dataset, workspace: Workspace | None) -> Neighbours:
    """Return the nearest training protein of each row, as a prediction names it.

    A head that knows it by itself says which it is; of any other it is that with the nearest vector in the cache.

    Parameters
    ----------
    model : Model
    x : Features
        Of the proteins.
    train : Dataset
        That the model was trained on, or what is known of it.
    workspace : Workspace or None
        In whose caches the vectors of the training proteins are.
    """
    vectors = reads_vectors(model.head) and not isinstance(model.head, FindsNearest)
    cache = cache_with(workspace, train.sequences, model.spec) if len(train) and vectors else None
    if cache is None:
        return _as_the_head_says(model, x, train)
    pooling = model.manifest.pooling if model.manifest.pooling in model.spec.pooled else model.spec.pooled[0]
    cosines, rows = nearest_in_cache(x.of(model.spec).vectors(pooling), cache, train.sequences, pooling)
    pairs = zip(cosines.tolist(), rows.tolist(), strict=True)
    nearest: list[Neighbour | None] = [Neighbour(train.ids[row], train.labels[row], value) for value, row in pairs]
    return Neighbours(f"cosine of {model.spec.short_name} vectors", nearest)


def _as_the_head_says(model: Model, x: Features, train: Dataset) -> Neighbours:
    """Return what a head says that knows the nearest by itself, such as the best hit of an alignment."""
    label_of = dict(zip(train.ids, train.labels, strict=True))
    by_means = reads_vectors(model.head) and not reads_residues(model.head)
    measure = "distance in the head" if by_means else "E-value of the best hit"
    nearest = [
        Neighbour(fields["nearest_id"], label_of.get(fields["nearest_id"], ""), fields["distance"]) if fields else None
        for fields in nearest_of(model.head, x)
    ]
    return Neighbours(measure if any(nearest) else "", nearest)


def nearest_in_cache(
    queries: Vectors, cache: EmbeddingCache, sequences: Sequence[str], pooling: str
) -> tuple[Floats, Indices]:
    """Return the largest cosine of each query and the row of `sequences` that it is of, as a prediction finds it.

    Raises
    ------
    CacheError
        If a sequence is not embedded.
    """
    texts = list(sequences)
    known = Dataset(texts, texts, [""] * len(texts), ["train"] * len(texts))
    distances, rows = CachedNeighbours(cache, pooling, known).nearest(queries)
    return (1 - distances.astype(np.float64)).round(5), rows
