"""Tables: CSV and TSV with a header and a sequence column, and label tables that are joined by id."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Final

from esmcls.errors import DataError
from esmcls.reading.records import RawRecord, Tally, part_of
from esmcls.text_files import open_lines, shown

if TYPE_CHECKING:
    from typing_extensions import Self

SEQUENCE_COLUMNS: Final = ("sequence", "seq")
LABEL_COLUMNS: Final = ("label", "family_accession", "cluster")
ID_COLUMNS: Final = ("id", "sequence_name", "sequence_id", "name", "accession", "entry", "entryid", "protein_id")
PART_COLUMNS: Final = ("split", "set", "part")
TERM_COLUMNS: Final = ("term", "go_term", "go_id", "go")
ASPECT_COLUMNS: Final = ("aspect", "ontology")
"""Header names, in any case; the first of each that the header has is used."""
_DELIMITERS: Final = ("\t", ",", ";")
_FIX_ROW: Final = "give each row as many cells as the header"
_UNIPROT: Final = re.compile(r"(?:sp|tr)\|([^|\s]+)\|[^|\s]+")
_TERM: Final = re.compile(r"GO:\d+")


@dataclass(frozen=True, slots=True)
class TableLayout:
    """Where a table keeps what: the delimiter, the number of columns, and their 0-based places."""

    delimiter: str
    width: int
    sequence: int
    label: int | None
    id: int | None
    part: int | None


def table_layout(header: str) -> TableLayout | None:
    """Read a table's header; None if it names no sequences.

    Raises
    ------
    ValueError
        If a column that is needed stands there twice.

    Examples
    --------
    >>> table_layout("family_id,sequence_name,family_accession,aligned_sequence,sequence")
    TableLayout(delimiter=',', width=5, sequence=4, label=2, id=1, part=None)
    """
    for delimiter in _DELIMITERS:
        names = _cells(header, delimiter)
        sequence = _find(names, SEQUENCE_COLUMNS)
        if sequence is not None:
            others = (_find(names, wanted) for wanted in (LABEL_COLUMNS, ID_COLUMNS, PART_COLUMNS))
            return TableLayout(delimiter, len(names), sequence, *others)
    return None


def _cells(header: str, delimiter: str) -> list[str]:
    try:
        cells = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # such as a cell over csv's limit: no header
        return []
    return [cell.strip().lower() for cell in cells]


def _find(names: Sequence[str], wanted: Iterable[str]) -> int | None:
    name = next((name for name in wanted if name in names), None)
    if name is None:
        return None
    if names.count(name) > 1:
        raise ValueError(f"two columns named {name}")
    return names.index(name)


def read_table(lines: Iterator[str], path: str, layout: TableLayout) -> Iterator[RawRecord | DataError]:
    """Give the rows of a table with a sequence column; a row that cannot be used gives its error.

    Without an id column the id is the number of the row, from 1.

    Parameters
    ----------
    lines : iterator of str
        From the header on.
    path : str
        For messages.
    layout : TableLayout
        Of the header.

    Raises
    ------
    DataError
        If a quote is never closed, or there is no row below the header.
    """
    make = _entry_maker(layout, path)
    count = -1  # the header is row 0
    for count, (line, row) in enumerate(_rows(lines, path, layout.delimiter)):
        if not count:
            continue
        if len(row) == layout.width:
            yield make(row, line, count)
        else:
            yield DataError(path, f"{len(row)} cells, where the header has {layout.width}", _FIX_ROW, line=line)
    if count < 1:
        raise DataError(path, "a header and no rows", "give records below it", line=1)


def _entry_maker(layout: TableLayout, path: str) -> Callable[[list[str], int, int], RawRecord | DataError]:
    sequence, label, id_, part = layout.sequence, layout.label, layout.id, layout.part

    def make(row: list[str], line: int, number: int) -> RawRecord | DataError:
        name = str(number) if id_ is None else row[id_]
        word = "" if part is None else row[part].strip()
        if word and part_of(word) is None:
            return DataError(path, f"part {word!r}", "write train, validation or test", line=line, record=name)
        family = None if label is None else row[label].strip()
        return RawRecord(name, family, part_of(word), line, (row[sequence].rstrip(),), (line,))

    return make


def _rows(lines: Iterable[str], path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Give the rows that are not blank, each with the 1-based physical line it begins at."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    start = 1
    try:
        for row in reader:
            if len(row) > 1 or (row and row[0].strip()):
                yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            path, f"a row that cannot be read ({error})", "close or double its quotes", line=start
        ) from error


def accession(id_: str) -> str:
    """Return the key that joins tables and records: of UniProt's ids the accession, any other id as it is.

    Examples
    --------
    >>> accession("sp|P69905|HBA_HUMAN"), accession("P69905"), accession("pdb|1abc|A")
    ('P69905', 'P69905', 'pdb|1abc|A')
    """
    match = _UNIPROT.fullmatch(id_) if "|" in id_ else None
    return match[1] if match else id_


@dataclass
class LabelTable:
    """Labels by id, from tables of two columns; every id stands once, in the tables and among the records joined."""

    noun: ClassVar[str] = "label"
    paths: tuple[str, ...] = ()
    labels: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    """The key of an id (`accession`) -> label, path, line."""
    _joined: dict[str, tuple[str, int]] = field(default_factory=dict)

    @classmethod
    def read(cls, paths: Iterable[str]) -> LabelTable:
        """Read `id<TAB>label` tables, with or without a header, other columns ignored where there is one.

        Raises
        ------
        DataError
            If a row has no label, an id stands twice (both lines are named), or there is no row.
        """
        table = cls(tuple(paths))
        for path in table.paths:
            table._read(path)
        return table

    def anew(self) -> Self:
        """Return the same labels with no record joined yet."""
        return replace(self, _joined={})

    def _read(self, path: str) -> None:
        before = len(self.labels)
        with open_lines(path) as lines:
            for line, id_, label in _label_rows(lines, shown(path)):
                if not label:
                    raise DataError(path, "no label", "give each id a label", line=line, record=id_)
                key = accession(id_)
                if key in self.labels and _TERM.match(label):
                    raise _term_table_error(path, line)
                if key in self.labels:
                    _, first_path, first_line = self.labels[key]
                    raise _twice(path, line, id_, f"{first_path}:{first_line}")
                self.labels[key] = (label, path, line)
        if len(self.labels) == before:
            raise DataError(path, "no labels", "give id<TAB>label, one a line")

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
        key = accession(entry.id)
        if key in self._joined:
            raise _twice(path, entry.line, entry.id, ":".join(map(str, self._joined[key])))
        self._joined[key] = (path, entry.line)
        if key not in self.labels:
            fix = "add its id to the table or leave the record out"
            return DataError(path, f"no {self.noun} in the labels table", fix, line=entry.line, record=entry.id)
        return entry._replace(label=self.labels[key][0])

    def unused(self) -> int:
        """Return how many labels belong to no record joined."""
        return len(self.labels.keys() - self._joined.keys())

    def tell(self, tally: Tally) -> None:
        """Note what the records joined left over."""
        tally.unused_labels = self.unused()


def _twice(path: str, line: int, id_: str, first: str) -> DataError:
    fix = "records are joined by id, so give each its own"
    return DataError(path, f"this id stands at {first} too", fix, line=line, record=id_)


def _term_table_error(path: str, line: int) -> DataError:
    fix = "give the ontology, too: --obo FILE (with esmcls embed, evaluate or data stats)"
    return DataError(path, "a table of Gene Ontology terms, several a protein", fix, line=line)


def cells(lines: Iterator[str], path: str) -> Iterator[tuple[int, list[str]]]:
    """Give the rows that are not blank, each with its 1-based line; the first line tells the delimiter."""
    head = list(itertools.islice(lines, 1))
    delimiter = next((sign for sign in _DELIMITERS if any(sign in line for line in head)), "\t")
    return _rows(itertools.chain(head, lines), path, delimiter)


def term_layout(row: Sequence[str]) -> tuple[int, int, int | None] | None:
    """Return the places of id, term and aspect that a header of CAFA's tables names; None if it is no such header.

    Examples
    --------
    >>> term_layout(["EntryID", "term", "aspect"]), term_layout(["P69905", "GO:0005344", "F"])
    ((0, 1, 2), None)
    """
    names = [cell.strip().lower() for cell in row]
    id_ = _find(names, ID_COLUMNS)
    term = _find(names, TERM_COLUMNS)
    return None if id_ is None or term is None else (id_, term, _find(names, ASPECT_COLUMNS))


def _label_rows(lines: Iterator[str], path: str) -> Iterator[tuple[int, str, str]]:
    """Give line, id and label of each row of a label table; the first row is a header if it names both columns."""
    width, id_, label = 2, 0, 1
    for number, (line, row) in enumerate(cells(lines, path)):
        if number == 0 and (layout := _label_layout(row)):
            width, id_, label = layout
        elif number == 0 and (term_layout(row) or (len(row) == 3 and _TERM.fullmatch(row[1].strip()))):
            raise _term_table_error(path, line)
        elif len(row) == width:
            yield line, row[id_], row[label].strip()
        else:
            raise DataError(path, f"{len(row)} cells instead of {width}", "give id<TAB>label, one a line", line=line)


def _label_layout(row: list[str]) -> tuple[int, int, int] | None:
    names = [cell.strip().lower() for cell in row]
    id_ = _find(names, ID_COLUMNS)
    label = _find(names, LABEL_COLUMNS)
    return None if id_ is None or label is None else (len(names), id_, label)
