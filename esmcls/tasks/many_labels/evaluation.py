"""How good a model of many labels is on a part of a data set: Fmax, F1 by its thresholds, average precision.

An evaluation holds no time stamp: the same model and part give the same bytes twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from esmcls.errors import UsageError
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import Block, Counts
from esmcls.metrics.cafa_curves import draw
from esmcls.metrics.classification import FOLDS, Interval, percentile_intervals
from esmcls.metrics.label_f1 import Decided
from esmcls.reporting.phrases import NONE, counted, decimal
from esmcls.tasks.label_sets.evaluation import BUCKETS, Predicted, TermDetails, evaluate_terms, members_of
from esmcls.tasks.label_sets.scores import AspectScores, Bucket
from esmcls.tasks.many_labels.classes import ALL
from esmcls.tasks.many_labels.results import LabelBucket, LabelScores
from esmcls.types import Indices

NAMES: Final = {
    "fmax": "Fmax",
    "f1_micro": "F1, micro",
    "f1_macro": "F1, macro",
    "coverage": "labels found",
}
"""What measures are called."""


@dataclass(frozen=True)
class LabelEvaluation:
    """The scores of a model on a set of proteins.

    Parameters
    ----------
    n : int
        Proteins.
    n_labels : int
        Labels that occur among them.
    unseen_labels, unseen : int
        Labels among them that no training protein has, and how often they occur.
    scores : LabelScores
    folds, seed : int
        Of the bootstrap.
    counts : Counts
        What each protein has right at each threshold; not in JSON, nor are the following.
    decided : Decided
        What each protein has, and what the model predicts by its thresholds.
    details : TermDetails or None
        Where a report is to be made.
    """

    n: int
    n_labels: int
    unseen_labels: int
    unseen: int
    scores: LabelScores
    folds: int
    seed: int
    counts: Counts = field(repr=False, compare=False)
    decided: Decided = field(repr=False, compare=False)
    details: TermDetails | None = field(default=None, repr=False, compare=False)

    @property
    def metrics(self) -> dict[str, Interval]:
        """Each measure with its interval."""
        return self.scores.metrics

    def to_json(self) -> dict[str, Any]:
        """Return the measures as plain values for JSON."""
        numbers = {name: getattr(self, name) for name in ("n", "n_labels", "unseen_labels", "unseen", "folds", "seed")}
        return {"format": 1} | numbers | {"scores": asdict(self.scores)}

    def lines(self) -> list[str]:
        """Return tables for people, one line each."""
        lines = [f"{counted(self.n, 'protein')} with {counted(self.n_labels, 'label')}"]
        if self.unseen_labels:
            labels = f"{counted(self.unseen, 'label')} of {self.unseen_labels:,} that no training protein has"
            lines.append(f"{labels} (counted as missed)")
        return [*lines, "", *_table(self.scores)]


def _table(scores: LabelScores) -> list[str]:
    lines = [f"{'':17}  {'value':>6}  {'95 % interval':15}  threshold"]
    for name, interval in scores.metrics.items():
        ends = f"{decimal(interval.low)} {NONE} {decimal(interval.high)}"
        threshold = f"{scores.thresholds[name]:.2f}" if name in scores.thresholds else "each label's"
        lines.append(f"{NAMES[name]:17}  {decimal(interval.value):>6}  {ends:15}  {threshold}")
    lines.append(f"{'precision, micro':17}  {decimal(scores.aupr.micro):>6}  average precision")
    lines.append(f"{'precision, macro':17}  {decimal(scores.aupr.macro):>6}  average precision")
    lines += ["", f"{'training proteins':17}  {'F1':>6}  {'Fmax':>6}  {'precision':>9}  {'labels':>6}"]
    for bucket in scores.buckets:
        values = f"{decimal(bucket.f1):>6}  {decimal(bucket.fmax):>6}  {decimal(bucket.macro):>9}"
        lines.append(f"{bucket.name:17}  {values}  {bucket.terms:>6,}")
    if scores.lengths:
        lines += ["", f"{'residues':17}  {'Fmax':>6}  {'proteins':>8}"]
    return lines + [f"{part.name:17}  {decimal(part.fmax):>6}  {part.n:>8,}" for part in scores.lengths]


def evaluate_labels(
    truth: LabelSets,
    blocks: Iterable[Block],
    predicted: Mapping[int, Predicted],
    train_counts: Indices,
    seed: int = 0,
    *,
    folds: int = FOLDS,
    lengths: Indices | None = None,
    each_label: bool = False,
) -> LabelEvaluation:
    """Compare a model's scores, and what it predicts by them, with the labels of proteins.

    Parameters
    ----------
    truth : LabelSets
        The model's classes first, then those that only proteins here have; see `with_unseen`.
    blocks : iterable of (slice, float array (rows, classes))
        Every row once; columns are the first classes.
    predicted : mapping
        From a row to what is predicted of it; filled once the blocks have been gone through.
    train_counts : int64 array, (classes,)
        Training proteins of each label; those beyond the array have none.
    seed, folds : int
        Of the bootstrap over proteins.
    lengths : int64 array, (n,), optional
        Residues of each protein.
    each_label : bool
        Whether to keep what a report of each label and protein needs.

    Raises
    ------
    UsageError
        If no protein has a label.
    """
    if not len(truth.codes):
        raise UsageError("no protein with a label to evaluate on: give INPUT with labels, or a test part")
    whole = evaluate_terms(truth, blocks, train_counts, None, seed, folds=folds, lengths=lengths, each_term=each_label)
    decided = decisions(truth, predicted)
    members = members_of(truth.n_classes, train_counts)
    scores = scores_of(whole.aspects[ALL], decided, members, draw(len(truth), folds, seed))
    details = None if whole.terms is None else TermDetails(truth, members, None, whole.terms, predicted)
    numbers = whole.n, whole.n_terms, whole.unseen_terms, whole.unseen
    return LabelEvaluation(*numbers, scores, folds, seed, whole.counts, decided, details)


def decisions(truth: LabelSets, predicted: Mapping[int, Predicted]) -> Decided:
    """Return what proteins have beside what is predicted of them."""
    codes = [predicted[row][0] for row in range(len(truth))]
    offsets = np.cumsum([0, *map(len, codes)], dtype=np.int64)
    whole = np.concatenate([np.zeros(0, np.int64), *codes])
    return Decided(truth, LabelSets(truth.classes, offsets, whole, truth.groups))


def scores_of(ranked: AspectScores, decided: Decided, members: Indices, draws: npt.NDArray[np.int16]) -> LabelScores:
    """Return the scores by rank with those by the model's thresholds.

    Parameters
    ----------
    ranked : AspectScores
    decided : Decided
    members : int64 array, (classes,)
        Training proteins of each label.
    draws : int16 array, (draws, n)
        How often each protein counts.
    """
    values = decided.measures()
    resampled = decided.resampled(draws)
    intervals = percentile_intervals(values, np.stack([resampled[name] for name in values], axis=1))
    buckets = [_with_f1(bucket, decided, members) for bucket in ranked.buckets]
    known = {name: value for name, value in vars(ranked).items() if name not in ("metrics", "buckets")}
    return LabelScores(**known, metrics=ranked.metrics | intervals, buckets=buckets)


def _with_f1(bucket: Bucket, decided: Decided, members: Indices) -> LabelBucket:
    """Return the labels of a range of frequency with their mean F1."""
    [(first, end)] = [(first, end) for name, first, end in BUCKETS if name == bucket.name]
    here = (members >= first) & (members < (np.inf if end is None else end)) & (decided.truth.counts() > 0)
    return LabelBucket(**vars(bucket), f1=float(decided.f1()[here].mean()) if here.any() else None)
