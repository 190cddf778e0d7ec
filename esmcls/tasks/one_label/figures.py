"""The figures of a comparison, one function each: its plain values in, a figure of a paper's full width out.

A model keeps its colour and marker through all of them, in the order of the rows. Baselines are grey and dashed; models
beyond the best seven are thin and grey and share one entry of the legend. Shares are drawn in percent, and what is not
known is a gap. The scale fits the models: a baseline that is far below them is named as such, and not drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from esmcls.reporting.figure_style import COLORS, PAPER, house_style, name_lines, save_figure, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Comparison = Mapping[str, Any]  # what report.json holds
Row = Mapping[str, Any]  # one of its rows: a model
Values = npt.NDArray[np.float64]
Figures = Mapping[str, Callable[[Comparison], "Figure | None"]]  # name of the files -> what draws it
Curve = tuple[Values, Values]  # x and y, in percent, NaN where not known; each (n,)

WIDTH: Final = 7.2  # inches: the 183 mm of two columns
DPI: Final = 200
WORST: Final = 20  # confusions
_PANELS, _COLUMNS = 8, 4  # of reliability, at most


class Look(NamedTuple):
    """How a model is drawn."""

    color: str
    dash: Any = "-"
    marker: str = ""
    width: float = 1.5


OTHER: Final = Look("0.8", width=0.8)
_MODELS: Final = tuple(Look(*one) for one in zip(COLORS, "-------", "os^DvPX", strict=True))
_BASELINES: Final = (
    Look("0.45", (0, (4, 2)), "s", 1.2),
    Look("0.6", (0, (1, 1.5)), "o", 1.2),
    Look("0.55", (0, (5, 1.5, 1, 1.5)), "^", 1.2),
)


def looks(rows: Sequence[Row]) -> dict[str, Look]:
    """Return how each model is drawn, by its name: `OTHER` where there are more than can be told apart."""
    found = {row["name"]: OTHER for row in rows}
    for kind, these in ((False, _MODELS), (True, _BASELINES)):
        found.update(zip((row["name"] for row in rows if row["baseline"] is kind), these, strict=False))
    return found


def save_figures(comparison: Comparison, folder: Path, figures: Figures | None = None) -> list[str]:
    """Write each figure as <name>.svg and <name>.png, and remove those of earlier runs that there is no more.

    The same comparison gives the same bytes, under one version of matplotlib.

    Returns
    -------
    list of str
        The names of the figures that there are, of those in `figures`, default `FIGURES`.
    """
    drawn = []
    with house_style(**PAPER):
        for name, draw in (FIGURES if figures is None else figures).items():
            figure, files = draw(comparison), [folder / f"{name}{suffix}" for suffix in (".svg", ".png")]
            for file in files:
                save_figure(figure, file, DPI) if figure else file.unlink(missing_ok=True)
            drawn += [name] if figure else []
    return drawn


def draw_intervals(comparison: Comparison) -> Figure:
    """Draw each model's accuracy with its 95 % interval, the best on top, the numbers beside."""
    rows = comparison["rows"]
    figure = new_figure(0.6 + 0.2 * len(rows))
    axes = figure.subplots()
    found = [in_percent([row["metrics"]["accuracy"][what] for what in ("value", "low", "high")]) for row in rows]
    low, high = _limits(rows, found, step=5)
    for y, (row, look, (value, *ends)) in enumerate(zip(rows, looks(rows).values(), found, strict=True)):
        if value < low:
            axes.plot(low, y, "<", color=look.color, label=row["name"], clip_on=False)
        else:
            axes.plot(ends, [y, y], color=look.color, linewidth=1.2, solid_capstyle="butt")
            axes.plot(value, y, look.marker or "o", color=look.color, label=row["name"])
        text = f"{value:.1f} ({ends[0]:.1f}–{ends[1]:.1f})"
        axes.text(1.02, y, text, transform=axes.get_yaxis_transform(), va="center")
    axes.set(xlabel="accuracy on the test part (%), with its 95 % interval", xlim=(low, high))
    axes.xaxis.set_major_formatter("{x:g}")
    _name_bars(axes, [shortened(row["name"]) for row in rows])
    return figure


def draw_tiers(comparison: Comparison) -> Figure | None:
    """Draw accuracy by the number of training members of the family; None where no tier has a protein."""
    return _steps(comparison, "tiers", "training members of the family")


def draw_lengths(comparison: Comparison) -> Figure | None:
    """Draw accuracy by the length of the protein, in residues; None where there is none."""
    return _steps(comparison, "lengths", "length of the protein (residues)")


