"""Sealed segments: HDF5 files that appear whole and are never written to again.

One segment holds n sequences, in columns:

    key     (n, 32) uint8     sha256 of the sequence
    length  (n,) int64        residues
    inputs  (n,) int64        encoder inputs it was cut into
    mean    (n, width)        and cls, max, as far as the spec names them
    chunk   (m, width)        vectors of sequence i in rows chunk_offsets[i] to chunk_offsets[i + 1]; residue likewise

HDF5 has no journal, and a write that fails in the middle leaves the library in a state where closing the file ends
the process (HDF5 2.0, full disk). So it never sees a failure here: it writes through `SteadyFile`, which keeps the
first error for the end, and a file gets its name only after that.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt

from esmcls.cache.spec import FORMAT, EmbeddingSpec, canonical
from esmcls.errors import CacheError
from esmcls.files import atomic_path
from esmcls.types import Indices, Vectors

BLOCK_BYTES: Final = 16 << 20
"""Bytes that are read or written at once."""
GAP: Final = 64 << 10
"""Bytes that are rather read and thrown away than skipped."""
AGAIN: Final = "delete this file and run embed again; what else is cached stays"


@dataclass(frozen=True)
class Column:
    """A column to be written: its shape, its dtype, and its rows, block by block."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Iterable[npt.NDArray[Any]]

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> Column:
        """Hold an array that is there already."""
        return cls(array.shape, array.dtype, [array])


