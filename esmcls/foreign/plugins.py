"""What other packages have registered under a group of entry points."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path


def entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group; the installed packages are read anew where something was installed since.

    A registration that is edited in its place is seen by the next process.

    Examples
    --------
    >>> {entry.name for entry in entry_points("esmcls.encoders")} >= {"esm2", "kmer"}
    True
    """
    return _read(group, tuple((place, _changed(place)) for place in sys.path))


@lru_cache(maxsize=64)
def _read(group: str, places: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """Read them of hundreds of files; a command asks some forty times."""
    return tuple(metadata.entry_points(group=group))


def _changed(place: str) -> int:
    """Return when something came into a folder or left it, in nanoseconds; 0 if it is none."""
    try:
        return Path(place).stat().st_mtime_ns
    except OSError:
        return 0
