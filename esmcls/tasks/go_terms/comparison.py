"""Models of many labels side by side on the same proteins: how far they differ, and how often chance would do that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from esmcls.metrics.cafa import Counts
from esmcls.metrics.cafa_curves import draw, peaks, resample
from esmcls.metrics.classification import Floats, unbiased
from esmcls.metrics.paired import DRAWS, Difference, corrected, difference
from esmcls.tasks.comparing import Entrant, Setting
from esmcls.tasks.go_terms.answers import TermAnswers
from esmcls.tasks.go_terms.known.knowledge import KINDS
from esmcls.tasks.go_terms.results import Differences, TermRow


def compare_terms(
    reference: Counts, others: Sequence[Counts], *, folds: int = DRAWS, seed: int = 0
) -> list[Differences]:
    """Return how far models are from a reference in each aspect and measure, by the bootstrap of `metrics.paired`.

    Holm's correction is over all models and aspects of a measure. For Fmax a difference above 0 is better than the
    reference, for Smin one below.

    Parameters
    ----------
    reference : Counts
    others : sequence of Counts
        Of the same proteins and terms; see `TermEvaluation.counts`.
    folds, seed : int
        Of the bootstrap.

    Returns
    -------
    list of Differences
        In the order of `others`. Aspects that no protein has a term of are left out, and measures that not all models
        have.

    Raises
    ------
    ValueError
        If two models answered for other proteins or terms.
    """
    for other in others:
        if other.groups != reference.groups or not np.array_equal(other.plain.members, reference.plain.members):
            raise ValueError("the models answered for other proteins or terms")
    draws = draw(len(reference), folds, seed)
    by_model: list[Differences] = [{} for _ in others]
    for group in np.flatnonzero(reference.measured).tolist():
        values, resampled = _measured(reference, group, draws)
        for other, by_aspect in zip(others, by_model, strict=True):
            other_values, other_resampled = _measured(other, group, draws)
            by_aspect[reference.groups[group]] = {
                name: _unbiased_difference(other_values[name] - values[name], other_resampled[name] - resampled[name])
                for name in reference.measures
                if name in other.measures
            }
    return _corrected(by_model)


def _measured(counts: Counts, group: int, draws: npt.NDArray[np.int16]) -> tuple[dict[str, float], dict[str, Floats]]:
    """Return each measure of a group, of all proteins and of each draw."""
    values = {name: value for name, (value, _) in peaks(counts, group).items()}
    return values, resample(counts, group, draws)


def _unbiased_difference(value: float, resampled: Floats) -> Difference:
    return difference(value, unbiased({"": value}, resampled[:, None])[:, 0])


def _corrected(by_model: list[Differences]) -> list[Differences]:
    """Return differences corrected over all models and aspects of each measure."""
    places = [
        (model, aspect, measure)
        for model, by_aspect in enumerate(by_model)
        for aspect, measured in by_aspect.items()
        for measure in measured
    ]
    corrected_by_model: list[Differences] = [{aspect: {} for aspect in by_aspect} for by_aspect in by_model]
    for name in dict.fromkeys(measure for _, _, measure in places):
        of_measure = [(model, aspect) for model, aspect, measure in places if measure == name]
        differences = corrected([by_model[model][aspect][name] for model, aspect in of_measure])
        for (model, aspect), with_p in zip(of_measure, differences, strict=True):
            corrected_by_model[model][aspect][name] = with_p
    return corrected_by_model


def versus(counts: Mapping[str, Counts], reference: str, setting: Setting) -> dict[str, Differences]:
    """Return how far each other model is from one, by their names; nothing where that was not run."""
    if reference not in counts:
        return {}
    others = [name for name in counts if name != reference]
    draws = {} if setting.draws is None else {"folds": setting.draws}
    differences = compare_terms(counts[reference], [counts[name] for name in others], **draws, seed=setting.seed)
    return dict(zip(others, differences, strict=True))


def with_knowledge(
    rows: Sequence[TermRow], entrants: Sequence[Entrant[TermAnswers]], setting: Setting, homology: str
) -> list[TermRow]:
    """Return the rows of models with how they do by what was known of proteins, where that is told.

    Parameters
    ----------
    rows : sequence of TermRow
        The best first.
    entrants : sequence of Entrant
        In the same order.
    setting : Setting
    homology : str
        The name of the model that all are set beside, if it was run.
    """
    news = {entrant.name: entrant.answers.news for entrant in entrants if entrant.answers.news is not None}
    if len(news) < len(rows):
        return list(rows)
    measured = list(rows)
    by_name = {row.name: place for place, row in enumerate(rows)}
    for row in rows:
        measured[by_name[row.name]] = replace(row, by_knowledge=news[row.name].scores(seed=setting.seed))
    for kind in KINDS:
        counts = {name: of_model.of_kind(kind) for name, of_model in news.items()}
        if not any(of_model.measured.any() for of_model in counts.values()):
            continue
        for field, reference in (("known_versus_best", rows[0].name), ("known_versus_homology", homology)):
            for name, differences in versus(counts, reference, setting).items():
                row = measured[by_name[name]]
                measured[by_name[name]] = replace(row, **{field: getattr(row, field) | {kind: differences}})
    return measured
