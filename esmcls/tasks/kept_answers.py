"""What kept answers of every kind share: what is told beside the arrays, and the seconds, which lie apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esmcls.files import from_plain, parse_json, read_json, write_json


def write_seconds(path: Path, seconds: object) -> None:
    """Write what was timed beside a file of answers, so that answers of two runs are the same bytes."""
    write_json(_beside(path), {"seconds": seconds})


def read_seconds(path: Path) -> Any:
    """Return what `write_seconds` wrote.

    Raises
    ------
    OSError, ValueError, KeyError
        If it is not there, or damaged.
    """
    return from_plain(dict[str, Any], read_json(_beside(path)))["seconds"]


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.seconds.json")


def as_metadata(key: str, **facts: Any) -> dict[str, str]:
    """Return facts as the metadata of a safetensors file: one entry, since several stand in it in any order."""
    return {"told": json.dumps({"key": key, **facts})}


def from_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return what `as_metadata` was given, or esmcls 0.1.0 wrote, which kept the key (and `about`) beside.

    Raises
    ------
    ValueError
        If it is not readable.
    """
    facts = from_plain(dict[str, Any], parse_json(metadata.get("told", "{}")))
    if "about" in metadata:
        facts["about"] = parse_json(metadata["about"])
    return ({"key": metadata["key"]} if "key" in metadata else {}) | facts
