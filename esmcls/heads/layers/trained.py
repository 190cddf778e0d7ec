"""Networks that are trained by descent, for one label and for many: fit, when to stop, prediction, files.

`NetworkHead` is the frame of both; `TermNetworkHead` adds what many labels need, a loss for each group and calibration.
A head says how its network is made and where it begins.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from esmcls.cache.features import Features
from esmcls.errors import ModelError, UsageError
from esmcls.heads.base import BaseTermHead, HeadFrame, L, Log, Validation
from esmcls.heads.blocks import TRIFLE, TermBlocks, checked_chunks, checked_vectors, row_slices, score_terms
from esmcls.heads.layers.descent import (
    DESCENT_RANGES,
    DescentConfig,
    Grouping,
    Judged,
    RowDescent,
    TermDescent,
    calibrate,
)
from esmcls.heads.layers.network import Bags, Network, read_network
from esmcls.heads.layers.ridge import Scaling
from esmcls.heads.saved_tensors import AGAIN, write_state
from esmcls.heads.settings import PooledConfig, Ranges, check_ranges
from esmcls.heads.whitening import WithinClass
from esmcls.labels.labels import LabelSets
from esmcls.training.loop import History, run
from esmcls.training.schedule import TrainingPlan
from esmcls.training.term_losses import TaskWeights, TermLossName, group_losses, make_term_loss
from esmcls.types import Indices, Vectors

CALIBRATED: Final = 1 << 25
"""Pairs of held rows and classes that a calibration is fitted on: their logits are held at once, 128 MiB."""

HeldBags: TypeAlias = tuple[Bags, L]
"""Rows that choices are made on."""


@dataclass(frozen=True)
class NetworkConfig(DescentConfig, PooledConfig):
    """Knobs of every network on vectors besides those of `DescentConfig`; None is chosen on validation.

    Parameters
    ----------
    whiten : bool
        Whiten the vectors by their covariance and bring them to one length; else standardise the columns. When
        to change: the length of a vector tells something, as with counts.
    shrinkage : float
        Of the covariance that vectors are whitened by towards a multiple of the identity, 0 to 1. When to change:
        there are fewer training rows than numbers in a vector: then raise it to .1 or .3.
    dropout : float
        Share of a hidden layer's outputs that is left out in training. When to change: training is far ahead of
        validation: raise it; lower it where even training goes badly.
    noise : float
        Deviation of the noise that is added to the vectors in training, in deviations of the training rows.
        When to change: rows are few and validation lags behind training: try .1 to .5.
    """

    whiten: bool = True
    shrinkage: float = 0.01
    dropout: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(self, {**DESCENT_RANGES, "shrinkage": (0, 1), "dropout": (0, 0.999), "noise": (0, 1e3)})


@dataclass(frozen=True)
class HiddenConfig:
    """Knobs of the hidden layers of a network.

    Parameters
    ----------
    hidden : int
        Width of the hidden layers. When to change: there are many rows a class (wider), or few (narrower, such
        as 128).
    norm : {"none", "layer", "batch"}
        What stands between a hidden layer and its ReLU. When to change: training is unstable: try layer.
    attention : bool
        Take the vectors of a protein's encoder inputs (`esmcls embed --chunks`) and learn how much each counts;
        they are standardised, not whitened. When to change: proteins are long and a part of them, such as one
        domain, decides.
    """

    hidden: int = 512
    norm: Literal["none", "layer", "batch"] = "none"
    attention: bool = False


HIDDEN_RANGES: Final[Ranges] = {"hidden": (1, 1e6), "depth": (0, 100)}
"""Of the width of hidden layers, and of how many there are."""


class NetworkHead(HeadFrame[L], Generic[L]):
    """A network from packed vectors to a logit a class, or to a number, trained by descent."""

    file: ClassVar[str]
    """Name of the file that holds the network."""
    network: nn.Module

    def __init__(self, config: Any = None, device: str = "cpu") -> None:
        super().__init__(config, device)
        self.capped = 0
        """Classes whose weight a cap lowered."""

    def _fit(self, x: Features, labels: L, validation: Validation[L], seed: int, log: Log | None) -> None:
        """Train; where class weights have a cap, the log is first told how many it reached."""
        held = self._bags(validation[0], x.width)
        self._train(self._bags(x, x.width), labels, (held, validation[1]), seed, log)

    def _refit(self, x: Features, labels: L, seed: int, log: Log | None) -> None:
        """Train on all rows with what was chosen."""
        self._train(self._bags(x, x.width), labels, None, seed, log)

    def _checked(self, x: Features) -> Bags:
        """Return the vectors of rows to be asked about."""
        return self._bags(x, len(self._trunk.mean))

    def _bags(self, x: Features, width: int) -> Bags:
        """Return checked vectors, one a row or, with attention, one an encoder input."""
        if self.config.attention:
            return Bags.of(*checked_chunks(x, width))
        return Bags.of(checked_vectors(x, self.config.pooling, width))

    def _train(self, bags: Bags, labels: L, held: HeldBags[L] | None, seed: int, log: Log | None) -> None:
        """Fit with what is chosen; choose on the held rows when to stop."""
        self._draw(bags, labels, seed)
        self._begin(bags, labels, held)
        descent = self._descent(bags, labels, seed, log)
        epoch = descent.sampler.steps_an_epoch
        plan = self._plan(epoch, seed)
        knobs: NetworkConfig = self.chosen
        if held is None or knobs.stop is not None:
            epochs = knobs.epochs if knobs.stop is None else min(knobs.stop, knobs.epochs)
            if epochs:
                run(descent, plan, log=log, stop_after=epochs * epoch)
        else:
            descent.measure = lambda: self._measured(held, descent)
            watched = replace(plan, validate_every=epoch, patience=knobs.patience)
            self._settle(run(descent, watched, log=log), epoch)
        self.network.eval().requires_grad_(False)
        if held is not None:
            self._judge(held)

    def _draw(self, bags: Bags, labels: L, seed: int) -> None:
        """Make the network, with the mean and deviation, or the whitening, of the rows to fit on."""
        self.network = self._drawn(bags.vectors.shape[1], seed)
        self._scale_rows(bags, labels)
        self.network.to(self.device).eval()

    def _drawn(self, width: int, seed: int) -> nn.Module:
        """Return a network on the CPU with weights drawn from a seed."""
        return Network.drawn(width, self._outputs, self.config, seed)

    @property
    def _outputs(self) -> int:
        """Outputs of the network: one a class."""
        return len(self.classes)

    def _scale_rows(self, bags: Bags, labels: L) -> None:
        """Give the network the mean and deviation, or the whitening, of the rows to fit on."""
        if self.config.whiten and not self.config.attention:
            whitening = self._within(bags.vectors, labels)(self.config.shrinkage)
            self._trunk.mean.copy_(whitening.mean)
            self._trunk.scale.copy_(whitening.matrix)
        else:
            scaling = Scaling.of(bags.vectors)
            self._trunk.mean.copy_(scaling.mean)
            self._trunk.scale.copy_(scaling.deviation)

    def _begin(self, bags: Bags, labels: L, held: HeldBags[L] | None) -> None:
        """Set the network to what it begins with; as it was drawn, where there is nothing better."""

    def _settle(self, history: History, epoch: int) -> None:
        """Keep when to stop."""
        self.chosen = replace(self.chosen, stop=history.best_step // epoch)

    @property
    def _trunk(self) -> Network:
        """The part of the network that vectors go into."""
        assert isinstance(self.network, Network)
        return self.network

    @abstractmethod
    def _within(self, vectors: Vectors, labels: L) -> WithinClass:
        """Return the covariance that rows are whitened by."""

    @abstractmethod
    def _descent(self, bags: Bags, labels: L, seed: int, log: Log | None) -> RowDescent:
        """Return the task of the training loop."""

    @abstractmethod
    def _plan(self, epoch: int, seed: int) -> TrainingPlan:
        """Return the plan of training without validation; `epoch` is its length in steps."""

    @abstractmethod
    def _measured(self, held: HeldBags[L], descent: Any) -> float:
        """Return the score on held rows that decides between epochs."""

    @abstractmethod
    def _judge(self, held: HeldBags[L]) -> None:
        """Set `scores`, and calibrate, on held rows."""

    def _tensors(self, vectors: Vectors, counts: Indices) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(vectors).to(self.device, torch.float32), torch.from_numpy(counts).to(self.device)

    def _outputs_of(self, bags: Bags) -> Callable[[Indices | slice], Tensor]:
        """Return what gives the logits (rows, classes) of some rows."""

        def outputs(rows: Indices | slice) -> Tensor:
            logits: Tensor = self.network(*self._tensors(*bags.packed(rows)))
            return logits

        return outputs

    def save(self, folder: Path) -> None:
        """Write the state of the network, with mean and whitening of the training rows, as safetensors."""
        write_state(folder / self.file, self.network.state_dict())

    def _restore(self, folder: Path) -> None:
        path = folder / self.file
        self.network = read_network(path, self._of_state, self.device)
        outputs = len(self.network.state_dict()["out.weight"])
        if outputs != self._outputs:
            raise ModelError(path, f"{outputs} classes instead of {self._outputs}", AGAIN)

    def _of_state(self, state: dict[str, Tensor]) -> nn.Module:
        """Return the network of a state on the CPU."""
        return Network.of_state(state, self.config)


# many labels


_RANGES: Final[Ranges] = {
    "cap": (0, 1e9),
    "alpha": (0, 1),
    "gamma": (0, 1e3),
    "gamma_positive": (0, 1e3),
    "gamma_negative": (0, 1e3),
    "clip": (0, 0.999),
    "epochs": (0, 1e6),
    "stop": (0, 1e6),
    "slope": (1e-9, 1e9),
    "shift": (-1e9, 1e9),
}


@dataclass(frozen=True)
class TermNetworkConfig(NetworkConfig):
    """Knobs of every network for many labels besides those of `NetworkConfig`; None is chosen on validation.

    Parameters
    ----------
    loss : {"bce", "weighted", "focal", "asymmetric"}
        What training lowers, for each protein and term: the cross-entropy; the same with positives weighed by
        how rare they are (weighted); with pairs that are answered well counting less (focal), those of
        negatives above all (asymmetric). When to change: rare terms matter most (weighted), or most pairs are
        easy negatives (focal, asymmetric).
    cap : float
        Largest weight of the positives of a class in the weighted loss, 0 for none; the log tells how many it
        reached. When to change: loss is weighted, and rare terms are predicted too seldom (raise it) or too
        often.
    alpha : float
        Of the focal loss: the weight of positives, where negatives weigh 1 - alpha. When to change: loss is
        focal, and recall is too low (raise it) or precision.
    gamma : float
        Of the focal loss: a pair of probability p counts (1 - p) to the power of it. When to change: loss is
        focal, and hard pairs are to count more (raise it) or less.
    gamma_positive : float
        Of the asymmetric loss: as gamma, for positives. When to change: loss is asymmetric; positives are few,
        so 0 keeps them all.
    gamma_negative : float
        Of the asymmetric loss: as gamma, for negatives. When to change: loss is asymmetric, and easy negatives
        are to count less (raise it) or more.
    clip : float
        Of the asymmetric loss: negatives below this probability count nothing. When to change: loss is
        asymmetric, and many annotations are missing: raise it to .1.
    unannotated : {"unknown", "negative"}
        What a protein without any class of a group (an aspect) says of that group: nothing, or that it has
        none. When to change: your annotation is complete, so that what is not listed is not so (negative).
    batch : int
        Rows a step; fewer where an epoch would have less than 16 steps. When to change: there are a few hundred
        rows (less), or a GPU is idle (more).
    patience : int
        Epochs without a better mean Fmax on validation before training stops; 0 for never. When to change:
        validation is small and its score jumps about: raise it.
    slope : float, optional
        Probabilities are sigmoid(slope x logit + shift): the least log loss on validation. When to change: a
        fit is to be repeated with what another chose.
    shift : float, optional
        See `slope`. When to change: a fit is to be repeated with what another chose.
    """

    loss: TermLossName = "bce"
    cap: float = 10.0
    alpha: float = 0.5
    gamma: float = 2.0
    gamma_positive: float = 0.0
    gamma_negative: float = 4.0
    clip: float = 0.05
    unannotated: Literal["unknown", "negative"] = "unknown"
    slope: float | None = None
    shift: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, _RANGES)
        if 0 < self.cap < 1:
            raise UsageError(f"setting cap: {self.cap} is not at least 1; 0 is for none")

    @property
    def attention(self) -> bool:
        """Whether a protein is its encoder inputs, weighed by attention; a head may make it a knob."""
        return False


class TermNetworkHead(NetworkHead[LabelSets], BaseTermHead):
    """A network for many labels a protein, each group of which (an aspect) has a loss of its own."""

    Config: ClassVar[type[TermNetworkConfig]] = TermNetworkConfig

    def _train(
        self, bags: Bags, labels: LabelSets, held: HeldBags[LabelSets] | None, seed: int, log: Log | None
    ) -> None:
        self.grouping = Grouping.of(labels.n_classes, labels.groups)
        self.members = self.grouping.members.to(self.device)
        super()._train(bags, labels, held, seed, log)

    def _within(self, vectors: Vectors, labels: LabelSets) -> WithinClass:
        return WithinClass.of_all(vectors)

    @property
    def _out(self) -> nn.Linear:
        """The part of the network that logits come out of."""
        out = self.network.out
        assert isinstance(out, nn.Linear)
        return out

    def _begin(self, bags: Bags, labels: LabelSets, held: HeldBags[LabelSets] | None) -> None:
        """Begin at the share of rows that have each class: most have so few that to find it would take epochs."""
        rows = np.maximum(self._judged_rows(labels), 1)
        share = torch.from_numpy(np.clip(labels.counts(), 0.5, rows - 0.5) / rows)
        with torch.no_grad():
            self._out.bias.copy_(torch.logit(share))

    def _known(self, labels: LabelSets) -> Tensor:
        """Return ones where a row says something of a group, float32 (rows, groups)."""
        known = self.grouping.known(labels)
        return known if self.chosen.unannotated == "unknown" else torch.ones_like(known)

    def _judged_rows(self, labels: LabelSets) -> Indices:
        """Return how many rows have or have not each class, (classes,)."""
        per_group = self._known(labels).sum(0, dtype=torch.float64).long().numpy()
        return np.asarray(per_group[self.grouping.places])

    def _descent(self, bags: Bags, labels: LabelSets, seed: int, log: Log | None) -> TermDescent:
        cost, weights = make_term_loss(self.chosen, labels.counts(), self._judged_rows(labels), self.device)
        self.capped = 0 if weights is None else weights.capped
        if weights is not None and log is not None:
            log({"classes": len(self.classes), "capped": self.capped})
        known = self._known(labels).to(self.device)
        logits = self._outputs_of(bags)
        tasks = self._task_weights()
        return TermDescent(self.network, logits, labels, cost, self.members, known, self.chosen, seed, tasks)

    def _task_weights(self) -> TaskWeights | None:
        """Return the part of the network that weighs groups, where it has one."""
        return None

    def _plan(self, epoch: int, seed: int) -> TrainingPlan:
        steps = self.chosen.epochs * epoch
        return TrainingPlan(steps, self.chosen.lr, warmup=epoch // 2, seed=seed, validate_first=True)

    def _logits(self, bags: Bags) -> Iterator[tuple[slice, Tensor]]:
        """Give slices of rows and their logits (rows, classes)."""
        outputs = self._outputs_of(bags)
        for rows in row_slices(len(bags), len(self.classes)):
            with torch.no_grad():
                logits = outputs(rows)
            yield rows, logits

    def _probabilities(self, bags: Bags) -> TermBlocks:
        slope = 1.0 if self.chosen.slope is None else self.chosen.slope
        shift = 0.0 if self.chosen.shift is None else self.chosen.shift
        for rows, logits in self._logits(bags):
            yield rows, (slope * logits + shift).sigmoid().cpu().numpy()

    def _judged(self, held: HeldBags[LabelSets]) -> Iterator[Judged]:
        """Give the logits of held rows, what they should have been, and of what groups they say something."""
        for rows, logits in self._logits(held[0]):
            labels = held[1].take(rows)
            targets = torch.from_numpy(labels.dense()).to(self.device)
            yield logits, targets, self._known(labels).to(self.device)

    def _measured(self, held: HeldBags[LabelSets], descent: TermDescent) -> float:
        """Return the mean Fmax, less a trifle of the loss: it decides between epochs of equal Fmax."""
        loss = 0.0
        for logits, targets, known in self._judged(held):
            loss += float(group_losses(descent.cost(logits, targets), self.members, known).sum()) * len(logits)
        return score_terms(held[1], self._probabilities(held[0]))["fmax"] - TRIFLE * loss / len(held[0])

    def _judge(self, held: HeldBags[LabelSets]) -> None:
        if self.chosen.slope is None or self.chosen.shift is None:
            slope, shift = calibrate(list(self._judged(first_rows(held))), self.members)
            self.chosen = replace(
                self.chosen,
                slope=slope if self.config.slope is None else self.config.slope,
                shift=shift if self.config.shift is None else self.config.shift,
            )
        self.scores = score_terms(held[1], self._probabilities(held[0]))

    def blocks(self, x: Features) -> TermBlocks:
        """Give slices of rows and their probabilities."""
        yield from self._probabilities(self._checked(x))


def first_rows(held: HeldBags[LabelSets]) -> HeldBags[LabelSets]:
    """Return as many held rows as a calibration is fitted on."""
    rows = np.arange(min(len(held[0]), max(1, CALIBRATED // max(1, held[1].n_classes))))
    return held[0].take(rows), held[1].take(rows)
