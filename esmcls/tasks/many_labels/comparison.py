"""Models of many labels side by side on the same proteins: how far they differ, and how often chance would do that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from esmcls.metrics.cafa_curves import draw, peaks, resample
from esmcls.metrics.classification import Floats, unbiased
from esmcls.metrics.paired import DRAWS, corrected, difference
from esmcls.tasks.many_labels.answers import LabelAnswers
from esmcls.tasks.many_labels.results import Differences

MEASURES: Final = ("fmax", "f1_micro", "f1_macro")


def compare_labels(
    reference: LabelAnswers, others: Sequence[LabelAnswers], *, folds: int = DRAWS, seed: int = 0
) -> list[Differences]:
    """Return how far models are from a reference in each measure, by the bootstrap of `metrics.paired`.

    Holm's correction is over all models of a measure; above 0 is better than the reference.

    Parameters
    ----------
    reference : LabelAnswers
    others : sequence of LabelAnswers
        Of the same proteins.
    folds, seed : int
        Of the bootstrap.

    Raises
    ------
    ValueError
        If two models answered for other proteins or labels.
    """
    for other in others:
        if not np.array_equal(other.counts.plain.members, reference.counts.plain.members):
            raise ValueError("the models answered for other proteins or labels")
    draws = draw(len(reference.counts), folds, seed)
    values, resampled = _measured(reference, draws)
    measured = [_measured(other, draws) for other in others]
    by_model: list[Differences] = [{} for _ in others]
    for name in MEASURES:
        differences = [
            difference(
                of_model[name] - values[name], _unbiased(of_model[name] - values[name], drawn[name] - resampled[name])
            )
            for of_model, drawn in measured
        ]
        for of_model, corrected_difference in zip(by_model, corrected(differences), strict=True):
            of_model[name] = corrected_difference
    return by_model


def _measured(answers: LabelAnswers, draws: npt.NDArray[np.int16]) -> tuple[dict[str, float], dict[str, Floats]]:
    """Return each measure of all proteins, and of each draw."""
    values = {"fmax": peaks(answers.counts, 0)["fmax"][0]} | answers.decided.measures()
    return values, resample(answers.counts, 0, draws) | answers.decided.resampled(draws)


def _unbiased(value: float, resampled: Floats) -> Floats:
    return unbiased({"": value}, resampled[:, None])[:, 0]
