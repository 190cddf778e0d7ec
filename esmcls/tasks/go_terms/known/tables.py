"""Models of a comparison by what was known of proteins: tables for a file, and for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from esmcls.reporting.phrases import NONE, aligned, between, counted, decimal, p_value
from esmcls.tasks.go_terms.known.knowledge import KINDS, TargetScores
from esmcls.tasks.go_terms.results import TermRow

_MEASURES: Final = {"fmax": "Fmax", "f_micro_w": "weighted micro F"}


def knowledge_rows(rows: Sequence[TermRow]) -> list[dict[str, Any]]:
    """Return a row for each model, kind of target and aspect, with how far it is from the best and from homology."""
    return [
        _measured(row, kind, letter, scores)
        for row in rows
        for kind, by_aspect in row.by_knowledge.items()
        for letter, scores in by_aspect.items()
    ]


def _measured(row: TermRow, kind: str, letter: str, scores: TargetScores) -> dict[str, Any]:
    cells: dict[str, Any] = {"model": row.name, "targets": kind, "aspect": letter, "proteins": scores.proteins}
    for name, interval in scores.metrics.items():
        cells |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    for reference, by_kind in (("best", row.known_versus_best), ("homology", row.known_versus_homology)):
        difference = by_kind.get(kind, {}).get(letter, {}).get("fmax")
        values = dict.fromkeys(("value", "low", "high", "p", "p_holm")) if difference is None else asdict(difference)
        cells |= {f"fmax_less_{reference}_{name}".removesuffix("_value"): value for name, value in values.items()}
    return cells


def knowledge_lines(rows: Sequence[TermRow]) -> Iterator[str]:
    """Give a table for each kind of target and aspect, the models in their order; nothing where none is told."""
    for kind, about in KINDS.items():
        letters = dict.fromkeys(letter for row in rows for letter in row.by_knowledge.get(kind, {}))
        for letter in letters:
            first = next(row for row in rows if letter in row.by_knowledge.get(kind, {}))
            proteins = first.by_knowledge[kind][letter].proteins
            yield from ("", f"targets in {letter} of which is known: {about} ({counted(proteins, 'protein')})")
            cells = [["model", *_MEASURES.values(), "p, best", "p, homology"]]
            yield from aligned([*cells, *(_line(row, kind, letter) for row in rows)])


def _line(row: TermRow, kind: str, letter: str) -> list[str]:
    metrics = row.by_knowledge[kind][letter].metrics
    reached = [
        f"{decimal(metrics[name].value)} ({between(metrics[name])})" if name in metrics else NONE for name in _MEASURES
    ]
    ps = [_p(by_kind, kind, letter) for by_kind in (row.known_versus_best, row.known_versus_homology)]
    return [row.name, *reached, *ps]


def _p(by_kind: dict[str, Any], kind: str, letter: str) -> str:
    differences = by_kind.get(kind, {}).get(letter)
    return p_value(differences["fmax"].p_holm) if differences else NONE
