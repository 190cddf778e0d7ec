"""Write HDF5 so that the library never sees a failure of the disk.

HDF5 has no journal, and a write that fails in the middle leaves the library in a state where closing the file ends
the process (HDF5 2.0, full disk). So it never sees a failure here: it writes through `SteadyFile`, which keeps the
first error for the end.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py


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
        except BaseException as error:  # kept, and raised by `new_hdf5`
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


@contextlib.contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """Give a new HDF5 file to write to.

    Raises
    ------
    OSError
        At the end, if the disk did not take all of it.
    """
    with open(path, "x+b", buffering=0) as raw:
        steady = SteadyFile(raw)
        # superblock 3 has checksums and takes attributes beyond 64 KiB; every HDF5 since 1.10 reads it
        with h5py.File(steady, "w", libver=("v110", "v110")) as file:
            yield file
        if steady.error is not None:
            raise steady.error
