"""How near predicted numbers are to the true ones: plain functions on arrays, with bootstrap intervals over proteins.

Conventions. Equal numbers share the mean of the ranks that they take (Spearman). Where the truth or the prediction has
no spread, nothing is ordered by it: both correlations are 0, not NaN. R² is 1 - (sum of squared errors) / (sum of
squared distances of the truth from its mean): it is below 0 where the mean of the truth would be nearer, and of a truth
without spread it is 1 where all is right, else 0, as scikit-learn has it. Without rows all measures are 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from esmcls.errors import UsageError
from esmcls.metrics.classification import FOLDS, Interval, percentile_intervals, resamples
from esmcls.metrics.paired import Difference, corrected, difference
from esmcls.types import Floats, Indices

MEASURES: Final = {"spearman": "Spearman", "pearson": "Pearson", "r2": "R²", "rmse": "RMSE", "mae": "MAE"}
"""Measure -> what tables call it, in their order."""
ENDS: Final[Mapping[str, tuple[float, float]]] = {
    "spearman": (-1.0, 1.0),
    "pearson": (-1.0, 1.0),
    "r2": (-math.inf, 1.0),
    "rmse": (0.0, math.inf),
    "mae": (0.0, math.inf),
}
"""What no value of a measure is beyond."""
DRAWS: Final = 2000
"""Of the paired bootstrap: ranks are made anew in each."""
_FLAT: Final = 1e-12
"""Of a deviation, as a share of the largest number: less is rounding."""


class Ranked:
    """Numbers that are ranked again and again, each counting as often as it was drawn.

    Examples
    --------
    >>> ranked = Ranked(np.array([5.0, 1.0, 5.0]))
    >>> ranked(np.array([1, 1, 1])).tolist(), ranked(np.array([1, 2, 0])).tolist()
    ([2.5, 1.0, 2.5], [3.0, 1.5, 3.0])
    """

    def __init__(self, numbers: Floats) -> None:
        levels, self.place = np.unique(numbers, return_inverse=True)
        self.levels = len(levels)

    def __call__(self, weights: Indices) -> Floats:
        """Return the mean rank of each number, from 1, (n,)."""
        counts = np.bincount(self.place, weights=weights, minlength=self.levels)
        ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[self.place]
        return ranks


def correlation(first: Floats, second: Floats, weights: Indices) -> float:
    """Return Pearson's correlation of numbers (n,), each pair counting so often; 0 where one of them has no spread."""
    total = weights.sum()
    if not total:
        return 0.0
    centred = [values - (values @ weights) / total for values in (first, second)]
    spreads = [math.sqrt(float(values * weights @ values) / total) for values in centred]
    if any(
        spread <= _FLAT * float(np.abs(values).max()) for spread, values in zip(spreads, (first, second), strict=True)
    ):
        return 0.0
    return float((centred[0] * weights @ centred[1]) / total / (spreads[0] * spreads[1]))


def spearman(truth: Floats, predicted: Floats) -> float:
    """Return Spearman's correlation: Pearson's of the ranks.

    Examples
    --------
    >>> round(spearman(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 9.0])), 2)
    0.8
    """
    once = np.ones(len(truth), dtype=np.int64)
    return correlation(Ranked(truth)(once), Ranked(predicted)(once), once)


def summary(truth: Floats, predicted: Floats) -> Callable[[Indices], dict[str, float]]:
    """Prepare all measures of predictions as a function of how often each row counts.

    Parameters
    ----------
    truth, predicted : float64 arrays, (n,)

    Returns
    -------
    callable
        From weights (n,) to `MEASURES`.
    """
    true_ranks, predicted_ranks = Ranked(truth), Ranked(predicted)
    errors = predicted - truth
    squares, distances = np.square(errors), np.abs(errors)

    def measures(weights: Indices) -> dict[str, float]:
        total = int(weights.sum())
        if not total:
            return dict.fromkeys(MEASURES, 0.0)
        squared = float(squares @ weights)
        centre = truth @ weights / total
        spread = float(np.square(truth - centre) @ weights)
        flat = spread <= total * (_FLAT * float(np.abs(truth).max())) ** 2
        return {
            "spearman": correlation(true_ranks(weights), predicted_ranks(weights), weights),
            "pearson": correlation(truth, predicted, weights),
            "r2": float(squared == 0) if flat else 1 - squared / spread,
            "rmse": math.sqrt(squared / total),
            "mae": float(distances @ weights) / total,
        }

    return measures


