"""Training logs are read as they were written and drawn as one figure, the same one each time."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from esmcls.errors import DataError, UsageError
from esmcls.training import log_figure as curves
from esmcls.training.log_figure import draw_curves, read_log

Log = list[dict[str, float]]
PNG = b"\x89PNG\r\n\x1a\n"


def a_log(steps: int = 40, *, parts: tuple[str, ...] = (), seconds: bool = False, start: float = 3.0) -> Log:
    """Return a log whose loss falls from `start`, with a ripple; with `seconds`, also 1000 tokens each half second."""
    log: Log = []
    for step in range(1, steps + 1):
        loss = start / math.sqrt(step) + 0.1 * (step % 2)
        entry = {"step": step, "lr": 1e-3 * step, "loss": loss} | dict.fromkeys(parts, loss / 2)
        log.append(entry | ({"tokens": 1000.0, "seconds": step / 2} if seconds else {}))
    return log


def texts(path: Path) -> list[str]:
    """Return all that is written in an SVG."""
    return ["".join(element.itertext()) for element in ElementTree.parse(path).iter() if element.tag.endswith("}text")]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Give the list of the figures that have been drawn."""
    drawn: list[Figure] = []
    make = curves._figure

    def keep(logs: Any) -> Figure:
        drawn.append(make(logs))
        return drawn[-1]

    monkeypatch.setattr(curves, "_figure", keep)
    return drawn


# Reading


def test_a_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "lr": 0.5, "loss": 2.0}\n{"step": 2, "lr": 1.0, "loss": NaN, "score": -1}\n')
    first, second = read_log(path)
    assert first == {"step": 1, "lr": 0.5, "loss": 2.0}
    assert second["score"] == -1
    assert math.isnan(second["loss"])


