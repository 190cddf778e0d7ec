"""A fitted model at work: a head and its encoder, sequences in, classes out.

What `esmcls.load_model` makes of a model folder. Vectors are made as the training rows' were: each distinct
sequence once, in the batches that the encoder plans, rounded as the cache stores them.
"""

from __future__ import annotations

import dataclasses
import html
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features, check_digest, open_encoder
from esmcls.cache.spec import IMPORTED, EmbeddingSpec, Keep
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.encoders import OWN
from esmcls.encoders.adapters import FILE
from esmcls.encoders.encoder import Encoder, load_encoder
from esmcls.errors import ModelError, NonFiniteError, SequenceTooLargeError, UsageError
from esmcls.heads.contract import FindsNearest
from esmcls.heads.registry import reads_residues, reads_vectors
from esmcls.labels.kinds import WITHOUT_CLASSES
from esmcls.models.given_vectors import GivenVectors, imported_specs, workspace_of
from esmcls.models.manifest import Manifest
from esmcls.models.neighbours import MOST, Neighbours, find_neighbours
from esmcls.reading.records import Protein, clean_sequences
from esmcls.tasks.fitted import AnyHead, Findings
from esmcls.tasks.kinds import one_label
from esmcls.tasks.task import AnyTask
from esmcls.types import Indices, Probabilities, Vectors
from esmcls.workspace.workspace import Workspace

Flags = npt.NDArray[np.bool_]
MOST_RESIDUE_BYTES = 1 << 30
"""Of the residue vectors of proteins that are asked about at once, for a head that reads them."""


def has_own_encoder(folder: Path) -> bool:
    """Return whether a model folder holds the encoder that was tuned with its head."""
    return any((folder / name).is_file() for name in (OWN, FILE))


