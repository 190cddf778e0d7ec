"""What the page of one model shows that a comparison has not: facts, tables of which it shows the beginning, notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from esmcls.reporting.phrases import NONE, count, decimal

Table = list[dict[str, Any]]
SHOWN: Final = 30
"""Rows of a table that the page shows; the file has all."""


@dataclass(frozen=True)
class Column:
    """A column of a table on the page.

    Parameters
    ----------
    key : str
        In the table's rows.
    title : str
    text : bool
        Whether it holds words, not numbers.
    places : int, optional
        Of a number that is no count.
    significant : int, optional
        Digits of a number of any size, such as an E-value.
    """

    key: str
    title: str
    text: bool = False
    places: int | None = None
    significant: int | None = None

    def cell(self, row: Mapping[str, Any]) -> str:
        """Return what stands in it.

        Examples
        --------
        >>> Column("f1", "F1", places=2).cell({"f1": 0.5}), Column("n", "n").cell({"n": 1200}), Column("n", "").cell({})
        ('0.50', '1,200', '–')
        >>> Column("e", "E-value", significant=2).cell({"e": 1.23e-30})
        '1.2e-30'
        """
        value = row.get(self.key)
        if value is None or value == "":
            return NONE
        if self.text:
            return str(value)
        if self.significant is not None:
            return f"{value:.{self.significant}g}"
        return count(value) if self.places is None else decimal(value, self.places)


@dataclass(frozen=True)
class Excerpt:
    """The first rows of a table that lies beside the page as a file.

    Parameters
    ----------
    title, file, words : str
        A heading, the table's file, and what to know of it.
    columns : sequence of Column
        The first one names the row.
    rows : Table
        All of them, in the order of the page.
    """

    title: str
    file: str
    words: str
    columns: Sequence[Column]
    rows: Table

    @property
    def shown(self) -> list[list[str]]:
        """The cells of the rows that the page shows."""
        return [[column.cell(row) for column in self.columns] for row in self.rows[:SHOWN]]


@dataclass(frozen=True)
class ExaminedModel:
    """One model, as its page tells of it.

    Parameters
    ----------
    on : str
        What it was measured on.
    facts : sequence of (str, str)
        Name and words, for the list on top.
    notes : sequence of str
        What else was measured, a line each.
    excerpts : sequence of Excerpt
    """

    on: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    excerpts: Sequence[Excerpt]
