"""From alignments to segments: where in both proteins, how alike, and which residues carry the score."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from esmcls.cache.spec import EmbeddingSpec
from esmcls.encoders.windows import parse_long, positions_of
from esmcls.heads.alignment.residues.scoring import Alignment
from esmcls.heads.base import AlignedSegment
from esmcls.types import Indices

CARRYING = 10
"""Residues of a query that are named."""


def positions_seen(spec: EmbeddingSpec | None, length: int, seen: int) -> Indices:
    """Return which residues of a protein an encoder saw, 0-based: int64 (seen,)."""
    if seen == length or spec is None:
        return np.arange(seen)
    return np.unique(np.concatenate([positions_of(cut) for cut in parse_long(spec.long).cut(length)]))[:seen]


def cigar_of(query: Indices, target: Indices) -> str:
    """Write aligned pairs of residues, in order, as SAM does.

    Examples
    --------
    >>> cigar_of(np.array([2, 3, 6, 7]), np.array([5, 6, 7, 9]))
    '2M2I1M1D1M'
    """
    steps = ["M"]
    for inserted, deleted in zip((np.diff(query) - 1).tolist(), (np.diff(target) - 1).tolist(), strict=True):
        steps += ["I"] * inserted + ["D"] * deleted + ["M"]
    return "".join(f"{len(list(run))}{step}" for step, run in groupby(steps))


def segment_of(
    alignment: Alignment, query: str, target: str, places: tuple[Indices, Indices], nearest_id: str, evalue: float
) -> AlignedSegment:
    """Return the segment of an alignment of at least one pair.

    Parameters
    ----------
    alignment : Alignment
        Of the residues that the encoder saw.
    query, target : str
        The sequences.
    places : two int64 arrays
        Which of their residues those are.
    nearest_id : str
        Of the target.
    evalue : float
    """
    of_query = places[0][alignment.query]
    of_target = places[1][alignment.target]
    best = np.argsort(-alignment.gains, kind="stable")[:CARRYING]
    carrying = sorted(of_query[best].tolist())
    return AlignedSegment(
        nearest_id,
        evalue,
        alignment.score,
        int(of_query[0]) + 1,
        int(of_query[-1]) + 1,
        int(of_target[0]) + 1,
        int(of_target[-1]) + 1,
        len(of_query),
        sum(query[i] == target[j] for i, j in zip(of_query.tolist(), of_target.tolist(), strict=True)),
        float(of_query[-1] - of_query[0] + 1) / len(query),
        float(of_target[-1] - of_target[0] + 1) / len(target),
        cigar_of(of_query, of_target),
        ",".join(f"{query[place]}{place + 1}" for place in carrying),
    )
