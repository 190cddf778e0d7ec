"""The figures of a comparison of models of residues, one function each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from esmcls.reporting.figure_style import COLORS, shortened
from esmcls.reporting.model_figures import Figures, new_figure
from esmcls.reporting.model_figures import draw_intervals as intervals_of
from esmcls.tasks.residues.evaluation import NAMES
from esmcls.tasks.residues.results import ResidueReport, Strip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST: Final = 12
"""Classes whose confusions are written into the cells."""
UNKNOWN_COLOR: Final = "0.9"


def draw_intervals(report: ResidueReport) -> Figure:
    """Draw each model's main measure with its 95 % interval, the best on top, the numbers beside."""
    label = f"{NAMES[report.main]}, with its 95 % interval over proteins"
    return intervals_of(report.rows, [row.metrics[report.main] for row in report.rows], label)


def draw_confusion(report: ResidueReport) -> Figure | None:
    """Draw which share of the residues of each class the best model takes for each; None of numbers."""
    classes, table = report.dataset.classes, np.array(report.best_row.confusion, dtype=np.float64)
    if not classes:
        return None
    shares = 100 * table / np.maximum(table.sum(1, keepdims=True), 1)
    size = 1.2 + 0.32 * min(len(classes), 2 * MOST)
    figure = new_figure(size, size + 1.0)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(classes)), classes, parse_math=False)
    axes.set_yticks(range(len(classes)), classes, parse_math=False)
    axes.grid(visible=False)
    axes.set(xlabel="predicted", ylabel="true")
    for (row, column), share in np.ndenumerate(shares) if len(classes) <= MOST else ():
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", color="w" if share > 60 else "0.2", fontsize=7)
    figure.colorbar(image, ax=axes, label="of the true class (%)", shrink=0.8)
    return figure


def draw_strips(report: ResidueReport) -> Figure | None:
    """Draw the true and the predicted states, or numbers, of sample proteins; None where there is none."""
    strips = report.best_row.strips
    if not strips:
        return None
    labels = bool(report.dataset.classes)
    figure = new_figure(0.5 + (0.55 if labels else 0.95) * len(strips))
    panels = figure.subplots(len(strips), 1, squeeze=False).ravel()
    for axes, strip in zip(panels, strips, strict=True):
        (_draw_states if labels else _draw_numbers)(axes, strip, report.dataset.classes)
        axes.set_title(shortened(strip.id, 60), fontsize=7, loc="left", pad=2, parse_math=False)
        axes.grid(visible=False)
    panels[-1].set_xlabel("residue")
    if labels:
        _name_states(figure, report.dataset.classes)
    else:
        panels[0].legend(loc="upper right", fontsize=6, ncols=2)
    return figure


def _color(place: int, n: int) -> str | tuple[float, float, float, float]:
    from matplotlib import colormaps

    return COLORS[place] if n <= len(COLORS) else colormaps["turbo"](place / (n - 1))


def _draw_states(axes: Axes, strip: Strip, classes: list[str]) -> None:
    from matplotlib.colors import ListedColormap

    place = {name: number for number, name in enumerate(classes)}
    states = np.array([[place.get(sign, len(classes)) for sign in text] for text in (strip.true, strip.predicted)])
    colors = [*(_color(number, len(classes)) for number in range(len(classes))), UNKNOWN_COLOR]
    extent = (0.5, states.shape[1] + 0.5, 1.5, -0.5)
    axes.imshow(states, cmap=ListedColormap(colors), vmin=0, vmax=len(classes), aspect="auto", extent=extent)
    axes.set_yticks([0, 1], ["true", "predicted"], fontsize=6)


def _name_states(figure: Figure, classes: list[str]) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=_color(place, len(classes)), label=name) for place, name in enumerate(classes)]
    patches.append(Patch(color=UNKNOWN_COLOR, label="not known"))
    figure.legend(handles=patches, loc="outside right upper", fontsize=7)


def _draw_numbers(axes: Axes, strip: Strip, classes: list[str]) -> None:
    for values, name, color in ((strip.values, "true", "0.4"), (strip.answers, "predicted", COLORS[0])):
        numbers = [np.nan if value is None else value for value in values]
        axes.plot(range(1, len(numbers) + 1), numbers, color=color, linewidth=0.9, label=name)


def draw_scatter(report: ResidueReport) -> Figure | None:
    """Draw the numbers that the best model gives against the true ones, and how far they are off; None of labels."""
    sample = report.best_row.points
    if sample is None or not sample.true:
        return None
    true, said = np.array(sample.true), np.array(sample.predicted)
    figure = new_figure(3.2)
    left, right = figure.subplots(1, 2)
    low, high = min(true.min(), said.min()), max(true.max(), said.max())
    left.plot([low, high], [low, high], color="0.6", linewidth=0.8)
    left.scatter(true, said, s=4, color=COLORS[0], alpha=0.3, linewidths=0, rasterized=True)
    left.set(xlabel="true", ylabel="predicted")
    right.axhline(0, color="0.6", linewidth=0.8)
    right.scatter(said, said - true, s=4, color=COLORS[0], alpha=0.3, linewidths=0, rasterized=True)
    right.set(xlabel="predicted", ylabel="predicted − true")
    return figure


FIGURES: Final[Figures[ResidueReport]] = {
    "intervals": draw_intervals,
    "confusion": draw_confusion,
    "scatter": draw_scatter,
    "strips": draw_strips,
}
