"""Model folders: a fitted head, what it was fitted on and what it reached; all that predict needs but the encoder.

models/<name>/
    manifest.json      format 1: see `Manifest`; with the sha256 of every other file
    confidence.json    see `esmcls.confidence`; where something was set aside for it
    held.safetensors   see `esmcls.held`; where there was a validation part
    terms.json         the ontology (`esmcls.ontology`), where the classes are its terms
    thresholds.json    from what probability on each is predicted (`esmcls.term_thresholds`)
    encoder.safetensors or adapters.safetensors      the tuned encoder, or its adapters; where it was fine-tuned
    …                  what the head's `save` writes: safetensors, a FAISS index, JSON; never a pickle
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from esmcls.adapters import FILE
from esmcls.confidence import Confidence
from esmcls.encoder import Encoder, load_encoder
from esmcls.errors import (
    EncoderMismatchError,
    EsmclsError,
    ModelError,
    NonFiniteError,
    SequenceTooLargeError,
    UsageError,
)
from esmcls.features import Features
from esmcls.files import fsync_file, fsync_folder, read_json, sha256_file, write_json
from esmcls.heads import GROUP, Head, load_head, parse_settings, reads_vectors
from esmcls.held import Held
from esmcls.manifest import FORMAT, MANIFEST, Manifest
from esmcls.records import clean_sequence
from esmcls.spec import EmbeddingSpec
from esmcls.term_heads import GROUP as TERM_GROUP
from esmcls.term_heads import TermHead
from esmcls.term_thresholds import Thresholds
from esmcls.terms import Terms
from esmcls.types import Indices, Probabilities, Vectors
from esmcls.weights import OWN

CONFIDENCE = "confidence.json"
HELD = "held.safetensors"
TERMS = "terms.json"
THRESHOLDS = "thresholds.json"
_T = TypeVar("_T")


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


def has_own_encoder(folder: Path) -> bool:
    """Return whether a model folder holds the encoder that was tuned with its head."""
    return any((folder / name).is_file() for name in (OWN, FILE))


@dataclass
class Model:
    """A head and its encoder: sequences in, classes out.

    Parameters
    ----------
    folder : Path
    manifest : Manifest
    head : Head
    device : str
    source : str, Path, Encoder or None
        Where the encoder is from; None for where its name says. Of several encoders, it is that of this digest.
    terms : Terms or None
        Of a model of many labels, whose head is a `TermHead`.
    """

    folder: Path
    manifest: Manifest
    head: Head
    device: str = "cpu"
    source: str | Path | Encoder | None = None
    terms: Terms | None = None
    _opened: dict[EmbeddingSpec, Encoder] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the columns of `predict_proba`."""
        return self.manifest.classes

    @cached_property
    def confidence(self) -> Confidence:
        """What is known of its doubts; nothing, where nothing was set aside for it.

        Raises
        ------
        ModelError
            If the file is damaged.
        """
        return self._read(CONFIDENCE, Confidence.from_json, Confidence)

    @cached_property
    def thresholds(self) -> Thresholds:
        """From what probability on each class of a model of many labels is predicted; see `confidence`."""
        groups = () if self.terms is None else self.terms.groups
        return self._read(THRESHOLDS, Thresholds.from_json, lambda: Thresholds.unknown(groups))

    def _read(self, name: str, read: Callable[[Any], _T], without: Callable[[], _T]) -> _T:
        path = self.folder / name
        try:
            return read(read_json(path)) if path.is_file() else without()
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(path, f"is damaged ({type(error).__name__}: {error})", "fit again") from None

    @property
    def encoder(self) -> Encoder:
        """The encoder, opened when first asked for; that of the first spec, if there are several."""
        return self.encoder_of(self.manifest.spec)

    def encoder_of(self, spec: EmbeddingSpec) -> Encoder:
        """Return the encoder of one of the manifest's specs, opened when first asked for.

        Raises
        ------
        EncoderMismatchError
            If it is not the one that the head was fitted on.
        UsageError
            If an open encoder was given that takes other layers or treats long sequences in another way.
        """
        if spec not in self._opened:
            self._opened[spec] = self._open(spec)
        return self._opened[spec]

    def _open(self, spec: EmbeddingSpec) -> Encoder:
        source = self._source_of(spec)
        if source is None or isinstance(source, (str, Path)):
            name = str(source or (self.folder if has_own_encoder(self.folder) else spec.encoder))
            options: dict[str, Any] = {"layers": spec.layers, "long": spec.long, "precision": spec.precision}
            source = load_encoder(name, **options, device=self.device)
        if source.digest != spec.digest:
            raise EncoderMismatchError(spec.digest, source.digest, source.name)
        if (tuple(source.layers), source.long) != (spec.layers, spec.long):
            difference = EmbeddingSpec.of(source, spec.dtype, spec.poolings).difference(spec)
            raise UsageError(f"encoder {source.name} is not opened as for the model: {difference}; open it alike")
        return source

    def _source_of(self, spec: EmbeddingSpec) -> str | Path | Encoder | None:
        """Return where to take an encoder from: what was given, unless that is the encoder of another spec."""
        if self.source is None or not self.manifest.others:
            return self.source
        elsewhere = {one.digest for one in self.manifest.specs} - {spec.digest}
        return None if self._given.digest in elsewhere else self.source

    @cached_property
    def _given(self) -> Encoder:
        """What was given, opened with its own options: to know whose it is."""
        if isinstance(self.source, (str, Path)):
            return load_encoder(str(self.source), device=self.device)
        assert self.source is not None
        return self.source

    def features(self, sequences: Sequence[str]) -> Features:
        """Embed sequences as the training rows were: each distinct one once a spec, rounded as the cache stores them.

        For a head that reads no vectors, nothing is embedded: they have width 0.

        Raises
        ------
        SequenceTooLargeError
            If one does not fit into memory alone; its index is that in `sequences`.
        NonFiniteError
            If a vector holds NaN or infinity.
        """
        first, *others = (self.view(sequences, spec) for spec in self.manifest.specs)
        return dataclasses.replace(first, others=tuple(others))

    def view(self, sequences: Sequence[str], spec: EmbeddingSpec) -> Features:
        """Return `features` of one of the manifest's specs alone."""
        cleaned = [clean_sequence(sequence)[0] for sequence in sequences]
        if not reads_vectors(self.head):
            return Features.from_arrays(np.zeros((len(cleaned), 0), dtype=spec.dtype), sequences=cleaned, spec=spec)
        place = {sequence: row for row, sequence in enumerate(dict.fromkeys(cleaned))}
        try:
            vectors, chunks = self._embed(list(place), spec)
        except SequenceTooLargeError as error:
            first = cleaned.index(list(place)[error.index])
            raise SequenceTooLargeError(first, len(cleaned[first])) from None
        rows = np.array([place[sequence] for sequence in cleaned], dtype=np.int64)
        parts = None if chunks is None else [chunks[row] for row in rows]
        tables = {pooling: table[rows] for pooling, table in vectors.items()}
        return Features.from_arrays(tables, sequences=cleaned, chunks=parts, spec=spec)

    def _embed(self, sequences: list[str], spec: EmbeddingSpec) -> tuple[dict[str, Vectors], list[Vectors] | None]:
        """Return the pooled vectors, (n, width) each, and if the cache kept them those of each input, in its dtype."""
        keep, chunks, start = "chunk" if "chunk" in spec.poolings else "", list[Vectors](), 0
        tables = {pooling: np.zeros((len(sequences), spec.width), dtype=spec.dtype) for pooling in spec.pooled}
        encoder = self.encoder_of(spec)
        for count in encoder.batches(len(sequence) for sequence in sequences):
            batch = sequences[start : start + count]
            try:
                embedded = encoder.encode(batch, spec.pooled, keep)
            except SequenceTooLargeError as error:
                raise SequenceTooLargeError(start + error.index, len(batch[error.index])) from None
            with np.errstate(over="ignore"):  # what does not fit becomes infinite and is told below
                for pooling, table in tables.items():
                    table[start : start + count] = embedded.pooled[pooling]
                chunks += [part.astype(spec.dtype) for part in embedded.chunks or []]
            start += count
        finite = np.all([np.isfinite(table).all(1) for table in tables.values()], axis=0)
        for row in np.flatnonzero(~finite)[:1]:
            raise NonFiniteError(
                sequences[row], f"its vector is not finite as {spec.dtype}", "embed with --dtype float32"
            )
        return tables, chunks if keep else None

    def top_k(self, sequences: Sequence[str], k: int = 1) -> tuple[Indices, Probabilities]:
        """Return the k best class codes a sequence and their probabilities, both (n, min(k, classes))."""
        return self.head.top_k(self.features(sequences), k)

    def predict(self, sequences: Sequence[str], k: int = 1) -> list[list[tuple[str, float]]]:
        """Return the k best classes of each sequence with their probabilities, likeliest first."""
        codes, probabilities = self.top_k(sequences, k)
        pairs = zip(codes.tolist(), probabilities.tolist(), strict=True)
        return [[(self.classes[code], value) for code, value in zip(*row, strict=True)] for row in pairs]

    def predict_proba(self, sequences: Sequence[str]) -> Probabilities:
        """Return probabilities, float32 (n, classes)."""
        return self.head.predict_proba(self.features(sequences))
