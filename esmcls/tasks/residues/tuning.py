"""Fine-tuning for labels and numbers of residues: a loss over those that are known, from the linear head on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.heads.base import ResidueHead
from esmcls.heads.blocks import TRIFLE, LogitBlocks
from esmcls.heads.layers.ridge import Scaling
from esmcls.heads.residues.base import hold_out_proteins, scores_of
from esmcls.heads.residues.networks import LinearConfig, ResidueLinearHead
from esmcls.heads.residues.trained import ADJUSTMENTS, CHOSEN_BY
from esmcls.labels.kinds import RESIDUE_LABEL
from esmcls.labels.residue_labels import ResidueLabels, ResidueNumbers, Targets
from esmcls.metrics.classification import Interval
from esmcls.metrics.residues import UNBOUNDED
from esmcls.plain_values import from_plain
from esmcls.tasks.fitted import FittedModel, NoFindings
from esmcls.tasks.objective import OutputLayer, Settings, StepLoss
from esmcls.tasks.residues.answers import Questions, targets
from esmcls.tasks.residues.evaluation import NAMES, ResidueEvaluation, evaluate_residues
from esmcls.training.losses import (
    LossName,
    NumberLossName,
    Sampler,
    ShuffledSampler,
    class_weights,
    log_prior,
    make_loss,
    make_number_loss,
)
from esmcls.types import Floats, Indices

LABEL_LOSSES: Final[Mapping[str, LossName]] = {"ce": "ce", "focal": "focal", "logit-adjusted": "logit-adjusted"}
NUMBER_LOSSES: Final[Mapping[str, NumberLossName]] = {"mse": "mse", "huber": "huber"}
_LABELLED: Final = "what is labelled is residues, and a protein has no family"
REFUSED: Final = {
    "families": f"--families takes the largest families, but {_LABELLED}; leave it out",
    "stratify": f"--stratify draws so many sequences a family, but {_LABELLED}; leave it out",
    "hold_out_families": f"--hold-out-families keeps families from training, but {_LABELLED}; leave it out",
    "calibration": "--calibration is for sets of classes, but of residues there are none yet; leave it out",
    "sampling": f"--sampling balanced draws each family as often, but {_LABELLED}; leave it out",
    "pooling": "--pool makes one vector of a protein, but each residue is answered by its own; leave it out",
}
_NUMBERS: Final = "residues have numbers, not classes"
REFUSED_OF_NUMBERS: Final = {
    "class_weights": f"--class-weights weighs a residue by its class, but {_NUMBERS}; leave it out",
    "weight_cap": f"--weight-cap is of class weights, but {_NUMBERS}; leave it out",
}


class ResidueLabelLoss:
    """The weighted mean of a loss over the known residues of a step; see `esmcls.tasks.objective.StepLoss`.

    Parameters
    ----------
    labels : ResidueLabels
        Of the training proteins.
    settings : Settings
    device : str
    """

    logs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, labels: ResidueLabels, settings: Settings, device: str) -> None:
        counts = labels.counts()
        weights = class_weights(counts, settings.class_weights, beta=settings.beta, cap=settings.weight_cap)
        kind = LABEL_LOSSES[settings.loss or "ce"]
        self.codes, self.capped, self.weights = labels.codes, weights.capped, weights.values.astype(np.float64)
        self.cost = make_loss(kind, counts, weights.values, gamma=settings.gamma, tau=settings.tau, device=device)

    def total(self, rows: Indices) -> float:
        """Return the sum of the weights of the residues that are known; 1 where none is, and the loss 0."""
        codes = self.codes[rows]
        return float(self.weights[codes[codes >= 0]].sum()) or 1.0

    def mean(self, logits: Tensor, rows: Indices) -> Tensor:
        """Return the mean over residues of weight times loss; what is not known counts 0."""
        codes = torch.from_numpy(self.codes[rows]).to(logits.device)
        known = codes >= 0
        return _over_all(self.cost(logits[known], codes[known]), logits, known)

    def logged(self, logits: Tensor, rows: Indices) -> dict[str, Tensor]:
        """Return nothing: the loss says it."""
        return {}


class ResidueNumberLoss:
    """The mean over the known residues of a loss of standardised numbers; see `esmcls.tasks.objective.StepLoss`.

    Parameters
    ----------
    standardised : float64 array, (residues,)
        Of the training proteins, NaN where not measured.
    settings : Settings
    device : str
    """

    logs: ClassVar[tuple[str, ...]] = ()
    capped: ClassVar[int] = 0

    def __init__(self, standardised: Floats, settings: Settings, device: str) -> None:
        self.values = torch.from_numpy(standardised).float().to(device)
        self.known = ~np.isnan(standardised)
        self.cost = make_number_loss(NUMBER_LOSSES[settings.loss or "mse"])

    def total(self, rows: Indices) -> float:
        """Return how many residues are known; 1 where none is, and the loss 0."""
        return float(self.known[rows].sum()) or 1.0

    def mean(self, logits: Tensor, rows: Indices) -> Tensor:
        """Return the mean over residues of the loss; what is not known counts 0."""
        values = self.values[torch.from_numpy(rows).to(self.values.device)]
        known = ~values.isnan()
        return _over_all(self.cost(logits[known, 0], values[known]), logits, known)

    def logged(self, logits: Tensor, rows: Indices) -> dict[str, Tensor]:
        """Return nothing: the loss says it."""
        return {}


def _over_all(mean_of_known: Tensor, logits: Tensor, known: Tensor) -> Tensor:
    """Return the mean over all residues of what has this mean over the known ones, and is 0 of the others."""
    if not known.any():
        return logits.sum() * 0.0  # with a gradient, of zeros
    return mean_of_known * known.float().mean()


@dataclass(frozen=True, eq=False)
class ResidueStart:
    """The linear head on the frozen encoder's vectors; see `esmcls.tasks.objective.StartingHead`."""

    head: ResidueLinearHead
    held: Targets

    @property
    def output(self) -> OutputLayer:
        """The head's layer: logits, or standardised numbers."""
        network = self.head.network
        return OutputLayer(network.out.weight, network.out.bias, Scaling(network.mean, network.scale))

    @property
    def scores(self) -> dict[str, float]:
        """The measures on the held proteins."""
        return self.head.scores

    @property
    def config(self) -> dict[str, Any]:
        """Every knob with what was chosen."""
        return asdict(self.head.chosen)

    def continued(
        self, weight: Tensor, bias: Tensor, mean: Tensor, held: Features | None, pooling: str
    ) -> ResidueLinearHead:
        """Return the head with another layer; how far rare classes are favoured is chosen anew."""
        return self.head.continued(weight, bias, mean, None if held is None else (held, self.held))


