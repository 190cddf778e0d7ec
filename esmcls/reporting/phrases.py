"""A comparison in words: shares, intervals, p values and times as people read them, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, Final

SIGNIFICANT: Final = 0.05
"""A corrected p value below it counts as a difference."""
NONE: Final = "–"
"""Of what is not known."""


def percent(share: float | None, digits: int = 1) -> str:
    """Say a share in percent, without its sign.

    Examples
    --------
    >>> percent(0.80144), percent(None), percent(-0.052), percent(-0.0001)
    ('80.1', '–', '−5.2', '0.0')
    """
    return NONE if share is None else f"{round(100 * share, digits) + 0.0:.{digits}f}".replace("-", "−")


def span(interval: Mapping[str, float]) -> str:
    """Say an interval in percent.

    Examples
    --------
    >>> span({"low": 0.786, "high": 0.815}), span({"low": -0.002, "high": 0.008})
    ('78.6–81.5', '−0.2 to 0.8')
    """
    low, high = percent(interval["low"]), percent(interval["high"])
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


def between(interval: Mapping[str, float], digits: int = 3) -> str:
    """Say an interval to so many places.

    Examples
    --------
    >>> between({"low": 0.78644, "high": 0.815}), between({"low": -0.2, "high": 1}, 1)
    ('0.786–0.815', '−0.2 to 1.0')
    """
    low, high = decimal(interval["low"], digits), decimal(interval["high"], digits)
    return f"{low} to {high}" if "−" in low + high else f"{low}{NONE}{high}"


def p_value(p: float) -> str:
    """Say a p value to three places.

    Examples
    --------
    >>> p_value(0.0002), p_value(0.0404)
    ('< 0.001', '0.040')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


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


def summary(comparison: Mapping[str, Any]) -> list[str]:
    """Return what came of it in sentences: the best, and how it stands to the next, to homology and to a baseline."""
    rows = comparison["rows"]
    [best] = [row for row in rows if row["name"] == comparison["best"]]
    others = [row for row in rows if row is not best]
    peers = [
        others[:1],
        [row for row in others if row["head"] == "homology"],
        [row for row in others if row["baseline"]],
    ]
    n, found = comparison["dataset"]["records"]["test"], best["metrics"]["accuracy"]
    first = f"The best of {competitors(rows)} on the test part ({count(n)} proteins) is {best['name']}: "
    first += f"accuracy {percent(found['value'])} % (95 % interval {span(found)})."
    chosen = {row["name"]: row for some in peers for row in some[:1]}
    return [first, *(_against(row) for row in chosen.values())]


def competitors(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say how many models and baselines there are.

    Examples
    --------
    >>> competitors([{"baseline": False}, {"baseline": True}, {"baseline": True}])
    '1 model and 2 baselines'
    """
    baselines = sum(row["baseline"] for row in rows)
    counts = {"model": len(rows) - baselines, "baseline": baselines}
    return " and ".join(f"{n} {noun}{'s' if n > 1 else ''}" for noun, n in counts.items() if n)


def _against(row: Mapping[str, Any]) -> str:
    """Return a sentence on how far the best is ahead of a row."""
    difference, p = row["versus_best"]["difference"], row["versus_best"]["p_holm"]
    ahead, interval = percent(-difference["value"]), span({"low": -difference["high"], "high": -difference["low"]})
    chance = f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"
    name = f"{row['name']}, a baseline," if row["baseline"] else row["name"]
    if p < SIGNIFICANT:
        return f"It is better than {name} by {ahead} points ({interval}, {chance})."
    return f"It cannot be told apart from {name.rstrip(',')}: it is {ahead} points ahead ({interval}, {chance})."
