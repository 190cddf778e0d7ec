"""The report of a comparison: a page that works offline, its numbers as JSON and TSV, its figures as SVG and PNG.

All of it is the same bytes for the same comparison, under one version of matplotlib. What was timed stands apart:
in timing.json, timing.tsv and the last section of the page.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

from esmcls.errors import DataError
from esmcls.files import atomic_path, write_json
from esmcls.reporting.phrases import NONE, competitors, count, length_of_time, p_value, percent, span, spread, summary
from esmcls.tasks.one_label.figures import Comparison, Row, save_figures
from esmcls.text_files import open_lines

PAGE: Final = "report.html"
TEMPLATE: Final = "tasks/one_label/report.html"
JSON: Final = "report.json"
TIMING: Final = "timing.json"
FIGURES: Final = "figures"
_MAIN: Final = ("accuracy", "top_5", "macro_f1")

Timing = Mapping[str, Any]
"""What timing.json holds."""
Table = list[dict[str, Any]]


class Kind(NamedTuple):
    """What the report of a kind of comparison is made by: figures into a folder, tables and page from the numbers."""

    draw: Callable[[Comparison, Path], list[str]]
    tables: Callable[[Comparison, Timing], dict[str, Table]]
    page: Callable[[Comparison, Timing, Mapping[str, str]], str]


def read_names(path: str | Path) -> dict[str, str]:
    """Read names of classes: a table of class and name, tab-separated; more columns are joined.

    Raises
    ------
    DataError
        If the file cannot be read or a line has no second column.
    """
    found: dict[str, str] = {}
    with open_lines(str(path)) as lines:
        for number, line in enumerate(lines, 1):
            label, *names = (cell.strip() for cell in line.rstrip("\r\n").split("\t"))
            if not names and label:
                fix = "give the class and its name, tab-separated"
                raise DataError(path, "no second column", fix, line=number, record=label)
            found[label] = "; ".join(name for name in names if name)
    return found


def write_report(folder: Path, comparison: Comparison, timing: Timing, kind: Kind | None = None) -> Path:
    """Write a comparison into a folder, made if need be; files of an earlier one that has more are removed.

    Parameters
    ----------
    folder : Path
    comparison : mapping
        What report.json is to hold.
    timing : mapping
        What timing.json is to hold: "rows", each with name, fit_seconds and proteins_per_second (None: not known).
    kind : Kind, optional
        By default that of one label a protein.

    Returns
    -------
    Path
        The page, which is written last. Each file is there whole or not at all.
    """
    kind = kind or Kind(save_figures, tables, page)
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    drawn = kind.draw(comparison, folder / FIGURES)
    for name, table in kind.tables(comparison, timing).items():
        _write_table(folder / name, table)
    write_json(folder / JSON, comparison)
    write_json(folder / TIMING, timing)
    figures = {name: (folder / FIGURES / f"{name}.svg").read_text(encoding="utf-8") for name in drawn}
    with atomic_path(folder / PAGE) as temporary:
        temporary.write_text(kind.page(comparison, timing, figures), encoding="utf-8")
    return folder / PAGE


# Tables


def tables(comparison: Comparison, timing: Timing) -> dict[str, Table]:
    """Return the name and the rows of each TSV file, shares from 0 to 1; one without rows is no file."""
    rows, names = comparison["rows"], comparison["family_names"]
    return {
        "table.tsv": [_flat(row) for row in rows],
        "tiers.tsv": list(_places(rows, "tiers", "training_members")),
        "lengths.tsv": list(_places(rows, "lengths", "residues")),
        "confusions.tsv": [{"model": row["name"], **_named(one, names)} for row in rows for one in row["confusions"]],
        "folds.tsv": [
            {"model": row["name"], "fold": fold, **one} for row in rows for fold, one in enumerate(row["folds"], 1)
        ],
        "open_set.tsv": [_without_curve(row["name"], row["open_set"]) for row in rows if row["open_set"]],
        "sets.tsv": [{"model": row["name"], **row["sets"]} for row in rows if row["sets"]],
        "timing.tsv": [dict(row) for row in timing["rows"]],
    }


def _flat(row: Row) -> dict[str, Any]:
    metrics, versus = row["metrics"], row["versus_best"] or {}
    flat = {"model": row["name"], "head": row["head"], "encoder": row["encoder"]}
    flat["baseline"] = "yes" if row["baseline"] else "no"
    for name in (*_MAIN, *sorted(metrics.keys() - set(_MAIN))):
        flat |= _ends(name, metrics[name])
    flat |= _ends("difference", versus.get("difference", {}))
    flat |= {what: versus.get(what) for what in ("p", "p_holm")}
    return flat | {what: row[what] for what in ("calibration_error", "megabytes")}


def _ends(name: str, interval: Mapping[str, float]) -> dict[str, Any]:
    return {name: interval.get("value"), f"{name}_low": interval.get("low"), f"{name}_high": interval.get("high")}


def _places(rows: Sequence[Row], key: str, label: str) -> Iterator[dict[str, Any]]:
    for row in rows:
        for one in row[key]:
            yield {"model": row["name"], label: one["name"], "n": one["n"], "accuracy": one["accuracy"]}


def _named(confusion: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    ends = {end: confusion[end] for end in ("true", "predicted")}
    told = {f"{end}_name": names.get(name, "") for end, name in ends.items()}
    return ends | (told if names else {}) | {"n": confusion["n"], "of": confusion["of"]}


def _without_curve(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": name} | {what: value for what, value in found.items() if what != "roc"}


def _write_table(path: Path, table: Table) -> None:
    if not table:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, table[0].keys(), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


# The terminal


def lines(comparison: Comparison, timing: Timing) -> list[str]:
    """Return the table for a terminal, the best model first, with what was not run and how to read it.

    Parameters
    ----------
    comparison, timing : mapping
        As `write_report` takes them.
    """
    rows = comparison["rows"]
    tiers = [tier["name"] for tier in rows[0]["tiers"]]
    header = ["model", "accuracy %", "top-5", "macro F1", *tiers, "p", "fit", "proteins/s", "MB"]
    told = aligned([header, *(_cells(row, cost) for row, cost in timed(rows, timing))])
    told += ["", f"{', '.join(tiers)}: accuracy (%) by training members of the family"]
    told += ["p: whether it is as accurate as the best (paired bootstrap, Holm's correction)"]
    return told + [f"not run: {one['name']}: {one['reason']}" for one in comparison["not_run"]]


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: the first column to the left, all others to the right.

    Examples
    --------
    >>> aligned([["model", "n"], ["knn", "12"]])
    ['model   n', 'knn    12']
    """
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells]


