"""How good a model of many labels is on a part of a data set: CAFA's measures in each aspect, by frequency and length.

An evaluation holds no time stamp: the same model and part give the same bytes twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from esmcls.errors import UsageError
from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import ASPECTS
from esmcls.metrics.average_precision import AveragePrecision, PerTerm, ScoreStore, average_precisions, per_term
from esmcls.metrics.cafa import Block, Counts, count, fmax_by_group
from esmcls.metrics.cafa_curves import curves, draw, peaks, resample
from esmcls.metrics.classification import FOLDS, Floats, Interval, equal_bins, percentile_intervals
from esmcls.reporting.phrases import NONE, counted, decimal
from esmcls.tasks.label_sets.scores import AspectScores, Bucket, LengthClass
from esmcls.types import Indices

OCCURRING: Final = (("1-5", 1, 6), ("6-10", 6, 11), ("11-50", 11, 51), ("51-500", 51, 501), (">500", 501, None))
"""Name, first and end of how many proteins have a class."""
BUCKETS: Final = (("0", 0, 1), *OCCURRING)
"""Name, first and last + 1 number of training proteins of a term; those without any are told apart."""
Predicted: TypeAlias = tuple[Indices, Floats]
"""Codes of terms, and their probabilities, both (m,)."""
_NAMES: Final = {"fmax": "Fmax", "wfmax": "weighted Fmax", "f_micro_w": "weighted micro F", "smin": "Smin"}


@dataclass(frozen=True, eq=False)
class TermDetails:
    """What the report of one model is made of besides its measures.

    Parameters
    ----------
    truth : LabelSets
        See `evaluate_terms`.
    members : int64 array, (classes,)
        Training proteins of each term.
    bits : float64 array (classes,) or None
        Information accretion.
    each : PerTerm
    predicted : mapping
        From a protein's row to the terms that its model predicts: codes and probabilities.
    """

    truth: LabelSets
    members: Indices
    bits: Floats | None
    each: PerTerm
    predicted: Mapping[int, Predicted]

    def judged(self, row: int) -> Predicted:
        """Return what is predicted of a protein in the aspects that it has a term of: in others nothing is known."""
        codes, probabilities = self.predicted[row]
        groups = self.truth.groups or ("all",) * self.truth.n_classes
        measured = {groups[code] for code in self.truth.row(row).tolist()}
        here = np.array([groups[code] in measured for code in codes.tolist()], dtype=bool)
        return codes[here], probabilities[here]

    def wrong_rows(self) -> list[int]:
        """Return the proteins that lack a term or have one too many."""
        rows = sorted(self.predicted)
        return [row for row in rows if not np.array_equal(np.sort(self.judged(row)[0]), self.truth.row(row))]


@dataclass(frozen=True)
class TermEvaluation:
    """The scores of a model on a set of proteins.

    Parameters
    ----------
    n : int
        Proteins.
    n_terms : int
        Terms that occur among them.
    unseen_terms, unseen : int
        Terms among them that no training protein has, and how often they occur.
    aspects : dict of str to AspectScores
        By the aspect's letter; without aspects that no protein has a term of.
    folds, seed : int
        Of the bootstrap.
    counts : Counts
        What each protein has right, for `esmcls.tasks.go_terms.comparison`; not in JSON.
    terms : PerTerm or None
        Each term for itself, where that was asked for; not in JSON.
    details : TermDetails or None
        Where a report is to be made; not in JSON.
    """

    n: int
    n_terms: int
    unseen_terms: int
    unseen: int
    aspects: dict[str, AspectScores]
    folds: int
    seed: int
    counts: Counts = field(repr=False, compare=False)
    terms: PerTerm | None = field(default=None, repr=False, compare=False)
    details: TermDetails | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the measures as plain values for JSON."""
        apart = ("aspects", "counts", "terms", "details")
        numbers = {name: value for name, value in vars(self).items() if name not in apart}
        aspects = {letter: asdict(scores) for letter, scores in self.aspects.items()}
        return {"format": 1} | numbers | {"aspects": aspects}

    def lines(self) -> list[str]:
        """Return tables for people, one line each."""
        lines = [f"{counted(self.n, 'protein')} with {counted(self.n_terms, 'term')}"]
        if self.unseen_terms:
            labels = f"{counted(self.unseen, 'label')} of {counted(self.unseen_terms, 'term')}"
            lines.append(f"{labels} without training proteins (counted as missed)")
        for letter, scores in self.aspects.items():
            lines += ["", *_table(ASPECTS.get(letter, letter).replace("_", " "), scores)]
        return lines