@dataclass(repr=False)
class Model:
    """A head and its encoder: sequences in, classes out.

    Parameters
    ----------
    folder : Path
    manifest : Manifest
    head : AnyHead
    task : Task
        Decides what its answer is.
    device : str
    source : str, Path, Encoder or None
        Where the encoder is from; None for where its name says. Of several encoders, it is that of this digest.
    vectors : GivenVectors or None
        Where imported vectors are found, for a head that was fitted on such; None for the caches of its workspace.
    place : Workspace or None
        Where its training proteins and their vectors may be; None for the workspace in which it lies.
    search : bool or None
        Whether the nearest of them is looked for, where the head knows none; None if they are not too many.
    called : str or None
        Its name, if not that of its folder.
    """

    folder: Path
    manifest: Manifest
    head: AnyHead
    task: AnyTask = field(default_factory=one_label)
    device: str = "cpu"
    source: str | Path | Encoder | None = None
    vectors: GivenVectors | None = None
    place: Workspace | None = None
    search: bool | None = None
    called: str | None = None
    _opened: dict[EmbeddingSpec, Encoder] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"<Model {self.name}: {', '.join(f'{name} {value}' for name, value in self._facts().items())}>"

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        cells = {"model": self.name, **self._facts(), "folder": self.folder}
        rows = (f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>" for name, value in cells.items())
        return f"<table>{''.join(rows)}</table>"

    def _facts(self) -> dict[str, object]:
        """Return what people ask first."""
        reached = self.manifest.validation.get(self.task.score)
        facts: dict[str, object] = {"task": self.task.name, "head": self.head_name, "encoder": self.spec.short_name}
        if self.task.kind not in WITHOUT_CLASSES:
            facts["classes"] = f"{len(self.classes):,}"
        return facts | ({} if reached is None else {f"validation {self.task.score}": f"{reached:.4g}"})

    @property
    def name(self) -> str:
        """The name of its folder, or of its repository on the hub."""
        return self.called or self.folder.name

    @property
    def head_name(self) -> str:
        """The registered name of its head."""
        return self.manifest.head

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the columns of `predict_proba`."""
        return self.manifest.classes

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Training members of each class."""
        return self.manifest.class_counts

    @property
    def spec(self) -> EmbeddingSpec:
        """That of the vectors that its head reads; the first, if there are several."""
        return self.manifest.spec

    @property
    def specs(self) -> tuple[EmbeddingSpec, ...]:
        """Those of all vectors that its head reads."""
        return self.manifest.specs

    @property
    def refitted(self) -> bool:
        """Whether its head was fitted on the validation rows, too, in the end."""
        return bool(self.manifest.setup.get("refit"))

    @cached_property
    def findings(self) -> Findings:
        """What validation rows and rows set aside tell of the head.

        Raises
        ------
        ModelError
            If a file is damaged.
        """
        findings: Findings = self.task.read_findings(self.folder, self.classes)
        return findings

    @cached_property
    def neighbours(self) -> Neighbours | None:
        """The training proteins with their vectors, if they are to be searched and are at hand."""
        if self.search is False or not reads_vectors(self.head):
            return None
        most = sys.maxsize if self.search else MOST
        return find_neighbours(self.manifest, self.place or workspace_of(self.folder), most)

    @property
    def lacks_neighbours(self) -> bool:
        """Whether it cannot tell the nearest training protein, though it reads vectors."""
        silent = self.search is not False and reads_vectors(self.head) and not isinstance(self.head, FindsNearest)
        return silent and self.neighbours is None

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
            source = open_encoder(spec, name, self.device)
        check_digest(source, spec)
        if source.width != spec.width:
            problem = f"vectors of {spec.width} numbers, where encoder {source.name} makes {source.width}"
            raise ModelError(self.folder, problem, "copy the model folder anew, or fit again")
        if (tuple(source.layers), source.long) != (spec.layers, spec.long):
            difference = EmbeddingSpec.of(source, spec.dtype, spec.poolings).difference(spec)
            raise UsageError(f"encoder {source.name} is not opened as for the model: {difference}; open it alike")
        return source

    def _source_of(self, spec: EmbeddingSpec) -> str | Path | Encoder | None:
        """Return where to take an encoder from: what was given, unless that is the encoder of another spec."""
        if self.source is None or not self.manifest.others:
            return self.source
        elsewhere = {one.digest for one in self.manifest.specs} - {spec.digest}
        from esmcls.encoders.processor.int8 import digest_in_int8

        given = self._given.digest
        return None if {given, digest_in_int8(given)} & elsewhere else self.source

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
        cleaned = clean_sequences(f"model {self.name}", sequences)
        if not reads_vectors(self.head):
            return Features.from_arrays(np.zeros((len(cleaned), 0), dtype=spec.dtype), sequences=cleaned, spec=spec)
        place = {sequence: row for row, sequence in enumerate(dict.fromkeys(cleaned))}
        keep = self._kept(sum(map(len, place)), spec)
        try:
            vectors, ragged = self._embed(list(place), spec, keep)
        except SequenceTooLargeError as error:
            first = cleaned.index(list(place)[error.index])
            raise SequenceTooLargeError(first, len(cleaned[first])) from None
        rows = np.array([place[sequence] for sequence in cleaned], dtype=np.int64)
        parts = [ragged[row] for row in rows] if keep else None
        tables = {pooling: table[rows] for pooling, table in vectors.items()}
        ragged_of_rows = {"chunk": {"chunks": parts}, "residue": {"residues": parts}, "": {}}[keep]
        opened = partial(self.encoder_of, spec)
        return Features.from_arrays(tables, sequences=cleaned, spec=spec, encoder=opened, **ragged_of_rows)

    def _kept(self, residues: int, spec: EmbeddingSpec) -> Keep:
        """Return what to keep besides pooled vectors: those of inputs if the cache did, of residues if there is room.

        Where there is none, a head that reads residues has them made again.
        """
        if "chunk" in spec.poolings:
            return "chunk"
        room = residues * spec.width * np.dtype(spec.dtype).itemsize <= MOST_RESIDUE_BYTES
        return "residue" if reads_residues(self.head) and room else ""

    def _embed(self, sequences: list[str], spec: EmbeddingSpec, keep: Keep) -> tuple[dict[str, Vectors], list[Vectors]]:
        """Return pooled vectors, (n, width) each, and what is kept of each sequence besides, in the type kept."""
        ragged: list[Vectors] = []
        start = 0
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
                ragged += [part.astype(spec.dtype) for part in embedded.chunks or []]
                ragged += [spec.rounded(part) for part in embedded.residues or []]
            start += count
        finite = np.all([np.isfinite(table).all(1) for table in tables.values()], axis=0)
        for row in np.flatnonzero(~finite)[:1]:
            raise NonFiniteError(
                sequences[row], f"its vector is not finite as {spec.dtype}", "embed with --dtype float32"
            )
        return tables, ragged

    def probabilities(self, x: Features) -> Probabilities:
        """Return the model's answer about vectors, float32 (n, classes): what everything that asks a model is told.

        Of a model of terms no parent is less probable than its child.
        """
        return self.task.probabilities(self.head, x)

    def ranked(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k likeliest classes by `probabilities`, as codes and values, both (n, min(k, classes))."""
        return self.task.ranked(self.head, x, k)

    def top_k(self, sequences: Sequence[str], k: int = 1) -> tuple[Indices, Probabilities]:
        """Return the k best class codes a sequence and their probabilities, both (n, min(k, classes))."""
        return self.ranked(self.features(sequences), k)

    def predict(self, sequences: Sequence[str], k: int = 1) -> list[Any]:
        """Return the k best classes of each sequence with their probabilities, likeliest first; or what it says."""
        return list(self.task.said(self.head, self.features(sequences), self.classes, k))

    def predict_proba(self, sequences: Sequence[str]) -> Probabilities:
        """Return probabilities, float32 (n, classes)."""
        return self.probabilities(self.features(sequences))


def given_vectors(model: Model) -> GivenVectors | None:
    """Return where the vectors of new proteins are, for a head on imported ones; None where an encoder makes them.

    Raises
    ------
    ModelError
        If they are nowhere.
    """
    if not imported_specs(model.manifest) or model.source is not None or not reads_vectors(model.head):
        return None
    given = model.vectors or GivenVectors.of(model.manifest, workspace_of(model.folder))
    if not given.caches and not given.by_id:
        check_encoder(model)
    return given


def features_given(model: Model, given: GivenVectors, proteins: Sequence[Protein]) -> tuple[Features, Flags]:
    """Return the vectors of the proteins that have imported ones, and which these are, bool (n,)."""
    x, found = given.find(proteins)
    views = [x if spec == given.spec else model.view(x.sequences, spec) for spec in model.specs]
    return dataclasses.replace(views[0], others=tuple(views[1:])), found


def features_for(model: Model, dataset: Dataset, workspace: Workspace | None = None) -> Features:
    """Return the vectors of a data set for a model: of each spec from the workspace's cache, where it holds them all.

    Otherwise the sequences are embedded now; nothing is written.
    """
    views = []
    for spec in model.manifest.specs:
        view = _stored(workspace, dataset, spec)
        if view is None:
            check_encoder(model, spec)
            view = dataclasses.replace(model.view(dataset.sequences, spec), ids=dataset.ids)
        views.append(view)
    return dataclasses.replace(views[0], others=tuple(views[1:]))


def _stored(workspace: Workspace | None, dataset: Dataset, spec: EmbeddingSpec) -> Features | None:
    cache = cache_with(workspace, dataset.sequences, spec)
    return None if cache is None else Features.from_cache(cache, dataset)


def cache_with(workspace: Workspace | None, sequences: Sequence[str], spec: EmbeddingSpec) -> EmbeddingCache | None:
    """Return a cache of a workspace that holds the vectors of all sequences by a spec; None where there is none."""
    for entry in workspace.caches if workspace is not None else []:
        if entry.spec == spec:
            cache = EmbeddingCache.open(entry.folder)
            if not cache.missing(sequences):
                return cache
    return None


def check_encoder(model: Model, spec: EmbeddingSpec | None = None) -> None:
    """Refuse to embed for a model whose vectors, or those of a spec, were made elsewhere."""
    specs = model.manifest.specs if spec is None else (spec,)
    if IMPORTED in [read.encoder for read in specs] and model.source is None and reads_vectors(model.head):
        problem = "fitted on imported vectors, whose encoder is not known here"
        raise ModelError(model.folder, problem, "give the vectors of new sequences (--vectors FILE)")
