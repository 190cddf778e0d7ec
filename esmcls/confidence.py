"""What a fitted model knows of its own doubts: measured once, kept beside the head, used at every prediction.

confidence.json (format 1) holds the probability of the true class of each calibration row, from which sets of any
coverage follow, and the score below which a protein is rejected as of no known family.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from esmcls.calibration import auroc, conformal_threshold, rejection_threshold
from esmcls.errors import UsageError
from esmcls.features import Features
from esmcls.labels import Labels
from esmcls.types import Probabilities

FORMAT: Final = 1
CELLS: Final = 1 << 26
"""Probabilities that are held at a time: 256 MiB."""

Floats = npt.NDArray[np.float64]


class Classifier(Protocol):
    """A fitted head, as far as it is needed here."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    def predict_proba(self, x: Features) -> Probabilities: ...
    def familiarity(self, x: Features) -> Floats: ...


@dataclass(frozen=True)
class Rejection:
    """The threshold of "none of these" and what it reaches.

    Parameters
    ----------
    threshold : float
        A protein is accepted if its familiarity is greater.
    wanted, reached : float
        Share of proteins of unknown families that is accepted: asked for on the families that set the threshold, and
        found on others that training never saw either; None where these have no proteins.
    auroc : float or None
        How often a validation protein is more familiar than one of the latter.
    strangers, checks : int
        Proteins of the families that set the threshold, and of the others.
    """

    threshold: float
    wanted: float
    reached: float | None
    auroc: float | None
    strangers: int
    checks: int


@dataclass(frozen=True)
class Confidence:
    """Calibration and rejection of a model.

    Parameters
    ----------
    true_probabilities : tuple of float
        Of the true class of each calibration row; empty where none was set aside.
    rejection : Rejection or None
        None where no families were held out.
    """

    true_probabilities: tuple[float, ...] = ()
    rejection: Rejection | None = None

    def threshold(self, coverage: float) -> float:
        """Return the least probability at which a class enters the set.

        Raises
        ------
        UsageError
            If there are no or too few calibration rows for the coverage, or it is out of range.
        """
        n = len(self.true_probabilities)
        if not n:
            raise UsageError("this model has no calibration rows for --coverage; fit it with --calibration 10%")
        found = conformal_threshold(np.array(self.true_probabilities), coverage)
        if (n + 1) * (1 - coverage) < 1:
            raise UsageError(
                f"coverage {coverage:g} needs more than {n} calibration rows; fit with more, or ask for less"
            )
        return found

    def held_half(self, coverage: float) -> float:
        """Return the coverage that sets from one half of the calibration rows reach on the other half.

        The halves are every other row, in the order of the data set.
        """
        rows = np.array(self.true_probabilities)
        return float((rows[1::2] >= conformal_threshold(rows[::2], coverage)).mean())

    def to_json(self) -> dict[str, Any]:
        """Return what confidence.json holds."""
        return {"format": FORMAT} | dataclasses.asdict(self) | {"true_probabilities": list(self.true_probabilities)}

    @classmethod
    def from_json(cls, flat: dict[str, Any]) -> Confidence:
        """Read what `to_json` gave; what is missing or unknown raises KeyError or TypeError."""
        rejection = flat["rejection"]
        return cls(tuple(flat["true_probabilities"]), None if rejection is None else Rejection(**rejection))


def blocks(x: Features, n_classes: int) -> Iterator[tuple[slice, Features]]:
    """Give slices of rows, and these rows, as many as may have all their probabilities in memory at a time."""
    size = max(1, CELLS // max(1, n_classes))
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        yield rows, x if len(x) <= size else x.take(rows)


def true_probabilities(head: Classifier, x: Features, labels: Labels) -> Floats:
    """Return the probability of each row's class (n,); 0 where the head does not know it."""
    found = np.zeros(len(x))
    for rows, block in blocks(x, len(head.classes)):
        codes = labels.codes[rows]
        known = np.flatnonzero(codes >= 0)
        found[rows][known] = head.predict_proba(block)[known, codes[known]]
    return found


def reject(head: Classifier, known: Floats, strangers: Features, checks: Features, wanted: float) -> Rejection:
    """Set the threshold on one set of unknown families and measure it on another.

    Parameters
    ----------
    head : Classifier
    known : float array, (n,)
        Familiarity of proteins of known families that were not fitted on when it was asked for; empty for unknown.
    strangers, checks : Features
        Proteins of families that were not fitted on.
    wanted : float
        Share of strangers that may be accepted at most.
    """
    threshold = rejection_threshold(head.familiarity(strangers), wanted)
    scores = head.familiarity(checks)
    area = auroc(known, scores) if len(known) and len(checks) else None
    reached = float((scores > threshold).mean()) if len(checks) else None
    return Rejection(threshold, wanted, reached, area, len(strangers), len(checks))