def _table(aspect: str, scores: AspectScores) -> list[str]:
    lines = [f"{aspect}: {counted(scores.proteins, 'protein')} with {counted(scores.aupr.terms, 'term')}"]
    lines.append(f"  {'':17}  {'value':>6}  {'95 % interval':15}  threshold")
    for name, interval in scores.metrics.items():
        ends = f"{decimal(interval.low)} {NONE} {decimal(interval.high)}"
        lines.append(f"  {_NAMES[name]:17}  {decimal(interval.value):>6}  {ends:15}  {scores.thresholds[name]:.2f}")
    lines.append(f"  {'AUPR, micro':17}  {decimal(scores.aupr.micro):>6}")
    lines.append(f"  {'AUPR, macro':17}  {decimal(scores.aupr.macro):>6}")
    lines.append(f"  {'training proteins':17}  {'Fmax':>6}  {'AUPR, micro':>11}  {'AUPR, macro':>11}  {'terms':>6}")
    for bucket in scores.buckets:
        values = f"{decimal(bucket.fmax):>6}  {decimal(bucket.micro):>11}  {decimal(bucket.macro):>11}"
        lines.append(f"  {bucket.name:17}  {values}  {bucket.terms:>6,}")
    if scores.lengths:
        lines.append(f"  {'residues':17}  {'Fmax':>6}  {'proteins':>8}")
    return lines + [f"  {part.name:17}  {decimal(part.fmax):>6}  {part.n:>8,}" for part in scores.lengths]


def with_unseen(truth: LabelSets, classes: Sequence[str], groups: Sequence[str]) -> LabelSets:
    """Code labels by a model's classes, and those that are not among them from len(classes) upwards.

    Parameters
    ----------
    truth : LabelSets
    classes, groups : sequence of str
        Of the model, (classes,); what it predicts and no protein here has is wrong in its group.

    Returns
    -------
    LabelSets
    """
    known = set(classes)
    unseen = [place for place, name in enumerate(truth.classes) if name not in known]
    names = (*classes, *(truth.classes[place] for place in unseen))
    return LabelSets.from_names(truth.names(), names, (*groups, *(truth.groups[place] for place in unseen)))


def by_frequency(labels: LabelSets, train_counts: Indices) -> LabelSets:
    """Return labels whose groups are cells: aspect and bucket of training proteins, as in ``C 11-50``."""
    places = np.searchsorted([first for _, first, _ in BUCKETS], train_counts, side="right") - 1
    groups = labels.groups or ("all",) * labels.n_classes
    cells = [f"{group} {BUCKETS[place][0]}" for group, place in zip(groups, places.tolist(), strict=True)]
    return replace(labels, groups=tuple(cells))


