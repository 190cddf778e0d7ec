"""Fine-tuning where a protein has any number of classes: a logistic regression a class, chosen by mean Fmax."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.heads.blocks import TRIFLE, LogitBlocks, checked_vectors, hold_out_sets, row_slices
from esmcls.heads.layers.descent import Grouping, Judged, calibrate
from esmcls.heads.layers.network import Bags, Network
from esmcls.heads.layers.ridge import Scaling
from esmcls.heads.layers.term_linear import TermLinearConfig, TermLinearHead
from esmcls.heads.layers.trained import first_rows
from esmcls.heads.whitening import Whitening
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import mean_fmax
from esmcls.tasks.label_sets.hierarchy import ClassHierarchy
from esmcls.tasks.objective import OutputLayer, Settings
from esmcls.training.losses import Sampler, ShuffledSampler
from esmcls.training.term_losses import TermLossName, binary_cross_entropy, group_losses, make_term_loss
from esmcls.types import Indices, Probabilities

LOSSES: Final[Mapping[str, TermLossName]] = {
    "bce": "bce",
    "weighted": "weighted",
    "focal": "focal",
    "asymmetric": "asymmetric",
}


def refused(many: str) -> dict[str, str]:
    """Return what fine-tuning cannot have, where `many` says what a protein has any number of, and why.

    Examples
    --------
    >>> refused("a protein has any number of labels")["sampling"]
    '--sampling balanced draws each family as often, but a protein has any number of labels; try --loss weighted'
    """
    return {
        "families": f"--families takes the largest families, but {many}, of all sizes; leave it out",
        "stratify": f"--stratify draws so many sequences a family, but {many} and would be drawn by each; leave it out",
        "hold_out_families": f"--hold-out-families keeps families from training, but {many}; leave it out",
        "class_weights": f"--class-weights weighs a sequence by its one family, but {many}; try --loss weighted",
        "sampling": f"--sampling balanced draws each family as often, but {many}; try --loss weighted",
    }


class TermStepLoss:
    """The sum over terms of a loss, its mean over the rows of a step; see `esmcls.tasks.objective.StepLoss`.

    A protein without a term of an aspect says nothing of it: the aspect's terms add no loss for it.

    Parameters
    ----------
    labels : LabelSets
        Of the training rows.
    settings : Settings
    device : str
    """

    logs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, labels: LabelSets, settings: Settings, device: str) -> None:
        grouping = Grouping.of(labels.n_classes, labels.groups)
        known = grouping.known(labels)
        says_of_class = known.sum(0, dtype=torch.float64).long().numpy()[grouping.places]
        defaults = TermLinearConfig()
        cap = settings.weight_cap or defaults.cap
        knobs = replace(defaults, loss=LOSSES[settings.loss or "bce"], gamma=settings.gamma, cap=cap)
        self.cost, weights = make_term_loss(knobs, labels.counts(), says_of_class, device)
        self.capped = 0 if weights is None else weights.capped
        self.labels, self.members, self.known = labels, grouping.members.to(device), known.to(device)

    def total(self, rows: Indices) -> float:
        """Return the number of rows: each counts once, whatever it says."""
        return float(len(rows))

    def mean(self, logits: Tensor, rows: Indices) -> Tensor:
        """Return the mean over rows of the sum over terms."""
        targets = torch.from_numpy(self.labels.dense(rows)).to(logits.device)
        known = self.known[torch.from_numpy(rows).to(self.known.device)]
        return group_losses(self.cost(logits, targets), self.members, known).sum()

    def logged(self, logits: Tensor, rows: Indices) -> dict[str, Tensor]:
        """Return nothing: Fmax needs all proteins at once."""
        return {}


@dataclass(frozen=True, eq=False)
class TermStart:
    """The linear head on the frozen encoder's vectors; see `esmcls.tasks.objective.StartingHead`.

    Parameters
    ----------
    head : TermLinearHead
    held : LabelSets
        Of the held rows.
    terms : ClassHierarchy
        The classes.
    scores : dict
        `fmax`: the mean over aspects on the held rows, parents raised; empty without any.
    """

    head: TermLinearHead
    held: LabelSets
    terms: ClassHierarchy
    scores: dict[str, float]

    @property
    def output(self) -> OutputLayer:
        """The head's layer with the slope and shift of its calibration in it."""
        slope = 1.0 if self.head.chosen.slope is None else self.head.chosen.slope
        shift = self.head.chosen.shift or 0.0
        state = {name: value.cpu() for name, value in self.head.network.state_dict().items()}
        make = Scaling if state["scale"].dim() == 1 else Whitening
        scaling = make(state["mean"], state["scale"])
        return OutputLayer(slope * state["out.weight"], slope * state["out.bias"] + shift, scaling)

    @property
    def config(self) -> dict[str, Any]:
        """Every knob with what was chosen."""
        return asdict(self.head.chosen)

    def continued(
        self, weight: Tensor, bias: Tensor, mean: Tensor, held: Features | None, pooling: str
    ) -> TermLinearHead:
        """Return the head with another layer; its slope and shift are chosen anew."""
        head = TermLinearHead(replace(self.head.chosen, slope=1.0, shift=0.0, pooling=pooling), self.head.device)
        head.classes, head.groups = self.head.classes, self.head.groups
        layer = {"mean": mean, "scale": self.head.network.scale, "out.weight": weight, "out.bias": bias}
        state = {name: value.detach().cpu() for name, value in layer.items()}
        head.network = Network.of_state(state, head.config).to(head.device).eval().requires_grad_(False)
        if held is not None:
            slope, shift = _calibration(head, held, self.held)
            head.config = head.chosen = replace(head.chosen, slope=slope, shift=shift)
            head.scores = {"fmax": mean_fmax(self.held, self.terms.blocks(head, held))}
        return head


