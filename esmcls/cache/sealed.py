"""What is sealed in a cache's folder, for reading: the segments that count, and their rows by sequence."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from esmcls.cache.index import KeyIndex, all_keys, read_ragged, read_rows
from esmcls.cache.segments import Segment
from esmcls.cache.spec import EmbeddingSpec, keys_of
from esmcls.errors import CacheError, UsageError
from esmcls.files import read_json
from esmcls.types import Indices, Vectors

if TYPE_CHECKING:
    from esmcls.encoders.encoder import Encoder

InMemory: TypeAlias = Literal["auto"] | bool


@dataclass
class VerifyReport:
    """What `verify` found to be in order.

    Parameters
    ----------
    segments, rows, nbytes : int
        What was read and has the digest it was stored with.
    checked : int
        Sequences that were embedded again.
    worst : float
        Largest relative difference (L2 norm) of one of these from what is stored.
    """

    segments: int
    rows: int
    nbytes: int
    checked: int = 0
    worst: float = 0.0


class SealedCache:
    """The reading half of `EmbeddingCache`, which adds the writing.

    Parameters
    ----------
    folder : Path
        Of one spec.
    spec : EmbeddingSpec
    in_memory : "auto" or bool
        See `EmbeddingCache.open`.
    """

    def __init__(self, folder: Path, spec: EmbeddingSpec, in_memory: InMemory = "auto") -> None:
        self.folder, self.spec, self.in_memory = folder, spec, in_memory
        self._segments: tuple[Segment, ...] = ()
        self._index: KeyIndex | None = None
        self._held: dict[str, Vectors] = {}
        self._rows_read: dict[str, int] = {}
        self.refresh()

    def refresh(self) -> None:
        """See the segments that others have sealed since."""
        known = {segment.name: segment for segment in self._segments}
        while True:
            try:
                found = [known.get(name) or Segment(self.folder / name) for name in self._names()]
                break
            except FileNotFoundError:  # compacted by another process since the folder was listed
                continue
        replaced = {name for segment in found for name in segment.replaces}
        for segment in found:
            if segment.spec != self.spec:
                why = f"this segment is of another spec ({self.spec.difference(segment.spec)})"
                raise CacheError(segment.path, why, "move it out of this folder")
        self._set_segments([segment for segment in found if segment.name not in replaced])

    def _names(self) -> list[str]:
        """List the segments, sorted; until two lists agree, since a list is no snapshot while others rename."""
        names: list[str] | None = None
        while True:
            before, names = names, sorted(path.name for path in self.folder.glob("*.h5") if path.name[0] != ".")
            if names == before:
                return names

    def _set_segments(self, segments: Iterable[Segment]) -> None:
        self._segments = tuple(sorted(segments, key=lambda segment: segment.name))
        self._index = None
        self._held.clear()

    def flush(self) -> None:
        """Seal what is not; here there is nothing."""

    @property
    def segments(self) -> int:
        """Number of sealed segments."""
        return len(self._segments)

    @property
    def nbytes(self) -> int:
        """Bytes of the sealed segments."""
        return sum(segment.nbytes for segment in self._segments)

    def _keys(self) -> KeyIndex:
        """Return the index over all sealed rows, made when it is first asked for."""
        index = self._index
        if index is None:
            index = self._index = KeyIndex(all_keys(self._segments))
        return index

    def rows(self, sequences: Sequence[str]) -> Indices:
        """Return the row of each sequence over all segments laid end to end.

        Raises
        ------
        CacheError
            If a sequence is not there.
        """
        self.flush()
        rows = self._keys().find(keys_of(sequences))
        absent = int((rows < 0).sum())
        if absent:
            raise CacheError(self.folder, f"{absent} of {len(rows)} sequences are not embedded", "run embed on them")
        return rows

    def read(self, sequences: Sequence[str], pooling: str = "mean") -> Vectors:
        """Return the vectors of sequences, (n, width), in the dtype they are stored in.

        Raises
        ------
        CacheError
            If a sequence or the pooling is not there.
        """
        if pooling not in self.spec.pooled:
            stored = ", ".join(self.spec.poolings)
            raise CacheError(
                self.folder, f"no {pooling} vectors are stored, but {stored}", f"embed with --pool {pooling}"
            )
        rows = self.rows(sequences)
        held = self._hold(pooling, len(rows))
        return held[rows] if held is not None else self._read(pooling, rows)

    def _hold(self, pooling: str, count: int) -> Vectors | None:
        """Return all vectors if they are, or are now worth to be, held in memory."""
        read, self._rows_read[pooling] = self._rows_read.get(pooling, 0), self._rows_read.get(pooling, 0) + count
        total = sum(map(len, self._segments))
        if pooling not in self._held and total and self._may_hold(total, read):
            self._held[pooling] = self._read(pooling, np.arange(total, dtype=np.int64))
        return self._held.get(pooling)

    def _may_hold(self, total: int, read: int) -> bool:
        if self.in_memory != "auto":
            return self.in_memory
        return read >= total and total * self.spec.width * np.dtype(self.spec.dtype).itemsize <= _free_memory() / 4

    def _read(self, pooling: str, rows: Indices) -> Vectors:
        if not len(rows):
            return np.empty((0, self.spec.width), dtype=self.spec.dtype)
        return read_rows(self._segments, pooling, rows)

    def lengths_inputs(self, sequences: Sequence[str]) -> tuple[Indices, Indices]:
        """Return the residues of each sequence and the encoder inputs it was cut into."""
        rows = self.rows(sequences)
        if not len(rows):
            return rows, rows
        return read_rows(self._segments, "length", rows), read_rows(self._segments, "inputs", rows)

    def read_chunks(self, sequences: Sequence[str]) -> list[Vectors]:
        """Return a vector for each encoder input of each sequence: n arrays (inputs, width).

        Raises
        ------
        CacheError
            If a sequence is not there, or chunks are not stored.
        """
        return self._read_ragged("chunk", sequences)

    def read_residues(self, sequences: Sequence[str]) -> list[Vectors]:
        """Return a vector for each residue seen of each sequence: n arrays (residues seen, width).

        Raises
        ------
        CacheError
            If a sequence is not there, or residues are not stored.
        """
        return self._read_ragged("residue", sequences)

    def _read_ragged(self, name: str, sequences: Sequence[str]) -> list[Vectors]:
        if name not in self.spec.ragged:
            raise CacheError(self.folder, f"no {name} vectors are stored", f"embed with --{name}s")
        return read_ragged(self._segments, name, self.rows(sequences))

    def verify(
        self,
        encoder: Encoder | None = None,
        sequences: Sequence[str] = (),
        sample: int = 32,
        tolerance: float | None = None,
    ) -> VerifyReport:
        """Read every byte and compare it with its digest; embed a sample again and compare the vectors.

        Parameters
        ----------
        encoder : Encoder, optional
            Of the cache's spec.
        sequences : sequence of str, optional
            What the sample is taken from, evenly; those that are not there are passed over.
        sample : int
            How many are embedded again.
        tolerance : float, optional
            Largest relative difference (L2) that is allowed; default 1e-3 for fp32 (float16 rounds by up to 5e-4),
            else 0.03, which is a cosine of 0.9996.

        Raises
        ------
        CacheError
            If something differs: which file or sequence, and what to do.
        """
        self.flush()
        self.refresh()
        for segment in self._segments:
            segment.check()
        report = VerifyReport(len(self._segments), len(self._keys().first_rows()), self.nbytes)
        there = [
            seq for seq, row in zip(sequences, self._keys().find(keys_of(sequences)).tolist(), strict=True) if row >= 0
        ]
        chosen = there[:: max(1, len(there) // max(1, sample))][:sample]
        if encoder is None or not chosen:
            return report
        limit = tolerance if tolerance is not None else 1e-3 if self.spec.precision == "fp32" else 0.03
        report.checked, report.worst = len(chosen), self._embed_again(encoder, chosen, limit)
        return report

    def _embed_again(self, encoder: Encoder, sequences: Sequence[str], limit: float) -> float:
        """Return the largest relative difference between stored and new vectors."""
        if difference := self.spec.difference(EmbeddingSpec.of(encoder, self.spec.dtype, self.spec.poolings)):
            raise CacheError(
                self.folder, f"the encoder is not of this cache's spec ({difference})", "give that encoder"
            )
        worst = 0.0
        for sequence in sequences:
            new = encoder.encode([sequence], self.spec.pooled, "").pooled
            for pooling in self.spec.pooled:
                stored = self.read([sequence], pooling)[0].astype(np.float64)
                off = float(np.linalg.norm(stored - new[pooling][0]) / max(float(np.linalg.norm(stored)), 1e-12))
                if not off <= limit:
                    what = f"the {pooling} vector of {sequence[:20]}… is off by {off:.2g} when embedded again"
                    raise CacheError(self.folder, what, "delete this folder and run embed again")
                worst = max(worst, off)
        return worst


def read_spec(path: Path) -> EmbeddingSpec:
    """Read spec.json, or say what is wrong with it."""
    try:
        return EmbeddingSpec.from_json(read_json(path))
    except FileNotFoundError as error:
        raise CacheError(path.parent, "this is no cache of embeddings (no spec.json)", "run embed first") from error
    except (ValueError, UsageError) as error:
        fix = "update esmcls" if "newer" in str(error) else "delete it and run embed again; what is cached stays"
        raise CacheError(path, f"this spec cannot be read ({error})", fix) from error


@contextlib.contextmanager
def told(folder: Path, what: str) -> Iterator[None]:
    """Turn an error of the file system into one line that names the folder and what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        fix = "make room on the disk" if full else "choose a folder that can be written to, or repair this one"
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CacheError(folder, f"{what} ({reason})", f"{fix}, then run again: what is sealed stays") from error


def _free_memory() -> float:
    """Return the bytes of memory that are free, or 4 GiB where the system does not say."""
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return float(4 << 30)
