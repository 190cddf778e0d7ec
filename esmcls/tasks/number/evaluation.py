"""How good a model of numbers is on a part of a data set: measures with intervals.

An evaluation holds no time stamp: the same model and part give the same bytes twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.base import NumberHead
from esmcls.labels.numbers import Numbers
from esmcls.metrics.classification import FOLDS, Interval
from esmcls.metrics.regression import MEASURES, number_intervals
from esmcls.reporting.phrases import counted
from esmcls.types import Floats

IN_UNITS: Final = ("rmse", "mae")
"""Measures that have the unit of the numbers."""


def in_words(measure: str, value: float) -> str:
    """Say a measure: a correlation to three places, an error to four digits.

    Examples
    --------
    >>> in_words("spearman", -0.51249), in_words("rmse", 12.3456)
    ('−0.512', '12.35')
    """
    text = f"{value:.4g}" if measure in IN_UNITS else f"{value + 0.0:.3f}"
    return text.replace("-", "−")


def span_in_words(measure: str, interval: Interval) -> str:
    """Say both ends of an interval.

    Examples
    --------
    >>> span_in_words("r2", Interval(0.5, 0.4, 0.6)), span_in_words("spearman", Interval(0.0, -0.1, 0.1))
    ('0.400–0.600', '−0.100 to 0.100')
    """
    low, high = (in_words(measure, end) for end in (interval.low, interval.high))
    return f"{low} to {high}" if "−" in low + high else f"{low}–{high}"


@dataclass(frozen=True)
class NumberEvaluation:
    """The measures of a model on a set of proteins.

    Parameters
    ----------
    n : int
        Proteins.
    metrics : dict of str to Interval
        See `esmcls.metrics.regression`; each with its 95 % bootstrap interval over proteins.
    folds, seed : int
        Of the bootstrap.
    truth, predicted : float64 arrays, (n,)
        Not in JSON.
    """

    n: int
    metrics: dict[str, Interval]
    folds: int
    seed: int
    truth: Floats = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    predicted: Floats = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return all of it but single answers as plain values for JSON."""
        metrics = {name: asdict(interval) for name, interval in self.metrics.items()}
        return {"format": 1, "n": self.n, "metrics": metrics, "folds": self.folds, "seed": self.seed}

    def lines(self) -> list[str]:
        """Return a table for people, one line each."""
        return [counted(self.n, "protein"), "", *measures_table(self.metrics)]


def measures_table(metrics: Mapping[str, Interval]) -> list[str]:
    """Return a line for each measure, below a header."""
    lines = [f"{'':10}  {'value':>8}  95 % interval"]
    for key, name in MEASURES.items():
        lines.append(f"{name:10}  {in_words(key, metrics[key].value):>8}  {span_in_words(key, metrics[key])}")
    return lines


@dataclass(frozen=True)
class IntervalsReached:
    """How often intervals hold the truth.

    Parameters
    ----------
    coverage, reached : float
        As wanted, and on these proteins.
    half_width : float
        How far they reach to both sides.
    calibration_rows : int
    """

    coverage: float
    reached: float
    half_width: float
    calibration_rows: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values under their name in metrics.json."""
        return {"intervals": asdict(self)}

    def lines(self) -> list[str]:
        """Say it for people."""
        shown = f"intervals of {100 * self.coverage:g} %, ± {self.half_width:.4g}"
        return [f"{shown} ({self.calibration_rows:,} calibration rows): hold {100 * self.reached:.1f} % of the values"]


def evaluate_numbers(
    head: NumberHead, truth: Numbers, x: Features, *, folds: int = FOLDS, seed: int = 0
) -> NumberEvaluation:
    """Compare a model's numbers with the true ones.

    Raises
    ------
    UsageError
        If there is no protein.
    ValueError
        If features and numbers are not as many.
    """
    if not len(truth):
        raise UsageError("no proteins to evaluate on: give INPUT with --labels, or a dataset with a test part")
    if len(x) != len(truth):
        raise ValueError("features and numbers are not of the same proteins")
    predicted = head.predict(x)
    metrics = number_intervals(truth.values, predicted, folds=folds, seed=seed)
    return NumberEvaluation(len(truth), metrics, folds, seed, truth.values, predicted)