def _cells(row: Row, cost: Mapping[str, Any]) -> list[str]:
    metrics, versus = row["metrics"], row["versus_best"]
    found = [f"{percent(metrics['accuracy']['value'])} ({span(metrics['accuracy'])})"]
    found += [percent(metrics[name]["value"]) for name in _MAIN[1:]]
    found += [percent(tier["accuracy"]) for tier in row["tiers"]]
    found += [p_value(versus["p_holm"]) if versus else NONE, length_of_time(cost["fit_seconds"])]
    return [row["name"], *found, count(cost["proteins_per_second"]), count(row["megabytes"])]


def timed(rows: Sequence[Row], timing: Timing) -> list[tuple[Row, Mapping[str, Any]]]:
    """Return rows with what was timed of them."""
    costs = {cost["name"]: cost for cost in timing["rows"]}
    return [(row, costs[row["name"]]) for row in rows]


# The page


def page(comparison: Comparison, timing: Timing, figures: Mapping[str, str]) -> str:
    """Return the page: HTML that asks for nothing else, what was timed in its last section alone.

    Parameters
    ----------
    comparison, timing : mapping
        As `write_report` takes them.
    figures : mapping
        Name of a figure, as in `plots.FIGURES` -> a whole SVG file.
    """
    rows = comparison["rows"]
    best_row = next(row for row in rows if row["name"] == comparison["best"])
    more = {"best_row": best_row, "sentences": summary(comparison)}
    return render(TEMPLATE, comparison, timing, figures, tables(comparison, timing), more)


def render(
    template: str,
    comparison: Comparison,
    timing: Timing,
    figures: Mapping[str, str],
    tables: Mapping[str, Table],
    more: Mapping[str, Any],
) -> str:
    """Return a page by one of the templates of the package.

    Parameters
    ----------
    template : str
    comparison, timing, figures : mapping
        As `page` takes them.
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
    environment.filters |= {one.__name__: one for one in (percent, span, p_value, length_of_time, count, spread)}
    environment.filters |= {name: value for name, value in more.items() if callable(value)}
    told = environment.get_template(template).render(
        comparison,
        **more,
        competitors=competitors(comparison["rows"]),
        timed=timed(comparison["rows"], timing),
        figures={name: Markup(_inline(name, svg)) for name, svg in figures.items()},
        files=[name for name, table in tables.items() if table],
    )
    return f"{told}\n"


def _inline(name: str, svg: str) -> str:
    """Return an SVG as part of a page, which says how large: no prolog, no metadata, and ids of its own."""
    head, body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL).split(">", 1)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)[0]
    body = re.sub(r"<[^>]*>", lambda tag: re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-", tag[0]), body)
    return f'<svg viewBox="0 0 {width} {height}" style="--width:{width}pt">{body}'
