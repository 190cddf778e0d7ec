"""What an answer of terms is worth: the F that it is expected to reach, and below which F no term is known.

    expected = mean over aspects of 2 · Σ p(predicted) / (predicted + Σ p(all))

is what F would be on average, if the probabilities were true: they are near 0 where nothing like the protein was seen,
where members disagree and where only frequent terms are likely. A line from it to F, fitted on the validation rows,
takes out what the probabilities of a head overstate.

trust.json      of a model folder; not there where the validation rows were too few
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from esmcls.errors import ModelError
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import group_codes
from esmcls.metrics.calibration import auroc
from esmcls.plain_values import read_as, write_json
from esmcls.types import Indices, Probabilities

TRUST: Final = "trust.json"
LEAST: Final = np.float32(0.01)
"""Probabilities below are left out: there are thousands of them, of terms that no protein like this one has."""
GOOD: Final = 0.5
"""An answer that reaches this F is worth something."""
KEPT: Final = 0.95
"""Share of these that are accepted."""
FEW: Final = 20
"""Validation rows of either side, good answers and others, that it takes to draw a line between them."""

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def expected_f(scores: Probabilities, predicted: Flags, place: Indices) -> Floats:
    """Return the F that rows would reach on average, if the probabilities were true: (n,), from 0 to 1.

    Parameters
    ----------
    scores : float32 array, (n, classes)
    predicted : bool array, (n, classes)
    place : int64 array, (classes,)
        The aspect of each class.

    Examples
    --------
    >>> scores = np.array([[0.9, 0.5, 0.1]], dtype=np.float32)
    >>> expected_f(scores, scores >= 0.5, np.zeros(3, dtype=np.int64)).round(3).tolist()
    [0.8]
    """
    probable = np.where(scores >= LEAST, scores, 0)
    return _mean_f(
        2 * _by_aspect(probable * predicted, place), _by_aspect(predicted, place) + _by_aspect(probable, place)
    )


def reached_f(truth: Flags, predicted: Flags, place: Indices) -> Floats:
    """Return the F that rows do reach, (n,): the mean over the aspects in which a term of them is known.

    Examples
    --------
    >>> truth, predicted = np.array([[True, True, False, True]]), np.array([[True, False, False, True]])
    >>> reached_f(truth, predicted, np.array([0, 0, 1, 1])).round(3).tolist()
    [0.833]
    """
    known = _by_aspect(truth, place)
    right = 2 * _by_aspect(truth & predicted, place) * (known > 0)
    return _mean_f(right, (known + _by_aspect(predicted, place)) * (known > 0))


def _by_aspect(values: npt.NDArray[np.floating] | Flags, place: Indices) -> Floats:
    """Return the sums of columns over aspects, (n, aspects)."""
    columns = [values[:, place == aspect].sum(1, dtype=np.float64) for aspect in range(int(place.max(initial=-1)) + 1)]
    return np.stack(columns, 1) if columns else np.zeros((len(values), 0))


def _mean_f(twice_right: Floats, sizes: Floats) -> Floats:
    """Return the mean over the aspects that have a size, (n,); 0 where none has."""
    shares = np.divide(twice_right, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    return np.asarray(shares.sum(1) / np.maximum((sizes > 0).sum(1), 1))


@dataclass(frozen=True)
class Trust:
    """From the probabilities of a protein's terms to what they are worth.

    Parameters
    ----------
    slope, shift : float
        From `expected_f` to the F that validation rows reach.
    threshold : float
        An answer is accepted from this F on.
    good : int
        Validation rows whose answer reaches an F of `GOOD`; `KEPT` of them are accepted.
    others : int
        The others.
    told : float
        Share of these that are rejected.
    auroc : float
        How often a good answer is trusted more than another.
    """

    slope: float
    shift: float
    threshold: float
    good: int
    others: int
    told: float
    auroc: float

    @classmethod
    def of(cls, expected: Floats, reached: Floats) -> Trust | None:
        """Fit to validation rows, both (n,); none where there are too few, or nothing tells good answers from others.

        Examples
        --------
        >>> expected = np.linspace(0.1, 0.9, 100)
        >>> trust = Trust.of(expected, expected - 0.1)
        >>> trust.slope, trust.shift, trust.good, trust.told, trust.auroc
        (1.0, -0.1, 38, 1.0, 1.0)
        """
        good = reached >= GOOD
        if min(good.sum(), (~good).sum()) < FEW:
            return None
        slope, shift = np.polyfit(expected, reached, 1).round(6).tolist()
        if not slope > 0:
            return None
        line = cls(slope, shift, 0.0, int(good.sum()), int((~good).sum()), 0.0, auroc(expected[good], expected[~good]))
        worth = line.worth(expected)
        threshold = float(np.quantile(worth[good], 1 - KEPT))
        rejected = float((worth[~good] < threshold).mean())
        return cls(slope, shift, threshold, line.good, line.others, rejected, line.auroc)

    @classmethod
    def measure(cls, answers: Iterable[tuple[slice, Probabilities, Flags]], truth: LabelSets) -> Trust | None:
        """Fit to validation rows, given in blocks of rows, scores and what is predicted."""
        _, place = group_codes(truth)
        expected = np.zeros(len(truth))
        reached = np.zeros(len(truth))
        for rows, scores, predicted in answers:
            expected[rows] = expected_f(scores, predicted, place)
            reached[rows] = reached_f(truth.dense(rows), predicted, place)
        known = truth.sizes() > 0
        return cls.of(expected[known], reached[known])

    def worth(self, expected: Floats) -> Floats:
        """Return the F that answers are expected to reach, from 0 to 1."""
        return np.asarray(np.clip(self.slope * expected + self.shift, 0, 1))

    def line(self, noun: str = "term") -> str:
        """Say what it reaches, for people; the noun is what a class is called."""
        rejected = f"{100 * self.told:.0f} % of the {self.others:,} others rejected"
        return (
            f"no {noun} known: rejected below an expected F of {self.threshold:.2f}; on validation {100 * KEPT:.0f} % "
            f"of {self.good:,} answers with F ≥ {GOOD:g} accepted, {rejected} (AUROC {self.auroc:.3f})"
        )

    def save(self, folder: Path) -> None:
        """Write `trust.json`."""
        write_json(folder / TRUST, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Trust | None:
        """Read what `save` wrote, if it did.

        Raises
        ------
        ModelError
            If the file is damaged.
        """
        path = folder / TRUST
        return read_as(path, cls, ModelError, "fit again") if path.is_file() else None
