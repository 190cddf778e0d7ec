"""The numbers of models of Gene Ontology terms, as metrics.json and the report.json of a comparison hold them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from esmcls.metrics.paired import Difference
from esmcls.reporting.results import ComparedData
from esmcls.tasks.go_terms.known.knowledge import TargetScores
from esmcls.tasks.label_sets.scores import AspectScores, ScoredReport, ScoredRow

Differences = dict[str, dict[str, Difference]]
"""By the aspect's letter, then by measure."""


@dataclass(frozen=True, kw_only=True)
class TermRow(ScoredRow):
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
    by_knowledge : dict of str to dict of str to TargetScores
        Kind of target -> aspect's letter -> scores, where it is told what was known of the proteins.
    known_versus_best, known_versus_homology : dict of str to Differences
        Kind of target -> how far it is there from the model that is best of all, and from homology.
    """

    mean_fmax: float
    aspects: dict[str, AspectScores]
    versus_best: Differences | None
    versus_homology: Differences | None
    folds: list[float] = field(default_factory=list)
    by_knowledge: dict[str, dict[str, TargetScores]] = field(default_factory=dict)
    known_versus_best: dict[str, Differences] = field(default_factory=dict)
    known_versus_homology: dict[str, Differences] = field(default_factory=dict)


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
class TermReport(ScoredReport):
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
        """Return it as plain values for JSON; what was known is spoken of where it is told."""
        values = super().to_json()
        del values["accretion"]
        if not any(row.by_knowledge for row in self.rows):
            for row in values["rows"]:
                del row["by_knowledge"], row["known_versus_best"], row["known_versus_homology"]
        return values

    @property
    def best_row(self) -> TermRow:
        """The row of the best model."""
        return next(row for row in self.rows if row.name == self.best)
