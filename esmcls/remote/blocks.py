"""Sealed segments of a cache in a store: put whole, read through blocks that are kept on this machine.

    .blocks/<segment's name>/<number>      1 MiB each, the last one what is left; beside the segments in the mirror

A segment has a unique name and never changes, so a block that is here holds for ever. fsspec's own block cache marks a
block as here before it has come, and after a lost connection reads zeros (fsspec 2026.9, `MMapCache._fetch`); here each
block is a file that appears whole.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from esmcls.files import PASSING, SPEC, atomic_path
from esmcls.remote.addresses import AddressError, file_system, told
from esmcls.remote.mirror import SEGMENT, address_above, put_file

BLOCK: Final = 1 << 20
BLOCKS: Final = ".blocks"


class About(NamedTuple):
    """What `stat` says of a file, as far as caches ask."""

    st_size: int
    st_mtime_ns: int


class RemoteSegments:
    """The segments of one cache in a store, beside those that lie in its mirror.

    Parameters
    ----------
    folder : Path
        Of the cache, in a mirror.
    address : str
        Of the same in the store.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self.system, self.path = file_system(address)
        self.sizes: dict[str, int] = {}

    def names(self) -> list[str]:
        """List the segments in the store."""
        with told(self.address, "cannot be listed"):
            try:
                entries = self.system.ls(self.path, detail=True)
            except FileNotFoundError:  # nothing was put yet
                entries = []
        names = {entry["name"].rpartition("/")[2]: entry.get("size") for entry in entries}
        self.sizes = {name: int(size or 0) for name, size in names.items() if SEGMENT.fullmatch(name)}
        for blocks in (self.folder / BLOCKS).glob("*"):
            if blocks.name not in self.sizes:  # another machine has joined it to others
                shutil.rmtree(blocks, ignore_errors=True)
        return sorted(self.sizes)

    def stat(self, name: str) -> About:
        """Return the bytes of a segment as it was listed last.

        Raises
        ------
        FileNotFoundError
            If it was not.
        """
        if name not in self.sizes:
            raise FileNotFoundError(name)
        return About(self.sizes[name], 0)

    def open(self, name: str) -> io.RawIOBase:
        """Open a segment for reading through blocks."""
        return _Blocks(self, name, self.stat(name).st_size)

    def put(self, name: str) -> None:
        """Put a segment that was sealed, and before the first of them what says whose it is."""
        if (self.folder / PASSING).exists():
            return
        if not self.sizes:
            put_file(self.folder / SPEC, f"{self.address}/{SPEC}")
        self.sizes[name] = put_file(self.folder / name, f"{self.address}/{name}").size

    def remove(self, name: str) -> None:
        """Remove a segment that another replaces."""
        shutil.rmtree(self.folder / BLOCKS / name, ignore_errors=True)
        with told(f"{self.address}/{name}", "cannot be removed"), contextlib.suppress(FileNotFoundError):
            self.system.rm_file(f"{self.path}/{name}")
        self.sizes.pop(name, None)


def remote_segments(folder: Path) -> RemoteSegments | None:
    """Return the segments in the store of whose mirror a cache's folder is part; None of any other folder."""
    address = address_above(folder)
    return None if address is None else RemoteSegments(folder, address)


class _Blocks(io.RawIOBase):
    """One segment as a file, of blocks that are fetched when they are first read."""

    def __init__(self, segments: RemoteSegments, name: str, size: int) -> None:
        self.segments = segments
        self.name = name
        self.size = size
        self.place = 0
        self.folder = segments.folder / BLOCKS / name
        self.block = lru_cache(4)(self._read)

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that every place can be read."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def tell(self) -> int:
        """Say where we are."""
        return self.place

    def readinto(self, buffer: Any) -> int:
        """Read what stands here, all that is asked for."""
        target = memoryview(buffer).cast("B")
        count = max(0, min(len(target), self.size - self.place))
        if count:
            self._have(self.place // BLOCK, (self.place + count - 1) // BLOCK)
        done = 0
        while done < count:
            number, start = divmod(self.place + done, BLOCK)
            part = self.block(number)[start : start + count - done]
            target[done : done + len(part)] = part
            done += len(part)
        self.place += done
        return done

    def _read(self, number: int) -> bytes:
        return (self.folder / str(number)).read_bytes()

    def _have(self, first: int, last: int) -> None:
        """Fetch the blocks that are not here, those that follow one another at once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lacking = [number for number in range(first, last + 1) if not self._is_here(number)]
        for start, stop in _runs(lacking):
            self._fetch(start, stop)

    def _is_here(self, number: int) -> bool:
        try:
            return (self.folder / str(number)).stat().st_size == min(BLOCK, self.size - number * BLOCK)
        except FileNotFoundError:
            return False

    def _fetch(self, start: int, stop: int) -> None:
        address = f"{self.segments.address}/{self.name}"
        begin, end = start * BLOCK, min(stop * BLOCK, self.size)
        try:
            with told(address):
                data = self.segments.system.cat_file(f"{self.segments.path}/{self.name}", start=begin, end=end)
        except AddressError as error:
            if isinstance(error.__cause__, FileNotFoundError):  # compacted by another since it was listed
                raise error.__cause__ from None
            raise
        if len(data) != end - begin:
            raise AddressError(address, f"{len(data):,} bytes came instead of {end - begin:,}", "run again")
        for number in range(start, stop):
            with atomic_path(self.folder / str(number)) as temporary:
                temporary.write_bytes(data[number * BLOCK - begin : (number + 1) * BLOCK - begin])


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Give begin and end, the latter excluded, of numbers that follow one another."""
    start = 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
            yield numbers[start], numbers[place - 1] + 1
            start = place
