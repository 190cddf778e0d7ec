"""Model folders: a fitted head, what it was fitted on and what it reached; all that predict needs but the encoder.

models/<name>/
    manifest.json      format 1: see `Manifest`; with the sha256 of every other file
    confidence.json    see `esmcls.tasks.one_label.confidence`; where something was set aside for it
    held.safetensors   see `esmcls.tasks.one_label.validation_answers`; where there was a validation part
    terms.json         the ontology (`esmcls.labels.ontology`), where the classes are its terms
    thresholds.json    from what probability on each is predicted (`esmcls.tasks.go_terms.thresholds`)
    encoder.safetensors or adapters.safetensors      the tuned encoder, or its adapters; where it was fine-tuned
    …                  what the head's `save` writes: safetensors, a FAISS index, JSON; never a pickle
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from esmcls.encoders.encoder import Encoder
from esmcls.errors import EsmclsError, ModelError
from esmcls.files import fsync_file, fsync_folder, read_json, sha256_file, write_json
from esmcls.heads.registry import GROUP, Head, load_head, parse_settings
from esmcls.heads.term_heads import GROUP as TERM_GROUP
from esmcls.heads.term_heads import TermHead
from esmcls.models.manifest import FORMAT, MANIFEST, Manifest
from esmcls.models.model import CONFIDENCE, THRESHOLDS, Model
from esmcls.tasks.go_terms.hierarchy import Terms
from esmcls.tasks.go_terms.thresholds import Thresholds
from esmcls.tasks.one_label.confidence import Confidence
from esmcls.tasks.one_label.validation_answers import Held

HELD = "held.safetensors"
TERMS = "terms.json"


def save_model(
    folder: str | Path,
    head: Head | TermHead,
    manifest: Manifest,
    *,
    confidence: Confidence | None = None,
    held: Held | None = None,
    encoder: Callable[[Path], object] | None = None,
    terms: Terms | None = None,
    thresholds: Thresholds | None = None,
) -> Path:
    """Write a model folder, whole or not at all; a model that is there already stays until the new one is whole.

    Parameters
    ----------
    folder : str or Path
    head : Head or TermHead
        Fitted.
    manifest : Manifest
    confidence : Confidence, optional
        For `status` and `set` of predictions.
    held : Held, optional
        For ensembles with this model.
    encoder : callable, optional
        Writes the model's own encoder into the folder it is called with.
    terms : Terms, optional
    thresholds : Thresholds, optional
        Both of a model of many labels.

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
        if terms is not None:
            terms.save(temporary / TERMS)
        _write(temporary, head, manifest, {CONFIDENCE: confidence, THRESHOLDS: thresholds}, held)
        _swap(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write(
    folder: Path,
    head: Head | TermHead,
    manifest: Manifest,
    tables: Mapping[str, Confidence | Thresholds | None],
    held: Held | None,
) -> None:
    head.save(folder)
    for name, one in tables.items():
        if one is not None:
            write_json(folder / name, one.to_json())
    if held is not None:
        held.save(folder / HELD)
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
    loader: Any = load_head(manifest.head, TERM_GROUP if manifest.many else GROUP)
    try:
        terms = Terms.load(folder / TERMS, manifest.classes) if manifest.many else None
        groups = () if terms is None else (terms.groups,)
        config = parse_settings(loader.Config, manifest.config)
        head = loader.load(folder, config, manifest.classes, *groups, device)
    except EsmclsError as error:
        raise ModelError(folder, f"cannot be read ({error})", "fit again") from error
    except Exception as error:  # what a damaged file makes a reader raise is the reader's own
        raise ModelError(folder, f"cannot be read ({type(error).__name__}: {error})", "fit again") from error
    return Model(folder, manifest, head, device, encoder, terms)
