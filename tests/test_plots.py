"""The figures of a comparison show the numbers that they are given, and are the same bytes each time."""

from __future__ import annotations

import io
import itertools
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from compared import ACCURACIES, BASELINES, NAMES, a_comparison, read
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

from esmcls.reporting.figure_style import PAPER, house_style, shortened
from esmcls.reporting.model_figures import OTHER, looks, save_figures
from esmcls.tasks.one_label import figures as plots
from esmcls.tasks.one_label.figures import (
    FIGURES,
    draw_confusions,
    draw_intervals,
    draw_lengths,
    draw_open_set,
    draw_reliability,
    draw_retained,
    draw_tiers,
)

MANY = [f"model {number}" for number in range(10)]
ODD = ["_hidden", "$cost$ & <more>", "a name of far more letters than there is room for beside any figure"]


def line(axes: Axes, name: str) -> tuple[list[float], list[float]]:
    """Return x and y of the line or point that a model has."""
    [found] = [one for one in axes.lines if one.get_label() == name]
    return np.asarray(found.get_xdata()).tolist(), np.asarray(found.get_ydata()).tolist()


def points(axes: Axes) -> list[PathCollection]:
    return [one for one in axes.collections if isinstance(one, PathCollection)]


def percents(shares: list[float | None]) -> Any:
    """Return shares in percent, None as NaN, to compare with."""
    return pytest.approx([math.nan if share is None else 100 * share for share in shares], nan_ok=True)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def texts(path: Path) -> list[str]:
    """Return all that is written in an SVG."""
    return ["".join(element.itertext()) for element in ElementTree.parse(path).iter() if element.tag.endswith("}text")]


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    return figure


# Who is drawn how


def test_a_model_has_one_look_in_all_figures_and_no_two_have_the_same() -> None:
    comparison = a_comparison()
    seen = looks(read(comparison).rows)
    assert len({look.color for name, look in seen.items() if name not in BASELINES}) == len(seen) - len(BASELINES)
    assert len(set(seen.values())) == len(seen)
    for draw in (draw_tiers, draw_lengths, draw_retained, draw_open_set):
        lines = {one.get_label(): one.get_color() for one in drawn(draw(read(comparison))).axes[0].lines}
        assert {name: lines[name] for name in seen} == {name: look.color for name, look in seen.items()}


def test_baselines_are_grey_and_dashed_and_models_neither() -> None:
    for name, look in looks(read(a_comparison()).rows).items():
        assert look.color.startswith("0.") == (name in BASELINES)
        assert (look.dash != "-") == (name in BASELINES)


def test_models_beyond_the_best_seven_are_thin_and_grey_and_one_entry_of_the_legend() -> None:
    comparison = a_comparison(MANY)
    seen = looks(read(comparison).rows)
    assert [name for name, look in seen.items() if look is OTHER] == MANY[7:]
    for draw in (draw_tiers, draw_retained):
        assert legend(drawn(draw(read(comparison)))) == [*MANY[:7], "3 others"]
    assert legend(drawn(draw_open_set(read(a_comparison(MANY[:8])))))[-1] == "1 other"


def test_names_stand_in_the_legend_as_they_are_but_for_the_middle_of_long_ones() -> None:
    assert legend(drawn(draw_tiers(read(a_comparison(ODD))))) == [*ODD[:2], shortened(ODD[2])]
    assert len(shortened(ODD[2])) == 30


# Accuracy


def test_the_intervals_are_those_of_the_accuracies_in_the_order_of_the_rows() -> None:
    comparison = a_comparison()
    [axes] = draw_intervals(read(comparison)).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == list(ACCURACIES)
    for place, row in enumerate(comparison["rows"][:6]):
        found = row["metrics"]["accuracy"]
        assert line(axes, row["name"]) == ([pytest.approx(100 * found["value"])], [place])
        ends = [one for one in axes.lines if list(one.get_ydata()) == [place, place]]
        assert [list(one.get_xdata()) for one in ends] == [percents([found["low"], found["high"]])]
        told = f"{100 * found['value']:.1f} ({100 * found['low']:.1f}–{100 * found['high']:.1f})"
        assert axes.texts[place].get_text() == told


