"""What heads for many labels share that are trained by descent: fit, calibration, prediction, files.

A head says how its network is made and where it begins; the rest is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from esmcls.cache.features import Features
from esmcls.heads.blocks import TRIFLE, checked_chunks, checked_vectors
from esmcls.heads.layers.knobs import TrainedConfig
from esmcls.heads.layers.network import Bags, Network
from esmcls.heads.layers.ridge import Scaling
from esmcls.heads.layers.term_descent import Grouping, Judged, TermDescent, calibrate
from esmcls.heads.registry import Log
from esmcls.heads.term_base import BaseTermHead, Validation
from esmcls.heads.term_common import (
    Blocks,
    check_sets,
    row_slices,
    score,
)
from esmcls.heads.whitening import WithinClass
from esmcls.labels.labels import LabelSets
from esmcls.training.loop import run
from esmcls.training.schedule import Plan
from esmcls.training.term_losses import TaskWeights, group_losses, make_term_loss
from esmcls.types import Indices, Vectors

if TYPE_CHECKING:
    from typing_extensions import Self

CALIBRATED: Final = 1 << 25
"""Pairs of held rows and classes that a calibration is fitted on: their logits are held at once, 128 MiB."""

Held: TypeAlias = tuple[Bags, LabelSets]


def first_rows(held: Held) -> Held:
    """Return as many held rows as a calibration is fitted on."""
    rows = np.arange(min(len(held[0]), max(1, CALIBRATED // max(1, held[1].n_classes))))
    return held[0].take(rows), held[1].take(rows)


class TrainedHead(BaseTermHead):
    """A network from packed vectors to a logit a class, trained by descent; the part that does not depend on which."""

    Config: ClassVar[type[TrainedConfig]] = TrainedConfig
    file: ClassVar[str]
    """Name of the file that holds the network."""
    network: Any

    def __init__(self, config: Any = None, device: str = "cpu") -> None:
        super().__init__(config, device)
        self.capped = 0
        """Classes whose weight `cap` lowered."""

    def _fit(self, x: Features, labels: LabelSets, validation: Validation, seed: int, log: Log | None) -> None:
        """Train; with weighted BCE the log is first told how many weights are capped."""
        bags, held = self._bags(x, x.width), self._bags(validation[0], x.width)
        self._train(bags, labels, (held, validation[1]), seed, log)

    def refit(self, x: Features, labels: LabelSets, seed: int = 0, log: Log | None = None) -> Self:
        """Fit all rows with what was chosen."""
        check_sets(x, labels)
        self._train(self._bags(x, x.width), labels, None, seed, log)
        return self

    def _bags(self, x: Features, width: int) -> Bags:
        """Return checked vectors, one a row or, with attention, one an encoder input."""
        if self.config.attention:
            return Bags.of(*checked_chunks(x, width))
        return Bags.of(checked_vectors(x, self.config.pooling, width))

    def _train(self, bags: Bags, labels: LabelSets, held: Held | None, seed: int, log: Log | None) -> None:
        """Fit with what is chosen; make the open choices on the held rows."""
        self.classes, self.groups = labels.classes, labels.groups
        self.grouping = Grouping.of(labels.n_classes, labels.groups)
        self.members = self.grouping.members.to(self.device)
        self.network = self._network(bags.vectors.shape[1], seed)
        self._scale_rows(bags)
        self.network.to(self.device).eval()
        self._begin(bags, labels, held)
        task = self._task(bags, labels, seed, log)
        epoch = task.sampler.steps_an_epoch
        plan = Plan(self.chosen.epochs * epoch, self.chosen.lr, warmup=epoch // 2, seed=seed)
        if held is None or self.chosen.stop is not None:
            stop = self.chosen.epochs if self.chosen.stop is None else min(self.chosen.stop, self.chosen.epochs)
            if stop:
                run(task, plan, log=log, stop_after=stop * epoch)
        else:
            task.measure = lambda: self._fmax(held, task)
            watched = replace(plan, validate_every=epoch, patience=self.chosen.patience, validate_first=True)
            self.chosen = replace(self.chosen, stop=run(task, watched, log=log).best_step // epoch)
        self.network.eval().requires_grad_(False)
        if held is not None:
            self._calibrate(held)
            self.scores = score(held[1], self._probabilities(held[0]))

    def _network(self, width: int, seed: int) -> nn.Module:
        """Return a network on the CPU with weights drawn from a seed."""
        return Network.drawn(width, len(self.classes), self.config, seed)

    def _scale_rows(self, bags: Bags) -> None:
        """Give the network the mean and deviation, or the whitening, of the rows to fit on."""
        network = self._inner
        if self.config.whiten and not self.config.attention:
            whitening = WithinClass.of(bags.vectors, np.zeros(len(bags.vectors), np.int64), 1)(self.config.shrinkage)
            network.mean.copy_(whitening.mean)
            network.scale.copy_(whitening.matrix)
        else:
            scaling = Scaling.of(bags.vectors)
            network.mean.copy_(scaling.mean)
            network.scale.copy_(scaling.deviation)

    @property
    def _inner(self) -> Network:
        """The part of the network that vectors go into."""
        network: Network = self.network
        return network

    @property
    def _out(self) -> nn.Linear:
        """The part of the network that logits come out of."""
        out: nn.Linear = self.network.out
        return out

    def _begin(self, bags: Bags, labels: LabelSets, held: Held | None) -> None:
        """Begin at the share of rows that have each class: most have so few that to find it would take epochs."""
        rows = np.maximum(self._rows(labels), 1)
        share = torch.from_numpy(np.clip(labels.counts(), 0.5, rows - 0.5) / rows)
        with torch.no_grad():
            self._out.bias.copy_(torch.logit(share))

    def _known(self, labels: LabelSets) -> Tensor:
        """Return ones where a row says something of a group, float32 (rows, groups)."""
        known = self.grouping.known(labels)
        return known if self.chosen.unannotated == "unknown" else torch.ones_like(known)

    def _rows(self, labels: LabelSets) -> Indices:
        """Return how many rows have or have not each class, (classes,)."""
        per_group = self._known(labels).sum(0, dtype=torch.float64).long().numpy()
        found: Indices = per_group[self.grouping.places]
        return found

    def _task(self, bags: Bags, labels: LabelSets, seed: int, log: Log | None) -> TermDescent:
        loss, weights = make_term_loss(self.chosen, labels.counts(), self._rows(labels), self.device)
        self.capped = 0 if weights is None else weights.capped
        if weights is not None and log is not None:
            log({"classes": len(self.classes), "capped": self.capped})
        known = self._known(labels).to(self.device)

        def logits(rows: Indices) -> Tensor:
            return self._forward(*bags.packed(rows))

        return TermDescent(self.network, logits, labels, loss, self.members, known, self.chosen, seed, self._tasks())

    def _tasks(self) -> TaskWeights | None:
        """Return the part of the network that weighs groups, where it has one."""
        return None

    def _forward(self, vectors: Vectors, counts: Indices) -> Tensor:
        """Return the logits (rows, classes) of packed vectors."""
        block = torch.from_numpy(vectors).to(self.device, torch.float32)
        logits: Tensor = self.network(block, torch.from_numpy(counts).to(self.device))
        return logits

    def _logits(self, bags: Bags) -> Iterator[tuple[slice, Tensor]]:
        """Give slices of rows and their logits (rows, classes)."""
        for rows in row_slices(len(bags), len(self.classes)):
            with torch.no_grad():
                logits = self._forward(*bags.packed(np.arange(rows.start, rows.stop)))
            yield rows, logits

    def _probabilities(self, bags: Bags) -> Blocks:
        slope, shift = self.chosen.slope, self.chosen.shift
        slope, shift = 1.0 if slope is None else slope, 0.0 if shift is None else shift
        for rows, logits in self._logits(bags):
            yield rows, (slope * logits + shift).sigmoid().cpu().numpy()

    def _judged(self, held: Held) -> Iterator[Judged]:
        """Give the logits of held rows, what they should have been, and of what groups they say something."""
        for rows, logits in self._logits(held[0]):
            some = held[1].take(rows)
            targets = torch.from_numpy(some.dense()).to(self.device)
            yield logits, targets, self._known(some).to(self.device)

    def _fmax(self, held: Held, task: TermDescent) -> float:
        """Return the mean Fmax, less a trifle of the loss: it decides between epochs of equal Fmax."""
        loss = 0.0
        for logits, targets, known in self._judged(held):
            loss += float(group_losses(task.cost(logits, targets), self.members, known).sum()) * len(logits)
        return score(held[1], self._probabilities(held[0]))["fmax"] - TRIFLE * loss / len(held[0])

    def _calibrate(self, held: Held) -> None:
        if self.chosen.slope is None or self.chosen.shift is None:
            slope, shift = calibrate(list(self._judged(first_rows(held))), self.members)
            own = self.config
            slope, shift = slope if own.slope is None else own.slope, shift if own.shift is None else own.shift
            self.chosen = replace(self.chosen, slope=slope, shift=shift)

    def blocks(self, x: Features) -> Blocks:
        """Give slices of rows and their probabilities."""
        yield from self._probabilities(self._bags(x, len(self._inner.mean)))

    def save(self, folder: Path) -> None:
        """Write the state of the network, with mean and whitening of the training rows, as safetensors."""
        state = {name: tensor.cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        save_file(state, folder / self.file)

    @classmethod
    def load(
        cls, folder: Path, config: Any, classes: tuple[str, ...], groups: tuple[str, ...], device: str = "cpu"
    ) -> Self:
        """Read what `save` wrote."""
        head = cls._of(config, classes, groups, device)
        head.network = head._restored(load_file(folder / cls.file)).to(device).eval().requires_grad_(False)
        return head

    def _restored(self, state: dict[str, Tensor]) -> nn.Module:
        """Return the network of a state on the CPU."""
        return Network.of_state(state, self.config)
