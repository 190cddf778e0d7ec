"""Rows of cells: the one reader of every table, whatever stands between its cells.

Tab-separated tables have no quoting: a line is a row, and a `"` is a sign like any other; but where every cell of the
header is quoted, as R's `write.table` has it, so are the others. In all other tables a quoted cell may hold delimiters,
doubled quotes and line ends. Cells of any length are read, and blanks at their ends are cut, no-break ones too.
"""

from __future__ import annotations

import csv
import itertools
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from esmcls.errors import DataError
from esmcls.text_files import LONGEST_LINE, NO_LIMITS, RecordLimit, limits_are_off

DELIMITERS: Final = ("\t", ",", ";", "|")
BLANK: Final = " "
"""As a delimiter: any number of blanks."""
_WITHOUT_WIDTH: Final = "\u200b\u200c\u200d\u2060\ufeff"
_BLANKS: Final = "".join(sign for sign in map(chr, range(0x3001)) if sign.isspace()) + _WITHOUT_WIDTH
LONGEST_ROW: Final = LONGEST_LINE
"""Characters, of a row over several lines."""
MOST_CELLS: Final = 1 << 16
"""Of a row; no table of proteins has nearly as many."""
_LONGEST_CELL: Final = 2**31 - 1
_WHOLLY_QUOTED: Final = re.compile(r'"(?:[^"]|""|\\")*"')


@dataclass
class TableFacts:
    """What a reading met in one table.

    Parameters
    ----------
    columns : dict of str to str
        What was taken -> the column it is from, as the header calls it; none without a header.
    ignored : list of str
        Columns that were not read.
    repeated_headers, line_ends : lists of int
        Lines of rows equal to the header, which were passed over, and of rows with a cell over several lines.
    denied : list of int
        Lines of rows that say what a protein does not have, which were left out.
    other_evidence : Counter
        Evidence codes that do not count, and the rows of each, which were left out.
    splits : list of str
        Columns that say parts, none of which was taken.
    """

    columns: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    repeated_headers: list[int] = field(default_factory=list)
    line_ends: list[int] = field(default_factory=list)
    denied: list[int] = field(default_factory=list)
    other_evidence: Counter[str] = field(default_factory=Counter)
    splits: list[str] = field(default_factory=list)

    def name_columns(self, header: Sequence[str], places: dict[str, int | None]) -> None:
        """Note the columns that were taken, by what they are taken for, and the others."""
        taken = {role: place for role, place in places.items() if place is not None}
        self.columns = {role: clean_cell(header[place]) for role, place in taken.items()}
        self.ignored = [clean_cell(cell) for place, cell in enumerate(header) if place not in taken.values()]


def clean_cell(text: str) -> str:
    """Return a cell, id or label without blanks at its ends: no-break ones and those without width, too.

    Examples
    --------
    >>> clean_cell("P69905\\u00a0 ")
    'P69905'
    """
    text = text.strip()
    return text if text.isascii() else text.strip(_BLANKS)


def column_name(cell: str) -> str:
    """Return the name of a column as it is compared: in lower case, `_` for blanks.

    Examples
    --------
    >>> column_name(" Protein ID")
    'protein_id'
    """
    return "_".join(clean_cell(cell).lower().split())


def header_cells(line: str, delimiter: str) -> list[str]:
    """Return the cells of a table's first line; none if it cannot be read as such."""
    try:
        return next(iter(read_rows(iter([line]), "", delimiter)), (1, [""]))[1]
    except DataError:
        return []


