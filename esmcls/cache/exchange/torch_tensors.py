"""Vectors in files of PyTorch: the folder of fair-esm's extract.py, and one dictionary of tensors as Protify saves it.

fair-esm 2.0.0, scripts/extract.py: a file a protein, with the line of the FASTA and vectors by layer.
Protify (github.com/Synthyra/Protify, src/protify/embedder.py): one `.pth`, sequence -> (width,) or (tokens, width).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from esmcls.cache.exchange.imported import Imported, imported, unreadable
from esmcls.errors import DataError
from esmcls.foreign.torch_files import read_torch

_FAIR_ESM: Final = {"mean": "mean_representations", "cls": "bos_representations"}
"""Pooling -> key in the files of fair-esm; `representations` holds residues."""
_KIND: Final = "representations"
_WITH_MEAN: Final = "run extract.py with --include mean"


def read_fair_esm_folder(folder: Path, pooling: str, layers: Sequence[int] | None) -> Iterator[Imported]:
    """Yield the vectors of a folder that extract.py wrote."""
    for path in tensor_files(folder):  # an id with "/" made folders
        data = _load(path)
        yield _of_fair_esm(path, data, str(path.relative_to(folder).with_suffix("")), pooling, layers)


def tensor_files(folder: Path) -> list[Path]:
    """Return the `.pt` files of a folder."""
    return sorted(folder.rglob("*.pt"))


def read_tensors(path: Path, pooling: str, layers: Sequence[int] | None) -> Iterator[Imported]:
    """Yield the vectors of one file: of extract.py, or a tensor by each protein's id or sequence."""
    data = _load(path)
    if any(str(key).endswith(_KIND) for key in data):
        yield _of_fair_esm(path, data, path.stem, pooling, layers)
        return
    for name, tensor in data.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            problem = f"a {type(tensor).__name__} under {str(name)[:40]!r} instead of a tensor under an id or sequence"
            raise DataError(path, problem, "give a dictionary of one tensor a protein")
        yield imported(name, as_array(tensor), pooling, path)


def as_array(tensor: Tensor) -> npt.NDArray[Any]:
    """Return the numbers of a tensor; NumPy has no bfloat16."""
    array: npt.NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return array


def _of_fair_esm(
    path: Path, data: Mapping[str, Any], default: str, pooling: str, layers: Sequence[int] | None
) -> Imported:
    """Return the vector of a file of extract.py: its layers side by side."""
    id = str(data.get("label", default))
    stored = data.get(_FAIR_ESM.get(pooling, ""))
    by_layer = stored if stored is not None else data.get(_KIND)
    if not isinstance(by_layer, dict | None) or not all(isinstance(key, int) for key in by_layer or ()):
        raise DataError(path, "no vectors by their layers", _WITH_MEAN, record=id)
    wanted = sorted(by_layer or ()) if layers is None else layers
    if by_layer is None or not wanted or not set(wanted) <= set(by_layer):
        kinds = ", ".join(f"{kind} of layers {list(data[kind])}" for kind in data if kind.endswith("tations"))
        problem = f"no {pooling} vectors of layers {list(wanted) or 'any'} ({kinds or 'none at all'})"
        raise DataError(path, problem, _WITH_MEAN, record=id)
    if not all(_has_numbers(by_layer[layer]) for layer in wanted):
        raise DataError(path, "a layer that is no tensor", _WITH_MEAN, record=id)
    parts = [imported(id, as_array(by_layer[layer]), pooling, path) for layer in wanted]
    return parts[0]._replace(vector=np.concatenate([part.vector for part in parts]))


def _has_numbers(tensor: object) -> bool:
    return isinstance(tensor, Tensor) and tensor.is_floating_point()


def _load(path: Path) -> dict[str, Any]:
    try:
        data = read_torch(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if not isinstance(data, dict):
        raise DataError(path, f"a {type(data).__name__} instead of a dictionary of tensors", "remove it")
    return data
