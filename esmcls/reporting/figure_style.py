"""All figures share this: their colours, and files of the same bytes whatever the user's matplotlib is set to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from esmcls.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D

COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito, https://jfly.uni-koeln.de/color/, without their yellow: it is too light for a line on white."""
PAPER: Final = {
    "font.size": 8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "lines.markersize": 4.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}
"""matplotlib's settings for a figure that is printed at the size it has."""


@contextlib.contextmanager
def house_style(**settings: Any) -> Iterator[None]:
    """Draw and save with matplotlib's own defaults and `settings`; what is written in an SVG stays text.

    Parameters
    ----------
    **settings
        Of matplotlib's rcParams.
    """
    from matplotlib import rc_context, style  # takes half a second

    house = {"svg.fonttype": "none", "svg.hashsalt": "esmcls", "pdf.fonttype": "truetype"}  # that is, 42
    with style.context("default"), rc_context(house | settings):
        yield


def save_figure(figure: Figure, output: Path, dpi: int = 150) -> None:
    """Write a figure whole or not at all; within `house_style`, and under one version of matplotlib, the same bytes.

    Parameters
    ----------
    figure : Figure
    output : Path
        Its suffix, in either case, is the format.
    dpi : int
        Of a PNG, and of what is rasterised in an SVG.
    """
    kind = output.suffix.lower()[1:]
    with atomic_path(output) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi, metadata={"CreationDate" if kind == "pdf" else "Date": None})


def name_lines(figure: Figure, named: Sequence[tuple[str, Line2D]], **options: Any) -> Legend:
    """Give a figure a legend whose names stand as they are, where a label may hold no _ or $.

    Parameters
    ----------
    figure : Figure
    named : sequence of (str, line)
    **options
        Of matplotlib's legend.
    """
    legend = figure.legend([line for _, line in named], ["-"] * len(named), **options)
    for text, (name, _) in zip(legend.get_texts(), named, strict=True):
        text.set(text=name, parse_math=False)
    return legend


def shortened(name: str, letters: int = 30) -> str:
    """Return a name of at most so many letters, its middle left out if need be.

    Examples
    --------
    >>> shortened("esm2_t33_650M_UR50D/ensemble", 20)
    'esm2_t33_6…/ensemble'
    """
    half = letters // 2
    return name if len(name) <= letters else f"{name[:half]}…{name[half + 1 - letters :]}"
