"""Models of structures side by side on the same chains: what each reaches, and whether it is worse by chance.

Everything here is a function of answers: the same answers give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from esmcls.errors import UsageError
from esmcls.metrics.classification import Interval, equal_bins
from esmcls.metrics.paired import Difference, corrected, difference
from esmcls.metrics.residues import correlation
from esmcls.structures.distogram import distances
from esmcls.tasks.comparing import Entrant
from esmcls.tasks.measured import Behind
from esmcls.tasks.structure.answers import Drawn, StructureAnswers
from esmcls.tasks.structure.measures import MAIN, MEASURES, intervals_over_chains, mean_of, means
from esmcls.tasks.structure.results import ConfidenceBin, Sample, StructureRow, Tier
from esmcls.types import Floats, Indices, Probabilities

DRAWS: Final = 10_000
"""Of the bootstrap over chains."""
BESIDE: Final = ("lddt", "tm_score")
"""Measures besides the main one whose differences are told."""
DEPTHS: Final = (0, 1, 2, 10, 50)
"""Related training chains from which a new bin begins."""
DEPTH_NAMES: Final = ("none", "1", "2–9", "10–49", "50 and more")
BINS: Final = 10
"""Of confidences."""
GRADES: Final = ("best", "median", "worst")
PIXELS: Final = 128
"""Most rows of a distance map that is drawn."""

Drawings = tuple[dict[str, Interval], dict[str, Floats]]
"""Each measure with its interval, and its means in each draw."""


def compare_structures(
    entrants: Sequence[Entrant[StructureAnswers]],
    *,
    relatives: Indices | None = None,
    seed: int = 0,
    draws: int | None = None,
) -> list[StructureRow]:
    """Return a row for each model, the best P@L first.

    Parameters
    ----------
    entrants : sequence of Entrant
        All on the same chains.
    relatives : int64 array, (chains,), optional
        Training chains that each is related to; -1 where that is not known.
    seed : int
        Of the bootstrap.
    draws : int, optional
        Of the bootstrap.

    Raises
    ------
    ValueError
        If two models answered for other chains.
    UsageError
        If no chain has residues that are far enough apart for a long-range contact.
    """
    first = entrants[0].answers
    if any(entrant.answers.ids != first.ids for entrant in entrants):
        raise ValueError("the models answered for other chains")
    measured = {
        entrant.name: intervals_over_chains(entrant.answers.values, draws=draws or DRAWS, seed=seed)
        for entrant in entrants
    }
    if any(MAIN not in intervals for intervals, _ in measured.values()):
        raise UsageError("no chain to measure on has resolved residues 24 apart, as long-range contacts are")
    reached = {name: intervals[MAIN].value for name, (intervals, _) in measured.items()}
    ordered = sorted(entrants, key=lambda entrant: (-reached[entrant.name], entrant.baseline, entrant.name))
    drawings = [measured[entrant.name] for entrant in ordered]
    behind = {name: _behind_first(drawings, name) for name in (MAIN, *BESIDE)}
    return [
        row_of(
            entrant,
            measured[entrant.name][0],
            {name: differences[row] for name, differences in behind.items()},
            relatives,
        )
        for row, entrant in enumerate(ordered)
    ]


def _behind_first(drawings: Sequence[Drawings], name: str) -> list[Behind | None]:
    """Return how far each is from the first, corrected for their number; None of itself and of what lacks it."""
    values, best = drawings[0]
    compared = [row for row, (others, _) in enumerate(drawings) if row and name in others and name in values]
    differences: list[Difference] = [
        difference(
            drawings[row][0][name].value - values[name].value,
            drawings[row][1][name] - best[name],
        )
        for row in compared
    ]
    behind = dict(zip(compared, map(Behind.of, corrected(differences)), strict=True))
    return [behind.get(row) for row in range(len(drawings))]


def row_of(
    entrant: Entrant[StructureAnswers],
    intervals: dict[str, Interval],
    behind: dict[str, Behind | None],
    relatives: Indices | None = None,
) -> StructureRow:
    """Return the numbers of a model."""
    answers = entrant.answers
    return StructureRow(
        name=entrant.name,
        head=entrant.head,
        encoder=entrant.encoder,
        baseline=entrant.baseline,
        validation=answers.about["validation"],
        megabytes=answers.about["megabytes"],
        explanation=answers.about.get("explanation", ""),
        metrics=intervals,
        versus_best=behind.get(MAIN),
        behind={name: difference for name, difference in behind.items() if name != MAIN and difference is not None},
        folds=[means(fold.values)[MAIN] for fold in entrant.folds],
        lengths=by_length(answers),
        depths=[] if relatives is None else by_depth(answers, relatives),
        confidence=by_confidence(answers.confidence, answers.lddt),
        confidence_r=confidence_r(answers.confidence, answers.lddt),
    )


def by_length(answers: StructureAnswers) -> list[Tier]:
    """Return what is reached by residues of the chain, in bins of about as many chains."""
    names, places = equal_bins(answers.sizes)
    return [_tier(name, answers.values[places == place]) for place, name in enumerate(names)]


def by_depth(answers: StructureAnswers, relatives: Indices) -> list[Tier]:
    """Return what is reached by how many training chains are related, in bins that have chains."""
    places = np.searchsorted(DEPTHS, relatives, side="right") - 1
    there = [place for place in range(len(DEPTHS)) if (places == place).any()]
    return [_tier(DEPTH_NAMES[place], answers.values[places == place]) for place in there]


def _tier(name: str, values: Floats) -> Tier:
    reached = means(values)
    return Tier(name, len(values), {measure: reached.get(measure) for measure in MEASURES})


def by_confidence(confidence: Probabilities, lddt: Probabilities) -> list[ConfidenceBin]:
    """Return what residues reach by what the head expects of them, in ten bins; those without residues are left out.

    Examples
    --------
    >>> [point] = by_confidence(np.array([0.31, 0.39, np.nan]), np.array([0.25, 0.75, 1.0]))
    >>> point.name, point.residues, round(point.confidence, 2), point.lddt
    ('0.3–0.4', 2, 0.35, 0.5)
    """
    known = ~np.isnan(confidence) & ~np.isnan(lddt)
    places = np.clip((confidence[known] * BINS).astype(np.int64), 0, BINS - 1)
    bins = []
    for place in np.unique(places).tolist():
        here = places == place
        name = f"{place / BINS:.1f}–{(place + 1) / BINS:.1f}"
        both = mean_of(confidence[known][here]), mean_of(lddt[known][here])
        bins.append(ConfidenceBin(name, int(here.sum()), *both))
    return bins


def confidence_r(confidence: Probabilities, lddt: Probabilities) -> float:
    """Return the correlation of confidence and lDDT over residues; 0 where one of both is the same everywhere."""
    known = ~np.isnan(confidence) & ~np.isnan(lddt)
    both = confidence[known].astype(np.float64), lddt[known].astype(np.float64)
    return correlation(*both, np.ones(int(known.sum())))


def samples(answers: StructureAnswers) -> list[Sample]:
    """Return the chains that figures show."""
    return [_sample(answers, chain, grade) for chain, grade in zip(answers.drawn, GRADES, strict=False)]


def _sample(answers: StructureAnswers, chain: Drawn, grade: str) -> Sample:
    step, pairs = halves(chain.expected.astype(np.float64), distances(chain.true).astype(np.float64))
    both = ~np.isnan(chain.true).any(1) & ~np.isnan(chain.folded).any(1)
    reached = zip(MEASURES, answers.values[chain.row].tolist(), strict=True)
    return Sample(
        id=answers.ids[chain.row],
        grade=grade,
        scores={name: value for name, value in reached if not np.isnan(value)},
        residues=len(chain.true),
        map=[[None if np.isnan(value) else round(value, 1) for value in row] for row in pairs.tolist()],
        step=step,
        true=chain.true[both].round(1).tolist(),
        folded=chain.folded[both].round(1).tolist(),
        numbers=(np.flatnonzero(both) + 1).tolist(),
    )


def halves(predicted: Floats, true: Floats) -> tuple[int, Floats]:
    """Return predicted distances above the diagonal and true ones below, as the means of squares of so many residues.

    Examples
    --------
    >>> halves(np.full((3, 3), 5.0), np.full((3, 3), 8.0))
    (1, array([[8., 5., 5.],
           [8., 8., 5.],
           [8., 8., 8.]]))
    """
    step = -(-len(true) // PIXELS)
    above, below = _shrunk(predicted, step), _shrunk(true, step)
    return step, np.where(np.triu(np.ones_like(below), 1) > 0, above, below)


def _shrunk(square: Floats, step: int) -> Floats:
    """Return the mean of what is known of each square of a side of `step`."""
    side = -(-len(square) // step)
    padded = np.full((side * step, side * step), np.nan)
    padded[: len(square), : len(square)] = square
    parts = padded.reshape(side, step, side, step)
    known = (~np.isnan(parts)).sum((1, 3))
    return np.asarray(np.divide(np.nansum(parts, (1, 3)), known, out=np.full((side, side), np.nan), where=known > 0))
