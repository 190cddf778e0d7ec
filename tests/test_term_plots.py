"""The figures of models of many labels show the numbers that they are given, and are the same bytes each time."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_plots import drawn, legend, line, percents, points
from test_term_metrics import in_blocks, random_case

from esmcls.reporting.model_figures import looks, save_figures
from esmcls.reporting.results import ComparisonSettings
from esmcls.tasks.go_terms.results import TermData, TermNumbers, TermReport, TermRow
from esmcls.tasks.label_sets.evaluation import BUCKETS, evaluate_terms
from esmcls.tasks.label_sets.figures import (
    FIGURES,
    draw_buckets,
    draw_precision_recall,
    draw_term_lengths,
)
from esmcls.tasks.label_sets.scores import AspectScores

NAMES = ["ensemble", "_mlp $x$", "naive"]
TITLES = ["cellular component", "molecular function", "biological process"]


def a_comparison(names: list[str] = NAMES) -> TermReport:
    """Return models that were evaluated on the same proteins, the last a baseline."""
    labels, scores, ia = random_case(1, 80)
    random, rows = np.random.default_rng(0), []
    train, lengths = random.integers(0, 700, labels.n_classes), random.integers(30, 1500, len(labels))
    for name in names:
        noisy = (scores + random.normal(0, 0.05, scores.shape).astype(np.float32)).clip(0, 1)
        found = evaluate_terms(labels, in_blocks(noisy), train, ia, folds=5, lengths=lengths)
        rows.append(a_row(name, found.aspects))
    return TermReport(
        dataset=TermData(records={"test": 80}, split_digest="", seed=0, terms=TermNumbers(0, 0, 0)),
        settings=ComparisonSettings(heads=[], encoders=[], knobs={}),
        best=names[0],
        chosen=None,
        rows=rows,
        not_run=[],
    )


def a_row(name: str, aspects: dict[str, AspectScores]) -> TermRow:
    return TermRow(
        name=name,
        head=name,
        encoder="",
        baseline=name == "naive",
        validation=None,
        megabytes=0.0,
        mean_fmax=0.0,
        aspects=aspects,
        versus_best=None,
        versus_homology=None,
    )


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def test_precision_and_recall_are_drawn_in_a_panel_for_each_aspect_with_a_mark_at_fmax() -> None:
    comparison = a_comparison()
    figure = drawn(draw_precision_recall(comparison))
    assert titles(figure) == TITLES
    for axes, aspect in zip(figure.axes, "CFP", strict=True):
        for row, mark in zip(comparison.rows, points(axes), strict=True):
            found = row.aspects[aspect]
            x, y = line(axes, row.name)
            assert (x, y) == (percents(found.recall), percents(found.precision))
            [[recall, precision]] = np.asarray(mark.get_offsets()).tolist()
            assert 2 * recall * precision / (recall + precision) == pytest.approx(100 * found.metrics["fmax"].value)
    assert legend(figure) == NAMES


def test_behind_the_curves_lie_lines_of_the_same_f() -> None:
    axes = drawn(draw_precision_recall(a_comparison())).axes[0]
    behind = [one for one in axes.lines if str(one.get_label()).startswith("_child")]
    assert len(behind) == 4
    for one, level in zip(behind, (20, 40, 60, 80), strict=True):
        x, y = np.asarray(one.get_xdata()), np.asarray(one.get_ydata())
        assert 2 * x * y / (x + y) == pytest.approx(np.full(len(x), level))


@pytest.mark.parametrize(
    ("draw", "key", "number"), [(draw_buckets, "buckets", "terms"), (draw_term_lengths, "lengths", "n")]
)
def test_fmax_is_drawn_by_bucket_and_by_length_with_how_many_below(draw: Any, key: str, number: str) -> None:
    comparison = a_comparison()
    figure = drawn(draw(comparison))
    assert titles(figure) == TITLES
    for axes, aspect in zip(figure.axes, "CFP", strict=True):
        for row in comparison.rows:
            x, y = line(axes, row.name)
            found = getattr(row.aspects[aspect], key)
            assert y == percents([one.fmax for one in found])
            assert x == pytest.approx(range(len(found)), abs=0.2)
        places = getattr(comparison.rows[0].aspects[aspect], key)
        ticks = [tick.get_text() for tick in axes.get_xticklabels()]
        assert ticks == [f"{place.name}\n{getattr(place, number):,}" for place in places]
    assert legend(figure) == NAMES


def test_a_bucket_without_terms_is_a_gap() -> None:
    comparison = a_comparison()
    for row in comparison.rows:
        buckets = row.aspects["C"].buckets
        buckets[2] = replace(buckets[2], terms=0, fmax=None)
    _, y = line(drawn(draw_buckets(comparison)).axes[0], "ensemble")
    assert math.isnan(y[2])
    assert len(y) == len(BUCKETS)


def test_models_look_as_in_the_other_figures_and_those_beyond_seven_share_an_entry() -> None:
    comparison = a_comparison([f"model {number}" for number in range(9)])
    figure = drawn(draw_precision_recall(comparison))
    colors = {one.get_label(): one.get_color() for one in figure.axes[1].lines}
    for name, look in looks(comparison.rows).items():
        assert colors[name] == look.color
    assert legend(figure) == [*(f"model {number}" for number in range(7)), "2 others"]


def test_a_model_without_an_aspect_is_left_out_of_its_panel_alone() -> None:
    comparison = a_comparison()
    del comparison.rows[0].aspects["F"]
    for draw in FIGURES.values():
        figure = drawn(draw(comparison))
        assert len(figure.axes) == 3
        assert legend(figure) == NAMES


def test_what_there_is_nothing_of_has_no_figure() -> None:
    comparison = a_comparison()
    for row in comparison.rows:
        for scores in row.aspects.values():
            scores.lengths.clear()
    assert draw_term_lengths(comparison) is None
    for row in comparison.rows:
        row.aspects.clear()
    assert draw_precision_recall(comparison) is None
    assert draw_buckets(comparison) is None


@pytest.mark.usefixtures("all_formats")
def test_files_are_written_whole_in_three_formats_and_are_the_same_bytes_twice(tmp_path: Path) -> None:
    comparison, folders = a_comparison(NAMES[:2]), [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        assert save_figures(comparison, folder, FIGURES) == list(FIGURES)
    names = sorted(path.name for path in folders[0].iterdir())
    assert names == sorted(f"{name}.{suffix}" for name in FIGURES for suffix in ("pdf", "png", "svg"))
    assert all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in names)
