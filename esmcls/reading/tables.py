"""Tables: CSV and TSV with a header and a sequence column, and label tables that are joined by id."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, TypeVar

from esmcls.errors import DataError
from esmcls.labels.label_lists import JOINED, labels_in
from esmcls.labels.residue_labels import pieces
from esmcls.reading.fasta import read_fasta
from esmcls.reading.ids import IdJoin, accession
from esmcls.reading.records import RawRecord, Tally, part_of, refuse_text
from esmcls.reading.rows import DELIMITERS, TableFacts, column_name, delimiter_of, header_cells, read_rows
from esmcls.text_files import open_lines, shown

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
SEQUENCE_COLUMNS: Final = ("sequence", "seq", "protein_sequence", "aa_sequence")
LABEL_COLUMNS: Final = ("label", "class", "family_accession", "family", "cluster", "target", "family_id")
ID_COLUMNS: Final = (
    "id",
    "sequence_name",
    "sequence_id",
    "name",
    "accession",
    "entry",
    "entryid",
    "entry_id",
    "protein_id",
    "uniprot_id",
    "gene_product_id",
)
PART_COLUMNS: Final = ("split", "set", "part")
TERM_COLUMNS: Final = ("term", "go_term", "go_id", "go")
ASPECT_COLUMNS: Final = ("aspect", "ontology", "go_aspect")
QUALIFIER_COLUMNS: Final = ("qualifier", "qualifiers", "relation")
"""Header names, in any case and with blanks or `_`; the first of each that the header has is used."""
_FIX_ROW: Final = "give each row as many cells as the header"
_LONGEST_NAME: Final = 40
"""Signs; a longer cell is no column's name."""
_TERM: Final = re.compile(r"GO:\d+")


class NamedColumns(NamedTuple):
    """The columns that a user names; None for those that are found by their usual names."""

    label: str | None = None
    mask: str | None = None
    """Says with 1 and 0 of which residues the label is known."""
    part: str | None = None

    def find(self, header: Sequence[str], path: str, line: int = 1) -> tuple[int | None, int | None, int | None]:
        """Return the places of label, mask and part in a header; None for what is not named.

        Raises
        ------
        DataError
            If the header has no such column, or has it twice.
        """
        label, mask, part = (named_place(name, header, path, line) for name in self)
        return label, mask, part


USUAL: Final = NamedColumns()


@dataclass(frozen=True, slots=True)
class TableLayout:
    """Where a table keeps what: the delimiter, the number of columns, and their 0-based places.

    Parameters
    ----------
    qualifier : int, optional
        The column that may say that a protein has not what the row names (`NOT|enables`).
    validation : int, optional
        A column that says whether the record is of the validation part, beside one of parts (as FLIP's sets have it).
    mask : int, optional
        A column that says with 1 and 0 of which residues the label is known.
    header : tuple of str
        The header's cells.
    """

    delimiter: str
    width: int
    sequence: int
    label: int | None
    id: int | None
    part: int | None
    qualifier: int | None = field(default=None, repr=False, compare=False)
    validation: int | None = field(default=None, repr=False, compare=False)
    mask: int | None = field(default=None, repr=False, compare=False)
    header: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def places(self) -> dict[str, int | None]:
        """Return the columns that are read, by what they are read as."""
        return {
            "id": self.id,
            "sequence": self.sequence,
            "label": self.label,
            "part": self.part,
            "validation": self.validation,
            "qualifier": self.qualifier,
            "mask": self.mask,
        }

    def with_columns(self, named: NamedColumns, path: str) -> TableLayout:
        """Return the layout with the columns that the user named.

        Raises
        ------
        DataError
            If the header has no such column.
        """
        label, mask, part = named.find(self.header, path)
        label, part = self.label if label is None else label, self.part if part is None else part
        chosen = replace(self, label=label, mask=mask, part=part)
        if chosen.part is None or chosen.validation is not None:
            return chosen
        return replace(chosen, validation=column_place(self.header, ("validation",)))


def named_place(name: str | None, header: Sequence[str], path: str, line: int = 1) -> int | None:
    """Return the place of a column that the user named; None where none is named.

    Raises
    ------
    DataError
        If the header has no such column, or has it twice.
    """
    if name is None:
        return None
    place = of_header(partial(column_place, wanted=(column_name(name),)), header, path, line)
    if place is None:
        problem = f"no column {name!r}; its columns are {', '.join(header)}"
        raise DataError(path, problem, "name one of them", line=line)
    return place


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
    for delimiter in DELIMITERS:
        cells = header_cells(header, delimiter)
        names = [column_name(cell) for cell in cells]
        sequence = _find(names, SEQUENCE_COLUMNS)
        if sequence is not None:
            wanted = (LABEL_COLUMNS, ID_COLUMNS, PART_COLUMNS, QUALIFIER_COLUMNS)
            label, id_, part, qualifier = (_find(names, columns) for columns in wanted)
            validation = None if part is None else _find(names, ("validation",))
            width = len(names)
            return TableLayout(delimiter, width, sequence, label, id_, part, qualifier, validation, header=tuple(cells))
    return None


def _find(names: Sequence[str], wanted: Iterable[str]) -> int | None:
    name = next((name for name in wanted if name in names), None)
    if name is None:
        return None
    if names.count(name) > 1:
        raise ValueError(f"two columns named {name}")
    return names.index(name)


