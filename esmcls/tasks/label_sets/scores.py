"""The scores of a model of many labels a protein in a group of classes: of Gene Ontology terms in an aspect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from esmcls.metrics.average_precision import AveragePrecision
from esmcls.metrics.classification import Interval
from esmcls.plain_values import from_plain
from esmcls.reporting.results import ModelRow, Report
from esmcls.tasks.label_sets.trust.set_scores import SetScores


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
class ScoredRow(ModelRow):
    """A model of a comparison that was measured in groups of classes; a subclass has them.

    Parameters
    ----------
    sets : dict of str to SetScores
        What its sets with a stated coverage hold, by the group; empty without calibration rows.
    no_sets : str
        Why it has none of that coverage, though there are calibration rows.
    """

    sets: dict[str, SetScores] = field(default_factory=dict)
    no_sets: str = ""

    if TYPE_CHECKING:  # else it would be the default of a subclass's field

        @property
        def aspects(self) -> Mapping[str, AspectScores]:
            """By the group; without groups that no protein has a class of."""
            ...


class ScoredReport(Report):
    """A comparison of such models."""

    rows: Sequence[ScoredRow]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values for JSON; what no model has, of folds and sets, is not spoken of."""
        values = super().to_json()
        rows = values["rows"]
        for name in ("sets", "no_sets"):
            if not any(row[name] for row in rows):
                for row in rows:
                    del row[name]
        if not values["settings"]["folds"]:
            for part in (values["settings"], *rows):
                del part["folds"]
        return values
