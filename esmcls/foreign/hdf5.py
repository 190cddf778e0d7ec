"""HDF5 as esmcls writes it, checked before the library sees it: of a damaged file it may never come back, or crash.

A segment is a group of plain columns: no chunks, filters, links but hard ones, or indices, which its few names do not
need. So all its metadata are headers of objects, each a list of messages, and texts of attributes in heaps:

    superblock         \\x89HDF…, version 3, sizes 8 and 8, addresses: base, extension, end of file, root; checksum
    OHDR               version 2, flags, (times), size of the first chunk, its messages; checksum
    OCHK               a further chunk of messages, to which one of type 16 leads; checksum
    message            type (1 byte), size (2), flags (1), body
    GCOL               texts: index (2 bytes), references (2), 0 (4), size (8), bytes padded to 8

"HDF5 File Format Specification Version 3.0", sections II.A, III.E and IV.A. Checksums are left to the library: who
makes a file can make them fit.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import h5py
import numpy as np

TRUNCATED: Final = "truncated"
"""What is said of a file that is shorter than it claims."""
_UNDEFINED: Final = (1 << 64) - 1
_SUPERBLOCK: Final = struct.Struct("<8sBBBBQQQQI")
_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_NOWHERE: Final = bytes(2) + b"\xff" * 16
"""Of an index that is not there: version, flags, two addresses."""
_MOST_CHUNKS: Final = 256
_LARGEST_CHUNK: Final = 1 << 16
_SCALAR: Final = b"\2\0\0\0"
_DTYPES: Final = ("u1", "<i8", "<f2", "<f4", "<f8")
_TEXT: Final = bytes.fromhex("1901010010000000100000000100000000000800")
"""The datatype of a text of any length, UTF-8."""


def check_hdf5(path: Path) -> None:
    """Make sure that a file is laid out as a segment is, to the last message, and nothing leads out of it.

    Raises
    ------
    ValueError
        If it is not.
    OSError
        If the system does not give it.
    """
    with open(path, "rb") as handle:
        check_open_hdf5(handle, os.fstat(handle.fileno()).st_size)


def check_open_hdf5(handle: BinaryIO | io.RawIOBase, size: int) -> None:
    """Make sure of the same of a file that is open, of so many bytes.

    Raises
    ------
    ValueError
        If it is not.
    """
    _Walk(handle, size).check()


def _encoded(dtype: str) -> bytes:
    """Return a datatype as messages hold it."""
    encoded: bytes = h5py.h5t.py_create(np.dtype(dtype), logical=True).encode()
    return encoded[2:]  # behind the number of the message and a version


_ENCODED: Final[Mapping[bytes, int]] = {_encoded(dtype): np.dtype(dtype).itemsize for dtype in _DTYPES}
"""Datatypes of columns, and the bytes of a number."""


@dataclass
class _Object:
    """What the messages of an object say."""

    links: dict[bytes, int] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    itemsize: int | None = None
    stored: int | None = None


class _Walk:
    """The way through the metadata of one file."""

    def __init__(self, handle: BinaryIO | io.RawIOBase, size: int) -> None:
        self.handle = handle
        self.size = size
        self.heaps: dict[int, dict[int, int]] = {}
        self.messages: dict[int, Callable[[_Object, bytes], None]] = {
            0: lambda item, body: None,
            1: self._dataspace,
            2: self._index,
            3: self._datatype,
            5: self._fill,
            6: self._link,
            8: self._layout,
            10: self._group,
            12: self._attribute,
            21: self._index,
        }

    def check(self) -> None:
        root = self._object(self._root())
        if root.shape is not None or root.stored is not None or not root.links:
            raise ValueError("its root is no group of columns")
        for name, place in root.links.items():
            column = self._object(place)
            if column.links or column.shape is None or column.itemsize is None or column.stored is None:
                raise ValueError(f"{name.decode()} is no column")
            if column.stored != math.prod(column.shape) * column.itemsize:
                claimed = math.prod(column.shape)
                raise ValueError(f"{name.decode()} claims {claimed:,} numbers, but holds {column.stored:,} bytes")

    def _read(self, place: int, size: int) -> bytes:
        if not 0 <= place <= place + size <= self.size:
            raise ValueError("an address beyond its end")
        self.handle.seek(place)
        return self.handle.read(size) or b""

    def _root(self) -> int:
        if self.size < _SUPERBLOCK.size:
            raise ValueError(TRUNCATED)
        signature, version, offsets, lengths, _, base, extension, end, root, _ = _SUPERBLOCK.unpack(
            self._read(0, _SUPERBLOCK.size)
        )
        if signature != _SIGNATURE or version not in (2, 3) or (offsets, lengths) != (8, 8):
            raise ValueError("its superblock is not as esmcls writes it")
        if end > self.size:
            raise ValueError(TRUNCATED)
        if base != 0 or extension != _UNDEFINED:
            raise ValueError("its superblock is not as esmcls writes it")
        return int(root)

    def _object(self, place: int) -> _Object:
        item = _Object()
        for kind, body in self._all_messages(place):
            if kind not in self.messages:
                raise ValueError(f"a message of type {kind}, which esmcls does not write")
            self.messages[kind](item, body)
        return item

    def _all_messages(self, place: int) -> Iterator[tuple[int, bytes]]:
        """Give type and body of the messages of an object, those of further chunks behind those that lead there."""
        chunks = [self._first_chunk(place)]
        met = 0
        while chunks:
            met += 1
            if met > _MOST_CHUNKS:
                raise ValueError("a header without end")
            for kind, body in self._messages(*chunks.pop(0)):
                if kind == 16:
                    chunks.append(self._further_chunk(body))
                else:
                    yield kind, body

    def _first_chunk(self, place: int) -> tuple[int, int]:
        start = self._read(place, 6)
        if start[:5] != b"OHDR\2" or start[5] & ~0x33:
            raise ValueError("a header that esmcls does not write")
        flags = start[5]
        head = place + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        return head + width, int.from_bytes(self._read(head, width), "little")

    def _further_chunk(self, body: bytes) -> tuple[int, int]:
        if len(body) != 16:
            raise ValueError("a message of another size")
        place, size = struct.unpack("<QQ", body)
        if size < 8 or self._read(place, 4) != b"OCHK":
            raise ValueError("a chunk of a header that is none")
        return place + 4, size - 8  # without its sign and checksum

    def _messages(self, place: int, size: int) -> Iterator[tuple[int, bytes]]:
        if size > _LARGEST_CHUNK:
            raise ValueError("a header larger than esmcls writes")
        chunk = self._read(place, size)
        self._read(place + size, 4)
        start = 0
        while start + 4 <= size:  # what is left at the end is a gap
            kind, length, flags = struct.unpack_from("<BHB", chunk, start)
            start += 4
            if flags & 0x02 or start + length > size:
                raise ValueError("a message that is shared, or reaches beyond its header")
            yield kind, chunk[start : start + length]
            start += length

    # messages

    def _index(self, item: _Object, body: bytes) -> None:
        if body != _NOWHERE:
            raise ValueError("an index of names, which esmcls does not write")

    def _group(self, item: _Object, body: bytes) -> None:
        if body != b"\0\0":
            raise ValueError("a group that esmcls does not write")

    def _fill(self, item: _Object, body: bytes) -> None:
        if len(body) != 2 or body[0] != 3 or body[1] & ~0x1F:
            raise ValueError("a value to fill with, which esmcls does not write")

    def _link(self, item: _Object, body: bytes) -> None:
        name = body[3:-8]
        if body[:2] != b"\1\0" or len(body) < 12 or body[2] != len(name) or not name.replace(b"_", b"").isalnum():
            raise ValueError("a link that esmcls does not write")
        place = int.from_bytes(body[-8:], "little")
        if name in item.links or place in item.links.values():
            raise ValueError("two links of one name, or to one column")
        item.links[name] = place

    def _dataspace(self, item: _Object, body: bytes) -> None:
        rank, flags = (body[1], body[2]) if len(body) >= 4 else (0, 0)
        sizes = body[4:]
        if body[:1] != b"\2" or rank not in (1, 2) or flags & ~1 or body[3:4] != b"\1" or item.shape is not None:
            raise ValueError("a shape that esmcls does not write")
        if len(sizes) != 8 * rank * (1 + flags) or (flags and sizes[: 8 * rank] != sizes[8 * rank :]):
            raise ValueError("a shape that esmcls does not write")
        item.shape = struct.unpack_from(f"<{rank}Q", sizes)

    def _datatype(self, item: _Object, body: bytes) -> None:
        item.itemsize = _ENCODED.get(body)
        if item.itemsize is None:
            raise ValueError("numbers of a kind that esmcls does not write")

    def _layout(self, item: _Object, body: bytes) -> None:
        if len(body) != 18 or body[0] not in (3, 4) or body[1] != 1:
            raise ValueError("a column in chunks, or that lies in other files")
        place, size = struct.unpack_from("<QQ", body, 2)
        if (place, size) != (_UNDEFINED, 0) and not place <= place + size <= self.size:
            raise ValueError("an address beyond its end")
        item.stored = size

    def _attribute(self, item: _Object, body: bytes) -> None:
        if len(body) < 9 or body[:2] != b"\3\0":
            raise ValueError("an attribute that esmcls does not write")
        name, dtype, space, encoding = struct.unpack_from("<HHHB", body, 2)
        parts = body[9 : 9 + name], body[9 + name : 9 + name + dtype], body[9 + name + dtype :]
        if not parts[0].endswith(b"\0") or encoding > 1 or space != 4 or parts[2][:4] != _SCALAR:
            raise ValueError("an attribute that esmcls does not write")
        value = parts[2][4:]
        if parts[1] == _TEXT and len(value) == 16:
            self._text(*struct.unpack("<IQI", value))
        elif len(value) != _ENCODED.get(parts[1]):
            raise ValueError("an attribute that esmcls does not write")

    def _text(self, length: int, heap: int, index: int) -> None:
        """Make sure that a text lies whole in its heap."""
        if heap not in self.heaps:
            self.heaps[heap] = self._heap(heap)
        if self.heaps[heap].get(index, -1) < length:
            raise ValueError("a text that is not there")

    def _heap(self, place: int) -> dict[int, int]:
        """Return the size of each object of a heap by its index."""
        size = int.from_bytes(self._read(place + 8, 8), "little")
        if self._read(place, 8) != b"GCOL\1\0\0\0" or not 16 <= size <= self.size - place:
            raise ValueError("a heap of texts that is none")
        objects: dict[int, int] = {}
        start = 16
        while start + 16 <= size:
            index, _, _, length = struct.unpack("<HHIQ", self._read(place + start, 16))
            if index == 0:  # the space that is free
                if length != size - start:
                    raise ValueError("a heap of texts with another end")
                return objects
            start += 16 + -(-length // 8) * 8
            if index in objects or start > size:
                raise ValueError("a heap of texts whose parts do not fit it")
            objects[index] = length
        return objects
