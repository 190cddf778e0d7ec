"""Sealed segments: HDF5 files that appear whole and are never written to again.

One segment holds n sequences, in columns:

    key     (n, 32) uint8     sha256 of the sequence
    length  (n,) int64        residues
    inputs  (n,) int64        encoder inputs it was cut into
    mean    (n, width)        and cls, max, as far as the spec names them
    chunk   (m, width)        vectors of sequence i in rows chunk_offsets[i] to chunk_offsets[i + 1]; residue likewise,
                              and residue_int8 as bytes: see `esmcls.cache.spec.quantised`

A file gets its name only when `new_hdf5` has ended without an error of the disk.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import stat
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from esmcls.cache.spec import BLOCK, FORMAT, RESIDUE_INT8, EmbeddingSpec, canonical
from esmcls.cache.steady_file import new_hdf5
from esmcls.errors import CacheError, EsmclsError, UsageError
from esmcls.files import atomic_path, system_errno
from esmcls.foreign.hdf5 import TRUNCATED, check_hdf5, check_open_hdf5
from esmcls.plain_values import from_plain, parse_json
from esmcls.remote.blocks import About, RemoteSegments
from esmcls.types import Indices, Vectors

BLOCK_BYTES: Final = 16 << 20
"""Bytes that are read or written at once."""
GAP: Final = 64 << 10
"""Bytes that are rather read and thrown away than skipped."""
SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
"""The first bytes of an HDF5 file."""
LARGEST_RATIO: Final = 1000
"""Times that a packed dataset may be larger than its bytes."""
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
    with atomic_path(path) as temporary, new_hdf5(temporary) as file:
        file.attrs["format"] = FORMAT
        file.attrs["spec"] = canonical(spec.to_json())
        file.attrs["replaces"] = json.dumps(sorted(replaces))
        for name, column in columns.items():
            _write_column(file, name, column)


def _write_column(file: h5py.File, name: str, column: Column) -> None:
    """Write one column and the digest of its content."""
    dataset = file.create_dataset(name, column.shape, column.dtype)
    digest = _new_digest(column.shape, column.dtype)
    row = 0
    for block in column.blocks:
        block = np.ascontiguousarray(block)
        if len(block):
            dataset[row : row + len(block)] = block
            digest.update(block.data)
        row += len(block)
    dataset.attrs["sha256"] = digest.hexdigest()


def _new_digest(shape: tuple[int, ...], dtype: np.dtype[Any]) -> hashlib._Hash:
    """Begin the digest of a column with what gives its bytes a meaning."""
    return hashlib.sha256(f"{'x'.join(map(str, shape))} {dtype.str}\n".encode())


def form_of(spec: EmbeddingSpec, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape of a row of a column, and the column's dtype."""
    if name == "key":
        return (32,), np.dtype(np.uint8)
    if name in ("length", "inputs") or name.endswith("_offsets"):
        return (), np.dtype(np.int64)
    if name == RESIDUE_INT8:
        return (spec.width + 2 * spec.width // BLOCK,), np.dtype(np.uint8)
    return (spec.width,), np.dtype(spec.dtype)


def plain_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset whose bytes lie in this file, as many as it claims.

    Raises
    ------
    ValueError
        If it is a link, or is made of other files, or claims more than is there.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link, or is not there")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{name} is a {type(dataset).__name__.lower()}, not a dataset")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"the content of {name} lies in other files")
    if dataset.dtype.hasobject:
        raise ValueError(f"{name} holds {dataset.dtype} instead of numbers")
    stored = dataset.id.get_storage_size()
    packed = dataset.id.get_create_plist().get_nfilters() > 0
    if dataset.size * dataset.dtype.itemsize > stored * (LARGEST_RATIO if packed else 1):
        raise ValueError(f"{name} claims {dataset.size:,} numbers, but holds {stored:,} bytes")
    return dataset


def _open_hdf5(path: Path, remote: RemoteSegments | None) -> h5py.File:
    """Open an HDF5 file for reading; errors of the system are told apart from those of its content."""
    with _told(path):
        if remote is not None and not path.exists():
            return _open_remote(path, remote)
        if not stat.S_ISREG(path.stat().st_mode):
            raise CacheError(path, "this is no file", "move it out of this folder")
        with open(path, "rb") as handle:
            start = handle.read(len(SIGNATURE))
        _check_start(path, start)
        with _layout_of(path):
            check_hdf5(path)
        return h5py.File(path, "r", locking=False)  # sealed: nobody writes, and network disks may not lock


def _open_remote(path: Path, remote: RemoteSegments) -> h5py.File:
    """Open a segment that lies in a store alone; the library holds the handle as long as the file is open."""
    handle = remote.open(path.name)
    _check_start(path, handle.read(len(SIGNATURE)))
    with _layout_of(path):
        check_open_hdf5(handle, remote.stat(path.name).st_size)
    return h5py.File(handle, "r")


def _check_start(path: Path, start: bytes | None) -> None:
    if start != SIGNATURE:
        raise CacheError(path, "this segment is no HDF5 file, or a damaged one", AGAIN)


