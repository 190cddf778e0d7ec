"""What the models of a comparison answered, kept so that one that was interrupted goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from esmcls.files import sha256_file
from esmcls.models.manifest import MANIFEST


class Keepable(Protocol):
    """What a model answered; `about["model"]` is the `model_digest` of its folder."""

    @property
    def about(self) -> dict[str, Any]: ...
    def save(self, path: Path, key: str) -> None: ...


Kept = TypeVar("Kept", bound=Keepable)


def digest_of(facts: Mapping[str, Any]) -> str:
    """Return what identifies facts: plain values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def model_digest(folder: Path) -> str | None:
    """Return what identifies a model folder's content: its manifest holds the digest of every other file."""
    path = folder / MANIFEST
    return sha256_file(path) if path.is_file() else None


def keep(
    path: Path,
    key: str,
    folder: Path,
    load: Callable[[Path, str], Kept | None],
    make: Callable[[], Kept],
    say: Callable[[str], None],
    doing: str = "fitting",
) -> Kept:
    """Return what an earlier run kept of a model, if its folder is still what it was then; else make it and keep it.

    Parameters
    ----------
    path : Path
        Where it is kept, by the model's name.
    key : str
        What the answers are of: data, head, knobs, versions.
    folder : Path
        Of the model.
    load : callable
        Reads what `save` wrote; None where there is nothing of that key.
    make, say : callable
    doing : str
        What making it is called.
    """
    answers, name = load(path, key), path.stem
    if answers is not None and answers.about["model"] == model_digest(folder):
        say(f"{name}: kept from an earlier run")
        return answers
    say(f"{name}: {doing}")
    answers = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    answers.save(path, key)
    return answers
