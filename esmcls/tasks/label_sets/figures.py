"""The figures of a comparison on terms: a panel for each aspect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from esmcls.labels.ontology import ASPECTS
from esmcls.reporting.figure_style import shortened
from esmcls.reporting.model_figures import (
    Curve,
    Figures,
    Look,
    draw_line,
    in_percent,
    looks,
    name_models,
    new_figure,
    shifts,
)
from esmcls.tasks.label_sets.scores import AspectScores, ScoredReport, ScoredRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEVELS: Final = (0.2, 0.4, 0.6, 0.8)  # of F, drawn behind precision-recall curves


class _Step(NamedTuple):
    """A place on the axis of terms or proteins by range: its name, how many there are, and the Fmax over them."""

    name: str
    number: int
    fmax: float | None


def draw_precision_recall(report: ScoredReport) -> Figure | None:
    """Draw precision over recall at thresholds 0.01 to 0.99, a mark at Fmax; None without aspects."""
    rows = report.rows
    aspects = _aspects(rows)
    if not aspects:
        return None
    figure, panels = _panels(aspects, 2.7)
    for axes, aspect in zip(panels, aspects, strict=True):
        _isolines(axes)
        for row, look in zip(rows, looks(rows).values(), strict=True):
            if aspect in row.aspects:
                _precision_recall(axes, row.name, row.aspects[aspect], look)
        axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal", xticks=[0, 50, 100], yticks=[0, 50, 100])
        axes.set_xlabel("recall (%)")
    panels[0].set_ylabel("precision (%)")
    _name(figure, panels, rows)
    return figure


def _precision_recall(axes: Axes, name: str, scores: AspectScores, look: Look) -> None:
    recall = in_percent(scores.recall)
    precision = in_percent(scores.precision)
    draw_line(axes, (recall, precision), name, look)
    best = round(100 * scores.thresholds["fmax"]) - 1
    marker = look.marker or "None"
    axes.scatter(recall[best], precision[best], s=24, marker=marker, color=look.color, zorder=4, clip_on=False)


def _isolines(axes: Axes) -> None:
    """Draw where F is the same."""
    for level in _LEVELS:
        recall = np.linspace(level / (2 - level), 1, 100)
        axes.plot(100 * recall, 100 * level * recall / (2 * recall - level), color="0.85", linewidth=0.6, zorder=1)


def draw_buckets(report: ScoredReport) -> Figure | None:
    """Draw Fmax by the training proteins of the terms; None where no bucket has any."""

    def steps(scores: AspectScores) -> list[_Step]:
        return [_Step(bucket.name, bucket.terms, bucket.fmax) for bucket in scores.buckets]

    return _by_range(report.rows, steps, "training proteins of the term; below, how many terms")


def draw_term_lengths(report: ScoredReport) -> Figure | None:
    """Draw Fmax by the length of the protein, in residues; None where lengths are not known."""

    def steps(scores: AspectScores) -> list[_Step]:
        return [_Step(part.name, part.n, part.fmax) for part in scores.lengths]

    return _by_range(report.rows, steps, "length of the protein (residues); below, how many proteins")


def _by_range(rows: Sequence[ScoredRow], steps: Callable[[AspectScores], list[_Step]], label: str) -> Figure | None:
    ticks = {aspect: _ticks(rows, aspect, steps) for aspect in _aspects(rows)}
    aspects = [aspect for aspect, places in ticks.items() if any(place.number for place in places)]
    if not aspects:
        return None
    figure, panels = _panels(aspects, 2.6)
    for axes, aspect in zip(panels, aspects, strict=True):
        for row, look, shift in zip(rows, looks(rows).values(), shifts(rows), strict=True):
            places = steps(row.aspects[aspect]) if aspect in row.aspects else []
            draw_line(axes, _curve(places, shift), row.name, look, look.marker)
        names = [f"{place.name}\n{place.number:,}" for place in ticks[aspect]]
        axes.set_xticks(range(len(names)), names, fontsize=6)
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, 100))
        axes.grid(visible=False, axis="x")
    panels[0].set_ylabel("Fmax (%)")
    figure.supxlabel(label, fontsize=8)
    _name(figure, panels, rows)
    return figure


def _ticks(rows: Sequence[ScoredRow], aspect: str, steps: Callable[[AspectScores], list[_Step]]) -> list[_Step]:
    """Return the places of the axis, which are those of any model that has the aspect."""
    return next(steps(row.aspects[aspect]) for row in rows if aspect in row.aspects)


def _curve(places: Sequence[_Step], shift: float) -> Curve:
    return np.arange(len(places), dtype=np.float64) + shift, in_percent([place.fmax for place in places])


def _aspects(rows: Sequence[ScoredRow]) -> list[str]:
    return list(dict.fromkeys(aspect for row in rows for aspect in row.aspects))


def _panels(aspects: Sequence[str], height: float) -> tuple[Figure, list[Axes]]:
    figure = new_figure(height)
    panels = figure.subplots(1, len(aspects), sharey=True, squeeze=False)[0].tolist()
    for axes, aspect in zip(panels, aspects, strict=True):
        axes.set_title(ASPECTS.get(aspect, aspect).replace("_", " "), fontsize=8)
    return figure, panels


def _name(figure: Figure, panels: Sequence[Axes], rows: Sequence[ScoredRow]) -> None:
    """Give the figure a legend; a model's line may be in any of the panels."""
    lines = {str(line.get_label()): line for axes in panels for line in axes.lines}
    name_models(figure, [(shortened(row.name), lines[row.name]) for row in rows if row.name in lines])


FIGURES: Final[Figures[ScoredReport]] = {
    "precision_recall": draw_precision_recall,
    "buckets": draw_buckets,
    "term_lengths": draw_term_lengths,
}
