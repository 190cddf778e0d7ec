"""workspace.json: what it must hold, and what it says of a data set and its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from esmcls.datasets.dataset import Dataset
from esmcls.errors import WorkspaceError
from esmcls.files import STATE, sha256_file
from esmcls.labels.ontology import Ontology
from esmcls.plain_values import from_plain, read_json, write_json
from esmcls.reading.readers import find_sources
from esmcls.remote.addresses import address_of, without_secrets
from esmcls.remote.streams import content_of

FORMAT: Final = 1
EMBED: Final = "run: esmcls embed INPUT"


@dataclass(frozen=True)
class _KnownData:
    """What workspace.json must hold of a data set; what else there is stays as it is."""

    digest: str
    parquet_sha256: str
    records: int
    sequences: int
    classes: int
    parts: dict[str, int]
    ontology_sha256: str = ""
    ontology: str = ""
    propagate: bool = True
    task: str = ""
    files: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _KnownSplit:
    """What workspace.json must hold of a split."""

    digest: str
    kind: str
    seed: int
    drawn_validation: bool | int = False


@dataclass(frozen=True)
class _KnownHierarchy:
    """What workspace.json must hold of a hierarchy: the digests of its file, and of the data set that it is of."""

    sha256: str
    dataset: str


@dataclass(frozen=True)
class _State:
    """What workspace.json must hold."""

    format: Literal[1]
    dataset: _KnownData | None
    split: _KnownSplit | None
    caches: list[str]
    hierarchy: _KnownHierarchy | None = None

    def __post_init__(self) -> None:
        if (self.dataset is None) != (self.split is None):
            raise ValueError("a data set without its split, or a split of none")


def facts_of_terms(dataset: Dataset, ontology: Ontology | None, propagate: bool) -> dict[str, object]:
    """Return the facts of terms; none where a protein has one label."""
    if ontology is None:
        return {}
    direct = {term for label in set(dataset.labels) for term in label.split()}
    classes = ontology.term_sets([direct], propagate).n_classes
    return {"classes": classes, "ontology": ontology.digest(), "propagate": propagate}


def identity_of(about: Mapping[str, object]) -> dict[str, object]:
    """Return the facts of a data set that models were fitted on."""
    return {key: about[key] for key in ("digest", "ontology", "propagate", "task") if key in about}


def files_of(path: str | Path) -> list[str | Path]:
    """Return the files, or the addresses, that an input is read from; none for standard input."""
    if address := address_of(path):
        return [address]
    if Path(path).is_dir():
        return [Path(source.path) for source in find_sources(str(path))]
    return [path] if Path(path).is_file() else []


def describe_file(file: str | Path) -> dict[str, object]:
    """Return what a workspace remembers of a file: path (an address without its secrets), bytes and sha256."""
    if address := address_of(file):
        content = content_of(address)
        return {"path": without_secrets(address), "bytes": content.nbytes, "sha256": content.sha256}
    path = Path(file)
    return {"path": str(path.resolve()), "bytes": path.stat().st_size, "sha256": sha256_file(path)}


def first_names(names: Iterable[str]) -> str:
    """Return the first five names, and how many more there are."""
    shown = list(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


def begin_state(folder: Path) -> None:
    """Begin a workspace in a folder, made if need be.

    Raises
    ------
    WorkspaceError
        If there is a file instead.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / STATE, {"format": FORMAT, "dataset": None, "split": None, "caches": []})
    except FileExistsError as error:
        raise WorkspaceError(folder, "a file, not a folder", "name another with -w DIR") from error


def read_state(folder: Path) -> dict[str, Any]:
    """Read the workspace.json of a folder.

    Raises
    ------
    WorkspaceError
        If it is damaged, or from a newer esmcls.
    """
    path = folder / STATE
    fix = f"delete this file and {EMBED}; the caches beside it are found again"
    try:
        state = read_json(path)
    except (OSError, ValueError) as error:
        raise WorkspaceError(path, f"cannot be read ({error})", fix) from error
    version = state.get("format") if isinstance(state, dict) else None
    if isinstance(version, int) and version > FORMAT:
        number = str(version)[:9]
        raise WorkspaceError(path, f"format {number} is newer than this esmcls knows ({FORMAT})", "update esmcls")
    try:
        from_plain(_State, state)
    except ValueError as error:
        raise WorkspaceError(path, f"not the state of a workspace ({error})", fix) from None
    return dict(state)
