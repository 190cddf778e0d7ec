"""Model folders: a fitted head, what it was fitted on and what it reached; all that predict needs but the encoder.

models/<name>/
    manifest.json      format 1: see `Manifest`; with the sha256 of every other file
    confidence.json    calibration and rejection of one label; where something was set aside for them
    held.safetensors   the answers of one label on the validation part; where there was one
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
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from esmcls.encoders.encoder import Encoder
from esmcls.errors import EsmclsError, ModelError
from esmcls.files import fsync_file, fsync_folder, read_json, sha256_file, write_json
from esmcls.models.manifest import FORMAT, MANIFEST, Manifest
from esmcls.models.model import Model
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
    folder = Path(folder)
    _restore(folder)
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(folder, "exists and is no model folder", "choose another name (--name) or move it away")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.mkdir()
        if encoder is not None:
            encoder(temporary)
        if task is not None:
            task.save(temporary)
        head.save(temporary)
        if findings is not None:
            findings.save(temporary)
        _write_manifest(temporary, manifest)
        _swap(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest with the digests of all other files, once these are on disk."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        fsync_file(path)
    digests = {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}
    write_json(folder / MANIFEST, dataclasses.replace(manifest, files=digests).to_json())


def _previous(folder: Path) -> Path:
    """Where a replaced model lies between the two renames of a swap."""
    return folder.with_name(f".{folder.name}.previous")


def _swap(new: Path, folder: Path) -> None:
    previous = _previous(folder)
    shutil.rmtree(previous, ignore_errors=True)
    if folder.exists():
        os.replace(folder, previous)
    os.replace(new, folder)
    fsync_folder(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _restore(folder: Path) -> None:
    """Put back the model that a crash between the two renames of a swap left aside."""
    if not folder.exists() and _previous(folder).exists():
        os.replace(_previous(folder), folder)


def read_manifest(folder: str | Path) -> Manifest:
    """Read a model folder's manifest alone.

    Raises
    ------
    ModelError
        If the folder is missing, not a model, damaged, or of a newer format.
    """
    folder = Path(folder)
    _restore(folder)
    if not folder.is_dir():
        raise ModelError(folder, "no such model folder", "fit one: esmcls fit")
    if not (folder / MANIFEST).is_file():
        raise ModelError(folder, f"holds no {MANIFEST}, so it is no model", "give a folder that esmcls fit wrote")
    try:
        flat = read_json(folder / MANIFEST)
        number = int(flat["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(folder / MANIFEST, f"is damaged ({type(error).__name__}: {error})", "fit again") from None
    if number > FORMAT:
        raise ModelError(folder, f"is of format {number}, newer than the {FORMAT} known here", "update esmcls")
    try:
        return Manifest.from_json(flat)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(folder / MANIFEST, f"is damaged ({type(error).__name__}: {error})", "fit again") from None


def _check_files(folder: Path, manifest: Manifest) -> None:
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
    device : str
        For head and encoder.
    encoder : str, Path or Encoder, optional
        Where the encoder's weights lie, if not where its name says, or an open encoder. It is opened when first needed.

    Raises
    ------
    ModelError
        If the folder is missing, no model, damaged, or of a newer format.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    _check_files(folder, manifest)
    with _readable(folder):
        task = task_of_model(folder, manifest.many)
    task.head_class(manifest.head)  # one that is not there, or lacks its extra, is no fault of the folder
    with _readable(folder):
        head = task.load_head(manifest.head, folder, manifest.config, manifest.classes, device)
    return Model(folder, manifest, head, task, device, encoder)


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turn what a damaged file makes a reader raise into an error of the folder."""
    try:
        yield
    except EsmclsError as error:
        raise ModelError(folder, f"cannot be read ({error})", "fit again") from error
    except Exception as error:  # the reader's own
        raise ModelError(folder, f"cannot be read ({type(error).__name__}: {error})", "fit again") from error
