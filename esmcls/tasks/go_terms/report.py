"""The report of a comparison on terms: page, numbers and figures as in `esmcls.reporting.report`, each aspect apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from esmcls.labels.ontology import ASPECTS
from esmcls.reporting.phrases import (
    NONE,
    SIGNIFICANT,
    between,
    competitors,
    count,
    decimal,
    length_of_time,
    p_value,
)
from esmcls.reporting.report import Kind, Table, Timing, aligned, render, timed, write_report
from esmcls.tasks.go_terms.figures import save_term_figures
from esmcls.tasks.one_label.figures import Comparison, Row

TEMPLATE: Final = "tasks/go_terms/report.html"
MEASURES: Final = {"fmax": "Fmax", "wfmax": "weighted Fmax", "smin": "Smin"}
_DIGITS: Final = {"smin": 2}
_REFERENCES: Final = {"versus_best": "best", "versus_homology": "homology"}


def write_term_report(folder: Path, comparison: Comparison, timing: Timing) -> Path:
    """Write a comparison into a folder, as `esmcls.reporting.report.write_report` does."""
    return write_report(folder, comparison, timing, Kind(save_term_figures, tables, page))


def digits(measure: str) -> int:
    """Return to how many places a measure is told: Smin is in bits, the others are from 0 to 1."""
    return _DIGITS.get(measure, 3)


def aspects(comparison: Comparison) -> dict[str, str]:
    """Return the letters of the aspects that were measured, and what each is called."""
    letters = dict.fromkeys(letter for row in comparison["rows"] for letter in row["aspects"])
    return {letter: ASPECTS.get(letter, letter).replace("_", " ") for letter in letters}


# Tables


def tables(comparison: Comparison, timing: Timing) -> dict[str, Table]:
    """Return the name and the rows of each TSV file; one without rows is no file."""
    rows = comparison["rows"]
    return {
        "table.tsv": [line for row in rows for line in _flat(row)],
        "differences.tsv": [line for row in rows for line in _differences(row)],
        "buckets.tsv": list(_places(rows, "buckets", "training_proteins")),
        "lengths.tsv": list(_places(rows, "lengths", "residues")),
        "timing.tsv": [dict(row) for row in timing["rows"]],
    }


def _flat(row: Row) -> Iterator[dict[str, Any]]:
    about = {"model": row["name"], "head": row["head"], "encoder": row["encoder"]}
    about |= {"baseline": "yes" if row["baseline"] else "no", "mean_fmax": row["mean_fmax"]}
    for aspect, found in row["aspects"].items():
        flat = about | {"aspect": aspect, "proteins": found["proteins"], "terms": found["aupr"]["terms"]}
        for name, one in found["metrics"].items():
            flat |= {name: one["value"], f"{name}_low": one["low"], f"{name}_high": one["high"]}
            flat[f"{name}_threshold"] = found["thresholds"][name]
        yield flat | {f"aupr_{kind}": found["aupr"][kind] for kind in ("micro", "macro")}


def _differences(row: Row) -> Iterator[dict[str, Any]]:
    for key, reference in _REFERENCES.items():
        for aspect, measures in (row[key] or {}).items():
            for name, one in measures.items():
                yield {"model": row["name"], "reference": reference, "aspect": aspect, "measure": name, **one}


def _places(rows: Sequence[Row], key: str, label: str) -> Iterator[dict[str, Any]]:
    for row in rows:
        for aspect, found in row["aspects"].items():
            for one in found[key]:
                place = {name: value for name, value in one.items() if name != "name"}
                yield {"model": row["name"], "aspect": aspect, label: one["name"], **place}


# The terminal


def lines(comparison: Comparison, timing: Timing) -> list[str]:
    """Return tables for a terminal, the best model first, with what was not run and how to read them.

    Parameters
    ----------
    comparison, timing : mapping
        As `write_term_report` takes them.
    """
    pairs, names = timed(comparison["rows"], timing), aspects(comparison)
    cells = [["model", *(f"{letter} Fmax" for letter in names), "mean", "fit", "proteins/s", "MB"]]
    cells += [_overall(row, cost, list(names)) for row, cost in pairs]
    told = aligned(cells)
    for letter, name in names.items():
        told += ["", f"{name} ({letter})", *_aspect(comparison["rows"], letter)]
    told += ["", "Smin in bits, less is better; beside each value its 95 % interval"]
    told += ["p: whether Fmax is that of the best, of homology (paired bootstrap, Holm's correction)"]
    return told + [f"not run: {one['name']}: {one['reason']}" for one in comparison["not_run"]]


def _overall(row: Row, cost: Mapping[str, Any], letters: Sequence[str]) -> list[str]:
    found = [decimal(row["aspects"][letter]["metrics"]["fmax"]["value"]) for letter in letters]
    took, speed = length_of_time(cost["fit_seconds"]), count(cost["proteins_per_second"])
    return [row["name"], *found, decimal(row["mean_fmax"]), took, speed, count(row["megabytes"])]


def _aspect(rows: Sequence[Row], letter: str) -> list[str]:
    cells = [["model", *MEASURES.values(), "p, best", "p, homology"]]
    for row in rows:
        metrics = row["aspects"][letter]["metrics"]
        found = [_with_interval(metrics[name], digits(name)) if name in metrics else NONE for name in MEASURES]
        cells.append([row["name"], *found, *(_p(row[key], letter) for key in _REFERENCES)])
    return aligned(cells)


def _with_interval(found: Mapping[str, float], places: int) -> str:
    return f"{decimal(found['value'], places)} ({between(found, places)})"


def _p(versus: Mapping[str, Any] | None, letter: str) -> str:
    return NONE if not versus else p_value(versus[letter]["fmax"]["p_holm"])


# The page


def page(comparison: Comparison, timing: Timing, figures: Mapping[str, str]) -> str:
    """Return the page: HTML that asks for nothing else, what was timed in its last section alone.

    Parameters
    ----------
    comparison, timing, figures : mapping
        As `esmcls.reporting.report.page` takes them.
    """
    more = {
        "sentences": summary(comparison),
        "aspects": aspects(comparison),
        "measures": MEASURES,
        "decimal": decimal,
        "between": between,
        "digits": digits,
    }
    return render(TEMPLATE, comparison, timing, figures, tables(comparison, timing), more)


def summary(comparison: Comparison) -> list[str]:
    """Return what came of it in sentences: the best, and how it stands to homology and to each baseline."""
    rows = comparison["rows"]
    [best] = [row for row in rows if row["name"] == comparison["best"]]
    n, names = count(comparison["dataset"]["records"]["test"]), aspects(comparison)
    reached = ", ".join(f"{name} {_fmax(best, letter)}" for letter, name in names.items())
    first = f"The best of {competitors(rows)} on the test part ({n} proteins), by the mean of Fmax over the aspects, "
    found = [f"{first}is {best['name']}: {reached}."]
    if best["versus_homology"]:
        found.append(f"Against homology, its Fmax is {_against(best['versus_homology'], names, 1)}.")
    for row in rows:
        if row["baseline"] and row["versus_best"]:
            found.append(f"Against {row['name']}, a baseline, it is {_against(row['versus_best'], names, -1)}.")
    return found


def _fmax(row: Row, letter: str) -> str:
    found = row["aspects"][letter]["metrics"]["fmax"]
    return f"{decimal(found['value'])} ({between(found)})"


def _against(versus: Mapping[str, Any], names: Mapping[str, str], sign: int) -> str:
    """Say how far apart two models are in each aspect; sign -1 where it was measured the other way round."""
    told = []
    for letter, name in names.items():
        one = versus[letter]["fmax"]
        p = p_value(one["p_holm"])
        chance = f"p {p}" if p.startswith("<") else f"p = {p}"
        doubt = "" if one["p_holm"] < SIGNIFICANT else ", which may be chance"
        told.append(f"{decimal(sign * one['value'], sign=True)} in {name} ({chance}{doubt})")
    return ", ".join(told)