def read_rows(
    lines: Iterator[str], path: str, delimiter: str, facts: TableFacts | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Give the rows that are not blank, each with the 1-based physical line it begins at.

    Parameters
    ----------
    lines : iterator of str
    path : str
        For messages.
    delimiter : str
        One of `DELIMITERS`, or `BLANK`.
    facts : TableFacts, optional
        Is told of cells over several lines.

    Raises
    ------
    DataError
        If a quoted cell is not closed, is followed by text, or has swallowed whole rows, or a row is too long.
    """
    source = _Lines(lines)
    quoted_tsv, width = None, 0
    most = sys.maxsize if limits_are_off() else MOST_CELLS
    for line in source:
        start = source.number
        if line.count(delimiter) >= most:
            fix = f"check its delimiters, or set {NO_LIMITS}=1 if it is right"
            raise DataError(path, f"a row of more than {most:,} cells", fix, line=start)
        if delimiter in ("\t", BLANK) or '"' not in line:
            cells = line.split() if delimiter == BLANK else line.rstrip("\r\n").split(delimiter)
        else:
            cells = _quoted_row(line, source, path, delimiter)
            if source.number > start:
                _check_line_ends(cells, path, delimiter, width, start)
                if facts is not None:
                    facts.line_ends.append(start)
        cells = [clean_cell(cell) for cell in cells]
        if not any(cells):
            continue
        width = width or len(cells)
        if delimiter == "\t":
            quoted_tsv = _all_quoted(cells) if quoted_tsv is None else quoted_tsv
            cells = [_without_quotes(cell) for cell in cells] if quoted_tsv else cells
        yield start, cells


class _Lines(Iterator[str]):
    """Lines with the 1-based number of the one given last."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines = lines
        self.number = 0

    def __next__(self) -> str:
        line = next(self.lines)
        self.number += 1
        return line


def _quoted_row(line: str, rest: _Lines, path: str, delimiter: str) -> list[str]:
    """Return the cells of a row with quotes; it takes as many lines as its quotes are open over."""
    start = rest.number
    longest_cell = csv.field_size_limit(_LONGEST_CELL)
    try:
        limit = RecordLimit(path, start, "a row", LONGEST_ROW, fix="close or double its quotes")
        lines = _limited(itertools.chain([line], rest), limit)
        return next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise DataError(
            path, f"a row that cannot be read ({error})", "close or double its quotes", line=start
        ) from error
    finally:
        csv.field_size_limit(longest_cell)


def _limited(lines: Iterator[str], limit: RecordLimit) -> Iterator[str]:
    """Give the lines of a row, until they are more than a row has: a quote that is never closed takes all that come."""
    for line in lines:
        limit.take(len(line))
        yield line


def _check_line_ends(cells: Sequence[str], path: str, delimiter: str, width: int, start: int) -> None:
    """Refuse a row of which a cell holds lines that are rows themselves."""
    inner = (line for cell in cells for line in cell.splitlines()[1:-1])
    swallowed = sum(line.count(delimiter) == width - 1 for line in inner) if width > 1 else 0
    if swallowed:
        rows = f"{swallowed:,} row{'' if swallowed == 1 else 's'}"
        raise DataError(path, f"a quoted cell with {rows} of the table in it", "close or double its quotes", line=start)


def _all_quoted(cells: Sequence[str]) -> bool:
    return all(_WHOLLY_QUOTED.fullmatch(cell) for cell in cells)


def _without_quotes(cell: str) -> str:
    if not _WHOLLY_QUOTED.fullmatch(cell):
        return cell
    return clean_cell(cell[1:-1].replace('""', '"').replace('\\"', '"'))


def delimiter_of(line: str, widths: Sequence[int]) -> str:
    """Return the delimiter that gives a table's first line one of these numbers of cells, or the first that it holds.

    Examples
    --------
    >>> delimiter_of("a;kinase", (2,)), delimiter_of("a,b,c", (2,)), delimiter_of("a kinase", (2,))
    (';', ',', ' ')
    """
    there = [delimiter for delimiter in DELIMITERS[:3] if delimiter in line]
    fitting = [delimiter for delimiter in there if len(header_cells(line, delimiter)) in widths]
    return next(iter([*fitting, *there]), BLANK if len(line.split()) in widths else "\t")
