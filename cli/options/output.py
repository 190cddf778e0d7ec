"""Where commands write: stdout, or a file that is there when it is whole."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from esmcls.errors import FolderError


def output_file(path: Path) -> Path:
    """Return `path`, having made sure that a file can appear there."""
    if not path.parent.is_dir():
        raise FolderError(path, "its folder does not exist", "make the folder, or write elsewhere")
    if path.is_dir():
        raise FolderError(path, "is a folder", "name a file")
    return path


@contextlib.contextmanager
def text_output(path: Path | None) -> Iterator[TextIO]:
    """Give what is written to: stdout where no file is named, else a file that is there when it is whole."""
    if path is None:
        yield sys.stdout
        return
    from esmcls.files import atomic_text

    with atomic_text(output_file(path)) as handle:
        yield handle
