"""Mini-batch descent on a linear layer: the task that the linear head gives to the training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esmcls.heads.common import class_factors
from esmcls.labels import Labels
from esmcls.training import Entry
from esmcls.types import Indices, Vectors


class Knobs(Protocol):
    """What descent needs of a head's configuration."""

    @property
    def batch(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def smoothing(self) -> float: ...
    @property
    def class_weights(self) -> str: ...


def linear_layer(width: int, n_classes: int, device: str) -> nn.Linear:
    """Return a layer that is yet to be filled: drawing its weights would move the caller's random generator."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, width, n_classes, device=device)  # type: ignore[no-untyped-call]
    return layer


class Descent:
    """AdamW on shuffled mini-batches of vectors, prepared as they come; a batch is a function of seed and step.

    Parameters
    ----------
    model : Module
        From prepared rows to logits.
    prepare : callable
        From float32 rows as stored to rows as the model takes them.
    knobs : Knobs
    vectors, labels
        The rows to fit on.
    seed : int
    device : str
    """

    def __init__(
        self,
        model: nn.Module,
        prepare: Callable[[Tensor], Tensor],
        knobs: Knobs,
        vectors: Vectors,
        labels: Labels,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.model, self.prepare, self.vectors = model, prepare, vectors
        self.seed, self.device, self.batch, self.smoothing = seed, device, knobs.batch, knobs.smoothing
        self.codes = torch.from_numpy(labels.codes).to(device)
        self.factors = torch.from_numpy(class_factors(labels.counts(), knobs.class_weights)).to(device)
        adamw = torch.optim.AdamW(model.parameters(), lr=knobs.lr, weight_decay=knobs.weight_decay)
        self.optimizers: Sequence[torch.optim.Optimizer] = [adamw]
        self.measure: Callable[[], float] | None = None
        self.steps_an_epoch = -(-len(vectors) // self.batch)
        self._epoch, self._order = -1, np.zeros(0, dtype=np.int64)

    def loss(self, step: int) -> tuple[Tensor, Entry]:
        """Return the mean of the weighted cross-entropies of a batch."""
        rows = self.rows(step)
        block = torch.from_numpy(self.vectors[rows]).to(self.device, torch.float32)
        codes = self.codes[torch.from_numpy(rows).to(self.device)]
        logits = self.model(self.prepare(block))
        losses = F.cross_entropy(logits, codes, label_smoothing=self.smoothing, reduction="none")
        return (losses * self.factors[codes]).mean(), {}

    def rows(self, step: int) -> Indices:
        """Return the row numbers of a step's batch: every row once an epoch, in an order of its own."""
        epoch, place = divmod(step, self.steps_an_epoch)
        if epoch != self._epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.vectors))
            self._epoch, self._order = epoch, order
        return self._order[place * self.batch : (place + 1) * self.batch]

    def validate(self) -> float | None:
        """Return what `measure` says, where there is something to measure on."""
        return None if self.measure is None else self.measure()
