"""The report of one model of a number a protein: what a comparison tells, and every protein by how far it is off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from esmcls.reporting.examined import Column, ExaminedModel, Excerpt
from esmcls.reporting.phrases import counted
from esmcls.reporting.report import write_examined
from esmcls.tasks.closeness import Neighbours
from esmcls.tasks.examining import Exam, Examination
from esmcls.tasks.number.answers import NumberAnswers
from esmcls.tasks.number.figures import FIGURES
from esmcls.tasks.number.report import TEMPLATE, spearman_in_words, tables, words
from esmcls.tasks.number.results import NumberReport

PROTEINS: Final = "proteins.tsv"
_BESIDE: Final = ("table.tsv", "lengths.tsv", "leakage.tsv")
_COLUMNS: Final = (
    Column("id", "protein", text=True),
    Column("residues", "residues"),
    Column("true", "true", significant=5),
    Column("predicted", "predicted", significant=5),
    Column("error", "predicted − true", significant=4),
    Column("nearest_id", "nearest in train", text=True),
    Column("nearest_value", "its value", text=True),
    Column("similarity", "similarity", significant=3),
)


def write_evaluation(
    folder: Path, report: NumberReport, answers: NumberAnswers, exam: Exam, examination: Examination
) -> Path:
    """Write the report of a model and return its page.

    Parameters
    ----------
    folder : Path
    report : NumberReport
        Of one row.
    answers : NumberAnswers
    exam : Exam
    examination : Examination
    """
    order = np.argsort(-np.abs(answers.predicted - answers.truth), kind="stable").tolist()
    nearest = examination.nearest(order)
    proteins = list(_proteins(answers, exam, order, nearest))
    about = "Those that are farthest off come first."
    about += f" Similarity: {nearest.measure}." if nearest.measure else ""
    model = ExaminedModel(
        examination.on,
        examination.facts,
        examination.notes,
        (Excerpt("Every protein", PROTEINS, about, _COLUMNS, proteins),),
    )

    timing = examination.timing(report.best)
    beside = {name: rows for name, rows in tables(report, timing).items() if name in _BESIDE}
    more = words() | {"best_row": report.best_row, "sentences": _sentences(report, examination), "examined": model}
    figures = {name: FIGURES[name] for name in ("scatter", "residuals")}
    return write_examined(folder, report, timing, TEMPLATE, figures, beside, {PROTEINS: proteins}, more)


def _sentences(report: NumberReport, examination: Examination) -> list[str]:
    row = report.best_row
    first = (
        f"On {counted(len(report.truth), 'protein')} {examination.where}, {row.name} reaches {spearman_in_words(row)}."
    )
    return [first, *examination.warnings]


def _proteins(answers: NumberAnswers, exam: Exam, rows: Sequence[int], nearest: Neighbours) -> Iterator[dict[str, Any]]:
    """Give what is predicted of each protein, and its nearest training protein."""
    for row, near in zip(rows, nearest.nearest, strict=True):
        yield {
            "id": exam.part.ids[row],
            "residues": int(answers.lengths[row]),
            "true": float(answers.truth[row]),
            "predicted": float(answers.predicted[row]),
            "error": float(answers.predicted[row] - answers.truth[row]),
            "nearest_id": near and near.id,
            "nearest_value": near and near.label,
            "similarity": near.similarity if near and math.isfinite(near.similarity) else None,
            "similarity_is": nearest.measure if near else None,
        }
