"""The report of a comparison on terms: its tables, its sentences and its page, each aspect apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

from esmcls.files import atomic_path
from esmcls.labels.ontology import ASPECTS
from esmcls.metrics.classification import Interval
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
from esmcls.tasks.go_terms.known.knowledge import KINDS
from esmcls.tasks.go_terms.known.tables import knowledge_lines, knowledge_rows
from esmcls.tasks.go_terms.results import Differences, TermReport, TermRow
from esmcls.tasks.label_sets.figures import FIGURES
from esmcls.tasks.label_sets.scores import Bucket, LengthClass
from esmcls.tasks.label_sets.trust.set_scores import set_lines, set_rows

TEMPLATE: Final = "tasks/go_terms/report.html"
MEASURES: Final = {"fmax": "Fmax", "wfmax": "weighted Fmax", "f_micro_w": "weighted micro F", "smin": "Smin"}
_SHORT: Final = ("Fmax", "w-Fmax", "micro", "Smin")
ACCRETION: Final = "ia.tsv"
_DIGITS: Final = {"smin": 2}


def write_term_report(folder: Path, report: TermReport, timing: Timing) -> Path:
    """Write a comparison into a folder; see `esmcls.reporting.report.write_report`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_accretion(folder / ACCRETION, report.accretion)
    return write_report(folder, report, timing, Layout(FIGURES, tables, page))


def write_accretion(path: Path, bits: Mapping[str, float]) -> None:
    """Write information accretion as CAFA's tables have it, term<TAB>bits without a header; of nothing, no file."""
    if not bits:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{term}\t{value!r}\n" for term, value in bits.items()), encoding="utf-8")


def digits(measure: str) -> int:
    """Return to how many places a measure is told: Smin is in bits, the others are from 0 to 1."""
    return _DIGITS.get(measure, 3)


def aspects(rows: Sequence[TermRow]) -> dict[str, str]:
    """Return the letters of the aspects that were measured, and what each is called."""
    letters = dict.fromkeys(letter for row in rows for letter in row.aspects)
    return {letter: ASPECTS.get(letter, letter).replace("_", " ") for letter in letters}


# Tables


def tables(report: TermReport, timing: Timing) -> dict[str, Table]:
    """Return the name and the rows of each TSV file; one without rows is no file."""
    rows = report.rows
    scored = [(row.name, aspect, scores) for row in rows for aspect, scores in row.aspects.items()]
    return {
        "table.tsv": [line for row in rows for line in _measured(row)],
        "differences.tsv": [line for row in rows for line in _differences(row)],
        "buckets.tsv": [
            _by_range(name, aspect, "training_proteins", bucket)
            for name, aspect, scores in scored
            for bucket in scores.buckets
        ],
        "lengths.tsv": [
            _by_range(name, aspect, "residues", part) for name, aspect, scores in scored for part in scores.lengths
        ],
        "folds.tsv": [
            {"model": row.name, "fold": number, "mean_fmax": fmax}
            for row in rows
            for number, fmax in enumerate(row.folds, 1)
        ],
        "sets.tsv": set_rows(rows, "aspect"),
        "knowledge.tsv": knowledge_rows(rows),
        "leakage.tsv": leakage_table(report),
        "timing.tsv": [asdict(cost) for cost in timing.rows],
    }


def _measured(row: TermRow) -> Iterator[dict[str, Any]]:
    about = {
        "model": row.name,
        "head": row.head,
        "encoder": row.encoder,
        "baseline": "yes" if row.baseline else "no",
        "mean_fmax": row.mean_fmax,
    }
    for aspect, scores in row.aspects.items():
        cells = about | {"aspect": aspect, "proteins": scores.proteins, "terms": scores.aupr.terms}
        for name, interval in scores.metrics.items():
            cells |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
            cells[f"{name}_threshold"] = scores.thresholds[name]
        yield cells | {"aupr_micro": scores.aupr.micro, "aupr_macro": scores.aupr.macro}


def _differences(row: TermRow) -> Iterator[dict[str, Any]]:
    for reference, differences in (("best", row.versus_best), ("homology", row.versus_homology)):
        for aspect, measures in (differences or {}).items():
            for name, difference in measures.items():
                place = {"model": row.name, "reference": reference, "aspect": aspect, "measure": name}
                yield place | asdict(difference)


def _by_range(model: str, aspect: str, column: str, part: Bucket | LengthClass) -> dict[str, Any]:
    values = {name: value for name, value in asdict(part).items() if name != "name"}
    return {"model": model, "aspect": aspect, column: part.name, **values}


# The terminal


