"""Models of residues side by side on the same test proteins: what each reaches, and whether it is worse by chance.

Everything here is a function of answers: the same answers give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from esmcls.labels.residue_labels import UNKNOWN, offsets_of
from esmcls.metrics.classification import Interval
from esmcls.metrics.paired import Difference
from esmcls.metrics.residues import confusion_of, intervals_over_proteins
from esmcls.tasks.comparing import Entrant
from esmcls.tasks.measured import Behind, behind_best
from esmcls.tasks.residues.answers import ResidueAnswers
from esmcls.tasks.residues.results import ClassScores, Points, ResidueRow, Strip
from esmcls.types import Floats

SAMPLES: Final = 6
"""Proteins whose states are shown."""
LONGEST: Final = 400
"""Residues of a protein that is shown."""
POINTS: Final = 2000
"""Residues that are drawn of all."""


def compare_residues(
    entrants: Sequence[Entrant[ResidueAnswers]], *, seed: int = 0, draws: int | None = None
) -> list[ResidueRow]:
    """Return a row for each model, the best by the main measure first.

    Parameters
    ----------
    entrants : sequence of Entrant
        All on the same proteins.
    seed : int
        Of the bootstrap.
    draws : int, optional
        Of the bootstrap.

    Raises
    ------
    ValueError
        If two models answered for other proteins.
    """
    first = entrants[0].answers
    for entrant in entrants:
        if not np.array_equal(entrant.answers.truth, first.truth, equal_nan=True):
            raise ValueError("the models answered for other proteins")
    options = {} if draws is None else {"folds": draws}
    measured = {
        entrant.name: intervals_over_proteins(entrant.answers.measure(), len(first.sizes), seed=seed, **options)
        for entrant in entrants
    }
    main = first.main
    reached = {name: intervals[main].value for name, (intervals, _) in measured.items()}
    ordered = sorted(entrants, key=lambda entrant: (-reached[entrant.name], entrant.baseline, entrant.name))
    differences = behind_best([measured[entrant.name] for entrant in ordered], main)
    return [
        row_of(entrant, measured[entrant.name][0], behind)
        for entrant, behind in zip(ordered, [None, *differences], strict=True)
    ]


def row_of(entrant: Entrant[ResidueAnswers], intervals: dict[str, Interval], behind: Difference | None) -> ResidueRow:
    """Return the numbers of a model."""
    answers = entrant.answers
    table = confusion(answers)
    return ResidueRow(
        name=entrant.name,
        head=entrant.head,
        encoder=entrant.encoder,
        baseline=entrant.baseline,
        validation=answers.about["validation"],
        megabytes=answers.about["megabytes"],
        explanation=answers.about.get("explanation", ""),
        metrics={name: value for name, value in intervals.items() if not name.startswith("f1_")},
        folds=[fold.scores()[fold.main] for fold in entrant.folds],
        classes=class_scores(answers.classes, table, intervals),
        confusion=table,
        points=None if answers.classes else points(answers),
        strips=strips(answers),
        unseen=answers.unseen,
        versus_best=None if behind is None else Behind.of(behind),
    )


def confusion(answers: ResidueAnswers) -> list[list[int]]:
    """Return residues of each class (rows) by what they were taken for (columns); nothing of numbers."""
    if not answers.classes:
        return []
    known = answers.known
    truth, predicted = answers.truth[known].astype(np.int64), answers.answers[known].argmax(1)
    table: list[list[int]] = confusion_of(truth, predicted, len(answers.classes)).tolist()
    return table


def class_scores(classes: Sequence[str], table: list[list[int]], intervals: dict[str, Interval]) -> list[ClassScores]:
    """Return how well each class is found."""
    counts = np.array(table, dtype=np.int64).reshape(len(classes), len(classes))
    rows = []
    for code, name in enumerate(classes):
        right, true, named = (int(number) for number in (counts[code, code], counts[code].sum(), counts[:, code].sum()))
        precision, recall = (right / named if named else None), (right / true if true else None)
        rows.append(ClassScores(name, true, precision, recall, intervals[f"f1_{name}"]))
    return rows


def points(answers: ResidueAnswers) -> Points:
    """Return a sample of residues, evenly spaced."""
    places = np.flatnonzero(answers.known)
    places = places[:: max(1, -(-len(places) // POINTS))]
    return Points(answers.truth[places].tolist(), answers.answers[places, 0].astype(np.float64).tolist())


def strips(answers: ResidueAnswers) -> list[Strip]:
    """Return the states of some proteins, evenly spaced among those that are not too long."""
    short = np.flatnonzero(answers.sizes <= LONGEST)
    chosen = short[np.unique(np.linspace(0, len(short) - 1, SAMPLES).astype(np.int64))] if len(short) else short
    offsets = offsets_of(answers.sizes.tolist())
    return [_strip(answers, row, slice(offsets[row], offsets[row + 1])) for row in chosen.tolist()]


def _strip(answers: ResidueAnswers, row: int, residues: slice) -> Strip:
    truth, said = answers.truth[residues], answers.answers[residues]
    if answers.classes:
        true = _signs(truth, answers.classes)
        predicted = _signs(np.where(np.isnan(said[:, 0]), np.nan, said.argmax(1)), answers.classes)
        return Strip(answers.ids[row], true, predicted, [], [])
    return Strip(answers.ids[row], "", "", _plain(truth), _plain(said[:, 0].astype(np.float64)))


def _signs(codes: Floats, classes: Sequence[str]) -> str:
    return "".join(UNKNOWN if np.isnan(code) else classes[int(code)] for code in codes)


def _plain(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 4) for value in values]
