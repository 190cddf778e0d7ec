"""How good decisions on many labels a protein are: F1 over all of them, of each label, and how many labels are found.

F1 is 2 right / (true + predicted). Micro counts every pair of a protein and a label; macro is the mean over the labels
that a protein has, so that a rare one counts as much as a frequent one. Coverage is the share of these labels that are
found in one protein at least.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from esmcls.labels.labels import LabelSets
from esmcls.metrics.classification import Floats

MEASURES: Final = ("f1_micro", "f1_macro", "coverage")
_CHUNK: Final = 100  # resamples at a time


@dataclass(frozen=True, eq=False)
class Decided:
    """The labels of proteins and those that a model predicts.

    Parameters
    ----------
    truth, predicted : LabelSets
        Of the same proteins and classes.

    Raises
    ------
    ValueError
        If they are of other proteins or classes.

    Examples
    --------
    >>> truth = LabelSets.from_names([["a", "b"], ["a"], ["c"]])
    >>> decided = Decided(truth, LabelSets.from_names([["a"], ["a", "b"], ["b"]], truth.classes))
    >>> {name: round(value, 3) for name, value in decided.measures().items()}  # a: 2 2 2, b: 0 of 1 and 2, c: 0 of 1
    {'f1_micro': 0.5, 'f1_macro': 0.333, 'coverage': 0.333}
    """

    truth: LabelSets
    predicted: LabelSets

    def __post_init__(self) -> None:
        if self.truth.classes != self.predicted.classes or len(self.truth) != len(self.predicted):
            raise ValueError("truth and predictions of other proteins or classes")

    @cached_property
    def _sums(self) -> tuple[Any, Any, Any]:
        """Ones where a label is right, true and predicted, each (classes, n) sparse."""
        true, predicted = _ones(self.truth), _ones(self.predicted)
        return true.multiply(predicted).T.tocsr(), true.T.tocsr(), predicted.T.tocsr()

    def per_label(self) -> tuple[Floats, Floats, Floats]:
        """Return how often each class is right, true and predicted, each (classes,)."""
        right, true, predicted = (np.asarray(part.sum(1), dtype=np.float64).ravel() for part in self._sums)
        return right, true, predicted

    def f1(self) -> Floats:
        """Return F1 of each class, (classes,): 0 where it is neither there nor predicted."""
        right, true, predicted = self.per_label()
        return _f1(right, true, predicted)

    def measures(self) -> dict[str, float]:
        """Return each of `MEASURES`."""
        return {name: float(values[0]) for name, values in self.resampled(np.ones((1, len(self.truth)))).items()}

    def resampled(self, draws: npt.NDArray[Any]) -> dict[str, Floats]:
        """Return each of `MEASURES` in resamples, (draws,).

        Parameters
        ----------
        draws : array, (draws, n)
            How often each protein counts.
        """
        values: dict[str, list[Floats]] = {name: [] for name in MEASURES}
        for first in range(0, len(draws), _CHUNK):
            weights = draws[first : first + _CHUNK].astype(np.float64).T  # (n, draws)
            right, true, predicted = (part @ weights for part in self._sums)  # (classes, draws)
            for name, resampled in _measured(right, true, predicted).items():
                values[name].append(resampled)
        return {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in values.items()}


def _measured(right: Floats, true: Floats, predicted: Floats) -> Mapping[str, Floats]:
    there = true > 0
    labels = np.maximum(there.sum(0), 1)
    return {
        "f1_micro": _f1(right.sum(0), true.sum(0), predicted.sum(0)),
        "f1_macro": (_f1(right, true, predicted) * there).sum(0) / labels,
        "coverage": ((right > 0) & there).sum(0) / labels,
    }


def _f1(right: Floats, true: Floats, predicted: Floats) -> Floats:
    f1: Floats = 2 * right / np.maximum(true + predicted, 1)
    return f1


def _ones(labels: LabelSets) -> Any:
    ones = np.ones(len(labels.codes))
    return csr_matrix((ones, labels.codes, labels.offsets), shape=(len(labels), labels.n_classes))
