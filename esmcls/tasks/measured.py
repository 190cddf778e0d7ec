"""What the comparisons of several kinds of task share: rows of measures, and how far each model is behind the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import Self

from esmcls.metrics.classification import Interval
from esmcls.metrics.paired import Difference, corrected, difference
from esmcls.reporting.results import ModelRow
from esmcls.types import Floats


@dataclass(frozen=True)
class Behind:
    """How far a model's main measure is from the best one's, with its two-sided p, and that corrected (Holm)."""

    difference: Interval
    p: float
    p_holm: float

    @classmethod
    def of(cls, difference: Difference) -> Self:
        """Return a difference as a report has it."""
        return cls(Interval(difference.value, difference.low, difference.high), difference.p, difference.p_holm)


@dataclass(frozen=True, kw_only=True)
class MeasuredRow(ModelRow):
    """A model, the best by its main measure first.

    Parameters
    ----------
    metrics : dict of str to Interval
    versus_best : Behind or None
        None of the best itself.
    """

    metrics: dict[str, Interval]
    versus_best: Behind | None


def cells(row: MeasuredRow) -> dict[str, Any]:
    """Return the row of a model in table.tsv: what it is, its measures, how far it is behind, and its size."""
    behind = row.versus_best
    table_row: dict[str, Any] = {"model": row.name, "head": row.head, "encoder": row.encoder}
    table_row["baseline"] = "yes" if row.baseline else "no"
    for name, interval in row.metrics.items():
        table_row |= with_ends(name, interval)
    table_row |= with_ends("difference", behind.difference if behind else None)
    table_row |= {"p": behind.p, "p_holm": behind.p_holm} if behind else {"p": None, "p_holm": None}
    return table_row | {"megabytes": row.megabytes}


def with_ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Return a value and the ends of its interval under three names; None where there is none.

    Examples
    --------
    >>> with_ends("mae", Interval(0.5, 0.4, 0.6))
    {'mae': 0.5, 'mae_low': 0.4, 'mae_high': 0.6}
    """
    values = (None, None, None) if interval is None else (interval.value, interval.low, interval.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def behind_best(measured: Sequence[tuple[dict[str, Interval], Floats]], main: str) -> list[Difference]:
    """Return how far all but the first are behind it, on the same draws of proteins, corrected for their number.

    Parameters
    ----------
    measured : sequence of (dict of str to Interval, float64 array)
        Of each model, the best first: its measures, and those of each draw, (draws, measures).
    main : str
        The measure by which they are told apart.
    """
    best, best_drawn = measured[0]
    column = list(best).index(main)
    return corrected(
        [
            difference(intervals[main].value - best[main].value, drawn[:, column] - best_drawn[:, column])
            for intervals, drawn in measured[1:]
        ]
    )
