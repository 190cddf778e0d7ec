"""How far to trust a probability: temperature, reliability, sets with a stated coverage, and strangers.

All of it is fitted on rows that chose and trained nothing: a temperature on validation, a set's threshold on
calibration rows, the threshold of rejection on families that training never saw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from esmcls.errors import UsageError
from esmcls.metrics.classification import Floats
from esmcls.types import Indices, Probabilities

if TYPE_CHECKING:
    from torch import Tensor

Block: TypeAlias = "tuple[Tensor, Indices]"
"""Logits (rows, classes) and the class codes (rows,) of the same rows; -1 for a class the head does not know."""

TEMPERATURES = (0.02, 50.0)


def fit_temperature(blocks: Callable[[], Iterable[Block]]) -> float:
    """Return what logits are to be divided by so that true classes are most probable.

    Parameters
    ----------
    blocks : callable
        Gives the validation rows, in blocks, as often as it is called; no (n, classes) array is ever held.

    Returns
    -------
    float
        In `TEMPERATURES`; above 1 where the head was too sure of itself.

    Raises
    ------
    UsageError
        If no row is of a class that the head knows.

    References
    ----------
    Guo et al. 2017, arXiv:1706.04599.
    """
    import torch
    from scipy.optimize import minimize_scalar
    from torch.nn import functional as F

    def surprise(log_temperature: float) -> float:
        total = seen = 0.0
        for logits, codes in blocks():
            truth = torch.from_numpy(codes).to(logits.device)
            scaled = logits / math.exp(log_temperature)
            total += float(F.cross_entropy(scaled, truth, ignore_index=-1, reduction="sum"))
            seen += int((codes >= 0).sum())
        if not seen:
            raise UsageError("no validation row is of a known class; a temperature needs some")
        return total / seen

    low, high = map(math.log, TEMPERATURES)
    least = minimize_scalar(surprise, bounds=(low, high), method="bounded", options={"xatol": 1e-3})
    return float(math.exp(least.x))


@dataclass(frozen=True)
class Reliability:
    """How often predictions of a confidence are right.

    Parameters
    ----------
    counts : int64 array, (bins,)
        Rows of each bin of equal width from 0 to 1.
    confidence, accuracy : float64 arrays, (bins,)
        Mean confidence and share of right answers of a bin's rows; NaN where there are none.
    """

    counts: Indices
    confidence: Floats
    accuracy: Floats

    @property
    def expected_error(self) -> float:
        """Expected calibration error: the mean distance of confidence and accuracy over rows."""
        filled = self.counts > 0
        gaps = np.abs(self.confidence - self.accuracy)[filled]
        return float((gaps * self.counts[filled]).sum() / max(1, self.counts.sum()))


def reliability(confidence: npt.NDArray[np.floating], correct: npt.NDArray[np.bool_], bins: int = 15) -> Reliability:
    """Return the reliability curve of the most probable classes; both arrays (n,).

    References
    ----------
    Naeini et al. 2015, AAAI 29:2901 (expected calibration error).
    """
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)  # a bin holds its upper edge
    counts = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(places, weights=values, minlength=bins) / counts for values in (confidence, correct)]
    return Reliability(counts, *means)


def conformal_threshold(true_probabilities: npt.NDArray[np.floating], coverage: float) -> float:
    """Return the least probability at which a class enters the set, so that sets hold the true class with `coverage`.

    The promise holds over draws of calibration and new rows from one source; it is not one for every class.

    Parameters
    ----------
    true_probabilities : float array, (n,)
        Probability of the true class of each calibration row; 0 for a class that the head does not know.
    coverage : float
        In (0, 1).

    Returns
    -------
    float
        0 where there are too few rows for the coverage: all classes enter.

    Raises
    ------
    UsageError
        If the coverage is not between 0 and 1.

    References
    ----------
    Sadinle et al. 2019, doi:10.1080/01621459.2017.1395341; Vovk et al. 2005, chapter 2.

    Examples
    --------
    >>> conformal_threshold(np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]), 0.8)
    0.2
    """
    if not 0 < coverage < 1:
        raise UsageError(f"coverage {coverage} is not between 0 and 1; give one such as 0.95")
    rank = math.floor((len(true_probabilities) + 1) * (1 - coverage) + 1e-9)  # of the ascending probabilities, from 1
    return float(np.sort(true_probabilities)[rank - 1]) if rank >= 1 else 0.0


def conformal_sets(probabilities: Probabilities, threshold: float) -> list[Indices]:
    """Return the class codes of each row's set, the most probable first; the first class is always in it.

    Examples
    --------
    >>> [codes.tolist() for codes in conformal_sets(np.array([[0.1, 0.6, 0.3], [0.9, 0.1, 0.0]]), 0.25)]
    [[1, 2], [0]]
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sizes = np.maximum((probabilities >= threshold).sum(1), 1)
    return [row[:size].astype(np.int64) for row, size in zip(order, sizes, strict=True)]


