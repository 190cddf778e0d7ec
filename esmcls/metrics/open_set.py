"""Telling proteins of known families from strangers, which are of none: where to draw a line, and how well it does.

A score is higher for proteins that look like those of a known family; who scores above a threshold is accepted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from esmcls.metrics.calibration import rejection_threshold
from esmcls.types import Indices

Floats = npt.NDArray[np.float64]

RIDGE: Final = 1e-3
"""Of `fit_logistic`, on standardised columns."""
Z: Final = 1.959964
"""Standard deviations to either side of a 95 % interval."""


@dataclass(frozen=True)
class Rate:
    """A share of proteins, with its 95 % interval.

    Parameters
    ----------
    share, low, high : float
    n : int
        Proteins.
    """

    share: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, yes: npt.NDArray[np.bool_], families: Indices) -> Rate:
        """Return the share of rows that are true, by an interval that knows that proteins of a family go together.

        It is Wilson's, on as many proteins as would tell as much if they were drawn one by one: their number over the
        design effect of families (Korn and Graubard 1998, "Confidence intervals for proportions").

        Parameters
        ----------
        yes : bool array, (n,)
        families : int64 array, (n,)

        Examples
        --------
        >>> one_by_one = Rate.of(np.arange(100) < 90, np.arange(100))
        >>> round(one_by_one.low, 3), round(one_by_one.high, 3)
        (0.825, 0.945)
        >>> by_tens = Rate.of(np.arange(100) < 90, np.arange(100) // 10)
        >>> round(by_tens.low, 3), round(by_tens.high, 3)
        (0.577, 0.983)
        """
        n = len(yes)
        if not n:
            return cls(0.0, 0.0, 1.0, 0)
        share = float(yes.mean())
        effective = n / _design_effect(yes.astype(np.float64) - share, families)
        return cls(share, *wilson(share, effective), n)

    def __str__(self) -> str:
        return f"{100 * self.share:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f} %, n = {self.n:,})"


def _design_effect(residuals: Floats, families: Indices) -> float:
    """Return how many times the variance of a mean is what it would be if rows were independent; at least 1."""
    alone = float((residuals**2).sum())
    _, codes = np.unique(families, return_inverse=True)
    count = int(codes.max()) + 1
    if not alone:  # all alike: nothing tells how far families go together, so each counts once
        return len(residuals) / count
    sums = np.bincount(codes, residuals)
    correction = count / (count - 1) if count > 1 else 1.0
    return max(1.0, correction * float((sums**2).sum()) / alone) if count > 1 else float(len(residuals))


def wilson(share: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of n (Wilson 1927).

    Examples
    --------
    >>> [round(bound, 3) for bound in wilson(0.0, 10)]
    [0.0, 0.278]
    """
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def known_threshold(known: Floats, share: float) -> float:
    """Return the highest threshold that accepts at least a share of proteins of known families.

    Examples
    --------
    >>> threshold = known_threshold(np.array([0.1, 0.2, 0.3, 0.4]), 0.75)
    >>> (np.array([0.1, 0.2, 0.3, 0.4]) > threshold).tolist()
    [False, True, True, True]
    """
    wanted = math.ceil(share * len(known) - 1e-9)
    return float(np.nextafter(np.sort(known)[len(known) - wanted], -np.inf))


def threshold_for(known: Floats, strangers: Floats, false_acceptance: float, accept_known: float | None) -> float:
    """Return the threshold of an operating point: by the known where their share is given, else by strangers."""
    if accept_known is not None and len(known):
        return known_threshold(known, accept_known)
    return rejection_threshold(strangers, false_acceptance)


def fit_logistic(columns: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """Return weights (columns + 1,), the last a constant, by which known proteins score higher than strangers.

    Logistic regression in which both sides count the same, however many they are. No weight is negative: each column
    is higher for what is known, so that the score never falls where one of them rises.

    Parameters
    ----------
    columns : float64 array, (n, columns)
    known : bool array, (n,)
    """
    from scipy.optimize import minimize

    means, scales = columns.mean(0), columns.std(0)
    scales[scales == 0] = 1.0
    scaled = np.column_stack(((columns - means) / scales, np.ones(len(columns))))
    sign = np.where(known, 1.0, -1.0)
    share = np.where(known, 0.5 / max(known.sum(), 1), 0.5 / max((~known).sum(), 1))

    def loss(weights: Floats) -> tuple[float, Floats]:
        margins = sign * (scaled @ weights)
        slope = -share * sign / (1 + np.exp(np.minimum(margins, 500)))
        penalty = RIDGE * weights[:-1]
        value = float((share * np.logaddexp(0, -margins)).sum() + 0.5 * (weights[:-1] * penalty).sum())
        return value, scaled.T @ slope + np.append(penalty, 0.0)

    bounds = [(0, None)] * columns.shape[1] + [(None, None)]
    start = np.zeros(columns.shape[1] + 1)
    solution = np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)
    weights = solution[:-1] / scales
    return np.append(weights, solution[-1] - float(weights @ means))


def without(folds: Indices) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
    """Give masks of each fold's rows and of all others."""
    for fold in np.unique(folds):
        yield folds == fold, folds != fold
