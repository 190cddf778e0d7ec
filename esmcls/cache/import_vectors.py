"""Other tools' embedding files into a cache: npz, h5 as bio_embeddings and UniProt write it, fair-esm's `.pt` folder.

These files know a protein by its id, the cache by its sequence: records of a FASTA join the two.
"""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from esmcls.cache.spec import IMPORTED, EmbeddingSpec
from esmcls.encoders.encoder import Embedded
from esmcls.errors import DataError, UsageError
from esmcls.files import refuse_what_is_no_file, sha256_file
from esmcls.foreign.npz import open_npz
from esmcls.reading.ids import IdJoin, first_word, rule_lines
from esmcls.reading.records import Record, refuse_text
from esmcls.types import Vectors

if TYPE_CHECKING:
    from esmcls.cache.store import EmbeddingCache

PROTEINS_AT_ONCE: Final = 4096
"""Proteins that are held in memory at a time."""
_SHOWN: Final = 5
_SIZES: Final = struct.Struct("<QQ")
_FAIR_ESM: Final = {"mean": "mean_representations", "cls": "bos_representations"}
"""Pooling -> key in the files of fair-esm 2.0.0, `scripts/extract.py`; `representations` holds residues."""


class Imported(NamedTuple):
    """A vector from another tool's file: the protein's id there, the vector (width,), and where it stands.

    `rows` is how many residues' vectors it was pooled of; None where the file has one vector a protein.
    """

    id: str
    vector: Vectors
    place: str
    rows: int | None = None


@dataclass
class ImportReport:
    """Counts of an import, and the ids that it could not join.

    Parameters
    ----------
    imported : int
        Vectors that are now in the cache or were there.
    without_sequence, without_vector : lists of str
        Ids that only the vectors, or only the sequences, have.
    partly_seen : list of str
        Ids of proteins with fewer residue vectors than residues.
    joined : Counter
        Rules by which ids were joined, and the vectors that each joined.
    """

    imported: int = 0
    without_sequence: list[str] = field(default_factory=list)
    without_vector: list[str] = field(default_factory=list)
    partly_seen: list[str] = field(default_factory=list)
    joined: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """Return one line for each fact that a user should be told, but for ids without a partner."""
        lines = rule_lines(self.joined)
        if self.partly_seen:
            names = ", ".join(self.partly_seen[:_SHOWN]) + (", …" if len(self.partly_seen) > _SHOWN else "")
            lines.append(f"{len(self.partly_seen):,} with fewer vectors than residues, the rest not seen: {names}")
        return lines


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


def check_import(path: str | Path, vectors: Iterable[Imported], records: Sequence[Record]) -> None:
    """Go through an import without keeping anything, so that a file that does not fit leaves nothing behind.

    Raises
    ------
    DataError
        As `import_embeddings`, and if no vector belongs to a record.
    """
    report = ImportReport()
    matched = sum(1 for _ in _joined(vectors, _by_id(records), {}, report))
    if matched:
        return
    theirs, ours = report.without_sequence[:2], [record.protein.id for record in records[:2]]
    problem = f"none of its ids ({', '.join(theirs)}, …) is that of a sequence ({', '.join(ours)}, …)"
    raise DataError(path, problem, "give the sequences that the vectors are of")


def import_embeddings(cache: EmbeddingCache, vectors: Iterable[Imported], records: Iterable[Record]) -> ImportReport:
    """Put vectors into a cache under the sequences that records of the same ids have.

    Parameters
    ----------
    cache : EmbeddingCache
        Of `imported_spec`.
    vectors : iterable of Imported
        From `read_vectors`. Ids are joined as `IdJoin` does: fair-esm's label is the whole line of the FASTA.
    records : iterable of Record

    Raises
    ------
    DataError
        If an id stands twice among the records or among the vectors (the message names both places), or a protein has
        more residue vectors than residues.
    """
    by_id = _by_id(refuse_text(records, "records"))
    report = ImportReport()
    seen: dict[str, str] = {}
    for block in _batches(_joined(vectors, by_id, seen, report)):
        sequences = [by_id[imported.id].protein.sequence for imported in block]
        stacked = np.stack([imported.vector for imported in block]).astype(np.float32)
        inputs = np.ones(len(block), dtype=np.int64)
        rows = (imported.rows for imported in block)
        residues = [len(sequence) if count is None else count for sequence, count in zip(sequences, rows, strict=True)]
        unseen = {text: len(text) - count for text, count in zip(sequences, residues, strict=True) if count < len(text)}
        cache.note_unseen(unseen)
        cache.append(sequences, Embedded({cache.spec.pooled[0]: stacked}, inputs, np.array(residues, dtype=np.int64)))
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
    join = IdJoin(by_id)
    report.joined = join.matched
    for imported in vectors:
        partner = join.find(imported.id)
        id = first_word(imported.id) if partner is None else partner
        if id in seen:
            fix = "vectors are joined by id: keep one of the two"
            raise DataError(imported.place, f"the id stands here and at {seen[id]}", fix, record=id)
        seen[id] = imported.place
        if partner is None:
            report.without_sequence.append(imported.id)
            continue
        rows = residues_seen(imported, len(by_id[id].protein.sequence))
        if rows is not None and rows < len(by_id[id].protein.sequence):
            report.partly_seen.append(id)
        yield imported._replace(id=id, rows=rows)


