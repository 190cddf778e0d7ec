"""What kept answers of every kind share: what is told beside the arrays, and the seconds, which lie apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from esmcls.files import atomic_path, refuse_what_is_no_file
from esmcls.plain_values import from_plain, parse_json, read_json, write_json

Arrays = dict[str, npt.NDArray[Any]]
T = TypeVar("T")


class Kept(NamedTuple):
    """What a file of answers holds: arrays by name, facts, and the seconds that lie beside."""

    arrays: Arrays
    facts: dict[str, Any]
    seconds: Any


def save_answers(path: Path, key: str, arrays: Arrays, seconds: object, **facts: Any) -> None:
    """Write a safetensors file, whole or not at all, and the seconds beside; `key` says what the answers are of."""
    write_seconds(path, seconds)
    with atomic_path(path) as temporary:
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(contiguous, temporary, as_metadata(key, **facts))


def load_answers(path: Path, key: str, names: Sequence[str], make: Callable[[Kept], T]) -> T | None:
    """Return what is made of a file that `save_answers` wrote; None where there is none, or one of another key.

    Parameters
    ----------
    path : Path
    key : str
    names : sequence of str
        Of the arrays.
    make : callable
        A file that lacks what it asks for counts as none.
    """
    try:
        refuse_what_is_no_file(path)
        with safe_open(path, "numpy") as file:
            facts = from_metadata(file.metadata() or {})
            if facts.get("key") != key:
                return None
            arrays = {name: file.get_tensor(name) for name in names}
        return make(Kept(arrays, facts, read_seconds(path)))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None  # as if it were not there: it is computed again


def write_seconds(path: Path, seconds: object) -> None:
    """Write what was timed beside a file of answers, so that answers of two runs are the same bytes."""
    write_json(_beside(path), {"seconds": seconds})


def read_seconds(path: Path) -> Any:
    """Return what `write_seconds` wrote.

    Raises
    ------
    OSError, ValueError, KeyError
        If it is not there, or damaged.
    """
    return from_plain(dict[str, Any], read_json(_beside(path)))["seconds"]


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.seconds.json")


def as_metadata(key: str, **facts: Any) -> dict[str, str]:
    """Return facts as the metadata of a safetensors file: one entry, since several stand in it in any order."""
    return {"told": json.dumps({"key": key, **facts})}


def from_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return what `as_metadata` was given, or esmcls 0.1.0 wrote, which kept the key (and `about`) beside.

    Raises
    ------
    ValueError
        If it is not readable.
    """
    facts = from_plain(dict[str, Any], parse_json(metadata.get("told", "{}")))
    if "about" in metadata:
        facts["about"] = parse_json(metadata["about"])
    return ({"key": metadata["key"]} if "key" in metadata else {}) | facts
