"""Labels that look like numbers: amounts, or names of classes that happen to be written in digits."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from esmcls.errors import DataError
from esmcls.labels.numbers import MISSING, as_number, why_no_number

Reading: TypeAlias = Literal["names", "numbers", "either"]
HANDFUL: Final = 30
"""Distinct whole numbers that may be names of classes, such as EC's first digit or the class in CATH."""
_BEYOND: Final = frozenset({"inf", "+inf", "-inf", "infinity"})
_WHOLE: Final = re.compile(r"[+-]?\d+", re.ASCII)
_DOTTED: Final = re.compile(r"\d+\.(\d+)", re.ASCII)
_LEVELS: Final = re.compile(r"\d+(?:\.\d+){2,}", re.ASCII)
"""A code of three levels or more, as of CATH."""


class Place(NamedTuple):
    """A record, as messages name it."""

    path: str
    line: int | None = None
    record: str | None = None


def reading_of_numbers(labels: Collection[str]) -> Reading:
    """Return what distinct labels are read as: amounts, names of classes, or that both may be meant.

    A handful of whole numbers are names. More of them, whole numbers written with a point, and codes of two levels
    (`1.10`, `2.40`, `3.105`) may be either. All else that is mostly numbers is taken for numbers.

    Examples
    --------
    >>> reading_of_numbers(["0.31", "1.27"]), reading_of_numbers(["1", "2"]), reading_of_numbers(["1.0", "2.0"])
    ('numbers', 'names', 'either')
    >>> reading_of_numbers(["1.10", "3.105"]), reading_of_numbers(["37.5", "40.1", "n/a"])
    ('either', 'numbers')
    """
    numbers = [label for label in labels if as_number(label) is not None]
    others = [label for label in labels if as_number(label) is None]
    names = [label for label in others if label.lower() not in MISSING | _BEYOND]
    if not numbers or 2 * len(names) >= len(labels) or any(map(_LEVELS.fullmatch, names)):
        return "names"
    if all(float(number).is_integer() for number in numbers):
        few = len(numbers) <= HANDFUL and all(map(_WHOLE.fullmatch, numbers))
        return "names" if names or few else "either"
    return "either" if _are_codes(numbers) else "numbers"


def _are_codes(numbers: Collection[str]) -> bool:
    """Return whether zeros at the end count, though the digits behind the point are not as many in all."""
    digits = [match[1] if (match := _DOTTED.fullmatch(number)) else "" for number in numbers]
    counts = set(map(len, digits))
    return "" not in digits and len(counts) > 1 and any(part.endswith("0") and part.strip("0") for part in digits)


def check_numbers(labels: Mapping[str, Place | None], path: str, hint: str = "") -> None:
    """Make sure that all distinct labels are finite numbers.

    Parameters
    ----------
    labels : mapping
        Label -> the record that it is first met in.
    path : str
        For messages where that is not known.
    hint : str
        What else to do, put behind the fix.

    Raises
    ------
    DataError
        If one is none: it names the record.
    """
    for label, place in labels.items():
        if problem := why_no_number(label):
            fix = f"give a number, with a point, or leave the record out{hint}"
            if place is None:
                raise DataError(path, problem, fix)
            raise DataError(place.path, problem, fix, line=place.line, record=place.record)


def in_examples(labels: Collection[str]) -> str:
    """Name some of the labels that are numbers, and how many there are.

    Examples
    --------
    >>> in_examples([str(number) for number in range(40)])
    '0, 1, 10, …: 40 different ones'
    """
    numbers = sorted(label for label in labels if as_number(label) is not None)
    return f"{', '.join(numbers[:3])}, …: {len(numbers):,} different ones"
