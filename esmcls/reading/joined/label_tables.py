"""Tables of labels, `id<TAB>label`, that are joined to records by id."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from esmcls.errors import DataError
from esmcls.labels.label_lists import JOINED, labels_in
from esmcls.labels.residue_labels import pieces
from esmcls.reading.fasta import read_fasta
from esmcls.reading.ids import IdJoin, accession
from esmcls.reading.records import RawRecord, Tally, part_of, refuse_text
from esmcls.reading.rows import TableFacts, column_name, delimiter_of, read_rows
from esmcls.reading.tables import (
    ASPECT_COLUMNS,
    ID_COLUMNS,
    LABEL_COLUMNS,
    PART_COLUMNS,
    QUALIFIER_COLUMNS,
    TERM_COLUMNS,
    USUAL,
    NamedColumns,
    denies,
    of_header,
    place_among,
)
from esmcls.text_files import open_lines, shown

if TYPE_CHECKING:
    from typing_extensions import Self


_TERM: Final = re.compile(r"GO:\d+")


@dataclass
class LabelTable:
    """Labels by id, from tables of two columns; every id stands once among the records joined.

    In the tables it stands once, too, unless a protein may have several labels.
    """

    noun: ClassVar[str] = "label"
    paths: tuple[str, ...] = ()
    labels: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    """The key of an id (`accession`) -> label, path, line."""
    parts: dict[str, str] = field(default_factory=dict)
    """The key of an id -> its part, where a table has a column of parts."""
    masks: dict[str, str] = field(default_factory=dict)
    """The key of an id -> of which residues its label is known, where a table says it."""
    named: NamedColumns = USUAL
    facts: dict[str, TableFacts] = field(default_factory=dict)
    several: bool | None = False
    """Whether an id may stand more than once; None: if its labels differ."""
    _joined: dict[str, tuple[str, int]] = field(default_factory=dict)

    @classmethod
    def read(cls, paths: Iterable[str], several: bool | None = False, named: NamedColumns = USUAL) -> LabelTable:
        """Read `id<TAB>label` tables, with or without a header, or FASTA of labels, a sign a residue.

        Where there is a header, a column of parts is read, too, and rows whose qualifier says NOT are left out.

        Raises
        ------
        DataError
            If a row has no label, an id stands twice (both lines are named), or there is no row.
        """
        table = cls(tuple(refuse_text(paths, "paths of label tables")), named=named, several=several)
        repeated: list[DataError] = []
        for path in table.paths:
            table._read(path, repeated)
        if repeated and several is None and not table._differ():
            raise repeated[0]
        return table

    def _differ(self) -> bool:
        """Say whether any id has several labels, not one twice."""
        return any(len(labels_in(label)) > 1 for label, _, _ in self.labels.values())

    def anew(self) -> Self:
        """Return the same labels with no record joined yet."""
        return replace(self, _joined={})

    @cached_property
    def _join(self) -> IdJoin:
        return IdJoin(self.labels)

    def _read(self, path: str, repeated: list[DataError]) -> None:
        """Read one table; what is wrong if no id may stand more than once goes into `repeated`."""
        before = len(self.labels)
        facts = self.facts.setdefault(path, TableFacts())
        with open_lines(path) as lines:
            for row in _label_rows(lines, shown(path), facts, self.named):
                if not row.label:
                    raise DataError(path, "no label", "give each id a label", line=row.line, record=row.id)
                if not row.id:
                    raise DataError(path, "no id", "give each label an id", line=row.line)
                key = accession(row.id)
                if key in self.labels:
                    self._add_label(key, row, path, repeated)
                else:
                    self.labels[key] = (row.label, path, row.line)
                if row.part and self.parts.setdefault(key, row.part) != row.part:
                    problem = f"part {row.part}, but {self.parts[key]} before"
                    raise DataError(path, problem, "give each id one part", line=row.line, record=row.id)
                if row.mask:
                    self.masks[key] = row.mask
        if len(self.labels) == before:
            raise DataError(path, "no labels", "give id<TAB>label, one a line")

    def _add_label(self, key: str, row: _LabelRow, path: str, repeated: list[DataError]) -> None:
        """Add a further label of an id."""
        if not self.several and _TERM.match(row.label):
            raise _term_table_error(path, row.line)
        labels, first_path, first_line = self.labels[key]
        error = _twice(path, row.line, row.id, f"{first_path}:{first_line}")
        if self.several is False:
            raise error
        repeated.append(error)
        self.labels[key] = (f"{labels}{JOINED}{row.label}", first_path, first_line)

    def join(self, entry: RawRecord, path: str) -> RawRecord | DataError:
        """Return the entry with its label, or the error that there is none.

        Raises
        ------
        DataError
            If an earlier record had the same id (both lines are named), or the entry has a label of its own.
        """
        if entry.label is not None:
            fix = "leave the table out, or the labels in this file"
            raise DataError(path, "a label of its own beside the labels table", fix, line=entry.line, record=entry.id)
        known = self._join.find(entry.id)
        key = accession(entry.id) if known is None else known
        if key in self._joined:
            raise _twice(path, entry.line, entry.id, ":".join(map(str, self._joined[key])))
        self._joined[key] = (path, entry.line)
        if known is None:
            fix = "add its id to the table or leave the record out"
            return DataError(path, f"no {self.noun} in the labels table", fix, line=entry.line, record=entry.id)
        part, mask = entry.part or self.parts.get(key), entry.mask or self.masks.get(key, "")
        return entry._replace(label=self.labels[key][0], part=part, mask=mask)

    def unused(self) -> int:
        """Return how many labels belong to no record joined."""
        return len(self.labels.keys() - self._joined.keys())

    def tell(self, tally: Tally) -> None:
        """Note what the tables held, by which rules records were joined, and what is left over."""
        tally.unused_labels = self.unused()
        tally.tables.update(self.facts)
        tally.count_joined("labels", self._join.matched)


def _twice(path: str, line: int, id_: str, first: str) -> DataError:
    fix = "records are joined by id, so give each its own"
    return DataError(path, f"this id stands at {first} too", fix, line=line, record=id_)


def _term_table_error(path: str, line: int) -> DataError:
    fix = "give the ontology, too: --obo FILE (with esmcls embed, evaluate or data stats)"
    return DataError(path, "a table of Gene Ontology terms, several a protein", fix, line=line)


def cells(
    lines: Iterator[str], path: str, widths: Sequence[int] = (2, 3), facts: TableFacts | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Give the rows that are not blank, each with its 1-based line; the first of them tells the delimiter."""
    head = first_lines(lines)
    delimiter = delimiter_of(head[-1] if head else "", widths)
    return read_rows(itertools.chain(head, lines), path, delimiter, facts)