@dataclass(frozen=True, eq=False)
class ResidueSupervision:
    """The labels of the residues of a run; see `esmcls.tasks.objective.Supervision`.

    Parameters
    ----------
    labels, held : ResidueLabels or ResidueNumbers
        Of the training proteins, and of the held ones by the same classes.
    """

    labels: Targets
    held: Targets

    @property
    def classes(self) -> tuple[str, ...]:
        """The signs of the classes; none of numbers."""
        return self.labels.classes

    @property
    def counts(self) -> Indices:
        """Training residues of each class."""
        return self.labels.counts()

    @property
    def marks(self) -> Iterator[str]:
        """The codes or numbers of each training protein."""
        return (" ".join(map(repr, self.labels.row(row).tolist())) for row in range(len(self.labels)))

    def sampler(self, settings: Settings) -> Sampler:
        """Return proteins in a shuffled order."""
        return ShuffledSampler(len(self.labels), settings.batch, settings.seed)

    def loss(self, settings: Settings, device: str) -> StepLoss:
        """Return the loss of a step."""
        if isinstance(self.labels, ResidueNumbers):
            return ResidueNumberLoss(self._standardised(self.labels), settings, device)
        return ResidueLabelLoss(self.labels, settings, device)

    def score(self, rows: Indices, blocks: LogitBlocks) -> float:
        """Return macro F1, with rare classes favoured as it is best, or Spearman; less a trifle of the loss."""
        outputs = np.zeros((len(rows), max(1, len(self.classes))), dtype=np.float32)
        for chosen, block in blocks:
            outputs[chosen] = block.float().cpu().numpy()
        if isinstance(self.held, ResidueNumbers):
            truth = self._standardised(self.held)[rows]
            labels: Targets = ResidueNumbers(self._offsets(rows), truth)
            known = labels.known
            loss = float(np.square(outputs[known, 0] - truth[known]).mean()) if known.any() else 0.0
            reached = scores_of(outputs, labels)[CHOSEN_BY[ResidueNumbers]]
            return reached - TRIFLE * loss
        codes = self.held.codes[rows]
        labels = ResidueLabels(self.classes, self._offsets(rows), codes)
        logits, prior = torch.from_numpy(outputs), log_prior(self.counts)
        favoured = (scores_of((logits - adjust * prior).numpy(), labels) for adjust in ADJUSTMENTS)
        best = max(scores[CHOSEN_BY[ResidueLabels]] for scores in favoured)
        loss = float(F.cross_entropy(logits, torch.from_numpy(codes), ignore_index=-1, reduction="sum"))
        return best - TRIFLE * loss / max(1, int(labels.known.sum()))

    def _offsets(self, rows: Indices) -> Indices:
        """Return offsets of all residues as one protein: no measure that is chosen by tells proteins apart."""
        return np.array([0, len(rows)], dtype=np.int64)

    def _standardised(self, numbers: ResidueNumbers) -> Floats:
        """Return numbers of residues less the mean of the training ones, in deviations of these."""
        values = self.labels.values[self.labels.known] if isinstance(self.labels, ResidueNumbers) else np.zeros(1)
        return np.asarray((numbers.values - values.mean()) / (values.std() or 1.0))

    def fit(self, x: Features, held: Features | None, settings: Settings, pooling: str, device: str) -> ResidueStart:
        """Fit the linear head."""
        head, validation = ResidueLinearHead(LinearConfig(), device), None if held is None else (held, self.held)
        if settings.start == "zero":
            return ResidueStart(head.at_zero(x, self.labels, validation, settings.seed), self.held)
        return ResidueStart(head.fit(x, self.labels, validation, settings.seed), self.held)


