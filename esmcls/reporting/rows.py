"""Rows of answers, written as they come: TSV with a header, or JSON, an object a line."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TextIO

from esmcls.errors import UnknownNameError

TOO_LARGE: Final = "too_large"
"""Status of a protein that did not fit into memory: it has no label."""


class Row(Protocol):
    """A row of an answer: more is in the columns that it is written by."""

    @property
    def id(self) -> str: ...
    @property
    def rank(self) -> int | None: ...
    @property
    def status(self) -> str | None: ...


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


def write_rows(rows: Iterable[Row], handle: TextIO, format: str, columns: Sequence[str]) -> Written:
    """Write rows of any kind as they come.

    Parameters
    ----------
    rows : iterable of Row
    handle : text file
    format : {"tsv", "jsonl"}
        A table with a header, empty where something does not apply; or an object a line, null where it does not.
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


_WRITERS: Final[dict[str, Callable[[Iterable[dict[str, Any]], TextIO, Sequence[str]], None]]] = {
    "tsv": _write_tsv,
    "jsonl": _write_jsonl,
}