def first_lines(lines: Iterator[str]) -> list[str]:
    """Take the lines up to the first that is not blank."""
    head = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    return head


def term_layout(row: Sequence[str]) -> tuple[int, int, int | None] | None:
    """Return the places of id, term and aspect that a header of CAFA's tables names; None if it is no such header.

    Examples
    --------
    >>> term_layout(["EntryID", "term", "aspect"]), term_layout(["P69905", "GO:0005344", "F"])
    ((0, 1, 2), None)
    """
    names = [column_name(cell) for cell in row]
    id_ = place_among(names, ID_COLUMNS)
    term = place_among(names, TERM_COLUMNS)
    return None if id_ is None or term is None else (id_, term, place_among(names, ASPECT_COLUMNS))


class _LabelRow(NamedTuple):
    line: int
    id: str
    label: str
    part: str | None
    mask: str = ""


class _LabelLayout(NamedTuple):
    """The header's cells and the 0-based places of what is read."""

    header: tuple[str, ...]
    id: int
    label: int
    part: int | None = None
    qualifier: int | None = None
    mask: int | None = None

    def places(self) -> dict[str, int | None]:
        """Return the columns that are read, by what they are read as."""
        places = {"id": self.id, "label": self.label, "part": self.part, "qualifier": self.qualifier}
        return {**places, "mask": self.mask}


def _label_rows(lines: Iterator[str], path: str, facts: TableFacts, named: NamedColumns) -> Iterator[_LabelRow]:
    """Give the rows of a label table; the first row is a header if it names both columns."""
    head = first_lines(lines)
    lines = itertools.chain(head, lines)
    if head and head[-1].startswith(">"):
        yield from _fasta_of_labels(lines, path)
        return
    layout = _LabelLayout(("", ""), 0, 1)
    for number, (line, row) in enumerate(cells(lines, path, (2,), facts)):
        of_row = partial(_label_layout, named=named, path=path, line=line)
        header = of_header(of_row, row, path, line) if number == 0 else None
        if header is not None:
            layout = header
            facts.name_columns(row, header.places())
        elif number and tuple(map(column_name, row)) == layout.header:
            facts.repeated_headers.append(line)
        elif number == 0 and (of_header(term_layout, row, path, line) or _is_term_row(row)):
            raise _term_table_error(path, line)
        elif len(row) != len(layout.header):
            problem = f"{len(row)} cells instead of {len(layout.header)}"
            raise DataError(path, problem, "give id<TAB>label, one a line", line=line)
        elif layout.qualifier is not None and denies(row[layout.qualifier]):
            facts.denied.append(line)
        else:
            yield _label_row(line, row, layout, path)


def _fasta_of_labels(lines: Iterator[str], path: str) -> Iterator[_LabelRow]:
    """Give the labels of a FASTA file that has them where others have sequences; numbers have blanks between."""
    for entry in read_fasta(lines, path):
        if isinstance(entry, DataError):
            raise entry
        if entry.label is not None:
            fix = "give that file as INPUT, without --labels"
            raise DataError(path, "TARGET= in a file of labels", fix, line=entry.line, record=entry.id)
        texts = [text.strip() for text in entry.texts if text.strip()]
        label = (" " if any(len(pieces(text)) > 1 for text in texts) else "").join(texts)
        yield _LabelRow(entry.line, entry.id, label, entry.part, entry.mask)


def _is_term_row(row: Sequence[str]) -> bool:
    return len(row) == 3 and _TERM.fullmatch(row[1]) is not None


def _label_row(line: int, row: Sequence[str], layout: _LabelLayout, path: str) -> _LabelRow:
    word = "" if layout.part is None else row[layout.part]
    if word and part_of(word) is None:
        problem = f"part {word!r}"
        raise DataError(path, problem, "write train, validation or test", line=line, record=row[layout.id])
    mask = "" if layout.mask is None else row[layout.mask]
    return _LabelRow(line, row[layout.id], row[layout.label], part_of(word), mask)


def _label_layout(row: Sequence[str], named: NamedColumns, path: str, line: int) -> _LabelLayout | None:
    names = [column_name(cell) for cell in row]
    id_ = place_among(names, ID_COLUMNS)
    label, mask, part = named.find(row, path, line)
    label = place_among(names, LABEL_COLUMNS) if label is None else label
    part = place_among(names, PART_COLUMNS) if part is None else part
    if id_ is None or label is None:
        return None
    return _LabelLayout(tuple(names), id_, label, part, place_among(names, QUALIFIER_COLUMNS), mask)