def lines(report: TermReport, timing: Timing) -> list[str]:
    """Return tables for a terminal, the best model first, with what was left out before it and how to read them."""
    names = aspects(report.rows)
    header = ["model", *(f"{letter} Fmax" for letter in names), "mean", "fit", "proteins/s", "MB"]
    lines = left_out(report.not_run) + aligned(
        [header, *(_overall(row, cost, list(names)) for row, cost in timed(report.rows, timing))]
    )
    for letter, name in names.items():
        lines += ["", f"{name} ({letter})", *_aspect(report.rows, letter)]
    lines += [*knowledge_lines(report.rows), *set_lines(report.rows)]
    lines += ["", "w-Fmax, micro: Fmax and micro F weighted by information accretion"]
    lines += ["Smin in bits, less is better; in brackets 95 % intervals, all in table.tsv"]
    return [*lines, "p: is Fmax that of the best, of homology? (paired bootstrap, Holm's correction)"]


def _overall(row: TermRow, cost: Cost, letters: Sequence[str]) -> list[str]:
    return [
        row.name,
        *(decimal(row.aspects[letter].metrics["fmax"].value) for letter in letters),
        decimal(row.mean_fmax),
        length_of_time(cost.fit_seconds),
        count(cost.proteins_per_second),
        count(row.megabytes),
    ]


def _aspect(rows: Sequence[TermRow], letter: str) -> list[str]:
    """Return the lines of a table that fits eighty columns: the intervals of other measures are in table.tsv."""
    cells = [["model", *_SHORT, "p, best", "p, homology"]]
    for row in rows:
        metrics = row.aspects[letter].metrics
        values = [decimal(metrics[name].value, digits(name)) if name in metrics else NONE for name in MEASURES]
        values[0] = with_interval(metrics["fmax"], digits("fmax"))
        cells.append([row.name, *values, _p(row.versus_best, letter), _p(row.versus_homology, letter)])
    return aligned(cells)


def with_interval(interval: Interval, places: int = 3) -> str:
    """Say a measure with its interval."""
    return f"{decimal(interval.value, places)} ({between(interval, places)})"


def _p(differences: Differences | None, letter: str) -> str:
    return p_value(differences[letter]["fmax"].p_holm) if differences else NONE


# The page


def page(report: TermReport, timing: Timing, figures: Mapping[str, str]) -> str:
    """Return the page: HTML that asks for nothing else, what was timed in its last section alone.

    Parameters
    ----------
    report : TermReport
    timing : Timing
    figures : mapping
        Name of a figure -> a whole SVG file.
    """
    more = page_names(report) | {"sentences": summary(report)}
    return render(TEMPLATE, report, timing, figures, tables(report, timing), more)


def page_names(report: TermReport) -> dict[str, Any]:
    """Return what the template asks for besides the report."""
    return {
        "aspects": aspects(report.rows),
        "measures": MEASURES,
        "decimal": decimal,
        "between": between,
        "digits": digits,
        "deviation": deviation,
        "kinds": KINDS,
    }


def deviation(values: Sequence[float]) -> str:
    """Say the mean of scores from 0 to 1 and their standard deviation.

    Examples
    --------
    >>> deviation([0.5, 0.6, 0.7]), deviation([0.5])
    ('0.600 ± 0.100', '0.500')
    """
    return decimal(fmean(values)) + (f" ± {decimal(stdev(values))}" if len(values) > 1 else "")


def summary(report: TermReport) -> list[str]:
    """Return what came of it in sentences: the best, and how it stands to homology and to each baseline."""
    best = report.best_row
    names = aspects(report.rows)
    reached = ", ".join(
        f"{name} {with_interval(best.aspects[letter].metrics['fmax'])}" for letter, name in names.items()
    )
    first = f"The best of {competitors(report.rows)} {measured_on(report)}, "
    sentences = [f"{first}by the mean of Fmax over the aspects, is {best.name}: {reached}."]
    if best.versus_homology:
        sentences.append(f"Against homology, its Fmax is {_against(best.versus_homology, names, 1)}.")
    for row in report.rows:
        if row.baseline and row.versus_best:
            sentences.append(f"Against {row.name}, a baseline, it is {_against(row.versus_best, names, -1)}.")
    return sentences


def _against(differences: Differences, names: Mapping[str, str], sign: int) -> str:
    """Say how far apart two models are in each aspect; sign -1 where it was measured the other way round."""
    phrases = []
    for letter, name in names.items():
        fmax = differences[letter]["fmax"]
        doubt = "" if fmax.p_holm < SIGNIFICANT else ", which may be chance"
        phrases.append(f"{decimal(sign * fmax.value, sign=True)} in {name} ({p_equals(fmax.p_holm)}{doubt})")
    return ", ".join(phrases)
