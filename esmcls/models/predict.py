"""Answers for a stream of proteins, in input order and bounded memory: for every kind of task."""

from __future__ import annotations

import csv
import html
import importlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final, TextIO, TypeAlias, TypeVar

import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.cache.spec import IMPORTED
from esmcls.encoders.windows import parse_long, residues_seen
from esmcls.errors import MissingExtraError, SequenceTooLargeError, UnknownNameError, UsageError
from esmcls.files import MANIFEST, STATE
from esmcls.heads.contract import AlignedSegment, ShowsAlignments
from esmcls.heads.registry import reads_vectors
from esmcls.labels.kinds import WITHOUT_CLASSES
from esmcls.models.folder import load_model
from esmcls.models.given_vectors import GivenVectors, workspace_of
from esmcls.models.model import Model, features_given, given_vectors
from esmcls.models.sharing.hub_models import repository_of
from esmcls.reading.cautions import cautions
from esmcls.reading.records import Protein, several
from esmcls.reporting.rows import DESCRIPTION, NO_VECTOR, TOO_LARGE, Row, Unanswered, Written
from esmcls.tasks.answering import Answered, Answering
from esmcls.tasks.fitted import nearest_of
from esmcls.tasks.label_sets.prediction import IN_SET
from esmcls.tasks.one_label.prediction import OF_LEVELS, Prediction
from esmcls.workspace.workspace import Workspace

BLOCK: Final = 512
"""Proteins embedded and classified at a time: what bounds the memory."""
OPTIONS: Final = {
    "coverage": "--coverage",
    "min_score": "--min-score",
    "aspects": "--aspect",
    "at_least": "--at-least",
    "known": "--known",
    "evidence": "--evidence",
    "taxa": "--taxon-constraints",
}
"""Options that not every kind of task has, and how they are called on a command line."""
OPTIONAL: Final = (DESCRIPTION, IN_SET, *OF_LEVELS)
"""Columns that are there only where any row has something in them."""
OwnVectors: TypeAlias = str | Path | Mapping[str, npt.ArrayLike]
"""A file of vectors, or id -> vector."""
T = TypeVar("T")
"""What is said of a protein."""


@dataclass(frozen=True)
class Request:
    """What proteins are asked about: so much as another process needs to ask its own copy of a model.

    Parameters
    ----------
    k, options
        As in `predict`.
    format : str
        See `write_answers`.
    aligned : bool
        Whether how each aligns is asked, too.
    """

    k: int | None
    options: dict[str, Any]
    format: str
    aligned: bool = False

    def of(self, model: Model) -> Callable[[Features], Sequence[Any]]:
        """Return what a model is asked: from vectors of proteins to an answer for each, with its segments if aligned.

        Raises
        ------
        UsageError
            If an option is not for the model's kind of task, or its head aligns nothing.
        """
        answering = answering_of(model, self.k, self.options, format=self.format)
        if not self.aligned:
            return answering.ask
        head = model.head
        if not isinstance(head, ShowsAlignments):
            raise UsageError(
                f"model {model.name} aligns nothing (head {model.head_name}); --alignments is for the head align"
            )

        def both(x: Features) -> list[tuple[Any, list[AlignedSegment]]]:
            return list(zip(answering.ask(x), head.segments(x), strict=True))

        return both


Asker: TypeAlias = Callable[[Request, Iterable[Protein]], Iterator[tuple[Protein, Any]]]
"""Gives each protein with the answer to a request, in input order."""


