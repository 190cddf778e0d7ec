"""Fine-tuning for numbers: a loss of standardised numbers, chosen by Spearman, from a ridge regression on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.heads.base import NumberHead
from esmcls.heads.blocks import TRIFLE, LogitBlocks, hold_out_numbers
from esmcls.heads.layers.number_ridge import RidgeConfig, RidgeHead
from esmcls.heads.number_scale import NumberScale
from esmcls.labels.numbers import Numbers
from esmcls.metrics.classification import Interval
from esmcls.metrics.regression import ENDS, spearman
from esmcls.plain_values import from_plain
from esmcls.tasks.fitted import FittedModel
from esmcls.tasks.number.evaluation import NumberEvaluation, evaluate_numbers
from esmcls.tasks.number.findings import NumberFindings
from esmcls.tasks.objective import OutputLayer, Settings
from esmcls.training.losses import NumberLossName, Sampler, ShuffledSampler, make_number_loss
from esmcls.types import Floats, Indices

LOSSES: Final[Mapping[str, NumberLossName]] = {"mse": "mse", "huber": "huber"}
_NUMBER: Final = "a protein has a number, and no family"
REFUSED: Final = {
    "families": f"--families takes the largest families, but {_NUMBER}; leave it out",
    "stratify": f"--stratify draws so many sequences a family, but {_NUMBER}; leave it out",
    "hold_out_families": f"--hold-out-families keeps families from training, but {_NUMBER}; leave it out",
    "class_weights": f"--class-weights weighs a sequence by its family, but {_NUMBER}; leave it out",
    "weight_cap": f"--weight-cap is of class weights, but {_NUMBER}; leave it out",
    "sampling": f"--sampling balanced draws each family as often, but {_NUMBER}; leave it out",
}


class NumberStepLoss:
    """The mean over rows of a loss of standardised numbers; see `esmcls.tasks.objective.StepLoss`.

    Parameters
    ----------
    targets : float64 array, (n,)
        Of the training rows, standardised.
    settings : Settings
    device : str
    """

    logs: ClassVar[tuple[str, ...]] = ()
    capped: ClassVar[int] = 0

    def __init__(self, targets: Floats, settings: Settings, device: str) -> None:
        self.targets = torch.from_numpy(targets).float().to(device)
        self.cost = make_number_loss(LOSSES[settings.loss or "mse"])

    def total(self, rows: Indices) -> float:
        """Return the number of rows: each counts once."""
        return float(len(rows))

    def mean(self, logits: Tensor, rows: Indices) -> Tensor:
        """Return the mean over rows."""
        return self.cost(logits[:, 0], self.targets[torch.from_numpy(rows).to(self.targets.device)])

    def logged(self, logits: Tensor, rows: Indices) -> dict[str, Tensor]:
        """Return nothing: the loss says it."""
        return {}


@dataclass(frozen=True, eq=False)
class NumberStart:
    """The ridge head on the frozen encoder's vectors; see `esmcls.tasks.objective.StartingHead`."""

    head: RidgeHead
    held: Numbers

    @property
    def output(self) -> OutputLayer:
        """The head's layer, which gives standardised numbers."""
        return OutputLayer(self.head.weight, self.head.bias, self.head.scaling)

    @property
    def scores(self) -> dict[str, float]:
        """The measures on the held rows."""
        return self.head.scores

    @property
    def config(self) -> dict[str, Any]:
        """Every knob with what was chosen."""
        return asdict(self.head.chosen)

    def continued(self, weight: Tensor, bias: Tensor, mean: Tensor, held: Features | None, pooling: str) -> RidgeHead:
        """Return the head with another layer."""
        return self.head.continued(weight, bias, mean, None if held is None else (held, self.held), pooling)


@dataclass(frozen=True, eq=False)
class NumberSupervision:
    """The numbers of the rows of a run; see `esmcls.tasks.objective.Supervision`.

    Parameters
    ----------
    labels, held : Numbers
        Of the training rows, and of the held ones.
    """

    labels: Numbers
    held: Numbers

    @property
    def classes(self) -> tuple[str, ...]:
        """No classes."""
        return ()

    @property
    def counts(self) -> Indices:
        """Rows of no class."""
        return self.labels.counts()

    @property
    def marks(self) -> Iterator[str]:
        """The number of each training row."""
        return map(repr, self.labels.values.tolist())

    def sampler(self, settings: Settings) -> Sampler:
        """Return rows in a shuffled order."""
        return ShuffledSampler(len(self.labels), settings.batch, settings.seed)

    def loss(self, settings: Settings, device: str) -> NumberStepLoss:
        """Return the loss of a step."""
        targets = NumberScale.of(self.labels).standardised(self.labels.values)
        return NumberStepLoss(targets, settings, device)

    def score(self, rows: Indices, blocks: LogitBlocks) -> float:
        """Return the Spearman correlation, less a trifle of the squared error of standardised numbers."""
        truth = NumberScale.of(self.labels).standardised(self.held.take(rows).values)
        predicted = np.zeros(len(rows))
        for chosen, outputs in blocks:
            predicted[chosen] = outputs[:, 0].cpu().double().numpy()
        return spearman(truth, predicted) - TRIFLE * float(np.square(predicted - truth).mean())

    def fit(self, x: Features, held: Features | None, settings: Settings, pooling: str, device: str) -> NumberStart:
        """Fit the ridge head."""
        validation = None if held is None else (held, self.held)
        head = RidgeHead(RidgeConfig(pooling=pooling), device).fit(x, self.labels, validation, settings.seed)
        if settings.start == "zero":
            head.weight, head.bias = torch.zeros_like(head.weight), torch.zeros_like(head.bias)
            head.scores = {} if validation is None else dict.fromkeys(head.scores, 0.0)
        return NumberStart(head, self.held)


@dataclass(frozen=True)
class NumberTestReport:
    """What a model reaches on the test part, as `esmcls evaluate` measures it."""

    evaluation: NumberEvaluation

    def lines(self) -> list[str]:
        """Return a table for people, one line each."""
        return self.evaluation.lines()

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return self.evaluation.to_json()


class NumberObjective:
    """See `esmcls.tasks.objective.Objective`."""

    labelled: ClassVar[str] = "a number a protein"
    losses: ClassVar[tuple[NumberLossName, ...]] = tuple(LOSSES.values())
    refused: ClassVar[Mapping[str, str]] = REFUSED
    chosen_by: ClassVar[str] = "spearman"
    chosen_by_name: ClassVar[str] = "Spearman"
    percent: ClassVar[bool] = False
    of_residues: ClassVar[bool] = False

    def supervise(self, train: Dataset, held: Dataset) -> NumberSupervision:
        """Read the number of each row."""
        return NumberSupervision(Numbers.from_texts(train.labels), Numbers.from_texts(held.labels))

    def hold_out(self, train: Dataset, seed: int) -> tuple[Indices, Indices]:
        """Split rows at random."""
        return hold_out_numbers(len(train), seed)

    def test(
        self, model: FittedModel[NumberHead, NumberFindings], test: Dataset, x: Features, seed: int
    ) -> NumberTestReport:
        """Measure a model."""
        return NumberTestReport(evaluate_numbers(model.head, Numbers.from_texts(test.labels), x, seed=seed))

    def metrics_of(self, report: Mapping[str, Any]) -> dict[str, Interval]:
        """Return Spearman and the rest."""
        return from_plain(dict[str, Interval], report.get("metrics", {}))

    def highest(self, metric: str) -> float:
        """Return 1, but of errors infinity."""
        return ENDS[metric][1]
