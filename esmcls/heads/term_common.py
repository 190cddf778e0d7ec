"""What the heads for many labels share: rows held out for choices, checks, answers from blocks, scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import numpy as np
import torch

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.blocks import HELD_OUT, HELD_OUT_MOST
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import mean_fmax
from esmcls.types import Indices, Probabilities

ROWS: Final = 512
"""Rows whose answers are held at a time, at most."""
ANSWERS: Final = 1 << 22
"""Answers that are held at a time: 16 MiB, whatever the number of classes."""

Blocks: TypeAlias = Iterator[tuple[slice, Probabilities]]
"""Slices of rows and their probabilities, float32 (rows, classes)."""

if TYPE_CHECKING:
    from esmcls.heads.registry import Log
    from esmcls.heads.term_heads import TermHead

    AnyHead = TypeVar("AnyHead", bound=TermHead)


def check_sets(x: Features, labels: LabelSets) -> None:
    """Check that there is something to fit on.

    Raises
    ------
    UsageError
        If there are no rows, their number is not that of the labels, or no row has a class.
    """
    if len(x) != len(labels) or not len(x):
        raise UsageError(f"{len(x)} vectors and {len(labels)} label sets to fit on; give one a vector, at least one")
    if not len(labels.codes):
        raise UsageError(f"none of {len(labels)} rows to fit on has a label; give some that have")


def check_same_classes(labels: LabelSets, validation: LabelSets) -> None:
    """Raise UsageError if the validation part's codes are of other classes."""
    if validation.classes != labels.classes:
        raise UsageError("the validation part has other classes than the rows to fit on; code it by theirs")


def fit_held_out(head: AnyHead, x: Features, labels: LabelSets, seed: int, log: Log | None) -> AnyHead:
    """Fit a head without a validation part: choose on rows held out of `x`, then fit all rows with what was chosen."""
    rows, held = hold_out(len(labels), seed)
    known = labels.take(rows)
    if len(held) and len(known.codes) and len(labels.take(held).codes):
        head.fit(x.take(rows), known, (x.take(held), labels.take(held)), seed, log)
    return head.refit(x, labels, seed, log)


def hold_out(n: int, seed: int) -> tuple[Indices, Indices]:
    """Split row numbers into those to fit on and those to choose on: a tenth, at most 10,000, none of a single row.

    Examples
    --------
    >>> [rows.tolist() for rows in hold_out(5, seed=0)]
    [[0, 1, 3, 4], [2]]
    """
    most = min(max(1, round(HELD_OUT * n)), HELD_OUT_MOST, n - 1)
    held = np.sort(np.random.default_rng(seed).permutation(n)[:most])
    return np.setdiff1d(np.arange(n), held), held


def row_slices(n: int, n_classes: int) -> Iterator[slice]:
    """Give slices of rows whose answers are held at a time.

    Examples
    --------
    >>> list(row_slices(1000, 3))
    [slice(0, 512, None), slice(512, 1000, None)]
    """
    size = max(1, min(ROWS, ANSWERS // max(1, n_classes)))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def probabilities_of(blocks: Blocks, n: int, n_classes: int) -> Probabilities:
    """Return all probabilities, float32 (n, classes)."""
    out = np.zeros((n, n_classes), dtype=np.float32)
    for rows, probabilities in blocks:
        out[rows] = probabilities
    return out


def top_k_of(blocks: Blocks, n: int, k: int) -> tuple[Indices, Probabilities]:
    """Return the k most probable class codes a row and their probabilities, both (n, k)."""
    codes, out = np.zeros((n, k), dtype=np.int64), np.zeros((n, k), dtype=np.float32)
    for rows, probabilities in blocks:
        values, places = torch.from_numpy(probabilities).topk(k)
        codes[rows], out[rows] = places.numpy(), values.numpy()
    return codes, out


def score(labels: LabelSets, blocks: Blocks) -> dict[str, float]:
    """Return the `scores` of a head: fmax."""
    return {"fmax": mean_fmax(labels, blocks)}