@contextlib.contextmanager
def _layout_of(path: Path) -> Iterator[None]:
    """Refuse, before the library sees it, what is not laid out as a segment: a file of others, or a damaged one."""
    try:
        yield
    except ValueError as error:
        if str(error) == TRUNCATED:
            raise CacheError(path, "this segment is truncated", AGAIN) from None
        problem = f"this is no segment of an esmcls cache, or a damaged one ({error})"
        raise CacheError(path, problem, "move it out of this folder and run embed again, or update esmcls") from None


@contextlib.contextmanager
def _told(path: Path, what: str = "this segment is") -> Iterator[None]:
    """Turn what goes wrong with a segment into one line: only where its content is wrong may it be deleted."""
    try:
        yield
    except EsmclsError:
        raise
    except FileNotFoundError as error:
        raise SegmentGoneError(errno.ENOENT, "the segment has gone", str(path)) from error
    except MemoryError as error:
        raise _of_the_system(path, errno.ENOMEM) from error
    except Exception as error:  # whatever h5py makes of a damaged file
        number = system_errno(error)
        if number is not None:
            raise _of_the_system(path, number) from error
        if "truncated" in str(error):
            raise CacheError(path, "this segment is truncated", AGAIN) from error
        raise CacheError(path, f"{what} damaged ({_first_line(error)})", AGAIN) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _of_the_system(path: Path, number: int) -> CacheError:
    remedies = {
        errno.EMFILE: "raise the limit (ulimit -n)",
        errno.ENFILE: "close other programs",
        errno.ENOMEM: "free some memory",
        errno.EACCES: "check its permissions",
        errno.EPERM: "check its permissions",
    }
    fix = f"{remedies.get(number, 'check the disk')} and run again; keep the file, its content was not found wrong"
    return CacheError(path, f"this segment cannot be read ({os.strerror(number)})", fix)


class SegmentGoneError(FileNotFoundError):
    """A segment that another process has compacted since it was listed: `EmbeddingCache.refresh` sees what is."""


class _OpenFiles:
    """The HDF5 files that are open for reading: the few used last."""

    def __init__(self) -> None:
        self.files: dict[Segment, h5py.File] = {}
        self.lock = threading.RLock()

    @contextlib.contextmanager
    def use(self, segment: Segment) -> Iterator[h5py.File]:
        """Give the file of a segment, opened if need be; the one that was not used for longest makes room."""
        with self.lock:
            file = self.files.pop(segment, None)
            if file is None:
                most = most_open_files()
                while len(self.files) >= most:
                    self.files.pop(next(iter(self.files))).close()
                file = segment.opened()
            self.files[segment] = file
            yield file

    def close(self, segment: Segment) -> None:
        """Close the file of a segment, if it is open."""
        with self.lock:
            file = self.files.pop(segment, None)
            if file is not None:
                file.close()


