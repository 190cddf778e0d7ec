"""A number for each record, such as a melting temperature: read from text, in columns, and in bins of about as many."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from esmcls.types import Floats, Indices, RowSelection

MISSING: Final = frozenset({"", "-", "?", "na", "n/a", "nan", "none", "null"})
"""What stands, in any case, where a value is not known."""
TENTHS: Final = 10
"""Bins of values that a drawn split, or folds, are balanced by."""
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_LONGEST: Final = 40


def as_number(text: str) -> float | None:
    """Return the finite number that a text is; None where it is none.

    Examples
    --------
    >>> as_number("-1.5e2"), as_number("nan"), as_number("1e999"), as_number("3,7"), as_number("1_000")
    (-150.0, None, None, None, None)
    """
    if not _NUMBER.fullmatch(text.strip()):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def why_no_number(text: str) -> str:
    """Return what is wrong with a text that should be a number; nothing where it is one.

    Examples
    --------
    >>> why_no_number("61.2"), why_no_number("n/a"), why_no_number("> 95")
    ('', "value 'n/a', where a number is expected", "value '> 95', where a number is expected")
    """
    return "" if as_number(text) is not None else f"value {text[:_LONGEST]!r}, where a number is expected"


@dataclass(frozen=True, eq=False)
class Numbers:
    """The number of each record.

    Parameters
    ----------
    values : float64 array, (n,)
        All finite.

    Raises
    ------
    ValueError
        If the values have another shape, or one is not finite.

    Examples
    --------
    >>> numbers = Numbers.from_texts(["31.2", "-4"])
    >>> numbers.values.tolist(), len(numbers), numbers.classes
    ([31.2, -4.0], 2, ())
    """

    values: Floats

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        if values.ndim != 1:
            raise ValueError(f"values have {values.ndim} dimensions instead of 1")
        if not np.isfinite(values).all():
            raise ValueError("a value that is not finite")
        object.__setattr__(self, "values", values)

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> Numbers:
        """Read the number of each record.

        Raises
        ------
        ValueError
            If one is no finite number.
        """
        values = list[float]()
        for text in texts:
            number = as_number(text)
            if number is None:
                raise ValueError(why_no_number(text))
            values.append(number)
        return cls(np.array(values, dtype=np.float64))

    @property
    def classes(self) -> tuple[str, ...]:
        """No class: numbers have none."""
        return ()

    @property
    def n_classes(self) -> int:
        """Their number: 0."""
        return 0

    def counts(self) -> Indices:
        """Return the rows of each class: int64 array, (0,)."""
        return np.zeros(0, dtype=np.int64)

    def take(self, rows: RowSelection) -> Numbers:
        """Return the numbers of some records: row numbers, a slice or a mask."""
        return Numbers(self.values[rows])

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.values)


def tenths(texts: Sequence[str]) -> list[str]:
    """Return the tenth of each number, by its name: bins of about as many records; equal numbers share one.

    Of fewer than 100 numbers there are fewer bins, of ten or more.

    Examples
    --------
    >>> tenths([str(number % 20) for number in range(20)])[8:12]
    ['0', '0', '1', '1']
    """
    values = Numbers.from_texts(texts).values
    ordered = np.sort(values)
    below = np.searchsorted(ordered, values, side="left")  # records with a smaller number
    bins = max(1, min(TENTHS, len(values) // TENTHS))
    return [str(place) for place in (below * bins // max(1, len(values))).tolist()]


def spread_in_words(texts: Sequence[str]) -> str:
    """Say how many numbers there are, and their ends.

    Examples
    --------
    >>> spread_in_words(["95.0", "31.2", "40"])
    '3 values from 31.2 to 95'
    """
    values = Numbers.from_texts(texts).values
    count = f"{len(values):,} value{'' if len(values) == 1 else 's'}"
    return f"{count} from {values.min():.6g} to {values.max():.6g}" if len(values) else count


def same_sequence_other_number(sequences: Sequence[str], texts: Sequence[str]) -> int:
    """Return how many distinct sequences stand with more than one number.

    Examples
    --------
    >>> same_sequence_other_number(["MK", "MK", "ML", "ML"], ["1.0", "1", "2", "3"])
    1
    """
    first: dict[str, float] = {}
    pairs = zip(sequences, Numbers.from_texts(texts).values.tolist(), strict=True)
    return len({sequence for sequence, number in pairs if first.setdefault(sequence, number) != number})
