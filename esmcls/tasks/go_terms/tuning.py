"""Fine-tuning for Gene Ontology terms: a logistic regression a term, summed by aspect, chosen by mean Fmax."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.errors import WorkspaceError
from esmcls.heads.base import TermHead
from esmcls.labels.information_accretion import information_accretion
from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import Ontology
from esmcls.metrics.classification import Interval
from esmcls.plain_values import from_plain
from esmcls.tasks.fitted import FittedModel
from esmcls.tasks.go_terms.hierarchy import TermHierarchy
from esmcls.tasks.label_sets.evaluation import TermEvaluation, evaluate_terms, with_unseen
from esmcls.tasks.label_sets.thresholds import TermFindings
from esmcls.tasks.label_sets.tuning import LabelSetObjective, refused
from esmcls.workspace.workspace import Workspace

WEIGHED_BY: Final = "the training terms"
"""Where the information accretion of a report is from."""


@dataclass(frozen=True)
class _Measured:
    """An aspect in a report."""

    metrics: dict[str, Interval]


@dataclass(frozen=True)
class TermTestReport:
    """What a model reaches on the test part, as `esmcls evaluate` measures it."""

    evaluation: TermEvaluation

    def lines(self) -> list[str]:
        """Return tables for people, one line each."""
        return [*self.evaluation.lines(), "", f"information accretion: from {WEIGHED_BY}"]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return self.evaluation.to_json() | {"information_accretion": WEIGHED_BY}


class TermObjective(LabelSetObjective):
    """See `esmcls.tasks.objective.Objective`.

    Parameters
    ----------
    workspace : Workspace
        Of terms.

    Raises
    ------
    WorkspaceError
        If it holds no ontology.
    """

    labelled: ClassVar[str] = "Gene Ontology terms"
    refused: ClassVar[Mapping[str, str]] = refused("a protein has any number of Gene Ontology terms")
    chosen_by_name: ClassVar[str] = "mean Fmax"

    def __init__(self, workspace: Workspace) -> None:
        if workspace.ontology is None:
            raise WorkspaceError(workspace.folder, "holds no ontology", "embed with the terms' own: esmcls embed --obo")
        self.workspace = workspace
        self.ontology: Ontology = workspace.ontology

    def labels(self, part: Dataset) -> LabelSets:
        """Return the terms of each row, propagated as the workspace says."""
        return self.workspace.term_sets(part)

    def hierarchy(self, classes: tuple[str, ...]) -> TermHierarchy:
        """Return terms with what contains what."""
        return TermHierarchy(self.ontology, classes)

    def test(self, model: FittedModel[TermHead, TermFindings], test: Dataset, x: Features, seed: int) -> TermTestReport:
        """Measure a model as CAFA does; information accretion is counted on the workspace's training terms."""
        terms = TermHierarchy(self.ontology, model.classes)
        truth = with_unseen(self.workspace.term_sets(test), terms.classes, terms.groups)
        labels = self.workspace.term_sets(self.workspace.dataset.part("train"))
        bits = dict(zip(labels.classes, information_accretion(labels, self.ontology).tolist(), strict=True))
        blocks = terms.blocks(model.head, x)
        counts = np.array(model.class_counts, dtype=np.int64)
        accretion = np.array([bits.get(name, 0.0) for name in truth.classes])
        return TermTestReport(evaluate_terms(truth, blocks, counts, accretion, seed, lengths=x.lengths))

    def metrics_of(self, report: Mapping[str, Any]) -> dict[str, Interval]:
        """Return each aspect's metrics, as `fmax_F`."""
        aspects = from_plain(dict[str, _Measured], report.get("aspects", {}))
        return {
            f"{metric}_{aspect}": interval
            for aspect, measured in aspects.items()
            for metric, interval in measured.metrics.items()
        }

    def highest(self, metric: str) -> float:
        """Return 1, but of Smin, which is in bits, infinity."""
        return math.inf if metric.startswith("smin") else 1.0
