"""The report of one model of terms: what a comparison tells, and every term and every protein that is not all right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from esmcls.labels.ontology import Ontology
from esmcls.reporting.examined import Column, ExaminedModel, Excerpt
from esmcls.reporting.phrases import counted
from esmcls.reporting.report import Layout, Table, render, write_report
from esmcls.reporting.results import Timing
from esmcls.tasks.closeness import Neighbour, Neighbours
from esmcls.tasks.examining import Exam, Examination
from esmcls.tasks.go_terms.report import (
    ACCRETION,
    TEMPLATE,
    aspects,
    page_names,
    tables,
    with_interval,
    write_accretion,
)
from esmcls.tasks.go_terms.results import TermReport
from esmcls.tasks.label_sets.evaluation import TermDetails
from esmcls.tasks.label_sets.figures import FIGURES

TERMS: Final = "terms.tsv"
WRONG: Final = "wrong.tsv"
LEAST: Final = 5
"""Test proteins of a term that the page speaks of."""
_BESIDE: Final = ("table.tsv", "buckets.tsv", "lengths.tsv", "leakage.tsv")
_TERM_COLUMNS: Final = (
    Column("term", "term", text=True),
    Column("name", "name", text=True),
    Column("aspect", "aspect", text=True),
    Column("training_proteins", "training proteins"),
    Column("test_proteins", "test proteins"),
    Column("information_accretion", "information accretion (bits)", places=2),
    Column("fmax", "Fmax", places=3),
    Column("average_precision", "average precision", places=3),
)
_WRONG_COLUMNS: Final = (
    Column("id", "protein", text=True),
    Column("f1", "F1", places=2),
    Column("right", "right"),
    Column("wrong", "wrong"),
    Column("missed", "missed"),
    Column("taken_for_name", "taken for", text=True),
    Column("probability", "probability", places=2),
    Column("nearest_id", "nearest in train", text=True),
    Column("similarity", "similarity", significant=3),
)


def write_evaluation(
    folder: Path, report: TermReport, details: TermDetails, exam: Exam, ontology: Ontology, examination: Examination
) -> Path:
    """Write the report of a model and return its page.

    Parameters
    ----------
    folder : Path
    report : TermReport
        Of one row.
    details : TermDetails
    exam : Exam
    ontology : Ontology
    examination : Examination
    """
    n_train = report.dataset.records["train"]
    terms = term_table(details, ontology, n_train)
    wrong = details.wrong_rows()
    nearest = examination.nearest(wrong)
    mistakes = sorted(_mistakes(details, exam, wrong, nearest, ontology), key=lambda row: (row["f1"], row["id"]))
    hardest = sorted(
        (row for row in terms if row["test_proteins"] >= LEAST), key=lambda row: (row["fmax"], row["term"])
    )
    words = f"Of the terms that {LEAST} test proteins or more have, those that are found least, by Fmax, come first."
    model = ExaminedModel(
        examination.on,
        examination.facts,
        examination.notes,
        (
            Excerpt("Every term", TERMS, words, _TERM_COLUMNS, hardest),
            Excerpt("Every protein with a wrong or a missed term", WRONG, _about(nearest), _WRONG_COLUMNS, mistakes),
        ),
    )

    def all_tables(report: TermReport, timing: Timing) -> dict[str, Table]:
        beside = {name: rows for name, rows in tables(report, timing).items() if name in _BESIDE}
        return beside | {TERMS: terms, WRONG: mistakes}

    def page(report: TermReport, timing: Timing, figures: Mapping[str, str]) -> str:
        more = page_names(report) | {"sentences": _sentences(report, examination), "examined": model}
        return render(TEMPLATE, report, timing, figures, all_tables(report, timing), more)

    folder.mkdir(parents=True, exist_ok=True)
    write_accretion(folder / ACCRETION, report.accretion)
    layout = Layout(FIGURES, all_tables, page, workbooks=(TERMS, WRONG), timed=False)
    return write_report(folder, report, examination.timing(report.best), layout)


def _about(nearest: Neighbours) -> str:
    words = (
        "The terms that the model predicts by its thresholds against those that the protein has, in the aspects in "
        "which it has any: the worst, by F1, come first. Taken for: the wrong term that the model was most sure of."
    )
    return f"{words} Similarity: {nearest.measure}." if nearest.measure else words


def _sentences(report: TermReport, examination: Examination) -> list[str]:
    row = report.best_row
    reached = ", ".join(
        f"{with_interval(row.aspects[letter].metrics['fmax'])} in {name}" for letter, name in aspects([row]).items()
    )
    n = report.dataset.records["test"]
    first = f"On {counted(n, 'protein')} {examination.where}, {row.name} reaches an Fmax of {reached}."
    return [first, *examination.warnings]


def term_table(details: TermDetails, ontology: Ontology, n_train: int) -> Table:
    """Return a row for each term that a training or test protein has."""
    truth, each = details.truth, details.each
    table: Table = []
    for code, term in enumerate(truth.classes):
        place = ontology.place.get(term)
        members = int(details.members[code])
        there = bool(each.proteins[code])
        table.append(
            {
                "term": term,
                "name": "" if place is None else ontology.names[place],
                "aspect": truth.groups[code] if truth.groups else "",
                "training_proteins": members,
                "frequency": members / n_train if n_train else None,
                "information_accretion": None if details.bits is None else float(details.bits[code]),
                "test_proteins": int(each.proteins[code]),
                "fmax": float(each.fmax[code]) if there else None,
                "threshold": float(each.threshold[code]) if there else None,
                "average_precision": float(each.average_precision[code]) if there else None,
            }
        )
    return table


def _mistakes(
    details: TermDetails, exam: Exam, rows: Sequence[int], nearest: Neighbours, ontology: Ontology
) -> Iterator[dict[str, Any]]:
    """Give what is wrong of each protein, and its nearest training protein."""
    classes = details.truth.classes
    for row, near in zip(rows, nearest.nearest, strict=True):
        codes, probabilities = details.judged(row)
        true = set(details.truth.row(row).tolist())
        pairs = sorted(zip((-probabilities).tolist(), codes.tolist(), strict=True))
        wrong = [(classes[code], -negative) for negative, code in pairs if code not in true]
        missed = [classes[code] for code in sorted(true - set(codes.tolist()))]
        right = len(codes) - len(wrong)
        best = wrong[0] if wrong else None
        yield {
            "id": exam.part.ids[row],
            "residues": len(exam.part.sequences[row]),
            "f1": 2 * right / (len(codes) + len(true)),  # a wrong row has one or the other
            "right": right,
            "wrong": len(wrong),
            "missed": len(missed),
            "taken_for": best and best[0],
            "taken_for_name": best and _named(best[0], ontology),
            "probability": best and best[1],
            "wrong_terms": "; ".join(f"{term} {value:.2f}" for term, value in wrong),
            "missed_terms": "; ".join(missed),
            **_nearest(near, nearest.measure),
        }


def _named(term: str, ontology: Ontology) -> str:
    return f"{term} {ontology.names[ontology.place[term]]}"


def _nearest(near: Neighbour | None, measure: str) -> dict[str, Any]:
    return {
        "nearest_id": near and near.id,
        "nearest_terms": near and near.label.replace(" ", "; "),
        "similarity": near.similarity if near and math.isfinite(near.similarity) else None,
        "similarity_is": measure if near else None,
    }
