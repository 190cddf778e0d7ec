"""Fine-tuning for many labels a protein: a logistic regression a label, chosen by Fmax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.heads.base import TermHead
from esmcls.labels.labels import LabelSets
from esmcls.metrics.classification import Interval
from esmcls.plain_values import from_plain
from esmcls.tasks.fitted import FittedModel
from esmcls.tasks.label_sets.evaluation import Predicted, with_unseen
from esmcls.tasks.label_sets.task import decided_blocks
from esmcls.tasks.label_sets.thresholds import TermFindings
from esmcls.tasks.label_sets.tuning import LabelSetObjective, refused
from esmcls.tasks.many_labels.classes import FlatClasses
from esmcls.tasks.many_labels.coding import label_sets
from esmcls.tasks.many_labels.evaluation import LabelEvaluation, evaluate_labels


class LabelObjective(LabelSetObjective):
    """See `esmcls.tasks.objective.Objective`."""

    labelled: ClassVar[str] = "labels"
    refused: ClassVar[Mapping[str, str]] = refused("a protein has any number of labels")
    chosen_by_name: ClassVar[str] = "Fmax"

    def labels(self, part: Dataset) -> LabelSets:
        """Return the labels of each row."""
        return label_sets(part.labels)

    def hierarchy(self, classes: tuple[str, ...]) -> FlatClasses:
        """Return labels, none of which contains another."""
        return FlatClasses(classes)

    def test(
        self, model: FittedModel[TermHead, TermFindings], test: Dataset, x: Features, seed: int
    ) -> LabelEvaluation:
        """Measure a model as `esmcls evaluate` does."""
        classes = self.hierarchy(model.classes)
        truth = with_unseen(self.labels(test), classes.classes, classes.groups)
        predicted: dict[int, Predicted] = {}
        blocks = decided_blocks(classes.blocks(model.head, x), model, classes, predicted)
        counts = np.array(model.class_counts, dtype=np.int64)
        return evaluate_labels(truth, blocks, predicted, counts, seed, lengths=x.lengths)

    def metrics_of(self, report: Mapping[str, Any]) -> dict[str, Interval]:
        """Return the measures."""
        return from_plain(dict[str, Interval], report.get("scores", {}).get("metrics", {}))

    def highest(self, metric: str) -> float:
        """Return 1: all are shares."""
        return 1.0