def open_model(
    workspace: str | Path,
    name: str | None = None,
    *,
    device: str = "cpu",
    encoder: str | Path | None = None,
    vectors: OwnVectors | None = None,
    nearest: bool | None = None,
) -> Model:
    """Load a model: the best of a workspace, another of its models by name, any by its folder, or `hf:OWNER/NAME`.

    One on imported vectors finds those of new proteins in the workspace's cache and in a file, `vectors`. `nearest`
    says whether the nearest training protein is looked for in the workspace's cache where the head knows none; by
    default if there are 50,000 training proteins at most.

    Raises
    ------
    UsageError
        If vectors are given to a model that embeds.
    WorkspaceError
        If there is no workspace, or no model in it.
    UnknownNameError
        If it has no model of that name.
    """
    folder: str | Path
    if name is not None and (repository_of(name) or (Path(name) / MANIFEST).is_file()):
        folder, place = name, None
    else:
        place = Workspace.open(workspace)
        folder = place.best_model() if name is None else place.find_model(name)
    model = load_model(folder, device, encoder)
    beside = Workspace.open(workspace) if (Path(workspace) / STATE).is_file() else None
    model = replace(model, search=nearest, place=workspace_of(model.folder) or beside)
    return with_vectors(model, vectors, place)


def with_vectors(model: Model, vectors: OwnVectors | None, place: Workspace | None = None) -> Model:
    """Return a model that finds vectors in a file or mapping too, where one is given; see `GivenVectors`."""
    if vectors is None:
        return model
    return replace(model, vectors=GivenVectors.of(model.manifest, place or workspace_of(model.folder), vectors))


def as_model(model: Model | Workspace | str | Path, device: str = "cpu") -> Model:
    """Return a model by itself, by its folder, or as the best of a workspace; a device is for one that is loaded."""
    if isinstance(model, Model):
        return model
    if isinstance(model, Workspace):
        return load_model(model.best_model(), device)
    is_model = repository_of(model) or (Path(model) / MANIFEST).is_file()
    return load_model(model, device) if is_model else open_model(model, device=device)