@dataclass(frozen=True)
class ResidueObjective:
    """See `esmcls.tasks.objective.Objective`.

    Parameters
    ----------
    kind : str
        Of labels, or of numbers.
    """

    kind: str

    percent: ClassVar[bool] = False
    of_residues: ClassVar[bool] = True

    @property
    def _of_labels(self) -> bool:
        return self.kind == RESIDUE_LABEL

    @property
    def labelled(self) -> str:
        """What a residue has."""
        return "a label a residue" if self._of_labels else "a number a residue"

    @property
    def losses(self) -> tuple[LossName | NumberLossName, ...]:
        """Those of classes, or of numbers."""
        return tuple(LABEL_LOSSES.values()) if self._of_labels else tuple(NUMBER_LOSSES.values())

    @property
    def refused(self) -> Mapping[str, str]:
        """What goes by families, and of numbers what goes by classes."""
        return REFUSED if self._of_labels else REFUSED | REFUSED_OF_NUMBERS

    @property
    def chosen_by(self) -> str:
        """Macro F1, or Spearman."""
        return CHOSEN_BY[ResidueLabels if self._of_labels else ResidueNumbers]

    @property
    def chosen_by_name(self) -> str:
        """The same in words."""
        return NAMES[self.chosen_by]

    def supervise(self, train: Dataset, held: Dataset) -> ResidueSupervision:
        """Code the residues of each protein by the classes of the training ones."""
        labels = targets(self.kind, train.labels)
        return ResidueSupervision(labels, targets(self.kind, held.labels, labels.classes))

    def hold_out(self, train: Dataset, seed: int) -> tuple[Indices, Indices]:
        """Split proteins at random."""
        return hold_out_proteins(targets(self.kind, train.labels), seed)

    def test(
        self, model: FittedModel[ResidueHead, NoFindings], test: Dataset, x: Features, seed: int
    ) -> ResidueEvaluation:
        """Measure a model as `esmcls evaluate` does."""
        questions = Questions.of(self.kind, test, model.classes)
        about = {"model": None, "validation": None, "megabytes": 0.0}
        return evaluate_residues(questions.ask(model, x, x.take([]), None, about), seed=seed)

    def metrics_of(self, report: Mapping[str, Any]) -> dict[str, Interval]:
        """Return accuracy, macro F1 and the rest, or Spearman and the rest."""
        return from_plain(dict[str, Interval], report.get("metrics", {}))

    def highest(self, metric: str) -> float:
        """Return 1, but of errors infinity."""
        return math.inf if metric in UNBOUNDED else 1.0
