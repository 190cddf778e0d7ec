"""What a model says of the test proteins, kept as arrays: all that a comparison needs of it, without the model."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.heads.base import NumberHead
from esmcls.labels.numbers import Numbers
from esmcls.metrics.regression import MEASURES, spearman
from esmcls.tasks.fitted import FittedModel
from esmcls.tasks.folds import mean_facts
from esmcls.tasks.kept_answers import Kept, load_answers, save_answers
from esmcls.tasks.number.findings import NumberFindings
from esmcls.types import Floats, Indices


@dataclass(frozen=True, eq=False)
class NumberAnswers:
    """A model's answers for n proteins.

    Parameters
    ----------
    truth, predicted : float64 arrays, (n,)
    half_widths : float64 array, (n,)
        How far the interval of the stated coverage reaches to both sides; empty without calibration rows.
    lengths : int64 array, (n,)
        Residues.
    seconds : float64 array, (folds, 2)
        Of fitting, NaN where that is not known, and of predicting with vectors at hand.
    about : dict
        validation: the measures there; megabytes; explanation: see `ExplainsItself`; calibration_rows.
    """

    truth: Floats
    predicted: Floats
    half_widths: Floats
    lengths: Indices
    seconds: Floats
    about: dict[str, Any]

    @property
    def headline(self) -> str:
        """Its main measure, for a line of progress."""
        return f"Spearman {spearman(self.truth, self.predicted):.3f}"

    def timing(self) -> tuple[float | None, int | None]:
        """Return the seconds of fitting and the proteins a second of predicting, where they are known."""
        fit, predict = self.seconds.sum(0).tolist()
        speed = round(len(self.truth) / predict) if predict else None
        return None if math.isnan(fit) else round(fit, 2), speed

    def save(self, path: Path, key: str) -> None:
        """Write a safetensors file, whole or not at all, and the seconds beside; `key` says what the answers are of."""
        seconds = [[None if math.isnan(value) else value for value in row] for row in self.seconds.tolist()]
        arrays = {name: getattr(self, name) for name in _KEPT}
        save_answers(path, key, arrays, seconds, about=self.about)

    @classmethod
    def load(cls, path: Path, key: str) -> NumberAnswers | None:
        """Read what `save` wrote; None where there is no file, or one of another key."""
        return load_answers(path, key, _KEPT, cls._of)

    @classmethod
    def _of(cls, stored: Kept) -> NumberAnswers:
        return cls(**stored.arrays, seconds=np.array(stored.seconds, np.float64), about=stored.facts["about"])

    @classmethod
    def joined(cls, folds: Sequence[NumberAnswers]) -> NumberAnswers:
        """Put the answers of folds one after another; what is told about them is averaged."""
        if len(folds) == 1:
            return folds[0]
        arrays = {name: np.concatenate([getattr(fold, name) for fold in folds]) for name in _ARRAYS}
        return cls(**arrays, about=mean_facts([fold.about for fold in folds]))


_ARRAYS: Final = tuple(field.name for field in fields(NumberAnswers) if field.name != "about")
_KEPT: Final = tuple(name for name in _ARRAYS if name != "seconds")


@dataclass(frozen=True)
class NumberQuestions:
    """Who is asked about: the test proteins.

    Parameters
    ----------
    known, unseen : Dataset
        Nobody is unseen: there are no families to hold out.
    coverage : float, optional
        Of the intervals; None where none are asked for.
    """

    known: Dataset
    unseen: Dataset
    coverage: float | None

    def ask(
        self,
        model: FittedModel[NumberHead, NumberFindings],
        x: Features,
        unseen: Features,
        fit_seconds: float | None,
        about: dict[str, Any],
    ) -> NumberAnswers:
        """Ask a model about all of them; see `esmcls.tasks.comparing.Questions`."""
        if x.width and x.spec is not None:
            x.vectors(x.spec.pooled[0])  # read before it is timed
        began = time.perf_counter()
        predicted = model.head.predict(x)
        seconds = time.perf_counter() - began
        fitting = math.nan if fit_seconds is None else fit_seconds
        shown = {name: about["validation"].get(name, 0.0) for name in MEASURES}
        rows = len(model.findings.errors)
        return self.plain(
            predicted, model.findings, (fitting, seconds), about | {"validation": shown, "calibration_rows": rows}
        )

    def plain(
        self, predicted: Floats, findings: NumberFindings, seconds: tuple[float, float], about: dict[str, Any]
    ) -> NumberAnswers:
        """Return the answers, with intervals where calibration rows are enough for the coverage."""
        widths = np.zeros(0)
        if self.coverage is not None and findings.enough_for(self.coverage):
            widths = np.full(len(predicted), findings.half_width(self.coverage))
        return NumberAnswers(
            truth=Numbers.from_texts(self.known.labels).values,
            predicted=predicted,
            half_widths=widths,
            lengths=np.fromiter(map(len, self.known.sequences), dtype=np.int64, count=len(self.known)),
            seconds=np.array([seconds]),
            about=about,
        )

    def without_model(self, train: Dataset) -> dict[str, NumberAnswers]:
        """Return nothing: the mean is a head."""
        return {}
