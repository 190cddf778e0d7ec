"""The labelled data set of a workspace, in columns, and how records become it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from esmcls.cache.features import Features
from esmcls.datasets import split
from esmcls.datasets.clusters import read_clusters
from esmcls.datasets.split import FRACTIONS, SplitKind, SplitReport
from esmcls.errors import DataError, FolderError, UnknownNameError
from esmcls.files import atomic_path, refuse_what_is_no_file
from esmcls.labels.kinds import GO_TERMS, MANY_LABELS, NUMBER, OF_RESIDUES, ONE_LABEL, RESIDUE_LABEL, WITHOUT_CLASSES
from esmcls.labels.label_checks import LabelChecks
from esmcls.labels.label_lists import LabelLists, labels_in
from esmcls.labels.number_labels import Place
from esmcls.labels.numbers import same_sequence_other_number, tenths
from esmcls.labels.ontology import Ontology
from esmcls.labels.residue_labels import signs_of
from esmcls.reading.records import PARTS, Protein, Record, Tally, refuse_text

__all__ = ["Built", "Dataset", "Features", "build"]
_Clusters: TypeAlias = "Callable[[Iterable[str]], dict[str, str]]"
"""From ids to the cluster of each."""
_EMBED: Final = "run: esmcls embed INPUT"
_MANY: Final = {GO_TERMS: "term", MANY_LABELS: "label"}
"""Of the kinds with any number of classes a protein, what one of them is called."""
COLUMNS: Final = ("id", "sequence", "label", "part")


@dataclass(frozen=True)
class Dataset:
    """Labelled sequences and the part each belongs to, in the order they were read.

    Parameters
    ----------
    ids, sequences, labels, parts : lists of str, (n,)
        Ids are verbatim and may occur more than once. Where a protein has many labels, its label is its direct terms,
        sorted, with a space between; without an ontology its labels, sorted, with `;` between. Where residues
        have labels, it is a sign or a number for each (`residue_labels`).
    task : str
        What the labels are, one of `esmcls.labels.kinds.KINDS`.
    """

    ids: list[str]
    sequences: list[str]
    labels: list[str]
    parts: list[str]
    task: str = field(default=ONE_LABEL, compare=False)

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (self.ids, self.sequences, self.labels, self.parts)}
        if len(lengths) > 1:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> Dataset:
        """Return the records at `rows`, in that order."""
        columns = (self.ids, self.sequences, self.labels, self.parts)
        ids, sequences, labels, parts = ([column[row] for row in rows] for column in columns)
        return Dataset(ids, sequences, labels, parts, self.task)

    def part(self, name: str) -> Dataset:
        """Return the records of one part; none where the split has no such part.

        Raises
        ------
        UnknownNameError
            If `name` is none of train, validation and test.
        """
        if name not in PARTS:
            raise UnknownNameError("part", name, PARTS)
        return self.take([row for row, part in enumerate(self.parts) if part == name])

    def records(self) -> Iterator[Record]:
        """Yield the rows as records; their lines are row numbers, from 1."""
        rows = zip(self.ids, self.sequences, self.labels, self.parts, strict=True)
        for row, (name, sequence, label, part) in enumerate(rows, 1):
            yield Record(Protein(name, sequence), label, part, "dataset", row)

    def digest(self) -> str:
        """Return the sha256 of sequences and labels, whatever their order, ids and split.

        A label stands in the row of its sequence, and vectors are found by sequence: so no order has to be kept
        anywhere, and a label that moved to another sequence is another digest.
        """
        return content_digest(zip(self.sequences, self.labels, strict=True))

    def split_digest(self) -> str:
        """Return the sha256 of which sequences stand in which part, whatever the order."""
        return content_digest(zip(self.sequences, self.parts, strict=True))

    def facts(self) -> dict[str, object]:
        """Return what a workspace remembers: records, distinct sequences, classes, records of each part, digest."""
        return {
            "records": len(self),
            "sequences": len(set(self.sequences)),
            "classes": len(set(self.labels)),
            "parts": split.part_counts(self.parts),
            "digest": self.digest(),
        }

    def save(self, path: str | Path) -> None:
        """Write a Parquet file of the columns id, sequence, label, part, whole or not at all."""
        import polars as pl

        columns = (self.ids, self.sequences, self.labels, self.parts)
        table = pl.DataFrame(dict(zip(COLUMNS, columns, strict=True)), schema=dict.fromkeys(COLUMNS, pl.String))
        with atomic_path(path) as temporary:
            table.write_parquet(temporary)

    @classmethod
    def load(cls, path: str | Path) -> Dataset:
        """Read what `save` wrote.

        Raises
        ------
        FolderError
            If the file is no Parquet file or lacks a column.
        """
        import polars as pl

        try:
            refuse_what_is_no_file(path)
            # as bytes, so that no mapping of the file outlives this call
            table = pl.read_parquet(Path(path).read_bytes(), columns=list(COLUMNS))
        # the last is no Exception
        except (OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)[:160]
            raise FolderError(path, f"cannot be read ({reason})", _EMBED) from error
        columns = [table[name] for name in COLUMNS]
        if any(column.dtype != pl.String or column.null_count() for column in columns):
            raise FolderError(path, f"no texts in each of the columns {', '.join(COLUMNS)}", _EMBED)
        if strange := set(table["part"].unique()) - set(PARTS):
            raise FolderError(path, f"a part {min(strange)[:40]!r} that is none of {', '.join(PARTS)}", _EMBED)
        ids, sequences, labels, parts = (column.to_list() for column in columns)
        return cls(ids, sequences, labels, parts)


def content_digest(rows: Iterable[Sequence[str]]) -> str:
    """Return a hexadecimal sha256 of rows of texts, whatever their order.

    Examples
    --------
    >>> content_digest([("a", "b"), ("c", "d")]) == content_digest([("c", "d"), ("a", "b")])
    True
    """
    # digests are sorted instead of rows, so that memory holds 32 bytes a row; \0 stands in no text
    keys = sorted(hashlib.sha256("\0".join(row).encode()).digest() for row in rows)
    return hashlib.sha256(b"".join(keys)).hexdigest()


class Built(NamedTuple):
    """A data set, how its split came about, and the kind of task that its labels are for."""

    dataset: Dataset
    report: SplitReport
    task: str = ONE_LABEL


def build(
    records: Iterable[Record],
    *,
    kind: SplitKind | None = None,
    fractions: Sequence[float] = FRACTIONS,
    clusters: str | Path | None = None,
    seed: int = 0,
    tally: Tally | None = None,
    ontology: Ontology | None = None,
    task: str | None = None,
) -> Built:
    """Make a data set of labelled records.

    Where any record has a part, the split is the given one: records without a part are train, sequences equal to one in
    test (or validation) leave train (or validation), and where there is no validation part a tenth of train is drawn
    for it; a test part is never drawn then. Where no record has a part, all three are drawn. With a table of clusters
    draws are of whole clusters, and all three parts are drawn unless some record is test or validation. Without, they
    are stratified, by tenths where labels are numbers; sets of many labels and labels of residues hardly recur, so
    theirs are of sequences at random.

    Parameters
    ----------
    records : iterable of Record
        Read once, kept in columns.
    kind : {"given", "stratified", "random", "cluster"}, optional
        The split, if it is to be another than said above; drawing one passes over given parts.
    fractions : (train, validation, test)
        Of a drawn split.
    clusters : str or Path, optional
        Table of the cluster of each id.
    seed : int
    tally : Tally, optional
        Gets the number of duplicate ids.
    ontology : Ontology, optional
        A label is terms of it, many a protein.
    task : str, optional
        The kind of task that the user named, one of `esmcls.labels.kinds.NAMED`; default what labels look like.

    Returns
    -------
    Built
        The data set, a report of its split, and the kind of task.

    Raises
    ------
    DataError
        If there is no record, a record has no label, or an id stands in two records where ids join a table of clusters.
    UsageError
        If the fractions are no shares of 1, or no record is train.
    """
    checks = None if ontology else LabelChecks()
    columns = _LabelledColumns.of(refuse_text(records, "records"), clusters is not None, checks)
    task = GO_TERMS if checks is None else checks.kind(columns.path, task)
    if tally is not None:
        tally.duplicate_ids = len(columns.ids) - len(set(columns.ids))
    many = _MANY.get(task, "")
    hardly_recur = bool(many) or task in OF_RESIDUES
    kind = kind or _usual_kind(columns.parts, clusters is not None, hardly_recur)
    report = SplitReport(kind, seed, split.check_fractions(fractions), many=many, by_class=not hardly_recur)
    report.numbers = task == NUMBER
    if task == MANY_LABELS:
        lists = LabelLists.of(columns.labels)
        columns.labels = lists.texts
        report.about_labels = lists.lines()
    clusters_of = None if clusters is None else partial(read_clusters, clusters, tally=tally)
    dataset = replace(_with_parts(columns, report, fractions, clusters_of), task=task)
    if report.numbers:
        report.ambiguous = same_sequence_other_number(dataset.sequences, dataset.labels)
        return Built(dataset, report, task)
    report.ambiguous = len(split.labels_of(dataset.sequences, dataset.labels)[1])
    trained = {label for label, part in zip(dataset.labels, dataset.parts, strict=True) if part == "train"}
    classes = classes_in(task) if ontology is None else partial(_terms, ontology)
    report.untrained = len(classes(dataset.labels) - classes(trained))
    return Built(dataset, report, task)


def classes_in(task: str) -> Callable[[Iterable[str]], set[str]]:
    """Return what gives the classes of labels of a kind of task: of residues, their signs; of numbers, none.

    Examples
    --------
    >>> sorted(classes_in("residue-label")(["CCH", "C?"])), sorted(classes_in("one-label")(["CCH"]))
    (['C', 'H'], ['CCH'])
    >>> sorted(classes_in("many-labels")(["a;b", "b"])), classes_in("number")(["37.5"])
    (['a', 'b'], set())
    """
    classes = {RESIDUE_LABEL: signs_of, MANY_LABELS: _listed}
    return _none if task in WITHOUT_CLASSES else classes.get(task, set)


def _none(labels: Iterable[str]) -> set[str]:
    """Return that numbers are of no classes."""
    return set()


def _usual_kind(parts: Sequence[str | None], has_clusters: bool, hardly_recur: bool) -> SplitKind:
    """Return the kind of split where none is asked for; see `build`."""
    if set(parts) - ({None, "train"} if has_clusters else {None}):
        return "given"
    return "cluster" if has_clusters else "random" if hardly_recur else "stratified"


def _with_parts(
    columns: _LabelledColumns, report: SplitReport, fractions: Sequence[float], clusters: _Clusters | None
) -> Dataset:
    """Make the data set with the split of the report's kind."""
    if report.kind == "given":
        return _given(columns, report, clusters)
    if report.kind == "cluster" and clusters is None:
        raise DataError("input", "no table of clusters", "give one for a split by cluster")
    parts = _draw(columns, fractions, report, clusters if report.kind == "cluster" else None)
    return Dataset(columns.ids, columns.sequences, columns.labels, parts)


