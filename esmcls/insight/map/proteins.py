"""What is on a map: proteins with their places, what they are coloured by, and new ones with their nearest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from esmcls.cache.features import Features, batches, encoder_of
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.errors import CacheError, UsageError
from esmcls.heads.neighbours.search import Search
from esmcls.insight.map.layout import laid_out, placed_among, unit_rows, whitened
from esmcls.labels.kinds import NUMBER, OF_RESIDUES, ONE_LABEL
from esmcls.models.model import Model, features_for
from esmcls.reading.records import Protein
from esmcls.types import Floats, Indices, Vectors

if TYPE_CHECKING:
    from esmcls.heads.whitening import Whitening

MOST: Final = 200_000
"""Proteins of a map, unless it is told otherwise: a page of more is slow."""
NEAREST: Final = 5
"""Known proteins that are told of a new one."""
NEW: Final = "new"
"""The part that new proteins are of."""

Lay: TypeAlias = Callable[[Vectors, int], Floats]


@dataclass(frozen=True, eq=False)
class Colour:
    """What proteins are coloured by.

    Parameters
    ----------
    name : str
    values : list of str, or float64 array
        One a protein; an empty text or NaN where it is not known.
    """

    name: str
    values: list[str] | Floats


@dataclass(frozen=True)
class Near:
    """A known protein that is near to a new one."""

    id: str
    label: str
    distance: float


@dataclass(frozen=True, eq=False)
class ProteinMap:
    """Proteins in a plane: known ones, then new ones.

    Parameters
    ----------
    ids : list of str
    places : float64 array, (n, 2)
    known : int
        How many are known; the rest are new.
    colours : list of Colour
    nearest : list of lists of Near
        Of each new one.
    left_out : int
        Known ones that were left out because there are too many.
    """

    ids: list[str]
    places: Floats
    known: int
    colours: list[Colour]
    nearest: list[list[Near]] = field(default_factory=list)
    left_out: int = 0


@dataclass(frozen=True, eq=False)
class _Said:
    """What a model says of proteins."""

    labels: list[str]
    probabilities: Floats
    statuses: list[str]


def make_map(
    cache: EmbeddingCache,
    dataset: Dataset,
    new: Sequence[Protein] = (),
    model: Model | None = None,
    *,
    most: int = MOST,
    seed: int = 0,
    lay: Lay = laid_out,
) -> ProteinMap:
    """Lay out the proteins of a data set whose vectors are in a cache, and place new ones among them.

    Parameters
    ----------
    cache : EmbeddingCache
    dataset : Dataset
    new : sequence of Protein, optional
        Embedded now, by the cache's encoder.
    model : Model, optional
        Of one label a protein, whose answers are colours.
    most : int
        Known proteins; of more, so many are drawn.
    seed : int
    lay : callable
        From vectors and seed to places.

    Raises
    ------
    CacheError
        If none of the data set is in the cache.
    UsageError
        If the model is of another kind of task.
    """
    if model is not None and model.task.kind != ONE_LABEL:
        raise UsageError(f"model {model.name} is of another kind; a map is coloured by one of one label a protein")
    chosen = drawn(cache, dataset, most, seed)
    known = dataset.take(chosen)
    pooling = cache.spec.pooled[0]
    vectors = Features.from_cache(cache, known).vectors(pooling)
    rows, whitening = whitened(vectors, _classes(known))
    places = lay(rows, seed)
    nearest: list[list[Near]] = []
    if new:
        indices, cosines = nearest_known(rows, _embedded(cache, new, pooling, whitening))
        places = np.concatenate([places, placed_among(places, indices, cosines)])
        labels = _labels(known)
        nearest = [
            [Near(known.ids[row], labels[row], max(1 - cosine, 0.0)) for row, cosine in zip(*pair, strict=True)]
            for pair in zip(indices.tolist(), cosines.tolist(), strict=True)
        ]
    colours = _colours(known, new) + _colours_of(model, known, new)
    ids = [*known.ids, *(protein.id for protein in new)]
    return ProteinMap(ids, places, len(known), colours, nearest, len(dataset) - len(known))


def drawn(cache: EmbeddingCache, dataset: Dataset, most: int, seed: int) -> list[int]:
    """Return the records that are in a cache, in their order; of more than `most`, so many drawn."""
    missing = set(cache.missing(dataset.sequences))
    there = np.array([row for row in range(len(dataset)) if row not in missing], dtype=np.int64)
    if not len(there):
        raise CacheError(cache.folder, "holds none of the data set's sequences", "run: esmcls embed")
    if len(there) > most:
        there = np.sort(np.random.default_rng(seed).choice(there, most, replace=False))
    return [int(row) for row in there]


def nearest_known(known: Vectors, new: Vectors) -> tuple[Indices, Floats]:
    """Return the rows and cosines of the known proteins nearest to each new one, the nearest first, both (n, k)."""
    import torch

    search = Search.empty(known.shape[1], "cosine")
    search.add(torch.from_numpy(known))
    cosines, rows = search(torch.from_numpy(new), min(NEAREST, len(known)))
    return rows, cosines.astype(np.float64)


def _embedded(cache: EmbeddingCache, new: Sequence[Protein], pooling: str, whitening: Whitening) -> Vectors:
    """Return the whitened vectors of new proteins, by the encoder of the cache, rounded as it stores them."""
    encoder = encoder_of(cache.spec)
    sequences = [protein.sequence for protein in new]
    vectors = [encoder.encode(batch, (pooling,)).pooled[pooling] for batch in batches(encoder, sequences)]
    return unit_rows(np.concatenate(vectors).astype(cache.spec.dtype), whitening)


def _classes(known: Dataset) -> Indices | None:
    """Return the class of each training protein, -1 of others; None where proteins are not of one class each."""
    if known.task != ONE_LABEL:
        return None
    code = {label: number for number, label in enumerate(dict.fromkeys(known.labels))}
    pairs = zip(known.labels, known.parts, strict=True)
    codes = np.array([code[label] if label and part == "train" else -1 for label, part in pairs], dtype=np.int64)
    return codes if (codes >= 0).any() else None


def _labels(known: Dataset) -> list[str]:
    """Return labels that are of whole proteins."""
    return [""] * len(known) if known.task in OF_RESIDUES else list(known.labels)


def _colours(known: Dataset, new: Sequence[Protein]) -> list[Colour]:
    """Return label, or number, and part."""
    labels = _labels(known)
    colours = []
    if known.task == NUMBER:
        numbers = np.array([float(label or "nan") for label in labels])
        colours.append(Colour("number", np.concatenate([numbers, np.full(len(new), np.nan)])))
    elif any(labels):
        colours.append(Colour("label", [*labels, *[""] * len(new)]))
    return [*colours, Colour("part", [*known.parts, *[NEW] * len(new)])]


def _colours_of(model: Model | None, known: Dataset, new: Sequence[Protein]) -> list[Colour]:
    """Return what a model says of all proteins: class, probability, and status."""
    if model is None:
        return []
    parts = [_said(model, known.ids, known.sequences, features_for(model, known, model.place))]
    if new:
        names, texts = [protein.id for protein in new], [protein.sequence for protein in new]
        parts.append(_said(model, names, texts, model.features(texts)))
    labels = [label for part in parts for label in part.labels]
    statuses = [status for part in parts for status in part.statuses]
    right = [
        ("" if not truth else "right" if truth == label else "wrong")
        for truth, label in zip([*known.labels, *[""] * len(new)], labels, strict=True)
    ]
    colours = [
        Colour("predicted", labels),
        Colour("probability", np.concatenate([part.probabilities for part in parts])),
    ]
    colours.append(Colour("right or wrong", right))
    return colours + ([Colour("status", statuses)] if any(statuses) else [])


def _said(model: Model, ids: Sequence[str], sequences: Sequence[str], x: Features) -> _Said:
    answering = model.task.answering(model, k=1)
    labels, probabilities, statuses = [], [], []
    for name, sequence, answer in zip(ids, sequences, answering.ask(x), strict=True):
        row = next(iter(answering.rows(Protein(name, sequence), answer)))
        labels.append(str(getattr(row, "label", None) or ""))
        value = getattr(row, "probability", None)
        probabilities.append(float("nan") if value is None else float(value))
        statuses.append(str(getattr(row, "status", None) or ""))
    return _Said(labels, np.array(probabilities), statuses)
