"""The numbers of a comparison of models of a number a protein, as its report.json holds them."""

from __future__ import annotations

from dataclasses import dataclass

from esmcls.reporting.results import ComparedData, ComparisonSettings, Report
from esmcls.tasks.measured import MeasuredRow
from esmcls.tasks.number.evaluation import IntervalsReached


@dataclass(frozen=True)
class LengthTier:
    """Proteins of a range of lengths, with the Spearman and mean absolute error on them; None of too few."""

    name: str
    n: int
    spearman: float | None
    mae: float | None


@dataclass(frozen=True, kw_only=True)
class NumberRow(MeasuredRow):
    """A model, the best Spearman first; its measures are those of `esmcls.metrics.regression`.

    Parameters
    ----------
    predicted : list of float
        For each protein of the report, in their order.
    folds : list of dict of str to float
        The measures on each fold; empty without a cross-validation.
    lengths : list of LengthTier
    intervals : IntervalsReached or None
        None without calibration rows.
    """

    predicted: list[float]
    folds: list[dict[str, float]]
    lengths: list[LengthTier]
    intervals: IntervalsReached | None


@dataclass(frozen=True, kw_only=True)
class NumberData(ComparedData):
    """The data set, and the numbers of all its proteins: least, mean and largest."""

    least: float
    mean: float
    largest: float


@dataclass(frozen=True, kw_only=True)
class NumberSettings(ComparisonSettings):
    """The options of a comparison: the share set apart, and what intervals are made for."""

    calibration: float
    coverage: float


@dataclass(frozen=True, kw_only=True)
class NumberReport(Report):
    """A comparison; `truth` holds the numbers of the proteins that the models were asked about."""

    dataset: NumberData
    settings: NumberSettings
    rows: list[NumberRow]
    truth: list[float]

    @property
    def best_row(self) -> NumberRow:
        """The row of the best model."""
        return next(row for row in self.rows if row.name == self.best)
