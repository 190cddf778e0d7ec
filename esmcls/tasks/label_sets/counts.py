"""What proteins have right at each threshold: in a file, of several folds, and while it is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from esmcls.metrics.cafa import Block, Counts, Sums

_SUMS: Final = ("plain", "weighted")
_PARTS: Final = ("true", "predicted", "members")


def arrays_of(counts: Counts) -> dict[str, npt.NDArray[Any]]:
    """Return counts as arrays by name, for a file."""
    sums = {name: getattr(counts, name) for name in _SUMS if getattr(counts, name) is not None}
    pairs = ((name, counted, part) for name, counted in sums.items() for part in _PARTS)
    return {f"{name}_{part}": np.ascontiguousarray(getattr(counted, part)) for name, counted, part in pairs}


def counts_of(groups: tuple[str, ...], arrays: Mapping[str, npt.NDArray[Any]]) -> Counts:
    """Return the counts that `arrays_of` gave the arrays of; KeyError where there are none."""
    plain, weighted = (
        Sums(*(arrays[f"{name}_{part}"] for part in _PARTS)) if f"{name}_true" in arrays else None for name in _SUMS
    )
    if plain is None:
        raise KeyError("plain_true")
    return Counts(groups, plain, weighted)


def timed_blocks(blocks: Iterator[Block], tell: Callable[[float], None]) -> Iterator[Block]:
    """Pass blocks on and tell how many seconds each took to make."""
    while True:
        began = perf_counter()
        block = next(blocks, None)
        tell(perf_counter() - began)
        if block is None:
            return
        yield block


def join_counts(folds: Sequence[Counts]) -> Counts:
    """Put the counts of the proteins of several folds one after another; an aspect that a fold lacks is empty there."""
    groups = tuple(sorted({group for fold in folds for group in fold.groups}))
    plain = _join_sums([(fold.groups, fold.plain) for fold in folds], groups)
    weighted = [(fold.groups, fold.weighted) for fold in folds if fold.weighted is not None]
    return Counts(groups, plain, _join_sums(weighted, groups) if len(weighted) == len(folds) else None)


def _join_sums(folds: Sequence[tuple[tuple[str, ...], Sums]], groups: tuple[str, ...]) -> Sums:
    arrays = [
        np.concatenate([_spread(getattr(sums, part), present, groups) for present, sums in folds], axis=1)
        for part in _PARTS
    ]
    return Sums(*arrays)


def _spread(array: npt.NDArray[Any], present: tuple[str, ...], groups: tuple[str, ...]) -> npt.NDArray[Any]:
    """Return an array (present groups, …) as one of all groups."""
    out = np.zeros((len(groups), *array.shape[1:]), dtype=array.dtype)
    out[[groups.index(group) for group in present]] = array
    return out
