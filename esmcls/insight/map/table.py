"""A map as a table: the place of each protein, what it may be coloured by, and of new ones the nearest known."""

from __future__ import annotations

import csv
from typing import TextIO

import numpy as np

from esmcls.insight.map.proteins import ProteinMap


def write_places(handle: TextIO, drawn: ProteinMap) -> None:
    """Write a row a protein, known ones first."""
    table = csv.writer(handle, delimiter="\t", lineterminator="\n")
    table.writerow(
        ["id", "x", "y", *(colour.name for colour in drawn.colours), "nearest_id", "nearest_label", "distance"]
    )
    for row, (name, (x, y)) in enumerate(zip(drawn.ids, drawn.places.tolist(), strict=True)):
        values = [_shown(colour.values[row]) for colour in drawn.colours]
        near = drawn.nearest[row - drawn.known][:1] if row >= drawn.known else []
        nearest = [near[0].id, near[0].label, f"{near[0].distance:.4g}"] if near else ["", "", ""]
        table.writerow([name, f"{x:.4f}", f"{y:.4f}", *values, *nearest])


def _shown(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return "" if np.isnan(value) else f"{value:.4g}"
