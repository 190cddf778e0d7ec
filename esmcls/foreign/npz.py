"""NumPy's .npz and .npy: arrays by name in a ZIP file, or one, each of which claims no more than is there.

    member.npy    b"\\x93NUMPY", version (2 bytes), length of the head (2 or 4 bytes), the head, then the numbers
    head          {'descr': '<f4', 'fortran_order': False, 'shape': (4, 8), }

See numpy.lib.format. Nothing is allocated before the sizes of member, head and packed bytes fit one another.
"""

from __future__ import annotations

import contextlib
import math
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from esmcls.files import refuse_what_is_no_file
from esmcls.text_files import LARGEST_RATIO, NO_LIMITS, RATIO_FROM, limits_are_off

_MAGIC: Final = b"\x93NUMPY"
_LONGEST_HEAD: Final = 10_000
"""Bytes; as NumPy has it."""
_HEAD: Final = re.compile(
    rb"\{'descr': '(?P<dtype>[<>=|]?(?:f[248]|[iu][1248]|b1|c8|c16|[SU][1-9]\d{0,5}))', "
    rb"'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:\d{1,18}L?, ?)*(?:\d{1,18}L?)?)\), ?\}\s*"
)
_OF_ZIP: Final = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)
"""What the library raises of a damaged file, of one that is encrypted, and of one that is packed in another way."""
_PACKINGS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Npz:
    """The arrays of an .npz file, each read when it is asked for; see `open_npz`."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self.file = file
        self.members = {info.filename.removesuffix(".npy"): info for info in file.infolist()}

    def read(self, name: str) -> npt.NDArray[Any]:
        """Return an array.

        Raises
        ------
        ValueError
            If it is damaged, holds objects, or claims more than the file holds.
        """
        info = self.members[name]
        _check_member(info)
        try:
            with self.file.open(info) as stream:
                return _array(stream, info.file_size)
        except _OF_ZIP as error:
            raise ValueError(f"{name[:80]}: {error}") from None


@contextlib.contextmanager
def open_npz(path: Path) -> Iterator[Npz]:
    """Open an .npz file.

    Raises
    ------
    OSError
        If the system does not give it.
    ValueError
        If it is no file, no ZIP file, or its members claim more bytes than it has.
    """
    refuse_what_is_no_file(path)
    try:
        file = zipfile.ZipFile(path)
    except _OF_ZIP as error:
        raise ValueError(str(error)) from None
    with file:
        if sum(info.compress_size for info in file.infolist()) > path.stat().st_size:
            raise ValueError("its members claim more bytes than it has")
        yield Npz(file)


def read_npy(path: Path) -> npt.NDArray[Any]:
    """Return the array of an `.npy` file.

    Raises
    ------
    ValueError
        If it is no file, is damaged, holds objects, or claims another size than it has.
    OSError
        If the system does not give it.
    """
    refuse_what_is_no_file(path)
    with open(path, "rb") as stream:
        return _array(stream, path.stat().st_size)


def _check_member(info: zipfile.ZipInfo) -> None:
    if info.compress_type not in _PACKINGS or info.flag_bits & 1:
        raise ValueError(f"{info.filename[:80]} is packed in another way than NumPy packs")
    if info.file_size > max(RATIO_FROM, LARGEST_RATIO * info.compress_size) and not limits_are_off():
        times = f"{info.filename[:80]} is more than {LARGEST_RATIO} times as large as its packed form"
        raise ValueError(f"{times}: check it, and set {NO_LIMITS}=1 if it is right")


def _array(stream: IO[bytes], size: int) -> npt.NDArray[Any]:
    """Return the array of a member of so many bytes."""
    start = stream.read(8)
    width = {b"\1": 2, b"\2": 4, b"\3": 4}.get(start[6:7])
    if start[:6] != _MAGIC or width is None:
        raise ValueError("no array of NumPy")
    length = int.from_bytes(stream.read(width), "little")
    head = _HEAD.fullmatch(stream.read(length)) if length <= _LONGEST_HEAD else None
    if head is None:
        raise ValueError("an array of objects, of records, of another kind of numbers, or with a damaged head")
    dtype = np.dtype(head["dtype"].decode())
    shape = tuple(int(axis) for axis in re.findall(rb"\d+", head["shape"]))
    expected, there = math.prod(shape) * dtype.itemsize, size - 8 - width - length
    if expected != there:
        raise ValueError(f"its head claims {expected:,} bytes of {dtype} {shape}, but {max(there, 0):,} are there")
    array = np.frombuffer(stream.read(), dtype=dtype)
    if dtype.kind == "U" and (array.view(dtype.str[0] + "u4") > sys.maxunicode).any():
        raise ValueError("texts of signs that there are not")
    return array.reshape(shape, order="F" if head["fortran"] == b"True" else "C")
