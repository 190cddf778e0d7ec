"""Answers as the page shows them: a table of the model's kind of task, a protein's details, files to take home."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from esmcls.app.verdicts import verdict
from esmcls.errors import UsageError
from esmcls.files import atomic_text
from esmcls.labels.kinds import GO_TERMS, MANY_LABELS, NUMBER, ONE_LABEL, RESIDUE_LABEL, RESIDUE_NUMBER, STRUCTURE
from esmcls.models.model import Model
from esmcls.models.predict import answer_stream, answering_of, noted
from esmcls.reading.ids import accession, is_accession
from esmcls.reading.records import Protein
from esmcls.reporting.rows import Row
from esmcls.tasks.answering import Answered, Answering
from esmcls.tasks.one_label.task import OneLabel

BLOCK: Final = 16
"""Proteins asked at a time: as often the bar moves."""
K: Final = 5
"""Classes of a protein that the details show."""
COVERAGE: Final = 0.9
"""Of sets, levels and intervals, where the model has calibration rows enough."""


class Column(NamedTuple):
    """A column of the table: its title, what the page sorts it as, and what stands in it of a row."""

    title: str
    type: str
    value: Callable[[Any], Any]


class Table(NamedTuple):
    """What the page shows: titles and types of columns, and rows; the first column is the protein's number, from 1."""

    titles: list[str]
    types: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model said of some proteins.

    Parameters
    ----------
    model : Model
    answered : list of Answered
        Protein, answer and note, in the order they were asked.
    rows : list of list of Row
        Those of each protein.
    """

    model: Model
    answered: list[Answered[Any]]
    rows: list[list[Row]]

    def table(self) -> Table:
        """Return the table of the model's kind of task."""
        kind = self.model.task.kind
        columns = _columns(self.model)
        shown = [
            [number, *(column.value(row) for column in columns)]
            for number, (answered, rows) in enumerate(zip(self.answered, self.rows, strict=True), 1)
            for row in _shown_rows(kind, answered.protein, rows)
        ]
        return Table(["#", *(c.title for c in columns)], ["number", *(c.type for c in columns)], shown)

    def line(self) -> str:
        """Say what was asked of whom."""
        n = len(self.answered)
        of = f"{self.model.name} ({self.model.task.name}, head {self.model.head_name})"
        return f"{n:,} protein{'' if n == 1 else 's'} asked of {of}"

    def write(self, folder: Path) -> list[Path]:
        """Write the answers in every format that they have; return the files."""
        formats = ["tsv", "xlsx"]
        if self.model.task.kind == RESIDUE_LABEL:
            formats += ["fasta", "gff3"]
        described = any(answered.protein.description for answered in self.answered)
        paths = [folder / f"answers.{format}" for format in formats]
        for format, path in zip(formats, paths, strict=True):
            with atomic_text(path) as handle:
                _answering(self.model, format=format).write(self.answered, handle, described)
        return paths


def ask(
    model: Model, proteins: Sequence[Protein], progress: Callable[[int, int], None] = lambda done, total: None
) -> Answers:
    """Ask a model about proteins.

    Parameters
    ----------
    model : Model
    proteins : sequence of Protein
    progress : callable
        Told after each block how many proteins are done, and how many there are.
    """
    answering = _answering(model)
    answered = list[Answered[Any]]()
    for start in range(0, len(proteins), BLOCK):
        block = proteins[start : start + BLOCK]
        answered += noted(model, answer_stream(model, block, answering.ask))
        progress(len(answered), len(proteins))
    return Answers(model, answered, [list(answering.rows(*triple)) for triple in answered])


def _answering(model: Model, **format: str) -> Answering[Any]:
    """Return how a model answers: more than the likeliest class, and sets or intervals where it can give them."""
    k = K if model.task.kind == ONE_LABEL else None
    if model.task.kind not in (ONE_LABEL, NUMBER):  # sets of terms and labels may be long: for a file, not a page
        return answering_of(model, k, {}, **format)
    try:
        return answering_of(model, k, {"coverage": COVERAGE}, **format)
    except UsageError:  # no calibration rows for it
        return answering_of(model, k, {}, **format)


def _shown_rows(kind: str, protein: Protein, rows: list[Row]) -> Sequence[Any]:
    """Return what of a protein's rows the table shows: the first, or all, or one for those of its residues or pairs."""
    if kind == ONE_LABEL:
        return rows[:1]
    if kind in (RESIDUE_LABEL, RESIDUE_NUMBER):
        return [_Summary.of(protein, rows)]
    if kind == STRUCTURE:
        return [_Contacts.of(protein, rows)]
    return rows


