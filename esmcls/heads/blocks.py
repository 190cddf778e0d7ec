"""Shared by the heads: rows held out for choices, checked vectors, answers in blocks of rows, scores.

Most of it comes twice, for one label a protein (`Labels`) and for many (`LabelSets`):

                      one label                  many labels
    held out          `hold_out`                 `hold_out_sets` (of numbers `hold_out_numbers`, else `hold_out_where`)
    checked           `check_labels`             `check_sets`, `check_same_classes`
    blocks            `LogitBlocks`              `TermBlocks`, of the rows in `row_slices`
    answers           `Softmax` (or `Votes`)     `Dense`
    scored            `score`                    `score_terms`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.cache.features import Features
from esmcls.errors import NonFiniteError, UsageError, WidthMismatchError
from esmcls.heads.contract import L, Validation
from esmcls.heads.whitening import WIDENED_ROWS
from esmcls.labels.labels import Labels, LabelSets
from esmcls.labels.numbers import Numbers
from esmcls.metrics.cafa import mean_fmax
from esmcls.metrics.calibration import fit_temperature
from esmcls.metrics.classification import accuracy, macro_f1
from esmcls.training.device_operations import doubled
from esmcls.training.losses import Weighting, class_weights
from esmcls.types import Indices, Probabilities, Vectors

Value = TypeVar("Value")

HELD_OUT = 0.1
"""Share of the rows that is held out for choices where no validation part is given."""
HELD_OUT_MOST = 10_000
TRIFLE = 1e-9
"""Of a cross-entropy: far less than a row more or less right in a macro F1 of 20,000 classes."""
LOGITS = 1 << 24
"""Logits that are held at a time: 64 MiB, whatever the number of classes."""
TERM_ROWS: Final = 512
"""Rows whose probabilities of terms are held at a time, at most."""
TERM_ANSWERS: Final = 1 << 22
"""Probabilities of terms that are held at a time: 16 MiB, whatever the number of classes."""

LogitBlocks: TypeAlias = Iterator[tuple[slice, Tensor]]
"""Slices of rows and their logits (rows, classes)."""
TermBlocks: TypeAlias = Iterator[tuple[slice, Probabilities]]
"""Slices of rows and their probabilities, float32 (rows, classes)."""
AnswerBlocks: TypeAlias = "Iterator[tuple[slice, Answers]]"
"""Slices of rows and the probabilities of their classes, in whatever form a head has them."""


# rows held out


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


def hold_out_sets(labels: LabelSets, seed: int) -> tuple[Indices, Indices]:
    """Split row numbers into those to fit on and those to choose on: a tenth, at most 10,000, none of a single row.

    None is held out, either, where the one part or the other would have no label at all.

    Examples
    --------
    >>> [rows.tolist() for rows in hold_out_sets(LabelSets.from_names([["a"]] * 5), seed=0)]
    [[0, 1, 3, 4], [2]]
    """
    return hold_out_where(len(labels), seed, lambda rows: len(labels.take(rows).codes) > 0)


def hold_out_where(n: int, seed: int, enough: Callable[[Indices], bool]) -> tuple[Indices, Indices]:
    """Hold out rows as `hold_out_numbers` does; none where those held out, or the others, would not be enough."""
    rows, held = hold_out_numbers(n, seed)
    return (rows, held) if enough(rows) and enough(held) else (np.arange(n), held[:0])


def hold_out_numbers(n: int, seed: int) -> tuple[Indices, Indices]:
    """Split row numbers into those to fit on and those to choose on: a tenth, at most 10,000, none of a single row.

    Examples
    --------
    >>> [rows.tolist() for rows in hold_out_numbers(5, seed=0)]
    [[0, 1, 3, 4], [2]]
    """
    most = min(max(1, round(HELD_OUT * n)), HELD_OUT_MOST, n - 1)
    held = np.sort(np.random.default_rng(seed).permutation(n)[:most])
    return np.setdiff1d(np.arange(n), held), held


def first_held(validation: Validation[L], most: int) -> Validation[L]:
    """Return as many validation rows as choices are made on."""
    return validation[0].take(slice(most)), validation[1].take(slice(most))


def first_rows(vectors: Vectors, labels: L) -> tuple[Vectors, L]:
    """Return as many vectors and labels of held rows as quick choices are made on."""
    return vectors[:HELD_OUT_MOST], labels.take(slice(HELD_OUT_MOST))


def grid(fixed: Value | None, choices: tuple[Value, ...]) -> tuple[Value, ...]:
    """Return the values that a knob is chosen from: its own alone, where it has one."""
    return choices if fixed is None else (fixed,)


# checks


def check_labels(x: Features, labels: Labels) -> None:
    """Check that there is something to fit on.

    Raises
    ------
    UsageError
        If there are no rows, their number is not that of the labels, or a label is of no class.
    """
    if len(x) != len(labels) or not len(x):
        raise UsageError(f"{len(x)} vectors and {len(labels)} labels to fit on; give one label a vector, at least one")
    unknown = int((labels.codes < 0).sum())
    if unknown:
        raise UsageError(f"{unknown} of {len(labels)} rows to fit on are of none of the classes; leave them out")


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


def check_numbers(x: Features, labels: Numbers) -> None:
    """Check that there is something to fit on.

    Raises
    ------
    UsageError
        If there are no rows, or their number is not that of the labels.
    """
    if len(x) != len(labels) or not len(x):
        raise UsageError(f"{len(x)} vectors and {len(labels)} numbers to fit on; give one a vector, at least one")


def check_same_classes(labels: LabelSets, validation: LabelSets) -> None:
    """Raise UsageError if the validation part's codes are of other classes."""
    if validation.classes != labels.classes:
        raise UsageError("the validation part has other classes than the rows to fit on; code it by theirs")


