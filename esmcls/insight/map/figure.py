"""A map as a figure for a paper: PNG, SVG or PDF."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from esmcls.errors import UnknownNameError
from esmcls.insight.map.proteins import Colour, ProteinMap
from esmcls.reporting.figure_style import COLORS, PAPER, house_style, name_lines, save_figure, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY: Final = "#c4c4c4"
RASTERISED: Final = 3000
"""Points from which an SVG or PDF holds them as an image."""


def choose_colour(drawn: ProteinMap, name: str | None) -> Colour:
    """Return what a map is coloured by; the first, where nothing is asked for; UnknownNameError if there is none."""
    by_name = {colour.name: colour for colour in drawn.colours}
    if name is None:
        return drawn.colours[0]
    if name not in by_name:
        raise UnknownNameError("colour", name, by_name)
    return by_name[name]


def largest(values: list[str], most: int = len(COLORS)) -> list[str]:
    """Return the most frequent values, of equals the first by name; nothing of what is not known.

    Examples
    --------
    >>> largest(["b", "a", "a", "", "c"], 2)
    ['a', 'b']
    """
    counts = Counter(value for value in values if value)
    return sorted(counts, key=lambda value: (-counts[value], value))[:most]


def draw_map(drawn: ProteinMap, output: Path, colour: Colour, dpi: int = 300) -> None:
    """Draw a map; the format is the suffix of the file, which is written whole or not at all."""
    from matplotlib.figure import Figure

    with house_style(**{**PAPER, "axes.grid": False}):
        figure = Figure(figsize=(5.2, 4.2))
        axes = figure.add_axes((0.02, 0.03, 0.62, 0.94))
        axes.set(xticks=[], yticks=[], aspect="equal")
        if isinstance(colour.values, list):
            _draw_categories(figure, axes, drawn, colour, colour.values)
        else:
            _draw_numbers(figure, axes, drawn, colour)
        if drawn.known < len(drawn.ids):
            [x, y] = drawn.places[drawn.known :].T
            axes.scatter(x, y, s=16, marker="D", facecolors="none", edgecolors="black", linewidths=0.8)
        save_figure(figure, output, dpi)


def _draw_categories(figure: Figure, axes: Axes, drawn: ProteinMap, colour: Colour, values: list[str]) -> None:
    from matplotlib.lines import Line2D

    names = largest(values[: drawn.known])
    code = {name: number for number, name in enumerate(names)}
    codes = np.array([code.get(value, -1) for value in values[: drawn.known]])
    for number in range(-1, len(names)):
        rows = np.flatnonzero(codes == number)
        shade = GREY if number < 0 else COLORS[number]
        axes.scatter(*drawn.places[rows].T, c=shade, **_points(drawn))
    shades = [*zip(names, COLORS, strict=False)]
    others = len(set(values[: drawn.known]) - {""} - set(names))
    if others:
        shades.append((f"{others:,} others", GREY))
    dots = [(shortened(name, 28), Line2D([], [], marker="o", ls="", ms=4, color=shade)) for name, shade in shades]
    if drawn.known < len(drawn.ids):
        dots.append(("new", Line2D([], [], marker="D", ls="", ms=4, mfc="none", color="black")))
    name_lines(figure, dots, loc="center left", bbox_to_anchor=(0.65, 0.5), title=colour.name, alignment="left")


def _draw_numbers(figure: Figure, axes: Axes, drawn: ProteinMap, colour: Colour) -> None:
    values = np.asarray(colour.values)[: drawn.known]
    known = np.isfinite(values)
    axes.scatter(*drawn.places[: drawn.known][~known].T, c=GREY, **_points(drawn))
    points = axes.scatter(*drawn.places[: drawn.known][known].T, c=values[known], cmap="viridis", **_points(drawn))
    bar = figure.colorbar(points, cax=figure.add_axes((0.68, 0.25, 0.02, 0.5)))
    bar.set_label(colour.name)


def _points(drawn: ProteinMap) -> dict[str, object]:
    size = float(np.clip(6000 / drawn.known, 0.3, 8))
    return {"s": size, "linewidths": 0, "rasterized": drawn.known > RASTERISED}
