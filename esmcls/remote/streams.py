"""Inputs at URLs, read from the beginning to the end as they come."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from esmcls.remote.addresses import AddressError, Entry, entry_of, file_system, told

BUFFER: Final = 1 << 20
ASKED: Final = 4 << 20
"""Bytes that are asked for at once, where a server gives parts of a file: no connection waits while we compute."""


class Content(NamedTuple):
    """What a URL held when it was last read to its end."""

    nbytes: int
    sha256: str


_CONTENTS: Final[dict[str, Content]] = {}


def check_address(address: str) -> Entry:
    """Make sure that there is something to read at a URL, without reading it.

    Raises
    ------
    AddressError
        If there is not, or it cannot be reached.
    """
    system, path = file_system(address)
    with told(address):
        about = system.info(path)
    if about.get("type") == "directory":
        raise AddressError(address, "a folder, of which files are not listed", "give its files, each by its URL")
    return entry_of(about)


@contextlib.contextmanager
def open_address(address: str) -> Iterator[io.BufferedReader]:
    """Open a URL for reading.

    Raises
    ------
    AddressError
        If it cannot be opened, or, later, be read to its end, or if it has changed meanwhile.
    """
    entry = check_address(address)
    system, path = file_system(address)
    with told(address):
        handle = system.open(path, "rb", block_size=ASKED)
    with contextlib.closing(handle):
        yield io.BufferedReader(_Stream(address, handle, entry), BUFFER)


def content_of(address: str) -> Content:
    """Return bytes and digest of what is at a URL: as it was read last, or else read for this."""
    if address not in _CONTENTS:
        with open_address(address) as stream:
            while stream.read(BUFFER):
                pass
    return _CONTENTS[address]


class _Stream(io.RawIOBase):
    """Bytes as they come; an error where there are fewer than there should be."""

    def __init__(self, address: str, handle: Any, entry: Entry) -> None:
        self.address = address
        self.handle = handle
        self.size: int | None = handle.size
        self.entry = entry
        self.count = 0
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what comes next."""
        with told(self.address, f"cannot be read beyond {self.count:,} bytes"):
            data = self.handle.read(len(buffer))
        buffer[: len(data)] = data
        self.count += len(data)
        self.digest.update(data)
        if not data:
            self._end()
        return len(data)

    def _end(self) -> None:
        """Make sure that this was all of it, and of one file."""
        if self.size is not None and self.count != self.size:
            raise AddressError(self.address, f"ended after {self.count:,} of {self.size:,} bytes", "run again")
        if check_address(self.address) != self.entry:
            raise AddressError(self.address, "has changed while it was read", "run again")
        _CONTENTS[self.address] = Content(self.count, self.digest.hexdigest())
