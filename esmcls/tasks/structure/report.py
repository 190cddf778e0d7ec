"""The report of models of structures: tables, sentences, and the page of a comparison or of one model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from esmcls.metrics.classification import Interval
from esmcls.reporting.examined import Column, ExaminedModel, Excerpt
from esmcls.reporting.phrases import (
    NONE,
    SIGNIFICANT,
    aligned,
    count,
    counted,
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
    write_examined,
    write_report,
)
from esmcls.reporting.results import Timing, timed
from esmcls.tasks.examining import Examination
from esmcls.tasks.measured import Behind, cells, with_ends
from esmcls.tasks.structure.answers import StructureAnswers
from esmcls.tasks.structure.figures import FIGURES
from esmcls.tasks.structure.measures import FOLDED, MEASURES, NAMES
from esmcls.tasks.structure.results import StructureReport, StructureRow, Tier

TEMPLATE: Final = "tasks/structure/report.html"
CHAINS: Final = "chains.tsv"
ABOUT: Final = {
    "precision_l": "of the L pairs that are the likeliest contacts, the share that are; L is the resolved residues of "
    "the chain, and pairs are of residues 24 or more apart along it (long range)",
    "precision_l2": "the same of the L/2 likeliest",
    "precision_l5": "the same of the L/5 likeliest",
    "lddt": "of the true distances below 15 Å, the share that the expected distances are off by less than .5, 1, 2 and "
    "4 Å, the mean of the four",
    "confidence": "the lDDT that the head predicts, a mean over residues",
    "loss": "the cross-entropy of the distogram, in nats a pair of residues; 4.16 is what 64 equal bins have",
    "tm_score": "how near the folded trace lies to the true one, residue on the same residue: 1 is the same, .5 the "
    "same fold, .17 what chance gives",
    "gdt_ts": "the mean share of residues that come within 1, 2, 4 and 8 Å",
    "rmsd": "the root of the mean squared distance after the best superposition, in Å",
    "trace_lddt": "the lDDT of the folded trace",
}
_COLUMNS: Final = (
    Column("id", "chain", text=True),
    Column("residues", "residues"),
    Column("resolved", "resolved"),
    Column("precision_l", NAMES["precision_l"], places=3),
    Column("precision_l5", NAMES["precision_l5"], places=3),
    Column("lddt", NAMES["lddt"], places=3),
    Column("confidence", NAMES["confidence"], places=3),
    Column("tm_score", NAMES["tm_score"], places=3),
    Column("rmsd", NAMES["rmsd"], places=1),
    Column("nearest_id", "nearest in train", text=True),
    Column("similarity", "similarity", significant=3),
)


def write_structure_report(folder: Path, report: StructureReport, timing: Timing) -> Path:
    """Write a comparison into a folder; see `esmcls.reporting.report.write_report`."""
    return write_report(folder, report, timing, Layout(FIGURES, tables, page))


def write_structure_examination(
    folder: Path, report: StructureReport, answers: StructureAnswers, examination: Examination
) -> Path:
    """Write the report of one model and return its page: as a comparison's, and a table of all chains."""
    chains = list(_chains(answers, examination))
    words = "Those whose contacts are found worst come first; chains without long-range pairs, last."
    hardest = sorted(chains, key=lambda row: (row["precision_l"] is None, row["precision_l"], row["id"]))
    columns = [column for column in _COLUMNS if answers.folded or column.key not in FOLDED]
    excerpt = Excerpt("Every chain", CHAINS, words, columns, hardest)
    model = ExaminedModel(examination.on, examination.facts, examination.notes, (excerpt,))
    row, timing = report.best_row, examination.timing(report.best)
    first = f"On {counted(report.dataset.chains, 'chain')} {examination.where}, {row.name} reaches "
    first += f"{_reached(row)}; contacts are {report.dataset.contact}."
    more = _facts(report) | {"sentences": [first, *examination.warnings], "examined": model}
    figures = {name: FIGURES[name] for name in FIGURES if name != "intervals"}
    beside = {name: rows for name, rows in tables(report, timing).items() if name != "timing.tsv"}
    return write_examined(folder, report, timing, TEMPLATE, figures, beside, {CHAINS: chains}, more)


def _chains(answers: StructureAnswers, examination: Examination) -> Iterator[dict[str, Any]]:
    """Give what is reached on each chain, and its nearest training protein."""
    nearest = examination.nearest(range(len(answers.ids)))
    for row, (name, near) in enumerate(zip(answers.ids, nearest.nearest, strict=True)):
        values = zip(MEASURES, answers.values[row].tolist(), strict=True)
        yield {
            "id": name,
            "residues": int(answers.sizes[row]),
            "resolved": int(answers.resolved[row]),
            **{measure: None if np.isnan(value) else value for measure, value in values},
            "nearest_id": near and near.id,
            "similarity": near.similarity if near and math.isfinite(near.similarity) else None,
            "similarity_is": nearest.measure if near else None,
        }


# Tables


