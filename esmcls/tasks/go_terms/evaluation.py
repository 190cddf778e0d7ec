"""How good a model of many labels is on a part of a data set: CAFA's measures in each aspect, by frequency and length.

An evaluation holds no time stamp: the same model and part give the same bytes twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np

from esmcls.errors import UsageError
from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import ASPECTS
from esmcls.metrics.average_precision import AveragePrecision, ScoreStore, average_precisions
from esmcls.metrics.cafa import Block, Counts, count, fmax_by_group
from esmcls.metrics.cafa_curves import curves, draw, peaks, resample
from esmcls.metrics.classification import FOLDS, Floats, Interval, percentile_intervals
from esmcls.tasks.go_terms.statistics import BUCKETS as OCCURRING
from esmcls.tasks.one_label.comparison import LENGTHS
from esmcls.types import Indices

BUCKETS: Final = (("0", 0, 1), *OCCURRING)
"""Name, first and last + 1 number of training proteins of a term; those without any are told apart."""
_NAMES: Final = {"fmax": "Fmax", "wfmax": "weighted Fmax", "smin": "Smin"}
_NONE: Final = "–"


@dataclass(frozen=True)
class Bucket:
    """The terms with so many training proteins; measures are None where no protein has one.

    Parameters
    ----------
    name : str
    terms : int
        That a protein has.
    fmax : float or None
        Over the proteins with such a term.
    micro, macro : float or None
        Average precision over the proteins that are measured in the aspect.
    """

    name: str
    terms: int
    fmax: float | None
    micro: float | None
    macro: float | None


@dataclass(frozen=True)
class LengthClass:
    """The proteins of such a length that have a term of the aspect; `fmax` is None without any."""

    name: str
    n: int
    fmax: float | None


@dataclass(frozen=True)
class AspectScores:
    """What a model reaches in an aspect.

    Parameters
    ----------
    proteins : int
        With a term of the aspect.
    metrics : dict of str to Interval
        fmax, and with information accretion wfmax and smin (in bits, less is better), each with its 95 % interval.
    thresholds : dict of str to float
        Where each is reached, 0.01 to 0.99.
    aupr : AveragePrecision
        Without interval: each resample would sort all scores anew.
    precision, recall : list of float, (99,)
        At thresholds 0.01 to 0.99; precision is None where nothing is predicted.
    buckets : list of Bucket
        Always six.
    lengths : list of LengthClass
        Empty where lengths are not known.
    """

    proteins: int
    metrics: dict[str, Interval]
    thresholds: dict[str, float]
    aupr: AveragePrecision
    precision: list[float | None]
    recall: list[float]
    buckets: list[Bucket]
    lengths: list[LengthClass]


@dataclass(frozen=True)
class TermEvaluation:
    """What a model reaches on a set of proteins.

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
    """

    n: int
    n_terms: int
    unseen_terms: int
    unseen: int
    aspects: dict[str, AspectScores]
    folds: int
    seed: int
    counts: Counts = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return all of it but `counts` as plain values for JSON."""
        told = {name: value for name, value in vars(self).items() if name not in ("aspects", "counts")}
        return {"format": 1} | told | {"aspects": {name: asdict(one) for name, one in self.aspects.items()}}

    def lines(self) -> list[str]:
        """Return tables for people, one line each."""
        told = [f"{_count(self.n, 'protein')} with {_count(self.n_terms, 'term')}"]
        if self.unseen_terms:
            of = f"{_count(self.unseen, 'label')} of {_count(self.unseen_terms, 'term')}"
            told.append(f"{of} without training proteins (counted as missed)")
        for letter, scores in self.aspects.items():
            told += ["", *_table(ASPECTS.get(letter, letter).replace("_", " "), scores)]
        return told


