"""The report of models of residues: tables, sentences, and the page of a comparison or of one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from esmcls.labels.residue_labels import offsets_of
from esmcls.metrics.classification import Interval
from esmcls.metrics.residues import confusion_of, correlation, scores_of_confusion
from esmcls.reporting.examined import Column, ExaminedModel, Excerpt
from esmcls.reporting.phrases import NONE, aligned, count, counted, decimal, length_of_time, p_equals, p_value
from esmcls.reporting.report import (
    Layout,
    Table,
    competitors,
    leakage_table,
    left_out,
    measured_on,
    render,
    write_examined,
    write_report,
)
from esmcls.reporting.results import Timing, timed
from esmcls.tasks.examining import Examination
from esmcls.tasks.measured import cells
from esmcls.tasks.residues.answers import ResidueAnswers
from esmcls.tasks.residues.evaluation import NAMES
from esmcls.tasks.residues.figures import FIGURES
from esmcls.tasks.residues.results import ResidueReport, ResidueRow

TEMPLATE: Final = "tasks/residues/report.html"
PROTEINS: Final = "proteins.tsv"
_ABOUT: Final = {
    "accuracy": "residues whose class was named right, of all with a label: Q3 with three classes, Q8 with eight",
    "macro_f1": "the mean over classes of F1, each class counting the same, however rare",
    "mcc": "Matthews' correlation of true and predicted classes: 0 is guessing, 1 perfect, whatever their shares",
    "auroc": "how often a residue of a class gets a higher probability of it than another one; mean over classes",
    "spearman": "the correlation of the ranks of true and predicted numbers, over all residues",
    "pearson": "the correlation of true and predicted numbers",
    "rmse": "the root of the mean squared error, in the unit of the numbers",
    "r2": "the share of the variance of the true numbers that is explained; 0 is what their mean reaches",
}


def write_residue_report(folder: Path, report: ResidueReport, timing: Timing) -> Path:
    """Write a comparison into a folder; see `esmcls.reporting.report.write_report`."""
    return write_report(folder, report, timing, Layout(FIGURES, tables, page))


def write_residue_examination(
    folder: Path, report: ResidueReport, answers: ResidueAnswers, examination: Examination
) -> Path:
    """Write the report of one model and return its page: as a comparison's, and a table of all proteins."""
    per_protein = protein_table(answers)
    measure = "accuracy" if answers.classes else "spearman"
    columns = (
        Column("id", "protein", text=True),
        Column("residues", "residues"),
        Column("with_label", "with a label"),
        Column(measure, NAMES[measure], places=3),
    )
    hardest = sorted(per_protein, key=lambda row: (row[measure] is None, row[measure], row["id"]))
    words = "Those that are answered worst come first."
    excerpt = Excerpt("Every protein", PROTEINS, words, columns, hardest)
    model = ExaminedModel(examination.on, examination.facts, examination.notes, (excerpt,))

    row, timing = report.best_row, examination.timing(report.best)
    first = f"On {counted(report.dataset.known, 'residue')} of {counted(len(answers.sizes), 'protein')} "
    first += f"{examination.where}, {row.name} reaches {_with_ends(report.main, row.metrics[report.main])}."
    more = _facts(report) | {"sentences": [first, *examination.warnings], "examined": model}
    figures = {name: FIGURES[name] for name in FIGURES if name != "intervals"}
    beside = {name: rows for name, rows in tables(report, timing).items() if name != "timing.tsv"}
    return write_examined(folder, report, timing, TEMPLATE, figures, beside, {PROTEINS: per_protein}, more)


def protein_table(answers: ResidueAnswers) -> Table:
    """Return a row for each protein: its residues, those that are scored, and what is reached on them."""
    offsets, known = offsets_of(answers.sizes.tolist()), answers.known
    rows: Table = []
    for number, name in enumerate(answers.ids):
        residues = slice(offsets[number], offsets[number + 1])
        there = known[residues]
        truth, said = answers.truth[residues][there], answers.answers[residues][there]
        row: dict[str, Any] = {"id": name, "residues": int(answers.sizes[number]), "with_label": int(there.sum())}
        if answers.classes:
            table = confusion_of(truth.astype(np.int64), said.argmax(1), len(answers.classes))
            scores = scores_of_confusion(table)
            row |= scores if len(truth) else dict.fromkeys(scores)
        else:
            ranks = _ranks(truth), _ranks(said[:, 0].astype(np.float64))
            row["spearman"] = correlation(ranks[0], ranks[1], np.ones(len(truth))) if len(truth) > 1 else None
        rows.append(row)
    return rows


