"""Numbers in words: shares, intervals, p values, times, sizes and tables of texts as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Final, Protocol

SIGNIFICANT: Final = 0.05
"""A corrected p value below it counts as a difference."""
NONE: Final = "–"
"""Of what is not known."""


class Span(Protocol):
    """A lower and an upper end: an interval, or a difference with its interval."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def percent(share: float | None, digits: int = 1) -> str:
    """Say a share in percent, without its sign.

    Examples
    --------
    >>> percent(0.80144), percent(None), percent(-0.052), percent(-0.0001)
    ('80.1', '–', '−5.2', '0.0')
    """
    return NONE if share is None else f"{round(100 * share, digits) + 0.0:.{digits}f}".replace("-", "−")


def percent_of(part: float, whole: float, digits: int = 2) -> str:
    """Say how many percent of a whole a part is, without the sign; a dash of nothing.

    Examples
    --------
    >>> percent_of(1, 8), percent_of(0, 0)
    ('12.50', '–')
    """
    return f"{100 * part / whole:.{digits}f}" if whole else NONE


def percent_among(share: float, n: float) -> str:
    """Say a share of n things in percent, with its sign and as many digits as so many things allow.

    Examples
    --------
    >>> percent_among(0.82346, 60), percent_among(0.82346, 350), percent_among(0.82346, 13_050)
    ('82 %', '82.3 %', '82.35 %')
    """
    return f"{percent(share, (n >= 100) + (n >= 1000))} %"


def scores_in_words(scores: Mapping[str, float]) -> str:
    """Say what a model reached on n rows: shares in percent, Fmax as CAFA has it, errors in their unit.

    Examples
    --------
    >>> scores_in_words({"accuracy": 0.82345, "macro_f1": 0.8, "n": 350})
    'accuracy 82.3 %, macro F1 80.0 %, n = 350'
    >>> scores_in_words({"fmax": 0.55412, "n": 30}), scores_in_words({})
    ('fmax 0.554, n = 30', 'nothing')
    >>> scores_in_words({"spearman": 0.81234, "rmse": 12.3456})
    'Spearman 0.812, RMSE 12.35'
    >>> scores_in_words({"precision_l": 0.1234, "lddt": 0.4})
    'P@L 0.123, lDDT 0.400'
    """
    n = scores.get("n", 0.0)
    shares = {"accuracy": "accuracy", "macro_f1": "macro F1"}
    decimals = {"spearman": "Spearman", "pearson": "Pearson", "r2": "R²"}
    decimals |= {"precision_l": "P@L", "precision_l5": "P@L/5", "lddt": "lDDT"}
    errors = {"rmse": "RMSE", "mae": "MAE"}
    parts = [
        f"{shares[name]} {percent_among(value, n)}"
        if name in shares
        else f"{errors[name]} {value:.4g}"
        if name in errors
        else f"{decimals.get(name, name)} {decimal(value)}"
        for name, value in scores.items()
        if name != "n"
    ]
    return ", ".join([*parts, *([f"n = {n:,.0f}"] if n else [])]) or "nothing"


def span(interval: Span) -> str:
    """Say an interval in percent.

    Examples
    --------
    >>> from types import SimpleNamespace as Interval
    >>> span(Interval(low=0.786, high=0.815)), span(Interval(low=-0.002, high=0.008))
    ('78.6–81.5', '−0.2 to 0.8')
    """
    return _from_to(percent(interval.low), percent(interval.high))


def _from_to(low: str, high: str) -> str:
    return f"{low} to {high}" if "−" in low + high else f"{low}{NONE}{high}"


def decimal(number: float | None, digits: int = 3, sign: bool = False) -> str:
    """Say a number to so many places, with its sign where a difference is meant.

    Examples
    --------
    >>> decimal(0.51249), decimal(None), decimal(-0.0512, 2), decimal(0.0512, sign=True), decimal(-0.0001, sign=True)
    ('0.512', '–', '−0.05', '+0.051', '0.000')
    """
    if number is None:
        return NONE
    text = f"{round(number, digits) + 0.0:.{digits}f}"
    return "+" + text if sign and float(text) > 0 else text.replace("-", "−")