def residues_seen(imported: Imported, length: int) -> int | None:
    """Return of how many residues a vector is; None if it was stored as one.

    Raises
    ------
    DataError
        If there were more rows than residues.
    """
    rows = imported.rows
    if rows is None or (rows == 1 and length > 1):  # (1, width): one vector a protein, too
        return None
    if rows > length:
        begun = "BOS and EOS among them" if rows == length + 2 else "padding or special tokens among them"
        fix = "store the vectors of the residues alone" + (" (array[1:-1])" if rows == length + 2 else "")
        raise DataError(imported.place, f"{rows} rows for {length} residues, {begun}", fix, record=imported.id)
    return rows


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


def _imported(id: str, array: npt.NDArray[Any], pooling: str, place: str) -> Imported:
    return Imported(id, _pooled(array, pooling, id, place), place, len(array) if array.ndim == 2 else None)


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
        with open_npz(path) as file:
            if {"ids", "vectors"} <= file.members.keys():
                pairs: Iterable[tuple[str, npt.NDArray[Any]]] = _table(file.read("ids"), file.read("vectors"))
            else:
                pairs = ((name, file.read(name)) for name in file.members)
            for id, array in pairs:
                yield _imported(id, array, pooling, str(path))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _table(ids: npt.NDArray[Any], vectors: npt.NDArray[Any]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    if ids.ndim != 1 or ids.dtype.kind not in "USiu" or vectors.ndim not in (2, 3) or len(ids) != len(vectors):
        raise ValueError(f"ids {ids.dtype} {ids.shape} and vectors {vectors.shape}, not one id for each of the vectors")
    return zip(map(_as_text, ids.tolist()), vectors, strict=True)


def _as_text(id: str | bytes | int) -> str:
    return id.decode("utf-8", "replace") if isinstance(id, bytes) else str(id)


def _read_h5(path: Path, pooling: str) -> Iterator[Imported]:
    for key, id, array in _datasets_of(path):
        place = f"{path}:/{key}"
        yield _imported(id, array, pooling, place)


_H5_READER: Final = """
import json, struct, sys
import h5py, numpy
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = int(sys.argv[3]) + int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
except (ImportError, ValueError, OSError):
    pass
out = sys.stdout.buffer
most = int(sys.argv[2])
def send(about, data=b""):
    head = json.dumps(about).encode()
    out.write(struct.pack("<QQ", len(head), len(data)) + head)
    out.write(data)
    out.flush()
try:
    with h5py.File(sys.argv[1], "r") as file:
        for key in sorted(file, key=lambda key: (len(key), key)):  # running numbers in their order
            if not isinstance(file.get(key, getlink=True), h5py.HardLink):
                send({"fault": "a link instead of a protein's dataset", "fix": "give the file that has it", "key": key})
                break
            dataset = file[key]
            if not isinstance(dataset, h5py.Dataset):
                send({"fault": "a group instead of a protein's dataset", "fix": "give a flat file", "key": key})
                break
            if dataset.is_virtual or dataset.external:
                send({"fault": "vectors that lie in another file", "fix": "copy them into this one", "key": key})
                break
            if dataset.dtype.kind not in "fiub" or dataset.nbytes > most:
                fault = f"an array of {dataset.dtype} {dataset.shape} instead of a vector or one a residue"
                send({"fault": fault, "fix": "give one vector a protein", "key": key})
                break
            raw = dataset.attrs.get("original_id", key)
            name = raw.decode() if isinstance(raw, bytes) else str(raw)
            array = numpy.ascontiguousarray(dataset[()])
            send({"key": key, "id": name, "dtype": array.dtype.str, "shape": dataset.shape}, array.tobytes())
        else:
            send({"end": True})
except Exception as error:
    send({"error": str(error)[:300] or type(error).__name__})
"""
"""Reads an HDF5 file in a process of its own: of a damaged one the library may never come back, or crash."""
H5_PATIENCE: Final = 60.0
"""Seconds that a single array may take to come, from a slow disk."""
H5_BYTES_A_SECOND: Final = 2 << 20
"""Bytes of a file that are read in a second of a processor's time, unpacked, at the very least."""
LARGEST_ARRAY: Final = 8 << 30
"""Bytes of a protein's vectors: forty times those of titin's residues by the largest ESM-2."""


def _datasets_of(path: Path) -> Iterator[tuple[str, str, npt.NDArray[Any]]]:
    """Give the key, id and array of each dataset of an HDF5 file, read by another process."""
    try:
        seconds = 5 + path.stat().st_size // H5_BYTES_A_SECOND
        refuse_what_is_no_file(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    command = [sys.executable, "-c", _H5_READER, str(path.absolute()), str(LARGEST_ARRAY), str(seconds)]
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing) as child:
        try:
            while (about := _next_dataset(path, child)) is not None:
                yield about
        finally:
            child.kill()


def _next_dataset(path: Path, child: subprocess.Popen[bytes]) -> tuple[str, str, npt.NDArray[Any]] | None:
    """Return what the reading process sends next, or None at the end; it is killed where nothing comes in time."""
    assert child.stdout is not None
    late = threading.Event()

    def give_up() -> None:
        late.set()
        child.kill()

    watch = threading.Timer(H5_PATIENCE, give_up)
    watch.daemon = True
    watch.start()
    try:
        sizes = child.stdout.read(_SIZES.size)
        head, data = _SIZES.unpack(sizes) if len(sizes) == _SIZES.size else (0, 0)
        text = child.stdout.read(head)
        array = child.stdout.read(data)
    finally:
        watch.cancel()
    if late.is_set():
        raise _unreadable(path, OSError(f"nothing came of it in {H5_PATIENCE:g} s: it is damaged"))
    if not text or len(array) < data:
        raise _unreadable(path, OSError("it is damaged: reading it does not end, or crashes"))
    about = json.loads(text)
    if "error" in about:
        raise _unreadable(path, OSError(about["error"]))
    if "fault" in about:
        raise DataError(f"{path}:/{about['key']}", about["fault"], about["fix"])
    if "end" in about:
        return None
    return about["key"], about["id"], np.frombuffer(array, dtype=about["dtype"]).reshape(about["shape"])


def _read_fair_esm(folder: Path, pooling: str, layers: Sequence[int] | None) -> Iterator[Imported]:
    for path in sorted(folder.rglob("*.pt")):  # an id with "/" made folders
        data = _load_pt(path)
        id = str(data.get("label", path.relative_to(folder).with_suffix("")))
        stored = data.get(_FAIR_ESM.get(pooling, ""))
        by_layer = stored if stored is not None else data.get("representations")
        if not isinstance(by_layer, dict | None) or not all(isinstance(key, int) for key in by_layer or ()):
            raise DataError(path, "no vectors by their layers", "run extract.py with --include mean", record=id)
        wanted = sorted(by_layer or ()) if layers is None else layers
        if by_layer is None or not wanted or not set(wanted) <= set(by_layer):
            kinds = ", ".join(f"{kind} of layers {list(data[kind])}" for kind in data if kind.endswith("tations"))
            problem = f"no {pooling} vectors of layers {list(wanted) or 'any'} ({kinds or 'none at all'})"
            raise DataError(path, problem, "run extract.py with --include mean", record=id)
        if not all(_has_numbers(by_layer[layer]) for layer in wanted):
            raise DataError(path, "a layer that is no tensor", "run extract.py with --include mean", record=id)
        parts = [_imported(id, by_layer[layer].float().numpy(), pooling, str(path)) for layer in wanted]
        yield parts[0]._replace(vector=np.concatenate([part.vector for part in parts]))


def _has_numbers(tensor: object) -> bool:
    from torch import Tensor

    return isinstance(tensor, Tensor) and tensor.is_floating_point()


def _load_pt(path: Path) -> dict[str, Any]:
    from esmcls.foreign.torch_files import read_torch

    try:
        data = read_torch(path)
    except (OSError, ValueError) as error:
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
