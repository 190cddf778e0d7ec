"""The report of one model of many labels: what a comparison tells, every label, and every protein not all right."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from esmcls.labels.label_lists import JOINED
from esmcls.metrics.label_f1 import Decided
from esmcls.reporting.examined import Column, ExaminedModel, Excerpt
from esmcls.reporting.phrases import counted
from esmcls.reporting.report import Table, write_examined
from esmcls.tasks.closeness import Neighbour, Neighbours
from esmcls.tasks.examining import Exam, Examination
from esmcls.tasks.label_sets.evaluation import TermDetails
from esmcls.tasks.label_sets.figures import FIGURES
from esmcls.tasks.label_sets.thresholds import Thresholds
from esmcls.tasks.many_labels.comparison import MEASURES
from esmcls.tasks.many_labels.evaluation import NAMES
from esmcls.tasks.many_labels.report import TEMPLATE, page_names, tables, with_interval
from esmcls.tasks.many_labels.results import LabelReport

LABELS: Final = "labels.tsv"
WRONG: Final = "wrong.tsv"
_BESIDE: Final = ("table.tsv", "buckets.tsv", "lengths.tsv", "leakage.tsv")
_LABEL_COLUMNS: Final = (
    Column("label", "label", text=True),
    Column("training_proteins", "training proteins"),
    Column("test_proteins", "test proteins"),
    Column("threshold", "threshold", places=2),
    Column("precision", "precision", places=2),
    Column("recall", "recall", places=2),
    Column("f1", "F1", places=3),
    Column("fmax", "F1 at best", places=3),
    Column("average_precision", "average precision", places=3),
)
_WRONG_COLUMNS: Final = (
    Column("id", "protein", text=True),
    Column("f1", "F1", places=2),
    Column("right_labels", "right", text=True),
    Column("wrong_labels", "wrong", text=True),
    Column("missed_labels", "missed", text=True),
    Column("nearest_id", "nearest in train", text=True),
    Column("similarity", "similarity", significant=3),
)


def write_evaluation(
    folder: Path,
    report: LabelReport,
    details: TermDetails,
    decided: Decided,
    thresholds: Thresholds,
    exam: Exam,
    examination: Examination,
) -> Path:
    """Write the report of a model and return its page.

    Parameters
    ----------
    folder : Path
    report : LabelReport
        Of one row.
    details : TermDetails
    decided : Decided
    thresholds : Thresholds
        Of the model's labels.
    exam : Exam
    examination : Examination
    """
    labels = label_table(details, decided, thresholds)
    wrong = details.wrong_rows()
    nearest = examination.nearest(wrong)
    mistakes = sorted(_mistakes(details, exam, nearest), key=lambda row: (row["f1"], row["id"]))
    hardest = sorted((row for row in labels if row["test_proteins"]), key=lambda row: (row["f1"], row["label"]))
    words = "By the thresholds that validation chose; the labels that are found least, by F1, come first."
    model = ExaminedModel(
        examination.on,
        examination.facts,
        examination.notes,
        (
            Excerpt("Every label", LABELS, words, _LABEL_COLUMNS, hardest),
            Excerpt("Every protein with a wrong or a missed label", WRONG, _about(nearest), _WRONG_COLUMNS, mistakes),
        ),
    )

    timing = examination.timing(report.best)
    beside = {name: rows for name, rows in tables(report, timing).items() if name in _BESIDE}
    more = page_names() | {"sentences": _sentences(report, examination), "examined": model}
    return write_examined(folder, report, timing, TEMPLATE, FIGURES, beside, {LABELS: labels, WRONG: mistakes}, more)


def _about(nearest: Neighbours) -> str:
    words = "The labels that the model predicts by its thresholds against those that the protein has: the worst first."
    return f"{words} Similarity: {nearest.measure}." if nearest.measure else words


def _sentences(report: LabelReport, examination: Examination) -> list[str]:
    row = report.best_row
    reached = ", ".join(f"{NAMES[name]} {with_interval(row.scores.metrics[name])}" for name in MEASURES)
    n = report.dataset.records["test"]
    first = f"On {counted(n, 'protein')} {examination.where}, {row.name} reaches {reached}."
    return [first, *examination.warnings]


def label_table(details: TermDetails, decided: Decided, thresholds: Thresholds) -> Table:
    """Return a row for each label that a training or test protein has."""
    right, true, predicted = decided.per_label()
    f1, each = decided.f1(), details.each
    table: Table = []
    for code, label in enumerate(details.truth.classes):
        there = bool(each.proteins[code])
        table.append(
            {
                "label": label,
                "training_proteins": int(details.members[code]),
                "test_proteins": int(each.proteins[code]),
                "predicted": int(predicted[code]),
                "threshold": float(thresholds.values[code]) if code < len(thresholds.values) else None,
                "precision": right[code] / predicted[code] if predicted[code] else None,
                "recall": right[code] / true[code] if there else None,
                "f1": float(f1[code]) if there else None,
                "fmax": float(each.fmax[code]) if there else None,
                "average_precision": float(each.average_precision[code]) if there else None,
            }
        )
    return table


def _mistakes(details: TermDetails, exam: Exam, nearest: Neighbours) -> Iterator[dict[str, Any]]:
    """Give what is wrong of each protein, and its nearest training protein."""
    classes = details.truth.classes
    for row, near in zip(details.wrong_rows(), nearest.nearest, strict=True):
        codes, probabilities = details.judged(row)
        true = set(details.truth.row(row).tolist())
        pairs = sorted(zip((-probabilities).tolist(), codes.tolist(), strict=True))
        right = [classes[code] for _, code in pairs if code in true]
        wrong = [f"{classes[code]} {-negative:.2f}" for negative, code in pairs if code not in true]
        missed = [classes[code] for code in sorted(true - set(codes.tolist()))]
        yield {
            "id": exam.part.ids[row],
            "residues": len(exam.part.sequences[row]),
            "f1": 2 * len(right) / (len(codes) + len(true)),  # a wrong row has one or the other
            "right_labels": f"{JOINED} ".join(right),
            "wrong_labels": f"{JOINED} ".join(wrong),
            "missed_labels": f"{JOINED} ".join(missed),
            **_nearest(near, nearest.measure),
        }


def _nearest(near: Neighbour | None, measure: str) -> dict[str, Any]:
    return {
        "nearest_id": near and near.id,
        "nearest_labels": near and near.label.replace(JOINED, f"{JOINED} "),
        "similarity": near.similarity if near and math.isfinite(near.similarity) else None,
        "similarity_is": measure if near else None,
    }