def test_a_baseline_far_below_the_models_stands_at_the_edge_with_its_number_beside() -> None:
    [axes] = draw_intervals(read(a_comparison())).axes
    low, high = axes.get_xlim()
    assert (low, high) == (65, 85)  # of the models: 66.85 to 81.35 %
    assert line(axes, "majority") == ([low], [7])
    assert [one.get_marker() for one in axes.lines if one.get_label() == "majority"] == ["<"]
    assert axes.texts[7].get_text() == "2.1 (0.9–3.4)"


@pytest.mark.parametrize(("draw", "key"), [(draw_tiers, "tiers"), (draw_lengths, "lengths")])
def test_accuracy_by_tier_and_length_is_that_of_the_rows_and_a_gap_where_it_is_not_known(draw: Any, key: str) -> None:
    comparison = a_comparison()
    comparison["rows"][0][key][1]["accuracy"] = None
    [axes] = drawn(draw(read(comparison))).axes
    for row in comparison["rows"]:
        assert line(axes, row["name"])[1] == percents([place["accuracy"] for place in row[key]])
    names = [f"{place['name']}\nn = {place['n']:,}" for place in comparison["rows"][0][key]]
    assert [text.get_text() for text in axes.get_xticklabels()] == names


def test_equal_accuracies_stand_beside_one_another_at_their_tier() -> None:
    comparison = a_comparison()
    [axes] = drawn(draw_tiers(read(comparison))).axes
    places = np.array([line(axes, name)[0] for name in ACCURACIES])  # (models, tiers)
    assert len({round(x, 6) for x in places[:, 0]}) == len(ACCURACIES)
    assert (np.abs(places - np.arange(4)) < 0.5).all()
    assert places.mean(axis=0) == pytest.approx(np.arange(4))


def test_a_baseline_that_is_all_below_the_axis_is_not_drawn_and_the_legend_says_so() -> None:
    figure = drawn(draw_lengths(read(a_comparison())))
    hidden = [one.get_label() for one in figure.axes[0].lines if not one.get_visible()]
    assert hidden == list(BASELINES)
    assert legend(figure)[-2:] == [f"{name} (below the axis)" for name in BASELINES]
    assert all(handle.get_visible() for handle in figure.legends[0].get_lines())


@pytest.mark.parametrize(
    ("models", "baseline", "limits"),
    [
        ([71.0, 88.0], [30.0], (70, 90)),
        ([71.0, 88.0], [95.0], (70, 100)),
        ([70.0, 70.0], [70.0], (60, 80)),
        ([100.0], [100.0], (90, 100)),
        ([0.0], [0.0], (0, 10)),
        ([math.nan], [42.0], (40, 50)),
        ([math.nan], [math.nan], (0, 100)),
    ],
)
def test_the_scale_is_round_and_fits_the_models(
    models: list[float], baseline: list[float], limits: tuple[float, float]
) -> None:
    rows = [SimpleNamespace(baseline=False), SimpleNamespace(baseline=True)]
    assert plots._limits(rows, [np.array(models), np.array(baseline)]) == limits


def test_accuracy_against_coverage_is_that_of_the_rows() -> None:
    comparison = a_comparison()
    [axes] = drawn(draw_retained(read(comparison))).axes
    for row in comparison["rows"]:
        x, y = line(axes, row["name"])
        assert x == percents(row["retained"]["coverage"])
        assert y == percents(row["retained"]["accuracy"])
        assert math.isnan(y[0])


# Reliability


