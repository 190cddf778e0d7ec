"""Models side by side on the same test proteins: what each reaches, and whether it is worse than the best by chance.

Everything here is a function of answers: the same answers give the same bytes. Timing stands apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from esmcls.metrics.classification import equal_bins
from esmcls.metrics.paired import Difference
from esmcls.metrics.regression import DRAWS, number_intervals, score_numbers, spearman, spearman_differences
from esmcls.tasks.comparing import Entrant
from esmcls.tasks.measured import Behind
from esmcls.tasks.number.answers import NumberAnswers
from esmcls.tasks.number.evaluation import IntervalsReached
from esmcls.tasks.number.results import LengthTier, NumberRow

LEAST: Final = 3
"""Proteins that a correlation is told of."""


def compare_numbers(
    entrants: Sequence[Entrant[NumberAnswers]], *, coverage: float = 0.9, draws: int | None = None, seed: int = 0
) -> list[NumberRow]:
    """Return a row for each model, the best Spearman first.

    Parameters
    ----------
    entrants : sequence of Entrant
        All on the same proteins.
    coverage : float
        That intervals were made for.
    draws, seed : int
        Of the paired bootstrap; the seed is that of intervals, too.

    Raises
    ------
    ValueError
        If two models answered for other proteins.
    """
    truth = entrants[0].answers.truth
    if any(not np.array_equal(entrant.answers.truth, truth) for entrant in entrants):
        raise ValueError("the models answered for other proteins")
    best, *others = sorted(entrants, key=_best_first)
    predictions = [entrant.answers.predicted for entrant in others]
    differences = spearman_differences(truth, best.answers.predicted, predictions, draws=draws or DRAWS, seed=seed)
    return [
        row_of(entrant, coverage, seed, behind)
        for entrant, behind in zip([best, *others], [None, *differences], strict=True)
    ]


def _best_first(entrant: Entrant[NumberAnswers]) -> tuple[float, bool, str]:
    return -spearman(entrant.answers.truth, entrant.answers.predicted), entrant.baseline, entrant.name


def row_of(entrant: Entrant[NumberAnswers], coverage: float, seed: int, behind: Difference | None) -> NumberRow:
    """Return the numbers of a model."""
    answers = entrant.answers
    return NumberRow(
        name=entrant.name,
        head=entrant.head,
        encoder=entrant.encoder,
        baseline=entrant.baseline,
        validation=answers.about["validation"],
        metrics=number_intervals(answers.truth, answers.predicted, seed=seed),
        predicted=[float(f"{value:.6g}") for value in answers.predicted.tolist()],
        folds=[score_numbers(fold.truth, fold.predicted) for fold in entrant.folds],
        lengths=by_length(answers),
        intervals=reached(answers, coverage),
        versus_best=None if behind is None else Behind.of(behind),
        megabytes=answers.about["megabytes"],
        explanation=answers.about.get("explanation", ""),
    )


def by_length(answers: NumberAnswers) -> list[LengthTier]:
    """Return what is reached by residues of the protein, in bins of about as many proteins."""
    names, places = equal_bins(answers.lengths)
    tiers = []
    for place, name in enumerate(names):
        here = places == place
        truth, predicted = answers.truth[here], answers.predicted[here]
        ordered = spearman(truth, predicted) if len(truth) >= LEAST else None
        mae = float(np.abs(predicted - truth).mean()) if len(truth) else None
        tiers.append(LengthTier(name, len(truth), ordered, mae))
    return tiers


def reached(answers: NumberAnswers, coverage: float) -> IntervalsReached | None:
    """Return what intervals of a coverage reach; None without calibration rows."""
    if not len(answers.half_widths):
        return None
    within = np.abs(answers.predicted - answers.truth) <= answers.half_widths
    rows = int(answers.about["calibration_rows"])
    return IntervalsReached(coverage, float(within.mean()), float(answers.half_widths.mean()), rows)
