"""Model folders: a fitted head, what it was fitted on and what it reached; all that predict needs but the encoder.

models/<name>/
    manifest.json      format 1: see `Manifest`; with the sha256 of every other file but the card
    README.md          the card, for people and the hub; its owner may write into it
    confidence.json    calibration and rejection of one label; where something was set aside for them
    held.safetensors   the answers of one label on the validation part; where there was one
    strangers.safetensors                            its answers on families held out in folds; where any were
    hierarchy.json     that of the classes of one label; where there is one
    terms.json         the ontology, where the classes are its terms
    thresholds.json    from what probability on each term is predicted
    encoder.safetensors or adapters.safetensors      the tuned encoder, or its adapters; where it was fine-tuned
    …                  what the head's `save` writes: safetensors, a FAISS index, JSON; never a pickle
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from esmcls.encoders.encoder import Encoder
from esmcls.errors import EngineMismatchError, EsmclsError, MissingExtraError, ModelError, UsageError
from esmcls.files import (
    MANIFEST,
    errors_of_the_system,
    kind_instead,
    put_back,
    remove_left_overs,
    replace_folder,
    settle,
    sha256_file,
    temporary_beside,
)
from esmcls.models.manifest import FORMAT, Manifest
from esmcls.models.model import Model
from esmcls.models.sharing.card import CARD, write_card
from esmcls.models.sharing.hub_models import local_folder, repository_of
from esmcls.plain_values import read_as, write_json
from esmcls.tasks.fitted import AnyHead, Findings
from esmcls.tasks.kinds import task_of_model
from esmcls.tasks.task import AnyTask


def save_model(
    folder: str | Path,
    head: AnyHead,
    manifest: Manifest,
    *,
    task: AnyTask | None = None,
    findings: Findings | None = None,
    encoder: Callable[[Path], object] | None = None,
) -> Path:
    """Write a model folder, whole or not at all; a model that is there already stays until the new one is whole.

    Parameters
    ----------
    folder : str or Path
    head : AnyHead
        Fitted.
    manifest : Manifest
    task : Task, optional
        Whose model it is; default one label a protein.
    findings : Findings, optional
        What rows that were not fitted on tell of the head.
    encoder : callable, optional
        Writes the model's own encoder into the folder it is called with.

    Raises
    ------
    ModelError
        If `folder` exists and is no model: it is never replaced.
    """
    asked = Path(folder)
    folder = Path(os.path.realpath(folder))
    refuse_foreign(folder)
    remove_left_overs(folder.parent)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(folder)
    try:
        with errors_of_the_system(temporary, asked):
            temporary.mkdir()
            if encoder is not None:
                encoder(temporary)
            if task is not None:
                task.save(temporary)
            head.save(temporary)
            if findings is not None:
                findings.save(temporary)
            write_manifest(temporary, manifest)
            write_card(temporary, folder.name, manifest, [] if findings is None else findings.lines())
            settle(temporary / CARD)
            replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return asked


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that is no model: it is never replaced. Ask before anything takes time.

    Raises
    ------
    ModelError
        If something else is there, or nothing can be written there.
    """
    put_back(folder)
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(folder, "exists and is no model folder", "choose another name (--name) or move it away")
    parent = next(place for place in folder.absolute().parents if place.exists())
    if parent.is_dir() and not os.access(parent, os.W_OK | os.X_OK):
        fix = "make its folder one that you may write to, or copy the workspace"
        raise ModelError(folder, "a model cannot be written there", fix)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest with the digests of all other files, once these are on disk."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        settle(path)
    digests = {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}
    write_json(folder / MANIFEST, dataclasses.replace(manifest, files=digests).to_json())


def read_manifest(folder: str | Path) -> Manifest:
    """Read a model folder's manifest alone.

    Raises
    ------
    ModelError
        If the folder is missing, not a model, damaged, or of a newer format.
    """
    folder = Path(folder)
    put_back(folder)
    if not folder.is_dir():
        raise ModelError(folder, "no such model folder", "fit one: esmcls fit")
    if not (folder / MANIFEST).is_file():
        raise ModelError(folder, f"holds no {MANIFEST}, so it is no model", "give a folder that esmcls fit wrote")
    path = folder / MANIFEST
    flat = read_as(path, dict[str, Any], ModelError, "fit again")
    number = flat.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise ModelError(folder, f"is of format {str(number)[:9]}, newer than the {FORMAT} known here", "update esmcls")
    try:
        return Manifest.from_json(flat)
    except (ValueError, UsageError) as error:
        raise ModelError(path, f"is damaged ({error})", "fit again") from None


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Make sure that all is there as it was written, and nothing that reading would never end of."""
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and path.exists() and (kind := kind_instead(path)) is not None:
            raise ModelError(path, f"{kind}, not a file", "remove it")
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ModelError(path, "is missing", "copy the whole model folder, or fit again")
        if sha256_file(path) != digest:
            raise ModelError(
                path, "is not as it was written (sha256 differs)", "copy the model folder anew, or fit again"
            )


def load_model(folder: str | Path, device: str = "cpu", encoder: str | Path | Encoder | None = None) -> Model:
    """Read a model folder.

    Parameters
    ----------
    folder : str or Path
        Or `hf:OWNER/NAME`, on the Hugging Face Hub, with a revision after `@` if it is to be another than the main one.
    device : str
        For head and encoder.
    encoder : str, Path or Encoder, optional
        Where the encoder's weights lie, if not where its name says, or an open encoder. It is opened when first needed.

    Raises
    ------
    ModelError
        If the folder is missing, no model, damaged, or of a newer format.
    """
    repository = repository_of(folder)
    folder = local_folder(folder)
    manifest = read_manifest(folder)
    while True:
        try:
            return dataclasses.replace(_load(folder, manifest, device, encoder), called=repository)
        except ModelError:
            before = manifest
            manifest = read_manifest(folder)
            if manifest == before:  # else the model was replaced while it was read
                raise


def _load(folder: Path, manifest: Manifest, device: str, encoder: str | Path | Encoder | None) -> Model:
    _check_files(folder, manifest)
    with _readable(folder):
        task = task_of_model(folder, manifest.kind)
    if not task.knows(manifest.classes):
        raise ModelError(folder / MANIFEST, "classes that are no terms of the ontology beside it", "fit again")
    task.head_class(manifest.head)  # one that is not there, or lacks its extra, is no fault of the folder
    with _readable(folder):
        head = task.load_head(manifest.head, folder, manifest.config, manifest.classes, device)
    return Model(folder, manifest, head, task, device, encoder)


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turn what a damaged file makes a reader raise into an error of the folder; what is not installed is none."""
    try:
        yield
    except (EngineMismatchError, MissingExtraError):
        raise
    except (EsmclsError, OSError) as error:
        raise ModelError(folder, f"cannot be read ({error})", "fit again") from error
