"""The numbers of a comparison of models of one label a protein, as its report.json holds them."""

from __future__ import annotations

from dataclasses import dataclass, field

from esmcls.metrics.classification import Interval, Tier
from esmcls.reporting.results import ComparedData, ComparisonSettings, ModelRow, Report
from esmcls.tasks.one_label.levels.scores import LevelScore, LevelSets


@dataclass(frozen=True)
class Versus:
    """How far a model's accuracy is from the best one's, with its two-sided p, and that corrected by Holm's method."""

    difference: Interval
    p: float
    p_holm: float


@dataclass(frozen=True)
class FoldScores:
    """The scores of a model on one fold of a cross-validation."""

    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class ReliabilityBins:
    """Proteins by the probability of their answer, in bins of about as many: its mean, and the share that is right.

    `low` and `high` are the ends of that share's 95 % interval. Reports of an older esmcls have none, but bins of equal
    width, some of them without a protein.
    """

    counts: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]
    low: list[float | None] = field(default_factory=list)
    high: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class Retained:
    """The accuracy among the most confident share of the proteins, for each share; None of no protein."""

    coverage: list[float]
    accuracy: list[float | None]


@dataclass(frozen=True)
class Confusion:
    """How many proteins of a class, of all that it has, were taken for another."""

    true: str
    predicted: str
    n: int
    of: int


@dataclass(frozen=True)
class Roc:
    """Shares of strangers and of known proteins that pass, as the threshold falls."""

    false_acceptance: list[float]
    acceptance: list[float]


@dataclass(frozen=True)
class OpenSet:
    """How well rejection tells proteins of families held out from those of known families.

    Parameters
    ----------
    score : str
        What is compared with the threshold.
    auroc : float
    wanted, reached : float
        Share of strangers that the threshold was to accept, and that it accepts.
    accepted : float
        Share of known proteins that it accepts.
    known, strangers : int
        Proteins.
    roc : Roc
    reached_low, reached_high, accepted_low, accepted_high : float, optional
        Ends of the 95 % intervals of both shares, which know that proteins of a family go together.
    told_reached, told_accepted : float, optional
        Both shares as the model says them, measured when it was fitted.
    """

    score: str
    auroc: float
    wanted: float
    reached: float
    accepted: float
    known: int
    strangers: int
    roc: Roc
    reached_low: float | None = None
    reached_high: float | None = None
    accepted_low: float | None = None
    accepted_high: float | None = None
    told_reached: float | None = None
    told_accepted: float | None = None


@dataclass(frozen=True)
class ConformalSets:
    """How often sets of classes hold the right one, and how large they are.

    Parameters
    ----------
    coverage, held_half, test : float
        How often the right class is in the set: as wanted, on the half of the calibration rows that the sets were not
        made from, and on the test part.
    mean_size, median_size : float
        Classes in a set.
    calibration_rows : int
    """

    coverage: float
    held_half: float
    test: float
    mean_size: float
    median_size: float
    calibration_rows: int


@dataclass(frozen=True, kw_only=True)
class OneLabelRow(ModelRow):
    """A model, the best accuracy first.

    Parameters
    ----------
    metrics : dict of str to Interval
        See `esmcls.metrics.classification.summary`.
    folds : list of FoldScores
        Empty without a cross-validation.
    tiers, lengths : list of Tier
        Accuracy by training members of the class, and by residues.
    calibration_error : float
    reliability : ReliabilityBins
    retained : Retained
    confusions : list of Confusion
        The most frequent first.
    open_set : OpenSet or None
        None where no family was held out.
    sets : ConformalSets or None
        None without calibration rows.
    versus_best : Versus or None
        None of the best itself.
    levels : list of LevelScore
        Accuracy at each level of a hierarchy of the classes, the broadest first; empty without one.
    near_misses : int, optional
        Wrong answers under the right node of the level above; None without a hierarchy.
    level_sets : LevelSets or None
        None without a hierarchy or without calibration rows.
    """

    metrics: dict[str, Interval]
    folds: list[FoldScores]
    tiers: list[Tier]
    lengths: list[Tier]
    calibration_error: float
    reliability: ReliabilityBins
    retained: Retained
    confusions: list[Confusion]
    open_set: OpenSet | None
    sets: ConformalSets | None
    versus_best: Versus | None
    levels: list[LevelScore] = field(default_factory=list)
    near_misses: int | None = None
    level_sets: LevelSets | None = None


@dataclass(frozen=True, kw_only=True)
class OneLabelData(ComparedData):
    """The data set, and how many classes it has."""

    classes: int


@dataclass(frozen=True, kw_only=True)
class OneLabelSettings(ComparisonSettings):
    """The options of a comparison: shares set apart, and what thresholds and sets are made for."""

    hold_out_families: float
    calibration: float
    false_acceptance: float
    coverage: float


@dataclass(frozen=True, kw_only=True)
class OneLabelReport(Report):
    """A comparison; `family_names` are shown beside the classes that they name."""

    dataset: OneLabelData
    settings: OneLabelSettings
    rows: list[OneLabelRow]
    family_names: dict[str, str] = field(default_factory=dict)

    @property
    def best_row(self) -> OneLabelRow:
        """The row of the best model."""
        return next(row for row in self.rows if row.name == self.best)