def test_an_empty_log_has_no_steps(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.touch()
    assert read_log(path) == []


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b'{"step": 2, "lr": 0.',
        b"[2, 0.5]",
        b"2",
        b'{"lr": 0.5, "loss": 2.0}',
        b'{"step": 0}',
        b'{"step": true}',
        b'{"step": "2"}',
        b'{"step": 2, "loss": null}',
        b'{"step": 2, "\xff": 1}',
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    with pytest.raises(DataError) as caught:
        read_log(path)
    assert str(caught.value) == f"{path}:2: no step of a training log; give a log, or remove the line"
    assert caught.value.line == 2


@pytest.mark.parametrize("last", [b'{"step": 3, "lr": 0.', b"{", b'{"step": 3, "\xc3'])
def test_a_half_written_last_line_is_left_out(tmp_path: Path, last: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n' + last)
    assert read_log(path) == [{"step": 1}, {"step": 2}]


def test_a_whole_last_line_counts_without_its_newline(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}')
    assert read_log(path) == [{"step": 1}, {"step": 2}]


# The file


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_same_logs_give_the_same_bytes_whatever_the_users_matplotlib_is_set_to(tmp_path: Path, suffix: str) -> None:
    logs = {"a": a_log(300, seconds=True), "b": a_log(200, start=2.0)}
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    draw_curves(logs, first)
    with rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": None, "svg.fonttype": "path"}):
        draw_curves(logs, second)
    assert first.read_bytes() == second.read_bytes()


def test_the_suffix_chooses_the_format_in_either_case(tmp_path: Path) -> None:
    draw_curves({"a": a_log()}, tmp_path / "a.png")
    draw_curves({"a": a_log()}, tmp_path / "a.SVG")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    assert "loss" in texts(tmp_path / "a.SVG")


@pytest.mark.parametrize("name", ["a.pdf", "a", "a.svg.gz"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        draw_curves({"a": a_log()}, tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: curves are drawn as SVG or PNG; end the name in .svg or .png"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("logs", [{}, {"a": []}, {"a": [], "b": []}])
def test_logs_without_a_step_are_refused(tmp_path: Path, logs: dict[str, Log]) -> None:
    with pytest.raises(UsageError, match=r"^no steps to draw; give the log of a run that has begun$"):
        draw_curves(logs, tmp_path / "a.svg")
    assert list(tmp_path.iterdir()) == []


def test_a_drawing_that_fails_leaves_nothing_behind_and_the_old_figure_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Figure, path: Path, **options: Any) -> None:
        path.write_text("half")
        raise OSError("no space left on device")

    (tmp_path / "old.svg").write_text("old")
    monkeypatch.setattr(Figure, "savefig", fail)
    for name in ("old.svg", "new.svg"):
        with pytest.raises(OSError, match="no space left"):
            draw_curves({"a": a_log()}, tmp_path / name)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old.svg", "old")]


def test_matplotlib_is_loaded_by_drawing_alone() -> None:
    code = (
        "import sys, esmcls.training.log_figure\n"
        "print([name for name in ('matplotlib', 'torch') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# What is drawn


def test_several_runs_have_a_legend_entry_each_in_their_order(tmp_path: Path) -> None:
    names = ["lr 1e-3", "_hidden", "$cost$ & <more>", "lr 2e-3"]
    draw_curves({name: a_log(parts=("masked",)) for name in names}, tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert [text for text in found if text in names] == names
    assert "masked" not in found


def test_a_single_run_is_named_above_and_has_the_parts_of_its_loss_in_the_legend(tmp_path: Path) -> None:
    log = a_log(parts=("residue", "pooled"), seconds=True)
    log[-1]["score"] = 0.5
    draw_curves({"$run$": log}, tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert {"$run$", "loss", "residue", "pooled"} <= set(found)
    assert "score" not in found


def test_the_axes_say_what_they_show_in_which_unit(tmp_path: Path, figures: list[Figure]) -> None:
    draw_curves({"a": a_log(seconds=True)}, tmp_path / "a.svg")
    draw_curves({"a": a_log()}, tmp_path / "b.svg")
    [timed, untimed] = [[axes.get_ylabel() for axes in figure.axes] for figure in figures]
    assert timed == ["loss", "learning rate", "speed (tokens per second)"]
    assert untimed == ["loss", "learning rate"]
    assert {axes.get_xlabel() for figure in figures for axes in figure.axes} == {"step (of the optimiser)"}


def test_accuracy_validation_and_memory_have_panels_of_their_own_where_they_were_logged(
    tmp_path: Path, figures: list[Figure]
) -> None:
    log = [entry | {"accuracy": 0.5, "memory": 1.5, "sequences": 64.0} for entry in a_log()]
    log[-1]["score"] = 0.25
    draw_curves({"a": log}, tmp_path / "a.svg")
    [figure] = figures
    titles = [axes.get_ylabel() for axes in figure.axes]
    assert titles == ["loss", "learning rate", "accuracy", "validation score", "peak memory (GB)"]
    [_, mean] = figure.axes[3].lines
    assert (mean.get_xdata().tolist(), mean.get_ydata().tolist()) == ([40.0], [0.25])


@pytest.mark.parametrize(("start", "scale"), [(3.0, "log"), (-3.0, "linear"), (math.nan, "log")])
def test_the_axis_of_the_loss_is_logarithmic_unless_a_loss_is_zero_or_negative(
    tmp_path: Path, figures: list[Figure], start: float, scale: str
) -> None:
    draw_curves({"a": a_log(), "b": a_log(start=start)}, tmp_path / "a.svg")
    assert [axes.get_yscale() for axes in figures[0].axes] == [scale, "linear"]


def test_the_steps_lie_faint_behind_a_mean_that_noise_does_not_hide(tmp_path: Path, figures: list[Figure]) -> None:
    log: Log = [{"step": step, "lr": 1.0, "loss": 2.0 + (-1) ** step} for step in range(1, 1001)]
    draw_curves({"a": log}, tmp_path / "a.svg")
    raw, mean = figures[0].axes[0].lines
    assert np.ptp(np.asarray(raw.get_ydata())) == 2.0
    assert np.ptp(np.asarray(mean.get_ydata())[5:-5]) == pytest.approx(2 / 11)
    assert (raw.get_alpha() or 1) < (mean.get_alpha() or 1)
    assert raw.get_zorder() < mean.get_zorder()


def test_a_running_mean_is_over_one_hundredth_of_the_steps_and_less_at_the_ends() -> None:
    assert curves._running_mean(np.arange(200.0))[[0, 1, 2, 199]] == pytest.approx([0.5, 1, 2, 198.5])
    assert list(curves._running_mean(np.array([3.0, 1.0]))) == [3.0, 1.0]


def test_a_loss_that_is_no_number_does_not_spread_beyond_the_window() -> None:
    values = np.ones(300)
    values[100] = np.nan
    assert list(np.flatnonzero(np.isnan(curves._running_mean(values)))) == [99, 100, 101]


def test_a_resumed_runs_first_step_has_no_speed_as_its_clock_starts_anew(tmp_path: Path, figures: list[Figure]) -> None:
    log = a_log(6, seconds=True)
    for entry in log[3:]:
        entry["seconds"] -= 1.5
    draw_curves({"a": log}, tmp_path / "a.svg")
    raw, mean = figures[0].axes[2].lines
    assert np.asarray(raw.get_xdata()).tolist() == [2, 3, 5, 6]
    assert np.asarray(raw.get_ydata()).tolist() == np.asarray(mean.get_ydata()).tolist() == [2000.0] * 4


def test_a_mean_speed_is_all_tokens_by_all_seconds() -> None:
    log = a_log(300, seconds=True)
    for entry in log[1::2]:
        entry["seconds"] += 0.25  # every other step takes 0.75 s, the rest 0.25 s
    _, raw, mean = curves._speed(log)
    assert set(raw.round(3)) == {1333.333, 4000.0}
    assert {round(value) for value in mean[1:-1]} == {round(3000 / 1.25), round(3000 / 1.75)}


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"one step": a_log(1, seconds=True)},
        lambda: {"none yet": [], "begun": a_log(2)},
        lambda: {"diverged": [*a_log(50), {"step": 51, "lr": 1e-3, "loss": math.inf}]},
        lambda: {"never finite": a_log(5, start=math.nan)},
        lambda: {f"run {number}": a_log(5) for number in range(40)},
    ],
)
def test_odd_logs_are_drawn_without_a_warning(tmp_path: Path, make: Callable[[], dict[str, Log]]) -> None:
    draw_curves(make(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_no_two_of_the_first_runs_look_alike(tmp_path: Path, figures: list[Figure]) -> None:
    draw_curves({f"run {number}": a_log(5) for number in range(28)}, tmp_path / "a.svg")
    looks = {(line.get_color(), line.get_linestyle()) for line in figures[0].axes[0].lines[1::2]}
    assert len(looks) == 28
