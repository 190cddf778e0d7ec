"""Predictions for a stream of proteins, in input order and bounded memory, and how they are written."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TextIO, TypeVar

from esmcls.cache.features import Features
from esmcls.cache.import_vectors import IMPORTED
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.errors import ModelError, SequenceTooLargeError, UnknownNameError
from esmcls.heads.registry import reads_vectors
from esmcls.metrics.calibration import conformal_sets
from esmcls.models.folder import load_model
from esmcls.models.manifest import MANIFEST
from esmcls.models.model import Model
from esmcls.reading.records import Protein
from esmcls.tasks.one_label.confidence import log_probability
from esmcls.types import Probabilities
from esmcls.workspace.workspace import Workspace

BLOCK: Final = 512
"""Proteins embedded and classified at a time: what bounds the memory."""
TOO_LARGE: Final = "too_large"
"""Status of a protein that did not fit into memory: it has no label."""
ACCEPTED: Final = "accepted"
REJECTED: Final = "rejected"
"""Status by the threshold of a model that was fitted with families held out: as of a known family, or of none."""
BETWEEN: Final = "|"
"""What stands between the classes of a set."""
T = TypeVar("T")
"""What is said of a protein."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row of the answer: the class at one rank for one record.

    Parameters
    ----------
    id : str
        The record's, verbatim.
    rank : int or None
        1 for the likeliest class; None where the protein could not be classified.
    label : str or None
    probability : float or None
    distance : float or None
        To the nearest training protein, where the head knows one; of a homology search, the E-value.
    nearest_id : str or None
        That training protein.
    status : str or None
        Why there is no label, where there is none; `accepted` or `rejected`, where the model has a threshold for it.
    set : str or None
        At rank 1, where a coverage is asked for: the classes that cannot be ruled out, likeliest first.
    """

    id: str
    rank: int | None = None
    label: str | None = None
    probability: float | None = None
    distance: float | None = None
    nearest_id: str | None = None
    status: str | None = None
    set: str | None = None


COLUMNS: Final = tuple(field.name for field in dataclasses.fields(Prediction))


def open_model(
    workspace: str | Path, name: str | None = None, *, device: str = "cpu", encoder: str | Path | None = None
) -> Model:
    """Load a model: the best of a workspace, another of its models by name, or any by its folder.

    Raises
    ------
    WorkspaceError
        If there is no workspace, or no model in it.
    UnknownNameError
        If it has no model of that name.
    """
    if name is not None and (Path(name) / MANIFEST).is_file():
        return load_model(name, device, encoder)
    opened = Workspace.open(workspace)
    return load_model(opened.best_model() if name is None else opened.find_model(name), device, encoder)


def features_for(model: Model, dataset: Dataset, workspace: Workspace | None = None) -> Features:
    """Return the vectors of a data set for a model: of each spec from the workspace's cache, where it holds them all.

    Otherwise the sequences are embedded now; nothing is written.
    """
    views = []
    for spec in model.manifest.specs:
        view = _stored(workspace, dataset, spec)
        if view is None:
            _check_encoder(model, spec)
            view = dataclasses.replace(model.view(dataset.sequences, spec), ids=dataset.ids)
        views.append(view)
    return dataclasses.replace(views[0], others=tuple(views[1:]))


def _stored(workspace: Workspace | None, dataset: Dataset, spec: EmbeddingSpec) -> Features | None:
    for entry in workspace.caches if workspace is not None else []:
        if entry.spec == spec:
            cache = EmbeddingCache.open(entry.folder)
            if not cache.missing(dataset.sequences):
                return Features.from_cache(cache, dataset)
    return None


def _check_encoder(model: Model, spec: EmbeddingSpec | None = None) -> None:
    """Refuse to embed for a model whose vectors, or those of a spec, were made elsewhere."""
    specs = model.manifest.specs if spec is None else (spec,)
    if IMPORTED in [one.encoder for one in specs] and model.source is None and reads_vectors(model.head):
        found = "fitted on imported vectors, whose encoder is not known here"
        raise ModelError(model.folder, found, "embed and fit with esmcls to predict new sequences")


def predict_stream(
    model: Model, proteins: Iterable[Protein], k: int = 1, *, coverage: float | None = None, block: int = BLOCK
) -> Iterator[Prediction]:
    """Classify proteins as they come.

    Every record is answered, those with equal ids or sequences too, in input order; equal sequences of a block are
    embedded once.

    Parameters
    ----------
    model : Model
        From `load_model`.
    proteins : iterable of Protein
        Of any length: it is read `block` proteins at a time.
    k : int
        Classes a protein, likeliest first; all there are, if fewer.
    coverage : float, optional
        Fill `set` so that it holds the true class with this probability, for proteins like the calibration rows.

    Raises
    ------
    UsageError
        If the model has too few calibration rows for the coverage.

    Yields
    ------
    Prediction
        k rows a protein, ranks ascending; a single row with a `status` where a protein does not fit into memory.
    """
    least = None if coverage is None else model.confidence.threshold(coverage)
    too_large = [{"status": TOO_LARGE}]
    for protein, answers in answer_stream(model, proteins, partial(_answers, model, k, least), block=block):
        for answer in too_large if answers is None else answers:
            yield Prediction(protein.id, **answer)


def answer_stream(
    model: Model, proteins: Iterable[Protein], answer: Callable[[Features], Sequence[T]], *, block: int = BLOCK
) -> Iterator[tuple[Protein, T | None]]:
    """Embed proteins as they come, and ask about each block of them.

    Parameters
    ----------
    model, proteins, block
        As in `predict_stream`.
    answer : callable
        From the vectors of distinct sequences to what is to be said of each.

    Yields
    ------
    (Protein, answer)
        In input order; None where a protein does not fit into memory.
    """
    _check_encoder(model)
    proteins = iter(proteins)
    while chunk := list(itertools.islice(proteins, block)):
        distinct = {sequence: row for row, sequence in enumerate(dict.fromkeys(one.sequence for one in chunk))}
        answers = _halving(model, list(distinct), answer)
        for protein in chunk:
            yield protein, answers[distinct[protein.sequence]]


def _halving(model: Model, sequences: list[str], answer: Callable[[Features], Sequence[T]]) -> list[T | None]:
    """Return the answer about each sequence; those that do not fit into memory are found by halving."""
    try:
        features = model.features(sequences)
    except SequenceTooLargeError:
        if len(sequences) == 1:
            return [None]
        half = len(sequences) // 2
        return _halving(model, sequences[:half], answer) + _halving(model, sequences[half:], answer)
    return list(answer(features))


def _answers(model: Model, k: int, least: float | None, features: Features) -> list[list[dict[str, Any]]]:
    """Return the rows of each protein, without the id."""
    codes, probabilities = model.ranked(features, k)
    about = zip(nearest(model, features), _statuses(model, features, probabilities[:, 0]), strict=True)
    found = [
        [
            {"rank": rank, "label": model.classes[code], "probability": probability, **near, **status}
            for rank, (code, probability) in enumerate(zip(*row, strict=True), 1)
        ]
        for *row, (near, status) in zip(codes.tolist(), probabilities.tolist(), about, strict=True)
    ]
    if least is not None:
        for rows, members in zip(found, conformal_sets(model.probabilities(features), least), strict=True):
            rows[0]["set"] = BETWEEN.join(model.classes[code] for code in members)
    return found


def _statuses(model: Model, features: Features, first: Probabilities) -> Sequence[dict[str, str]]:
    """Return whether each protein is accepted as of a known family, where the model has a threshold for it."""
    rejection = model.confidence.rejection
    if rejection is None:
        return [{}] * len(features)
    of_head = rejection.score == "familiarity"
    accepted = (model.head.familiarity(features) if of_head else log_probability(first)) > rejection.threshold
    return [{"status": ACCEPTED if one else REJECTED} for one in accepted.tolist()]


def nearest(model: Model, features: Features) -> Sequence[dict[str, Any]]:
    """Return `distance` and `nearest_id`, the nearest training protein's, of each, where the head knows them."""
    find = getattr(model.head, "nearest", None)
    if find is None:
        return [{}] * len(features)
    distances, ids = find(features)
    pairs = zip(distances.tolist(), ids, strict=True)
    return [{} if name is None else {"distance": distance, "nearest_id": name} for distance, name in pairs]


