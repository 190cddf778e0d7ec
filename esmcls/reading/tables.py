"""Tables: CSV and TSV with a header and a sequence column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, NamedTuple, TypeVar

from esmcls.errors import DataError
from esmcls.reading.records import RawRecord, part_of
from esmcls.reading.rows import DELIMITERS, TableFacts, column_name, header_cells, read_rows

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
        sequence = place_among(names, SEQUENCE_COLUMNS)
        if sequence is not None:
            wanted = (LABEL_COLUMNS, ID_COLUMNS, PART_COLUMNS, QUALIFIER_COLUMNS)
            label, id_, part, qualifier = (place_among(names, columns) for columns in wanted)
            validation = None if part is None else place_among(names, ("validation",))
            width = len(names)
            return TableLayout(delimiter, width, sequence, label, id_, part, qualifier, validation, header=tuple(cells))
    return None


def place_among(names: Sequence[str], wanted: Iterable[str]) -> int | None:
    """Return the place of the first of the wanted names that is there, or None.

    Raises
    ------
    ValueError
        If it stands twice.
    """
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
    return place_among([column_name(cell) for cell in header], wanted)


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
