"""The report of a comparison on many labels: its tables, its sentences and its page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from esmcls.metrics.classification import Interval
from esmcls.metrics.paired import Difference
from esmcls.reporting.phrases import (
    NONE,
    SIGNIFICANT,
    aligned,
    between,
    count,
    decimal,
    length_of_time,
    p_equals,
    p_value,
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
from esmcls.tasks.label_sets.figures import FIGURES
from esmcls.tasks.label_sets.scores import LengthClass
from esmcls.tasks.label_sets.trust.set_scores import set_lines, set_rows
from esmcls.tasks.many_labels.comparison import MEASURES as COMPARED
from esmcls.tasks.many_labels.evaluation import NAMES
from esmcls.tasks.many_labels.results import LabelBucket, LabelReport, LabelRow

TEMPLATE: Final = "tasks/many_labels/report.html"


def write_label_report(folder: Path, report: LabelReport, timing: Timing) -> Path:
    """Write a comparison into a folder; see `esmcls.reporting.report.write_report`."""
    return write_report(folder, report, timing, Layout(FIGURES, tables, page))


def tables(report: LabelReport, timing: Timing) -> dict[str, Table]:
    """Return the name and the rows of each TSV file; one without rows is no file."""
    rows = report.rows
    return {
        "table.tsv": [_measured(row) for row in rows],
        "differences.tsv": [line for row in rows for line in _differences(row)],
        "buckets.tsv": [_by_range(row.name, "training_proteins", part) for row in rows for part in row.scores.buckets],
        "lengths.tsv": [_by_range(row.name, "residues", part) for row in rows for part in row.scores.lengths],
        "folds.tsv": [
            {"model": row.name, "fold": number, "fmax": fmax}
            for row in rows
            for number, fmax in enumerate(row.folds, 1)
        ],
        "sets.tsv": set_rows(rows),
        "leakage.tsv": leakage_table(report),
        "timing.tsv": [asdict(cost) for cost in timing.rows],
    }


def _measured(row: LabelRow) -> dict[str, Any]:
    scores = row.scores
    cells: dict[str, Any] = {
        "model": row.name,
        "head": row.head,
        "encoder": row.encoder,
        "baseline": "yes" if row.baseline else "no",
        "proteins": scores.proteins,
        "labels": scores.aupr.terms,
    }
    for name, interval in scores.metrics.items():
        cells |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    precision = {"average_precision_micro": scores.aupr.micro, "average_precision_macro": scores.aupr.macro}
    return cells | {"fmax_threshold": scores.thresholds["fmax"]} | precision


def _differences(row: LabelRow) -> Iterator[dict[str, Any]]:
    for reference, differences in (("best", row.versus_best), ("homology", row.versus_homology)):
        for name, difference in (differences or {}).items():
            yield {"model": row.name, "reference": reference, "measure": name} | asdict(difference)


def _by_range(model: str, column: str, part: LabelBucket | LengthClass) -> dict[str, Any]:
    names = {"terms": "labels", "micro": "average_precision_micro", "macro": "average_precision_macro"}
    values = {names.get(name, name): value for name, value in asdict(part).items() if name != "name"}
    return {"model": model, column: part.name, **values}


def lines(report: LabelReport, timing: Timing) -> list[str]:
    """Return a table for a terminal, the best model first, with what was left out before it and how to read it."""
    header = ["model", "Fmax", "F1 micro", "F1 macro", "found", "p, best", "p, homology", "fit", "MB"]
    table = aligned([header, *(_overall(row, cost) for row, cost in timed(report.rows, timing))])
    return [
        *left_out(report.not_run),
        *table,
        *set_lines(report.rows, "label"),
        "",
        "Fmax: at the best threshold for all labels; F1: by each label's own, which validation chose",
        "found: share of the labels that is found in some protein; intervals are in table.tsv",
        "p: is Fmax that of the best, of homology? (paired bootstrap, Holm's correction)",
    ]


def _overall(row: LabelRow, cost: Cost) -> list[str]:
    return [
        row.name,
        *(decimal(row.scores.metrics[name].value) for name in NAMES),
        _p(row.versus_best),
        _p(row.versus_homology),
        length_of_time(cost.fit_seconds),
        count(row.megabytes),
    ]


def _p(differences: Mapping[str, Difference] | None) -> str:
    return p_value(differences["fmax"].p_holm) if differences else NONE


def page(report: LabelReport, timing: Timing, figures: Mapping[str, str]) -> str:
    """Return the page: HTML that asks for nothing else, what was timed in its last section alone."""
    more = page_names() | {"sentences": summary(report)}
    return render(TEMPLATE, report, timing, figures, tables(report, timing), more)


def page_names() -> dict[str, Any]:
    """Return what the template asks for besides the report."""
    return {"measures": NAMES, "compared": COMPARED, "between": _between, "deviation": deviation}


def _between(interval: Interval | Difference) -> str:
    return between(interval, 3)


def deviation(values: Sequence[float]) -> str:
    """Say the mean of scores from 0 to 1 and their standard deviation.

    Examples
    --------
    >>> deviation([0.5, 0.6, 0.7]), deviation([0.5])
    ('0.600 ± 0.100', '0.500')
    """
    from statistics import fmean, stdev

    return decimal(fmean(values)) + (f" ± {decimal(stdev(values))}" if len(values) > 1 else "")


def with_interval(interval: Interval) -> str:
    """Say a measure with its interval."""
    return f"{decimal(interval.value)} ({_between(interval)})"


def summary(report: LabelReport) -> list[str]:
    """Return what came of it in sentences: the best, and how it stands to homology and to each baseline."""
    best = report.best_row
    reached = ", ".join(f"{NAMES[name]} {with_interval(best.scores.metrics[name])}" for name in COMPARED)
    first = f"The best of {competitors(report.rows)} {measured_on(report)}, by Fmax, is {best.name}: {reached}."
    sentences = [first]
    if best.versus_homology:
        sentences.append(f"Against homology, its Fmax is {_against(best.versus_homology, 1)}.")
    for row in report.rows:
        if row.baseline and row.versus_best:
            sentences.append(f"Against {row.name}, a baseline, it is {_against(row.versus_best, -1)}.")
    return sentences


def _against(differences: Mapping[str, Difference], sign: int) -> str:
    """Say how far apart two models are; sign -1 where it was measured the other way round."""
    fmax = differences["fmax"]
    doubt = "" if fmax.p_holm < SIGNIFICANT else ", which may be chance"
    return f"{decimal(sign * fmax.value, sign=True)} ({p_equals(fmax.p_holm)}{doubt})"