@dataclass
class Written:
    """What was written.

    Parameters
    ----------
    records : int
        Answered, those without a label too.
    left_out : list of str
        Ids of those without a label.
    """

    records: int = 0
    left_out: list[str] = dataclasses.field(default_factory=list)


def write_predictions(rows: Iterable[Prediction], handle: TextIO, format: str = "tsv") -> Written:
    """Write predictions as they come.

    Parameters
    ----------
    rows : iterable of Prediction
    handle : text file
    format : {"tsv", "jsonl"}
        A table with a header, empty where something does not apply; or an object a line, null where it does not.

    Returns
    -------
    Written

    Raises
    ------
    UnknownNameError
        If there is no such format.

    Examples
    --------
    >>> import sys
    >>> _ = write_predictions([Prediction("a", 1, "kinase", 0.75)], sys.stdout, "jsonl")  # doctest: +ELLIPSIS
    {"id": "a", "rank": 1, "label": "kinase", "probability": 0.75, "distance": null, ...}
    """
    return write_rows(rows, handle, format, COLUMNS)


class Row(Protocol):
    """A row of an answer: more is in the columns that it is written by."""

    @property
    def id(self) -> str: ...
    @property
    def rank(self) -> int | None: ...
    @property
    def status(self) -> str | None: ...


def write_rows(rows: Iterable[Row], handle: TextIO, format: str, columns: Sequence[str]) -> Written:
    """Write rows of any kind as they come, as `write_predictions` does; `columns` are the attributes to write."""
    if format not in _WRITERS:
        raise UnknownNameError("format", format, _WRITERS)
    written = Written()
    _WRITERS[format](_counted(rows, written, columns), handle, columns)
    return written


def _counted(rows: Iterable[Row], written: Written, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for row in rows:
        written.records += row.rank in (None, 1)
        if row.status == TOO_LARGE:
            written.left_out.append(row.id)
        yield {name: getattr(row, name) for name in columns}


def _write_tsv(rows: Iterable[dict[str, Any]], handle: TextIO, columns: Sequence[str]) -> None:
    rows = iter(rows)
    first = list(itertools.islice(rows, 1))  # before the header: what cannot even begin writes nothing
    table = csv.writer(handle, delimiter="\t", lineterminator="\n")
    table.writerow(columns)
    for row in itertools.chain(first, rows):
        table.writerow([_shown(row[name]) for name in columns])


def _shown(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else value


def _write_jsonl(rows: Iterable[dict[str, Any]], handle: TextIO, columns: Sequence[str]) -> None:
    for row in rows:
        rounded = {name: float(_shown(value)) if isinstance(value, float) else value for name, value in row.items()}
        handle.write(json.dumps(rounded, ensure_ascii=False) + "\n")


_WRITERS: Final = {"tsv": _write_tsv, "jsonl": _write_jsonl}
