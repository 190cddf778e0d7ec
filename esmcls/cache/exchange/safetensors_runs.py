"""Vectors in safetensors: a tensor a protein, or a run of FastPLMs, whose index says which tensor is of what sequence.

FastPLMs (github.com/Synthyra/FastPLMs, src/fastplms/embeddings/storage.py) leads from file to file, all in one folder:

    run.json or NAME.run.json     format fastplms-embedding-run: the index that counts
    …index….json                  format fastplms-embedding-safetensors: descriptor_shards (version 2), records (1)
    …records….jsonl               a line a protein: id, sequence, tensor (file, key, dtype, shape)
    ….safetensors                 the tensors
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from esmcls.cache.exchange.imported import Imported, imported, unreadable
from esmcls.cache.exchange.torch_tensors import as_array
from esmcls.errors import DataError
from esmcls.files import refuse_what_is_no_file
from esmcls.plain_values import from_plain, parse_json, read_json

RUN: Final = "run.json"
_INDEX: Final = "fastplms-embedding-safetensors"
_POINTERS: Final = ("fastplms-embedding-run", "fastplms-embedding-index-pointer")
_MOST_POINTERS: Final = 4
_KEY: Final = re.compile(r"embedding_\d{8,}")
"""Of FastPLMs' tensors: a number, which says nothing without the index."""
_OF_SAFETENSORS: Final = (SafetensorError, OSError, ValueError, RuntimeError, OverflowError, KeyError)


@dataclass(frozen=True)
class _File:
    """A file that another one names."""

    file: str


@dataclass(frozen=True)
class _Pointer:
    """What leads to an index, or holds one (version 1)."""

    index: _File
    index_payload: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Tensor:
    """Where a tensor lies."""

    file: str
    key: str


@dataclass(frozen=True)
class _Record:
    """A protein of a run."""

    id: str
    sequence: str
    tensor: _Tensor


@dataclass(frozen=True)
class _Index:
    """What is read of an index."""

    records: list[_Record] = field(default_factory=list)
    descriptor_shards: list[_File] = field(default_factory=list)


def read_safetensors(path: Path, pooling: str) -> Iterator[Imported]:
    """Yield the vectors of a file of one tensor a protein, by its id or sequence."""
    try:
        refuse_what_is_no_file(path)
        with safe_open(path, framework="pt") as handle:
            names = list(handle.keys())
            if any(map(_KEY.fullmatch, names)):
                problem = "tensors of FastPLMs by their numbers, without ids"
                raise DataError(path, problem, f"give the folder, or its {RUN}, which says whose they are")
            for name in names:
                yield imported(name, as_array(handle.get_tensor(name)), pooling, f"{path}:{name[:80]}")
    except _OF_SAFETENSORS as error:
        raise unreadable(path, error) from None


def run_of(path: Path) -> Path | None:
    """Return the run of FastPLMs that a path names: its folder, or the name that `embed_dataset` was given."""
    if path.is_dir():
        return path / RUN if (path / RUN).exists() else None
    beside = path.with_suffix(f".{RUN}")
    return beside if path.suffix == ".safetensors" and beside.exists() else None


def read_run(path: Path, pooling: str) -> Iterator[Imported]:
    """Yield the vectors of a run of FastPLMs, with their sequences, from any of its JSON files."""
    opened: dict[str, Any] = {}
    with ExitStack() as files:
        for record in _records(path):
            tensors = _beside(path, record.tensor.file)
            place = f"{tensors}:{record.tensor.key[:80]}"
            try:
                if record.tensor.file not in opened:
                    refuse_what_is_no_file(tensors)
                    opened[record.tensor.file] = files.enter_context(safe_open(tensors, framework="pt"))
                tensor = opened[record.tensor.file].get_tensor(record.tensor.key)
            except _OF_SAFETENSORS as error:
                raise unreadable(tensors, error) from None
            yield imported(record.id, as_array(tensor), pooling, place, record.sequence)


def run_files(path: Path) -> list[Path]:
    """Return the files that the vectors of a run are in, and the lists of whose they are."""
    shards = [_beside(path, shard.file) for shard in _index(path).descriptor_shards]
    tensors = {_beside(path, record.tensor.file) for record in _records(path)}
    return [*(shards or [path]), *sorted(tensors)]


def _index(path: Path) -> _Index:
    """Follow the files that lead from one to the next, to the index."""
    try:
        content = from_plain(dict[str, Any], read_json(path))
        for _ in range(_MOST_POINTERS):
            if content.get("format") == _INDEX:
                return from_plain(_Index, content)
            if content.get("format") not in _POINTERS:
                raise ValueError(f"format {str(content.get('format'))[:40]!r} instead of {_POINTERS[0]!r}")
            pointer = from_plain(_Pointer, content)
            content = pointer.index_payload or from_plain(dict[str, Any], read_json(_beside(path, pointer.index.file)))
        raise ValueError("files that lead to one another, and to no index")
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def _records(path: Path) -> Iterator[_Record]:
    """Yield the proteins of a run in their order."""
    index = _index(path)
    yield from index.records
    for shard in index.descriptor_shards:
        file = _beside(path, shard.file)
        try:
            refuse_what_is_no_file(file)
            with open(file, "rb") as lines:
                for line in lines:
                    if line.strip():
                        yield from_plain(_Record, parse_json(line))
        except (OSError, ValueError) as error:
            raise unreadable(file, error) from None


def _beside(path: Path, name: str) -> Path:
    """Return a file of the same folder.

    Raises
    ------
    DataError
        If the name leads out of it.
    """
    if Path(name).name != name:
        raise DataError(path, f"a file {name[:80]!r} outside its folder", "give the folder that FastPLMs wrote")
    return path.with_name(name)