def _columns(model: Model) -> list[Column]:
    hierarchy = model.task.hierarchy if isinstance(model.task, OneLabel) else None
    levels = () if hierarchy is None else hierarchy.levels
    name = Column("id", "str", lambda row: row.id)
    nearest = Column("nearest known protein", "html", lambda row: linked(row.nearest_id))
    note = Column("note", "str", lambda row: row.note or "")
    probability = Column("probability", "number", lambda row: rounded(row.probability))
    predicted = Column("predicted", "str", lambda row: {True: "yes", False: "no"}.get(row.predicted, ""))
    of_kind = {
        ONE_LABEL: [
            Column("answer", "str", lambda row: verdict(row, levels)),
            Column("class", "str", lambda row: row.label or ""),
            probability,
            Column(f"{COVERAGE:.0%} sure to be in", "str", lambda row: (row.set or "").replace("|", ", ")),
            nearest,
            Column("its class", "str", lambda row: row.nearest_label or ""),
            Column("distance", "number", lambda row: rounded(row.distance)),
        ],
        GO_TERMS: [
            Column("term", "html", lambda row: linked_term(row.term)),
            Column("name", "str", lambda row: row.name or ""),
            Column("aspect", "str", lambda row: row.aspect or ""),
            probability,
            predicted,
            nearest,
        ],
        MANY_LABELS: [Column("label", "str", lambda row: row.label or ""), probability, predicted, nearest],
        NUMBER: [
            Column("value", "number", lambda row: rounded(row.value)),
            Column("low", "number", lambda row: rounded(row.low)),
            Column("high", "number", lambda row: rounded(row.high)),
            nearest,
            Column("its value", "number", lambda row: rounded(row.nearest_value)),
        ],
        STRUCTURE: [
            Column("residues", "number", lambda row: row.residues),
            Column("contacts", "number", lambda row: row.contacts),
            Column("long-range contacts", "number", lambda row: row.long_range),
            Column("the likeliest", "str", lambda row: row.likeliest),
        ],
    }
    residues = [
        Column("residues", "number", lambda row: row.residues),
        Column("labels", "str", lambda row: row.labels),
        Column("in short", "str", lambda row: row.shares),
    ]
    return [name, *of_kind.get(model.task.kind, residues), note]


@dataclass(frozen=True)
class _Summary:
    """The rows of a protein's residues, in one."""

    id: str
    residues: int
    labels: str
    shares: str
    note: str | None

    @classmethod
    def of(cls, protein: Protein, rows: Sequence[Any]) -> _Summary:
        labels = [row.label for row in rows if row.label is not None]
        values = [row.value for row in rows if row.value is not None]
        if values:
            shares = f"mean {sum(values) / len(values):.3g}, from {min(values):.3g} to {max(values):.3g}"
        else:
            counts = Counter(labels).most_common()
            shares = ", ".join(f"{label} {count / len(labels):.0%}" for label, count in counts) or (
                rows[0].status or ""
            )
        return cls(protein.id, len(protein.sequence), "".join(labels), shares, rows[0].note)


@dataclass(frozen=True)
class _Contacts:
    """The rows of a protein's pairs of residues, in one."""

    id: str
    residues: int
    contacts: int
    long_range: int
    likeliest: str
    note: str | None

    @classmethod
    def of(cls, protein: Protein, rows: Sequence[Any]) -> _Contacts:
        pairs = [row for row in rows if row.i is not None]
        far = sum(row.j - row.i >= 24 for row in pairs)
        shown = ", ".join(f"{row.residue_i}{row.i}–{row.residue_j}{row.j}" for row in pairs[:K])
        said = shown or (rows[0].status or "").replace("_", " ")
        return cls(protein.id, len(protein.sequence), len(pairs), far, said, rows[0].note)


def rounded(value: float | None) -> float | None:
    """Return a number as a table shows it."""
    return None if value is None else float(f"{value:.3g}")


def linked(id_: str | None) -> str:
    """Return an id as HTML: with a link where it is an accession of UniProt, or an entry name with one.

    Examples
    --------
    >>> linked("sp|P69905|HBA_HUMAN")
    '<a href="https://www.uniprot.org/uniprotkb/P69905" target="_blank" rel="noopener">sp|P69905|HBA_HUMAN</a>'
    >>> linked("<b>"), linked(None)
    ('&lt;b&gt;', '')
    """
    if id_ is None:
        return ""
    key = accession(id_)
    return _link(f"https://www.uniprot.org/uniprotkb/{key}", id_) if is_accession(key) else html.escape(id_)


def linked_term(term: str | None) -> str:
    """Return a term of the Gene Ontology as HTML, with a link to its page."""
    return "" if term is None else _link(f"https://amigo.geneontology.org/amigo/term/{html.escape(term)}", term)


def _link(address: str, text: str) -> str:
    return f'<a href="{address}" target="_blank" rel="noopener">{html.escape(text)}</a>'