def column_place(header: Sequence[str], wanted: Iterable[str]) -> int | None:
    """Return the place of the first of the wanted columns that a header has, or None.

    Raises
    ------
    ValueError
        If it stands there twice.
    """
    return _find([column_name(cell) for cell in header], wanted)


def of_header(read: Callable[[Sequence[str]], T], row: Sequence[str], path: str, line: int) -> T:
    """Return what is read of a row that may be a header; DataError where it names a column twice that is needed."""
    try:
        return read(row)
    except ValueError as error:
        raise DataError(path, str(error), "rename one of them", line=line) from None


def read_table(
    lines: Iterator[str], path: str, layout: TableLayout, facts: TableFacts | None = None
) -> Iterator[RawRecord | DataError]:
    """Give the rows of a table with a sequence column; a row that cannot be used gives its error.

    Without an id column the id is the number of the row, from 1. A row equal to the header, as in files that were put
    together, is passed over.

    Parameters
    ----------
    lines : iterator of str
        From the header on.
    path : str
        For messages.
    layout : TableLayout
        Of the header.
    facts : TableFacts, optional
        Is filled.

    Raises
    ------
    DataError
        If a quote is never closed, a second header is another than the first, or there is no row below the header.
    """
    facts = TableFacts() if facts is None else facts
    facts.name_columns(layout.header, layout.places())
    make = _entry_maker(layout, path)
    count = -1  # the header is row 0
    for line, row in read_rows(lines, path, layout.delimiter, facts):
        if count >= 0 and _is_header(row, layout, path, line):
            facts.repeated_headers.append(line)
            continue
        count += 1
        if not count:
            continue
        if count == 1:
            facts.splits = _split_columns(row, layout)
        if len(row) == layout.width:
            yield make(row, line, count)
        else:
            yield DataError(path, f"{len(row)} cells, where the header has {layout.width}", _FIX_ROW, line=line)
    if count < 1:
        raise DataError(path, "a header and no rows", "give records below it", line=1)


def _split_columns(row: list[str], layout: TableLayout) -> list[str]:
    """Return the columns that say parts in the first row, where none was taken for that."""
    if layout.part is not None or len(row) != layout.width:
        return []
    taken = layout.places().values()
    return [name for place, name in enumerate(layout.header) if place not in taken and part_of(row[place])]


def _is_header(row: list[str], layout: TableLayout, path: str, line: int) -> bool:
    """Say whether a row is the header once more; another header would give the rows below it another meaning."""
    if len(row) == layout.width and len(row[layout.sequence]) > _LONGEST_NAME:
        return False
    if [cell.lower() for cell in row] == [cell.lower() for cell in layout.header]:
        return True
    others = partial(column_place, wanted=(*ID_COLUMNS, *LABEL_COLUMNS))
    sequence = of_header(partial(column_place, wanted=SEQUENCE_COLUMNS), row, path, line)
    if sequence is not None and of_header(others, row, path, line) is not None:
        raise DataError(path, "another header than the first line's", "give each table a file of its own", line=line)
    return False


def _entry_maker(layout: TableLayout, path: str) -> Callable[[list[str], int, int], RawRecord | DataError]:
    sequence, label, id_ = layout.sequence, layout.label, layout.id

    def make(row: list[str], line: int, number: int) -> RawRecord | DataError:
        name = str(number) if id_ is None else row[id_]
        if layout.qualifier is not None and denies(row[layout.qualifier]):
            problem = f"{layout.header[layout.qualifier]} {row[layout.qualifier]!r} says that its label is not so"
            return DataError(path, problem, "leave the record out", line=line, record=name)
        word = _part_word(row, layout)
        if word and part_of(word) is None:
            return DataError(path, f"part {word!r}", "write train, validation or test", line=line, record=name)
        family = None if label is None else row[label]
        mask = "" if layout.mask is None else row[layout.mask]
        return RawRecord(name, family, part_of(word), line, (row[sequence],), (line,), mask=mask)

    return make


def _part_word(row: list[str], layout: TableLayout) -> str:
    if layout.validation is not None and row[layout.validation].lower() in ("true", "1"):
        return "validation"
    return "" if layout.part is None else row[layout.part]


def denies(qualifier: str) -> bool:
    """Say whether a qualifier says that a protein has not what its row names (GAF 2.2, column 4).

    Examples
    --------
    >>> denies("NOT|enables"), denies("not"), denies("enables")
    (True, True, False)
    """
    return "NOT" in qualifier.upper().replace("|", " ").split()


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
    head = _first_lines(lines)
    delimiter = delimiter_of(head[-1] if head else "", widths)
    return read_rows(itertools.chain(head, lines), path, delimiter, facts)


def _first_lines(lines: Iterator[str]) -> list[str]:
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
    id_ = _find(names, ID_COLUMNS)
    term = _find(names, TERM_COLUMNS)
    return None if id_ is None or term is None else (id_, term, _find(names, ASPECT_COLUMNS))


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
    head = _first_lines(lines)
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
    id_ = _find(names, ID_COLUMNS)
    label, mask, part = named.find(row, path, line)
    label = _find(names, LABEL_COLUMNS) if label is None else label
    part = _find(names, PART_COLUMNS) if part is None else part
    if id_ is None or label is None:
        return None
    return _LabelLayout(tuple(names), id_, label, part, _find(names, QUALIFIER_COLUMNS), mask)
