"""A vector of another tool's file, whatever its format: pooled, and with the place where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from esmcls.errors import DataError, UsageError
from esmcls.types import Vectors

MAKE_AGAIN: Final = "make the file again"


class Imported(NamedTuple):
    """A vector from another tool's file.

    Parameters
    ----------
    id : str
        What the file calls the protein.
    vector : float array, (width,)
    place : str
        Where it stands.
    rows : int, optional
        How many residues' vectors it was pooled of; None where the file has one vector a protein.
    sequence : str, optional
        The protein's, where the file tells it: the vector is then joined by it alone.
    """

    id: str
    vector: Vectors
    place: str
    rows: int | None = None
    sequence: str | None = None


def imported(
    id: str, array: npt.NDArray[Any], pooling: str, place: str | Path, sequence: str | None = None
) -> Imported:
    """Return a vector as it is, or pooled of those of residues (length, width).

    Raises
    ------
    DataError
        If the array is neither.
    UsageError
        If residues cannot be pooled so.
    """
    rows = len(array) if array.ndim == 2 else None
    return Imported(id, _pooled(array, pooling, id, str(place)), str(place), rows, sequence)


def _pooled(array: npt.NDArray[Any], pooling: str, id: str, place: str) -> Vectors:
    """Take a vector as it is, pool residues (length, width), refuse anything else."""
    if array.dtype.kind != "f" or array.ndim not in (1, 2) or 0 in array.shape:
        problem = f"an array of {array.dtype} {array.shape} instead of a vector or one a residue"
        raise DataError(place, problem, "give one vector a protein", record=id)
    if array.ndim == 1:
        return array
    if pooling not in ("mean", "max"):
        raise UsageError(f"{place}: vectors of residues give no {pooling}; choose mean or max")
    pooled: Vectors = array.astype(np.float32).mean(axis=0) if pooling == "mean" else array.max(axis=0)
    return pooled


def unreadable(path: Path, error: Exception | str) -> DataError:
    """Return the error of a file that cannot be read, with the first line of the reason."""
    if isinstance(error, FileNotFoundError):
        return DataError(path, "no such file or folder", "check the path")
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]
    return DataError(path, f"cannot be read ({reason})", MAKE_AGAIN)
