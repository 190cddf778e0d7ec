"""Vectors in Parquet: a row a protein, with its id and a list of numbers, as `esmcls export` writes it.

A column `sequence`, where there is one, says whose the vector is; the id is then for messages alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from esmcls.cache.exchange.imported import Imported, imported, unreadable
from esmcls.errors import DataError
from esmcls.files import refuse_what_is_no_file

if TYPE_CHECKING:
    import polars as pl

_IDS: Final = ("id", "ids", "protein_id", "sequence_id", "accession", "name", "sequence")
_VECTORS: Final = ("vector", "vectors", "embedding", "embeddings")
_SEQUENCE: Final = "sequence"


def read_parquet(path: Path, pooling: str) -> Iterator[Imported]:
    """Yield the vectors of a Parquet file, which is held in memory as a whole."""
    table = _table(path)
    ids = _column_of(path, table, _IDS, "of ids")
    vectors = _column_of(path, table, _VECTORS, "of vectors")
    sequences = table[_SEQUENCE] if _SEQUENCE in table.columns else [None] * len(table)
    if not vectors.dtype.is_nested():
        raise DataError(path, f"{vectors.dtype} in the column {vectors.name}", "give a list of numbers in each row")
    for row, (id, vector, sequence) in enumerate(zip(ids, vectors, sequences, strict=True), 1):
        place = f"{path}: row {row}"
        if id is None or vector is None:
            raise DataError(place, "an empty cell", "leave the row out, or fill it")
        yield imported(str(id), vector.to_numpy(), pooling, place, None if sequence is None else str(sequence))


def _table(path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        refuse_what_is_no_file(path)
        return pl.read_parquet(path.read_bytes())  # as bytes, so that no mapping of the file outlives this call
    # the last is no Exception
    except (OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise unreadable(path, str(error)) from None


def _column_of(path: Path, table: pl.DataFrame, names: tuple[str, ...], what: str) -> pl.Series:
    """Return the first column of some names.

    Raises
    ------
    DataError
        If there is none.
    """
    name = next((name for name in names if name in table.columns), None)
    if name is None:
        there = ", ".join(table.columns)
        raise DataError(path, f"no column {what} among {there[:120]}", f"call it {' or '.join(names[:2])}")
    return table[name]
