"""Explanations as a page that works offline: the sequence in colours, and the training proteins it is like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from esmcls.insight.explanation.evidence import Neighbour
from esmcls.insight.explanation.explain import Explanation
from esmcls.insight.pages import fill

TEMPLATE = "explanation/explain.html"
LINE, BLOCK = 50, 10
"""Residues a line, and between two gaps."""
FOR, AGAINST = (213, 94, 0), (0, 114, 178)
"""Vermilion and blue of Okabe and Ito, which the colour-blind tell apart."""
FULL = 98.0
"""Percentile of the sizes of contributions that is coloured fully: one residue shall not make all others pale."""


@dataclass(frozen=True)
class Cell:
    """A residue as it is shown."""

    letter: str
    title: str
    colour: str
    dark: bool


@dataclass(frozen=True)
class Line:
    """A line of residues, in blocks of ten, with the number of the first."""

    first: int
    blocks: list[list[Cell]]


@dataclass(frozen=True)
class Shown:
    """One protein of the page."""

    explanation: Explanation
    lines: list[Line]
    strongest: str
    neighbours: Sequence[Neighbour]


def explanation_page(explanations: Sequence[Explanation], model: str, said: str) -> str:
    """Return the page; `said` is a sentence about the model."""
    shown = [
        Shown(explanation, lines_of(explanation), _strongest(explanation), explanation.neighbours)
        for explanation in explanations
    ]
    return fill(TEMPLATE, proteins=shown, model=model, said=said, number=_number, gradient=_gradient())


def lines_of(explanation: Explanation) -> list[Line]:
    """Return the residues in lines."""
    cells = _cells(explanation)
    return [
        Line(start + 1, [cells[first : first + BLOCK] for first in range(start, min(start + LINE, len(cells)), BLOCK)])
        for start in range(0, len(cells), LINE)
    ]


def _cells(explanation: Explanation) -> list[Cell]:
    sequence = explanation.protein.sequence
    if not len(explanation.values):
        return [_in_segment(explanation, place, letter) for place, letter in enumerate(sequence, 1)]
    known = np.abs(explanation.values[np.isfinite(explanation.values)])
    full = float(np.percentile(known, FULL)) if len(known) else 0.0
    return [
        _coloured(place, letter, value, value / full if full else 0.0)
        for place, (letter, value) in enumerate(zip(sequence, explanation.values.tolist(), strict=True), 1)
    ]


def _coloured(place: int, letter: str, value: float, strength: float) -> Cell:
    if math.isnan(value):
        return Cell(letter, f"{letter}{place}: not seen by the encoder", "", False)
    share = min(abs(strength), 1.0)
    return Cell(letter, f"{letter}{place}: {value:+.4g}", colour_of(strength), share > 0.75)


def _in_segment(explanation: Explanation, place: int, letter: str) -> Cell:
    """Colour a residue by whether a segment holds it, where nothing is said of residues alone."""
    names = [
        near.id
        for near in explanation.neighbours
        if near.segment is not None and near.segment.query_start <= place <= near.segment.query_end
    ]
    return Cell(
        letter, f"{letter}{place}: aligned with {names[0]}" if names else "", colour_of(0.4 * bool(names)), False
    )


def colour_of(strength: float) -> str:
    """Return a colour from blue (-1) through white (0) to vermilion (1).

    Examples
    --------
    >>> colour_of(0), colour_of(2), colour_of(-0.5)
    ('#ffffff', '#d55e00', '#80b9d9')
    """
    share = min(abs(strength), 1.0)
    end = FOR if strength > 0 else AGAINST
    return "#" + "".join(f"{math.floor(255 + share * (part - 255) + 0.5):02x}" for part in end)


def _gradient() -> str:
    return ", ".join(colour_of(step / 4) for step in range(-4, 5))


def _strongest(explanation: Explanation) -> str:
    """Name the ten residues that add most, in their order."""
    values = np.nan_to_num(explanation.values, nan=-np.inf)
    best = np.sort(np.argsort(-values, kind="stable")[:10])
    return ", ".join(f"{explanation.protein.sequence[place]}{place + 1}" for place in best.tolist())


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4g}"
