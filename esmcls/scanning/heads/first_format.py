"""Reads a scanner's folder of format 1: two linear heads, and lengths and settings for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from esmcls.cache.spec import EmbeddingSpec
from esmcls.errors import ModelError, UsageError
from esmcls.heads.layers.linear import LinearConfig, LinearHead
from esmcls.heads.settings import parse_settings
from esmcls.plain_values import read_as
from esmcls.scanning.checks import AGAIN, check_families, check_files, check_judge
from esmcls.scanning.heads.grid import MEASURES, Lengths
from esmcls.scanning.heads.recogniser import HeadConfig, HeadRecogniser
from esmcls.scanning.judge import Judge
from esmcls.scanning.scanner import Scanner

HEADS: Final = ("residues", "windows")


@dataclass(frozen=True)
class _Saved:
    """What scanner.json holds besides the spec, which has a version of its own."""

    format: int
    families: tuple[str, ...]
    none: str
    sizes: tuple[int, ...]
    tried: tuple[int, ...]
    centres: tuple[float, ...]
    spreads: tuple[float, ...]
    config: HeadConfig
    judge: Judge
    heads: tuple[dict[str, Any], ...]
    files: dict[str, str]


def load_first(path: Path, spec: EmbeddingSpec, device: str) -> Scanner:
    """Read the scanner beside scanner.json, of vectors of this spec.

    Raises
    ------
    ModelError
        If it is damaged.
    """
    saved = read_as(path, _Saved, ModelError, AGAIN)
    _check(path, saved)
    classes = (*saved.families, saved.none)
    residues, windows = (
        LinearHead.load(path.parent / name, _knobs(path, knobs), classes, device)
        for name, knobs in zip(HEADS, saved.heads, strict=True)
    )
    for head in (residues, windows):
        if head.model.in_features != spec.width:
            raise ModelError(path, f"heads of width {head.model.in_features}, vectors of {spec.width}", AGAIN)
    tried = np.array(saved.tried, dtype=np.int64)
    lengths = Lengths(tried, np.array(saved.centres), np.array(saved.spreads))
    recogniser = HeadRecogniser(residues, windows, lengths, saved.config)
    return Scanner(saved.families, saved.sizes, spec, recogniser, saved.judge)


def _check(path: Path, saved: _Saved) -> None:
    """Make sure that what is there belongs together.

    Raises
    ------
    ModelError
        If it does not.
    """
    check_families(path, saved.families, saved.sizes, saved.centres, saved.spreads)
    check_judge(path, saved.judge, MEASURES)
    if saved.none in saved.families or len(saved.heads) != len(HEADS):
        raise ModelError(path, f"is damaged ({len(saved.heads)} heads, none of these is {saved.none!r})", AGAIN)
    if not saved.tried or min(*saved.spreads, *saved.tried) <= 0 or saved.config.stride < 1:
        raise ModelError(path, "is damaged (a length or spread that is not above 0)", AGAIN)
    check_files(path, saved.files)


def _knobs(path: Path, knobs: dict[str, Any]) -> LinearConfig:
    try:
        return parse_settings(LinearConfig, knobs)
    except UsageError as error:
        raise ModelError(path, f"is damaged ({error})", AGAIN) from None
