"""The cache: every distinct sequence embedded once, in sealed segments that a crash cannot harm.

    cache/<spec key>/
        spec.json                                  what decides the vectors
        unseen.json                                residues that imported vectors know nothing of, where there are any
        20261121T060831123456-1f2e3d4c5b6a.h5      a sealed segment, see `segments`
        .20261121T06....h5.4711.0a1b2c3d.tmp       being written, or left by a writer that died

Several writers need no lock: names are unique, readers see sealed segments alone, and of a key that two writers
stored the first row in the order of the names wins.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

import numpy as np

from esmcls.cache.index import (
    KeyIndex,
    Keys,
    add_unseen,
    all_keys,
    gather,
    read_index,
    read_ragged,
    read_rows,
    read_unseen,
    write_index,
)
from esmcls.cache.pending import Pending
from esmcls.cache.segments import Column, Known, Segment, SegmentGoneError, new_name, segment_stat, write_segment
from esmcls.cache.spec import BLOCK, RESIDUE, RESIDUE_INT8, EmbeddingSpec, keys_of, restored, sequence_key
from esmcls.errors import CacheError, UsageError
from esmcls.files import SPEC, remove_left_overs
from esmcls.plain_values import read_json, write_json
from esmcls.remote.blocks import RemoteSegments, remote_segments
from esmcls.types import Indices, Vectors

if TYPE_CHECKING:
    from esmcls.encoders.encoder import Embedded, Encoder

__all__ = ["EmbeddingCache", "EmbeddingSpec", "VerifyReport", "sequence_key"]

InMemory: TypeAlias = Literal["auto"] | bool

SEAL_BYTES: Final = 64 << 20
SEAL_SECONDS: Final = 30.0
MOST_SEGMENTS: Final = 64
INDEX_FROM: Final = 16
"""Segments to be opened for which the index is read, or written anew."""
MOST_TRIES: Final = 100
"""How often the folder is listed anew because a segment has gone since."""
T = TypeVar("T")


@dataclass
class VerifyReport:
    """Counts of what `verify` found to be in order.

    Parameters
    ----------
    segments, rows, nbytes : int
        Read, and of the digest they were stored with.
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


