"""The figures of a comparison of models of structures, one function each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from esmcls.reporting.figure_style import COLORS, shortened
from esmcls.reporting.model_figures import Figures, draw_line, looks, name_models, new_figure
from esmcls.reporting.model_figures import draw_intervals as intervals_of
from esmcls.structures.distogram import FARTHEST, NEAREST
from esmcls.tasks.structure.measures import FOLDED, NAMES
from esmcls.tasks.structure.results import Sample, StructureReport
from esmcls.types import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TRUE: Final = "0.65"


def draw_intervals(report: StructureReport) -> Figure:
    """Draw each model's P@L with its 95 % interval, the best on top, the numbers beside."""
    label = f"{NAMES[report.main]} (long range, CA-CA), with its 95 % interval over chains"
    return intervals_of(report.rows, [row.metrics[report.main] for row in report.rows], label)


def draw_maps(report: StructureReport) -> Figure | None:
    """Draw the distances of sample chains, predicted above the diagonal and true below; None without chains."""
    if not report.samples:
        return None
    figure = new_figure(2.6)
    panels = figure.subplots(1, len(report.samples), squeeze=False).ravel()
    for axes, sample in zip(panels, report.samples, strict=True):
        pairs = np.array([[np.nan if value is None else value for value in row] for row in sample.map])
        end = len(pairs) * sample.step + 0.5
        image = axes.imshow(pairs, cmap="viridis_r", vmin=NEAREST, vmax=FARTHEST, extent=(0.5, end, end, 0.5))
        axes.set_title(titled(sample, report.main), fontsize=7, parse_math=False)
        axes.set_xlabel("residue")
        axes.grid(visible=False)
    figure.colorbar(image, ax=list(panels), label="distance (Å)", shrink=0.8, extend="max")
    return figure


def titled(sample: Sample, measure: str) -> str:
    """Name a chain with its grade and a measure of it."""
    value = f", {NAMES[measure]} {sample.scores[measure]:.2f}" if measure in sample.scores else ""
    return f"{sample.grade}: {shortened(sample.id, 16)}{value}"


def draw_traces(report: StructureReport) -> Figure | None:
    """Draw the folded traces of sample chains over the true ones, from two sides; None where none was folded."""
    folded = [sample for sample in report.samples if len(sample.folded) > 2]
    if not folded:
        return None
    figure = new_figure(4.0)
    panels = figure.subplots(2, len(folded), squeeze=False)
    for column, sample in zip(panels.T, folded, strict=True):
        views = seen_from(np.array(sample.true), np.array(sample.folded))
        for axes, (true, predicted) in zip(column, views, strict=True):
            _draw_trace(axes, true, predicted, sample.numbers)
        column[0].set_title(titled(sample, FOLDED[0]), fontsize=7, parse_math=False)
    return figure


def seen_from(true: Floats, folded: Floats) -> list[tuple[Floats, Floats]]:
    """Return two projections of both traces, (residues, 2) each: along the least and the second axis of the true."""
    centre = true.mean(axis=0)
    _, _, axes = np.linalg.svd(true - centre, full_matrices=False)
    axes = axes * np.sign(axes[np.arange(3), np.abs(axes).argmax(axis=1)])[:, None]  # of either direction the same one
    both = [(trace - centre) @ axes.T for trace in (true, folded)]
    return [(both[0][:, columns], both[1][:, columns]) for columns in ([0, 1], [0, 2])]


def _draw_trace(axes: Axes, true: Floats, predicted: Floats, numbers: list[int]) -> None:
    """Draw a projection: the true trace grey, the predicted one from blue to red along the chain."""
    from matplotlib.collections import LineCollection

    axes.plot(*_with_gaps(true, numbers).T, color=_TRUE, linewidth=1.6, zorder=1)
    pieces = np.stack([predicted[:-1], predicted[1:]], axis=1)[np.diff(numbers) == 1]
    colored = LineCollection(list(pieces), cmap="coolwarm", linewidths=0.9, zorder=2)
    colored.set_array(np.array(numbers[:-1])[np.diff(numbers) == 1])
    axes.add_collection(colored)
    axes.autoscale_view()
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _with_gaps(places: Floats, numbers: list[int]) -> Floats:
    """Return places with a gap wherever residues are left out."""
    ends = np.flatnonzero(np.diff(numbers) > 1) + 1
    return np.insert(places, ends, np.nan, axis=0)


def draw_lengths(report: StructureReport) -> Figure | None:
    """Draw what models reach by the length of the chain; None where all are about as long."""
    names = [tier.name for tier in report.rows[0].lengths]
    if len(names) < 2:
        return None
    figure = new_figure(2.4)
    named = []
    measures = [name for name in (report.main, "lddt", FOLDED[0]) if name in report.rows[0].metrics]
    for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False).ravel(), measures, strict=True):
        for row, look in zip(report.rows, looks(report.rows).values(), strict=True):
            values = [tier.means.get(measure) for tier in row.lengths]
            curve = np.arange(len(names), dtype=np.float64), np.array([np.nan if v is None else v for v in values])
            line = draw_line(axes, curve, row.name, look, look.marker)
            named += [(row.name, line)] if measure == measures[0] else []
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set(xlabel="residues", ylabel=NAMES[measure])
    name_models(figure, named)
    return figure


def draw_confidence(report: StructureReport) -> Figure | None:
    """Draw what residues of the best model reach by its confidence in them; None where it says the same of all."""
    bins = report.best_row.confidence
    if len(bins) < 2:
        return None
    figure = new_figure(2.8, 3.4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
    sizes = [4 + 60 * point.residues / max(bin_.residues for bin_ in bins) for point in bins]
    axes.plot([point.confidence for point in bins], [point.lddt for point in bins], color=COLORS[0], linewidth=1)
    axes.scatter([point.confidence for point in bins], [point.lddt for point in bins], s=sizes, color=COLORS[0])
    axes.set(xlabel="confidence (predicted lDDT)", ylabel="lDDT of its distances", xlim=(0, 1), ylim=(0, 1))
    return figure


FIGURES: Final[Figures[StructureReport]] = {
    "intervals": draw_intervals,
    "maps": draw_maps,
    "traces": draw_traces,
    "lengths": draw_lengths,
    "confidence": draw_confidence,
}
