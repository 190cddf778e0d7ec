"""The numbers of models of Gene Ontology terms, as metrics.json and the report.json of a comparison hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import Self

from esmcls.files import from_plain
from esmcls.metrics.average_precision import AveragePrecision
from esmcls.metrics.classification import Interval
from esmcls.metrics.paired import Difference
from esmcls.reporting.results import ComparedData, ModelRow, Report

Differences = dict[str, dict[str, Difference]]
"""By the aspect's letter, then by measure."""


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
    """The scores of a model in an aspect.

    Parameters
    ----------
    proteins : int
        With a term of the aspect.
    metrics : dict of str to Interval
        fmax, and with information accretion wfmax, f_micro_w and smin (in bits, less is better), each with its 95 %
        interval.
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

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the scores that `dataclasses.asdict` gave the values of."""
        return from_plain(cls, values)


@dataclass(frozen=True, kw_only=True)
class TermRow(ModelRow):
    """A model, the best mean of Fmax first.

    Parameters
    ----------
    mean_fmax : float
        Over the aspects.
    aspects : dict of str to AspectScores
        By the aspect's letter; without aspects that no protein has a term of.
    versus_best, versus_homology : Differences or None
        How far it is from the best and from homology; None of the model itself, or where there is none.
    folds : list of float
        Mean Fmax on each fold; empty without a cross-validation.
    """

    mean_fmax: float
    aspects: dict[str, AspectScores]
    versus_best: Differences | None
    versus_homology: Differences | None
    folds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class TermNumbers:
    """Terms that training proteins have, that test proteins have, and of these those without a training protein."""

    trained: int
    tested: int
    unseen: int


@dataclass(frozen=True, kw_only=True)
class TermData(ComparedData):
    """The data set and its terms."""

    terms: TermNumbers


@dataclass(frozen=True, kw_only=True)
class TermReport(Report):
    """A comparison on terms.

    Parameters
    ----------
    weighed_by : str
        Where information accretion is from: "the training terms", or the name of a file; empty where it is not known.
    accretion : dict of str to float
        Bits of every term, where they were counted on one train part; not in JSON, but in ia.tsv.
    """

    dataset: TermData
    rows: list[TermRow]
    weighed_by: str = ""
    accretion: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values for JSON; without a cross-validation, folds are not spoken of."""
        values = super().to_json()
        del values["accretion"]
        if not self.settings.folds:
            for part in (values["settings"], *values["rows"]):
                del part["folds"]
        return values

    @property
    def best_row(self) -> TermRow:
        """The row of the best model."""
        return next(row for row in self.rows if row.name == self.best)
