"""How often predictions of a confidence are right, in bins that hold about as many proteins each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esmcls.metrics.classification import Floats
from esmcls.metrics.open_set import wilson
from esmcls.types import Indices


@dataclass(frozen=True)
class EqualBins:
    """How often predictions of a confidence are right, in bins of about as many rows each, the least sure first.

    Parameters
    ----------
    counts : int64 array, (bins,)
        Rows; those of equal confidence share a bin.
    confidence, accuracy : float64 arrays, (bins,)
        Mean confidence, and the share of right answers.
    low, high : float64 arrays, (bins,)
        Ends of the share's 95 % interval (Wilson's).
    """

    counts: Indices
    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats


def reliability_in_equal_bins(
    confidence: npt.NDArray[np.floating], correct: npt.NDArray[np.bool_], bins: int = 10
) -> EqualBins:
    """Return the reliability curve of the most probable classes in bins of equal counts; both arrays (n,).

    Examples
    --------
    >>> found = reliability_in_equal_bins(np.array([0.9, 0.5, 0.5, 0.8]), np.array([True, False, True, True]), 2)
    >>> found.counts.tolist(), found.accuracy.tolist(), found.low.round(2).tolist(), found.high.round(2).tolist()
    ([2, 2], [0.5, 1.0], [0.09, 0.34], [0.91, 1.0])
    """
    ordered = np.sort(confidence)
    firsts = np.unique(ordered[[len(ordered) * place // bins for place in range(bins)]] if len(ordered) else ordered)
    places = np.searchsorted(firsts, confidence, side="right") - 1
    counts = np.bincount(places, minlength=len(firsts)).astype(np.int64)
    mean, share = (np.bincount(places, values, len(firsts)) / counts for values in (confidence, correct))
    ends = [wilson(float(right), float(n)) for right, n in zip(share, counts, strict=True)]
    low, high = np.array(ends, dtype=np.float64).reshape(-1, 2).T
    return EqualBins(counts, mean, share, low, high)
