"""What the heads share: rows held out for choices, checked vectors, scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from esmcls.errors import NonFiniteError, UsageError, WidthMismatchError
from esmcls.features import Features
from esmcls.labels import Labels
from esmcls.metrics import accuracy, macro_f1
from esmcls.types import Indices, Vectors
from esmcls.whitening import BLOCK

HELD_OUT = 0.1
"""Share of the rows that is held out for choices where no validation part is given."""
HELD_OUT_MOST = 10_000


def hold_out(codes: Indices, seed: int) -> tuple[Indices, Indices]:
    """Split row numbers into those to fit on and those to choose on; every class keeps a row to fit on.

    Examples
    --------
    >>> [rows.tolist() for rows in hold_out(np.array([0, 0, 0, 0, 1]), seed=0)]
    [[0, 1, 2, 4], [3]]
    """
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    _, first = np.unique(codes[shuffled], return_index=True)  # the row that each class keeps
    free = np.delete(shuffled, first)
    held = np.sort(free[: min(max(1, round(HELD_OUT * len(codes))), HELD_OUT_MOST)])
    return np.setdiff1d(np.arange(len(codes)), held), held


def training_vectors(x: Features, labels: Labels, pooling: str) -> Vectors:
    """Return the vectors to fit on.

    Raises
    ------
    UsageError
        If there are none, their number is not that of the labels, or a label is of no class.
    NonFiniteError
        If one holds NaN or infinity.
    """
    if len(x) != len(labels) or not len(x):
        raise UsageError(f"{len(x)} vectors and {len(labels)} labels to fit on; give one label a vector, at least one")
    unknown = int((labels.codes < 0).sum())
    if unknown:
        raise UsageError(f"{unknown} of {len(labels)} rows to fit on are of none of the classes; leave them out")
    return _finite(x, x.vectors(pooling))


def checked_vectors(x: Features, pooling: str, width: int) -> Vectors:
    """Return the vectors to predict on.

    Raises
    ------
    WidthMismatchError
        If they are not of the width that the head was fitted on.
    NonFiniteError
        If one holds NaN or infinity.
    """
    vectors = x.vectors(pooling)
    if vectors.shape[1] != width:
        raise WidthMismatchError(width, vectors.shape[1])
    return _finite(x, vectors)


def _finite(x: Features, vectors: Vectors) -> Vectors:
    for start in range(0, len(vectors), BLOCK):
        bad = np.flatnonzero(~np.isfinite(vectors[start : start + BLOCK]).all(1))
        if len(bad):
            row = start + int(bad[0])
            raise NonFiniteError(x.sequences[row], "NaN or infinity in its vector", "embed it again")
    return vectors


def class_factors(counts: Indices, how: str) -> npt.NDArray[np.float32]:
    """Return the weight of a row of each class, with mean 1 over the rows: "none", "balanced" (1 / n) or "sqrt".

    Examples
    --------
    >>> class_factors(np.array([1, 3]), "balanced").tolist()
    [2.0, 0.6666666865348816]
    """
    power = {"none": 0.0, "sqrt": -0.5, "balanced": -1.0}[how]
    weights = np.maximum(counts, 1).astype(np.float64) ** power
    return np.asarray(weights * counts.sum() / (weights * counts).sum(), dtype=np.float32)


def score(labels: Labels, predicted: Indices) -> dict[str, float]:
    """Return accuracy and macro F1; a row of a class that the head does not know counts as an error."""
    return {
        "accuracy": accuracy(labels.codes, predicted),
        "macro_f1": macro_f1(labels.codes, predicted, labels.n_classes),
    }
