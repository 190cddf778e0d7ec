"""The figures of a comparison of models of one label a protein, one function each.

The scale fits the models: a baseline that is far below them is named as such, and not drawn.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from esmcls.metrics.classification import Tier
from esmcls.reporting.figure_style import shortened
from esmcls.reporting.model_figures import (
    OTHER,
    Curve,
    Figures,
    Look,
    Values,
    draw_line,
    in_percent,
    looks,
    name_models,
    new_figure,
    shifts,
)
from esmcls.reporting.results import ModelRow
from esmcls.tasks.one_label.results import OneLabelReport, OneLabelRow, OpenSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

WORST: Final = 20  # confusions
LETTERS: Final = 56  # of a family's name in a line
_PANELS, _COLUMNS = 8, 4  # of reliability, at most


def draw_intervals(report: OneLabelReport) -> Figure:
    """Draw each model's accuracy with its 95 % interval, the best on top, the numbers beside."""
    rows = report.rows
    figure = new_figure(0.6 + 0.2 * len(rows))
    axes = figure.subplots()
    intervals = [row.metrics["accuracy"] for row in rows]
    values = [in_percent([interval.value, interval.low, interval.high]) for interval in intervals]
    low, high = _limits(rows, values, step=5)
    for y, (row, look, (value, *ends)) in enumerate(zip(rows, looks(rows).values(), values, strict=True)):
        if value < low:
            axes.plot(low, y, "<", color=look.color, label=row.name, clip_on=False)
        else:
            axes.plot(ends, [y, y], color=look.color, linewidth=1.2, solid_capstyle="butt")
            axes.plot(value, y, look.marker or "o", color=look.color, label=row.name)
        text = f"{value:.1f} ({ends[0]:.1f}–{ends[1]:.1f})"
        axes.text(1.02, y, text, transform=axes.get_yaxis_transform(), va="center")
    where = "in the folds" if report.settings.folds else "on the test part"
    axes.set(xlabel=f"accuracy {where} (%), with its 95 % interval", xlim=(low, high))
    axes.xaxis.set_major_formatter("{x:g}")
    _name_bars(axes, [shortened(row.name) for row in rows])
    return figure


def draw_levels(report: OneLabelReport) -> Figure | None:
    """Draw a bar for each model at each level of the hierarchy, with its 95 % interval; None without a hierarchy."""
    levels = report.rows[0].levels
    if not levels:
        return None
    figure = new_figure(2.6)
    axes = figure.subplots()
    width = 0.8 / len(report.rows)
    named = []
    for number, (row, look) in enumerate(zip(report.rows, looks(report.rows).values(), strict=True)):
        known = [(place, level.accuracy) for place, level in enumerate(row.levels) if level.accuracy is not None]
        places = np.array([place for place, _ in known]) - 0.4 + width * (number + 0.5)
        heights = in_percent([interval.value for _, interval in known])
        low, high = (in_percent([getattr(interval, end) for _, interval in known]) for end in ("low", "high"))
        axes.bar(places, heights, width=0.9 * width, color=look.color)
        axes.vlines(places, low, high, color="0.2", linewidth=0.8)
        named.append((shortened(row.name), draw_line(axes, (places[:0], heights[:0]), row.name, look, "s")))
    axes.set_xticks(range(len(levels)), [f"{level.name}\nn = {level.n:,}" for level in levels])
    axes.set(ylabel="accuracy (%)", ylim=(0, 100), xlim=(-0.5, len(levels) - 0.5))
    axes.grid(visible=False, axis="x")
    name_models(figure, named)
    return figure


def draw_tiers(report: OneLabelReport) -> Figure | None:
    """Draw accuracy by the number of training members of the family; None where no tier has a protein."""
    return _by_range(report.rows, lambda row: row.tiers, "training members of the family")


def draw_lengths(report: OneLabelReport) -> Figure | None:
    """Draw accuracy by the length of the protein, in residues; None where there is none."""
    return _by_range(report.rows, lambda row: row.lengths, "length of the protein (residues)")


