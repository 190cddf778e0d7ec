"""Vectors in SQLite, as FastPLMs and Protify write it; the latest run of a file that holds several.

FastPLMs (github.com/Synthyra/FastPLMs, src/fastplms/embeddings/storage.py):

    runs      run_id, created_at, published_order; the last of these is null until a run has records
    records   run_id, position, record_id, sequence
    tensors   run_id, position, dtype, shape_json, data: the numbers as they lie in memory

Protify (github.com/Synthyra/Protify, src/protify/utils.py) and FastPLMs before: embeddings (sequence, embedding), where
an embedding is one of

    01 dtype ndim shape… numbers      B B i 4i…; dtype 0 float16, 1 bfloat16 written as float16, 2 float32
    RAWT dtype ndim shape… numbers    4 B B 4I…; dtype 0 float32, 1 float16, 2 bfloat16, 3 float64
    what torch.save writes            of a tensor
"""

from __future__ import annotations

import math
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt
import torch
from torch import Tensor

from esmcls.cache.exchange.imported import Imported, imported, unreadable
from esmcls.cache.exchange.torch_tensors import as_array
from esmcls.errors import DataError
from esmcls.files import refuse_what_is_no_file
from esmcls.foreign.torch_files import read_torch_bytes
from esmcls.plain_values import from_plain, parse_json

_DTYPES: Final = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
_COMPACT: Final = (torch.float16, torch.float16, torch.float32)
_RAW: Final = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_RAW_SIGN: Final = b"RAWT"
_HEAD: Final = 6
"""Bytes before the shape, in both ways of writing one."""
_MOST_AXES: Final = 3
_RUN: Final = "SELECT run_id FROM runs {published} LIMIT 1"
_PUBLISHED: Final = "WHERE published_order IS NOT NULL ORDER BY published_order DESC, rowid DESC"
_CREATED: Final = "ORDER BY created_at DESC, rowid DESC"
_RECORDS: Final = (
    "SELECT record_id, sequence, dtype, shape_json, data FROM records JOIN tensors USING (run_id, position) "
    "WHERE run_id = ? ORDER BY position"
)


def read_sqlite(path: Path, pooling: str) -> Iterator[Imported]:
    """Yield the vectors of an SQLite file with their sequences; nothing in the file is run.

    Raises
    ------
    DataError
        If it is not laid out so, is damaged, or its last changes lie in another file.
    """
    log = path.with_name(f"{path.name}-wal")
    if log.is_file() and log.stat().st_size:
        fix = f"end the program that writes it, or run: sqlite3 {path.name} 'PRAGMA wal_checkpoint(TRUNCATE)'"
        raise DataError(path, f"its last changes are in {log.name} only", fix)
    try:
        refuse_what_is_no_file(path)
        _check_size(path)
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            for id, sequence, array in _arrays(path, connection):
                yield imported(id, array, pooling, f"{path}:{id[:80]}", sequence)
    except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
        raise unreadable(path, error) from None


def _check_size(path: Path) -> None:
    """Make sure that all pages are there that the head of the file counts (sqlite.org/fileformat2.html, 1.3)."""
    with open(path, "rb") as handle:
        head = handle.read(100)
    if len(head) < 100:
        raise ValueError("it is truncated")
    page = int.from_bytes(head[16:18], "big")
    pages = int.from_bytes(head[28:32], "big")
    counted = head[24:28] == head[92:96]  # else an old version wrote it last, which counts nothing
    if counted and pages * (page if page > 1 else 1 << 16) > path.stat().st_size:
        raise ValueError("it is truncated")


def _arrays(path: Path, connection: sqlite3.Connection) -> Iterator[tuple[str, str, npt.NDArray[Any]]]:
    """Yield id, sequence and array of each protein."""
    tables = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if {"runs", "records", "tensors"} <= tables:
        for id, sequence, dtype, shape, data in _rows_of_run(connection):
            yield _text(id), _text(sequence), as_array(_numbers(data, _DTYPES.get(dtype), shape))
    elif "embeddings" in tables:
        for sequence, data in connection.execute("SELECT sequence, embedding FROM embeddings ORDER BY rowid"):
            yield _text(sequence), _text(sequence), as_array(_of_blob(data))
    else:
        names = ", ".join(sorted(tables)) or "none"
        raise DataError(path, f"tables of no tool that is known ({names[:80]})", "give a file of FastPLMs or Protify")


def _rows_of_run(connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    columns = {row[1] for row in connection.execute("PRAGMA table_info(runs)")}
    latest = _RUN.format(published=_PUBLISHED if "published_order" in columns else _CREATED)
    run = connection.execute(latest).fetchone()
    if run is not None:
        yield from connection.execute(_RECORDS, run)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:40]!r} instead of the text of an id or sequence")
    return value


def _numbers(data: object, dtype: torch.dtype | None, shape_text: str) -> Tensor:
    """Return the tensor whose numbers lie in some bytes."""
    if dtype is None or not isinstance(data, bytes):
        raise ValueError("a tensor of another kind of numbers")
    return _shaped(data, dtype, from_plain(tuple[int, ...], parse_json(shape_text)))


def _shaped(data: bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    expected = math.prod(shape) * dtype.itemsize
    if len(shape) > _MOST_AXES or min(shape, default=0) < 1 or expected != len(data):
        raise ValueError(f"a tensor {shape} of {expected:,} bytes in {len(data):,}")
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)


def _of_blob(data: object) -> Tensor:
    """Return the tensor of one of the three ways in which Protify writes it."""
    if not isinstance(data, bytes):
        raise ValueError(f"a {type(data).__name__} instead of the bytes of a tensor")
    if len(data) > _HEAD and data[:4] == _RAW_SIGN:
        return _headed(data, _RAW, data[4], data[5])
    if len(data) > _HEAD and data[:1] == b"\1":
        return _headed(data, _COMPACT, data[1], int.from_bytes(data[2:_HEAD], "little"))
    content = read_torch_bytes(data)
    if not isinstance(content, Tensor):
        raise ValueError(f"a {type(content).__name__} instead of a tensor")
    return content


def _headed(data: bytes, dtypes: Sequence[torch.dtype], code: int, axes: int) -> Tensor:
    """Return the tensor behind a head, of which code and number of axes are known."""
    if code >= len(dtypes) or not 1 <= axes <= _MOST_AXES:
        raise ValueError(f"a tensor of kind {code} with {axes} axes")
    start = _HEAD + 4 * axes
    return _shaped(data[start:], dtypes[code], struct.unpack(f"<{axes}I", data[_HEAD:start]))