def tables(report: StructureReport, timing: Timing) -> dict[str, Table]:
    """Return the name and the rows of each TSV file; one without rows is no file."""
    rows = report.rows
    return {
        "table.tsv": [cells(row) | _beside(row) for row in rows],
        "lengths.tsv": [
            {"model": row.name, "residues": tier.name, **_tier(tier)} for row in rows for tier in row.lengths
        ],
        "relatives.tsv": [
            {"model": row.name, "training_relatives": tier.name, **_tier(tier)} for row in rows for tier in row.depths
        ],
        "confidence.tsv": [
            {"model": row.name, "confidence_in": point.name, "residues": point.residues}
            | {"confidence": point.confidence, "lddt": point.lddt}
            for row in rows
            for point in row.confidence
        ],
        "folds.tsv": [
            {"model": row.name, "fold": number, report.main: score}
            for row in rows
            for number, score in enumerate(row.folds, 1)
        ],
        "leakage.tsv": leakage_table(report),
        "timing.tsv": [asdict(cost) for cost in timing.rows],
    }


def _tier(tier: Tier) -> dict[str, Any]:
    return {"chains": tier.n, **{name: tier.means.get(name) for name in MEASURES}}


def _beside(row: StructureRow) -> dict[str, Any]:
    """Return how far a model is behind in other measures, as cells."""
    beside: dict[str, Any] = {}
    for name in ("lddt", "tm_score"):
        behind = row.behind.get(name)
        beside |= with_ends(f"{name}_difference", behind.difference if behind else None)
        beside[f"{name}_p_holm"] = behind.p_holm if behind else None
    return beside


# The terminal


def lines(report: StructureReport, timing: Timing) -> list[str]:
    """Return the table for a terminal, the best model first, with what was left out before it and how to read it."""
    names = [name for name in report.rows[0].metrics if name not in (report.main, "confidence", "loss")]
    header = ["model", NAMES[report.main], *(NAMES[name] for name in names), "p", "fit", "MB"]
    body = [
        [
            row.name,
            _with_ends(row.metrics[report.main]),
            *(_value(row.metrics.get(name)) for name in names),
            p_value(row.versus_best.p_holm) if row.versus_best else NONE,
            length_of_time(cost.fit_seconds),
            count(row.megabytes),
        ]
        for row, cost in timed(report.rows, timing)
    ]
    explained = [f"contacts: {report.dataset.contact}"]
    if report.dataset.folded:
        explained.append(
            f"TM-score, GDT-TS, RMSD: of {counted(report.dataset.folded, 'chain')}, spread over the lengths"
        )
    explained.append("p: whether its P@L is the best's (paired bootstrap over chains, Holm's correction)")
    return [*left_out(report.not_run), *aligned([header, *body]), "", *explained]


def _value(interval: Interval | None) -> str:
    return NONE if interval is None else decimal(interval.value)


def _with_ends(interval: Interval) -> str:
    return f"{decimal(interval.value)} ({decimal(interval.low)} to {decimal(interval.high)})"


# The page


def page(report: StructureReport, timing: Timing, figures: Mapping[str, str]) -> str:
    """Return the page: HTML that asks for nothing else, what was timed in its last section alone."""
    more = _facts(report) | {"sentences": summary(report)}
    return render(TEMPLATE, report, timing, figures, tables(report, timing), more)


def _facts(report: StructureReport) -> dict[str, Any]:
    """Return what the template asks for besides the report."""
    measured = [name for name in MEASURES if any(name in row.metrics for row in report.rows)]
    facts = {"best_row": report.best_row, "names": NAMES, "about": ABOUT, "measured": measured}
    return facts | {"beside": [name for name in ("lddt", "tm_score") if any(name in row.behind for row in report.rows)]}


def _reached(row: StructureRow) -> str:
    names = [name for name in ("precision_l", "lddt", FOLDED[0]) if name in row.metrics]
    return ", ".join(f"{NAMES[name]} {_with_ends(row.metrics[name])}" for name in names)


def summary(report: StructureReport) -> list[str]:
    """Return what came of it in sentences: the best, and how it stands to the next and to a baseline."""
    best = report.best_row
    others = [row for row in report.rows if row is not best]
    first = f"The best of {competitors(report.rows)} {measured_on(report)}, by long-range contacts, is {best.name}: "
    first += f"{_reached(best)}."
    rivals = {row.name: row for rows in (others[:1], [row for row in others if row.baseline]) for row in rows[:1]}
    return [first, *(_against(row) for row in rivals.values())]


def _against(row: StructureRow) -> str:
    """Return a sentence on how far the best is ahead of a row, in each measure that differences are told of."""
    behind = {"precision_l": row.versus_best, **row.behind}
    sentences = ", ".join(
        f"{NAMES[name]} {_ahead(difference)}" for name, difference in behind.items() if difference is not None
    )
    return f"Against {row.name}{', a baseline' if row.baseline else ''}: {sentences}."


def _ahead(behind: Behind) -> str:
    doubt = "" if behind.p_holm < SIGNIFICANT else ", which may be chance"
    return f"{decimal(-behind.difference.value, sign=True)} ({p_equals(behind.p_holm)}{doubt})"