def _calibration(head: TermLinearHead, x: Features, labels: LabelSets) -> tuple[float, float]:
    """Return the slope and shift of the least log loss on held rows, a head's logits taken as they are."""
    network = head.network
    bags, labels = first_rows((Bags.of(checked_vectors(x, head.config.pooling, len(network.mean))), labels))
    grouping = Grouping.of(labels.n_classes, labels.groups)

    def judged() -> Iterator[Judged]:
        for rows in row_slices(len(bags), labels.n_classes):
            block, counts = bags.packed(np.arange(rows.start, rows.stop))
            truth = labels.take(rows)
            vectors = torch.from_numpy(block).to(head.device, torch.float32)
            logits = network(vectors, torch.from_numpy(counts).to(head.device))
            yield logits, torch.from_numpy(truth.dense()).to(head.device), grouping.known(truth).to(head.device)

    with torch.no_grad():
        blocks = list(judged())
    return calibrate(blocks, grouping.members.to(head.device))


@dataclass(frozen=True, eq=False)
class TermSupervision:
    """The terms of the rows of a run; see `esmcls.tasks.objective.Supervision`.

    Parameters
    ----------
    labels : LabelSets
        Of the training rows, propagated.
    held : LabelSets
        Of the held rows, by the same classes; other terms are left out.
    terms : ClassHierarchy
        The classes.
    """

    labels: LabelSets
    held: LabelSets
    terms: ClassHierarchy

    @property
    def classes(self) -> tuple[str, ...]:
        """The terms of the training rows."""
        return self.labels.classes

    @property
    def counts(self) -> Indices:
        """Training rows of each term."""
        return self.labels.counts()

    @property
    def marks(self) -> Iterator[str]:
        """The codes of each training row's terms."""
        return (",".join(map(str, self.labels.row(number).tolist())) for number in range(len(self.labels)))

    def sampler(self, settings: Settings) -> Sampler:
        """Return rows in a shuffled order."""
        return ShuffledSampler(len(self.labels), settings.batch, settings.seed)

    def loss(self, settings: Settings, device: str) -> TermStepLoss:
        """Return the loss of a step."""
        return TermStepLoss(self.labels, settings, device)

    def score(self, rows: Indices, blocks: LogitBlocks) -> float:
        """Return the mean Fmax over aspects, parents raised, less a trifle of the cross-entropy."""
        labels = self.held.take(rows)
        grouping = Grouping.of(labels.n_classes, labels.groups)
        losses: list[float] = []

        def raised() -> Iterator[tuple[slice, Probabilities]]:
            for chosen, logits in blocks:
                part = labels.take(chosen)
                pairs = binary_cross_entropy(logits.cpu(), torch.from_numpy(part.dense()))
                losses.append(float(group_losses(pairs, grouping.members, grouping.known(part)).sum()) * len(part))
                yield chosen, self.terms.raised(logits.sigmoid().cpu().numpy())

        fmax = mean_fmax(labels, raised())
        return fmax - TRIFLE * sum(losses) / max(1, len(labels))

    def fit(self, x: Features, held: Features | None, settings: Settings, pooling: str, device: str) -> TermStart:
        """Fit the linear head."""
        config = TermLinearConfig(pooling=pooling)
        if settings.start == "zero":
            config = TermLinearConfig(pooling=pooling, epochs=0, stop=0, warm_start=False)
        validation = None if held is None else (held, self.held)
        head = TermLinearHead(config, device).fit(x, self.labels, validation, settings.seed)
        scores = {} if held is None else {"fmax": mean_fmax(self.held, self.terms.blocks(head, held))}
        return TermStart(head, self.held, self.terms, scores)


class LabelSetObjective(ABC):
    """What objectives of many labels a protein share; see `esmcls.tasks.objective.Objective`."""

    losses: ClassVar[tuple[TermLossName, ...]] = tuple(LOSSES.values())
    chosen_by: ClassVar[str] = "fmax"
    percent: ClassVar[bool] = False
    of_residues: ClassVar[bool] = False

    @abstractmethod
    def labels(self, part: Dataset) -> LabelSets:
        """Return the classes of each row, by those that occur."""

    @abstractmethod
    def hierarchy(self, classes: tuple[str, ...]) -> ClassHierarchy:
        """Return classes with what contains what."""

    def supervise(self, train: Dataset, held: Dataset) -> TermSupervision:
        """Code the labels of each row by those of the training rows."""
        labels = self.labels(train)
        known = LabelSets.from_names(self.labels(held).names(), labels.classes, labels.groups)
        return TermSupervision(labels, known, self.hierarchy(labels.classes))

    def hold_out(self, train: Dataset, seed: int) -> tuple[Indices, Indices]:
        """Split rows at random."""
        return hold_out_sets(self.labels(train), seed)