class SteadyFile(io.RawIOBase):
    """A file for h5py that never fails; the first error is kept in `error`, and nothing is written after it."""

    def __init__(self, raw: io.FileIO) -> None:
        self.raw = raw
        self.error: BaseException | None = None

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; HDF5 reads back what it has written of its own tables."""
        return self.raw.readinto(buffer) or 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        return self.raw.seek(offset, whence)

    def tell(self) -> int:
        """Say where we are."""
        return self.raw.tell()

    def write(self, data: Any) -> int:
        """Write all of `data`, or nothing more at all."""
        rest = memoryview(data).cast("B")
        try:
            while len(rest) and self.error is None:
                rest = rest[self.raw.write(rest) :]
        except BaseException as error:  # kept and raised by `write_segment`
            self.error = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        """Cut the file to a size."""
        try:
            if self.error is None:
                self.raw.truncate(size)
        except BaseException as error:
            self.error = error
        return size or 0


def new_name(after: str | None = None) -> str:
    """Return a unique name that sorts by time (UTC), or at the time of another segment that it replaces."""
    stamp = after.partition("-")[0] if after else datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%f")
    return f"{stamp}-{uuid.uuid4().hex[:12]}.h5"


def write_segment(path: Path, spec: EmbeddingSpec, columns: Mapping[str, Column], replaces: Sequence[str] = ()) -> None:
    """Write a segment; it appears under its name when every byte of it is on the disk.

    Parameters
    ----------
    path : Path
        Its file, which must be new.
    spec : EmbeddingSpec
    columns : mapping of str to Column
    replaces : sequence of str
        Names of the segments whose rows are all in this one.

    Raises
    ------
    OSError
        If the disk does not take it.
    """
    with atomic_path(path) as temporary, open(temporary, "x+b", buffering=0) as raw:
        steady = SteadyFile(raw)
        # superblock 3 has checksums and takes attributes beyond 64 KiB; every HDF5 since 1.10 reads it
        with h5py.File(steady, "w", libver=("v110", "v110")) as file:
            file.attrs["format"] = FORMAT
            file.attrs["spec"] = canonical(spec.to_json())
            file.attrs["replaces"] = json.dumps(sorted(replaces))
            for name, column in columns.items():
                _write_column(file, name, column, steady)
        if steady.error is not None:
            raise steady.error


def _write_column(file: h5py.File, name: str, column: Column, steady: SteadyFile) -> None:
    """Write one column and the digest of its content."""
    dataset = file.create_dataset(name, column.shape, column.dtype)
    digest = _new_digest(column.shape, column.dtype)
    row = 0
    for block in column.blocks:
        if steady.error is not None:
            return
        block = np.ascontiguousarray(block)
        if len(block):
            dataset[row : row + len(block)] = block
            digest.update(block.data)
        row += len(block)
    dataset.attrs["sha256"] = digest.hexdigest()


def _new_digest(shape: tuple[int, ...], dtype: np.dtype[Any]) -> hashlib._Hash:
    """Begin the digest of a column with what gives its bytes a meaning."""
    return hashlib.sha256(f"{'x'.join(map(str, shape))} {dtype.str}\n".encode())


class Segment:
    """A sealed segment, open for reading.

    Parameters
    ----------
    path : Path

    Raises
    ------
    CacheError
        If it is truncated, no segment at all, or of a newer format.
    FileNotFoundError
        If it is not there; another process may have compacted it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        path.stat()  # a file that has gone is not a broken one
        try:
            self.file = h5py.File(path, "r", locking=False)  # sealed: nobody writes, and network disks may not lock
        except FileNotFoundError:
            raise
        except OSError as error:
            problem = "truncated" if "truncated" in str(error) else "no HDF5 file, or a damaged one"
            raise CacheError(path, f"this segment is {problem}", AGAIN) from error
        try:
            self._read_head()
        except BaseException:
            self.file.close()
            raise

    def _read_head(self) -> None:
        attrs = dict(self.file.attrs)
        if not {"format", "spec", "replaces"} <= attrs.keys() or not isinstance(attrs["format"], np.integer):
            raise CacheError(self.path, "this is no segment of an esmcls cache", "move it out of this folder")
        if attrs["format"] > FORMAT:
            problem = f"this segment is of format {attrs['format']}; this esmcls reads up to {FORMAT}"
            raise CacheError(self.path, problem, "update esmcls")
        try:
            self.spec = EmbeddingSpec.from_json(json.loads(attrs["spec"]))
            self.replaces = frozenset(json.loads(attrs["replaces"]))
            self._check_columns()
            self.keys: npt.NDArray[np.uint8] = self.file["key"][:]
        except (KeyError, OSError, TypeError, ValueError) as error:
            raise CacheError(self.path, f"this segment is damaged ({error})", AGAIN) from error

    def _check_columns(self) -> None:
        """Check that every column is there, with a row a sequence."""
        rows = len(self.file["key"])
        for name in ("length", "inputs", *self.spec.pooled):
            if self.file[name].shape[0] != rows:
                raise ValueError(f"column {name} has {len(self.file[name])} rows, not {rows}")
        for name in self.spec.ragged:
            if self.file[f"{name}_offsets"].shape[0] != rows + 1 or name not in self.file:
                raise ValueError(f"column {name} does not fit its {rows} sequences")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes on the disk."""
        return int(self.file.id.get_filesize())

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def column(self, name: str) -> npt.NDArray[Any]:
        """Read a whole column."""
        return self.read_into(name, np.arange(len(self.file[name]), dtype=np.int64))

    def read_into(self, name: str, rows: Indices, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Read ascending rows of a column in slices, never by an index, which HDF5 takes minutes for.

        Parameters
        ----------
        name : str
        rows : int64 array, (n,)
            Strictly ascending.
        out : array, (n, ...), optional
            Where to; default a new array.
        """
        dataset = self.file[name]
        out = np.empty((len(rows), *dataset.shape[1:]), dtype=dataset.dtype) if out is None else out
        row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
        for part in _runs(rows, max(1, GAP // row_bytes), max(1, BLOCK_BYTES // row_bytes)):
            start = int(rows[part.start])
            stop = int(rows[part.stop - 1]) + 1
            target = out[part]
            try:
                if stop - start == len(target) and target.flags.c_contiguous:
                    dataset.read_direct(target, np.s_[start:stop])
                else:
                    target[...] = dataset[start:stop][rows[part] - start]
            except OSError as error:
                raise CacheError(self.path, f"column {name} cannot be read ({error})", AGAIN) from error
        return out

    def offsets(self, name: str) -> Indices:
        """Where the vectors of each sequence begin in a ragged column, (n + 1,)."""
        return self.column(f"{name}_offsets")

    def ragged(self, name: str, rows: Indices) -> Iterator[Vectors]:
        """Read the vectors of each of ascending rows."""
        offsets = self.offsets(name)
        for row in rows.tolist():
            yield self.read_into(name, np.arange(offsets[row], offsets[row + 1], dtype=np.int64))

    def check(self) -> None:
        """Compare every column with the digest that was stored with it.

        Raises
        ------
        CacheError
            If a byte differs.
        """
        try:
            wrong = [name for name, dataset in self.file.items() if self._digest(name) != dataset.attrs.get("sha256")]
        except (KeyError, OSError, RuntimeError) as error:
            raise CacheError(self.path, f"this segment is damaged ({error})", AGAIN) from error
        if wrong:
            raise CacheError(self.path, f"column {wrong[0]} of this segment does not have its digest", AGAIN)

    def _digest(self, name: str) -> str:
        """Return the digest of a column's content."""
        dataset = self.file[name]
        digest = _new_digest(dataset.shape, dataset.dtype)
        step = max(1, BLOCK_BYTES // max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))))
        for start in range(0, len(dataset), step):
            rows = np.arange(start, min(start + step, len(dataset)), dtype=np.int64)
            digest.update(self.read_into(name, rows).data)
        return digest.hexdigest()


def _runs(rows: Indices, gap: int, longest: int) -> Iterator[slice]:
    """Part ascending rows into runs that are worth one read each, at most `longest` rows apart."""
    if not len(rows):
        return
    bounds = [0, *(np.flatnonzero(np.diff(rows) > gap) + 1).tolist(), len(rows)]
    for start, stop in itertools.pairwise(bounds):
        while start < stop:
            end = start + int(np.searchsorted(rows[start:stop], rows[start] + longest))
            yield slice(start, end)
            start = end
