"""How good predictions of residues are, with intervals over proteins: whole proteins are drawn, never single residues.

Residues of a protein go together, so a bootstrap over residues would be far too sure of itself. Every measure here is a
function of how often each protein counts; what is not known of a residue is left out before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from esmcls.metrics.classification import FOLDS, Interval, percentile_intervals, resamples
from esmcls.types import Floats, Indices, Probabilities

Statistic: TypeAlias = Callable[[Indices], dict[str, float]]
"""From how often each protein counts, (proteins,), to named values."""
UNBOUNDED: Final = frozenset({"rmse"})
"""Measures that may be more than 1; R² may be less than -1."""


def confusion_of(truth: Indices, predicted: Indices, n_classes: int) -> Indices:
    """Return how many residues of each class (rows) were taken for each (columns), (classes, classes).

    Examples
    --------
    >>> confusion_of(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    places = truth * n_classes + predicted
    return np.bincount(places, minlength=n_classes**2).reshape(n_classes, n_classes).astype(np.int64)


def confusions_by_protein(truth: Indices, predicted: Indices, protein: Indices, n: int, n_classes: int) -> Indices:
    """Return `confusion_of` of each of n proteins, (n, classes, classes)."""
    places = (protein * n_classes + truth) * n_classes + predicted
    counts = np.bincount(places, minlength=n * n_classes**2)
    return counts.reshape(n, n_classes, n_classes).astype(np.int64)


def scores_of_confusion(confusion: Floats | Indices) -> dict[str, float]:
    """Return accuracy, macro F1 and MCC of a table of true (rows) and predicted classes (columns).

    Accuracy is Q3 where there are three classes, Q8 where there are eight. Macro F1 is the mean over the classes that
    occur in the truth. MCC is Gorodkin's of several classes (2004, doi:10.1016/j.compbiolchem.2004.09.006); 0 where all
    residues are of one class, or all were taken for one.

    Examples
    --------
    >>> scores = scores_of_confusion(np.array([[1, 1], [0, 1]]))
    >>> {name: round(value, 3) for name, value in scores.items()}
    {'accuracy': 0.667, 'macro_f1': 0.667, 'mcc': 0.5}
    """
    table = np.asarray(confusion, dtype=np.float64)
    total, right = table.sum(), np.trace(table)
    true, named = table.sum(1), table.sum(0)
    f1 = f1_of_confusion(table)[true > 0]
    both = (total**2 - (true**2).sum()) * (total**2 - (named**2).sum())
    mcc = (right * total - true @ named) / np.sqrt(both) if both > 0 else 0.0
    accuracy = right / total if total else 0.0
    return {"accuracy": float(accuracy), "macro_f1": float(f1.mean()) if len(f1) else 0.0, "mcc": float(mcc)}


def f1_of_confusion(confusion: Floats | Indices) -> Floats:
    """Return the F1 of each class, (classes,); 0 of one that is neither there nor named.

    Examples
    --------
    >>> f1_of_confusion(np.array([[1, 1], [0, 1]])).round(3).tolist()
    [0.667, 0.667]
    """
    table = np.asarray(confusion, dtype=np.float64)
    below = table.sum(0) + table.sum(1)
    return np.asarray(np.divide(2 * np.diag(table), below, out=np.zeros(len(table)), where=below > 0))


@dataclass(frozen=True, eq=False)
class _Sorted:
    """Values in ascending order, in groups of equal ones, so that weights can be summed by rank."""

    order: Indices
    starts: Indices
    group: Indices

    @classmethod
    def of(cls, values: Floats | Probabilities) -> _Sorted:
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        new = np.concatenate(([True], ordered[1:] != ordered[:-1])) if len(ordered) else np.zeros(0, dtype=bool)
        group = np.empty(len(values), dtype=np.int64)
        group[order] = np.cumsum(new) - 1
        return cls(order, np.flatnonzero(new), group)

    def sums(self, weights: Floats | Indices) -> Floats:
        """Return the weight of each group of equal values, ascending."""
        return np.asarray(np.add.reduceat(weights[self.order].astype(np.float64), self.starts))


def auroc_of(scores: Probabilities, positive: Indices) -> Callable[[Indices], float]:
    """Return how often a residue of a class scores above one of another, as a function of how often each counts.

    Ties count half; NaN where there is only one of the two.

    Examples
    --------
    >>> area = auroc_of(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    >>> area(np.ones(4)), area(np.array([1, 0, 1, 1]))
    (0.875, 1.0)
    """
    ranks = _Sorted.of(scores)

    def area(weights: Indices) -> float:
        inside, outside = ranks.sums(weights * positive), ranks.sums(weights * ~positive)
        below = np.cumsum(outside) - outside / 2
        pairs = inside.sum() * outside.sum()
        return float(inside @ below / pairs) if pairs else float("nan")

    return area


def label_measures(
    truth: Indices, probabilities: Probabilities, protein: Indices, n: int, classes: Sequence[str]
) -> Statistic:
    """Prepare all measures of labels of residues as a function of how often each protein counts.

    Parameters
    ----------
    truth : int64 array, (residues,)
        Codes; all known.
    probabilities : float32 array, (residues, classes)
        The likeliest class is the one that is answered.
    protein : int64 array, (residues,)
    n : int
        Proteins.
    classes : sequence of str

    Returns
    -------
    callable
        To accuracy, macro_f1, mcc, auroc (mean over the classes that occur, each against the others) and f1_<class>.
    """
    predicted = probabilities.argmax(1) if len(truth) else truth
    tables = confusions_by_protein(truth, predicted, protein, n, len(classes))
    there = [code for code in range(len(classes)) if (truth == code).any()]
    areas = [auroc_of(probabilities[:, code], truth == code) for code in there]

    def measure(counts: Indices) -> dict[str, float]:
        table = np.tensordot(counts, tables, 1)
        weights = counts[protein]
        reached = [area(weights) for area in areas]
        known = [area for area in reached if area == area]
        f1 = f1_of_confusion(table)
        scores = scores_of_confusion(table) | {"auroc": float(np.mean(known)) if known else 0.0}
        return scores | {f"f1_{classes[code]}": float(f1[code]) for code in range(len(classes))}

    return measure


def number_measures(truth: Floats, predicted: Floats, protein: Indices, n: int) -> Statistic:
    """Prepare all measures of numbers of residues as a function of how often each protein counts.

    Returns
    -------
    callable
        To spearman and pearson (0 where one of both is constant), rmse, and r2.

    Examples
    --------
    >>> measure = number_measures(np.array([1.0, 2, 3]), np.array([1.0, 2, 9]), np.array([0, 0, 1]), 2)
    >>> {name: round(value, 3) for name, value in measure(np.array([1, 1])).items()}
    {'spearman': 1.0, 'pearson': 0.918, 'rmse': 3.464, 'r2': -17.0}
    """
    order_of_truth, order_of_answers = _Sorted.of(truth), _Sorted.of(predicted)

    def measure(counts: Indices) -> dict[str, float]:
        weights = counts[protein].astype(np.float64)
        ranks = _ranks(order_of_truth, weights), _ranks(order_of_answers, weights)
        total = weights.sum()
        errors = float(weights @ np.square(predicted - truth))
        spread = float(weights @ np.square(truth - weights @ truth / total)) if total else 0.0
        return {
            "spearman": correlation(ranks[0], ranks[1], weights),
            "pearson": correlation(truth, predicted, weights),
            "rmse": float(np.sqrt(errors / total)) if total else 0.0,
            "r2": 1 - errors / spread if spread else 0.0,
        }

    return measure


def _ranks(order: _Sorted, weights: Floats) -> Floats:
    """Return the mean rank of each value where each counts so often, from 1."""
    sums = order.sums(weights)
    return np.asarray((np.cumsum(sums) - (sums - 1) / 2)[order.group])


def correlation(first: Floats, second: Floats, weights: Floats) -> float:
    """Return Pearson's correlation where each pair counts so often; 0 where one of both is constant.

    Examples
    --------
    >>> correlation(np.array([1.0, 2, 3]), np.array([2.0, 4, 6]), np.ones(3))
    1.0
    """
    total = weights.sum()
    if not total:
        return 0.0
    first_off, second_off = first - weights @ first / total, second - weights @ second / total
    below = np.sqrt((weights @ np.square(first_off)) * (weights @ np.square(second_off)))
    return float(np.clip(weights @ (first_off * second_off) / below, -1, 1)) if below > 1e-12 * total else 0.0


def intervals_over_proteins(
    measure: Statistic, n: int, *, folds: int = FOLDS, seed: int = 0
) -> tuple[dict[str, Interval], Floats]:
    """Return each measure with its 95 % interval, and its values in each resample of the proteins, (folds, measures).

    A resample is the same for all models of the same proteins and seed, so that their values can be paired.
    """
    value = measure(np.ones(n, dtype=np.int64))
    drawn = [measure(counts) for counts in resamples(n, folds, seed)]
    table = np.array([[values[name] for name in value] for values in drawn], dtype=np.float64)
    return with_ends(value, table), table


def with_ends(value: Mapping[str, float], table: Floats) -> dict[str, Interval]:
    """Return values with the ends of their 95 % intervals, each within what it can be."""
    intervals = percentile_intervals(value, table, low=-np.inf, high=np.inf)
    return {name: _bounded(name, interval) for name, interval in intervals.items()}


def _bounded(name: str, interval: Interval) -> Interval:
    if name in UNBOUNDED:
        return Interval(interval.value, max(interval.low, 0.0), interval.high)
    low = -np.inf if name == "r2" else -1.0 if name in ("mcc", "spearman", "pearson") else 0.0
    return Interval(interval.value, float(max(interval.low, low)), float(min(interval.high, 1.0)))


def protein_of(sizes: Iterable[int]) -> Indices:
    """Return the number of the protein that each residue is of, for proteins of so many residues.

    Examples
    --------
    >>> protein_of([2, 1]).tolist()
    [0, 0, 1]
    """
    counts = np.fromiter(sizes, dtype=np.int64)
    return np.repeat(np.arange(len(counts)), counts)
