"""Models on the same proteins: how far each is from a reference, and how often chance alone would do that.

Proteins are drawn anew, and all models answer for the same draw (paired bootstrap). p is two-sided: twice the share of
draws in which the difference has the other sign or none, and never below 2 / (draws + 1). Holm's correction makes the
chance that any of several differences is called one without being so at most p_holm.

References
----------
Efron & Tibshirani 1993, chapter 16; Holm 1979, Scand. J. Statist. 6:65.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from esmcls.metrics.classification import Floats, resamples

DRAWS: Final = 10_000
"""Of a paired bootstrap: no p-value is below 2 / (draws + 1)."""


@dataclass(frozen=True)
class Difference:
    """A model's measure less the reference's, with its 95 % interval; p is two-sided, p_holm corrected."""

    value: float
    low: float
    high: float
    p: float
    p_holm: float


def difference(value: float, resampled: Floats) -> Difference:
    """Return a difference with its interval and its p, not corrected yet.

    Parameters
    ----------
    value : float
        Of all proteins.
    resampled : float64 array, (draws,)
        Of each draw.

    Examples
    --------
    >>> difference(0.5, np.array([0.2, 0.4, 0.6, -0.1]))
    Difference(value=0.5, low=-0.0775, high=0.585, p=0.8, p_holm=0.8)
    """
    low, high = np.percentile(resampled, [2.5, 97.5])
    other_way = min(np.count_nonzero(resampled >= 0), np.count_nonzero(resampled <= 0))
    p = min(1.0, float(2 * (other_way + 1) / (len(resampled) + 1)))
    return Difference(value, float(low), float(high), p, p)


def accuracy_differences(
    reference: npt.NDArray[np.bool_],
    others: Sequence[npt.NDArray[np.bool_]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Difference]:
    """Return how far the accuracies of models are from a reference's, corrected for their number.

    Parameters
    ----------
    reference : bool array, (n,)
        Which proteins it is right on.
    others : sequence of bool arrays, (n,)
    draws, seed : int
        Of the bootstrap.
    """
    n = len(reference)
    gaps = np.array([right.astype(np.int64) - reference for right in others], dtype=np.float64).reshape(-1, n)
    resampled = np.empty((len(others), draws))
    for draw, counts in enumerate(resamples(n, draws, seed)):
        resampled[:, draw] = gaps @ counts / n
    return corrected([difference(float(gap.mean()), drawn) for gap, drawn in zip(gaps, resampled, strict=True)])


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """Return differences with p_holm corrected for their number, in their order."""
    p_holm = holm(np.array([difference.p for difference in differences], dtype=np.float64))
    return [replace(difference, p_holm=p) for difference, p in zip(differences, p_holm.tolist(), strict=True)]


def holm(p: Floats) -> Floats:
    """Return p-values corrected for their number, in their order.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    p_holm = np.empty(len(p))
    p_holm[order] = np.minimum(steps, 1.0)
    return p_holm