class Predictions(list[Row]):
    """Rows of answers, in input order: `Prediction`, `TermPrediction` and so on, by the kind of task of the model."""

    def to_frame(self) -> Any:
        """Return a table with a column a field: a DataFrame of polars where it is installed, else of pandas.

        Raises
        ------
        MissingExtraError
            If neither is installed.
        """
        columns = {name: [getattr(row, name) for row in self] for name in self.columns}
        try:
            return importlib.import_module("polars").DataFrame(columns, strict=False)
        except ModuleNotFoundError:
            pass
        try:
            return importlib.import_module("pandas").DataFrame(columns)
        except ModuleNotFoundError:
            raise MissingExtraError("to_frame", "polars") from None

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the fields."""
        if not self or not is_dataclass(self[0]):
            return ()
        names = [field.name for field in fields(self[0])]
        empty = {name for name in OPTIONAL if name in names and all(getattr(row, name) is None for row in self)}
        return tuple(name for name in names if name not in empty)

    def _repr_html_(self) -> str:
        """Return a table for notebooks, of the first twenty rows."""
        head = "".join(f"<th>{name}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_shown(getattr(row, name)))}</td>" for name in self.columns) + "</tr>"
            for row in self[:20]
        )
        more = f"<p>{len(self) - 20:,} rows more</p>" if len(self) > 20 else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def predict(
    model: Model | Workspace | str | Path,
    proteins: Iterable[Protein | str],
    *,
    k: int | None = None,
    device: str = "cpu",
    vectors: OwnVectors | None = None,
    **options: Any,
) -> Predictions:
    """Answer proteins with a model, of whatever kind of task.

    Parameters
    ----------
    model : Model, Workspace, str or Path
        A workspace stands for its best model; a path is a model folder or a workspace.
    proteins : iterable of Protein or str
        Sequences alone are called by their number, from 1.
    k : int, optional
        Classes a protein, likeliest first; default 1 for one label, all that are shown for terms. Not for numbers.
    device : str
        Where a model is loaded that is named by a path.
    vectors : str, Path or mapping, optional
        Of a model on imported vectors, those of the proteins: a file as `esmcls import` takes it, or id -> vector.
    **options
        Of the kind of task: `coverage`, but for labels of residues; `min_score`, `aspects`, `at_least`, `known` (a
        GAF or table, or several, of terms that are no news) `evidence` (codes that count in them) and `taxa` (an
        `esmcls.tasks.go_terms.known.taxon_terms.TaxonTerms`, of what organisms cannot have) for terms.

    Returns
    -------
    Predictions
        Rows in input order; a list.

    Raises
    ------
    UsageError
        If `proteins` is a single text, or an option is not for the model's kind of task, or vectors are given to one
        that embeds.
    """
    named = (
        protein if isinstance(protein, Protein) else Protein(str(number), protein)
        for number, protein in enumerate(several("predict", proteins, Protein), 1)
    )
    return Predictions(stream_rows(with_vectors(as_model(model, device), vectors), named, k=k, **options))


def stream_rows(
    model: Model, proteins: Iterable[Protein], *, k: int | None = None, block: int = BLOCK, **options: Any
) -> Iterator[Row]:
    """Give the rows of proteins as they come; see `predict`.

    Every record is answered, those with equal ids or sequences too, in input order; equal sequences of a block are
    embedded once.
    """
    answering = answering_of(model, k, options)
    for protein, answer, note in noted(model, answer_stream(model, proteins, answering.ask, block=block)):
        yield from answering.rows(protein, answer, note)


def write_answers(
    model: Model,
    proteins: Iterable[Protein],
    handle: TextIO,
    format: str = "tsv",
    *,
    k: int | None = None,
    alignments: TextIO | None = None,
    ask: Asker | None = None,
    **options: Any,
) -> Written:
    """Write the rows of proteins as they come: what the command `predict` does.

    Parameters
    ----------
    model, proteins, k, **options
        As in `predict`.
    handle : text file
    format : {"tsv", "csv", "xlsx", "jsonl", "cafa", "fasta", "gff3"}
        cafa is for terms alone, fasta and gff3 for residues.
    alignments : text file, optional
        Written to, of a head that aligns: a row a segment, as `AlignedSegment` has it.
    ask : callable, optional
        Gives each protein its answer, in their order; default this process does.

    Raises
    ------
    UnknownNameError
        If there is no such format.
    UsageError
        If an option is not for the model's kind of task, or not for the format, or alignments are asked of a head that
        has none.
    """
    model.task.refuse({f"--format {format}": True}, f"model {model.name}")
    answering = answering_of(model, k, options, format=format)
    proteins = iter(proteins)
    first = list(itertools.islice(proteins, BLOCK))
    described = format == "cafa" or any(protein.description for protein in first)  # the former has no room for any
    undescribed = 0

    def counted() -> Iterator[Protein]:
        nonlocal undescribed
        for protein in itertools.chain(first, proteins):
            undescribed += bool(protein.description) and not described
            yield protein

    request = Request(k, options, format, alignments is not None)
    asked = request.of(model)
    answered = answer_stream(model, counted(), asked) if ask is None else ask(request, counted())
    answers = noted(model, answered if alignments is None else _aligned(answered, alignments))
    written = answering.write(answers, handle, described)
    return replace(written, undescribed=undescribed)


def _aligned(
    answered: Iterable[tuple[Protein, tuple[T, list[AlignedSegment]] | Unanswered]], handle: TextIO
) -> Iterator[tuple[Protein, T | Unanswered]]:
    """Give answers, and write how each protein aligns."""
    table = csv.writer(handle, delimiter="\t", lineterminator="\n")
    table.writerow(["id", *(column.name for column in fields(AlignedSegment))])
    for protein, answer in answered:
        if isinstance(answer, Unanswered):
            yield protein, answer
            continue
        for segment in answer[1]:
            numbers = (f"{value:.4g}" if isinstance(value, float) else value for value in astuple(segment))
            table.writerow([protein.id, *numbers])
        yield protein, answer[0]


def noted(model: Model, answers: Iterable[tuple[Protein, T | Unanswered]]) -> Iterator[Answered[T]]:
    """Add to each answer of `answer_stream` what makes it doubtful."""
    specs = model.manifest.specs if reads_vectors(model.head) else ()
    cut = [parse_long(spec.long) for spec in specs if spec.encoder != IMPORTED]
    given = given_vectors(model)
    for protein, answer in answers:
        length = len(protein.sequence)
        unseen = max((length - residues_seen(strategy, length) for strategy in cut), default=0)
        if given is not None and answer != NO_VECTOR:
            unseen = max(unseen, given.unseen(protein))
        yield Answered(protein, answer, cautions(protein.sequence, unseen))


def answering_of(model: Model, k: int | None, options: dict[str, Any], **more: Any) -> Answering[Any]:
    """Return how a model answers, with options as in `predict`.

    Raises
    ------
    UnknownNameError
        If there is no such option, or format.
    UsageError
        If an option is not for the model's kind of task.
    """
    for name in options.keys() - OPTIONS.keys():
        raise UnknownNameError("option", name, OPTIONS)
    given = {name: value for name, value in {"k": k, **options}.items() if value not in (None, ())}
    asked = {option: name in given for name, option in {"k": "--top-k", **OPTIONS}.items()}
    model.task.refuse(asked, f"model {model.name}")
    answering: Answering[Any] = model.task.answering(model, **given, **more)
    return answering


def predict_stream(
    model: Model, proteins: Iterable[Protein], k: int = 1, *, coverage: float | None = None, block: int = BLOCK
) -> Iterator[Prediction]:
    """Give the k likeliest classes of proteins as they come, of whatever kind of task.

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
        k rows a protein, ranks ascending; a single row with a `status` where a protein has no answer.
    """
    if model.task.kind in WITHOUT_CLASSES:
        yield from stream_rows(model, proteins, block=block, coverage=coverage)  # type: ignore[misc]
        return
    if not model.task.many:
        yield from stream_rows(model, proteins, k=k, block=block, coverage=coverage)  # type: ignore[misc]
        return
    if coverage is not None:
        raise UsageError(f"predict_stream says no sets of {model.task.name}: ask predict(…, coverage={coverage:g})")

    def ask(x: Features) -> list[list[dict[str, Any]]]:
        codes, probabilities = model.ranked(x, k)
        ranked = zip(codes.tolist(), probabilities.tolist(), nearest_of(model.head, x), strict=True)
        return [
            [
                {"rank": rank, "label": model.classes[code], "probability": probability, **nearest}
                for rank, (code, probability) in enumerate(zip(codes, probabilities, strict=True), 1)
            ]
            for codes, probabilities, nearest in ranked
        ]

    for protein, answer in answer_stream(model, proteins, ask, block=block):
        for row in [{"status": str(answer)}] if isinstance(answer, Unanswered) else answer:
            yield Prediction(protein.id, **row)


def answer_stream(
    model: Model, proteins: Iterable[Protein], answer: Callable[[Features], Sequence[T]], *, block: int = BLOCK
) -> Iterator[tuple[Protein, T | Unanswered]]:
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
        In input order; the reason where a protein has no answer: it does not fit into memory, or there is no vector.
    """
    given, proteins = given_vectors(model), iter(proteins)
    while given is not None and (chunk := list(itertools.islice(proteins, block))):
        x, has_vector = features_given(model, given, chunk)
        known = iter(answer(x) if len(x) else ())
        for protein, there in zip(chunk, has_vector.tolist(), strict=True):
            yield protein, next(known) if there else NO_VECTOR
    while chunk := list(itertools.islice(proteins, block)):
        distinct = {sequence: row for row, sequence in enumerate(dict.fromkeys(protein.sequence for protein in chunk))}
        answers = _halving(model, list(distinct), answer)
        for protein in chunk:
            yield protein, answers[distinct[protein.sequence]]


def _halving(model: Model, sequences: list[str], answer: Callable[[Features], Sequence[T]]) -> list[T | Unanswered]:
    """Return the answer about each sequence; those that do not fit into memory are found by halving."""
    try:
        features = model.features(sequences)
    except SequenceTooLargeError:
        if len(sequences) == 1:
            return [TOO_LARGE]
        half = len(sequences) // 2
        return _halving(model, sequences[:half], answer) + _halving(model, sequences[half:], answer)
    return list(answer(features))