def _ranks(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray[Any, np.dtype[np.float64]] = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


# Tables


def tables(report: ResidueReport, timing: Timing) -> dict[str, Table]:
    """Return the name and the rows of each TSV file; one without rows is no file."""
    classes = report.dataset.classes
    return {
        "table.tsv": [cells(row) for row in report.rows],
        "classes.tsv": [
            {"model": row.name, "class": scores.name, "residues": scores.residues, "precision": scores.precision}
            | {"recall": scores.recall, "f1": scores.f1.value, "f1_low": scores.f1.low, "f1_high": scores.f1.high}
            for row in report.rows
            for scores in row.classes
        ],
        "confusion.tsv": [
            {"model": row.name, "true": true, **dict(zip(classes, counts, strict=True))}
            for row in report.rows
            for true, counts in zip(classes, row.confusion, strict=True)
        ],
        "folds.tsv": [
            {"model": row.name, "fold": number, report.main: score}
            for row in report.rows
            for number, score in enumerate(row.folds, 1)
        ],
        "leakage.tsv": leakage_table(report),
        "timing.tsv": [asdict(cost) for cost in timing.rows],
    }


# The terminal


def lines(report: ResidueReport, timing: Timing) -> list[str]:
    """Return the table for a terminal, the best model first, with what was left out before it and how to read it."""
    names = list(report.rows[0].metrics)
    header = ["model", NAMES[report.main], *(NAMES[name] for name in names if name != report.main), "p", "fit", "MB"]
    body = [
        [
            row.name,
            _with_ends("", row.metrics[report.main]).strip(),
            *(decimal(row.metrics[name].value) for name in names if name != report.main),
            p_value(row.versus_best.p_holm) if row.versus_best else NONE,
            length_of_time(cost.fit_seconds),
            count(row.megabytes),
        ]
        for row, cost in timed(report.rows, timing)
    ]
    explained = f"p: whether its {NAMES[report.main]} is the best's (paired bootstrap over proteins, Holm's correction)"
    return [*left_out(report.not_run), *aligned([header, *body]), "", explained]


def _with_ends(name: str, interval: Interval) -> str:
    return f"{NAMES.get(name, name)} {decimal(interval.value)} ({decimal(interval.low)} to {decimal(interval.high)})"


# The page


def page(report: ResidueReport, timing: Timing, figures: Mapping[str, str]) -> str:
    """Return the page: HTML that asks for nothing else, what was timed in its last section alone."""
    more = _facts(report) | {"sentences": summary(report)}
    return render(TEMPLATE, report, timing, figures, tables(report, timing), more)


def _facts(report: ResidueReport) -> dict[str, Any]:
    """Return what the template asks for besides the report."""
    measured = list(report.rows[0].metrics)
    return {"best_row": report.best_row, "names": NAMES, "about": _ABOUT, "measured": measured}


def summary(report: ResidueReport) -> list[str]:
    """Return what came of it in sentences: the best, and how it stands to the next and to a baseline."""
    best = report.best_row
    others = [row for row in report.rows if row is not best]
    first = f"The best of {competitors(report.rows)} {measured_on(report)} is {best.name}: "
    first += f"{_with_ends(report.main, best.metrics[report.main])}."
    rivals = {row.name: row for rows in (others[:1], [row for row in others if row.baseline]) for row in rows[:1]}
    return [first, *(_against(row) for row in rivals.values())]


def _against(row: ResidueRow) -> str:
    behind = row.versus_best
    assert behind is not None
    name = f"{row.name}, a baseline," if row.baseline else row.name
    return f"It is {decimal(-behind.difference.value)} ahead of {name} ({p_equals(behind.p_holm)})."
