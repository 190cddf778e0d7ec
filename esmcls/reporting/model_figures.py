"""How models look in the figures of a comparison, whatever was measured.

A model keeps its colour and marker through all of them, in the order of the rows. Baselines are grey and dashed; models
beyond the best seven are thin and grey and share one entry of the legend. Shares are drawn in percent, and what is not
known is a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from esmcls.reporting.figure_style import COLORS, PAPER, house_style, name_lines, save_figure, shortened
from esmcls.reporting.phrases import Span
from esmcls.reporting.results import ModelRow, ReportT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Values = npt.NDArray[np.float64]
Curve = tuple[Values, Values]
"""x and y, in percent, NaN where not known; each (n,)."""
Figures = Mapping[str, Callable[[ReportT], "Figure | None"]]
"""Name of the files -> what draws it, or gives None where there is nothing to draw."""

WIDTH: Final = 7.2  # inches: the 183 mm of two columns
DPI: Final = 200
FORMATS: Final = ("svg", "png", "pdf")


class Look(NamedTuple):
    """How a model is drawn."""

    color: str
    dash: Any = "-"
    marker: str = ""
    width: float = 1.5


class Reached(Span, Protocol):
    """A value with the ends of its interval."""

    @property
    def value(self) -> float: ...


OTHER: Final = Look("0.8", width=0.8)
_MODELS: Final = tuple(Look(color, "-", marker) for color, marker in zip(COLORS, "os^DvPX", strict=True))
_BASELINES: Final = (
    Look("0.45", (0, (4, 2)), "s", 1.2),
    Look("0.6", (0, (1, 1.5)), "o", 1.2),
    Look("0.55", (0, (5, 1.5, 1, 1.5)), "^", 1.2),
)


def looks(rows: Sequence[ModelRow]) -> dict[str, Look]:
    """Return how each model is drawn, by its name: `OTHER` where there are more than can be told apart."""
    by_name = {row.name: OTHER for row in rows}
    for baseline, distinct in ((False, _MODELS), (True, _BASELINES)):
        names = (row.name for row in rows if row.baseline is baseline)
        by_name.update(zip(names, distinct, strict=False))
    return by_name


def shifts(rows: Sequence[ModelRow]) -> list[float]:
    """Return how far to the side a model's points stand, so that equal values do not hide one another."""
    distinct = [name for name, look in looks(rows).items() if look is not OTHER]
    by_name = {name: 0.06 * (place - (len(distinct) - 1) / 2) for place, name in enumerate(distinct)}
    return [by_name.get(row.name, 0.0) for row in rows]


def save_figures(report: ReportT, folder: Path, figures: Figures[ReportT]) -> list[str]:
    """Write each figure as <name>.svg, .png and .pdf, and remove those of earlier runs that there is no more.

    The same comparison gives the same bytes, under one version of matplotlib.

    Returns
    -------
    list of str
        The names of the figures that there are.
    """
    drawn = []
    with house_style(**PAPER):
        for name, draw in figures.items():
            figure = draw(report)
            for file in (folder / f"{name}.{kind}" for kind in FORMATS):
                save_figure(figure, file, DPI) if figure else file.unlink(missing_ok=True)
                if figure:
                    figure.set_layout_engine("none")  # all has its place by now, in each format the same
            drawn += [name] if figure else []
    return drawn


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_intervals(rows: Sequence[ModelRow], reached: Sequence[Reached], label: str) -> Figure:
    """Draw each model's main measure with its 95 % interval, the best on top, the numbers beside."""
    figure = new_figure(0.6 + 0.2 * len(rows))
    axes = figure.subplots()
    for y, (interval, look) in enumerate(zip(reached, looks(rows).values(), strict=True)):
        axes.plot([interval.low, interval.high], [y, y], color=look.color, linewidth=1.2, solid_capstyle="butt")
        axes.plot(interval.value, y, look.marker or "o", color=look.color)
        text = f"{interval.value:.3f} ({interval.low:.3f}–{interval.high:.3f})"
        axes.text(1.02, y, text, transform=axes.get_yaxis_transform(), va="center")
    axes.set_xlabel(label)
    axes.set_yticks(range(len(rows)), [shortened(row.name) for row in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, pad=6)
    axes.grid(visible=False, axis="y")
    return figure


def in_percent(shares: Sequence[float | None]) -> Values:
    """Return shares in percent, NaN for None."""
    return np.array([np.nan if share is None else 100 * share for share in shares], dtype=np.float64)


def draw_line(axes: Axes, curve: Curve, name: str, look: Look, marker: str = "") -> Line2D:
    """Draw a line, over those of later rows and of other models."""
    order = 2.1 if look is OTHER else 3 - len(axes.lines) / 1000
    style = {"linestyle": look.dash, "linewidth": look.width, "color": look.color, "marker": marker, "zorder": order}
    return axes.plot(*curve, label=name, **style)[0]


def name_models(figure: Figure, named: Sequence[tuple[str, Line2D]], title: str = "") -> None:
    """Name the lines beside the axes, those of other models together."""
    entries = [(name, line) for name, line in named if line.get_color() != OTHER.color]
    others = [line for _, line in named if line.get_color() == OTHER.color]
    if others:
        entries.append((f"{len(others)} other{'s' if len(others) > 1 else ''}", others[0]))
    legend = name_lines(figure, entries, loc="outside right upper", title=title)
    for line in legend.get_lines():
        line.set_visible(True)