def evaluate_terms(
    truth: LabelSets,
    blocks: Iterable[Block],
    train_counts: Indices,
    ia: Floats | None = None,
    seed: int = 0,
    *,
    folds: int = FOLDS,
    lengths: Indices | None = None,
    each_term: bool = False,
) -> TermEvaluation:
    """Compare a model's scores with the terms of proteins.

    Scores are asked for once and kept in bounded memory; beyond 256 MiB in a temporary file.

    Parameters
    ----------
    truth : LabelSets
        Propagated, without roots, groups the aspects: the model's classes first, then those that only proteins here
        have; see `with_unseen`.
    blocks : iterable of (slice, float array (rows, classes))
        Every row once, of scores that rise towards parents; columns are the first classes.
    train_counts : int64 array, (classes,)
        Training proteins of each term; those beyond the array have none.
    ia : float64 array, (classes,), optional
        Information accretion in bits; without it there is Fmax and AUPR alone.
    seed, folds : int
        Of the bootstrap over proteins.
    lengths : int64 array, (n,), optional
        Residues of each protein.
    each_term : bool
        Whether to measure each term for itself, too.

    Returns
    -------
    TermEvaluation

    Raises
    ------
    UsageError
        If no protein has a term.
    ValueError
        If blocks leave rows out or hold what is not a number, or an array is of another size.
    """
    if not len(truth.codes):
        raise UsageError("no protein with a term to evaluate on: give INPUT with --labels, or a test part")
    members = members_of(truth.n_classes, train_counts)
    cells = by_frequency(truth, members)
    with ScoreStore(cells, blocks) as store:
        counts = count(truth, store, ia)
        fmax = fmax_by_group(cells, store)
        whole, parts = average_precisions(truth, cells, store)
        terms = per_term(truth, store) if each_term else None
    draws = draw(len(truth), folds, seed)
    aspects = {
        name: aspect_scores(counts, group, whole[name], _buckets(name, fmax, parts), draws, lengths)
        for group, name in enumerate(counts.groups)
        if counts.measured[group]
    }
    occurring = truth.counts() > 0
    unseen = occurring & (members == 0)
    unseen_labels = int(truth.counts()[unseen].sum())
    n_terms = int(occurring.sum())
    numbers = len(truth), n_terms, int(unseen.sum()), unseen_labels
    return TermEvaluation(*numbers, aspects, folds, seed, counts, terms)


def members_of(n_classes: int, train_counts: Indices) -> Indices:
    """Return the training proteins of each class; those beyond the array have none."""
    if len(train_counts) > n_classes:
        raise ValueError(f"training counts of {len(train_counts)} terms for {n_classes} classes")
    members = np.zeros(n_classes, np.int64)
    members[: len(train_counts)] = train_counts
    return members


def aspect_scores(
    counts: Counts,
    group: int,
    aupr: AveragePrecision,
    buckets: list[Bucket],
    draws: npt.NDArray[np.int16],
    lengths: Indices | None,
) -> AspectScores:
    """Return the scores of an aspect: all but `aupr` and `buckets` follow from counts."""
    metrics, thresholds = with_intervals(counts, group, draws)
    precision, recall = _curve(counts, group)
    by_length = [] if lengths is None else _by_length(counts, group, lengths)
    proteins = int(counts.measured[group])
    return AspectScores(proteins, metrics, thresholds, aupr, precision, recall, buckets, by_length)


def _buckets(aspect: str, fmax: dict[str, float], parts: dict[str, AveragePrecision]) -> list[Bucket]:
    """Return the buckets of an aspect from what was measured in its cells; see `by_frequency`."""
    buckets = []
    for name, _, _ in BUCKETS:
        cell = f"{aspect} {name}"
        aupr = parts.get(cell)
        measured = aupr and Bucket(name, aupr.terms, fmax[cell], aupr.micro, aupr.macro)
        buckets.append(measured or Bucket(name, 0, None, None, None))
    return buckets


def with_intervals(
    counts: Counts, group: int, draws: npt.NDArray[np.int16]
) -> tuple[dict[str, Interval], dict[str, float]]:
    """Return each measure of a group with its interval, and the threshold at which it is reached."""
    values = peaks(counts, group)
    intervals: dict[str, Interval] = {}
    for name, resampled in resample(counts, group, draws).items():
        highest = np.inf if name == "smin" else 1.0
        intervals |= percentile_intervals({name: values[name][0]}, resampled[:, None], high=highest)
    return intervals, {name: threshold for name, (_, threshold) in values.items()}


def _curve(counts: Counts, group: int) -> tuple[list[float | None], list[float]]:
    curve = curves(counts, group)
    pairs = zip(curve.precision[0].tolist(), curve.coverage[0].tolist(), strict=True)
    return [precision if covered else None for precision, covered in pairs], curve.recall[0].tolist()


def _by_length(counts: Counts, group: int, lengths: Indices) -> list[LengthClass]:
    """Return Fmax by length, in bins that hold about as many of all proteins, the same in every aspect."""
    names, places = equal_bins(lengths)
    classes = []
    for number, name in enumerate(names):
        proteins = counts.take(places == number)
        n = int(proteins.measured[group])
        classes.append(LengthClass(name, n, peaks(proteins, group)["fmax"][0] if n else None))
    return classes
