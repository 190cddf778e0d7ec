"""What must be true of a scanner's folder before it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from esmcls.errors import ModelError
from esmcls.files import sha256_file
from esmcls.scanning.judge import Judge

AGAIN: Final = "copy the scanner's folder anew, or fit again: esmcls fit-scan"


def check_families(path: Path, names: Sequence[str], *of_each: Sequence[float]) -> None:
    """Make sure that there are families, each once, and one number of each kind for each.

    Raises
    ------
    ModelError
        If not.
    """
    n = len(names)
    if {len(values) for values in of_each} != {n} or len(set(names)) != n or not n:
        raise ModelError(path, f"is damaged (not one length for each of {n} families)", AGAIN)


def check_judge(path: Path, judge: Judge, measures: int) -> None:
    """Make sure that a judge is one of so many measures.

    Raises
    ------
    ModelError
        If not.
    """
    if {len(judge.centre), len(judge.spread), len(judge.weights)} != {measures}:
        raise ModelError(path, "is damaged (a calibration of other measures)", AGAIN)
    if min(*judge.spread, judge.scale) <= 0:
        raise ModelError(path, "is damaged (a length or spread that is not above 0)", AGAIN)


def check_files(path: Path, files: Mapping[str, str]) -> None:
    """Make sure that the files beside scanner.json are as they were written.

    Raises
    ------
    ModelError
        If one is not.
    """
    for name, digest in files.items():
        file = path.parent / name
        if ".." in Path(name).parts or not file.is_file() or sha256_file(file) != digest:
            raise ModelError(file, "is not as it was written (sha256 differs)", AGAIN)
