"""Average precision of many labels, over all terms together (micro) or the mean of each term's (macro), in parts.

blocks of rows ──▶ ScoreStore ──▶ columns, some terms at a time ──▶ how many scores are as high as each true term's

Values are scikit-learn's `average_precision_score`. For each true term of each protein it takes how many scores are no
lower, of all and of true terms: so terms are sorted for themselves, and no array of all scores is needed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import THRESHOLDS, Block, group_codes, whole
from esmcls.metrics.classification import Floats
from esmcls.types import Indices

_COLUMNS: Final = 512  # read at a time
_IN_MEMORY: Final = 2**28  # bytes; more is in a temporary file


@dataclass(frozen=True)
class AveragePrecision:
    """Area under the precision-recall curve.

    Parameters
    ----------
    micro : float
        Of all pairs of a protein and a term.
    macro : float
        Mean over the terms that a protein has.
    terms : int
        How many those are.
    """

    micro: float
    macro: float
    terms: int


class ScoreStore:
    """Scores that come in blocks of rows once, to be read again by rows or by columns, in bounded memory.

    A block is kept as parts of columns of one group each, one after the other:

        ┌ rows 0-511 ──────────┬ rows 512-1023 ───────┬ …
        │ part 0 │ part 1 │ …  │ part 0 │ part 1 │ …  │

    Parameters
    ----------
    labels : LabelSets
        Columns are put together by its groups.
    blocks : iterable of (slice, float array (rows, classes))
        Every row once.

    Raises
    ------
    ValueError
        If blocks leave rows out or hold what is not a number.
    """

    def __init__(self, labels: LabelSets, blocks: Iterable[Block]) -> None:
        _, place = group_codes(labels)
        groups = np.split(np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))[:-1])
        self.n_classes = labels.n_classes
        self.parts: list[Indices] = [g[i : i + _COLUMNS] for g in groups for i in range(0, len(g), _COLUMNS)]
        self.positives = np.zeros(len(labels.codes))
        """The score of each true class, in the order of the labels' codes."""
        self._rows: list[tuple[slice, int]] = []
        self._dtype = np.dtype(np.float32)
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (closed by __exit__)
        for rows, scores in whole(labels, blocks):
            self._append(labels.take(rows), labels.offsets[rows], rows, scores)

    def _append(self, labels: LabelSets, offsets: Indices, rows: slice, scores: npt.NDArray[Any]) -> None:
        self._dtype = self._dtype if self._rows else scores.dtype
        self._rows.append((rows, len(labels)))
        full = np.zeros((len(labels), self.n_classes), self._dtype)
        full[:, : scores.shape[1]] = scores
        places = np.repeat(offsets - labels.offsets[:-1], labels.sizes()) + np.arange(len(labels.codes))
        self.positives[places] = full[np.repeat(np.arange(len(labels)), labels.sizes()), labels.codes]
        for part in self.parts:
            self._file.write(full[:, part].tobytes())

    def __iter__(self) -> Iterator[Block]:
        """Give the blocks again, with a column for each class."""
        for number, (rows, size) in enumerate(self._rows):
            full = np.empty((size, self.n_classes), self._dtype)
            for part, codes in enumerate(self.parts):
                full[:, codes] = self._read(number, part)
            yield rows, full

    def columns(self, part: int) -> npt.NDArray[Any]:
        """Return the scores of all rows for the classes of a part, (n, classes of the part), in the labels' order."""
        scores = np.empty((sum(size for _, size in self._rows), len(self.parts[part])), self._dtype)
        for number, (rows, _) in enumerate(self._rows):
            scores[rows] = self._read(number, part)
        return scores

    def _read(self, number: int, part: int) -> npt.NDArray[Any]:
        sizes = [size for _, size in self._rows]
        width = len(self.parts[part])
        before = sum(sizes[:number]) * self.n_classes + sizes[number] * sum(map(len, self.parts[:part]))
        self._file.seek(before * self._dtype.itemsize)
        data = self._file.read(sizes[number] * width * self._dtype.itemsize)
        return np.frombuffer(data, self._dtype).reshape(sizes[number], width)

    def __enter__(self) -> Self:
        """Return itself; leaving gives memory and disk back."""
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _Micro:
    """How many scores are as high as each true one, added up over parts of the columns."""

    def __init__(self, positives: Floats) -> None:
        self.positives = np.sort(positives)
        self.above = np.zeros(len(positives), np.int64)

    def add(self, scores: npt.NDArray[Any]) -> None:
        """Count scores, ascending."""
        self.above += len(scores) - np.searchsorted(scores, self.positives.astype(scores.dtype), side="left")

    def value(self) -> float:
        return _mean_precision(self.positives, self.above)


