"""The numbers of models of many labels, as metrics.json and the report.json of a comparison hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from esmcls.metrics.paired import Difference
from esmcls.reporting.results import ComparedData
from esmcls.tasks.label_sets.scores import AspectScores, Bucket, ScoredReport, ScoredRow
from esmcls.tasks.many_labels.classes import ALL

Differences = dict[str, Difference]
"""By measure."""


@dataclass(frozen=True)
class LabelBucket(Bucket):
    """The labels with so many training proteins; see `Bucket`.

    Parameters
    ----------
    f1 : float or None
        The mean over them, by the model's thresholds.
    """

    f1: float | None = None


@dataclass(frozen=True)
class LabelScores(AspectScores):
    """The scores of a model; see `AspectScores`.

    Parameters
    ----------
    metrics : dict of str to Interval
        fmax, f1_micro, f1_macro and coverage, each with its 95 % interval.
    thresholds : dict of str to float
        Of fmax alone: the others are by the model's own, which validation chose for each label.
    """

    buckets: list[LabelBucket]  # type: ignore[assignment]  # a list that nobody adds to


@dataclass(frozen=True, kw_only=True)
class LabelRow(ScoredRow):
    """A model, the highest Fmax first.

    Parameters
    ----------
    scores : LabelScores
    versus_best, versus_homology : Differences or None
        How far it is from the best and from homology; None of the model itself, or where there is none.
    folds : list of float
        Fmax on each fold; empty without a cross-validation.
    """

    scores: LabelScores
    versus_best: Differences | None
    versus_homology: Differences | None
    folds: list[float] = field(default_factory=list)

    @property
    def aspects(self) -> Mapping[str, AspectScores]:
        """The scores under the name of the one group, for the figures."""
        return {ALL: self.scores}


@dataclass(frozen=True)
class LabelNumbers:
    """Labels that training proteins have, that test proteins have, and of these those without a training protein."""

    trained: int
    tested: int
    unseen: int


@dataclass(frozen=True, kw_only=True)
class LabelData(ComparedData):
    """The data set and its labels."""

    labels: LabelNumbers


@dataclass(frozen=True, kw_only=True)
class LabelReport(ScoredReport):
    """A comparison on labels, many a protein."""

    dataset: LabelData
    rows: list[LabelRow]

    @property
    def best_row(self) -> LabelRow:
        """The row of the best model."""
        return next(row for row in self.rows if row.name == self.best)
