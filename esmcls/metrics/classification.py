"""How good predictions are: plain functions on arrays of class codes, with bootstrap intervals over proteins.

A class code is a row's class as a number, 0 to C - 1. A true code of -1 stands for a class that was not trained on:
such a row always counts as wrong. Precision, recall and F1 of a class without any prediction or member are 0, not NaN.

Macro averages run over the classes that occur in the truth, so that a class which only false predictions name lowers
the others' recall but is no summand; scikit-learn gives the same with `labels=` those classes. Rows of code -1 belong
to no class here: they count as false predictions, and with F1 0 in weighted averages, but macro averages know nothing
of how many classes they are. Who knows it gives them codes from C upwards (as `one_label.evaluation` does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from esmcls.types import Indices

Floats = npt.NDArray[np.float64]
"""(classes,) or (n,): one number each."""

FOLDS: Final = 1000
"""Resamples of a bootstrap interval."""
RANKS: Final = (3, 5, 10)
"""The k of the top-k accuracies."""
TIERS: Final = (("<5", 0, 5), ("5-19", 5, 20), ("20-99", 20, 100), ("≥100", 100, None))
"""Name, first and last + 1 number of training members of the class."""
BINS: Final = 5
"""Of `equal_bins`, where so many differ."""


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % percentile interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of each class, all (C,), and its members in the truth."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Floats
    rows: float
    """All rows, those of code -1 too."""

    def macro(self) -> dict[str, float]:
        """Return the means over the classes that occur in the truth; 0 where none does."""
        here = self.support > 0
        return {name: float(values[here].mean()) if here.any() else 0.0 for name, values in self._three()}

    def weighted(self) -> dict[str, float]:
        """Return the means over all rows of what their class reaches; 0 without rows."""
        return {name: float(values @ self.support / self.rows) if self.rows else 0.0 for name, values in self._three()}

    def _three(self) -> list[tuple[str, Floats]]:
        return [("precision", self.precision), ("recall", self.recall), ("f1", self.f1)]


@dataclass(frozen=True)
class Tier:
    """The rows whose class has so many training members, or of such a length; `accuracy` is None without rows."""

    name: str
    n: int
    accuracy: float | None


def accuracy(codes: Indices, predicted: Indices) -> float:
    """Return the share of rows predicted right; 0 without rows.

    Examples
    --------
    >>> accuracy(np.array([0, 1, -1, 2]), np.array([0, 1, 1, 0]))
    0.5
    """
    return _share(_hits(codes, predicted[:, None]))


def _hits(codes: Indices, ranked: Indices) -> npt.NDArray[np.bool_]:
    hits: npt.NDArray[np.bool_] = ((ranked == codes[:, None]) & (codes >= 0)[:, None]).any(axis=1)
    return hits


def _share(hits: npt.NDArray[np.bool_], weights: Indices | None = None) -> float:
    total = len(hits) if weights is None else int(weights.sum())
    right = np.count_nonzero(hits) if weights is None else int(weights[hits].sum())
    return float(right / total) if total else 0.0


def precision_recall_f1(
    codes: Indices, predicted: Indices, n_classes: int, weights: Indices | None = None
) -> ClassScores:
    """Return precision, recall and F1 of each class.

    Parameters
    ----------
    codes, predicted : int arrays, (n,)
        True and predicted codes; a predicted one is never -1.
    n_classes : int
    weights : int array, (n,), optional
        How often each row counts; default once.

    Returns
    -------
    ClassScores

    Examples
    --------
    >>> scores = precision_recall_f1(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    >>> scores.precision.tolist(), scores.recall.tolist()
    ([1.0, 0.5], [0.5, 1.0])
    """
    known = codes >= 0
    right = known & (codes == predicted)
    support = _count(codes, known, n_classes, weights)
    named = _count(predicted, slice(None), n_classes, weights)
    true = _count(codes, right, n_classes, weights)
    rows = float(len(codes) if weights is None else weights.sum())
    # F1 = 2 tp / (predicted + members), the harmonic mean of precision and recall
    return ClassScores(_ratio(true, named), _ratio(true, support), _ratio(2 * true, named + support), support, rows)


def _count(codes: Indices, rows: Any, n_classes: int, weights: Indices | None) -> Floats:
    counts = np.bincount(codes[rows], None if weights is None else weights[rows], minlength=n_classes)
    if len(counts) > n_classes:
        raise ValueError(f"code {len(counts) - 1} with {n_classes} classes")
    return counts.astype(np.float64)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def macro_f1(codes: Indices, predicted: Indices, n_classes: int) -> float:
    """Return the mean F1 over the classes that occur in the truth."""
    return precision_recall_f1(codes, predicted, n_classes).macro()["f1"]


def summary(codes: Indices, ranked: Indices, n_classes: int) -> Callable[[Indices], dict[str, float]]:
    """Prepare all summary metrics of a set of predictions as a function of how often each row counts.

    Parameters
    ----------
    codes : int array, (n,)
    ranked : int array, (n, ranks)
        Predicted codes, the best first.
    n_classes : int

    Returns
    -------
    callable
        From weights (n,) to accuracy, top_3, top_5, top_10, and precision, recall and f1 as macro_ and weighted_.

    Examples
    --------
    >>> scores = summary(np.array([0, 1]), np.array([[0, 1], [0, 1]]), 2)(np.ones(2, np.int64))
    >>> scores["accuracy"], scores["top_3"]
    (0.5, 1.0)
    """
    predicted = np.ascontiguousarray(ranked[:, 0])
    hits = {"accuracy": _hits(codes, ranked[:, :1])} | {f"top_{k}": _hits(codes, ranked[:, :k]) for k in RANKS}

    def scores(weights: Indices) -> dict[str, float]:
        shares = {name: _share(rows, weights) for name, rows in hits.items()}
        classes = precision_recall_f1(codes, predicted, n_classes, weights)
        macro = {f"macro_{name}": value for name, value in classes.macro().items()}
        return shares | macro | {f"weighted_{name}": value for name, value in classes.weighted().items()}

    return scores


def bootstrap_interval(
    statistic: Callable[[Indices], Mapping[str, float]], n: int, *, folds: int = FOLDS, seed: int = 0
) -> dict[str, Interval]:
    """Return each share that a statistic gives with its 95 % percentile bootstrap interval over rows.

    A resample is told as how often each row was drawn, so that no array is copied; all values of a statistic share the
    resamples. A macro average of a resample runs over the classes that occur in it. Precision and F1 of small classes
    are biased in resamples (a class of two rows is often drawn without its false predictions), so much that a value can
    lie outside the plain percentiles: where the resamples' mean differs from the value by more than chance (4 standard
    errors), the interval is moved by that difference, and clipped to [0, 1]. Accuracies have no bias and keep theirs.

    Parameters
    ----------
    statistic : callable
        From weights, int (n,), to named values in [0, 1]; see `summary`.
    n : int
        Rows.
    folds : int
        Resamples.
    seed : int
        The same seed gives the same intervals.

    Returns
    -------
    dict of str to Interval

    Examples
    --------
    >>> bootstrap_interval(lambda weights: {"same": float(weights.mean())}, 5)
    {'same': Interval(value=1.0, low=1.0, high=1.0)}
    """
    value = statistic(np.ones(n, np.int64))
    if n == 0:
        return {name: Interval(number, number, number) for name, number in value.items()}
    resampled = [statistic(weights) for weights in resamples(n, folds, seed)]
    table = np.array([[values[name] for name in value] for values in resampled])  # (folds, values)
    return percentile_intervals(value, table)


def resamples(n: int, folds: int, seed: int) -> Iterator[Indices]:
    """Give how often each of n rows is drawn, (n,), for each resample of a bootstrap.

    Examples
    --------
    >>> [int(weights.sum()) for weights in resamples(5, folds=2, seed=0)]
    [5, 5]
    """
    random = np.random.default_rng(seed)
    for _ in range(folds):
        yield np.bincount(random.integers(n, size=n), minlength=n)


def percentile_intervals(
    value: Mapping[str, float], table: Floats, low: float = 0.0, high: float = 1.0
) -> dict[str, Interval]:
    """Return values with the 95 % percentile intervals of their resamples, moved where those are biased.

    Parameters
    ----------
    value : dict of str to float
    table : float64 array, (folds, values)
        The same values of each resample.
    low, high : float
        What no value is beyond.

    Returns
    -------
    dict of str to Interval
        See `bootstrap_interval`.
    """
    ends = np.percentile(unbiased(value, table), [2.5, 97.5], axis=0).clip(low, high)
    return {name: Interval(value[name], float(ends[0, i]), float(ends[1, i])) for i, name in enumerate(value)}


def unbiased(value: Mapping[str, float], table: Floats) -> Floats:
    """Return resamples of values, (folds, values), moved by how far their means are off where that is not by chance."""
    bias = table.mean(axis=0) - np.array(list(value.values()))
    moved: Floats = table - np.where(np.abs(bias) > 4 * table.std(axis=0) / len(table) ** 0.5, bias, 0.0)
    return moved


def tier_accuracy(codes: Indices, correct: npt.NDArray[np.bool_], train_counts: Indices) -> list[Tier]:
    """Return the accuracy by how many training members a row's class has.

    Parameters
    ----------
    codes : int array, (n,)
        True codes; -1, and codes beyond `train_counts`, have no training member and stand in the first tier.
    correct : bool array, (n,)
    train_counts : int array, (C,)
        Training members of each class.

    Returns
    -------
    list of Tier
        Always four; their n add up to all rows, and their n x accuracy to the rows that are right.

    Examples
    --------
    >>> tiers = tier_accuracy(np.array([0, 1, 1, -1]), np.array([True, True, False, False]), np.array([3, 100]))
    >>> [(tier.name, tier.n, tier.accuracy) for tier in tiers]
    [('<5', 2, 0.5), ('5-19', 0, None), ('20-99', 0, None), ('≥100', 2, 0.5)]
    """
    known = (codes >= 0) & (codes < len(train_counts))
    members = np.zeros(len(codes), np.int64)
    members[known] = train_counts[codes[known]]
    tiers = []
    for name, first, end in TIERS:
        here = correct[(members >= first) & (members < end if end is not None else True)]
        tiers.append(Tier(name, len(here), float(here.mean()) if len(here) else None))
    right = sum(tier.n * (tier.accuracy or 0.0) for tier in tiers)
    assert sum(tier.n for tier in tiers) == len(codes)
    assert abs(right - np.count_nonzero(correct)) < 1e-6 * max(len(codes), 1)
    return tiers


def equal_bins(values: Indices, bins: int = BINS) -> tuple[list[str], Indices]:
    """Return the names of bins that hold about as many rows each, and the bin of each row; equal values share one.

    Parameters
    ----------
    values : int array, (n,)
        Whole numbers, such as residues or training members.
    bins : int
        At most so many.

    Returns
    -------
    list of str, int64 array (n,)
        Names say the least and the largest value of a bin.

    Examples
    --------
    >>> names, places = equal_bins(np.array([7, 1, 1, 30, 12, 9]), 3)
    >>> names, places.tolist()
    (['1', '7–9', '12–30'], [1, 0, 0, 2, 2, 1])
    """
    ordered = np.sort(values)
    firsts = np.unique(ordered[[len(ordered) * place // bins for place in range(bins)]] if len(ordered) else ordered)
    places = np.searchsorted(firsts, values, side="right") - 1
    ends = [int(values[places == place].max()) for place in range(len(firsts))]
    names = [f"{low}–{high}" if low < high else str(low) for low, high in zip(firsts.tolist(), ends, strict=True)]
    return names, places.astype(np.int64)


def binned_accuracy(correct: npt.NDArray[np.bool_], bins: tuple[list[str], Indices]) -> list[Tier]:
    """Return the accuracy in each bin that `equal_bins` made.

    Examples
    --------
    >>> binned_accuracy(np.array([True, False, True]), (["1", "2–9"], np.array([0, 0, 1])))
    [Tier(name='1', n=2, accuracy=0.5), Tier(name='2–9', n=1, accuracy=1.0)]
    """
    names, places = bins
    parts = [correct[places == place] for place in range(len(names))]
    return [
        Tier(name, len(part), float(part.mean()) if len(part) else None)
        for name, part in zip(names, parts, strict=True)
    ]
