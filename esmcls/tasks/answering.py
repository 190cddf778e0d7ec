"""How a model's answers to new proteins are asked for, laid out and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Protocol, TextIO, TypeVar

from typing_extensions import NamedTuple

from esmcls.cache.features import Features
from esmcls.reading.records import Protein
from esmcls.reporting.rows import Row, Unanswered, Written

T = TypeVar("T")
"""What is said of a protein."""


class Answered(NamedTuple, Generic[T]):
    """A protein with what a model says of it, or why it says nothing, and what makes that doubtful."""

    protein: Protein
    answer: T | Unanswered
    note: str | None = None


class Answering(Protocol[T]):
    """How a model's answers to new proteins are asked for, laid out in rows, and written."""

    def ask(self, x: Features) -> Sequence[T]:
        """Return what is to be said of each row."""
        ...

    def rows(self, protein: Protein, answer: T | Unanswered, note: str | None = None) -> Iterator[Row]:
        """Give the rows of a record, with what is to be known."""
        ...

    def write(self, answers: Iterable[Answered[T]], handle: TextIO, described: bool = False) -> Written:
        """Write the rows of records as they come, with a column of descriptions where it is asked for."""
        ...
