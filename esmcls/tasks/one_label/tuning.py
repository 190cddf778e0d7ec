"""Fine-tuning for one label a protein: weighted cross-entropy and its kin, macro F1, the linear head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.heads.base import Head
from esmcls.heads.blocks import LogitBlocks, f1_of, hold_out
from esmcls.heads.layers.linear import LinearConfig, LinearHead
from esmcls.labels.labels import Labels
from esmcls.metrics.classification import ClassScores, Interval, Tier, precision_recall_f1
from esmcls.plain_values import from_plain
from esmcls.tasks.fitted import FittedModel
from esmcls.tasks.objective import OutputLayer, Settings
from esmcls.tasks.one_label.answers import Questions
from esmcls.tasks.one_label.comparison import by_length, confusions
from esmcls.tasks.one_label.evaluation import Evaluation, evaluate
from esmcls.tasks.one_label.findings import LabelFindings
from esmcls.tasks.one_label.results import Confusion
from esmcls.training.losses import BalancedSampler, LossName, Sampler, ShuffledSampler, class_weights, make_loss
from esmcls.types import Indices

LARGEST: Final = 1000
"""Families that are told apart from the rest."""
LOSSES: Final[Mapping[str, LossName]] = {"ce": "ce", "focal": "focal", "logit-adjusted": "logit-adjusted"}


class OneLabelLoss:
    """The weighted mean of a loss over the rows of a step; see `esmcls.tasks.objective.StepLoss`.

    Parameters
    ----------
    labels : Labels
        Of the training rows.
    settings : Settings
    device : str
    """

    logs = ("accuracy",)

    def __init__(self, labels: Labels, settings: Settings, device: str) -> None:
        counts = labels.counts()
        weights = class_weights(counts, settings.class_weights, beta=settings.beta, cap=settings.weight_cap)
        kind = LOSSES[settings.loss or "ce"]
        self.labels, self.capped = labels, weights.capped
        self.weights = weights.values[labels.codes].astype(np.float64)  # of each row
        self.cost = make_loss(kind, counts, weights.values, gamma=settings.gamma, tau=settings.tau, device=device)

    def total(self, rows: Indices) -> float:
        """Return the sum of the rows' weights."""
        return float(self.weights[rows].sum())

    def mean(self, logits: Tensor, rows: Indices) -> Tensor:
        """Return the mean over rows of weight times loss."""
        return self.cost(logits, self._codes(logits, rows))

    def logged(self, logits: Tensor, rows: Indices) -> dict[str, Tensor]:
        """Return how many rows are classified as they should be."""
        return {"accuracy": (logits.argmax(1) == self._codes(logits, rows)).sum()}

    def _codes(self, logits: Tensor, rows: Indices) -> Tensor:
        return torch.from_numpy(self.labels.codes[rows]).to(logits.device)


@dataclass(frozen=True, eq=False)
class OneLabelStart:
    """The linear head on the frozen encoder's vectors; see `esmcls.tasks.objective.StartingHead`."""

    head: LinearHead
    held: Labels

    @property
    def output(self) -> OutputLayer:
        """The head's layer over its temperature: else it would learn first to be surer of everything."""
        calibrated = 1 / (self.head.chosen.temperature or 1.0)
        layer = self.head.model
        return OutputLayer(calibrated * layer.weight, calibrated * layer.bias, self.head.scaling)

    @property
    def scores(self) -> dict[str, float]:
        """Accuracy and macro F1 on the held rows."""
        return self.head.scores

    @property
    def config(self) -> dict[str, Any]:
        """Every knob with what was chosen."""
        return asdict(self.head.chosen)

    def continued(self, weight: Tensor, bias: Tensor, mean: Tensor, held: Features | None, pooling: str) -> LinearHead:
        """Return the head with another layer; its temperature is chosen anew."""
        validation = None if held is None else (held, self.held)
        return self.head.continued(weight, bias, mean, validation, pooling)


@dataclass(frozen=True, eq=False)
class OneLabelSupervision:
    """The families of the rows of a run; see `esmcls.tasks.objective.Supervision`.

    Parameters
    ----------
    labels : Labels
        Of the training rows.
    held : Labels
        Of the held rows, by the same classes; a code of -1 stands for a class that is not trained.
    """

    labels: Labels
    held: Labels

    @property
    def classes(self) -> tuple[str, ...]:
        """The families."""
        return self.labels.classes

    @property
    def counts(self) -> Indices:
        """Training rows of each family."""
        return self.labels.counts()

    @property
    def marks(self) -> Iterator[str]:
        """The code of each training row's family."""
        return map(str, self.labels.codes.tolist())

    def sampler(self, settings: Settings) -> Sampler:
        """Return rows in a shuffled order, or of each family equally often."""
        if settings.sampling == "balanced":
            return BalancedSampler(self.labels.codes, settings.batch, settings.seed)
        return ShuffledSampler(len(self.labels), settings.batch, settings.seed)

    def loss(self, settings: Settings, device: str) -> OneLabelLoss:
        """Return the loss of a step."""
        return OneLabelLoss(self.labels, settings, device)

    def score(self, rows: Indices, blocks: LogitBlocks) -> float:
        """Return macro F1, less a trifle of the cross-entropy."""
        return f1_of(blocks, self.held.take(rows))

    def fit(self, x: Features, held: Features | None, settings: Settings, pooling: str, device: str) -> OneLabelStart:
        """Fit the linear head."""
        config = LinearConfig(pooling=pooling)
        if settings.start == "zero":
            config = LinearConfig(pooling=pooling, epochs=0, warm_start=False)
        validation = None if held is None else (held, self.held)
        return OneLabelStart(LinearHead(config, device).fit(x, self.labels, validation, settings.seed), self.held)