def score_numbers(truth: Floats, predicted: Floats) -> dict[str, float]:
    """Return all measures of predictions.

    Examples
    --------
    >>> scores = score_numbers(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 6.0]))
    >>> scores["spearman"], scores["r2"], scores["mae"]
    (1.0, -3.5, 1.0)
    """
    return summary(truth, predicted)(np.ones(len(truth), dtype=np.int64))


def number_intervals(truth: Floats, predicted: Floats, *, folds: int = FOLDS, seed: int = 0) -> dict[str, Interval]:
    """Return all measures with their 95 % bootstrap intervals over rows; see `bootstrap_interval` for how."""
    measures = summary(truth, predicted)
    values = measures(np.ones(len(truth), dtype=np.int64))
    if not len(truth):
        return {name: Interval(value, value, value) for name, value in values.items()}
    table = np.array([list(measures(weights).values()) for weights in resamples(len(truth), folds, seed)])
    intervals = percentile_intervals(values, table, -math.inf, math.inf)
    return {name: _within(interval, *ENDS[name]) for name, interval in intervals.items()}


def _within(interval: Interval, low: float, high: float) -> Interval:
    return Interval(interval.value, min(max(interval.low, low), high), min(max(interval.high, low), high))


def spearman_differences(
    truth: Floats, reference: Floats, others: Sequence[Floats], *, draws: int = DRAWS, seed: int = 0
) -> list[Difference]:
    """Return how far the Spearman correlations of models are from a reference's, corrected for their number.

    Parameters
    ----------
    truth, reference : float64 arrays, (n,)
        And what the reference predicts.
    others : sequence of float64 arrays, (n,)
        What each model predicts of the same rows.
    draws, seed : int
        Of the paired bootstrap.
    """
    ranked = [Ranked(predicted) for predicted in (reference, *others)]
    true_ranks = Ranked(truth)

    def gaps(weights: Indices) -> Floats:
        ranks = true_ranks(weights)
        first, *rest = (correlation(ranks, of_model(weights), weights) for of_model in ranked)
        return np.array(rest) - first

    whole = gaps(np.ones(len(truth), dtype=np.int64))
    drawn = np.array([gaps(weights) for weights in resamples(len(truth), draws, seed)]).reshape(draws, len(others))
    return corrected([difference(float(gap), column) for gap, column in zip(whole, drawn.T, strict=True)])


def rank_products(truth: Floats, predicted: Floats) -> Floats:
    """Return what each row adds to Spearman's correlation, (n,): their mean is it."""
    once = np.ones(len(truth), dtype=np.int64)
    ranks = [Ranked(numbers)(once) for numbers in (truth, predicted)]
    scaled = [(values - values.mean()) / (values.std() or 1.0) for values in ranks]
    return np.asarray(scaled[0] * scaled[1])


def half_width(errors: Floats, coverage: float) -> float:
    """Return how far an interval reaches to both sides of a prediction so that it holds the truth so often.

    The promise holds over draws of calibration and new rows from one source (split conformal prediction).

    Parameters
    ----------
    errors : float64 array, (n,)
        Distances of predictions from the truth, of rows that were neither fitted nor chosen on.
    coverage : float
        In (0, 1).

    Raises
    ------
    UsageError
        If the coverage is not between 0 and 1, or there are too few rows for it.

    References
    ----------
    Lei et al. 2018, doi:10.1080/01621459.2017.1307116, algorithm 2; Vovk et al. 2005, chapter 2.

    Examples
    --------
    >>> half_width(np.array([0.1, 0.4, 0.2, 0.3]), 0.8)
    0.4
    """
    if not 0 < coverage < 1:
        raise UsageError(f"coverage {coverage} is not between 0 and 1; give one such as 0.9")
    rank = math.ceil((len(errors) + 1) * coverage - 1e-9)  # of the ascending errors, from 1
    if rank > len(errors):
        least = math.ceil(coverage / (1 - coverage) - 1e-9)
        problem = (
            f"{len(errors):,} calibration rows are too few for intervals of {100 * coverage:g} %: it takes {least:,}"
        )
        raise UsageError(f"{problem}; fit with --calibration 10%, or more")
    return float(np.sort(errors)[rank - 1])