def average_precisions(
    labels: LabelSets, cells: LabelSets, store: ScoreStore
) -> tuple[dict[str, AveragePrecision], dict[str, AveragePrecision]]:
    """Return the average precision of each group of classes, and of each cell: a group's part.

    Parameters
    ----------
    labels, cells : LabelSets
        The same labels by group and by cell. Proteins without a class of a group are not measured in it or its cells.
    store : ScoreStore
        Of the scores, made with `cells`.

    Returns
    -------
    dict of str to AveragePrecision, twice
        Without those that no protein has a class of.
    """
    groups, group_of = group_codes(labels)
    names, cell_of = group_codes(cells)
    rows = np.repeat(np.arange(len(labels)), labels.sizes())
    by_class = np.argsort(labels.codes, kind="stable")
    starts = np.searchsorted(labels.codes[by_class], np.arange(labels.n_classes + 1))
    in_group, in_cell = (
        [_Micro(store.positives[place[labels.codes] == number]) for number in range(n)]
        for place, n in ((group_of, len(groups)), (cell_of, len(names)))
    )
    alone = np.full(labels.n_classes, np.nan)
    for number, codes in enumerate(store.parts):
        group = group_of[codes[0]]
        cell = cell_of[codes[0]]
        measured = np.zeros(len(labels), bool)
        measured[rows[group_of[labels.codes] == group]] = True
        scores = np.sort(store.columns(number)[measured].T, axis=1)  # (classes of the part, proteins)
        together = np.sort(scores, axis=None)
        in_group[group].add(together)
        in_cell[cell].add(together)
        for code, column in zip(codes.tolist(), scores, strict=True):
            if starts[code] < starts[code + 1]:
                of_class = _Micro(store.positives[by_class[starts[code] : starts[code + 1]]])
                of_class.add(column)
                alone[code] = of_class.value()
    return _collect(groups, group_of, in_group, alone), _collect(names, cell_of, in_cell, alone)


@dataclass(frozen=True, eq=False)
class PerTerm:
    """How well each term is found among the proteins that are measured in its group; all (classes,).

    Parameters
    ----------
    proteins : int64 array
        That have it.
    fmax, threshold : float64 arrays
        The highest F1 at a threshold, and the lowest threshold at which it is reached; NaN where no protein has it.
    average_precision : float64 array
        NaN there.
    """

    proteins: Indices
    fmax: Floats
    threshold: Floats
    average_precision: Floats


def per_term(labels: LabelSets, store: ScoreStore) -> PerTerm:
    """Measure each term for itself.

    Parameters
    ----------
    labels : LabelSets
        By group.
    store : ScoreStore
        Of their scores.
    """
    _, group_of = group_codes(labels)
    rows = np.repeat(np.arange(len(labels)), labels.sizes())
    by_class = np.argsort(labels.codes, kind="stable")
    starts = np.searchsorted(labels.codes[by_class], np.arange(labels.n_classes + 1))
    fmax, threshold, precision = np.full((3, labels.n_classes), np.nan)
    for number, codes in enumerate(store.parts):
        measured = np.zeros(len(labels), bool)
        measured[rows[group_of[labels.codes] == group_of[codes[0]]]] = True
        scores = np.sort(store.columns(number)[measured].T, axis=1)  # (classes of the part, proteins)
        for code, column in zip(codes.tolist(), scores, strict=True):
            positives = store.positives[by_class[starts[code] : starts[code + 1]]]
            if not len(positives):
                continue
            of_class = _Micro(positives)
            of_class.add(column)
            precision[code] = of_class.value()
            f1 = _f1(column, of_class.positives.astype(column.dtype))
            fmax[code] = f1.max()
            threshold[code] = round(float(THRESHOLDS[f1.argmax()]), 2)
    return PerTerm(labels.counts(), fmax, threshold, precision)


def _f1(scores: npt.NDArray[Any], positives: npt.NDArray[Any]) -> Floats:
    """Return F1 at each threshold; both arrays ascend."""
    edges = THRESHOLDS.astype(scores.dtype)
    predicted, right = (len(values) - np.searchsorted(values, edges, side="left") for values in (scores, positives))
    f1: Floats = 2 * right / (predicted + len(positives))
    return f1


def _mean_precision(positives: Floats, above: Indices) -> float:
    """Return the mean over true classes, ascending by score, of the precision at their scores."""
    right = len(positives) - np.searchsorted(positives, positives, side="left")
    return float((right / above).mean())


def _collect(names: tuple[str, ...], place: Indices, micro: list[_Micro], alone: Floats) -> dict[str, AveragePrecision]:
    by_name = {}
    for number, name in enumerate(names):
        of_classes = alone[(place == number) & np.isfinite(alone)]
        if len(of_classes):
            by_name[name] = AveragePrecision(micro[number].value(), float(of_classes.mean()), len(of_classes))
    return by_name