def training_vectors(x: Features, pooling: str) -> Vectors:
    """Return the vectors to fit on.

    Raises
    ------
    NonFiniteError
        If one holds NaN or infinity.
    """
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


def checked_chunks(x: Features, width: int) -> tuple[Vectors, Indices]:
    """Return the vectors of all encoder inputs (inputs, width) and, for each row, how many are its (n,).

    Raises
    ------
    CacheError
        If only pooled vectors were kept.
    WidthMismatchError
        If they are not of the width that the head was fitted on.
    NonFiniteError
        If one holds NaN or infinity.
    """
    chunks = x.chunks()
    vectors = np.concatenate(chunks) if chunks else np.zeros((0, x.width), dtype=np.float32)
    if vectors.shape[1] != width:
        raise WidthMismatchError(width, vectors.shape[1])
    counts = np.fromiter(map(len, chunks), dtype=np.int64, count=len(chunks))
    return _finite(x, vectors, np.repeat(np.arange(len(x)), counts)), counts


def _finite(x: Features, vectors: Vectors, owners: Indices | None = None) -> Vectors:
    """Return finite vectors; `owners` says whose each is where that is not the row's own number."""
    for start in range(0, len(vectors), WIDENED_ROWS):
        bad = np.flatnonzero(~np.isfinite(vectors[start : start + WIDENED_ROWS]).all(1))
        if len(bad):
            row = start + int(bad[0])
            sequence = x.sequences[row if owners is None else int(owners[row])]
            raise NonFiniteError(sequence, "NaN or infinity in its vector", "embed it again")
    return vectors


def class_factors(counts: Indices, how: Weighting) -> npt.NDArray[np.float32]:
    """Return the weight of a row of each class, with mean 1 over the rows; see `class_weights`."""
    return class_weights(counts, how).values


# answers


class Answers(Protocol):
    """The probabilities of the classes of some rows."""

    def dense(self) -> Probabilities:
        """Return all of them, float32 (rows, classes)."""
        ...

    def top(self, k: int) -> tuple[Indices, Probabilities]:
        """Return the k best class codes and their probabilities, both (rows, k); there are at least k classes."""
        ...


@dataclass(frozen=True, eq=False)
class Softmax:
    """Answers that are the softmax of logits (rows, classes)."""

    logits: Tensor

    def dense(self) -> Probabilities:
        """Return all probabilities."""
        return np.asarray(self.logits.softmax(1).cpu().numpy())

    def top(self, k: int) -> tuple[Indices, Probabilities]:
        """Return the k best class codes and their probabilities."""
        values, places = self.logits.softmax(1).topk(k)
        return places.cpu().numpy(), values.cpu().numpy()


