"""Mini-batch descent on a head's model: the task that linear and MLP heads give to the training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from esmcls.training.losses import Loss, Sampler
from esmcls.training.runlog import Entry
from esmcls.types import Indices


class Knobs(Protocol):
    """What descent needs of a head's configuration."""

    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


def linear_layer(width: int, n_classes: int, device: str) -> nn.Linear:
    """Return a layer that is yet to be filled: drawing its weights would move the caller's random generator."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, width, n_classes, device=device)  # type: ignore[no-untyped-call]
    return layer


class Descent:
    """AdamW on mini-batches of rows; a batch is a function of seed and step.

    Parameters
    ----------
    model : Module
    logits : callable
        From row numbers (n,) to the model's logits of those rows (n, classes).
    codes : int64 array, (rows,)
        The class of each row to fit on.
    loss : Loss
    sampler : Sampler
    knobs : Knobs
    device : str
    """

    def __init__(
        self,
        model: nn.Module,
        logits: Callable[[Indices], Tensor],
        codes: Indices,
        loss: Loss,
        sampler: Sampler,
        knobs: Knobs,
        device: str = "cpu",
    ) -> None:
        self.model, self.logits, self.sampler, self.device = model, logits, sampler, device
        self.codes, self.cost = torch.from_numpy(codes).to(device), loss
        # fused: one pass over weights, gradients and moments instead of a dozen
        adamw = torch.optim.AdamW(model.parameters(), lr=knobs.lr, weight_decay=knobs.weight_decay, fused=True)
        self.optimizers: Sequence[torch.optim.Optimizer] = [adamw]
        self.measure: Callable[[], float] | None = None

    def loss(self, step: int) -> tuple[Tensor, Entry]:
        """Return the loss of a batch."""
        rows = self.sampler.rows(step)
        codes = self.codes[torch.from_numpy(rows).to(self.device)]
        return self.cost(self.logits(rows), codes), {}

    def validate(self) -> float | None:
        """Return what `measure` says, where there is something to measure on."""
        return None if self.measure is None else self.measure()
