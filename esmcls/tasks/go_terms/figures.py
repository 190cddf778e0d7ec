"""The figures of models of many labels: a panel for each aspect, in the style of `esmcls.tasks.one_label.figures`.

A comparison holds rows, one a model: name, baseline, and aspects as `TermEvaluation.to_json` has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from esmcls.labels.ontology import ASPECTS
from esmcls.reporting.figure_style import shortened
from esmcls.tasks.one_label.figures import (
    Comparison,
    Curve,
    Figures,
    Row,
    draw_line,
    in_percent,
    looks,
    name_models,
    new_figure,
    save_figures,
    shifts,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEVELS: Final = (0.2, 0.4, 0.6, 0.8)  # of F, drawn behind precision-recall curves


def save_term_figures(comparison: Comparison, folder: Path) -> list[str]:
    """Write each figure of `FIGURES`, and return the names of those that there are, as `plots.save_figures` does."""
    return save_figures(comparison, folder, FIGURES)


def draw_precision_recall(comparison: Comparison) -> Figure | None:
    """Draw precision over recall at thresholds 0.01 to 0.99, a mark at Fmax; None without aspects."""
    rows, names = comparison["rows"], _aspects(comparison)
    if not names:
        return None
    figure, panels = _panels(names, 2.7)
    for axes, aspect in zip(panels, names, strict=True):
        _isolines(axes)
        for row, look in zip(rows, looks(rows).values(), strict=True):
            found = row["aspects"].get(aspect)
            if found:
                curve = in_percent(found["recall"]), in_percent(found["precision"])
                draw_line(axes, curve, row["name"], look)
                best = round(100 * found["thresholds"]["fmax"]) - 1
                x, y = (values[best] for values in curve)
                axes.scatter(x, y, s=24, marker=look.marker or "None", color=look.color, zorder=4, clip_on=False)
        axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal", xticks=[0, 50, 100], yticks=[0, 50, 100])
        axes.set_xlabel("recall (%)")
    panels[0].set_ylabel("precision (%)")
    _name(figure, panels, rows)
    return figure


def _isolines(axes: Axes) -> None:
    """Draw where F is the same."""
    for level in _LEVELS:
        recall = np.linspace(level / (2 - level), 1, 100)
        axes.plot(100 * recall, 100 * level * recall / (2 * recall - level), color="0.85", linewidth=0.6, zorder=1)


def draw_buckets(comparison: Comparison) -> Figure | None:
    """Draw Fmax by the training proteins of the terms; None where no bucket has any."""
    return _steps(comparison, "buckets", "terms", "training proteins of the term")


def draw_term_lengths(comparison: Comparison) -> Figure | None:
    """Draw Fmax by the length of the protein, in residues; None where lengths are not known."""
    return _steps(comparison, "lengths", "n", "length of the protein (residues)")


def _steps(comparison: Comparison, key: str, number: str, label: str) -> Figure | None:
    rows = comparison["rows"]
    names = [name for name in _aspects(comparison) if any(one[number] for one in _places(rows, name, key))]
    if not names:
        return None
    figure, panels = _panels(names, 2.6)
    for axes, aspect in zip(panels, names, strict=True):
        for row, look, shift in zip(rows, looks(rows).values(), shifts(rows), strict=True):
            draw_line(axes, _by_place(row, aspect, key, shift), row["name"], look, look.marker)
        places = _places(rows, aspect, key)
        ticks = [f"{place['name']}\n{place[number]:,}" for place in places]
        axes.set_xticks(range(len(places)), ticks, fontsize=6)
        axes.set(xlim=(-0.5, len(places) - 0.5), ylim=(0, 100))
        axes.grid(visible=False, axis="x")
    panels[0].set_ylabel("Fmax (%)")
    figure.supxlabel(f"{label}; below, how many {'terms' if number == 'terms' else 'proteins'}", fontsize=8)
    _name(figure, panels, rows)
    return figure


def _by_place(row: Row, aspect: str, key: str, shift: float) -> Curve:
    found = [place["fmax"] for place in row["aspects"].get(aspect, {}).get(key, [])]
    return np.arange(len(found), dtype=np.float64) + shift, in_percent(found)


def _places(rows: Sequence[Row], aspect: str, key: str) -> Any:
    return next((row["aspects"][aspect][key] for row in rows if aspect in row["aspects"]), [])


def _aspects(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(aspect for row in comparison["rows"] for aspect in row["aspects"]))


def _panels(names: Sequence[str], height: float) -> tuple[Figure, list[Axes]]:
    figure = new_figure(height)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0].tolist()
    for axes, name in zip(panels, names, strict=True):
        axes.set_title(ASPECTS.get(name, name).replace("_", " "), fontsize=8)
    return figure, panels


def _name(figure: Figure, panels: Sequence[Axes], rows: Sequence[Row]) -> None:
    """Give the figure a legend; a model's line may be in any of the panels."""
    lines = {str(line.get_label()): line for axes in panels for line in axes.lines}
    name_models(figure, [(shortened(row["name"]), lines[row["name"]]) for row in rows if row["name"] in lines])


FIGURES: Final[Figures] = {
    "precision_recall": draw_precision_recall,
    "buckets": draw_buckets,
    "term_lengths": draw_term_lengths,
}