def between(interval: Span, digits: int = 3) -> str:
    """Say an interval to so many places.

    Examples
    --------
    >>> from types import SimpleNamespace as Interval
    >>> between(Interval(low=0.78644, high=0.815)), between(Interval(low=-0.2, high=1), 1)
    ('0.786–0.815', '−0.2 to 1.0')
    """
    return _from_to(decimal(interval.low, digits), decimal(interval.high, digits))


def p_value(p: float) -> str:
    """Say a p value to three places.

    Examples
    --------
    >>> p_value(0.0002), p_value(0.0404)
    ('< 0.001', '0.040')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equals(p: float) -> str:
    """Say that a p value is so, in a sentence.

    Examples
    --------
    >>> p_equals(0.0002), p_equals(0.0404)
    ('p < 0.001', 'p = 0.040')
    """
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def length_of_time(seconds: float | None) -> str:
    """Say a length of time.

    Examples
    --------
    >>> length_of_time(7.71), length_of_time(42.4), length_of_time(600), length_of_time(9000)
    ('7.7 s', '42 s', '10 min', '2.5 h')
    """
    if seconds is None:
        return NONE
    if seconds < 120:
        return f"{seconds:.{int(seconds < 10)}f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def spread(values: Sequence[float]) -> str:
    """Say the mean of shares and their standard deviation, in percent.

    Examples
    --------
    >>> spread([0.5, 0.6, 0.7]), spread([0.5])
    ('60.0 ± 10.0', '50.0')
    """
    return percent(fmean(values)) + (f" ± {percent(stdev(values))}" if len(values) > 1 else "")


def count(number: float | None) -> str:
    """Say a number with commas, one below 10 to a tenth unless it is whole; a dash for None.

    Examples
    --------
    >>> count(51900.2), count(3.25), count(12), count(None)
    ('51,900', '3.2', '12', '–')
    """
    if number is None:
        return NONE
    return f"{number:,.1f}" if number < 10 and number != int(number) else f"{number:,.0f}"


def counted(number: int, noun: str, plural: str = "s") -> str:
    """Say how many there are of a thing; `plural` is what its name ends in where they are not one.

    Examples
    --------
    >>> counted(1, "protein"), counted(1200, "protein"), counted(0, "class", "es")
    ('1 protein', '1,200 proteins', '0 classes')
    """
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def size(nbytes: float) -> str:
    """Say a number of bytes.

    Examples
    --------
    >>> size(999), size(25_200), size(3.2e9)
    ('999 bytes', '25.2 kB', '3.2 GB')
    """
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if nbytes >= factor:
            return f"{nbytes / factor:.1f} {unit}"
    return f"{nbytes:.0f} bytes"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: the first column to the left, all others to the right.

    Examples
    --------
    >>> aligned([["model", "n"], ["knn", "12"]])
    ['model   n', 'knn    12']
    """
    return _in_columns(rows, [False] + [True] * (len(rows[0]) - 1))


def table(rows: Iterable[Iterable[object]]) -> str:
    """Return a table of anything as a text: columns of numbers to the right, all others to the left.

    Examples
    --------
    >>> print(table([("encoder", "width"), ("kmer", 820), ("bundled", 1280)]))
    encoder  width
    kmer       820
    bundled   1280
    """
    cells = [[NONE if cell is None else str(cell) for cell in row] for row in rows]
    numbers = [all(cell == NONE or cell[:1].isdigit() for cell in column[1:]) for column in zip(*cells, strict=True)]
    return "\n".join(_in_columns(cells, numbers))


def _in_columns(rows: Sequence[Sequence[str]], to_the_right: Sequence[bool]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, to_the_right, strict=True)
        ).rstrip()
        for row in rows
    ]
