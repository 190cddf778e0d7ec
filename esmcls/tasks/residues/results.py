"""The numbers of a comparison of models of residues, as its report.json holds them."""

from __future__ import annotations

from dataclasses import dataclass

from esmcls.metrics.classification import Interval
from esmcls.reporting.results import ComparedData, Report
from esmcls.tasks.measured import MeasuredRow


@dataclass(frozen=True)
class ClassScores:
    """A class of residues: how many there are, and how well they are found.

    Parameters
    ----------
    name : str
    residues : int
    precision, recall : float or None
        None where none was named, or there is none.
    f1 : Interval
    """

    name: str
    residues: int
    precision: float | None
    recall: float | None
    f1: Interval


@dataclass(frozen=True)
class Strip:
    """A protein as a sample: the true and the predicted states of its residues.

    Parameters
    ----------
    id : str
    true, predicted : str
        A sign a residue; `?` where not known.
    values, answers : list of float or None
        Of numbers, in their place.
    """

    id: str
    true: str
    predicted: str
    values: list[float | None]
    answers: list[float | None]


@dataclass(frozen=True)
class Points:
    """A sample of residues: their true numbers, and those that were predicted."""

    true: list[float]
    predicted: list[float]


@dataclass(frozen=True, kw_only=True)
class ResidueRow(MeasuredRow):
    """A model, the best by its main measure first; its measures are those of `esmcls.metrics.residues`.

    Parameters
    ----------
    folds : list of float
        The main measure in each fold of a cross-validation.
    classes : list of ClassScores
    confusion : list of list of int
        Residues of each class (rows) by what they were taken for (columns).
    points : Points or None
        None of labels.
    strips : list of Strip
    unseen : int
        Residues with a label of which the encoder saw nothing: they are not scored.
    """

    folds: list[float]
    classes: list[ClassScores]
    confusion: list[list[int]]
    points: Points | None
    strips: list[Strip]
    unseen: int


@dataclass(frozen=True, kw_only=True)
class ResidueData(ComparedData):
    """The data set.

    Parameters
    ----------
    classes : list of str
        None of numbers.
    residues : int
        Of the proteins that were measured on.
    known : int
        Of these, residues with a label.
    """

    classes: list[str]
    residues: int
    known: int


@dataclass(frozen=True, kw_only=True)
class ResidueReport(Report):
    """A comparison; `main` is the measure by which models are set in order."""

    dataset: ResidueData
    rows: list[ResidueRow]
    main: str

    @property
    def best_row(self) -> ResidueRow:
        """The row of the best model."""
        return next(row for row in self.rows if row.name == self.best)
