"""From what proteins have at each threshold to Fmax, Smin and their curves, of all proteins or of resamples of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from esmcls.metrics.cafa import THRESHOLDS, Counts, f_measure, ratio, shares
from esmcls.metrics.classification import Floats, resamples

_CHUNK: Final = 100  # resamples at a time


@dataclass(frozen=True, eq=False)
class Curves:
    """Means over the proteins measured in a group, at each threshold; each (draws, 99).

    Parameters
    ----------
    precision : float64 array
        Over the proteins with a class predicted at the threshold; 0 where none has.
    recall : float64 array
    coverage : float64 array
        Share of the proteins with a class predicted.
    weighted_precision, weighted_recall : float64 arrays
        By information accretion.
    uncertainty, misinformation : float64 arrays
        Information accretion of the classes that were missed, and of those that are wrong.
    hits : float64 array
        That of the classes that are right. None of the five without it.
    """

    precision: Floats
    recall: Floats
    coverage: Floats
    weighted_precision: Floats | None = None
    weighted_recall: Floats | None = None
    uncertainty: Floats | None = None
    misinformation: Floats | None = None
    hits: Floats | None = None

    def at_thresholds(self) -> dict[str, Floats]:
        """Return F, and by information accretion F, micro F and S, (draws, 99).

        Micro F is of the sums over all proteins, 2 tp / (2 tp + fp + fn), which CAFA 6 ranks by: a protein of many
        informative terms counts more there. S is infinite where no protein has a prediction.
        """
        measures = {"fmax": f_measure(self.precision, self.recall)}
        if self.weighted_precision is not None and self.weighted_recall is not None:
            measures["wfmax"] = f_measure(self.weighted_precision, self.weighted_recall)
        if self.uncertainty is not None and self.misinformation is not None and self.hits is not None:
            measures["f_micro_w"] = ratio(2 * self.hits, 2 * self.hits + self.misinformation + self.uncertainty)
            distance = np.hypot(self.uncertainty, self.misinformation)
            nothing = self.coverage.max(axis=1, keepdims=True) == 0  # then, no threshold is better than another
            measures["smin"] = np.where((self.coverage > 0) | nothing, distance, np.inf)
        return measures


def curves(counts: Counts, group: int, draws: npt.NDArray[Any] | None = None) -> Curves:
    """Return precision, recall and what else the measures are made of in a group.

    Parameters
    ----------
    counts : Counts
    group : int
        Its place in `counts.groups`.
    draws : int array, (draws, n), optional
        How often each protein counts; default one row of ones.
    """
    rows = counts.plain.members[group] > 0
    return _Averages(counts, group, rows)(np.ones((1, len(counts)))[:, rows] if draws is None else draws[:, rows])


def peaks(counts: Counts, group: int) -> dict[str, tuple[float, float]]:
    """Return each measure of a group, and the (lowest) threshold at which it is reached."""
    reached = {}
    for name, (values,) in curves(counts, group).at_thresholds().items():
        place = int(values.argmin() if name == "smin" else values.argmax())
        reached[name] = float(values[place]), round(float(THRESHOLDS[place]), 2)
    return reached


def draw(n: int, folds: int, seed: int) -> npt.NDArray[np.int16]:
    """Return how often each of n proteins is in each resample, (folds, n); see `classification.resamples`."""
    draws = np.empty((folds, n), np.int16)
    for place, counts in enumerate(resamples(n, folds, seed)):
        draws[place] = counts
    return draws


def resample(counts: Counts, group: int, draws: npt.NDArray[np.int16]) -> dict[str, Floats]:
    """Return each measure of a group in resamples.

    Parameters
    ----------
    counts : Counts
    group : int
    draws : int array, (draws, n)
        How often each protein counts; see `draw`.

    Returns
    -------
    dict of str to float64 array, (draws,)
    """
    rows = counts.plain.members[group] > 0
    averages = _Averages(counts, group, rows)
    resampled = {name: np.empty(len(draws)) for name in counts.measures}
    for first in range(0, len(draws), _CHUNK):
        part = slice(first, first + _CHUNK)
        for name, values in averages(draws[part][:, rows]).at_thresholds().items():
            resampled[name][part] = values.min(axis=1) if name == "smin" else values.max(axis=1)
    return resampled


class _Averages:
    """The shares of proteins side by side, so that one matrix product gives the sums of many resamples."""

    def __init__(self, counts: Counts, group: int, rows: npt.NDArray[np.bool_]) -> None:
        parts = [*shares(counts.plain, group, rows)]
        if counts.weighted is not None:
            true = counts.weighted.true[group, rows]
            missed = counts.weighted.members[group, rows, None] - true
            wrong = counts.weighted.predicted[group, rows] - true
            parts += [*shares(counts.weighted, group, rows), missed, wrong, true]
        self.parts = np.concatenate(parts, axis=1)  # (proteins, 3 or 9 parts x 99)

    def __call__(self, draws: npt.NDArray[Any]) -> Curves:
        sums = (draws.astype(np.float64) @ self.parts).reshape(len(draws), -1, len(THRESHOLDS)).swapaxes(0, 1)
        n = draws.sum(axis=1, dtype=np.float64)[:, None]
        plain = ratio(sums[0], sums[1]), ratio(sums[2], n), ratio(sums[1], n)
        if len(sums) == 3:
            return Curves(*plain)
        return Curves(*plain, ratio(sums[3], sums[4]), *(ratio(total, n) for total in sums[5:]))
