"""Files of vectors by what they hold: the first bytes, or the files of a folder, say who reads them; names say nothing.

89 HDF                          HDF5
PK                              ZIP: npz where its members are arrays, else PyTorch
93 NUMPY                        npy, of PEPE
PAR1                            Parquet
SQLite format 3                 SQLite, of FastPLMs and Protify
{                               JSON, of a run of FastPLMs
length (8 bytes), {             safetensors
80                              PyTorch before 1.6
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from esmcls.cache.exchange.hdf5_datasets import read_h5
from esmcls.cache.exchange.imported import Imported, unreadable
from esmcls.cache.exchange.numpy_arrays import id_list, read_npz, read_pepe
from esmcls.cache.exchange.parquet_table import read_parquet
from esmcls.cache.exchange.safetensors_runs import read_run, read_safetensors, run_files, run_of
from esmcls.cache.exchange.sqlite_tables import read_sqlite
from esmcls.cache.exchange.torch_tensors import read_fair_esm_folder, read_tensors, tensor_files
from esmcls.errors import DataError
from esmcls.files import refuse_what_is_no_file, sha256_file

_GIVE: Final = (
    "give npz, h5, Parquet, safetensors, SQLite, .pth, a .npy of PEPE, or a folder of .pt files or of FastPLMs"
)
_USER_BLOCKS: Final = (0, 512, 1024, 2048)
"""Where the sign of HDF5 may stand, behind what a user put before it."""
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_LONGEST_HEADER: Final = 100_000_000
"""Bytes, of safetensors: as the library has it."""


@dataclass(frozen=True)
class Source:
    """A file or folder of vectors: how it is read, and what of it decides the vectors."""

    read: Callable[[str], Iterator[Imported]]
    files: list[Path]


def read_vectors(path: str | Path, *, pooling: str = "mean", layers: Sequence[int] | None = None) -> Iterator[Imported]:
    """Yield the vectors of another tool's file, one protein at a time.

    Parameters
    ----------
    path : str or Path
        Of any format that is known, by its content: see above; or the folder that fair-esm's `extract.py` wrote.
    pooling : {"mean", "cls", "max"}
        Made of residue vectors (`cls` only from fair-esm's `bos`); a stored vector is taken as it is.
    layers : sequence of int, optional
        Of fair-esm's files: the layers put side by side; default all that are there, ascending.

    Raises
    ------
    DataError
        If the file is of no such format or damaged, a vector has another width than the first, or is not finite.
    """
    return _checked(_source(Path(path), layers).read(pooling))


def source_digest(path: str | Path) -> str:
    """Return what tells a source of vectors from another: sha256 of the file, or of its files' and their names."""
    path = Path(path)
    files = _source(path, None).files
    if files == [path]:
        return sha256_file(path)
    folder = path if path.is_dir() else path.parent
    lines = (f"{sha256_file(file)}  {_name_in(folder, file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _name_in(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name


def _source(path: Path, layers: Sequence[int] | None) -> Source:
    """Return how a file or folder is read."""
    run = run_of(path)
    if run is not None:
        return Source(partial(read_run, run), run_files(run))
    if path.is_dir():
        return Source(partial(read_fair_esm_folder, path, layers=layers), tensor_files(path))
    try:
        refuse_what_is_no_file(path)
        return _source_of_file(path, layers)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def _source_of_file(path: Path, layers: Sequence[int] | None) -> Source:
    with open(path, "rb") as handle:
        start = handle.read(_USER_BLOCKS[-1] + len(_HDF5))
    if not start:
        raise ValueError("it is empty")
    if any(start.startswith(_HDF5, place) for place in _USER_BLOCKS):
        return Source(partial(read_h5, path), [path])
    if start.startswith(_ZIP):
        return Source(_reader_of_zip(path, layers), [path])
    if start.startswith(b"\x93NUMPY"):
        return Source(partial(read_pepe, path), [path, id_list(path)])
    if start.startswith(b"PAR1"):
        return Source(partial(read_parquet, path), [path])
    if start.startswith(b"SQLite format 3\0"):
        return Source(partial(read_sqlite, path), [path])
    if start.startswith(b"{"):
        return Source(partial(read_run, path), run_files(path))
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER:
        return Source(partial(read_safetensors, path), [path])
    if start.startswith(b"\x80"):
        return Source(partial(read_tensors, path, layers=layers), [path])
    raise DataError(path, "no file of vectors of any format that is known", _GIVE)


def _reader_of_zip(path: Path, layers: Sequence[int] | None) -> Callable[[str], Iterator[Imported]]:
    """Return the reader of an archive of arrays, or of PyTorch's, which has a pickle in it."""
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ValueError(str(error)) from None
    of_torch = any(name == "data.pkl" or name.endswith("/data.pkl") for name in names)
    return partial(read_tensors, path, layers=layers) if of_torch else partial(read_npz, path)


def _checked(vectors: Iterator[Imported]) -> Iterator[Imported]:
    width = None
    for item in vectors:
        width = width or len(item.vector)
        if len(item.vector) != width:
            problem = f"a vector of width {len(item.vector)} after ones of {width}"
            raise DataError(item.place, problem, "give vectors of one model", record=item.id)
        if not np.isfinite(item.vector).all():
            raise DataError(item.place, "NaN or infinity in the vector", "embed that protein again", record=item.id)
        yield item
