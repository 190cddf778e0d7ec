"""Explanations as tables: a row a residue, and a row a training protein that a protein is like."""

from __future__ import annotations

import csv
import math
from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Final, TextIO

from esmcls.heads.base import AlignedSegment
from esmcls.insight.explanation.explain import Explanation

if TYPE_CHECKING:
    from _csv import Writer

RESIDUES: Final = ("id", "position", "residue", "contribution", "of", "quantity", "output", "base", "method")
_SEGMENT: Final = tuple(field.name for field in fields(AlignedSegment) if field.name not in ("nearest_id", "evalue"))
NEIGHBOURS: Final = ("id", "rank", "nearest_id", "nearest_label", "distance", *_SEGMENT)


def table_of(handle: TextIO, columns: tuple[str, ...]) -> Writer:
    """Write the head of a table with tabs, and return what writes its rows."""
    table = csv.writer(handle, delimiter="\t", lineterminator="\n")
    table.writerow(columns)
    return table


def write_residues(table: Writer, explanation: Explanation) -> None:
    """Write a row for each residue; the contribution is empty where the encoder did not see it."""
    about = (explanation.of, explanation.quantity, _number(explanation.output), _number(explanation.base))
    protein = explanation.protein
    for place, value in enumerate(explanation.values.tolist()):
        table.writerow([protein.id, place + 1, protein.sequence[place], _number(value), *about, explanation.method])


def write_neighbours(table: Writer, explanation: Explanation) -> None:
    """Write a row for each training protein that is shown, the nearest first."""
    for rank, neighbour in enumerate(explanation.neighbours, 1):
        segment = [""] * len(_SEGMENT)
        if neighbour.segment is not None:
            [_, _, *values] = astuple(neighbour.segment)
            segment = [_number(value) if isinstance(value, float) else str(value) for value in values]
        distance = _number(neighbour.distance)
        table.writerow([explanation.protein.id, rank, neighbour.id, neighbour.label, distance, *segment])


def _number(value: float) -> str:
    """Write a number to six figures; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.6g}"
