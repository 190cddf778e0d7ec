"""Colour on a terminal: of errors, status words and the best row of a table; nowhere else, and never in a pipe.

`NO_COLOR` (no-color.org), `CLICOLOR=0` and `TERM=dumb` switch it off, `CLICOLOR_FORCE=1` on wherever the output goes.
"""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TextIO

import click

Style = Literal["error", "warning", "good", "best"]
_CODES: Final[dict[Style, str]] = {"error": "1;31", "warning": "33", "good": "32", "best": "1;32"}
_STATUS: Final[dict[str, Style]] = {
    "accepted": "good",
    "rejected": "error",
    "too_large": "warning",
    "no_vector": "warning",
    "no_term": "warning",
}
_WORDS: Final = "|".join(_STATUS)
WIDTHS: Final = {"id": 16, "rank": 4, "label": 26, "probability": 5, "status": 9, "nearest_id": 10}
TERM_WIDTHS: Final = {"id": 16, "term": 10, "aspect": 6, "probability": 5, "predicted": 9, "name": 24}
NUMBER_WIDTHS: Final = {"id": 16, "value": 10, "low": 10, "high": 10, "nearest_id": 12, "nearest_value": 10}
"""Columns of the narrow form of answers, of one label, of terms and of numbers: eighty places, with two between."""
_TO_THE_RIGHT: Final = ("rank", "probability", "value", "low", "high", "nearest_value")
_COUNT: Final = re.compile(rf"(?<=\d )({_WORDS.replace('_', ' ')})\b")


def wanted(stream: TextIO | None) -> bool:
    """Return whether what is written to a stream is to have colours."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    if os.environ.get("CLICOLOR") == "0" or os.environ.get("TERM") == "dumb":
        return False
    return stream is not None and stream.isatty()


def paint(text: str, style: Style, stream: TextIO | None) -> str:
    """Return a text in a colour, where the stream has colours."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if wanted(stream) else text


def say(text: str, *, err: bool = False) -> None:
    """Write a line to standard output or error, its colours as they are."""
    click.echo(text, err=err, color=True if wanted(sys.stderr if err else sys.stdout) else None)


def with_counts(line: str, stream: TextIO | None) -> str:
    """Return a line of counts, such as `9 accepted, 2 rejected`, with its status words in colour."""
    return _COUNT.sub(lambda match: paint(match[0], _STATUS[match[0].replace(" ", "_")], stream), line)


def with_best(lines: Iterable[str], best: str | None, stream: TextIO | None) -> Iterator[str]:
    """Give the lines of tables, those of the best row in colour: the ones that begin with its name."""
    for line in lines:
        yield paint(line, "best", stream) if best and line.split("  ")[0].strip() == best else line


class NarrowRows:
    """Standard output for answers on a terminal: of a tab-separated table the columns that fit in eighty places.

    Shares are in percent, statuses in colour where the terminal has it.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.header: list[str] = []
        self.rows = 0

    def write(self, text: str) -> int:
        """Write a row of the table."""
        [cells] = csv.reader([text], delimiter="\t")
        if self.header:
            self.rows += 1
            self._write(dict(zip(self.header, cells, strict=True)))
        else:
            self.header = cells
            self._write({"probability": "%"} | {name: name for name in cells if name != "probability"})
        return len(text)

    def _write(self, row: dict[str, str]) -> None:
        """Write the cells that fit; of a protein without a term the status stands where its name would."""
        widths = TERM_WIDTHS if "term" in row else NUMBER_WIDTHS if "value" in row else WIDTHS
        row = row | ({"name": row["status"]} if "term" in row and not row["term"] else {})
        shown = []
        for name, width in widths.items():
            text = _percent(row[name]) if name == "probability" else " ".join(row[name].split())
            text = text if len(text) <= width else text[: width - 1] + "…"
            cell = text.rjust(width) if name in _TO_THE_RIGHT else text.ljust(width)
            shown.append(paint(cell, _STATUS[text], self.stream) if text in _STATUS else cell)
        self.stream.write("  ".join(shown).rstrip() + "\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _percent(share: str) -> str:
    try:
        return f"{100 * float(share):.1f}"
    except ValueError:
        return share
