"""Statistics of a set of sequences as a folder: numbers as JSON, one page that works offline, its figure as SVG."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from esmcls.datasets.power_law import PowerLaw
from esmcls.datasets.statistics import Section, Statistics
from esmcls.files import atomic_path
from esmcls.metrics.classification import TIERS
from esmcls.plain_values import write_json
from esmcls.reporting.figure_style import COLORS, house_style, save_figure
from esmcls.types import Indices

if TYPE_CHECKING:
    from matplotlib.figure import Figure

JSON: Final = "stats.json"
PAGE: Final = "stats.html"
FIGURE: Final = "rank-size.svg"

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1.5rem 0 }
th, td { padding: .15rem .8rem; text-align: right; font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
thead th { border-bottom: 1px solid #888; font-weight: 600 }
figure { margin: 1.5rem 0 } svg { max-width: 100%; height: auto }
"""
_FAMILIES: Final = """
<p>A family's size is the number of its records above. The Gini coefficient is 0 where all families are of one size
and near 1 where a few hold nearly all sequences. The power law gives a family the size x with a probability
proportional to x<sup>&minus;exponent</sup>, from x<sub>min</sub> up; the exponent, with its standard error, is the
maximum-likelihood estimate, and x<sub>min</sub>, unless it was given, has the smallest Kolmogorov-Smirnov distance
(Clauset, Shalizi and Newman 2009, <a href="https://doi.org/10.1137/070710111">doi:10.1137/070710111</a>). It describes
the sizes; whether another law would do so better was not tested.</p>
"""


def write_overview(statistics: Statistics, folder: Path, title: str) -> list[Path]:
    """Write stats.json, stats.html and, where there are families, rank-size.svg into a folder, made if need be.

    The same statistics and title give the same bytes, under one version of matplotlib.

    Parameters
    ----------
    statistics : Statistics
    folder : Path
    title : str
        For the head of the page.

    Returns
    -------
    list of Path
        The files, each written whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [JSON, PAGE]
    write_json(folder / JSON, statistics.to_json())
    figure = ""
    if statistics.families:
        draw_rank_size(statistics.sizes, folder / FIGURE, statistics.power_law)
        figure = (folder / FIGURE).read_text(encoding="utf-8")
        names.append(FIGURE)
    with atomic_path(folder / PAGE) as temporary:
        temporary.write_text(overview_page(statistics.sections(), title, figure), encoding="utf-8")
    return [folder / name for name in names]


def overview_page(
    sections: Sequence[Section],
    title: str,
    figure: str = "",
    about: str = _FAMILIES,
    shows: str = "Size of each family by its rank",
) -> str:
    """Return tables and a figure as one page of HTML that asks for nothing else.

    Parameters
    ----------
    sections : sequence of tables
        Each a header and rows of texts; see `Statistics.sections`.
    title : str
    figure : str
        A whole SVG file.
    about : str
        HTML that stands behind the figure.
    shows : str
        What the figure shows, for who cannot see it.
    """
    name = html.escape(title)
    body = "\n".join(map(_table, sections))
    if figure:
        drawing = figure[figure.index("<svg") :]  # without the prolog, which only a file of its own may have
        body += f'\n<figure role="img" aria-label="{html.escape(shows)}">\n{drawing}</figure>{about}'
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{name}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n{body}\n</body>\n</html>\n"
    )


def _table(section: Section) -> str:
    head, *rows = (
        "".join(f"<{tag}>{html.escape(cell.strip())}</{tag}>" for cell in row)
        for tag, row in zip(["th"] + ["td"] * len(section), section, strict=False)
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n" + "".join(f"<tr>{row}</tr>\n" for row in rows) + "</table>"


def draw_rank_size(sizes: Indices, output: Path, law: PowerLaw | None = None) -> None:
    """Draw the size of each family against its rank, both on logarithmic axes, with the bounds of the tiers.

    The same sizes give the same bytes, under one version of matplotlib.

    Parameters
    ----------
    sizes : int array, (families,)
        The largest first, the last one at least 1.
    output : Path
        A file .svg, written whole or not at all.
    law : PowerLaw, optional
        Drawn from its x_min up.
    """
    with house_style():
        save_figure(_figure(sizes, law), output)


def _figure(sizes: Indices, law: PowerLaw | None) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlabel="rank of the family", ylabel="size of the family (sequences)")
    for _, first, _ in TIERS[1:]:
        axes.axhline(first, color="0.6", linewidth=0.8, linestyle=":")
    axes.plot(*_corners(sizes), color=COLORS[0], linewidth=2, marker="o" if len(sizes) == 1 else "", label="families")
    if law is not None:
        tail = np.geomspace(law.x_min, max(sizes[0], law.x_min), 200)
        name = f"power law, exponent {law.exponent:.2f}, from size {law.x_min:,}"
        axes.plot(law.ranks(tail), tail, "--", color=COLORS[1], linewidth=1.4, label=name)
        axes.set_xlim(left=0.7)  # where the law expects less than one family
    axes.legend(frameon=False)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    return figure


def _corners(sizes: Indices) -> tuple[Indices, Indices]:
    """Return ranks, from 1, and sizes of the first and last family of each size: all that a line needs."""
    change = np.flatnonzero(np.diff(sizes))
    rows = np.unique(np.concatenate([[0], change, change + 1, [len(sizes) - 1]]))
    return rows + 1, sizes[rows]