def test_a_point_of_reliability_stands_for_as_many_proteins_as_any_other_and_has_its_interval() -> None:
    comparison = a_comparison()
    row = comparison["rows"][0]
    row["reliability"] = {
        "counts": [50, 51],
        "confidence": [0.4, 0.9],
        "accuracy": [0.5, 0.8],
        "low": [0.36, 0.67],
        "high": [0.64, 0.89],
    }
    axes = drawn(draw_reliability(read(comparison))).axes[0]
    [dots] = points(axes)
    assert np.asarray(dots.get_offsets()).tolist() == [[40, 50], [90, 80]]
    [ends] = [one for one in axes.collections if isinstance(one, LineCollection)]
    assert [segment.tolist() for segment in ends.get_segments()] == [[[40, 36], [40, 64]], [[90, 67], [90, 89]]]


def test_in_a_report_of_0_1_0_a_point_of_reliability_has_the_area_of_its_share_of_the_proteins() -> None:
    comparison = a_comparison()
    figure = drawn(draw_reliability(read(comparison)))
    assert [axes.get_title() for axes in figure.axes] == list(ACCURACIES)
    for axes, row in zip(figure.axes, comparison["rows"], strict=True):
        found, [dots] = row["reliability"], points(axes)
        there = [place for place, count in enumerate(found["counts"]) if count]
        x, y = np.ma.filled(dots.get_offsets(), np.nan).T
        assert x[there].tolist() == percents([found["confidence"][place] for place in there])
        assert y[there].tolist() == percents([found["accuracy"][place] for place in there])
        shares = np.array(found["counts"]) / sum(found["counts"])
        assert dots.get_sizes() == pytest.approx(3 + 150 * shares)  # square points
        assert [list(axes.lines[0].get_xdata()), list(axes.lines[0].get_ydata())] == [[0, 100], [0, 100]]


@pytest.mark.parametrize(("models", "panels"), [(1, 1), (4, 4), (6, 6), (10, 7)])
def test_each_model_that_is_told_apart_has_a_panel(models: int, panels: int) -> None:
    figure = drawn(draw_reliability(read(a_comparison(MANY[:models]))))
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == MANY[:panels]


# Open set and confusions


def test_the_open_set_figure_has_the_curve_and_the_threshold_of_each_model_and_its_auroc() -> None:
    comparison = a_comparison()
    comparison["rows"][2]["open_set"] = None
    rows = [row for row in comparison["rows"] if row["open_set"]]
    figure = drawn(draw_open_set(read(comparison)))
    [axes] = figure.axes
    for row, mark in zip(rows, points(axes), strict=True):
        found = row["open_set"]
        x, y = line(axes, row["name"])
        assert x == percents(found["roc"]["false_acceptance"])
        assert y == percents(found["roc"]["acceptance"])
        assert np.asarray(mark.get_offsets()).tolist() == [percents([found["reached"], found["accepted"]])]
    assert legend(figure) == [f"{row['open_set']['auroc']:.3f}  {row['name']}" for row in rows]
    assert [list(one.get_xdata()) for one in axes.lines if one.get_linestyle() == ":"][-1:] == [[5, 5]]


def test_confusions_are_those_of_the_best_model_with_their_names() -> None:
    comparison = a_comparison() | {"family_names": NAMES}
    [axes] = drawn(draw_confusions(read(comparison))).axes
    worst = comparison["rows"][0]["confusions"]
    assert [bar.get_width() for bar in axes.patches] == [one["n"] for one in worst]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[0] == "PF00001 7tm_1\n→ PF00069 Pkinase"
    assert labels[-1] == f"{worst[-1]['true']}\n→ {worst[-1]['predicted']}"
    assert [text.get_text() for text in axes.texts][:2] == ["30 of 41", "29 of 44"]


