"""How often chance alone aligns as well: the tail of the best scores of shuffled proteins.

Beyond a high threshold the best scores of searches with proteins that have no relative fall off exponentially (peaks
over a threshold: Pickands 1975, Ann. Statist. 3, 119). The bulk of them says little about that tail: a Gumbel
distribution fitted to all of them, as for scores of sequences, finds a third of the hits that it promises. Scores are
those by length; what is left of the length is a line in its logarithm. A search is one among all training rows, so its
tail is an E-value as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from esmcls.errors import ModelError
from esmcls.heads.saved_tensors import AGAIN
from esmcls.types import Indices

Numbers = npt.NDArray[np.floating]

TAIL = 0.2
"""Share of the decoys that the tail is fitted to."""
LEAST_SPREAD = 1e-3
"""Of best scores, where the decoys differ less."""
MOST_EXPONENT = 700.0
"""What `exp` can hold."""


@dataclass(frozen=True)
class Significance:
    """The tail of the best score of a search.

    Parameters
    ----------
    location : float
        The score of E-value 1, of a protein of one residue.
    slope : float
        What it gains with the natural logarithm of the residues.
    spread : float
        What a score rises by, where the E-value falls by a factor of e.

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
        """Fit to the best scores of searches with decoys of these lengths, both (n,)."""
        logs = np.log(np.maximum(lengths, 1))
        slope = float(np.polyfit(logs, best, 1)[0]) if np.ptp(logs) else 0.0
        rest = best - slope * logs
        threshold = float(np.quantile(rest, 1 - TAIL))
        above = rest[rest > threshold] - threshold
        spread = max(float(above.mean()) if len(above) else 0.0, LEAST_SPREAD)
        return cls(threshold + spread * float(np.log(TAIL)), slope, spread)

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
            raise ModelError(path, "a tail of scores that is none", AGAIN)
        return cls(*numbers.tolist())

    def excess(self, scores: Numbers, lengths: Indices) -> Numbers:
        """Return how many spreads scores lie above the location for proteins of these lengths."""
        return (scores - self.location - self.slope * np.log(np.maximum(lengths, 1))) / self.spread

    def evalues(self, scores: Numbers, lengths: Indices) -> Numbers:
        """Return how many training rows a shuffled protein as long as this meets with such a score or a better one."""
        return np.exp(np.clip(-self.excess(scores, lengths), -MOST_EXPONENT, MOST_EXPONENT))