def _table(aspect: str, scores: AspectScores) -> list[str]:
    told = [f"{aspect}: {_count(scores.proteins, 'protein')} with {_count(scores.aupr.terms, 'term')}"]
    told.append(f"  {'':17}  {'value':>6}  {'95 % interval':15}  threshold")
    for name, one in scores.metrics.items():
        between = f"{_number(one.low)} {_NONE} {_number(one.high)}"
        told.append(f"  {_NAMES[name]:17}  {_number(one.value):>6}  {between:15}  {scores.thresholds[name]:.2f}")
    for kind in ("micro", "macro"):
        told.append(f"  {f'AUPR, {kind}':17}  {_number(getattr(scores.aupr, kind)):>6}")
    told.append(f"  {'training proteins':17}  {'Fmax':>6}  {'AUPR, micro':>11}  {'AUPR, macro':>11}  {'terms':>6}")
    for cell in scores.buckets:
        shown = f"{_number(cell.fmax):>6}  {_number(cell.micro):>11}  {_number(cell.macro):>11}  {cell.terms:>6,}"
        told.append(f"  {cell.name:17}  {shown}")
    if scores.lengths:
        told.append(f"  {'residues':17}  {'Fmax':>6}  {'proteins':>8}")
    return told + [f"  {part.name:17}  {_number(part.fmax):>6}  {part.n:>8,}" for part in scores.lengths]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


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
    place = np.searchsorted([first for _, first, _ in BUCKETS], train_counts, side="right") - 1
    groups = labels.groups or ("all",) * labels.n_classes
    cells = [f"{group} {BUCKETS[one][0]}" for group, one in zip(groups, place.tolist(), strict=True)]
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
    if len(train_counts) > truth.n_classes:
        raise ValueError(f"training counts of {len(train_counts)} terms for {truth.n_classes} classes")
    members = np.zeros(truth.n_classes, np.int64)
    members[: len(train_counts)] = train_counts
    cells = by_frequency(truth, members)
    with ScoreStore(cells, blocks) as store:
        counts = count(truth, store, ia)
        fmax = fmax_by_group(cells, store)
        whole, parts = average_precisions(truth, cells, store)
    draws, aspects = draw(len(truth), folds, seed), {}
    for group, name in enumerate(counts.groups):
        if counts.measured[group]:
            buckets = [_bucket(bucket, f"{name} {bucket}", fmax, parts) for bucket, _, _ in BUCKETS]
            by_length = [] if lengths is None else _by_length(counts, group, lengths)
            found, at = _intervals(counts, group, draws)
            curve = _curve(counts, group)
            proteins = int(counts.measured[group])
            aspects[name] = AspectScores(proteins, found, at, whole[name], *curve, buckets, by_length)
    unseen = (members == 0) & (truth.counts() > 0)
    return TermEvaluation(
        len(truth),
        int((truth.counts() > 0).sum()),
        int(unseen.sum()),
        int(truth.counts()[unseen].sum()),
        aspects,
        folds,
        seed,
        counts,
    )


def _bucket(name: str, cell: str, fmax: dict[str, float], parts: dict[str, AveragePrecision]) -> Bucket:
    if cell not in parts:
        return Bucket(name, 0, None, None, None)
    return Bucket(name, parts[cell].terms, fmax[cell], parts[cell].micro, parts[cell].macro)


def _intervals(counts: Counts, group: int, draws: Any) -> tuple[dict[str, Interval], dict[str, float]]:
    values, found = peaks(counts, group), dict[str, Interval]()
    for name, resamples in resample(counts, group, draws).items():
        highest = np.inf if name == "smin" else 1.0
        found |= percentile_intervals({name: values[name][0]}, resamples[:, None], high=highest)
    return found, {name: at for name, (_, at) in values.items()}


def _curve(counts: Counts, group: int) -> tuple[list[float | None], list[float]]:
    curve = curves(counts, group)
    known = zip(curve.precision[0].tolist(), curve.coverage[0].tolist(), strict=True)
    return [one if covered else None for one, covered in known], curve.recall[0].tolist()


def _by_length(counts: Counts, group: int, lengths: Indices) -> list[LengthClass]:
    place = np.searchsorted([first for _, first in LENGTHS], lengths, side="right") - 1
    found = []
    for number, (name, _) in enumerate(LENGTHS):
        some = counts.take(place == number)
        n = int(some.measured[group])
        found.append(LengthClass(name, n, peaks(some, group)["fmax"][0] if n else None))
    return found