def _by_range(
    rows: Sequence[OneLabelRow], ranges: Callable[[OneLabelRow], Sequence[Tier]], label: str
) -> Figure | None:
    names = [f"{part.name}\nn = {part.n:,}" for part in ranges(rows[0])]
    places = np.arange(len(names), dtype=np.float64)
    curves = [
        (places + shift, in_percent([part.accuracy for part in ranges(row)]))
        for row, shift in zip(rows, shifts(rows), strict=True)
    ]
    figure = _lines(rows, curves, label, 2.6, marks=True)
    if figure is not None:
        [axes] = figure.axes
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.grid(visible=False, axis="x")
    return figure


def draw_reliability(report: OneLabelReport) -> Figure | None:
    """Draw, for at most eight models, how many are right of the proteins that were given about the same probability.

    Each point stands for about as many proteins, with the 95 % interval; on the diagonal, probabilities are what they
    say. None where no model gives any.
    """
    look_of = looks(report.rows)
    rows = [row for row in report.rows if look_of[row.name] is not OTHER and any(row.reliability.counts)][:_PANELS]
    if not rows:
        return None
    lines = -(-len(rows) // _COLUMNS)
    figure = new_figure(0.4 + 1.75 * lines)
    panels = figure.subplots(lines, _COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, row in zip(panels, rows, strict=False):
        _reliability(axes, row, look_of[row.name])
    for axes in panels[len(rows) :]:
        axes.set_visible(False)
    figure.supxlabel("probability that the model gives (%)", fontsize=8)
    figure.supylabel("of these, right (%)", fontsize=8)
    return figure


def _reliability(axes: Axes, row: OneLabelRow, look: Look) -> None:
    counts = np.asarray(row.reliability.counts, dtype=float)
    x = in_percent(row.reliability.confidence)
    y = in_percent(row.reliability.accuracy)
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.8)
    axes.plot(x, y, linestyle=look.dash, color=look.color, linewidth=0.8)
    if row.reliability.low:
        ends = in_percent(row.reliability.low), in_percent(row.reliability.high)
        axes.vlines(x, *ends, color=look.color, linewidth=1.0, alpha=0.7, clip_on=False)
        axes.scatter(x, y, s=9, color=look.color, linewidths=0, clip_on=False)
    else:  # a report of 0.1.0, whose bins are of equal width
        axes.scatter(x, y, s=3 + 150 * counts / counts.sum(), color=look.color, alpha=0.7, linewidths=0, clip_on=False)
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal", xticks=[0, 50, 100], yticks=[0, 50, 100])
    axes.set_title(shortened(row.name, 20), fontsize=8, parse_math=False)
    axes.text(98, 3, f"calibration error {100 * row.calibration_error:.1f}", ha="right", fontsize=6.5)


def draw_retained(report: OneLabelReport) -> Figure | None:
    """Draw the accuracy among the most confident share of the proteins against that share; None where unknown."""
    rows = report.rows
    curves = [(in_percent(row.retained.coverage), in_percent(row.retained.accuracy)) for row in rows]
    figure = _lines(rows, curves, "proteins answered, the most confident first (%)", 2.8, marks=False)
    if figure is not None:
        figure.axes[0].set_xlim(0, 100)
    return figure


def draw_open_set(report: OneLabelReport) -> Figure | None:
    """Draw accepted known proteins against accepted strangers, a mark at each threshold; None without strangers."""
    measured = [(row, row.open_set) for row in report.rows if row.open_set is not None]
    if not measured:
        return None
    widest = max(len(shortened(row.name)) for row, _ in measured)
    figure = new_figure(3.4, 4.5 + 0.07 * widest)
    axes = figure.subplots()
    look_of = looks(report.rows)
    named = [
        (f"{open_set.auroc:.3f}  {shortened(row.name)}", _roc(axes, row.name, open_set, look_of[row.name]))
        for row, open_set in measured
    ]
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.8)
    wanted = 100 * measured[0][1].wanted
    axes.axvline(wanted, color="0.4", linewidth=0.8, linestyle=":")
    axes.text(wanted + 1, 1, f"wanted: {wanted:g} %", color="0.4", fontsize=7)
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.set(xlabel="strangers accepted (%)", ylabel="known proteins accepted (%)")
    name_models(figure, named, title="AUROC  model")
    return figure


