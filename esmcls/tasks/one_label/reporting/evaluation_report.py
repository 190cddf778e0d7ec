"""The report of one model of one label a protein: what a comparison tells, and every class and every wrong protein."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from esmcls.labels.hierarchy import ClassTree
from esmcls.metrics.classification import precision_recall_f1
from esmcls.reporting.examined import Column, ExaminedModel, Excerpt
from esmcls.reporting.phrases import counted, percent, span
from esmcls.reporting.report import Layout, Table, render, write_report
from esmcls.reporting.results import Timing
from esmcls.tasks.closeness import Neighbours
from esmcls.tasks.examining import Exam, Examination
from esmcls.tasks.one_label.answers import Answers
from esmcls.tasks.one_label.figures import FIGURES
from esmcls.tasks.one_label.levels.scores import agreed_level
from esmcls.tasks.one_label.report import TEMPLATE, tables
from esmcls.tasks.one_label.results import OneLabelReport

CLASSES: Final = "classes.tsv"
WRONG: Final = "wrong.tsv"
_ALONE: Final = ("levels", "tiers", "lengths", "reliability", "retained", "confusions")
"""Figures that say something of one model."""
_BESIDE: Final = ("table.tsv", "levels.tsv", "tiers.tsv", "lengths.tsv", "confusions.tsv", "leakage.tsv")
_CLASS_COLUMNS: Final = (
    Column("class", "family", text=True),
    Column("class_name", "name", text=True),
    Column("training_members", "training members"),
    Column("test_proteins", "test proteins"),
    Column("precision", "precision", places=2),
    Column("recall", "recall", places=2),
    Column("f1", "F1", places=2),
    Column("taken_for", "most often taken for", text=True),
)
_WRONG_COLUMNS: Final = (
    Column("id", "protein", text=True),
    Column("true", "family", text=True),
    Column("taken_for", "taken for", text=True),
    Column("probability", "probability", places=2),
    Column("nearest_id", "nearest in train", text=True),
    Column("nearest_label", "its family", text=True),
    Column("similarity", "similarity", significant=3),
)


def write_evaluation(
    folder: Path,
    report: OneLabelReport,
    answers: Answers,
    exam: Exam,
    classes: Sequence[str],
    counts: Mapping[str, int],
    examination: Examination,
    tree: ClassTree | None = None,
) -> Path:
    """Write the report of a model and return its page.

    Parameters
    ----------
    folder : Path
    report : OneLabelReport
        Of one row.
    answers : Answers
        Coded by `classes`.
    exam : Exam
    classes : sequence of str
    counts : mapping
        Class -> training members.
    examination : Examination
    tree : ClassTree, optional
        Of the classes: mistakes say down to which level they are right.
    """
    wrong = np.flatnonzero(~answers.right)
    wrong = wrong[np.argsort(-answers.probability[wrong], kind="stable")]
    nearest = examination.nearest(wrong.tolist())
    per_class = class_table(answers, classes, counts, report.family_names)
    mistakes = list(_mistakes(answers, exam, wrong.tolist(), nearest, classes, report.family_names, tree))
    hardest = sorted((row for row in per_class if row["test_proteins"]), key=lambda row: (row["f1"], row["class"]))
    named = _CLASS_COLUMNS if report.family_names else tuple(c for c in _CLASS_COLUMNS if c.key != "class_name")
    model = ExaminedModel(
        examination.on,
        examination.facts,
        examination.notes,
        (
            Excerpt("Every family", CLASSES, "The families that are found least, by F1, come first.", named, hardest),
            Excerpt("Every wrong protein", WRONG, _about_mistakes(nearest, tree), _wrong_columns(tree), mistakes),
        ),
    )

    def all_tables(report: OneLabelReport, timing: Timing) -> dict[str, Table]:
        beside = {name: rows for name, rows in tables(report, timing).items() if name in _BESIDE}
        return beside | {CLASSES: per_class, WRONG: mistakes}

    def page(report: OneLabelReport, timing: Timing, figures: Mapping[str, str]) -> str:
        more = {"best_row": report.best_row, "sentences": _sentences(report, examination), "examined": model}
        return render(TEMPLATE, report, timing, figures, all_tables(report, timing), more)

    figures = {name: FIGURES[name] for name in _ALONE}
    layout = Layout(figures, all_tables, page, workbooks=(CLASSES, WRONG), timed=False)
    return write_report(folder, report, examination.timing(report.best), layout)


def _wrong_columns(tree: ClassTree | None) -> tuple[Column, ...]:
    if tree is None:
        return _WRONG_COLUMNS
    return (*_WRONG_COLUMNS[:3], Column("right_to", "right down to", text=True), *_WRONG_COLUMNS[3:])


def _about_mistakes(nearest: Neighbours, tree: ClassTree | None) -> str:
    words = "Those of which the model was most sure come first."
    if tree is not None:
        words += " Right down to: the narrowest level of the hierarchy at which the answer is right."
    return f"{words} Similarity: {nearest.measure}." if nearest.measure else words


def _sentences(report: OneLabelReport, examination: Examination) -> list[str]:
    row = report.best_row
    accuracy, n = row.metrics["accuracy"], sum(row.reliability.counts)
    first = f"Of {counted(n, 'protein')} {examination.where}, {row.name} names the family of "
    first += f"{percent(accuracy.value)} % right (95 % interval {span(accuracy)})."
    return [first, *examination.warnings]


def class_table(answers: Answers, classes: Sequence[str], counts: Mapping[str, int], names: Mapping[str, str]) -> Table:
    """Return a row for each class that a protein has or was taken for, by name.

    Parameters
    ----------
    answers : Answers
    classes : sequence of str
        That they are coded by.
    counts : mapping
        Class -> training members.
    names : mapping
        What classes are called.
    """
    predicted = answers.ranked[:, 0]
    scores = precision_recall_f1(answers.truth, predicted, len(classes))
    named = np.bincount(predicted, minlength=len(classes))
    confused: dict[int, Counter[int]] = {}
    for true, other in zip(answers.truth[~answers.right].tolist(), predicted[~answers.right].tolist(), strict=True):
        confused.setdefault(true, Counter())[other] += 1
    table: Table = []
    for code in np.flatnonzero((scores.support > 0) | (named > 0)).tolist():
        pairs = confused.get(code, Counter())
        worst = min(pairs, key=lambda other: (-pairs[other], other)) if pairs else None
        there = bool(scores.support[code])
        table.append(
            {
                "class": classes[code],
                **({"class_name": names.get(classes[code], "")} if names else {}),
                "training_members": counts.get(classes[code], 0),
                "test_proteins": int(scores.support[code]),
                "predicted": int(named[code]),
                "precision": float(scores.precision[code]) if named[code] else None,
                "recall": float(scores.recall[code]) if there else None,
                "f1": float(scores.f1[code]) if there else None,
                "taken_for": None if worst is None else classes[worst],
                "taken_for_n": None if worst is None else pairs[worst],
            }
        )
    return sorted(table, key=lambda row: str(row["class"]))


def _mistakes(
    answers: Answers,
    exam: Exam,
    rows: Sequence[int],
    nearest: Neighbours,
    classes: Sequence[str],
    names: Mapping[str, str],
    tree: ClassTree | None,
) -> Iterator[dict[str, Any]]:
    """Give what each wrong protein was taken for, and its nearest training protein."""
    for row, near in zip(rows, nearest.nearest, strict=True):
        codes = int(answers.truth[row]), int(answers.ranked[row, 0])
        true, other = (classes[code] for code in codes)
        ranks = np.flatnonzero(answers.ranked[row] == answers.truth[row])
        ends = {"true_name": names.get(true, ""), "taken_for_name": names.get(other, "")} if names else {}
        yield {
            "id": exam.part.ids[row],
            "residues": int(answers.lengths[row]),
            "true": true,
            "taken_for": other,
            **ends,
            **({} if tree is None else {"right_to": agreed_level(tree, *codes)}),
            "probability": float(answers.probability[row]),
            "rank_of_true": int(ranks[0]) + 1 if len(ranks) else None,
            "nearest_id": near and near.id,
            "nearest_label": near and near.label,
            "similarity": near.similarity if near and math.isfinite(near.similarity) else None,
            "similarity_is": nearest.measure if near else None,
        }


def named_report(report: OneLabelReport, names: Mapping[str, str]) -> OneLabelReport:
    """Return a report that shows what its families are called."""
    return replace(report, family_names=dict(names))