def _listed(labels: Iterable[str]) -> set[str]:
    """Return the labels that texts list."""
    return {name for label in set(labels) for name in labels_in(label)}


def _terms(ontology: Ontology, labels: Iterable[str]) -> set[str]:
    """Return the terms of labels with all that contain them."""
    direct = {term for label in set(labels) for term in label.split(" ")}
    return set(ontology.propagate([direct]).classes)


def _draw(
    rows: Dataset | _LabelledColumns, shares: Sequence[float], report: SplitReport, clusters: _Clusters | None = None
) -> list[str]:
    """Draw the part of each row: of whole clusters, where there is a table of them."""
    if clusters is not None:
        cluster_of = clusters(rows.ids)
        return split.by_cluster(rows.sequences, [cluster_of[name] for name in rows.ids], shares, report.seed)
    if report.kind == "random" or not report.by_class:
        return split.at_random(rows.sequences, shares, report.seed)
    strata = tenths(rows.labels) if report.numbers else rows.labels
    return split.stratified(rows.sequences, strata, shares, report.seed)


@dataclass
class _LabelledColumns:
    """Records as they come in, in columns; equal label texts share their memory."""

    ids: list[str] = field(default_factory=list)
    sequences: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    parts: list[str | None] = field(default_factory=list)
    path: str = "input"
    """The first record's file."""
    known: dict[str, str] = field(default_factory=dict)
    seen: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record], joined: bool, checks: LabelChecks | None = None) -> _LabelledColumns:
        """Read records; where they are `joined` by id, each id must be of one sequence; `checks` notes their labels."""
        columns = cls()
        for record in records:
            columns.add(record, joined)
            if checks is not None and record.label is not None:
                place = Place(record.path, record.line, record.protein.id)
                checks.add(columns.known[record.label], record.protein.sequence, place)
        if not columns.ids:
            raise DataError("input", "no records", "give at least one labelled sequence")
        return columns

    def add(self, record: Record, joined: bool) -> None:
        protein, label = record.protein, record.label
        if label is None:
            fix = "give every record a label (--labels TABLE)"
            raise DataError(record.path, "no label", fix, line=record.line, record=protein.id)
        if joined:
            sequence, path, line = self.seen.setdefault(protein.id, (protein.sequence, record.path, record.line))
            if sequence != protein.sequence:
                problem = f"this id is that of another sequence too ({path}:{line})"
                fix = "give each an id of its own, since clusters are joined by id"
                raise DataError(record.path, problem, fix, line=record.line, record=protein.id)
        self.path = self.path if self.ids else record.path
        self.ids.append(protein.id)
        self.sequences.append(protein.sequence)
        self.labels.append(self.known.setdefault(label, label))
        self.parts.append(record.part)


