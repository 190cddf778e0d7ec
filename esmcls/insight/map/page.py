"""A map as a page that works offline: points are drawn by its own script, from binary data that the page holds.

Places are two uint16 a protein, categories a code (uint16 or uint32), numbers a uint16 of their range: 200,000 proteins
are a few megabytes. Whatever comes from the user is JSON in which nothing ends the script, and is shown as text alone.
"""

from __future__ import annotations

import base64
from collections import Counter
from importlib import resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from esmcls.insight.map.proteins import Colour, ProteinMap
from esmcls.insight.pages import fill, script_json
from esmcls.reporting.figure_style import COLORS

TEMPLATE: Final = "map/map.html"
STEPS: Final = 65_535
UNKNOWN: Final = STEPS
"""Step of a number that is not known."""


def map_page(drawn: ProteinMap, title: str, about: str) -> str:
    """Return the page; `about` is a sentence of what is shown."""
    script = resources.files("esmcls").joinpath("insight/map/map.js").read_text(encoding="utf-8")
    data = {
        "ids": drawn.ids,
        "known": drawn.known,
        "places": encoded(stepped_places(drawn), np.uint16),
        "colours": [colour_json(colour) for colour in drawn.colours],
        "nearest": [
            [[near.id, near.label, round(near.distance, 4)] for near in neighbours] for neighbours in drawn.nearest
        ],
        "palette": list(COLORS),
    }
    return fill(TEMPLATE, title=title, about=about, data=script_json(data), script=Markup(script))


def stepped_places(drawn: ProteinMap) -> npt.NDArray[np.uint16]:
    """Return places in steps of one scale for both axes, uint16 (n, 2): y grows downwards, as on a screen."""
    lowest, highest = drawn.places.min(0), drawn.places.max(0)
    span = max(float((highest - lowest).max()), 1e-9)
    centred = (drawn.places - (lowest + highest) / 2) / span + 0.5
    return np.asarray(np.rint(np.clip(centred * [1, -1] + [0, 1], 0, 1) * STEPS), dtype=np.uint16)


def colour_json(colour: Colour) -> dict[str, Any]:
    """Return what the script needs of a colour: names by falling frequency and codes, or steps of a range."""
    if isinstance(colour.values, list):
        counts = Counter(colour.values)
        names = sorted(counts, key=lambda name: (not name, -counts[name], name))
        code = {name: number for number, name in enumerate(names)}
        codes = np.array([code[value] for value in colour.values])
        wide = len(names) > STEPS
        return {
            "name": colour.name,
            "names": names,
            "counts": [counts[name] for name in names],
            "codes": encoded(codes, np.uint32 if wide else np.uint16),
            "wide": wide,
        }
    values = np.asarray(colour.values, dtype=np.float64)
    known = np.isfinite(values)
    low, high = (float(values[known].min()), float(values[known].max())) if known.any() else (0.0, 1.0)
    steps = np.full(len(values), UNKNOWN)
    steps[known] = np.rint((values[known] - low) / ((high - low) or 1.0) * (STEPS - 1))
    return {"name": colour.name, "low": low, "high": high, "steps": encoded(steps, np.uint16)}


def encoded(values: npt.NDArray[Any], dtype: type[np.unsignedinteger[Any]]) -> str:
    """Return numbers in base64, little-endian.

    Examples
    --------
    >>> encoded(np.array([1, 258]), np.uint16)
    'AQACAQ=='
    """
    return base64.b64encode(values.astype(np.dtype(dtype).newbyteorder("<")).tobytes()).decode("ascii")