def _roc(axes: Axes, name: str, open_set: OpenSet, look: Look) -> Line2D:
    """Draw a model's curve, with a mark at its threshold."""
    curve = in_percent(open_set.roc.false_acceptance), in_percent(open_set.roc.acceptance)
    line = draw_line(axes, curve, name, look)
    mark = in_percent([open_set.reached]), in_percent([open_set.accepted])
    axes.scatter(*mark, s=28, marker=look.marker or "None", color=look.color, zorder=4, clip_on=False)
    return line


def draw_confusions(report: OneLabelReport) -> Figure | None:
    """Draw how often the best model takes one family for another: its worst twenty pairs; None where it never does."""
    worst = report.best_row.confusions[:WORST]
    names = report.family_names
    if not worst:
        return None
    labels = [f"{_family(pair.true, names)}\n→ {_family(pair.predicted, names)}" for pair in worst]
    heights = np.array([label.count("\n") + 1.7 for label in labels])  # in lines of text
    places = np.cumsum(heights) - heights / 2
    figure = new_figure(0.7 + 0.134 * float(heights.sum()))
    axes = figure.subplots()
    color = looks(report.rows)[report.best].color
    bars = axes.barh(places, [pair.n for pair in worst], height=1.4, color=color)
    axes.bar_label(bars, [f"{pair.n:,} of {pair.of:,}" for pair in worst], padding=3, fontsize=7)
    _name_bars(axes, labels, places.tolist())
    axes.set_ylim(float(heights.sum()), 0)
    axes.margins(x=0.25)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("test proteins of the first family that were taken for the second")
    return figure


FIGURES: Final[Figures[OneLabelReport]] = {
    "intervals": draw_intervals,
    "levels": draw_levels,
    "tiers": draw_tiers,
    "lengths": draw_lengths,
    "reliability": draw_reliability,
    "retained": draw_retained,
    "confusions": draw_confusions,
    "open_set": draw_open_set,
}


def _family(name: str, names: Mapping[str, str]) -> str:
    """Return the whole name of a family, in lines of as many letters as there is room for."""
    whole = f"{name} {names.get(name, '')}".rstrip()
    return "\n".join(textwrap.wrap(whole, LETTERS, drop_whitespace=True)) or whole


def _limits(rows: Sequence[ModelRow], values: Sequence[Values], step: float = 10) -> tuple[float, float]:
    """Return round percentages: all that is known lies below the one, and that of the models above the other."""
    all_known = _known(values)
    of_models = _known([of_row for row, of_row in zip(rows, values, strict=True) if not row.baseline])
    low = step * math.floor(min(of_models or all_known or [0.0]) / step)
    high = step * math.ceil(max(all_known or [100.0]) / step)
    return (low, high) if low < high else (max(low - step, 0), min(low + step, 100))


def _known(values: Sequence[Values]) -> list[float]:
    return [float(value) for of_row in values for value in of_row if math.isfinite(value)]


def _lines(
    rows: Sequence[OneLabelRow], curves: Sequence[Curve], label: str, height: float, *, marks: bool
) -> Figure | None:
    """Return a figure with each model's accuracy over what `label` says; None where no accuracy is known."""
    accuracies = [y for _, y in curves]
    if not _known(accuracies):
        return None
    figure = new_figure(height)
    axes = figure.subplots()
    named = []
    low, high = _limits(rows, accuracies)
    for row, look, curve in zip(rows, looks(rows).values(), curves, strict=True):
        line = draw_line(axes, curve, row.name, look, look.marker if marks else "")
        below = max(_known(curve[1:]), default=low) < low
        line.set_visible(not below)
        named.append((f"{shortened(row.name)}{' (below the axis)' if below else ''}", line))
    margin = 0.03 * (high - low)
    axes.set(xlabel=label, ylabel="accuracy (%)", ylim=(low - margin, high + margin))
    name_models(figure, named)
    return figure


def _name_bars(axes: Axes, names: Sequence[str], places: Sequence[float] = ()) -> None:
    axes.set_yticks(places or range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, pad=6)
    axes.grid(visible=False, axis="y")