def _steps(comparison: Comparison, key: str, label: str) -> Figure | None:
    rows = comparison["rows"]
    names = [f"{place['name']}\nn = {place['n']:,}" for place in rows[0][key]]
    curves = [
        (np.arange(len(names), dtype=np.float64) + shift, in_percent([place["accuracy"] for place in row[key]]))
        for row, shift in zip(rows, shifts(rows), strict=True)
    ]
    figure = _lines(rows, curves, label, 2.6, marks=True)
    if figure is not None:
        [axes] = figure.axes
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.grid(visible=False, axis="x")
    return figure


def shifts(rows: Sequence[Row]) -> list[float]:
    """Return how far to the side a model's points stand, so that equal values do not hide one another."""
    told = [name for name, look in looks(rows).items() if look is not OTHER]
    places = {name: 0.06 * (place - (len(told) - 1) / 2) for place, name in enumerate(told)}
    return [places.get(row["name"], 0.0) for row in rows]


def draw_reliability(comparison: Comparison) -> Figure | None:
    """Draw, for at most eight models, how many are right of the proteins that were given about the same probability.

    A point's area is the share of the proteins that it stands for; on the diagonal, probabilities are what they say.
    None where no model gives any.
    """
    drawn = looks(comparison["rows"])
    rows = [row for row in comparison["rows"] if drawn[row["name"]] is not OTHER and any(row["reliability"]["counts"])]
    if not rows:
        return None
    rows, lines = rows[:_PANELS], -(-min(len(rows), _PANELS) // _COLUMNS)
    figure = new_figure(0.4 + 1.75 * lines)
    panels = figure.subplots(lines, _COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, row in zip(panels, rows, strict=False):
        _reliability(axes, row, drawn[row["name"]])
    for axes in panels[len(rows) :]:
        axes.set_visible(False)
    figure.supxlabel("probability that the model gives (%)", fontsize=8)
    figure.supylabel("of these, right (%)", fontsize=8)
    return figure


def _reliability(axes: Axes, row: Row, look: Look) -> None:
    found = row["reliability"]
    counts = np.asarray(found["counts"], dtype=float)
    x, y = in_percent(found["confidence"]), in_percent(found["accuracy"])
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.8)
    axes.plot(x, y, linestyle=look.dash, color=look.color, linewidth=0.8)
    axes.scatter(x, y, s=3 + 150 * counts / counts.sum(), color=look.color, alpha=0.7, linewidths=0, clip_on=False)
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal", xticks=[0, 50, 100], yticks=[0, 50, 100])
    axes.set_title(shortened(row["name"], 20), fontsize=8, parse_math=False)
    axes.text(98, 3, f"calibration error {100 * row['calibration_error']:.1f}", ha="right", fontsize=6.5)


def draw_retained(comparison: Comparison) -> Figure | None:
    """Draw the accuracy among the most confident share of the proteins against that share; None where unknown."""
    rows = comparison["rows"]
    curves = [(in_percent(row["retained"]["coverage"]), in_percent(row["retained"]["accuracy"])) for row in rows]
    figure = _lines(rows, curves, "proteins answered, the most confident first (%)", 2.8, marks=False)
    if figure is not None:
        figure.axes[0].set_xlim(0, 100)
    return figure


def draw_open_set(comparison: Comparison) -> Figure | None:
    """Draw accepted known proteins against accepted strangers, a mark at each threshold; None without strangers."""
    rows = [row for row in comparison["rows"] if row["open_set"]]
    if not rows:
        return None
    widest = max(len(shortened(row["name"])) for row in rows)
    figure, drawn, named = new_figure(3.4, 4.5 + 0.07 * widest), looks(comparison["rows"]), []
    axes = figure.subplots()
    for row in rows:
        found, look = row["open_set"], drawn[row["name"]]
        curve = in_percent(found["roc"]["false_acceptance"]), in_percent(found["roc"]["acceptance"])
        line = draw_line(axes, curve, row["name"], look)
        named.append((f"{found['auroc']:.3f}  {shortened(row['name'])}", line))
        mark = in_percent([found["reached"]]), in_percent([found["accepted"]])
        axes.scatter(*mark, s=28, marker=look.marker or "None", color=look.color, zorder=4, clip_on=False)
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.8)
    wanted = 100 * rows[0]["open_set"]["wanted"]
    axes.axvline(wanted, color="0.4", linewidth=0.8, linestyle=":")
    axes.text(wanted + 1, 1, f"wanted: {wanted:g} %", color="0.4", fontsize=7)
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.set(xlabel="strangers accepted (%)", ylabel="known proteins accepted (%)")
    name_models(figure, named, title="AUROC  model")
    return figure


