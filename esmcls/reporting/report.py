"""The report of a comparison: a page that works offline, its numbers as JSON and TSV, its figures as SVG, PNG and PDF.

All of it is the same bytes for the same comparison, under one version of matplotlib. Times stand apart: in timing.json,
timing.tsv and the last section of the page.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Generic

from esmcls.files import atomic_path
from esmcls.plain_values import write_json
from esmcls.reporting.model_figures import Figures, save_figures
from esmcls.reporting.phrases import count, counted, decimal, length_of_time, p_value, percent, span, spread
from esmcls.reporting.results import ModelRow, NotRun, Report, ReportT, Timing, timed
from esmcls.reporting.workbook import write_workbook

PAGE: Final = "report.html"
JSON: Final = "report.json"
TIMING: Final = "timing.json"
FIGURES: Final = "figures"

Table = list[dict[str, Any]]
"""Rows of a TSV file, all with the same columns."""


@dataclass(frozen=True)
class Layout(Generic[ReportT]):
    """How a kind of task shows a comparison.

    Parameters
    ----------
    figures : mapping
        Name -> what draws it.
    tables : callable
        From a comparison and its timing to the name and the rows of each TSV file; one without rows is no file.
    page : callable
        From a comparison, its timing and the text of each figure's SVG to the page.
    workbooks : tuple of str
        Tables that are written as XLSX, too.
    timed : bool
        Whether there is a timing.json.
    """

    figures: Figures[ReportT]
    tables: Callable[[ReportT, Timing], dict[str, Table]]
    page: Callable[[ReportT, Timing, Mapping[str, str]], str]
    workbooks: tuple[str, ...] = ()
    timed: bool = True


def write_report(folder: Path, report: ReportT, timing: Timing, layout: Layout[ReportT]) -> Path:
    """Write a comparison into a folder, made if need be; files of an earlier one that has more are removed.

    Parameters
    ----------
    folder : Path
    report : Report
    timing : Timing
        With a row for each of the report's.
    layout : Layout

    Returns
    -------
    Path
        The page, which is written last. Each file is there whole or not at all.
    """
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    drawn = save_figures(report, folder / FIGURES, layout.figures)
    for name, table in layout.tables(report, timing).items():
        _write_table(folder / name, table)
        if name in layout.workbooks:
            _write_sheet((folder / name).with_suffix(".xlsx"), table)
    write_json(folder / JSON, report.to_json())
    if layout.timed:
        write_json(folder / TIMING, timing.to_json())
    figures = {name: (folder / FIGURES / f"{name}.svg").read_text(encoding="utf-8") for name in drawn}
    with atomic_path(folder / PAGE) as temporary:
        temporary.write_text(layout.page(report, timing, figures), encoding="utf-8")
    return folder / PAGE


def write_examined(
    folder: Path,
    report: ReportT,
    timing: Timing,
    template: str,
    figures: Figures[ReportT],
    beside: Mapping[str, Table],
    files: Mapping[str, Table],
    more: Mapping[str, Any],
) -> Path:
    """Write the report of one model into a folder and return its page: nothing in it is timed.

    Parameters
    ----------
    folder : Path
    report : Report
        Of one row.
    timing : Timing
    template : str
        See `render`.
    figures : mapping
        Name -> what draws it.
    beside : mapping
        Tables that a comparison has, too.
    files : mapping
        Those of a single model, such as of every protein; they are written as XLSX, too.
    more : mapping
        What the template asks for: `sentences` and `examined` among it.
    """
    tables = {**beside, **files}

    def page(report: ReportT, timing: Timing, drawn: Mapping[str, str]) -> str:
        return render(template, report, timing, drawn, tables, more)

    return write_report(folder, report, timing, Layout(figures, lambda *_: tables, page, tuple(files), timed=False))


def _write_table(path: Path, table: Table) -> None:
    if not table:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, table[0].keys(), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def _write_sheet(path: Path, table: Table) -> None:
    if not table:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        write_workbook((list(row.values()) for row in table), handle, list(table[0]))


def leakage_table(report: Report) -> Table:
    """Return the rows of leakage.tsv: what each model reaches by nearness to train; none where it was not measured."""
    bins = report.leakage.bins if report.leakage else []
    return [
        {"model": row.name, "nearness": part.name, "n": part.n, "score": part.scores.get(row.name)}
        for row in report.rows
        for part in bins
    ]


def left_out(models: Sequence[NotRun]) -> list[str]:
    """Say which models were to be compared and are not, before anything else, with an empty line behind.

    Examples
    --------
    >>> left_out([NotRun("homology", "needs mmseqs")]), left_out([])
    (['left out: homology: needs mmseqs', ''], [])
    """
    lines = [f"left out: {model.name}: {model.reason}" for model in models]
    return [*lines, ""] if lines else []


def competitors(rows: Sequence[ModelRow]) -> str:
    """Say how many models and baselines there are, as in `6 models and 1 baseline`."""
    baselines = sum(row.baseline for row in rows)
    numbers = {"model": len(rows) - baselines, "baseline": baselines}
    return " and ".join(counted(number, noun) for noun, number in numbers.items() if number)


def measured_on(report: Report) -> str:
    """Say which proteins the models were measured on: those of the test part, or of all folds together."""
    records, folds = report.dataset.records, report.settings.folds
    if folds:
        proteins = count(records["train"] + records["validation"])
        return f"in {folds} folds of train and validation ({proteins} proteins; the test part was not read)"
    return f"on the test part ({count(records['test'])} proteins)"


def render(
    template: str,
    report: ReportT,
    timing: Timing,
    figures: Mapping[str, str],
    tables: Mapping[str, Table],
    more: Mapping[str, Any],
) -> str:
    """Return a page by one of the templates of the package.

    Parameters
    ----------
    template : str
        Its path in the package.
    report : Report
        Its fields are names in the template.
    timing : Timing
    figures : mapping
        Name of a figure -> a whole SVG file.
    tables : mapping
        Those with rows are named.
    more : mapping
        What else the template asks for; its functions become filters.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    loader = FunctionLoader(lambda name: resources.files("esmcls").joinpath(name).read_text(encoding="utf-8"))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader
    )
    formatters = (percent, span, p_value, length_of_time, count, spread, decimal)
    environment.filters |= {formatter.__name__: formatter for formatter in formatters}
    environment.filters |= {name: value for name, value in more.items() if callable(value)}
    page = environment.get_template(template).render(
        vars(report),
        **{"percent": percent, "decimal": decimal, "examined": None} | dict(more),
        machine=timing.machine,
        competitors=competitors(report.rows),
        timed=timed(report.rows, timing),
        figures={name: Markup(_inline(name, svg)) for name, svg in figures.items()},
        files=[name for name, table in tables.items() if table],
    )
    return f"{page}\n"


def _inline(name: str, svg: str) -> str:
    """Return an SVG as part of a page, which says how large: no prolog, no metadata, and ids of its own."""
    drawing = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    head, body = drawing.split(">", 1)
    [(width, height)] = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    body = re.sub(r"<[^>]*>", lambda tag: re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-", tag[0]), body)
    return f'<svg viewBox="0 0 {width} {height}" style="--width:{width}pt">{body}'