@dataclass(frozen=True, eq=False)
class Dense:
    """Answers that are there already: probabilities (rows, classes)."""

    probabilities: Probabilities

    def dense(self) -> Probabilities:
        """Return all probabilities."""
        return self.probabilities

    def top(self, k: int) -> tuple[Indices, Probabilities]:
        """Return the k best class codes and their probabilities."""
        values, places = torch.from_numpy(self.probabilities).topk(k)
        return places.numpy(), values.numpy()


def probabilities_of(blocks: AnswerBlocks, n: int, n_classes: int) -> Probabilities:
    """Return all probabilities of n rows, float32 (n, classes)."""
    out = np.zeros((n, n_classes), dtype=np.float32)
    for rows, answers in blocks:
        out[rows] = answers.dense()
    return out


def top_k_of(blocks: AnswerBlocks, n: int, k: int) -> tuple[Indices, Probabilities]:
    """Return the k best class codes a row and their probabilities, both (n, k); no more than a block is held whole."""
    codes = np.zeros((n, k), dtype=np.int64)
    out = np.zeros((n, k), dtype=np.float32)
    for rows, answers in blocks:
        codes[rows], out[rows] = answers.top(k)
    return codes, out


def row_slices(n: int, n_classes: int) -> Iterator[slice]:
    """Give slices of rows whose answers are held at a time.

    Examples
    --------
    >>> list(row_slices(1000, 3))
    [slice(0, 512, None), slice(512, 1000, None)]
    """
    size = max(1, min(TERM_ROWS, TERM_ANSWERS // max(1, n_classes)))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


# logits of one label, and scores


def softmax_of(blocks: LogitBlocks) -> AnswerBlocks:
    """Turn blocks of logits into answers."""
    return ((rows, Softmax(logits)) for rows, logits in blocks)


def energies_of(blocks: LogitBlocks, n: int) -> npt.NDArray[np.float64]:
    """Return the log of the sum of the exponentials of each row's logits (n,): high where some class fits well.

    References
    ----------
    Liu et al. 2020, arXiv:2010.03759: minus the energy of a classifier, a score of what it was trained on.
    """
    out = np.zeros(n, dtype=np.float64)
    for rows, logits in blocks:
        out[rows] = doubled(logits).logsumexp(1).cpu().numpy()
    return out


def choose_temperature(blocks: Callable[[], LogitBlocks], labels: Labels) -> float:
    """Return the temperature with the least log loss on held rows; 1 where none is of a class that the head knows."""
    if not (labels.codes >= 0).any():
        return 1.0
    return fit_temperature(lambda: ((logits, labels.codes[rows]) for rows, logits in blocks()))


def best_of(blocks: LogitBlocks, n: int) -> Indices:
    """Return the code of the largest logit of each row (n,)."""
    best = np.zeros(n, dtype=np.int64)
    for rows, logits in blocks:
        best[rows] = logits.argmax(1).cpu().numpy()
    return best


def f1_of(blocks: LogitBlocks, labels: Labels) -> float:
    """Return the macro F1, less a trifle of the cross-entropy: it decides between epochs of equal F1.

    Without it the first epoch that gets a small validation part all right would be the best, and hardly trained.
    """
    best = np.zeros(len(labels), dtype=np.int64)
    loss = 0.0
    for rows, logits in blocks:
        best[rows] = logits.argmax(1).cpu().numpy()
        codes = torch.from_numpy(labels.codes[rows]).to(logits.device)
        loss += float(F.cross_entropy(logits, codes, ignore_index=-1, reduction="sum"))
    return score(labels, best)["macro_f1"] - TRIFLE * loss / max(1, len(labels))


def score(labels: Labels, predicted: Indices) -> dict[str, float]:
    """Return accuracy and macro F1; a row of a class that the head does not know counts as an error."""
    n_classes = max(labels.n_classes, int(predicted.max(initial=0)) + 1)  # the head may know classes that these lack
    return {
        "accuracy": accuracy(labels.codes, predicted),
        "macro_f1": macro_f1(labels.codes, predicted, n_classes),
    }


def score_terms(labels: LabelSets, blocks: TermBlocks) -> dict[str, float]:
    """Return the mean over groups of Fmax."""
    return {"fmax": mean_fmax(labels, blocks)}