def test_a_long_name_of_a_family_is_whole_in_the_confusions_and_no_two_labels_overlap() -> None:
    whole = (
        "P-P-bond-hydrolysis-driven protein transmembrane transporter activity (protein transport by the Sec complex)"
    )
    comparison = a_comparison()
    comparison["rows"][0]["confusions"][1]["true"] = whole
    with house_style(**PAPER):
        figure = drawn(draw_confusions(read(comparison)))
        figure.savefig(io.BytesIO())
    [axes] = figure.axes
    labels = axes.get_yticklabels()
    assert labels[1].get_text().replace("\n", " ") == f"{whole} → {comparison['rows'][0]['confusions'][1]['predicted']}"
    boxes = [label.get_window_extent() for label in labels]
    assert all(above.y0 > below.y1 for above, below in itertools.pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0


def test_what_there_is_nothing_of_has_no_figure() -> None:
    comparison = a_comparison(open_set=False, levels=False)
    for row in comparison["rows"]:
        row["confusions"] = []
        row["reliability"]["counts"] = [0] * 15
        row["retained"]["accuracy"] = [None] * 101
        for place in row["tiers"] + row["lengths"]:
            place["accuracy"] = None
    assert [name for name, draw in FIGURES.items() if draw(read(comparison))] == ["intervals"]


# Files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, all_formats: None) -> Path:
    """Give the folder of the figures of models with odd names, the best of which confuses a family with an odd one."""
    made = tmp_path_factory.mktemp("figures")
    assert save_figures(read(odd()), made, FIGURES) == list(FIGURES)
    return made


def odd() -> dict[str, Any]:
    comparison = a_comparison([*ODD, "majority"])
    comparison["rows"][0]["confusions"][0]["true"] = "$x_1$ & <b>"
    return comparison


def test_the_same_comparison_gives_the_same_bytes_whatever_the_users_matplotlib_is_set_to(
    tmp_path: Path, folder: Path
) -> None:
    with rc_context({"font.size": 30, "svg.hashsalt": None, "axes.facecolor": "red"}):
        save_figures(read(odd()), tmp_path, FIGURES)
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(f"{name}.{suffix}" for name in FIGURES for suffix in ("pdf", "png", "svg"))
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_odd_names_are_drawn_as_they_are(folder: Path) -> None:
    assert {"$x_1$ & <b>", "→ PF00069"} <= set(texts(folder / "confusions.svg"))
    for name in ("intervals", "tiers", "reliability"):
        assert set(ODD[:2]) <= set(texts(folder / f"{name}.svg"))


def test_a_single_baseline_is_drawn_without_a_warning(tmp_path: Path) -> None:
    assert save_figures(read(a_comparison(["majority"])), tmp_path, FIGURES) == list(FIGURES)


@pytest.mark.usefixtures("all_formats")
def test_figures_of_an_earlier_comparison_that_had_more_are_removed(tmp_path: Path) -> None:
    some = {"intervals": draw_intervals, "open_set": draw_open_set}
    for name in ("open_set.svg", "open_set.png", "open_set.pdf", "mine.svg"):
        (tmp_path / name).touch()
    assert save_figures(read(a_comparison(["one"], open_set=False)), tmp_path, some) == ["intervals"]
    left = ["intervals.pdf", "intervals.png", "intervals.svg", "mine.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_letters_of_a_pdf_are_letters_that_any_program_can_edit(folder: Path) -> None:
    content = (folder / "intervals.pdf").read_bytes()
    assert b"/CIDFontType2" in content or b"/TrueType" in content  # font type 42
    assert b"/Type3" not in content
    assert b"/CreationDate" not in content


def test_letters_are_of_a_size_that_can_be_read_in_print(folder: Path) -> None:
    drawing = ElementTree.parse(folder / "reliability.svg")
    assert drawing.getroot().get("width") == "518.4pt"  # 183 mm
    styles = [one.get("style", "") for one in drawing.iter() if one.tag.endswith("}text")]
    assert min(float(style.split("px")[0].split()[-1]) for style in styles) >= 6


def test_matplotlib_is_loaded_by_drawing_alone() -> None:
    code = "import sys, esmcls.tasks.one_label.report, esmcls.tasks.go_terms.report\n"
    code += "print([name for name in ('matplotlib', 'jinja2', 'torch') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