def draw_confusions(comparison: Comparison) -> Figure | None:
    """Draw how often the best model takes one family for another: its worst twenty pairs; None where it never does."""
    [best] = [row for row in comparison["rows"] if row["name"] == comparison["best"]]
    worst, names = best["confusions"][:WORST], comparison["family_names"]
    if not worst:
        return None
    figure, color = new_figure(0.7 + 0.18 * len(worst)), looks(comparison["rows"])[best["name"]].color
    axes = figure.subplots()
    bars = axes.barh(range(len(worst)), [one["n"] for one in worst], height=0.7, color=color)
    axes.bar_label(bars, [f"{one['n']:,} of {one['of']:,}" for one in worst], padding=3, fontsize=7)
    _name_bars(axes, [f"{_family(one['true'], names)} → {_family(one['predicted'], names)}" for one in worst])
    axes.margins(x=0.15)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("test proteins of the first family that were taken for the second")
    return figure


FIGURES: Final[Figures] = {
    "intervals": draw_intervals,
    "tiers": draw_tiers,
    "lengths": draw_lengths,
    "reliability": draw_reliability,
    "retained": draw_retained,
    "confusions": draw_confusions,
    "open_set": draw_open_set,
}


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def in_percent(shares: Sequence[float | None]) -> Values:
    """Return shares in percent, NaN for None."""
    return np.array([np.nan if share is None else 100 * share for share in shares], dtype=np.float64)


def _family(name: str, names: Mapping[str, str]) -> str:
    return shortened(f"{name} {names.get(name, '')}".rstrip())


def _limits(rows: Sequence[Row], values: Sequence[Values], step: float = 10) -> tuple[float, float]:
    """Return round percentages: all that is known lies below the one, and that of the models above the other."""
    models = [one for row, one in zip(rows, values, strict=True) if not row["baseline"]]
    lowest, highest = (_known(models) or _known(values) or [0.0]), (_known(values) or [100.0])
    low, high = step * math.floor(min(lowest) / step), step * math.ceil(max(highest) / step)
    return (low, high) if low < high else (max(low - step, 0), min(low + step, 100))


def _known(values: Sequence[Values]) -> list[float]:
    return [float(one) for some in values for one in some if math.isfinite(one)]


def _lines(rows: Sequence[Row], curves: Sequence[Curve], label: str, height: float, *, marks: bool) -> Figure | None:
    """Return a figure with each model's accuracy over what `label` says; None where no accuracy is known."""
    if not _known([y for _, y in curves]):
        return None
    figure, named = new_figure(height), []
    axes = figure.subplots()
    low, high = _limits(rows, [y for _, y in curves])
    for row, look, curve in zip(rows, looks(rows).values(), curves, strict=True):
        line = draw_line(axes, curve, row["name"], look, look.marker if marks else "")
        below = max(_known(curve[1:]), default=low) < low
        line.set_visible(not below)
        named.append((f"{shortened(row['name'])}{' (below the axis)' if below else ''}", line))
    margin = 0.03 * (high - low)
    axes.set(xlabel=label, ylabel="accuracy (%)", ylim=(low - margin, high + margin))
    name_models(figure, named)
    return figure


def draw_line(axes: Axes, curve: Curve, name: str, look: Look, marker: str = "") -> Line2D:
    """Draw a line, over those of later rows and of other models."""
    order = 2.1 if look is OTHER else 3 - len(axes.lines) / 1000
    style = {"linestyle": look.dash, "linewidth": look.width, "color": look.color, "marker": marker, "zorder": order}
    return axes.plot(*curve, label=name, **style)[0]


def name_models(figure: Figure, named: Sequence[tuple[str, Line2D]], title: str = "") -> None:
    """Name the lines beside the axes, those of other models together."""
    told = [pair for pair in named if pair[1].get_color() != OTHER.color]
    others = [line for _, line in named if line.get_color() == OTHER.color]
    told += [(f"{len(others)} other{'s' if len(others) > 1 else ''}", others[0])] if others else []
    legend = name_lines(figure, told, loc="outside right upper", title=title)
    for line in legend.get_lines():
        line.set_visible(True)


def _name_bars(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, pad=6)
    axes.grid(visible=False, axis="y")
