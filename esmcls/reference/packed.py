"""References as one small file: model folders, what is large in them made small.

    index.faiss            rows to whole numbers, three steps a deviation of their column
    knn.safetensors        the whitening in half precision
    terms.safetensors      of each row those terms alone that contain no other of it
    homology.safetensors   the sequences as text
    anything else          as it is

each through LZMA, and what several folders share once. A folder that is unpacked is a model folder as any other.
"""

from __future__ import annotations

import itertools
import json
import lzma
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch.nn import functional as F

from esmcls.errors import EngineMismatchError, ModelError
from esmcls.files import MANIFEST, atomic_path, refuse_what_is_no_file
from esmcls.heads.alignment.search import installed
from esmcls.heads.neighbours.search import Search
from esmcls.heads.saved_tensors import pack_sequences, read_tensors, unpack_sequences
from esmcls.labels.ontology import Ontology
from esmcls.models.folder import read_manifest, write_manifest
from esmcls.models.sharing.card import CARD
from esmcls.plain_values import from_plain, parse_json

FORMAT: Final = "1"
STEPS: Final = 3
"""Of a column's deviation, that its numbers are rounded to."""
ONTOLOGY: Final = "terms.json"
SHAPES: Final = {"codes": ("int64", "rows"), "mean": ("float32", "width"), "matrix": ("float32", "width", "seen")}
_NOISE: Final = ({"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 0, "lp": 0, "pb": 0},)
"""Bytes that none before them tells anything of."""
_MOST: Final = 1 << 30
"""Bytes that anything here may unpack to."""
Arrays = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class PackedModel:
    """A model folder in a file.

    Parameters
    ----------
    name : str
    engine : str
        That aligns; empty where none is needed.
    files : mapping
        Path in the folder -> the name of what it was made into.
    """

    name: str
    engine: str
    files: Mapping[str, str]


def pack(folders: Sequence[Path], path: Path) -> None:
    """Write model folders into one file: the first of which all is installed is the one that will be asked.

    Parameters
    ----------
    folders : sequence of Path
        Of Gene Ontology terms, propagated.
    path : Path
        Ends in .safetensors.
    """
    arrays: Arrays = {}
    models: list[PackedModel] = []
    for folder in folders:
        ontology, classes = Ontology.load(folder / ONTOLOGY), read_manifest(folder).classes
        files: dict[str, str] = {}
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CARD):
            made = sha256(file.read_bytes()).hexdigest()[:16]
            files[file.relative_to(folder).as_posix()] = made
            if not any(name.startswith(made) for name in arrays):
                arrays |= {f"{made}.{part}": array for part, array in _packed(file, ontology, classes).items()}
        models.append(PackedModel(folder.name, _engine_of(folder), files))
    about = {"format": FORMAT, "models": json.dumps([asdict(model) for model in models])}
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, about)


def _engine_of(folder: Path) -> str:
    """Return the engine that a model or a member of it searches with."""
    configs = [read_manifest(folder).config]
    if (folder / "members.json").is_file():
        configs += [member["config"] for member in json.loads((folder / "members.json").read_text())["members"]]
    engines = [str(config["engine"]) for config in configs if config.get("engine") in ("mmseqs", "phmmer")]
    return engines[0] if engines else ""


def unpack(path: Path, folder: Path) -> Path:
    """Write the first model folder of which all is installed into a folder, and return it.

    Raises
    ------
    ModelError
        If the file is damaged, or of a newer format.
    EngineMismatchError
        If each model needs an engine that is not here.
    """
    models, arrays = _read(path)
    for model in models:
        engine = installed(model.engine) if model.engine else None
        if not model.engine or (engine is not None and engine.name == model.engine):
            try:
                return _unpack_model(model, arrays, _inside(folder, model.name))
            except (KeyError, ValueError, IndexError, lzma.LZMAError) as error:
                raise ModelError(path, f"is damaged ({str(error)[:80]})", "install esmcls anew") from None
    raise EngineMismatchError(models[0].engine, "none")


def _read(path: Path) -> tuple[list[PackedModel], Arrays]:
    """Return the models of a file and all arrays."""
    fix = "give a reference: a folder of esmcls reference build"
    try:
        refuse_what_is_no_file(path)
        with safe_open(path, "numpy") as file:
            about = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        models = from_plain(list[PackedModel], parse_json(about.get("models", "[]")))
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(path, f"cannot be read ({str(error)[:80]})", fix) from None
    if about.get("format") != FORMAT or not models:
        raise ModelError(path, "is no packed reference that this esmcls reads", fix)
    return models, arrays


def _inside(folder: Path, name: str) -> Path:
    """Return a path below a folder; a name that leads elsewhere is refused."""
    path = folder / name
    if path.resolve() == folder.resolve() or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name[:40]!r} is outside the folder")
    return path


