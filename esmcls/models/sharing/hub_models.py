"""Models on the Hugging Face Hub: `esmcls push` takes one there in a single commit, `hf:OWNER/REPOSITORY` names one.

`huggingface_hub` fetches and sends; cache, tokens, mirrors and the offline mode are its business. What is fetched is
data that `load_model` checks against the manifest: no pickle, no code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from esmcls.cache.spec import EmbeddingSpec
from esmcls.encoders.adapters import FILE, adapters_header
from esmcls.encoders.sources.hub import parse_repository, whole_snapshot
from esmcls.errors import EsmclsError, MissingExtraError, ModelError, UsageError, WeightsError
from esmcls.files import MANIFEST
from esmcls.models.manifest import Manifest
from esmcls.models.sharing.card import CARD, OWN_REPOSITORY

PREFIX: Final = "hf:"
_NETWORK: Final = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
"""Packages whose errors are those of a connection; which of them is there is huggingface_hub's choice."""


def repository_of(name: str | Path) -> str | None:
    """Return the repository that a model's name stands for, with a revision after `@` if it has one.

    Examples
    --------
    >>> repository_of("hf:me/families@v1"), repository_of("models/families")
    ('me/families@v1', None)
    """
    text = str(name)
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else None


def local_folder(name: str | Path) -> Path:
    """Return the folder of a model: itself, or that in the hub's cache, where it is fetched to if it is not there.

    Raises
    ------
    UsageError
        If what stands behind `hf:` is no repository.
    ModelError
        If there is none, it cannot be had, or no model of esmcls is in it.
    """
    repository = repository_of(name)
    if repository is None:
        return Path(name)
    _check_repository(repository)
    try:
        folder = whole_snapshot(repository)
    except WeightsError as error:
        raise ModelError(name, error.found, error.fix) from None
    if not (folder / MANIFEST).is_file():
        raise ModelError(name, f"holds no {MANIFEST}, so it is no model of esmcls", "name one that esmcls push wrote")
    return folder


def _check_repository(name: str) -> None:
    if parse_repository(name) is None:
        raise UsageError(f"{name}: no repository of the hub; write OWNER/NAME, such as me/families")


@dataclass(frozen=True)
class Pushed:
    """What came of a push.

    Parameters
    ----------
    address : str
        Of the commit.
    files : int
    left_out : list of str
        What lies in the model's folder and is no part of the model.
    """

    address: str
    files: int
    left_out: list[str]


def push_model(folder: str | Path, manifest: Manifest, repository: str, *, private: bool = False) -> Pushed:
    """Send a model to the hub: its files, its card and its manifest, all in one commit or nothing.

    Parameters
    ----------
    folder : str or Path
        Of a model whose files were checked when it was loaded.
    manifest : Manifest
        What it was loaded with; paths of this machine in it are sent as their last part.
    repository : str
        OWNER/NAME; made if there is none.
    private : bool
        Whether a new repository is to be seen by its owner alone.

    Raises
    ------
    UsageError
        If that is no name of a repository, or the model is useless elsewhere.
    ModelError
        If the hub does not take it.
    """
    _check_repository(repository)
    if "@" in repository:
        raise UsageError(f"{repository}: a push goes to the main branch; leave out the revision")
    folder = Path(folder)
    _refuse_useless(folder, manifest)
    contents = _contents(folder, manifest, repository)
    with _asking(repository):
        from huggingface_hub import CommitOperationAdd, HfApi

        hub = HfApi()
        hub.create_repo(repository, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in contents.items()]
        commit = hub.create_commit(repository, operations, commit_message=f"esmcls push: {folder.name}")
    there = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return Pushed(str(commit.commit_url), len(contents), [name for name in there if name not in contents])


def _refuse_useless(folder: Path, manifest: Manifest) -> None:
    """Refuse adapters of an encoder that lies on this machine alone."""
    if not (folder / FILE).is_file():
        return
    base = str((adapters_header(folder / FILE).get("base") or {}).get("name"))
    if Path(base).is_absolute():
        problem = f"model {folder.name} is adapters of {base}, which lies on this machine alone"
        raise UsageError(f"{problem}; fine-tune without --adapters-only, which keeps the whole encoder")


def _contents(folder: Path, manifest: Manifest, repository: str) -> dict[str, Path | bytes]:
    """Return what is to be sent, by its name there."""
    contents: dict[str, Path | bytes] = {name: folder / name for name in sorted(manifest.files)}
    portable = json.dumps(_portable(manifest).to_json(), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    contents[MANIFEST] = portable.encode()
    if (folder / CARD).is_file():
        card = (folder / CARD).read_text(encoding="utf-8")
        contents[CARD] = card.replace(OWN_REPOSITORY, f"{PREFIX}{repository}").encode()
    return contents


def _portable(manifest: Manifest) -> Manifest:
    """Return a manifest that names no path of this machine."""
    setup = dict(manifest.setup)
    if isinstance(tuned := setup.get("finetuned"), dict):
        setup["finetuned"] = tuned | {"encoder": _last_part(str(tuned.get("encoder", "")))}
    spec, *others = map(_renamed, manifest.specs)
    return replace(manifest, spec=spec, others=tuple(others), setup=setup)


def _renamed(spec: EmbeddingSpec) -> EmbeddingSpec:
    return replace(spec, encoder=_last_part(spec.encoder))


def _last_part(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() or name.startswith(".") else name


@contextmanager
def _asking(repository: str) -> Iterator[None]:
    """Make one line of each of huggingface_hub's errors."""
    name = f"{PREFIX}{repository}"
    try:
        yield
    except ImportError:
        raise MissingExtraError("esmcls push", "huggingface-hub") from None
    except EsmclsError:
        raise
    except Exception as error:
        told = _meaning(error)
        if told is None:
            raise
        raise ModelError(name, *told) from None


def _meaning(error: Exception) -> tuple[str, str] | None:
    """Say what an error of huggingface_hub means, and what to do; None if it is not about what was asked."""
    from huggingface_hub import constants, errors

    log_in = "log in with a token that may write (hf auth login, or HF_TOKEN)"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE says not to ask the hub", "unset it"
    if isinstance(error, errors.LocalTokenNotFoundError):
        return "the hub takes nothing without a token", log_in
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        fix = log_in if status in (401, 403, 404) else "try again later; nothing was committed"
        return f"{constants.ENDPOINT} answers {status} ({_first_line(error)})", fix
    if type(error).__module__.partition(".")[0] in _NETWORK or isinstance(error, OSError):
        return f"{constants.ENDPOINT} cannot be reached ({_first_line(error)})", "check the network and try again"
    if isinstance(error, ValueError):
        return f"the hub does not take it ({_first_line(error)})", "mend what it names"
    return None


def _first_line(error: Any) -> str:
    lines: Iterable[str] = str(error).strip().splitlines()
    return next(iter(lines), type(error).__name__)[:120]