class OneLabelObjective:
    """See `esmcls.tasks.objective.Objective`."""

    labelled: ClassVar[str] = "one label a protein"
    losses: ClassVar[tuple[LossName, ...]] = tuple(LOSSES.values())
    refused: ClassVar[Mapping[str, str]] = {}
    chosen_by: ClassVar[str] = "macro_f1"
    chosen_by_name: ClassVar[str] = "macro F1"
    percent: ClassVar[bool] = True
    of_residues: ClassVar[bool] = False

    def supervise(self, train: Dataset, held: Dataset) -> OneLabelSupervision:
        """Code the family of each row by the families of the training rows."""
        labels = Labels.from_names(train.labels)
        return OneLabelSupervision(labels, Labels.from_names(held.labels, labels.classes))

    def hold_out(self, train: Dataset, seed: int) -> tuple[Indices, Indices]:
        """Split rows so that every family keeps one to train on."""
        return hold_out(Labels.from_names(train.labels).codes, seed)

    def test(
        self, model: FittedModel[Head, LabelFindings], test: Dataset, x: Features, seed: int
    ) -> OneLabelTestReport:
        """Measure a model by family, by size of family and by length."""
        evaluation = evaluate(model, test, x, seed=seed)
        place = {name: code for code, name in enumerate(model.classes)}
        codes = np.array([place.get(label, -1) for label in test.labels], dtype=np.int64)
        counts = np.asarray(model.class_counts, dtype=np.int64)
        ranks = by_rank(codes, model.head.top_k(x, 1)[0][:, 0], counts)
        classes = tuple(sorted({*model.classes, *test.labels}))
        questions = Questions(test, Dataset([], [], [], []), classes, None)
        answers = questions.ask(model, x, x.take([]), None, {"validation": {}, "megabytes": 0.0})
        return OneLabelTestReport(evaluation, ranks, confusions(answers, classes), by_length(answers))

    def metrics_of(self, report: Mapping[str, Any]) -> dict[str, Interval]:
        """Return accuracy, macro F1 and the rest."""
        return from_plain(dict[str, Interval], report.get("metrics", {}))

    def highest(self, metric: str) -> float:
        """Return 1: all are shares."""
        return 1.0


@dataclass(frozen=True)
class Rank:
    """Test proteins of the largest families, or of the others: accuracy, and means over their families."""

    name: str
    families: int
    n: int
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float


@dataclass(frozen=True)
class OneLabelTestReport:
    """What a model reaches on the test part.

    Parameters
    ----------
    evaluation : Evaluation
    ranks : list of Rank
    confusions : list of Confusion
    lengths : list of Tier
        See `esmcls.tasks.one_label.comparison`.
    """

    evaluation: Evaluation
    ranks: list[Rank]
    confusions: list[Confusion]
    lengths: list[Tier]

    def lines(self) -> list[str]:
        """Return tables for people, one line each."""
        table = self.evaluation.lines()
        if len(self.ranks) > 1:
            table += ["", f"{'families':20}  {'accuracy':>8}  {'macro F1':>8}  {'proteins':>8}"]
            table += [f"{r.name:20}  {100 * r.accuracy:8.2f}  {100 * r.macro_f1:8.2f}  {r.n:>8,}" for r in self.ranks]
        return table

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        parts = {"ranks": [asdict(rank) for rank in self.ranks], **self.evaluation.to_json()}
        confusions = [asdict(pair) for pair in self.confusions]
        return parts | {"confusions": confusions, "lengths": [asdict(tier) for tier in self.lengths]}


def by_rank(codes: Indices, predicted: Indices, counts: Indices, largest: int = LARGEST) -> list[Rank]:
    """Return what is reached on the largest families and on the others; only those that occur.

    Parameters
    ----------
    codes, predicted : int64 arrays, (n,)
        True and predicted classes; -1, of no trained class, stands in neither row.
    counts : int64 array, (classes,)
        Training members, by which families are ranked; equal ones by their codes.
    largest : int

    Examples
    --------
    >>> codes, predicted = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])
    >>> [(rank.name, rank.n, rank.accuracy) for rank in by_rank(codes, predicted, np.array([9, 5, 2]), largest=1)]
    [('largest 1', 2, 0.5), ('the rest', 2, 0.5)]
    """
    scores = precision_recall_f1(codes, predicted, len(counts))
    order = np.argsort(-counts, kind="stable")
    groups = {f"largest {min(largest, len(counts)):,}": order[:largest], "the rest": order[largest:]}
    return [
        Rank(name, len(there), int(rows.sum()), float((codes == predicted)[rows].mean()), *_means(scores, there))
        for name, group in groups.items()
        if len(there := group[scores.support[group] > 0])
        for rows in [np.isin(codes, there)]
    ]


def _means(scores: ClassScores, there: Indices) -> list[float]:
    return [float(values[there].mean()) for values in (scores.precision, scores.recall, scores.f1)]
