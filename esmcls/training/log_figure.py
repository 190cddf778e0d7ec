"""Training logs as one figure: loss, learning rate and speed over the steps, of one run or of several to compare."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from esmcls.errors import DataError, UsageError
from esmcls.reporting.figure_style import COLORS, house_style, name_lines, save_figure
from esmcls.types import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from esmcls.training.loop import Entry

NOT_PARTS: Final = ("step", "lr", "loss", "tokens", "seconds", "score", "accuracy", "sequences", "memory")
"""Other keys of an entry are the loss's parts."""
PANELS: Final = {"accuracy": "accuracy", "score": "validation score", "memory": "peak memory (GB)"}
"""Keys that have a panel of their own where they were logged."""
DASHES: Final = ("-", "--", ":", "-.")  # of the first seven lines, the next seven, and so on
LEGEND_COLUMNS: Final = 3  # of the legend

Line = tuple[Floats, Floats, Floats]  # steps (1-based), the value measured at each, its running mean; each (n,)


def read_log(path: str | Path) -> list[Entry]:
    """Read a training log, as `loop.LogFile` writes it; a last line that is half written is left out.

    Raises
    ------
    DataError
        If a line is no JSON object of numbers with a step.
    """
    entries = []
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            entry = _entry(line)
            if entry is not None:
                entries.append(entry)
            elif line.endswith(b"\n"):
                raise DataError(path, "no step of a training log", "give a log, or remove the line", line=number)
    return entries


def _entry(line: bytes) -> Entry | None:
    try:
        entry = json.loads(line)
    except ValueError:  # of JSON or of UTF-8
        return None
    numbers = isinstance(entry, dict) and all(type(value) in (int, float) for value in entry.values())
    return entry if numbers and entry.get("step", 0) >= 1 else None


def draw_curves(logs: Mapping[str, Sequence[Entry]], output: Path) -> None:
    """Draw loss, learning rate and, where they were logged, speed, accuracy, validation and memory side by side.

    Several runs lie over one another.

    A line is the running mean over 1/100 of the steps; the steps themselves are faint behind it. The loss of a single
    run has its parts beside it. The same logs give the same bytes, under one version of matplotlib.

    Parameters
    ----------
    logs : mapping
        Name of a run, as it is to be shown -> its entries, from `read_log`.
    output : Path
        A file .svg or .png, written whole or not at all.

    Raises
    ------
    UsageError
        If `output` has another suffix, or no log has a step.
    """
    suffix = output.suffix.lower()
    if suffix not in (".svg", ".png"):
        raise UsageError(f"{output}: curves are drawn as SVG or PNG; end the name in .svg or .png")
    if not any(logs.values()):
        raise UsageError("no steps to draw; give the log of a run that has begun")
    with house_style(**{"axes.formatter.limits": (-3, 5)}):
        save_figure(_figure(logs), output)


def _figure(logs: Mapping[str, Sequence[Entry]]) -> Figure:
    from matplotlib.figure import Figure

    panels = {"loss": _losses(logs), "learning rate": {name: _line(log, "lr") for name, log in logs.items()}}
    speeds = {name: _speed(log) for name, log in logs.items()}
    if any(len(steps) for steps, _, _ in speeds.values()):
        panels["speed (tokens per second)"] = speeds
    for key, title in PANELS.items():
        lines = {name: _line(log, key) for name, log in logs.items()}
        if any(len(steps) for steps, _, _ in lines.values()):
            panels[title] = lines
    names = list(panels["loss"])
    figure = Figure(figsize=(4.5 * len(panels), 3.6 + 0.3 * -(-len(names) // LEGEND_COLUMNS)), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        axes.set(xlabel="step (of the optimiser)", ylabel=title)
        _draw(axes, list(lines.values()), logarithmic=title == "loss")
    if len(logs) == 1:
        figure.suptitle(*logs, parse_math=False)
    means = figure.axes[0].lines[1::2]
    name_lines(figure, list(zip(names, means, strict=True)), loc="outside lower center", ncols=LEGEND_COLUMNS)
    return figure


def _losses(logs: Mapping[str, Sequence[Entry]]) -> dict[str, Line]:
    if len(logs) > 1:
        return {name: _line(log, "loss") for name, log in logs.items()}
    [log] = logs.values()
    parts = dict.fromkeys(key for entry in log for key in entry if key not in NOT_PARTS)  # in the order of the log
    return {key: _line(log, key) for key in ("loss", *parts)}


def _line(log: Sequence[Entry], key: str) -> Line:
    steps, raw = np.array([(entry["step"], entry[key]) for entry in log if key in entry], dtype=float).reshape(-1, 2).T
    return steps, raw, _running_mean(raw)


def _speed(log: Sequence[Entry]) -> Line:
    timed = [entry for entry in log if "tokens" in entry and "seconds" in entry]
    rows = [(new["step"], new["tokens"], new["seconds"] - old["seconds"]) for old, new in pairwise(timed)]
    forward = [row for row in rows if row[2] > 0]  # a resumed run's clock starts anew
    steps, tokens, seconds = np.array(forward, dtype=float).reshape(-1, 3).T
    return steps, tokens / seconds, _running_mean(tokens) / _running_mean(seconds)


def _running_mean(values: Floats) -> Floats:
    if not len(values):
        return values
    window = np.ones(len(values) // 100 | 1)  # odd, so that each step is in the middle of its own
    return np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")  # fewer at the ends


def _draw(axes: Axes, lines: Sequence[Line], *, logarithmic: bool) -> None:
    for index, (steps, raw, mean) in enumerate(lines):
        color = COLORS[index % len(COLORS)]
        dash = DASHES[index // len(COLORS) % len(DASHES)]
        axes.plot(steps, raw, color=color, alpha=0.2, linewidth=0.8, rasterized=True)
        axes.plot(steps, mean, dash, color=color, linewidth=1.6, marker="o" if len(steps) == 1 else "", zorder=3)
    axes.grid(alpha=0.3)
    if logarithmic and not any((raw <= 0).any() for _, raw, _ in lines):
        axes.set_yscale("log")
        axes.locator_params(axis="y", subs=(1, 2, 5))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
