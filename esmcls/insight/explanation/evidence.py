"""The training proteins that a protein is like, and the segments that align: why a head of neighbours answers so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from esmcls.cache.features import Features, residues_by
from esmcls.cache.spec import EmbeddingSpec
from esmcls.heads.alignment.residues.aligner import ResidueConfig
from esmcls.heads.alignment.residues.reduction import Reduction
from esmcls.heads.alignment.residues.scoring import align
from esmcls.heads.alignment.residues.segments import positions_seen, segment_of
from esmcls.heads.base import AlignedSegment, FindsNearest, KnowsItsRows, ShowsAlignments
from esmcls.insight.explanation.opened import KNN_HEADS
from esmcls.models.model import Model
from esmcls.types import Vectors

UNKNOWN: Final = float("nan")
"""E-value of an alignment that was not looked for among many."""


@dataclass(frozen=True)
class Neighbour:
    """A training protein that a protein is like.

    Parameters
    ----------
    id : str
    label : str
        Empty where the model does not keep it.
    distance : float
        As `predict` has it: 1 - cosine, or an E-value; NaN where there is a segment alone.
    segment : AlignedSegment or None
        Where it aligns; None where its sequence is not at hand.
    """

    id: str
    label: str
    distance: float
    segment: AlignedSegment | None


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a head of neighbours can show.

    Parameters
    ----------
    model : Model
    most : int
        Neighbours a protein.
    sequences : mapping
        Training id -> sequence, of those that are at hand.
    """

    model: Model
    most: int
    sequences: Mapping[str, str]

    def of(self, x: Features, residues: Vectors | None) -> list[Neighbour]:
        """Return the neighbours of a single row, the nearest first; none where the head knows none."""
        head = self.model.head
        if isinstance(head, ShowsAlignments):
            [segments] = head.segments(x)
            return [self._aligned(segment) for segment in segments[: self.most]]
        if isinstance(head, KNN_HEADS):
            nearness, rows = head.finder.whole(x.vectors(head.config.pooling), self.most)
            cosine = head.finder.search.metric == "cosine"
            distances = np.maximum(1 - nearness[0], 0) if cosine else np.sqrt(-2 * nearness[0])
            ids = [head.finder.ids[row] for row in rows[0].tolist()]
            return self._with_segments(x, residues, ids, distances.tolist())
        if isinstance(head, FindsNearest):
            distances, [name] = head.nearest(x)
            return [] if name is None else [Neighbour(name, self._label(name), float(distances[0]), None)]
        return []

    def _aligned(self, segment: AlignedSegment) -> Neighbour:
        return Neighbour(segment.nearest_id, self._label(segment.nearest_id), segment.evalue, segment)

    def _label(self, name: str) -> str:
        return self._labels.get(name, "")

    @cached_property
    def _labels(self) -> Mapping[str, str]:
        return self.model.head.label_of_row if isinstance(self.model.head, KnowsItsRows) else {}

    def _with_segments(
        self, x: Features, residues: Vectors | None, ids: Sequence[str], distances: Sequence[float]
    ) -> list[Neighbour]:
        segments: dict[str, AlignedSegment] = {}
        there = {name: self.sequences[name] for name in ids if name in self.sequences}
        if residues is not None and there:
            segments = aligned_with(x.sequences[0], residues, there, self.model)
        pairs = zip(ids, distances, strict=True)
        return [Neighbour(name, self._label(name), distance, segments.get(name)) for name, distance in pairs]


def aligned_with(
    sequence: str, residues: Vectors, targets: Mapping[str, str], model: Model
) -> dict[str, AlignedSegment]:
    """Return where a protein aligns best with each of some others, by their residue vectors, as the head align does.

    Parameters
    ----------
    sequence : str
    residues : float array, (residues seen, width)
        Its own.
    targets : mapping
        Id -> sequence.
    model : Model
        Whose encoder makes theirs.
    """
    names, sequences = list(targets), list(targets.values())
    spec: EmbeddingSpec = model.spec
    theirs = list(residues_by(model.encoder, sequences, None))
    knobs = ResidueConfig()
    together = np.concatenate([residues, *theirs])
    reduction = Reduction.of(together, min(knobs.components, *together.shape))
    codes = reduction.codes(residues)
    places = positions_seen(spec, len(sequence), len(residues))
    segments = {}
    for name, target, vectors in zip(names, sequences, theirs, strict=True):
        alignment = align(codes, reduction.codes(vectors), knobs.scheme)
        if len(alignment.query):
            both = (places, positions_seen(spec, len(target), len(vectors)))
            segments[name] = segment_of(alignment, sequence, target, both, name, UNKNOWN)
    return segments
