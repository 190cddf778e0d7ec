"""How good a model is on a part of a data set: metrics with intervals, and accuracy by family size.

An evaluation holds no time stamp: the same model and part give the same bytes twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Protocol

import numpy as np

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.errors import UsageError
from esmcls.labels.hierarchy import ClassTree, Hierarchy
from esmcls.labels.labels import Labels
from esmcls.metrics.classification import FOLDS, RANKS, Interval, Tier, bootstrap_interval, summary, tier_accuracy
from esmcls.reporting.phrases import NONE, counted, percent
from esmcls.tasks.one_label.levels.scores import LevelScore, level_scores, lines_of_levels, near_misses
from esmcls.types import Indices, Probabilities

_NAMES: Final = {
    "accuracy": "accuracy",
    **{f"top_{k}": f"top-{k} accuracy" for k in RANKS},
    **{
        f"{mean}_{what}": f"{mean} {shown}"
        for mean in ("macro", "weighted")
        for what, shown in (("precision", "precision"), ("recall", "recall"), ("f1", "F1"))
    },
}
"""Metric -> how the table calls it, in its order."""


class Ranks(Protocol):
    """A fitted head, as far as it is needed here."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]: ...


class Evaluable(Protocol):
    """A model: what `esmcls.models.folder.load_model` returns."""

    @property
    def head(self) -> Ranks: ...
    @property
    def class_counts(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model on a set of proteins.

    Parameters
    ----------
    n : int
        Proteins.
    n_classes : int
        Classes that occur among them.
    unseen_classes, unseen : int
        Classes among them that the model was not trained on, and their proteins, which all count as wrong.
    metrics : dict of str to Interval
        Shares from 0 to 1, each with its 95 % bootstrap interval.
    tiers : list of Tier
        Accuracy by the number of training members of the class.
    folds, seed : int
        Of the bootstrap.
    ranked, probability : arrays (n, ranks) and (n,)
        Codes of the best classes of each protein, and the probability of the best; not in JSON.
    levels : list of LevelScore
        Accuracy at each level of a hierarchy of the classes, the broadest first; empty without one.
    near_misses : int
        Wrong answers that lie under the right node of the level above.
    """

    n: int
    n_classes: int
    unseen_classes: int
    unseen: int
    metrics: dict[str, Interval]
    tiers: list[Tier]
    folds: int
    seed: int
    ranked: Indices = field(default_factory=lambda: np.zeros((0, 1), np.int64), repr=False, compare=False)
    probability: Probabilities = field(default_factory=lambda: np.zeros(0, np.float32), repr=False, compare=False)
    levels: list[LevelScore] = field(default_factory=list)
    near_misses: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return all of it but single answers as plain values for JSON."""
        values = asdict(replace(self, ranked=self.ranked[:0], probability=self.probability[:0]))
        left_out = {"ranked", "probability"} | (set() if self.levels else {"levels", "near_misses"})
        return {"format": 1} | {name: value for name, value in values.items() if name not in left_out}

    def lines(self) -> list[str]:
        """Return a table for people, one line each."""
        lines = [f"{counted(self.n, 'protein')} of {counted(self.n_classes, 'class', 'es')}"]
        if self.unseen:
            unseen = f"{counted(self.unseen, 'protein')} of {counted(self.unseen_classes, 'class', 'es')}"
            lines.append(f"{unseen} without training members (counted as wrong)")
        lines += ["", f"{'':20}  {'percent':>7}  95 % interval"]
        lines += [f"{name:20}  {_with_ends(self.metrics[key])}" for key, name in _NAMES.items()]
        lines += lines_of_levels(self.levels, self.near_misses) if self.levels else []
        lines += ["", f"{'training members':20}  {'percent':>7}  {'proteins':>8}"]
        return lines + [f"{tier.name:20}  {percent(tier.accuracy, 2):>7}  {tier.n:>8,}" for tier in self.tiers]


def _with_ends(interval: Interval) -> str:
    return f"{percent(interval.value, 2):>7}  {percent(interval.low, 2)} {NONE} {percent(interval.high, 2)}"


def evaluate(
    model: Evaluable,
    part: Dataset,
    features: Features,
    *,
    folds: int = FOLDS,
    seed: int = 0,
    hierarchy: Hierarchy | None = None,
) -> Evaluation:
    """Compare a model's predictions with the labels of a part.

    Only the best ten classes of each protein are held, so that thousands of classes and any number of proteins work.
    A class that the model was not trained on is a class like any other in the averages, with recall 0.

    Parameters
    ----------
    model : Evaluable
        With `head` and `class_counts`, the training members of each class; see `esmcls.models.folder.load_model`.
    part : Dataset
    features : Features
        Of the same proteins in the same order.
    folds, seed : int
        Of the bootstrap.
    hierarchy : Hierarchy, optional
        Of the classes.

    Returns
    -------
    Evaluation

    Raises
    ------
    UsageError
        If the part holds no protein.
    ValueError
        If features and part are not of the same proteins.
    """
    if not len(part):
        raise UsageError("no proteins to evaluate on: give INPUT with --labels, or a dataset with a test part")
    if len(features) != len(part) or (any(features.sequences) and features.sequences != part.sequences):
        raise ValueError("features and labels are not of the same proteins in the same order")
    classes = model.head.classes
    codes, unseen = _code(part.labels, classes)
    unseen_classes = len(unseen)
    ranked, probabilities = model.head.top_k(features, min(max(RANKS), len(classes)))
    metrics = bootstrap_interval(
        summary(codes, ranked, len(classes) + unseen_classes), len(part), folds=folds, seed=seed
    )
    tiers = tier_accuracy(codes, ranked[:, 0] == codes, np.asarray(model.class_counts, dtype=np.int64))
    right = sum(tier.n * tier.accuracy for tier in tiers if tier.accuracy is not None)
    assert abs(right / len(part) - metrics["accuracy"].value) < 1e-9, "tiers do not add up to the accuracy"
    numbers = len(part), len(set(part.labels)), unseen_classes, int(np.count_nonzero(codes >= len(classes)))
    evaluation = Evaluation(*numbers, metrics, tiers, folds, seed, ranked, probabilities[:, 0])
    if hierarchy is None:
        return evaluation
    tree = ClassTree.of(hierarchy, (*classes, *unseen))
    scores = level_scores(tree, codes, ranked[:, 0], folds=folds, seed=seed)
    return replace(evaluation, levels=scores, near_misses=int(near_misses(tree, codes, ranked[:, 0]).sum()))


def _code(names: Sequence[str], classes: tuple[str, ...]) -> tuple[Indices, list[str]]:
    """Return the codes of class names, those not among `classes` from len(classes) upwards, and what these are."""
    unseen = sorted(set(names) - set(classes))
    return Labels.from_names(names, (*classes, *unseen)).codes, unseen