def _given(columns: _LabelledColumns, report: SplitReport, clusters: _Clusters | None = None) -> Dataset:
    """Complete a given split: without leaks between parts, and with a validation part."""
    report.assigned = sum(part is None for part in columns.parts)
    parts = split.apply_given(columns.parts)
    leaks = split.drop_leaks(columns.sequences, parts)
    report.leaks = [(columns.ids[leak.row], leak.part, leak.kept_in) for leak in leaks]
    left = {leak.row for leak in leaks}
    whole = Dataset(columns.ids, columns.sequences, columns.labels, parts)
    without_leaks = whole.take([row for row in range(len(whole)) if row not in left]) if left else whole
    if "train" not in without_leaks.parts:
        raise DataError("input", "every train sequence stands in test or validation too", "give other training records")
    if "validation" in without_leaks.parts:
        return without_leaks
    train = [row for row, part in enumerate(without_leaks.parts) if part == "train"]
    shares = (1 - split.VALIDATION, split.VALIDATION, 0.0)
    drawn = _draw(without_leaks.take(train), shares, report, clusters)
    complete = list(without_leaks.parts)
    for row, part in zip(train, drawn, strict=True):
        complete[row] = part
    report.drawn_validation = drawn.count("validation")
    return replace(without_leaks, parts=complete)
