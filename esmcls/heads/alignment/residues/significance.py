"""How often chance alone aligns as well: an extreme-value distribution, fitted on shuffled proteins.

Of a search with a protein that has no relative, the best score follows a Gumbel distribution (Karlin and Altschul 1990,
Proc. Natl. Acad. Sci. USA 87, 2264), here of scores by length, whose location falls with the logarithm of the protein's
length. The distribution is that of a whole search among the training rows, so its tail is an E-value as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from esmcls.errors import ModelError
from esmcls.heads.saved_tensors import AGAIN
from esmcls.types import Indices

Numbers = npt.NDArray[np.floating]

LEAST_SPREAD = 1e-3
"""Of best scores, where the decoys differ less."""
MOST_EXPONENT = 700.0
"""What `exp` can hold."""


@dataclass(frozen=True)
class Significance:
    """The Gumbel distribution of the best score of a search.

    Parameters
    ----------
    location : float
        Of a protein of one residue.
    slope : float
        What the location gains with the natural logarithm of the residues.
    spread : float

    Examples
    --------
    >>> significance = Significance(location=1.5, slope=-0.1, spread=0.1)
    >>> significance.evalues(np.array([1.5, 2.0]), np.array([1, 1])).round(4).tolist()
    [1.0, 0.0067]
    """

    location: float
    slope: float
    spread: float

    @classmethod
    def of(cls, best: Numbers, lengths: Indices) -> Significance:
        """Fit by maximum likelihood to the best scores of searches with decoys of these lengths, both (n,)."""
        logs = np.log(np.maximum(lengths, 1))
        if not np.ptp(logs):
            logs = np.zeros(len(best))
        spread = max(float(np.std(best)) * np.sqrt(6) / np.pi, LEAST_SPREAD)
        start = np.array([float(np.mean(best)) - np.euler_gamma * spread, 0.0, np.log(spread)])

        def loss(numbers: Numbers) -> float:
            location, slope, log_spread = numbers
            z = (best - location - slope * logs) / np.exp(log_spread)
            return float(np.mean(log_spread + z + np.exp(np.minimum(-z, MOST_EXPONENT))))

        if spread > LEAST_SPREAD:
            start = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 2000}).x
        location, slope, log_spread = start.tolist()
        return cls(location, slope, max(float(np.exp(log_spread)), LEAST_SPREAD))

    @property
    def numbers(self) -> tuple[float, float, float]:
        """The three, as they are saved."""
        return self.location, self.slope, self.spread

    @classmethod
    def of_numbers(cls, path: Path, numbers: Numbers) -> Significance:
        """Return what `numbers` gave, read from a file.

        Raises
        ------
        ModelError
            If these are none.
        """
        if len(numbers) != 3 or not numbers[2] > 0:
            raise ModelError(path, "an extreme-value distribution that is none", AGAIN)
        return cls(*numbers.tolist())

    def excess(self, scores: Numbers, lengths: Indices) -> Numbers:
        """Return how many spreads scores lie above the location for proteins of these lengths."""
        return (scores - self.location - self.slope * np.log(np.maximum(lengths, 1))) / self.spread

    def evalues(self, scores: Numbers, lengths: Indices) -> Numbers:
        """Return how many training rows a shuffled protein as long as this meets with such a score or a better one."""
        return np.exp(np.clip(-self.excess(scores, lengths), -MOST_EXPONENT, MOST_EXPONENT))
