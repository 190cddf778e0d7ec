"""Other tools' embedding files into a cache: npz, h5 as bio_embeddings and UniProt write it, fair-esm's `.pt` folder.

These files know a protein by its id, the cache by its sequence: records of a FASTA join the two.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from esmcls.cache.spec import EmbeddingSpec
from esmcls.encoders.encoder import Embedded
from esmcls.errors import DataError, UsageError
from esmcls.files import sha256_file
from esmcls.reading.records import Record
from esmcls.types import Vectors

if TYPE_CHECKING:
    from esmcls.cache.store import EmbeddingCache

PROTEINS_AT_ONCE: Final = 4096
"""Proteins that are held in memory at a time."""
IMPORTED: Final = "imported"
_FAIR_ESM: Final = {"mean": "mean_representations", "cls": "bos_representations"}
"""Pooling -> key in the files of fair-esm 2.0.0, `scripts/extract.py`; `representations` holds residues."""


class Imported(NamedTuple):
    """A vector from another tool's file: the protein's id there, the vector (width,), and where it stands."""

    id: str
    vector: Vectors
    place: str


@dataclass
class ImportReport:
    """Counts of an import, and the ids that it could not join.

    Parameters
    ----------
    imported : int
        Vectors that are now in the cache or were there.
    without_sequence, without_vector : lists of str
        Ids that only the vectors, or only the sequences, have.
    """

    imported: int = 0
    without_sequence: list[str] = field(default_factory=list)
    without_vector: list[str] = field(default_factory=list)


def read_vectors(path: str | Path, *, pooling: str = "mean", layers: Sequence[int] | None = None) -> Iterator[Imported]:
    """Yield the vectors of another tool's file, one protein at a time.

    Parameters
    ----------
    path : str or Path
        An `.npz`, an `.h5`/`.hdf5`, or the folder that fair-esm's `extract.py` wrote.
    pooling : {"mean", "cls", "max"}
        Made of residue vectors (`cls` only from fair-esm's `bos`); a stored vector is taken as it is.
    layers : sequence of int, optional
        Of fair-esm's files: the layers put side by side; default all that are there, ascending.

    Raises
    ------
    DataError
        If the file is none of these or damaged, a vector has another width than the first, or is not finite.
    """
    path = Path(path)
    if path.is_dir():
        vectors = _read_fair_esm(path, pooling, layers)
    elif path.suffix == ".npz":
        vectors = _read_npz(path, pooling)
    elif path.suffix in (".h5", ".hdf5"):
        vectors = _read_h5(path, pooling)
    else:
        raise DataError(path, "no embedding file that is known", "give an .npz, an .h5 or a folder of .pt files")
    return _checked(vectors)


def imported_spec(
    path: str | Path, *, pooling: str = "mean", layers: Sequence[int] | None = None, dtype: str = "float32"
) -> EmbeddingSpec:
    """Return the spec of a cache for another tool's file: the encoder is "imported", its digest the file's.

    Raises
    ------
    DataError
        If there is no vector in it, or it cannot be read.
    """
    first = next(read_vectors(path, pooling=pooling, layers=layers), None)
    if first is None:
        raise DataError(path, "no vectors", "give a file or folder with embeddings")
    digest = _source_digest(Path(path))
    return EmbeddingSpec(
        IMPORTED, digest, tuple(layers or ()), IMPORTED, IMPORTED, dtype, (pooling,), len(first.vector)
    )


def import_embeddings(cache: EmbeddingCache, vectors: Iterable[Imported], records: Iterable[Record]) -> ImportReport:
    """Put vectors into a cache under the sequences that records of the same ids have.

    Parameters
    ----------
    cache : EmbeddingCache
        Of `imported_spec`.
    vectors : iterable of Imported
        From `read_vectors`. An id that has no record is tried again up to its first blank: fair-esm's label is the
        whole line of the FASTA.
    records : iterable of Record

    Raises
    ------
    DataError
        If an id stands twice among the records or among the vectors; the message names both places.
    """
    by_id = _by_id(records)
    report = ImportReport()
    seen: dict[str, str] = {}
    for block in _batches(_joined(vectors, by_id, seen, report)):
        sequences = [by_id[imported.id].protein.sequence for imported in block]
        stacked = np.stack([imported.vector for imported in block]).astype(np.float32)
        inputs = np.ones(len(block), dtype=np.int64)
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        cache.append(sequences, Embedded({cache.spec.pooled[0]: stacked}, inputs, lengths))
        report.imported += len(block)
    cache.flush()
    report.without_vector = [id for id in by_id if id not in seen]
    return report


def _by_id(records: Iterable[Record]) -> dict[str, Record]:
    by_id: dict[str, Record] = {}
    for record in records:
        before = by_id.setdefault(record.protein.id, record)
        if before is not record:
            problem = f"the id stands here and at {before.path}:{before.line}"
            fix = "vectors are joined by id: keep one of the two"
            raise DataError(record.path, problem, fix, line=record.line, record=record.protein.id)
    return by_id


def _joined(
    vectors: Iterable[Imported], by_id: dict[str, Record], seen: dict[str, str], report: ImportReport
) -> Iterator[Imported]:
    """Yield the vectors whose id a record has, under that id; note the others, and where each id was seen."""
    for imported in vectors:
        id = imported.id
        if id not in by_id and id.strip():
            id = id.split(maxsplit=1)[0]
        if id in seen:
            fix = "vectors are joined by id: keep one of the two"
            raise DataError(imported.place, f"the id stands here and at {seen[id]}", fix, record=id)
        seen[id] = imported.place
        if id in by_id:
            yield imported._replace(id=id)
        else:
            report.without_sequence.append(imported.id)


def _batches(vectors: Iterator[Imported]) -> Iterator[list[Imported]]:
    while block := list(islice(vectors, PROTEINS_AT_ONCE)):
        yield block


def _checked(vectors: Iterator[Imported]) -> Iterator[Imported]:
    width = None
    for item in vectors:
        width = width or len(item.vector)
        if len(item.vector) != width:
            problem = f"a vector of width {len(item.vector)} after ones of {width}"
            raise DataError(item.place, problem, "give vectors of one model", record=item.id)
        if not np.isfinite(item.vector).all():
            raise DataError(item.place, "NaN or infinity in the vector", "embed that protein again", record=item.id)
        yield item


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


def _read_npz(path: Path, pooling: str) -> Iterator[Imported]:
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
            if {"ids", "vectors"} <= set(file.files):
                pairs: Iterable[tuple[str, Any]] = zip(file["ids"].tolist(), file["vectors"], strict=True)
            else:
                pairs = ((name, file[name]) for name in file.files)
            for id, array in pairs:
                yield Imported(str(id), _pooled(array, pooling, str(id), str(path)), str(path))
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(path, error) from None


def _read_h5(path: Path, pooling: str) -> Iterator[Imported]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            for key in sorted(file, key=lambda key: (len(key), key)):  # running numbers in their order
                place = f"{path}:/{key}"
                dataset = file[key]
                if not isinstance(dataset, h5py.Dataset):
                    raise DataError(place, "a group instead of a protein's dataset", "give a flat file")
                raw = dataset.attrs.get("original_id", key)
                id = raw.decode() if isinstance(raw, bytes) else str(raw)
                yield Imported(id, _pooled(dataset[()], pooling, id, place), place)
    except (OSError, RuntimeError, KeyError) as error:  # what h5py raises for damaged files
        raise _unreadable(path, error) from None


def _read_fair_esm(folder: Path, pooling: str, layers: Sequence[int] | None) -> Iterator[Imported]:
    for path in sorted(folder.rglob("*.pt")):  # an id with "/" made folders
        data = _load_pt(path)
        id = str(data.get("label", path.relative_to(folder).with_suffix("")))
        stored = data.get(_FAIR_ESM.get(pooling, ""))
        by_layer = stored if stored is not None else data.get("representations")
        wanted = sorted(by_layer or ()) if layers is None else layers
        if by_layer is None or not wanted or not set(wanted) <= set(by_layer):
            kinds = ", ".join(f"{kind} of layers {list(data[kind])}" for kind in data if kind.endswith("tations"))
            problem = f"no {pooling} vectors of layers {list(wanted) or 'any'} ({kinds or 'none at all'})"
            raise DataError(path, problem, "run extract.py with --include mean", record=id)
        parts = [_pooled(by_layer[layer].float().numpy(), pooling, id, str(path)) for layer in wanted]
        yield Imported(id, np.concatenate(parts), str(path))


def _load_pt(path: Path) -> dict[str, Any]:
    import torch

    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a damaged or malicious file makes it raise
        raise _unreadable(path, error) from None
    if not isinstance(data, dict):
        raise DataError(path, f"a {type(data).__name__} instead of what extract.py writes", "remove it")
    return data


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]
    return DataError(path, f"cannot be read ({reason})", "make the file again")


def _source_digest(path: Path) -> str:
    """Digest a file, or a folder's `.pt` files with their names."""
    if path.is_file():
        return sha256_file(path)
    lines = (f"{sha256_file(file)}  {file.relative_to(path).as_posix()}\n" for file in sorted(path.rglob("*.pt")))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
