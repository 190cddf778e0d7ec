"""Embeddings of a cache as one file for other tools: npz, h5 as bio_embeddings and UniProt write it, Parquet.

Ids are kept verbatim and are never names inside the file: `sp|P1/2` and `sp|P1_2` stay two proteins.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.steady_file import new_hdf5
from esmcls.errors import UnknownNameError
from esmcls.files import atomic_path
from esmcls.reading.records import NamedSequences
from esmcls.types import Vectors

if TYPE_CHECKING:
    from esmcls.cache.store import EmbeddingCache

PROTEINS_AT_ONCE: Final = 4096
"""Proteins that are held in memory at a time."""


def export_embeddings(
    cache: EmbeddingCache, proteins: NamedSequences, path: str | Path, *, format: str, pooling: str = "mean"
) -> int:
    """Write the vectors of proteins to one file, whole or not at all.

    Parameters
    ----------
    cache : EmbeddingCache
        Holds every sequence.
    proteins : NamedSequences
        Ids and sequences, (n,); ids may occur more than once.
    path : str or Path
    format : {"npz", "h5", "parquet"}
        npz: `ids`, `vectors` (n, width), `lengths`. h5: a dataset for each protein under a running number, its id as
        the attribute `original_id`. Parquet: the columns `id`, `length`, `vector` (held in memory as a whole).
    pooling : str

    Returns
    -------
    int
        Proteins written.

    Raises
    ------
    UnknownNameError
        If there is no such format.
    CacheError
        If a sequence or the pooling is not in the cache.
    """
    if format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    with atomic_path(path) as temporary:
        FORMATS[format](temporary, proteins, lambda sequences: cache.read(sequences, pooling), cache.spec)
    return len(proteins.ids)


_Read = Callable[[Sequence[str]], Vectors]


def _blocks(sequences: Sequence[str], read: _Read) -> Iterator[tuple[int, Vectors]]:
    for start in range(0, len(sequences), PROTEINS_AT_ONCE):
        yield start, read(sequences[start : start + PROTEINS_AT_ONCE])


def _write_npz(path: Path, proteins: NamedSequences, read: _Read, spec: EmbeddingSpec) -> None:
    lengths = np.array([len(sequence) for sequence in proteins.sequences], dtype=np.int64)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in (("ids", np.array(proteins.ids, dtype=np.str_)), ("lengths", lengths)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(spec.dtype)), "fortran_order": False}
        with archive.open("vectors.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header | {"shape": (len(proteins.ids), spec.width)})
            for _, vectors in _blocks(proteins.sequences, read):
                file.write(np.ascontiguousarray(vectors).tobytes())


def _write_h5(path: Path, proteins: NamedSequences, read: _Read, spec: EmbeddingSpec) -> None:
    with new_hdf5(path) as file:
        file.attrs["esmcls_encoder"], file.attrs["esmcls_digest"] = spec.encoder, spec.digest
        for start, vectors in _blocks(proteins.sequences, read):
            for number, vector in enumerate(vectors, start=start):
                file.create_dataset(str(number), data=vector).attrs["original_id"] = proteins.ids[number]


def _write_parquet(path: Path, proteins: NamedSequences, read: _Read, spec: EmbeddingSpec) -> None:
    import polars as pl

    vectors = np.empty((len(proteins.ids), spec.width), dtype=np.float32)
    for start, block in _blocks(proteins.sequences, read):
        vectors[start : start + len(block)] = block
    column = pl.Series("vector", vectors, dtype=pl.Array(pl.Float32, spec.width)).cast(pl.List(pl.Float32))
    columns = {"id": list(proteins.ids), "length": [len(sequence) for sequence in proteins.sequences]}
    pl.DataFrame(columns, schema={"id": pl.String, "length": pl.Int64}).with_columns(column).write_parquet(path)


FORMATS: Final[dict[str, Callable[[Path, NamedSequences, _Read, EmbeddingSpec], None]]] = {
    "npz": _write_npz,
    "h5": _write_h5,
    "parquet": _write_parquet,
}
"""Formats that are written."""
