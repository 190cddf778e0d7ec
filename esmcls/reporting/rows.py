"""Rows of answers, written as they come: TSV, CSV or XLSX with a header, or JSON, an object a line."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TextIO

from esmcls.errors import UnknownNameError
from esmcls.reporting.workbook import write_workbook
from esmcls.text_files import no_formula


class Unanswered(str):
    """Why a protein has no answer: the status of its row."""

    __slots__ = ()


TOO_LARGE: Final = Unanswered("too_large")
"""It did not fit into memory."""
NO_VECTOR: Final = Unanswered("no_vector")
"""The model was fitted on imported vectors, and there is none of it."""
DESCRIPTION: Final = "description"
"""The column that a table has only where a record has any."""
UNANSWERED: Final = (TOO_LARGE, NO_VECTOR)


class Row(Protocol):
    """A row of an answer: more is in the columns that it is written by."""

    @property
    def id(self) -> str: ...
    @property
    def rank(self) -> int | None: ...
    @property
    def status(self) -> str | None: ...
    @property
    def note(self) -> str | None: ...


@dataclass
class Written:
    """What was written.

    Parameters
    ----------
    records : int
        Answered, those without a label too.
    left_out : list of str
        Ids of those without a label.
    why : list of str
        Their statuses.
    repeated : list of str
        Ids of those that were left out since an earlier one has the same, where the format allows each once.
    statuses : Counter of str
        Records by their status, where they have one.
    cut : int
        Records of which residues were not seen.
    doubtful : int
        Records with a note of any other kind.
    undescribed : int
        Records whose description was left out, since the first ones had none and the table no column for it.
    """

    records: int = 0
    left_out: list[str] = dataclasses.field(default_factory=list)
    why: list[str] = dataclasses.field(default_factory=list)
    repeated: list[str] = dataclasses.field(default_factory=list)
    statuses: Counter[str] = dataclasses.field(default_factory=Counter)
    cut: int = 0
    doubtful: int = 0
    undescribed: int = 0

    def count(self, answered: bool, note: str | None, status: str | None = None) -> None:
        """Count a record."""
        self.records += 1
        if status is not None and answered:
            self.statuses[status] += 1
        self.cut += note is not None and "unseen" in note
        self.doubtful += note is not None and "unseen" not in note

    def summary(self) -> str:
        """Say what became of the records, in one line.

        Examples
        --------
        >>> Written(12, ["a"], statuses=Counter(accepted=9, rejected=2), cut=1).summary()
        '12 records: 11 answered, 9 accepted, 2 rejected, 1 cut (not all of its residues were seen)'
        """
        parts = [f"{self.records - len(self.left_out):,} answered"]
        parts += [f"{number:,} {status.replace('_', ' ')}" for status, number in sorted(self.statuses.items())]
        if self.cut:
            parts.append(f"{self.cut:,} cut (not all of {'its' if self.cut == 1 else 'their'} residues were seen)")
        if self.doubtful:
            parts.append(f"{self.doubtful:,} with another note")
        return f"{self.records:,} record{'' if self.records == 1 else 's'}: {', '.join(parts)}"


def write_rows(rows: Iterable[Row], handle: TextIO, format: str, columns: Sequence[str]) -> Written:
    """Write rows of any kind as they come.

    Parameters
    ----------
    rows : iterable of Row
    handle : text file
    format : {"tsv", "csv", "xlsx", "jsonl"}
        A table with a header, empty where something does not apply; or an object a line, null where it does not. The
        bytes of a workbook need the `buffer` of the handle, as files and stdout have it.
    columns : sequence of str
        The attributes to write.

    Raises
    ------
    UnknownNameError
        If there is no such format.
    """
    if format not in _WRITERS:
        raise UnknownNameError("format", format, _WRITERS)
    written = Written()
    _WRITERS[format](_counted(rows, written, columns), handle, columns)
    return written


def _counted(rows: Iterable[Row], written: Written, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row.rank in (None, 1):
            written.count(row.status not in UNANSWERED, row.note, row.status)
        if row.status in UNANSWERED:
            written.left_out.append(row.id)
            written.why.append(str(row.status))
        yield {name: getattr(row, name) for name in columns}


def _write_tsv(rows: Iterable[dict[str, Any]], handle: TextIO, columns: Sequence[str]) -> None:
    _write_table(rows, csv.writer(handle, delimiter="\t", lineterminator="\n"), columns)


def _write_csv(rows: Iterable[dict[str, Any]], handle: TextIO, columns: Sequence[str]) -> None:
    harmless = (
        {name: no_formula(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows
    )
    _write_table(harmless, csv.writer(handle, lineterminator="\n"), columns)


def _write_table(rows: Iterable[dict[str, Any]], table: Any, columns: Sequence[str]) -> None:
    rows = iter(rows)
    first = list(itertools.islice(rows, 1))  # before the header: what cannot even begin writes nothing
    table.writerow(columns)
    for row in itertools.chain(first, rows):
        table.writerow([_shown(row[name]) for name in columns])


def _write_xlsx(rows: Iterable[dict[str, Any]], handle: TextIO, columns: Sequence[str]) -> None:
    whole = io.BytesIO()
    write_workbook(([_shown_number(row[name]) for name in columns] for row in rows), whole, columns)
    handle.buffer.write(whole.getvalue())


def _shown_number(value: Any) -> Any:
    return float(_shown(value)) if isinstance(value, float) else _shown(value)


def _shown(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else value


def _write_jsonl(rows: Iterable[dict[str, Any]], handle: TextIO, columns: Sequence[str]) -> None:
    for row in rows:
        rounded = {name: float(_shown(value)) if isinstance(value, float) else value for name, value in row.items()}
        handle.write(json.dumps(rounded, ensure_ascii=False) + "\n")


_WRITERS: Final[dict[str, Callable[[Iterable[dict[str, Any]], TextIO, Sequence[str]], None]]] = {
    "tsv": _write_tsv,
    "csv": _write_csv,
    "xlsx": _write_xlsx,
    "jsonl": _write_jsonl,
}
