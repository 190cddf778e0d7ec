"""The report of a comparison of models of one label a protein: its tables, its sentences and its page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from esmcls.errors import DataError
from esmcls.metrics.classification import Interval, Tier
from esmcls.reading.rows import read_rows
from esmcls.reporting.phrases import (
    NONE,
    SIGNIFICANT,
    aligned,
    count,
    length_of_time,
    p_equals,
    p_value,
    percent,
    span,
)
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
from esmcls.tasks.one_label.figures import FIGURES
from esmcls.tasks.one_label.levels.scores import LevelSets
from esmcls.tasks.one_label.results import Confusion, OneLabelReport, OneLabelRow, OpenSet, Versus
from esmcls.text_files import open_lines, shown

TEMPLATE: Final = "tasks/one_label/report.html"
_MAIN: Final = ("accuracy", "top_5", "macro_f1")


def read_names(path: str | Path) -> dict[str, str]:
    """Read names of classes: a table of class and name without a header; more columns are joined.

    Raises
    ------
    DataError
        If the file cannot be read or a line has no second column.
    """
    by_class: dict[str, str] = {}
    with open_lines(str(path)) as lines:
        for line, (label, *names) in read_rows(lines, shown(str(path)), "\t"):
            if not names:
                fix = "give the class and its name, tab-separated"
                raise DataError(path, "no second column", fix, line=line, record=label)
            by_class[label] = "; ".join(name for name in names if name)
    return by_class


def write_one_label_report(folder: Path, report: OneLabelReport, timing: Timing) -> Path:
    """Write a comparison into a folder; see `esmcls.reporting.report.write_report`."""
    return write_report(folder, report, timing, Layout(FIGURES, tables, page))


# Tables


def tables(report: OneLabelReport, timing: Timing) -> dict[str, Table]:
    """Return the name and the rows of each TSV file, shares from 0 to 1; one without rows is no file."""
    rows = report.rows
    return {
        "table.tsv": [_measured(row) for row in rows],
        "levels.tsv": [line for row in rows for line in _levels(row)],
        "level_sets.tsv": [_level_sets(row.name, row.level_sets) for row in rows if row.level_sets],
        "tiers.tsv": [line for row in rows for line in _by_range(row, row.tiers, "training_members")],
        "lengths.tsv": [line for row in rows for line in _by_range(row, row.lengths, "residues")],
        "confusions.tsv": [
            {"model": row.name, **_named(confusion, report.family_names)}
            for row in rows
            for confusion in row.confusions
        ],
        "folds.tsv": [
            {"model": row.name, "fold": number, **asdict(scores)}
            for row in rows
            for number, scores in enumerate(row.folds, 1)
        ],
        "open_set.tsv": [_without_curve(row.name, row.open_set) for row in rows if row.open_set],
        "sets.tsv": [{"model": row.name, **asdict(row.sets)} for row in rows if row.sets],
        "leakage.tsv": leakage_table(report),
        "timing.tsv": [asdict(cost) for cost in timing.rows],
    }


def _measured(row: OneLabelRow) -> dict[str, Any]:
    versus = row.versus_best
    cells: dict[str, Any] = {"model": row.name, "head": row.head, "encoder": row.encoder}
    cells["baseline"] = "yes" if row.baseline else "no"
    for name in (*_MAIN, *sorted(row.metrics.keys() - set(_MAIN))):
        cells |= _with_ends(name, row.metrics[name])
    cells |= _with_ends("difference", versus.difference if versus else None)
    cells |= {"p": versus.p, "p_holm": versus.p_holm} if versus else {"p": None, "p_holm": None}
    return cells | {"calibration_error": row.calibration_error, "megabytes": row.megabytes}


def _with_ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    names = (name, f"{name}_low", f"{name}_high")
    if interval is None:
        return dict.fromkeys(names)
    return dict(zip(names, (interval.value, interval.low, interval.high), strict=True))


def _by_range(row: OneLabelRow, ranges: Sequence[Tier], column: str) -> Iterator[dict[str, Any]]:
    for part in ranges:
        yield {"model": row.name, column: part.name, "n": part.n, "accuracy": part.accuracy}


def _levels(row: OneLabelRow) -> Iterator[dict[str, Any]]:
    for number, level in enumerate(row.levels, 1):
        cells: dict[str, Any] = {"model": row.name, "level": number, "name": level.name, "n": level.n}
        yield cells | {"right": level.right} | _with_ends("accuracy", level.accuracy)


def _level_sets(name: str, sets: LevelSets) -> dict[str, Any]:
    flat = {field: value for field, value in asdict(sets).items() if field != "levels"}
    return {"model": name} | flat | {f"answered at {level.name}": level.share for level in sets.levels}


def _named(confusion: Confusion, names: Mapping[str, str]) -> dict[str, Any]:
    ends = {"true": confusion.true, "predicted": confusion.predicted}
    if names:
        ends |= {f"{end}_name": names.get(name, "") for end, name in ends.items()}
    return ends | {"n": confusion.n, "of": confusion.of}


def _without_curve(name: str, open_set: OpenSet) -> dict[str, Any]:
    return {"model": name} | {field: value for field, value in asdict(open_set).items() if field != "roc"}


# The terminal


def lines(report: OneLabelReport, timing: Timing) -> list[str]:
    """Return the table for a terminal, the best model first, with what was left out before it and how to read it."""
    tiers = [tier.name for tier in report.rows[0].tiers]
    header = ["model", "accuracy %", "top-5", "macro F1", "p", "fit", "MB"]
    return [
        *left_out(report.not_run),
        *aligned([header, *(_cells(row, cost) for row, cost in timed(report.rows, timing))]),
        "",
        *aligned([["accuracy %", *tiers], *([row.name, *_by_members(row)] for row in report.rows)]),
        "",
        *_level_lines(report),
        f"{', '.join(tiers)}: accuracy by training members of the family",
        "p: whether it is as accurate as the best (paired bootstrap, Holm's correction)",
    ]


def _level_lines(report: OneLabelReport) -> list[str]:
    """Return the accuracy at each level of the hierarchy; nothing without one."""
    names = [level.name for level in report.rows[0].levels]
    if not names:
        return []
    rows = [[row.name, *_by_level(row), count(row.near_misses)] for row in report.rows]
    return [*aligned([["accuracy %", *names, "near misses"], *rows]), ""]


def _by_level(row: OneLabelRow) -> list[str]:
    return [NONE if level.accuracy is None else percent(level.accuracy.value) for level in row.levels]


def _by_members(row: OneLabelRow) -> list[str]:
    return [percent(tier.accuracy) for tier in row.tiers]


def _cells(row: OneLabelRow, cost: Cost) -> list[str]:
    accuracy = row.metrics["accuracy"]
    return [
        row.name,
        f"{percent(accuracy.value)} ({span(accuracy)})",
        *(percent(row.metrics[name].value) for name in _MAIN[1:]),
        p_value(row.versus_best.p_holm) if row.versus_best else NONE,
        length_of_time(cost.fit_seconds),
        count(row.megabytes),
    ]


# The page


def page(report: OneLabelReport, timing: Timing, figures: Mapping[str, str]) -> str:
    """Return the page: HTML that asks for nothing else, what was timed in its last section alone.

    Parameters
    ----------
    report : OneLabelReport
    timing : Timing
    figures : mapping
        Name of a figure -> a whole SVG file.
    """
    more = {"best_row": report.best_row, "sentences": summary(report)}
    return render(TEMPLATE, report, timing, figures, tables(report, timing), more)


def summary(report: OneLabelReport) -> list[str]:
    """Return what came of it in sentences: the best, and how it stands to the next, to homology and to a baseline."""
    best = report.best_row
    others = [row for row in report.rows if row is not best]
    peers = [
        others[:1],
        [row for row in others if row.head == "homology"],
        [row for row in others if row.baseline],
    ]
    accuracy = best.metrics["accuracy"]
    first = f"The best of {competitors(report.rows)} {measured_on(report)} is {best.name}: "
    first += f"accuracy {percent(accuracy.value)} % (95 % interval {span(accuracy)})."
    told_of = {row.name: row for rows in peers for row in rows[:1]}
    return [first, *(_against(row, row.versus_best) for row in told_of.values() if row.versus_best)]


def _against(row: OneLabelRow, versus: Versus) -> str:
    """Return a sentence on how far the best is ahead of a row."""
    behind = versus.difference
    ahead = Interval(-behind.value, low=-behind.high, high=-behind.low)
    numbers = f"({span(ahead)}, {p_equals(versus.p_holm)})"
    if versus.p_holm < SIGNIFICANT:
        name = f"{row.name}, a baseline," if row.baseline else row.name
        return f"It is better than {name} by {percent(ahead.value)} points {numbers}."
    name = f"{row.name}, a baseline" if row.baseline else row.name
    return f"It cannot be told apart from {name}: it is {percent(ahead.value)} points ahead {numbers}."
