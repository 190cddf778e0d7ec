"""The figures of a comparison of models of a number a protein, one function each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from esmcls.reporting.figure_style import shortened
from esmcls.reporting.model_figures import OTHER, Figures, Values, looks, new_figure
from esmcls.tasks.number.results import NumberReport, NumberRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS, _COLUMNS = 8, 4  # of the scatter, at most
_LEAST_SPREAD: Final = 1e-9


def draw_intervals(report: NumberReport) -> Figure:
    """Draw each model's Spearman correlation with its 95 % interval, the best on top, the numbers beside."""
    rows = report.rows
    figure = new_figure(0.6 + 0.2 * len(rows))
    axes = figure.subplots()
    for y, (row, look) in enumerate(zip(rows, looks(rows).values(), strict=True)):
        interval = row.metrics["spearman"]
        axes.plot([interval.low, interval.high], [y, y], color=look.color, linewidth=1.2, solid_capstyle="butt")
        axes.plot(interval.value, y, look.marker or "o", color=look.color)
        text = f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})".replace("-", "−")
        axes.text(1.02, y, text, transform=axes.get_yaxis_transform(), va="center")
    where = "in the folds" if report.settings.folds else "on the test part"
    axes.set(xlabel=f"Spearman correlation {where}, with its 95 % interval")
    axes.set_yticks(range(len(rows)), [shortened(row.name) for row in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, pad=6)
    axes.grid(visible=False, axis="y")
    return figure


def draw_scatter(report: NumberReport) -> Figure:
    """Draw predicted against true numbers, a panel for each of at most eight models, with the identity line."""
    look_of = looks(report.rows)
    rows = [row for row in report.rows if look_of[row.name] is not OTHER and _has_spread(row)][:_PANELS]
    rows = rows or report.rows[:1]
    lines = -(-len(rows) // _COLUMNS)
    figure = new_figure(0.5 + 1.85 * lines)
    columns = min(_COLUMNS, max(2, len(rows)))
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    truth = np.array(report.truth)
    for axes, row in zip(panels, rows, strict=False):
        _scatter(axes, truth, row, look_of[row.name].color)
    for axes in panels[len(rows) :]:
        axes.set_visible(False)
    figure.supxlabel("true", fontsize=8)
    figure.supylabel("predicted", fontsize=8)
    return figure


def _has_spread(row: NumberRow) -> bool:
    return max(row.predicted) - min(row.predicted) > _LEAST_SPREAD


def _scatter(axes: Axes, truth: Values, row: NumberRow, color: str) -> None:
    ends = [min(truth.min(), min(row.predicted)), max(truth.max(), max(row.predicted))]
    axes.plot(ends, ends, color="0.6", linewidth=0.8)
    axes.scatter(truth, row.predicted, s=4, color=color, alpha=0.5, linewidths=0, rasterized=True)
    axes.set_title(shortened(row.name, 20), fontsize=8, parse_math=False)
    measures = f"Spearman {row.metrics['spearman'].value:.3f}".replace("-", "−")
    axes.text(0.97, 0.03, measures, transform=axes.transAxes, ha="right", fontsize=6.5)


def draw_residuals(report: NumberReport) -> Figure:
    """Draw how far the best model is off, against what it predicts, and how often by how much."""
    row = report.best_row
    predicted = np.array(row.predicted)
    residuals = predicted - np.array(report.truth)
    color = looks(report.rows)[row.name].color
    figure = new_figure(2.6)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    left.axhline(0, color="0.6", linewidth=0.8)
    left.scatter(predicted, residuals, s=5, color=color, alpha=0.5, linewidths=0, rasterized=True)
    middles, medians = running_medians(predicted, residuals)
    left.plot(middles, medians, color="0.2", linewidth=1.2, marker="o", markersize=3)
    left.set(xlabel="predicted", ylabel="predicted − true")
    right.hist(residuals, bins=30, orientation="horizontal", color=color)
    right.set_xlabel("proteins")
    return figure


def running_medians(predicted: Values, residuals: Values, bins: int = 8) -> tuple[Sequence[float], Sequence[float]]:
    """Return the mean prediction and the median residual of bins of about as many proteins.

    Examples
    --------
    >>> running_medians(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.0, 4.0, 4.0]), bins=2)
    ([1.5, 3.5], [1.0, 4.0])
    """
    order = np.argsort(predicted, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
    return [float(predicted[part].mean()) for part in parts], [float(np.median(residuals[part])) for part in parts]


FIGURES: Final[Figures[NumberReport]] = {
    "intervals": draw_intervals,
    "scatter": draw_scatter,
    "residuals": draw_residuals,
}