class EmbeddingCache:
    """Embeddings on disk, by sequence; made by `open`, used as a context manager or closed.

    Examples
    --------
    >>> import tempfile
    >>> from esmcls.encoders.encoder import load_encoder
    >>> encoder, sequences = load_encoder("composition"), ["MKT", "MV"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with EmbeddingCache.open(f"{folder}/cache", EmbeddingSpec.of(encoder)) as cache:
    ...         cache.append(sequences, encoder.encode(sequences))
    ...         cache.missing(["MV", "MW", "MW"]), cache.read(["MV", "MKT", "MV"], "mean").shape[0]
    ([1], 3)
    """

    def __init__(self, folder: Path, spec: EmbeddingSpec, in_memory: InMemory = "auto") -> None:
        self.folder = folder
        self.spec = spec
        self.in_memory = in_memory
        self._pending = Pending(spec)
        self._swept = False
        self._segments: tuple[Segment, ...] = ()
        self._index: KeyIndex | None = None
        self._held: dict[str, Vectors] = {}
        self._rows_read: dict[str, int] = {}
        self._remote = remote_segments(folder)
        self.refresh()

    @classmethod
    def open(
        cls, folder: str | Path, spec: EmbeddingSpec | None = None, *, in_memory: InMemory = "auto"
    ) -> EmbeddingCache:
        """Open a cache.

        Parameters
        ----------
        folder : str or Path
            The folder of this one spec.
        spec : EmbeddingSpec, optional
            Of the cache; with it, a folder that is not there is made.
        in_memory : "auto" or bool
            Whether vectors are held in memory: "auto" once as many rows have been read as there are, if they fit into
            a quarter of the memory that is free.

        Raises
        ------
        CacheError
            If it cannot be read, is of another spec or of a newer format.
        """
        path = Path(folder)
        with _as_cache_error(path, "cannot be opened"):
            if spec is not None and not (path / SPEC).exists():
                path.mkdir(parents=True, exist_ok=True)
                try:
                    write_json(path / SPEC, spec.to_json())
                except OSError:
                    with contextlib.suppress(OSError):  # what is in it stays
                        path.rmdir()
                    raise
            stored = _read_spec(path / SPEC)
            if spec is not None and spec != stored:
                fix = "choose another folder for it"
                raise CacheError(path, f"this cache is of another spec ({stored.difference(spec)})", fix)
            return cls(path, stored, in_memory)

    def __enter__(self) -> EmbeddingCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Seal what was appended and close the files."""
        try:
            self.flush()
        finally:
            for segment in self._segments:
                segment.close()
            self._segments = ()

    def refresh(self) -> None:
        """See the segments that others have sealed since."""
        known = {segment.name: segment for segment in self._segments}
        listed = _unless_gone(lambda: self._list(known))
        replaced = {name for segment in listed for name in segment.replaces}
        for segment in listed:
            if segment.spec != self.spec:
                problem = f"this segment is of another spec ({self.spec.difference(segment.spec)})"
                raise CacheError(segment.path, problem, "move it out of this folder")
        self._set_segments([segment for segment in listed if segment.name not in replaced])

    def _list(self, known: Mapping[str, Segment]) -> list[Segment]:
        """Return the segments of the folder; where many are new, by the index, which is written anew if it lacks many.

        Raises
        ------
        SegmentGoneError
            If one was compacted by another process since the folder was listed.
        """
        names = self._names()
        many = len(names) - len(known) >= INDEX_FROM
        index = read_index(self.folder, self.spec) if many else {}
        listed = []
        lacking = 0
        for name in names:
            segment = known.get(name) or _indexed(self.folder / name, index.get(name), self._remote)
            if segment is None:
                lacking += 1
                segment = Segment(self.folder / name, remote=self._remote)
            listed.append(segment)
        if many and (lacking >= INDEX_FROM or len(index) > 2 * len(names)):
            write_index(self.folder, self.spec, [segment for segment in listed if segment.spec == self.spec])
        return listed

    def _names(self) -> list[str]:
        """List the segments, sorted; until two lists agree, since a list is no snapshot while others rename."""
        there = [] if self._remote is None else self._remote.names()
        names: list[str] | None = None
        while True:
            before = names
            names = sorted({*there, *(path.name for path in self.folder.glob("*.h5") if path.name[0] != ".")})
            if names == before:
                return names

    def _set_segments(self, segments: Iterable[Segment]) -> None:
        before = self._segments
        self._segments = tuple(sorted(segments, key=lambda segment: segment.name))
        for segment in {*before} - {*self._segments}:
            segment.close()
        self._index = None
        self._held.clear()

    @property
    def segments(self) -> int:
        """Number of sealed segments."""
        return len(self._segments)

    @property
    def nbytes(self) -> int:
        """Bytes of the sealed segments."""
        return sum(segment.nbytes for segment in self._segments)

    def __len__(self) -> int:
        """Count the distinct sequences, those not yet sealed with them."""
        return len(self._keys().first_rows()) + len(self._pending)

    # finding and reading

    def missing(self, sequences: Sequence[str]) -> list[int]:
        """Return the positions of the sequences that are not there, of equal ones the first, in input order."""
        return self._missing(keys_of(sequences))

    def _missing(self, keys: Keys) -> list[int]:
        absent = np.flatnonzero(self._keys().find(keys) < 0).tolist()
        first: dict[bytes, int] = {}
        for position in absent:
            first.setdefault(keys[position].tobytes(), position)
        return [position for key, position in first.items() if key not in self._pending.keys]

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
        return self._unless_gone(lambda: self._vectors(sequences, pooling))

    def _unless_gone(self, read: Callable[[], T]) -> T:
        """Read, anew where another process has compacted a segment since the folder was listed."""
        return _unless_gone(read, self.refresh)

    def _vectors(self, sequences: Sequence[str], pooling: str) -> Vectors:
        rows = self.rows(sequences)
        held = self._hold(pooling, len(rows))
        return held[rows] if held is not None else self._read(pooling, rows)

    def _hold(self, pooling: str, count: int) -> Vectors | None:
        """Return all vectors if they are, or are now worth to be, held in memory."""
        read = self._rows_read.get(pooling, 0)
        self._rows_read[pooling] = read + count
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
        vectors = self._read_ragged(self.spec.residues or RESIDUE, sequences)
        if self.spec.residues != RESIDUE_INT8:
            return vectors
        vectors = [restored(part, self.spec) for part in vectors]
        if not all(np.isfinite(part).all() for part in vectors):
            fix = "delete the segment that esmcls cache verify names, and run embed again"
            raise CacheError(self.folder, "vectors of residues in it are damaged (a number that is not finite)", fix)
        return vectors

    def _read_ragged(self, name: str, sequences: Sequence[str]) -> list[Vectors]:
        if name not in self.spec.ragged:
            raise CacheError(self.folder, f"no {name} vectors are stored", f"embed with --{name}s")
        return self._unless_gone(lambda: read_ragged(self._segments, name, self.rows(sequences)))

    def with_residues(self) -> EmbeddingCache | None:
        """Open the cache beside this one that keeps the same vectors and those of residues; None if there is none."""
        for pooling in (RESIDUE, RESIDUE_INT8) if self.spec.width % BLOCK == 0 else (RESIDUE,):
            folder = self.folder.parent / replace(self.spec, poolings=(*self.spec.pooled, pooling)).key()
            if (folder / SPEC).is_file():
                return EmbeddingCache.open(folder)
        return None

    def unseen(self, sequences: Sequence[str]) -> list[int]:
        """Return how many residues of each sequence another tool's vector knows nothing of; 0 where it saw all.

        Of vectors that an encoder here made, the spec's strategy for long sequences says it.

        Raises
        ------
        CacheError
            If what is kept of it is damaged.
        """
        known = read_unseen(self.folder)
        return [known.get(sequence_key(sequence).hex(), 0) if known else 0 for sequence in sequences]

    # writing

    def note_unseen(self, residues: Mapping[str, int]) -> None:
        """Keep how many residues of some sequences their imported vectors know nothing of.

        Raises
        ------
        CacheError
            If it cannot be written.
        """
        with _as_cache_error(self.folder, "what was not seen cannot be written"):
            add_unseen(self.folder, {sequence_key(sequence).hex(): count for sequence, count in residues.items()})

    def append(self, sequences: Sequence[str], embedded: Embedded) -> None:
        """Add a batch; it is sealed with later ones after 64 MiB or 30 s, or by `flush`.

        Parameters
        ----------
        sequences : sequence of str, (n,)
            Those that are there already are passed over.
        embedded : Embedded
            Their vectors from the encoder, all that the spec stores among them.

        Raises
        ------
        NonFiniteError
            If a vector is not finite, as computed or as stored; nothing of the batch is added then.
        WidthMismatchError
            If the vectors do not have the spec's width.
        CacheError
            If a segment cannot be written.
        """
        keys = keys_of(sequences)
        self._pending.add(sequences, keys, self._missing(keys), embedded)
        if self._pending.nbytes >= SEAL_BYTES or self._pending.age >= SEAL_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Seal what was appended since the last segment; after an error it is given up, what is sealed stays.

        Raises
        ------
        CacheError
            If it cannot be written.
        """
        pending = self._pending
        self._pending = Pending(self.spec)
        if len(pending):
            self._set_segments([*self._segments, self._write(pending.columns())])
        if len(self._segments) > MOST_SEGMENTS and self._remote is None:  # of a store all would have to come here
            with contextlib.suppress(CacheError, SegmentGoneError):  # it only saves files; the rows are safe
                self.refresh()
                self._compact(self._cheapest_run())

    def _write(self, columns: dict[str, Column], replaced: Sequence[Segment] = ()) -> Segment:
        """Write and open a new segment, at the place of those it replaces."""
        path = self.folder / new_name(replaced[0].name if replaced else None)
        self._sweep()
        names = {segment.name for segment in replaced}
        left = {name for segment in replaced for name in segment.replaces if name in self._names()}
        with _as_cache_error(self.folder, "a segment cannot be written"):
            write_segment(path, self.spec, columns, sorted(names | left))  # left-overs stay hidden
            if self._remote is not None:
                self._remote.put(path.name)
            return Segment(path, remote=self._remote)

    def _sweep(self) -> None:
        """Remove what dead writers left: old temporaries, and segments that were replaced."""
        if self._swept:
            return
        self._swept = True
        remove_left_overs(self.folder)
        with contextlib.suppress(OSError):
            for name in {name for segment in self._segments for name in segment.replaces}:
                self._delete(name)

    def _delete(self, name: str) -> None:
        """Delete a segment that another replaces, if it is there."""
        if self._remote is not None:
            self._remote.remove(name)
        (self.folder / name).unlink(missing_ok=True)

    # compacting and merging

    def compact(self) -> int:
        """Write all segments into one and delete them; return how many there were.

        Raises
        ------
        CacheError
            If it cannot be written.
        """
        self.flush()
        return self._unless_gone(self._compact_all)

    def _compact_all(self) -> int:
        self.refresh()
        before = len(self._segments)
        self._compact(self._segments)
        return before

    def merge(self, folders: Iterable[str | Path]) -> int:
        """Take over the rows of other caches of the same spec that are not here; return how many they are.

        Raises
        ------
        CacheError
            If one is of another spec, or cannot be read or written.
        """
        self.flush()
        return self._unless_gone(lambda: self._merge(list(folders)))

    def _merge(self, folders: Iterable[str | Path]) -> int:
        with contextlib.ExitStack() as stack:
            others = [stack.enter_context(_open_existing(folder, self.spec)) for folder in folders]
            segments = [segment for other in others for segment in other._segments]
            keys = all_keys(segments)
            rows = KeyIndex(keys).first_rows()
            rows = rows[self._keys().find(keys[rows]) < 0]
            new = {key.tobytes().hex() for key in keys[rows]}
            for other in others:
                unseen = read_unseen(other.folder)
                add_unseen(self.folder, {key: count for key, count in unseen.items() if key in new})
            if len(rows):
                self._set_segments([*self._segments, self._write(gather(segments, rows, self.spec))])
            return len(rows)

    def take_layers(self, wider: EmbeddingCache) -> int:
        """Take over, from a cache that keeps more, the rows that are not here; return how many they are.

        Bit for bit what the encoder would give for these layers and poolings alone. A segment is sealed for each of the
        other's, so that whoever is interrupted goes on after the last one.

        Raises
        ------
        CacheError
            If the other has not these layers and poolings, or differs in more, or cannot be read or written.
        """
        numbers = self.spec.columns_in(wider.spec)
        if numbers is None:
            difference = wider.spec.difference(self.spec)
            raise CacheError(wider.folder, f"has not the layers wanted ({difference})", "give a cache that has them")
        self.flush()
        return self._unless_gone(lambda: wider._unless_gone(lambda: self._take_layers(wider, numbers)))

    def _take_layers(self, wider: EmbeddingCache, numbers: Indices) -> int:
        taken = 0
        for segment in wider._segments:
            rows = np.flatnonzero(self._keys().find(segment.keys) < 0)
            if len(rows):
                self._set_segments([*self._segments, self._write(gather([segment], rows, self.spec, numbers))])
                taken += len(rows)
        return taken

    def tidy(self) -> int:
        """Join segments to half as many as there may be, if there are more; return how many there were.

        What many processes sealed at once is compacted by none of them. Each byte is written once.

        Raises
        ------
        CacheError
            If it cannot be written.
        """
        if len(self._pending):
            self.flush()  # which joins some segments itself
        return self._unless_gone(self._tidy)

    def _tidy(self) -> int:
        self.refresh()
        before = len(self._segments)
        if before > MOST_SEGMENTS and self._remote is None:  # in a store nothing is joined unasked
            for run in _even_runs(self._segments, MOST_SEGMENTS // 2):
                self._compact(run)
        return before

    def _cheapest_run(self) -> Sequence[Segment]:
        """Return half as many neighbours as there may be segments, those with the fewest bytes.

        Neighbours in the order of the names, so that the first row of a key stays the first; the cheapest, so that
        a byte is written again a logarithmic number of times.
        """
        size = min(MOST_SEGMENTS // 2, len(self._segments))
        totals = np.cumsum([0, *(segment.nbytes for segment in self._segments)])
        start = int(np.argmin(totals[size:] - totals[: len(totals) - size]))
        return self._segments[start : start + size]

    def _compact(self, run: Sequence[Segment]) -> None:
        """Write neighbouring segments into one that names them, then delete them."""
        if len(run) < 2:
            return
        rows = KeyIndex(all_keys(run)).first_rows()
        merged = self._write(gather(run, rows, self.spec), run)
        self._set_segments([merged, *(segment for segment in self._segments if segment not in run)])
        for segment in run:
            segment.close()
        with _as_cache_error(self.folder, "replaced segments cannot be deleted"):
            for name in merged.replaces:
                self._delete(name)

    # verifying

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
            To take the sample from, evenly; those that are not there are passed over.
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
        self._unless_gone(self._check_segments)
        report = VerifyReport(len(self._segments), len(self._keys().first_rows()), self.nbytes)
        rows = self._keys().find(keys_of(sequences)).tolist()
        there = [sequence for sequence, row in zip(sequences, rows, strict=True) if row >= 0]
        chosen = there[:: max(1, len(there) // max(1, sample))][:sample]
        if encoder is None or not chosen:
            return report
        limit = tolerance if tolerance is not None else 1e-3 if self.spec.precision == "fp32" else 0.03
        report.checked = len(chosen)
        report.worst = self._embed_again(encoder, chosen, limit)
        return report

    def _check_segments(self) -> None:
        self.refresh()
        for segment in self._segments:
            segment.check()

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
                    problem = f"the {pooling} vector of {sequence[:20]}… is off by {off:.2g} when embedded again"
                    raise CacheError(self.folder, problem, "delete this folder and run embed again")
                worst = max(worst, off)
        return worst


def seal(folder: Path, pending: Pending) -> None:
    """Seal rows in a segment of their own, for whoever opens the cache or refreshes it.

    Raises
    ------
    CacheError
        If it cannot be written.
    """
    with _as_cache_error(folder, "a segment cannot be written"):
        write_segment(folder / new_name(), pending.spec, pending.columns())


def _even_runs(segments: Sequence[Segment], runs: int) -> list[Sequence[Segment]]:
    """Part segments, in their order, into runs of about as many bytes each."""
    ends = np.cumsum([segment.nbytes for segment in segments])
    middles = ends - np.array([segment.nbytes for segment in segments]) / 2
    number = (middles * runs / ends[-1]).astype(np.int64)
    bounds = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(segments)]
    return [segments[start:stop] for start, stop in itertools.pairwise(bounds)]


def _unless_gone(read: Callable[[], T], refresh: Callable[[], object] = lambda: None) -> T:
    """Call `read`, and once more whenever a segment has gone; `refresh` sees what is there instead."""
    for _ in range(MOST_TRIES):
        try:
            return read()
        except SegmentGoneError:
            refresh()
    return read()


def _indexed(path: Path, known: Known | None, remote: RemoteSegments | None) -> Segment | None:
    """Return a segment as the index has it, if that is of this very file."""
    if known is None:
        return None
    about = segment_stat(path, remote)
    if (about.st_size, about.st_mtime_ns) != (known.nbytes, known.mtime_ns):
        return None
    return Segment(path, known, remote)


def _open_existing(folder: str | Path, spec: EmbeddingSpec) -> EmbeddingCache:
    """Open a cache that must be there and of this spec."""
    if not (Path(folder) / SPEC).is_file():
        raise CacheError(folder, "this is no cache of embeddings (no spec.json)", "give the folder of one spec's cache")
    return EmbeddingCache.open(folder, spec)


def _read_spec(path: Path) -> EmbeddingSpec:
    """Read spec.json, or say what is wrong with it."""
    try:
        return EmbeddingSpec.from_json(read_json(path))
    except FileNotFoundError as error:
        raise CacheError(path.parent, "this is no cache of embeddings (no spec.json)", "run embed first") from error
    except (ValueError, UsageError) as error:
        fix = "update esmcls" if "newer" in str(error) else "delete it and run embed again; what is cached stays"
        raise CacheError(path, f"this spec cannot be read ({error})", fix) from error


@contextlib.contextmanager
def _as_cache_error(folder: Path, what: str) -> Iterator[None]:
    """Turn an error of the file system into one line that names the folder and what to do."""
    try:
        yield
    except SegmentGoneError:
        raise
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
