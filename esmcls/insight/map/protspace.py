"""A bundle that ProtSpace opens: three Parquet tables in one file.

    annotations           identifier, a column a colour
    projections metadata  projection_name, dimensions, info_json
    projections data      projection_name, identifier, x, y, z

Source: "Data Format Reference" of ProtSpace's documentation, https://github.com/tsenoner/protspace_web.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from esmcls.files import atomic_path
from esmcls.insight.map.proteins import ProteinMap
from esmcls.version import __version__

DELIMITER: Final = b"---PARQUET_DELIMITER---"
PROJECTION: Final = "t-SNE (esmcls)"
_SEPARATORS: Final = str.maketrans({";": ",", "|": "/"})
"""What ProtSpace takes for the end of a label, or for a score: a label of ours is a single one."""


def write_bundle(path: Path, drawn: ProteinMap) -> None:
    """Write a bundle, whole or not at all; an id of several proteins gets a number for all but the first."""
    names = distinct(drawn.ids)
    annotations = pl.DataFrame({"identifier": names} | _columns(drawn))
    about = json.dumps({"method": "t-SNE", "made_by": f"esmcls {__version__}"})
    metadata = pl.DataFrame({"projection_name": [PROJECTION], "dimensions": [2], "info_json": [about]})
    [x, y] = drawn.places.T.astype(np.float32)
    data = pl.DataFrame(
        {"projection_name": [PROJECTION] * len(names), "identifier": names, "x": x, "y": y},
    ).with_columns(z=pl.lit(None, dtype=pl.Float32))
    parts = [_parquet(table) for table in (annotations, metadata, data)]
    with atomic_path(path) as temporary:
        temporary.write_bytes(DELIMITER.join(parts))


def distinct(ids: list[str]) -> list[str]:
    """Return ids, each once: a second A becomes A (2).

    Examples
    --------
    >>> distinct(["A", "B", "A", "A"])
    ['A', 'B', 'A (2)', 'A (3)']
    """
    taken: set[str] = set()
    names = []
    count: dict[str, int] = {}
    for name in ids:
        count[name] = count.get(name, 0) + 1
        other = name if count[name] == 1 else f"{name} ({count[name]})"
        while other in taken:
            count[name] += 1
            other = f"{name} ({count[name]})"
        taken.add(other)
        names.append(other)
    return names


def _columns(drawn: ProteinMap) -> dict[str, list[str] | list[float | None]]:
    columns: dict[str, list[str] | list[float | None]] = {}
    for colour in drawn.colours:
        if isinstance(colour.values, list):
            columns[colour.name] = [value.translate(_SEPARATORS) for value in colour.values]
        else:
            columns[colour.name] = [None if np.isnan(value) else value for value in colour.values.tolist()]
    return columns


def _parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer, compression="snappy")
    return buffer.getvalue()
