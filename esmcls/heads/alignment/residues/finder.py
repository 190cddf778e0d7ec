"""The training rows whose residue vectors align best with a protein's, among the candidates for it.

These are the rows with the nearest mean vectors and, where they are asked for, the best hits of a sequence search.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.heads.alignment.finder import Finder as SequenceFinder
from esmcls.heads.alignment.residues.batched import batched_scores
from esmcls.heads.alignment.residues.candidates import union
from esmcls.heads.alignment.residues.reduction import Codes, Reduction
from esmcls.heads.alignment.residues.scoring import Scheme, Scratch, align, scores
from esmcls.heads.alignment.residues.segments import positions_seen, segment_of
from esmcls.heads.alignment.residues.significance import Significance
from esmcls.heads.alignment.residues.store import ResiduePool, Residues
from esmcls.heads.blocks import checked_vectors
from esmcls.heads.contract import AlignedSegment
from esmcls.heads.neighbours.finder import Finder, Nearness
from esmcls.heads.saved_tensors import check_rows, pack_sequences, read_tensors, unpack_sequences, write_state
from esmcls.types import Indices

WAITING = 256
"""Proteins whose reduced residues are held at a time."""
KEPT_SEARCHES = 3
"""Searches whose scores are kept: a prediction asks for classes, familiarity and nearest proteins of the same rows."""
SEARCHED_HITS = 50
"""Best hits in which further segments are looked for."""
MOST_SEGMENTS = 8
CHANCE = 1e-3
"""E-value above which a further segment may be chance."""
SHAPES = {
    "lengths": ("int64", "rows"),
    "mean": ("float32", "width"),
    "matrix": ("float32", "width", "components"),
    "significance": ("float64", "numbers"),
    "sequences": ("uint8", "bytes"),
}
"""Of the tensors beside the residues."""


@dataclass(frozen=True, eq=False)
class ResidueFinder:
    """Training rows with their residues, and the search among them.

    The nearness of two proteins is the score of their best local alignment over the geometric mean of their lengths.

    Parameters
    ----------
    nearest_means : Finder
        Of the mean vectors: it says which rows are aligned.
    pooling : str
        The pooled vectors that these are.
    residues : Residues
    sequences : list of str
        Both of the training rows.
    reduction : Reduction
    scheme : Scheme
    candidates : int
        Rows with the nearest mean vectors that are aligned with a protein.
    significance : Significance, optional
    pool : ResiduePool, optional
        Residues that were reduced before: of these proteins nothing is read again.
    homologs : int
        Best hits of a sequence search that are aligned besides.
    sequence_search : SequenceFinder, optional
        Among the training rows, where there are any.
    """

    nearest_means: Finder
    pooling: str
    residues: Residues
    sequences: list[str]
    reduction: Reduction
    scheme: Scheme
    candidates: int
    significance: Significance | None = None
    pool: ResiduePool | None = None
    homologs: int = 0
    sequence_search: SequenceFinder | None = None
    _searched: list[tuple[bytes, Nearness, Indices]] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """Of the training rows."""
        return self.nearest_means.ids

    def with_candidates(self, candidates: int) -> ResidueFinder:
        """Return the same search among fewer rows or more."""
        return replace(self, candidates=candidates)

    def columns(self, candidates: int) -> slice:
        """Return which columns of `aligned` it would have with so many candidates."""
        return slice(min(candidates + self.homologs, len(self.ids)))

    def __call__(self, x: Features) -> tuple[Nearness, Indices]:
        """Return nearness, falling, and training rows of the candidates of each protein, both (n, candidates).

        Raises
        ------
        WidthMismatchError, NonFiniteError
            If the vectors are not as those that were fitted on.
        CacheError, EncoderMismatchError
            If vectors of residues cannot be had.
        EngineMismatchError
            If the engine of a sequence search is not that of the fit.
        """
        nearness, rows = self.aligned(x)
        order = np.argsort(-nearness, axis=1, kind="stable")
        return np.take_along_axis(nearness, order, 1), np.take_along_axis(rows, order, 1)

    def aligned(self, x: Features) -> tuple[Nearness, Indices]:
        """Return the same in the order in which candidates were found: hits first, then the nearest mean vectors."""
        vectors = checked_vectors(x, self.pooling, self.nearest_means.width)
        k = self.columns(self.candidates).stop
        asked = hashlib.sha256("\n".join(x.sequences).encode() + np.ascontiguousarray(vectors).tobytes()).digest()
        for known, nearness, rows in self._searched:
            if known == asked and rows.shape[1] >= k:
                return nearness[:, :k], rows[:, :k]
        rows = self.nearest_means.whole(vectors, k)[1] if len(x) else np.zeros((0, k), dtype=np.int64)
        if self.sequence_search is not None:
            rows = union(self.hits(x.sequences), rows, k)
        nearness = self._nearness(self._codes_of(x), rows)
        self._searched.insert(0, (asked, nearness, rows))
        del self._searched[KEPT_SEARCHES:]
        return nearness, rows

    def hits(self, sequences: list[str]) -> Indices:
        """Return the training rows that the search for homologs finds, the best first, (n, homologs); -1 for no hit.

        Those of the last few searches are not searched for again.
        """
        assert self.sequence_search is not None
        most = min(self.homologs, len(self.ids))
        bare = Features.from_arrays(np.zeros((len(sequences), 0), dtype=np.float32), sequences)
        return self.sequence_search.hits(bare, most).rows[:, :most]

    def evalues(self, x: Features) -> npt.NDArray[np.float64]:
        """Return the E-value of the best alignment of each protein, (n,)."""
        return self._evalues(self(x)[0][:, :1], x.lengths)[:, 0]

    def _evalues(self, nearness: Nearness, lengths: Indices) -> npt.NDArray[np.float64]:
        """Return the E-values of alignments, (n, hits), of proteins of these lengths."""
        assert self.significance is not None
        return np.asarray(self.significance.evalues(nearness.astype(np.float64), lengths[:, None]))

    def nearest(self, x: Features) -> tuple[npt.NDArray[np.float64], list[str | None]]:
        """Return the E-value of the best alignment of each protein, (n,), and the id of its training row."""
        return self.evalues(x), [self.ids[row] for row in self(x)[1][:, 0].tolist()]

    def segments(self, x: Features) -> list[list[AlignedSegment]]:
        """Return the segments of each protein: of the best alignment, and of others of no chance that overlap none."""
        nearness, rows = self(x)
        evalues = self._evalues(nearness[:, :SEARCHED_HITS], x.lengths)
        queries = zip(self._codes_of(x), x.sequences, rows, evalues, strict=True)
        return [self._segments_of(x.spec, *query) for query in queries]

    def _segments_of(
        self, spec: EmbeddingSpec | None, codes: Codes, sequence: str, rows: Indices, evalues: npt.NDArray[np.float64]
    ) -> list[AlignedSegment]:
        """Return the segments of one protein from its best hits, the best first."""
        segments: list[AlignedSegment] = []
        for row, evalue in zip(rows.tolist(), evalues.tolist(), strict=False):
            if segments and (evalue > CHANCE or len(segments) == MOST_SEGMENTS):
                break
            alignment = align(codes, self.residues.of(row), self.scheme)
            if not len(alignment.query):
                break
            target = self.sequences[row]
            places = (
                positions_seen(spec, len(sequence), len(codes)),
                positions_seen(spec, len(target), int(self.residues.lengths[row])),
            )
            segment = segment_of(alignment, sequence, target, places, self.ids[row], evalue)
            if all(_apart(segment, other) for other in segments):
                segments.append(segment)
        return segments

    def _nearness(self, queries: Iterable[Codes], rows: Indices) -> Nearness:
        """Align reduced proteins with the training rows that are named for each, (n, candidates), on all cores."""
        nearness = np.zeros(rows.shape, dtype=np.float32)
        pending = zip(queries, rows, strict=True)
        if self.nearest_means.device.startswith("cuda"):
            return self._nearness_on_device(pending, nearness)
        threads = torch.get_num_threads()
        start = 0
        of_thread = threading.local()

        def begin() -> None:
            torch.set_num_threads(1)
            of_thread.scratch = Scratch()

        def answer(query: tuple[Codes, Indices]) -> Nearness:
            codes, rows = query
            return self._nearness_of_one(codes, rows, of_thread.scratch)

        with ThreadPoolExecutor(threads, initializer=begin) as executor:
            while block := list(itertools.islice(pending, WAITING)):
                for row, near in enumerate(executor.map(answer, block), start):
                    nearness[row] = near
                start += len(block)
        torch.set_num_threads(threads)
        return nearness

    def _nearness_on_device(self, pending: Iterator[tuple[Codes, Indices]], nearness: Nearness) -> Nearness:
        """Fill the nearness of proteins to their candidates, some proteins at a time on the device."""
        start = 0
        while block := list(itertools.islice(pending, WAITING)):
            queries = [codes for codes, _ in block]
            rows = np.stack([rows for _, rows in block])
            raw = batched_scores(queries, self.residues, rows, self.scheme, self.nearest_means.device)
            seen = np.array([max(len(codes), 1) for codes in queries])[:, None]
            nearness[start : start + len(block)] = raw / np.sqrt(np.maximum(self.residues.lengths[rows], 1) * seen)
            start += len(block)
        return nearness

    def _nearness_of_one(self, codes: Codes, rows: Indices, scratch: Scratch) -> Nearness:
        lengths = np.maximum(self.residues.lengths[rows], 1) * max(len(codes), 1)
        raw = scores(codes, self.residues, rows, self.scheme, scratch)
        return np.asarray(raw / np.sqrt(lengths), dtype=np.float32)

    def _codes_of(self, x: Features) -> Iterator[Codes]:
        """Give the reduced residues of proteins: those that were read before from the pool."""
        absent = set(x.sequences if self.pool is None else self.pool.missing(x.sequences))
        fresh = x.take([row for row, sequence in enumerate(x.sequences) if sequence in absent])
        reduced = map(self.reduction.codes, fresh.residues() if len(fresh) else ())
        known = [sequence for sequence in x.sequences if sequence not in absent]
        pooled = self.pool.of(known) if self.pool is not None else None
        taken = 0
        for sequence in x.sequences:
            if sequence in absent or pooled is None:
                yield next(reduced)
            else:
                yield pooled.of(taken)
                taken += 1

    def save(self, folder: Path, codes: Indices) -> None:
        """Write what `esmcls.heads.neighbours.finder` does, `residues.npy` (int8) and `align.safetensors`.

        Parameters
        ----------
        folder : Path
        codes : int64 array, (training rows,)
            The class of each; 0 where rows have no class, but labels of another kind.
        """
        assert self.significance is not None
        self.nearest_means.save(folder, codes)
        self.residues.save(folder)
        tensors = {
            "lengths": torch.from_numpy(self.residues.lengths),
            "mean": torch.from_numpy(self.reduction.mean),
            "matrix": torch.from_numpy(self.reduction.matrix),
            "significance": torch.tensor(self.significance.numbers, dtype=torch.float64),
            "sequences": pack_sequences(self.sequences),
        }
        write_state(folder / "align.safetensors", tensors)

    @classmethod
    def load(cls, folder: Path, nearest_means: Finder, pooling: str, scheme: Scheme, candidates: int) -> ResidueFinder:
        """Read what `save` wrote beside the mean vectors.

        Raises
        ------
        ModelError
            If a file is damaged, or they do not fit one another.
        """
        path = folder / "align.safetensors"
        tensors = read_tensors(path, SHAPES)
        state = {name: tensor.numpy() for name, tensor in tensors.items()}
        sequences = unpack_sequences(path, tensors["sequences"])
        check_rows(path, len(state["lengths"]), len(nearest_means.ids))
        check_rows(path, len(sequences), len(nearest_means.ids))
        reduction = Reduction(state["mean"], state["matrix"])
        residues = Residues.load(folder, state["lengths"], reduction.components)
        significance = Significance.of_numbers(path, state["significance"])
        return cls(nearest_means, pooling, residues, sequences, reduction, scheme, candidates, significance)


def _apart(segment: AlignedSegment, other: AlignedSegment) -> bool:
    """Return whether two segments of a query share no residue."""
    return segment.query_end < other.query_start or other.query_end < segment.query_start