def _unpack_model(model: PackedModel, arrays: Arrays, folder: Path) -> Path:
    """Write a model folder, the ontology first: what else there is may need it."""
    folder.mkdir()
    order = sorted(model.files, key=lambda name: (name != ONTOLOGY, name != MANIFEST, name))
    for name in order:
        file = _inside(folder, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{model.files[name]}."
        parts = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        _unpacked(file, parts, folder)
    manifest = read_manifest(folder)
    (folder / MANIFEST).unlink()
    write_manifest(folder, replace(manifest, files={}))
    return folder


def _packed(file: Path, ontology: Ontology, classes: Sequence[str]) -> Arrays:
    """Return what a file is made into."""
    special: dict[str, Callable[[], Arrays]] = {
        "index.faiss": lambda: _pack_rows(file),
        "knn.safetensors": lambda: _pack_whitening(file),
        "terms.safetensors": lambda: _pack_terms(file, ontology, classes),
        "homology.safetensors": lambda: _pack_sequences(file),
    }
    return special.get(file.name, lambda: {"bytes": _squeezed(file.read_bytes())})()


def _unpacked(file: Path, parts: Arrays, folder: Path) -> None:
    """Write a file from what it was made into."""
    if file.name == "index.faiss":
        _unpack_rows(file, parts)
    elif file.name == "knn.safetensors":
        matrix = parts["matrix"].astype(np.float32)
        codes = np.zeros(int(parts["rows"][0]), np.int64)
        save_file({"codes": codes, "mean": parts["mean"].astype(np.float32), "matrix": matrix}, file)
    elif file.name == "terms.safetensors":
        _unpack_terms(file, parts, Ontology.load(folder / ONTOLOGY), read_manifest(folder).classes)
    elif file.name == "homology.safetensors":
        lines = _whole(parts["bytes"]).decode("ascii").split("\n")
        codes = np.zeros(len(lines), np.int64)
        save_file({"codes": codes, "sequences": pack_sequences(lines).numpy()}, file)
    else:
        file.write_bytes(_whole(parts["bytes"]))


def _squeezed(content: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(lzma.compress(content, preset=9), np.uint8)


def _whole(packed: npt.NDArray[np.generic], filters: Sequence[Mapping[str, int]] | None = None) -> bytes:
    raw = {} if filters is None else {"format": lzma.FORMAT_RAW, "filters": filters}
    reader = lzma.LZMADecompressor(**raw)  # type: ignore[arg-type]
    content = reader.decompress(packed.tobytes(), _MOST)
    if not reader.eof and filters is None:
        raise ValueError("what is packed does not end")
    return content


def _pack_rows(file: Path) -> Arrays:
    index = Search.load(file, "cosine").index
    rows = np.asarray(index.reconstruct_n(0, index.ntotal))  # (n, width)
    step = (rows.std(0) / STEPS).astype(np.float32)
    levels = np.clip(np.rint(rows / step), -127, 127).astype(np.int8)
    packed = lzma.compress(levels.T.tobytes(), lzma.FORMAT_RAW, filters=_NOISE)  # column by column
    return {"levels": np.frombuffer(packed, np.uint8), "step": step, "rows": np.array([len(rows)], np.int64)}


def _unpack_rows(file: Path, parts: Arrays) -> None:
    step = parts["step"]
    levels = np.frombuffer(_whole(parts["levels"], _NOISE), np.int8).reshape(len(step), int(parts["rows"][0]))
    rows = torch.from_numpy(np.ascontiguousarray(levels.T * step[None, :].astype(np.float32)))
    search = Search.empty(len(step), "cosine")
    search.add(F.normalize(rows, eps=1e-9))
    search.save(file)


def _pack_whitening(file: Path) -> Arrays:
    state = read_tensors(file, SHAPES)
    matrix = state["matrix"].numpy().astype(np.float16)
    if not np.isfinite(matrix).all():
        raise ModelError(file, "a whitening that half precision cannot hold", "fit with a larger shrinkage")
    return {"matrix": matrix, "mean": state["mean"].numpy(), "rows": np.array([len(state["codes"])], np.int64)}


def _pack_terms(file: Path, ontology: Ontology, classes: Sequence[str]) -> Arrays:
    """Keep of each row the terms that contain no other of it: all others follow."""
    above = _ancestors(ontology, classes)
    sizes: list[int] = []
    codes: list[int] = []
    for row in _rows_of(read_tensors(file, {"offsets": ("int64", "ends"), "codes": ("int64", "codes")})):
        follows = set().union(*(above[code] for code in row)) if row else set()
        narrowest = [code for code in row if code not in follows]
        if sorted(set(narrowest).union(*(above[code] for code in narrowest))) != sorted(row):
            raise ModelError(file, "terms without those that contain them", "build it without --no-propagate")
        sizes.append(len(narrowest))
        codes += narrowest
    sized = _squeezed(np.array(sizes, np.uint16).tobytes())
    return {"sizes": sized, "codes": _squeezed(np.array(codes, np.uint32).tobytes())}


def _unpack_terms(file: Path, parts: Arrays, ontology: Ontology, classes: Sequence[str]) -> None:
    above = _ancestors(ontology, classes)
    sizes = np.frombuffer(_whole(parts["sizes"]), np.uint16)
    narrowest = np.frombuffer(_whole(parts["codes"]), np.uint32).tolist()
    rows: list[list[int]] = []
    start = 0
    for size in sizes.tolist():
        terms = narrowest[start : start + size]
        rows.append(sorted(set(terms).union(*(above[code] for code in terms))))
        start += size
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    codes = np.fromiter((code for row in rows for code in row), np.int64, int(offsets[-1]))
    save_file({"offsets": offsets, "codes": codes}, file)


def _rows_of(state: Mapping[str, torch.Tensor]) -> list[list[int]]:
    ends = state["offsets"].tolist()
    codes = state["codes"].tolist()
    return [codes[first:last] for first, last in itertools.pairwise(ends)]


def _ancestors(ontology: Ontology, classes: Sequence[str]) -> list[frozenset[int]]:
    """Return the codes of the other classes that contain each class."""
    code = {ontology.place[name]: number for number, name in enumerate(classes)}
    return [
        frozenset(code[place] for place in ontology.ancestors[here].tolist() if place in code and place != here)
        for here in code
    ]


def _pack_sequences(file: Path) -> Arrays:
    state = read_tensors(file, {"codes": ("int64", "rows"), "sequences": ("uint8", "bytes")})
    return {"bytes": _squeezed("\n".join(unpack_sequences(file, state["sequences"])).encode("ascii"))}
