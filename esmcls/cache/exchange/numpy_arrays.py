"""Vectors in files of NumPy: npz of ids and vectors or of an array a protein; npy as PEPE writes it.

PEPE (github.com/csi-greifflab/pepe-cli, src/pepe/embedders/base_embedder.py) writes one array for all proteins, and
their ids in another file:

    OUTPUT/MODEL/INPUT_idx.csv                                          index,sequence_id; a line a row
    OUTPUT/MODEL/mean_pooled/NAME_MODEL_mean_pooled_layer_N.npy         (proteins, width)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

from esmcls.cache.exchange.imported import Imported, imported, unreadable
from esmcls.errors import DataError
from esmcls.foreign.npz import open_npz, read_npy

_LIST: Final = "*_idx.csv"
_HEAD: Final = "index,sequence_id"


def read_npz(path: Path, pooling: str) -> Iterator[Imported]:
    """Yield the vectors of an `.npz`: of its arrays `ids` and `vectors`, or of an array a protein."""
    try:
        with open_npz(path) as file:
            if {"ids", "vectors"} <= file.members.keys():
                pairs: Iterable[tuple[str, npt.NDArray[Any]]] = _table(file.read("ids"), file.read("vectors"))
            else:
                pairs = ((name, file.read(name)) for name in file.members)
            for id, array in pairs:
                yield imported(id, array, pooling, path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def _table(ids: npt.NDArray[Any], vectors: npt.NDArray[Any]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    if ids.ndim != 1 or ids.dtype.kind not in "USiu" or vectors.ndim not in (2, 3) or len(ids) != len(vectors):
        raise ValueError(f"ids {ids.dtype} {ids.shape} and vectors {vectors.shape}, not one id for each of the vectors")
    return zip(map(_as_text, ids.tolist()), vectors, strict=True)


def _as_text(id: str | bytes | int) -> str:
    return id.decode("utf-8", "replace") if isinstance(id, bytes) else str(id)


def read_pepe(path: Path, pooling: str) -> Iterator[Imported]:
    """Yield the vectors of an `.npy` of PEPE, by the list of ids beside it or in the folder above."""
    ids_file = id_list(path)
    try:
        ids = _ids(ids_file)
    except (OSError, ValueError) as error:
        raise unreadable(ids_file, error) from None
    try:
        array = read_npy(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if array.ndim not in (2, 3) or len(array) != len(ids):
        problem = f"an array of {array.dtype} {array.shape}, but {ids_file} lists {len(ids):,} proteins"
        raise DataError(path, problem, "give a file of pooled vectors, and the list that was written with it")
    for row, id in enumerate(ids):
        yield imported(id, array[row], pooling, f"{path}:{row}")


def id_list(path: Path) -> Path:
    """Return the list of ids that belongs to an `.npy`.

    Raises
    ------
    DataError
        If there is none, or several.
    """
    beside, above = path.absolute().parent, path.absolute().parent.parent
    lists = sorted(beside.glob(_LIST)) or sorted(above.glob(_LIST))
    if len(lists) == 1:
        return lists[0]
    there = f"{len(lists)} lists of ids beside it ({lists[0].name}, …)" if lists else "no list of its ids beside it"
    raise DataError(path, there, f"put the one {_LIST} that PEPE wrote with it into its folder")


def _ids(path: Path) -> list[str]:
    """Return the ids of a list in the order of the rows; PEPE quotes nothing, so the first comma ends the number."""
    head, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    if head != _HEAD:
        raise ValueError(f"its first line is {head[:40]!r} instead of {_HEAD!r}")
    rows = [line.partition(",") for line in lines]
    for number, (index, comma, _) in enumerate(rows):
        if index != str(number) or not comma:
            raise ValueError(f"line {number + 2} is {lines[number][:40]!r} instead of '{number},ID'")
    return [id for _, _, id in rows]
