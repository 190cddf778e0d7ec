"""Rows of many segments as one table: found by key, read in any order, gathered into new segments."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from esmcls.cache.segments import BLOCK_BYTES, Column, Known, Segment, form_of
from esmcls.cache.spec import EmbeddingSpec, canonical
from esmcls.errors import CacheError
from esmcls.files import atomic_path, refuse_what_is_no_file
from esmcls.plain_values import read_as, write_json
from esmcls.types import Indices, Vectors

Keys: TypeAlias = npt.NDArray[np.uint8]
"""(n, 32)."""
INDEX: Final = ".segments.index"
UNSEEN: Final = "unseen.json"
INDEX_HEAD: Final = 256 << 20
"""Bytes of its first line at most."""


class KeyIndex:
    """Finds rows by key: keys sorted by their first 8 bytes, the rest compared.

    A million keys: 0.2 s and 48 MB; a dict of bytes takes 0.7 s and 165 MB.

    Parameters
    ----------
    keys : uint8 array, (n, 32)
        A key may occur more than once; its first row is found.
    """

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        prefixes = _prefixes(keys)
        self.order = np.argsort(prefixes, kind="stable")  # equal prefixes stay in the order of their rows
        self.prefixes = prefixes[self.order]

    def find(self, keys: Keys) -> Indices:
        """Return the row of each key, -1 where there is none."""
        wanted = _prefixes(keys)
        leading = (wanted >> np.uint64(48)).astype(np.uint16)
        left = np.argsort(leading, kind="stable")  # near in the table, near in memory: a radix sort, in linear time
        place = np.empty(len(keys), dtype=np.int64)
        place[left] = np.searchsorted(self.prefixes, wanted[left])
        rows = np.full(len(keys), -1, dtype=np.int64)
        while len(left):  # more than once only where a prefix is shared
            left = left[place[left] < len(self.prefixes)]
            left = left[self.prefixes[place[left]] == wanted[left]]
            candidates = self.order[place[left]]
            same = (_words(self.keys[candidates]) == _words(keys[left])).all(axis=1)
            rows[left[same]] = candidates[same]
            left = left[~same]
            place[left] += 1
        return rows

    def first_rows(self) -> Indices:
        """Return the rows that are the first of their key, ascending."""
        later = np.flatnonzero(self.prefixes[1:] == self.prefixes[:-1]) + 1
        shared = self.order[np.union1d(later, later - 1)]
        first = np.ones(len(self.keys), dtype=np.bool_)
        first[shared] = self.find(self.keys[shared]) == shared
        return np.flatnonzero(first)


def all_keys(segments: Sequence[Segment]) -> Keys:
    """Return the keys of segments laid end to end."""
    return np.concatenate([np.empty((0, 32), dtype=np.uint8), *(segment.keys for segment in segments)])


def read_rows(segments: Sequence[Segment], name: str, rows: Indices) -> npt.NDArray[Any]:
    """Read rows of a column of segments laid end to end, in any order, in ascending slices.

    Parameters
    ----------
    segments : sequence of Segment
        At least one.
    name : str
    rows : int64 array, (n,)
    """
    shape, dtype = form_of(segments[0].spec, name)
    values = np.empty((len(rows), *shape), dtype=dtype)
    if bool((np.diff(rows) > 0).all()):
        for segment, part, place in _by_segment(segments, rows):
            segment.read_into(name, part, values[place])
        return values
    order = np.argsort(rows, kind="stable")
    step = max(1, BLOCK_BYTES // max(1, values[:1].nbytes))
    for start in range(0, len(rows), step):  # in blocks, so that there is no second copy of it all
        places = order[start : start + step]
        distinct, back = np.unique(rows[places], return_inverse=True)
        values[places] = read_rows(segments, name, distinct)[back]
    return values


def read_ragged(segments: Sequence[Segment], name: str, rows: Indices) -> list[Vectors]:
    """Read the vectors of each of some rows, in any order, of a ragged column."""
    distinct, back = np.unique(rows, return_inverse=True)
    read = [vectors for segment, part, _ in _by_segment(segments, distinct) for vectors in segment.ragged(name, part)]
    return [read[place] for place in back.tolist()]


def gather(
    segments: Sequence[Segment], rows: Indices, spec: EmbeddingSpec, numbers: Indices | None = None
) -> dict[str, Column]:
    """Return columns that hold ascending rows of segments laid end to end; they are read while they are written.

    Parameters
    ----------
    segments : sequence of Segment
    rows : int64 array, (n,)
    spec : EmbeddingSpec
        Of what is written.
    numbers : int64 array, (width,), optional
        Which numbers of each vector are taken, from `EmbeddingSpec.columns_in`; default all.
    """
    parts = [(segment, part) for segment, part, _ in _by_segment(segments, rows)]
    columns = {}
    for name in ("key", "length", "inputs", *spec.pooled):
        shape, dtype = form_of(spec, name)
        taken = numbers if name in spec.pooled else None
        columns[name] = Column((len(rows), *shape), dtype, _narrowed(_blocks(parts, name), taken))
    for name in spec.ragged:
        counts = [np.diff(segment.offsets(name))[part] for segment, part in parts]
        offsets = np.cumsum(np.concatenate([[0], *counts]), dtype=np.int64)
        vectors = (block for segment, part in parts for block in segment.ragged(name, part))
        columns[f"{name}_offsets"] = Column.of(offsets)
        shape, dtype = form_of(spec, name)
        columns[name] = Column((int(offsets[-1]), *shape), dtype, _narrowed(vectors, numbers))
    return columns


def _narrowed(blocks: Iterable[npt.NDArray[Any]], numbers: Indices | None) -> Iterable[npt.NDArray[Any]]:
    """Take some numbers of each vector, all if none are named."""
    return blocks if numbers is None else (block[:, numbers] for block in blocks)


def read_index(folder: Path, spec: EmbeddingSpec) -> dict[str, Known]:
    """Return what the index beside the segments says of each; nothing where there is none that can be used.

    An entry holds for the file of that name, bytes and time alone: the caller checks them.
    """
    try:
        refuse_what_is_no_file(folder / INDEX)
        with open(folder / INDEX, "rb") as handle:
            head = json.loads(handle.readline(INDEX_HEAD))
            keys = np.frombuffer(handle.read(), dtype=np.uint8).reshape(-1, 32)
        if head["format"] != 1 or head["spec"] != canonical(spec.to_json()) or head["sha256"] != _digest(keys):
            return {}
        bounds = np.cumsum([0, *(int(rows) for *_, rows in head["segments"])]).tolist()
        return {
            name: Known(spec, frozenset(replaces), keys[start:stop], nbytes, mtime_ns)
            for (name, nbytes, mtime_ns, replaces, _), start, stop in zip(
                head["segments"], bounds, bounds[1:], strict=False
            )
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def write_index(folder: Path, spec: EmbeddingSpec, segments: Sequence[Segment]) -> None:
    """Write the index beside the segments: a line of JSON, then their keys. It is only there to save time."""
    keys = all_keys(segments)
    entries = [[s.name, s.nbytes, s.mtime_ns, sorted(s.replaces), len(s)] for s in segments]
    head = {"format": 1, "spec": canonical(spec.to_json()), "sha256": _digest(keys), "segments": entries}
    with contextlib.suppress(OSError), atomic_path(folder / INDEX) as temporary, open(temporary, "wb") as handle:
        handle.write(canonical(head).encode() + b"\n")
        handle.write(keys.data)


def _digest(keys: Keys) -> str:
    return hashlib.sha256(np.ascontiguousarray(keys).data).hexdigest()


def _by_segment(segments: Sequence[Segment], rows: Indices) -> Iterator[tuple[Segment, Indices, slice]]:
    """Part ascending rows over segments laid end to end; yield each segment, its own rows and their place."""
    bounds = np.cumsum([0, *map(len, segments)])
    places = np.searchsorted(rows, bounds)
    for segment, first, start, stop in zip(segments, bounds, places, places[1:], strict=False):
        if stop > start:
            yield segment, rows[start:stop] - first, slice(int(start), int(stop))


def _blocks(parts: Sequence[tuple[Segment, Indices]], name: str) -> Iterator[npt.NDArray[Any]]:
    """Read a column of parts of segments, at most `BLOCK_BYTES` bytes at once."""
    for segment, rows in parts:
        shape, dtype = form_of(segment.spec, name)
        step = max(1, BLOCK_BYTES // (dtype.itemsize * int(np.prod(shape))))
        for start in range(0, len(rows), step):
            yield segment.read_into(name, rows[start : start + step])


def _prefixes(keys: Keys) -> npt.NDArray[np.uint64]:
    """Return the first 8 bytes of each key as one number."""
    return np.ascontiguousarray(keys[:, :8]).view(np.uint64).ravel()


def _words(keys: Keys) -> npt.NDArray[np.uint64]:
    """Return each key as four numbers of 8 bytes, (n, 4)."""
    return np.ascontiguousarray(keys).view(np.uint64)


# residues that another tool did not see


@dataclass(frozen=True)
class _Unseen:
    """What unseen.json holds: the key of a sequence in hexadecimal -> residues that its vector knows nothing of."""

    format: Literal[1]
    residues: dict[str, int]


def read_unseen(folder: Path) -> dict[str, int]:
    """Return how many residues the vectors of a cache know nothing of, by key in hexadecimal, where there are any.

    Raises
    ------
    CacheError
        If the file is damaged.
    """
    path = folder / UNSEEN
    if not path.is_file():
        return {}
    return read_as(path, _Unseen, CacheError, "import the vectors again").residues


def add_unseen(folder: Path, residues: Mapping[str, int]) -> None:
    """Add to what `read_unseen` returns."""
    if residues:
        write_json(folder / UNSEEN, {"format": 1, "residues": {**read_unseen(folder), **residues}})
