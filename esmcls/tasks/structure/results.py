"""The numbers of a comparison of models of structures, as its report.json holds them."""

from __future__ import annotations

from dataclasses import dataclass

from esmcls.reporting.results import ComparedData, Report
from esmcls.tasks.measured import Behind, MeasuredRow


@dataclass(frozen=True)
class Tier:
    """Chains of a range, of lengths or of relatives, with the mean of each measure on them; None where none has it."""

    name: str
    n: int
    means: dict[str, float | None]


@dataclass(frozen=True)
class ConfidenceBin:
    """Residues with about the same confidence: its mean, and the mean of the lDDT that their distances reach."""

    name: str
    residues: int
    confidence: float
    lddt: float


@dataclass(frozen=True)
class Sample:
    """A chain as figures show it.

    Parameters
    ----------
    id, grade : str
        `grade` is best, median or worst of those that were folded.
    scores : dict of str to float
        Measures of this chain.
    residues : int
    map : list of list of float or None
        Distances in Å between groups of `step` residues: above the diagonal as predicted, below as they are.
    step : int
    true, folded : list of list of float
        Places of the residues that have both, (residues, 3) in Å, one laid on the other; empty where none was folded.
    numbers : list of int
        Which residues these are, from 1.
    """

    id: str
    grade: str
    scores: dict[str, float]
    residues: int
    map: list[list[float | None]]
    step: int
    true: list[list[float]]
    folded: list[list[float]]
    numbers: list[int]


@dataclass(frozen=True, kw_only=True)
class StructureRow(MeasuredRow):
    """A model, the best by P@L first; its measures are those of `esmcls.tasks.structure.measures`.

    Parameters
    ----------
    behind : dict of str to Behind
        The same as `versus_best` of other measures, against the same model, which need not be the best by them.
    folds : list of float
        P@L in each fold of a cross-validation.
    lengths, depths : list of Tier
        By residues, and by related training chains; the latter empty where these are not known.
    confidence : list of ConfidenceBin
    confidence_r : float
        The correlation of confidence and lDDT over residues.
    """

    behind: dict[str, Behind]
    folds: list[float]
    lengths: list[Tier]
    depths: list[Tier]
    confidence: list[ConfidenceBin]
    confidence_r: float


@dataclass(frozen=True, kw_only=True)
class StructureData(ComparedData):
    """The data set.

    Parameters
    ----------
    residues, resolved : int
        Of the chains that were measured on, and those of them with a place.
    chains, folded : int
        That were measured on, and of these the ones that were folded.
    contact : str
        What counts as a contact.
    """

    residues: int
    resolved: int
    chains: int
    folded: int
    contact: str


@dataclass(frozen=True, kw_only=True)
class StructureReport(Report):
    """A comparison; `main` is the measure by which models are set in order, `samples` are of the best."""

    dataset: StructureData
    rows: list[StructureRow]
    main: str
    samples: list[Sample]

    @property
    def best_row(self) -> StructureRow:
        """The row of the best model."""
        return next(row for row in self.rows if row.name == self.best)