def rejection_threshold(strangers: npt.NDArray[np.floating], false_acceptance: float) -> float:
    """Return the score above which a protein is accepted as of a known family.

    Parameters
    ----------
    strangers : float array, (n,)
        Scores (higher: nearer to a known family) of strangers: proteins of families that training never saw.
    false_acceptance : float
        Share of such proteins that may be accepted at most, in [0, 1).

    Returns
    -------
    float
        A score is accepted if it is greater.

    Raises
    ------
    UsageError
        If there are no such proteins, or the share is out of range.

    Examples
    --------
    >>> rejection_threshold(np.array([0.1, 0.2, 0.3, 0.4]), 0.25)
    0.3
    """
    if not 0 <= false_acceptance < 1:
        raise UsageError(f"false acceptance {false_acceptance} is not in [0, 1); give one such as 0.05")
    if not len(strangers):
        raise UsageError("no strangers; hold families out: --hold-out-families 10%")
    ordered = np.sort(strangers)[::-1]
    return float(ordered[math.floor(false_acceptance * len(ordered) + 1e-9)])


def auroc(known: npt.NDArray[np.floating], strangers: npt.NDArray[np.floating]) -> float:
    """Return how often a known family's protein scores above a stranger, ties counting half (area under the ROC).

    Examples
    --------
    >>> auroc(np.array([0.9, 0.5]), np.array([0.5, 0.1]))
    0.875
    """
    below = np.searchsorted(np.sort(strangers), known, "left") + np.searchsorted(np.sort(strangers), known, "right")
    return float(below.mean() / 2 / len(strangers))


def most_coverage(unreachable: float, n: int) -> float:
    """Return the largest coverage that sets can be promised to have, 0 where none can; see `risk_threshold`.

    Parameters
    ----------
    unreachable : float
        What rows leave out whatever the threshold: the sum over them, each from 0 to 1.
    n : int
        Calibration rows.

    Examples
    --------
    >>> most_coverage(0.0, 19), most_coverage(3.0, 99), most_coverage(0.0, 0)
    (0.95, 0.96, 0.0)
    """
    return max(0.0, (n - unreachable) / (n + 1))


def risk_threshold(scores: npt.NDArray[np.floating], shares: Floats, n: int, coverage: float) -> float:
    """Return the highest threshold by which a new row leaves out no more than 1 - coverage of what it has, on average.

    By conformal risk control: a row loses the shares of what scores below the threshold, 1 at most, and n rows may
    lose (n + 1) (1 - coverage) - 1 together. Not a number where even a threshold above 0 lets them lose more.

    Parameters
    ----------
    scores : array, (m,)
        Of all that n calibration rows have; 0 of what no set can hold.
    shares : float64 array, (m,)
        What each is of its row; those of a row add up to 1.
    n : int
    coverage : float
        In (0, 1).

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei & Schuster 2022, arXiv:2208.02814, theorem 1.

    Examples
    --------
    >>> scores, shares = np.array([0.9, 0.2, 0.8, 0.7, 0.6]), np.array([0.5, 0.5, 1.0, 1.0, 1.0])
    >>> [risk_threshold(scores, shares, 4, coverage) for coverage in (0.7, 0.6, 0.5, 0.9)]
    [0.6, 0.6, 0.7, nan]
    """
    budget = (n + 1) * (1 - coverage) - 1 + 1e-9
    order = np.argsort(scores, kind="stable")
    values, lost = scores[order], np.concatenate([[0.0], np.cumsum(shares[order])])
    places = np.searchsorted(values, values, side="left")  # of equals none is lost alone
    held = values[(lost[places] <= budget) & (values > 0)]
    return float(held.max()) if len(held) else math.nan