def most_open_files() -> int:
    """Return how many segments may be open at once: a quarter of the descriptors that a process may have, 32 at most.

    Each holds about 0.7 MB besides.
    """
    try:
        import resource
    except ImportError:
        return 32
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 32 if allowed == resource.RLIM_INFINITY else max(1, min(32, allowed // 4))


_OPEN: Final = _OpenFiles()


class Segment:
    """A sealed segment; its file is opened when rows are read, and closed for others.

    Parameters
    ----------
    path : Path
    known : Known, optional
        What is known of it from an index; else its head and keys are read.
    remote : RemoteSegments, optional
        Where it is read from if it is not in its folder.

    Raises
    ------
    CacheError
        If it is truncated, no segment at all, or of a newer format.
    FileNotFoundError
        If it is not there; another process may have compacted it.
    """

    def __init__(self, path: Path, known: Known | None = None, remote: RemoteSegments | None = None) -> None:
        self.path = path
        self.remote = remote
        self.name = path.name
        if known is None:
            about = segment_stat(path, remote)
            with _OPEN.use(self) as file, _told(path):
                head = _head(file, path)
                known = Known(*head, file["key"][:], about.st_size, about.st_mtime_ns)
        self.spec, self.replaces, self.keys, self.nbytes, self.mtime_ns = known

    def opened(self) -> h5py.File:
        """Open the file and check that every column is there, in its form."""
        file = _open_hdf5(self.path, self.remote)
        try:
            with _told(self.path):
                spec = _head(file, self.path)[0]
                _check_columns(file, spec)
        except BaseException:
            file.close()
            raise
        return file

    def __len__(self) -> int:
        return len(self.keys)

    def close(self) -> None:
        """Close the file."""
        _OPEN.close(self)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Read a whole column."""
        with _OPEN.use(self) as file:
            rows = len(file[name])
        return self.read_into(name, np.arange(rows, dtype=np.int64))

    def read_into(self, name: str, rows: Indices, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Read ascending rows of a column in slices, never by an index, which HDF5 takes minutes for.

        Parameters
        ----------
        name : str
        rows : int64 array, (n,)
            Strictly ascending.
        out : array, (n, ...), optional
            Where to; default a new array.

        Raises
        ------
        CacheError
            If they cannot be read, or hold a number that is not finite.
        """
        with _OPEN.use(self) as file, _told(self.path, f"column {name} of this segment is"):
            dataset = file[name]
            out = np.empty((len(rows), *dataset.shape[1:]), dtype=dataset.dtype) if out is None else out
            row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
            for part in _runs(rows, max(1, GAP // row_bytes), max(1, BLOCK_BYTES // row_bytes)):
                _read_run(dataset, rows[part], out[part])
        return out

    def offsets(self, name: str) -> Indices:
        """Where the vectors of each sequence begin in a ragged column, (n + 1,)."""
        offsets: Indices = self.column(f"{name}_offsets")
        with _OPEN.use(self) as file:
            rows = len(file[name])
        if offsets[0] != 0 or offsets[-1] != rows or bool((offsets < 0).any() or (np.diff(offsets) < 0).any()):
            raise CacheError(self.path, f"the offsets of column {name} of this segment do not fit its rows", AGAIN)
        return offsets

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
        with _OPEN.use(self) as file, _told(self.path):
            digests = {name: plain_dataset(file, name).attrs.get("sha256") for name in file}
            rows = {name: file[name].shape for name in file}
        for name, digest in digests.items():
            if rows[name] == () or self._digest(name) != digest:
                raise CacheError(self.path, f"column {name} of this segment does not have its digest", AGAIN)

    def _digest(self, name: str) -> str:
        """Return the digest of a column's content."""
        with _OPEN.use(self) as file:
            shape, dtype = file[name].shape, file[name].dtype
        digest = _new_digest(shape, dtype)
        step = max(1, BLOCK_BYTES // max(1, dtype.itemsize * int(np.prod(shape[1:]))))
        for start in range(0, shape[0], step):
            rows = np.arange(start, min(start + step, shape[0]), dtype=np.int64)
            digest.update(self.read_into(name, rows).data)
        return digest.hexdigest()


def segment_stat(path: Path, remote: RemoteSegments | None) -> os.stat_result | About:
    """Return bytes and time of a segment, here or in a store.

    Raises
    ------
    SegmentGoneError
        If it is in neither.
    CacheError
        If the system does not say it.
    """
    with _told(path):
        return path.stat() if remote is None or path.exists() else remote.stat(path.name)


class Known(NamedTuple):
    """What an index says of a segment, so that its file need not be opened: the bytes and time are of that file."""

    spec: EmbeddingSpec
    replaces: frozenset[str]
    keys: npt.NDArray[np.uint8]
    nbytes: int
    mtime_ns: int


def _head(file: h5py.File, path: Path) -> tuple[EmbeddingSpec, frozenset[str]]:
    """Read whose vectors a segment holds, and which segments it replaces."""
    attrs = {name: file.attrs[name] for name in ("format", "spec", "replaces") if name in file.attrs}
    if len(attrs) < 3 or not isinstance(attrs["format"], np.integer):
        raise CacheError(path, "this is no segment of an esmcls cache", "move it out of this folder")
    if attrs["format"] > FORMAT:
        problem = f"this segment is of format {attrs['format']}; this esmcls reads up to {FORMAT}"
        raise CacheError(path, problem, "update esmcls")
    replaces = from_plain(list[str], parse_json(attrs["replaces"]))
    if any(Path(name).name != name for name in replaces):
        raise ValueError("its list of replaced segments is none")
    try:
        return EmbeddingSpec.from_json(parse_json(attrs["spec"])), frozenset(replaces)
    except UsageError as error:
        raise ValueError(str(error)) from error


def _check_columns(file: h5py.File, spec: EmbeddingSpec) -> None:
    """Check that every column is there in its form, with a row a sequence."""
    rows = plain_dataset(file, "key").shape[0]
    lengths: dict[str, int | None] = dict.fromkeys(("key", "length", "inputs", *spec.pooled), rows)
    for name in spec.ragged:
        lengths |= {f"{name}_offsets": rows + 1, name: None}
    for name, length in lengths.items():
        dataset = plain_dataset(file, name)
        shape, dtype = form_of(spec, name)
        if dataset.shape[1:] != shape or len(dataset.shape) != 1 + len(shape) or dataset.dtype != dtype:
            raise ValueError(f"column {name} is of {dataset.dtype} {dataset.shape}, not {dtype} {('n', *shape)}")
        if length is not None and dataset.shape[0] != length:
            raise ValueError(f"column {name} has {dataset.shape[0]} rows, not {length}")


def _read_run(dataset: h5py.Dataset, rows: Indices, target: npt.NDArray[Any]) -> None:
    """Read ascending rows that lie close together, in one slice."""
    start, stop = int(rows[0]), int(rows[-1]) + 1
    if stop - start == len(target) and target.flags.c_contiguous:
        dataset.read_direct(target, np.s_[start:stop])
    else:
        target[...] = dataset[start:stop][rows - start]
    if target.dtype.kind == "f" and not np.isfinite(target).all():
        raise ValueError("a number that is not finite")


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
