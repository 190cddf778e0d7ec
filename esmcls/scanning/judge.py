"""How sure one can be of a window: log odds by what it is recognised by, a probability, and what chance would give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from esmcls.errors import UsageError
from esmcls.types import Floats

LEAST_CHANCE: Final = 5
"""Windows of shuffled proteins by which a tail is measured, at least."""


@dataclass(frozen=True)
class Judge:
    """A logistic regression on the measures of a window, its answers calibrated, and the tail of chance.

    Parameters
    ----------
    centre, spread, weights : tuples of float, (measures,)
        The measures are standardised first.
    bias : float
    slope, offset : float
        The log odds of a domain that was chosen are `slope * score + offset`.
    rate, location, scale : float
        A residue of shuffled proteins begins `rate` windows of a score of `location` or more, and fewer by e for each
        `scale` more: the tail of the best scores of chance is exponential (Karlin and Altschul 1990).
    """

    centre: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    slope: float = 1.0
    offset: float = 0.0
    rate: float = 0.0
    location: float = 0.0
    scale: float = 1.0

    def scores(self, measures: Floats) -> Floats:
        """Return how good windows are, log odds that are not calibrated yet, (windows,)."""
        standard = (measures - np.array(self.centre)) / np.array(self.spread)
        return np.asarray(standard @ np.array(self.weights) + self.bias)

    def log_odds(self, scores: Floats) -> Floats:
        """Return calibrated log odds of scores."""
        return np.asarray(self.slope * scores + self.offset)

    def probabilities(self, scores: Floats) -> Floats:
        """Return how probable it is that windows are domains."""
        return np.asarray(expit(self.log_odds(scores)))

    def by_chance(self, score: float, residues: int) -> float:
        """Return how many windows of that score or more shuffled proteins of so many residues have."""
        return float(self.rate * residues * np.exp(-max(score - self.location, 0.0) / self.scale))


def fit_scores(measures: Floats, right: npt.NDArray[np.bool_]) -> Judge:
    """Fit the regression on windows that are domains, or are not.

    Raises
    ------
    UsageError
        If none is one.
    """
    from sklearn.linear_model import LogisticRegression

    if not right.any():
        fix = "give more domains a family, more families, or another encoder"
        raise UsageError(f"no domain of the validation part was recognised in a chain of several; {fix}")
    rows = np.concatenate([measures, np.zeros((1, measures.shape[1]))])  # of nothing: never a domain
    truth = np.concatenate([right, [False]])
    centre, spread = rows.mean(0), rows.std(0) + 1e-9
    model = LogisticRegression(C=1.0, max_iter=1000).fit((rows - centre) / spread, truth)
    weights = tuple(model.coef_[0].tolist())
    return Judge(tuple(centre.tolist()), tuple(spread.tolist()), weights, float(model.intercept_[0]))


def calibration(scores: Floats, right: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and offset for the log odds of chosen windows, by Platt's targets (1999), which are never 0 or 1.

    Examples
    --------
    >>> slope, offset = calibration(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([False, False, True, True]))
    >>> slope > 0, abs(offset) < 1e-6
    (True, True)
    """
    from scipy.optimize import minimize

    n_right = int(right.sum())
    target = np.where(right, (n_right + 1) / (n_right + 2), 1 / (len(right) - n_right + 2))

    def loss(parameters: Floats) -> float:
        logits = np.exp(parameters[0]) * scores + parameters[1]
        return float((np.logaddexp(0, logits) - target * logits).sum() + 0.01 * parameters[0] ** 2)

    slope, offset = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return float(np.exp(slope)), float(offset)


def tail(scores: Floats, residues: int) -> tuple[float, float, float]:
    """Return rate, location and scale of the better half of the scores that chance gave in so many residues."""
    if len(scores) < LEAST_CHANCE:
        return (len(scores) + 1) / max(residues, 1), float(scores.min()) if len(scores) else 0.0, 1.0
    location = float(np.median(scores))
    above = scores[scores >= location]
    return len(above) / residues, location, float(max((above - location).mean(), 1e-6))
