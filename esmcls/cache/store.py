"""The cache: every distinct sequence embedded once, in sealed segments that a crash cannot harm.

    cache/<spec key>/
        spec.json                                  what decides the vectors
        20261121T060831123456-1f2e3d4c5b6a.h5      a sealed segment, see `segments`
        .20261121T06....h5.4711.0a1b2c3d.tmp       being written, or left by a writer that died

Several writers need no lock: names are unique, readers see sealed segments alone, and of a key that two writers
stored the first row in the order of the names wins.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from esmcls.cache.index import KeyIndex, all_keys, gather
from esmcls.cache.pending import Pending
from esmcls.cache.sealed import InMemory, SealedCache, VerifyReport, read_spec, told
from esmcls.cache.segments import Column, Segment, new_name, write_segment
from esmcls.cache.spec import EmbeddingSpec, keys_of, sequence_key
from esmcls.errors import CacheError
from esmcls.files import write_json

if TYPE_CHECKING:
    from esmcls.encoders.encoder import Embedded

__all__ = ["EmbeddingCache", "EmbeddingSpec", "VerifyReport", "sequence_key"]

SEAL_BYTES: Final = 64 << 20
SEAL_SECONDS: Final = 30.0
MOST_SEGMENTS: Final = 64
STALE_SECONDS: Final = 3600.0
"""Age of a temporary file that is nobody's any more: a living writer is at its file for seconds."""


class EmbeddingCache(SealedCache):
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
        self._pending, self._swept = Pending(spec), False
        super().__init__(folder, spec, in_memory)

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
            What the cache must hold; with it, a folder that is not there is made.
        in_memory : "auto" or bool
            Whether vectors are held in memory: "auto" once as many rows have been read as there are, if they fit into
            a quarter of the memory that is free.

        Raises
        ------
        CacheError
            If it cannot be read, is of another spec or of a newer format.
        """
        path = Path(folder)
        with told(path, "cannot be opened"):
            if spec is not None and not (path / "spec.json").exists():
                path.mkdir(parents=True, exist_ok=True)
                write_json(path / "spec.json", spec.to_json())
            stored = read_spec(path / "spec.json")
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

    def __len__(self) -> int:
        """Count the distinct sequences, those not yet sealed with them."""
        return len(self._keys().first_rows()) + len(self._pending)

    # writing

    def missing(self, sequences: Sequence[str]) -> list[int]:
        """Return the positions of the sequences that are not there, of equal ones the first, in input order."""
        keys = keys_of(sequences)
        absent = np.flatnonzero(self._keys().find(keys) < 0).tolist()
        first: dict[bytes, int] = {}
        for position in absent:
            first.setdefault(keys[position].tobytes(), position)
        return [position for key, position in first.items() if key not in self._pending.keys]

    def append(self, sequences: Sequence[str], embedded: Embedded) -> None:
        """Add a batch; it is sealed with later ones after 64 MiB or 30 s, or by `flush`.

        Parameters
        ----------
        sequences : sequence of str, (n,)
            Those that are there already are passed over.
        embedded : Embedded
            What the encoder gave for them, with all that the spec stores.

        Raises
        ------
        NonFiniteError
            If a vector is not finite, as computed or as stored; nothing of the batch is added then.
        WidthMismatchError
            If the vectors do not have the spec's width.
        CacheError
            If a segment cannot be written.
        """
        self._pending.add(sequences, self.missing(sequences), embedded)
        if self._pending.nbytes >= SEAL_BYTES or self._pending.age >= SEAL_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Seal what was appended since the last segment; after an error it is given up, what is sealed stays.

        Raises
        ------
        CacheError
            If it cannot be written.
        """
        pending, self._pending = self._pending, Pending(self.spec)
        if len(pending):
            self._set_segments([*self._segments, self._write(pending.columns())])
        if len(self._segments) > MOST_SEGMENTS:
            with contextlib.suppress(CacheError):  # it only saves files; the rows are safe
                self.refresh()
                self._compact(self._cheapest_run())

    def _write(self, columns: dict[str, Column], replaced: Sequence[Segment] = ()) -> Segment:
        """Write and open a new segment, at the place of those it replaces."""
        path = self.folder / new_name(replaced[0].name if replaced else None)
        self._sweep()
        names = {segment.name for segment in replaced}
        left = {name for segment in replaced for name in segment.replaces if (self.folder / name).exists()}
        with told(self.folder, "a segment cannot be written"):
            write_segment(path, self.spec, columns, sorted(names | left))  # left-overs stay hidden
            return Segment(path)

    def _sweep(self) -> None:
        """Remove what dead writers left: old temporaries, and segments that were replaced."""
        if self._swept:
            return
        self._swept = True
        with contextlib.suppress(OSError):
            oldest = time.time() - STALE_SECONDS
            for path in self.folder.glob(".*.h5.*.tmp"):
                if path.stat().st_mtime < oldest:
                    path.unlink()
            for name in {name for segment in self._segments for name in segment.replaces}:
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
        with contextlib.ExitStack() as stack:
            others = [stack.enter_context(_open_existing(folder, self.spec)) for folder in folders]
            segments = [segment for other in others for segment in other._segments]
            keys = all_keys(segments)
            rows = KeyIndex(keys).first_rows()
            rows = rows[self._keys().find(keys[rows]) < 0]
            if len(rows):
                self._set_segments([*self._segments, self._write(gather(segments, rows, self.spec))])
            return len(rows)

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
        with told(self.folder, "replaced segments cannot be deleted"):
            for name in merged.replaces:
                (self.folder / name).unlink(missing_ok=True)


def _open_existing(folder: str | Path, spec: EmbeddingSpec) -> EmbeddingCache:
    """Open a cache that must be there and of this spec."""
    if not (Path(folder) / "spec.json").is_file():
        raise CacheError(folder, "this is no cache of embeddings (no spec.json)", "give the folder of one spec's cache")
    return EmbeddingCache.open(folder, spec)
