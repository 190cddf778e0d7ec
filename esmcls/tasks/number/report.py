"""The report of a comparison of models of a number a protein: its tables, its sentences and its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from esmcls.metrics.classification import Interval
from esmcls.metrics.regression import MEASURES
from esmcls.reporting.phrases import NONE, SIGNIFICANT, aligned, count, length_of_time, p_equals, p_value
from esmcls.reporting.report import (
    Layout,
    Table,
    competitors,
    leakage_table,
    left_out,
    measured_on,
    render,
    write_report,
)
from esmcls.reporting.results import Cost, Timing, timed
from esmcls.tasks.measured import Behind, cells
from esmcls.tasks.number.evaluation import in_words, span_in_words
from esmcls.tasks.number.figures import FIGURES
from esmcls.tasks.number.results import NumberReport, NumberRow

TEMPLATE: Final = "tasks/number/report.html"


def write_number_report(folder: Path, report: NumberReport, timing: Timing) -> Path:
    """Write a comparison into a folder; see `esmcls.reporting.report.write_report`."""
    return write_report(folder, report, timing, Layout(FIGURES, tables, page))


def tables(report: NumberReport, timing: Timing) -> dict[str, Table]:
    """Return the name and the rows of each TSV file; one without rows is no file."""
    rows = report.rows
    return {
        "table.tsv": [cells(row) for row in rows],
        "lengths.tsv": [{"model": row.name, **_residues(asdict(tier))} for row in rows for tier in row.lengths],
        "folds.tsv": [
            {"model": row.name, "fold": number, **scores} for row in rows for number, scores in enumerate(row.folds, 1)
        ],
        "intervals.tsv": [{"model": row.name, **asdict(row.intervals)} for row in rows if row.intervals],
        "leakage.tsv": leakage_table(report),
        "timing.tsv": [asdict(cost) for cost in timing.rows],
    }


def _residues(tier: dict[str, Any]) -> dict[str, Any]:
    return {"residues": tier.pop("name"), **tier}


# The terminal


def lines(report: NumberReport, timing: Timing) -> list[str]:
    """Return the table for a terminal, the best model first, with what was left out before it and how to read it."""
    header = ["model", *MEASURES.values(), "p", "fit", "MB"]
    return [
        *left_out(report.not_run),
        *aligned([header, *(_cells(row, cost) for row, cost in timed(report.rows, timing))]),
        "",
        "p: whether its Spearman correlation is the best's (paired bootstrap, Holm's correction)",
    ]


def _cells(row: NumberRow, cost: Cost) -> list[str]:
    spearman = row.metrics["spearman"]
    return [
        row.name,
        f"{in_words('spearman', spearman.value)} ({span_in_words('spearman', spearman)})",
        *(in_words(name, row.metrics[name].value) for name in list(MEASURES)[1:]),
        p_value(row.versus_best.p_holm) if row.versus_best else NONE,
        length_of_time(cost.fit_seconds),
        count(row.megabytes),
    ]


# The page


def page(report: NumberReport, timing: Timing, figures: Mapping[str, str]) -> str:
    """Return the page: HTML that asks for nothing else, what was timed in its last section alone.

    Parameters
    ----------
    report : NumberReport
    timing : Timing
    figures : mapping
        Name of a figure -> a whole SVG file.
    """
    more = words() | {"best_row": report.best_row, "sentences": summary(report)}
    return render(TEMPLATE, report, timing, figures, tables(report, timing), more)


def words() -> dict[str, Any]:
    """Return what the template says measures with."""
    return {"measures": MEASURES, "in_words": in_words, "span_in_words": span_in_words}


def summary(report: NumberReport) -> list[str]:
    """Return what came of it in sentences: the best, and how it stands to the next and to a baseline."""
    best = report.best_row
    others = [row for row in report.rows if row is not best]
    told_of = {row.name: row for rows in (others[:1], [row for row in others if row.baseline][:1]) for row in rows}
    first = f"The best of {competitors(report.rows)} {measured_on(report)} is {best.name}: {spearman_in_words(best)}."
    return [first, *(_against(row, row.versus_best) for row in told_of.values() if row.versus_best)]


def spearman_in_words(row: NumberRow) -> str:
    """Say the Spearman correlation of a model, with its interval and R²."""
    metrics = row.metrics
    ends = span_in_words("spearman", metrics["spearman"])
    value = in_words("spearman", metrics["spearman"].value)
    return f"Spearman {value} (95 % interval {ends}), R² {in_words('r2', metrics['r2'].value)}"


def _against(row: NumberRow, behind: Behind) -> str:
    """Return a sentence on how far the best is ahead of a row."""
    gap = behind.difference
    ahead = Interval(-gap.value, low=-gap.high, high=-gap.low)
    numbers = f"({span_in_words('spearman', ahead)}, {p_equals(behind.p_holm)})"
    value = in_words("spearman", ahead.value)
    if behind.p_holm < SIGNIFICANT:
        name = f"{row.name}, a baseline," if row.baseline else row.name
        return f"It is ahead of {name} by {value} {numbers}."
    name = f"{row.name}, a baseline" if row.baseline else row.name
    return f"It cannot be told apart from {name}: it is {value} ahead {numbers}."
