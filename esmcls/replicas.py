"""Several processes that train one model together, through Lightning's Fabric; one process is the simplest case.

Each process has the whole model and its own batches; after the backward pass the gradients are averaged, so that all
take the same step. Nothing else is exchanged, but what an objective gathers itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from esmcls.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Replicas:
    """This process among those that train together.

    Parameters
    ----------
    device : torch.device
        Where this process computes.
    fabric : Fabric, optional
        What joins several; None for one alone.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    fabric: Fabric | None = None

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return 0 if self.fabric is None else self.fabric.global_rank

    @property
    def count(self) -> int:
        """How many processes there are."""
        return 1 if self.fabric is None else self.fabric.world_size

    @property
    def first(self) -> bool:
        """Whether this is the process that logs and writes."""
        return self.rank == 0

    def average_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its mean over the processes."""
        if self.fabric is None:
            return
        gradients = [value.grad for value in model.parameters() if value.grad is not None]
        flat: Any = self.fabric.all_reduce(torch.cat([gradient.flatten() for gradient in gradients]), reduce_op="mean")
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def average_entry(self, entry: dict[str, float]) -> dict[str, float]:
        """Return the mean over the processes of what they log."""
        if self.fabric is None:
            return entry
        values = torch.tensor(list(entry.values()), dtype=torch.float64 if self.device.type != "mps" else torch.float32)
        mean: Any = self.fabric.all_reduce(values.to(self.device), reduce_op="mean")
        return dict(zip(entry, mean.tolist(), strict=True))

    def any(self, here: bool) -> bool:
        """Return whether it is so in at least one of the processes."""
        return self.average_entry({"here": float(here)})["here"] > 0

    def gather(self, rows: Tensor) -> Tensor:
        """Join the rows of all processes in their order; each must have as many, (processes x rows, …)."""
        if self.fabric is None:
            return rows
        joined: Any = self.fabric.all_gather(rows)  # (processes, rows, …)
        return torch.as_tensor(joined).reshape(-1, *rows.shape[1:])


ALONE = Replicas()
"""One process, on the CPU."""


def start_replicas(devices: Sequence[str]) -> Replicas:
    """Start a process for each device; every one goes on from here as if it had been started by hand.

    Parameters
    ----------
    devices : sequence of str
        Of one kind, such as ("cuda:0", "cuda:1") or ("cpu", "cpu"). The processes beside the first run the program's
        command line again.

    Raises
    ------
    UsageError
        If the devices are of two kinds.
    MissingExtraError
        If Lightning's Fabric is not installed.
    """
    kinds = {torch.device(name).type for name in devices}
    if len(kinds) > 1:
        raise UsageError(f"--device {','.join(devices)}: devices of one kind train together; name those of one kind")
    (kind,) = kinds
    if len(devices) == 1:
        return Replicas(torch.device(devices[0]))
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise MissingExtraError("training on several devices", "lightning-fabric", "finetune") from None
    wanted: Any = len(devices) if kind == "cpu" else [torch.device(name).index or 0 for name in devices]
    fabric = Fabric(accelerator=kind, devices=wanted, strategy="ddp")
    fabric.launch()
    return Replicas(fabric.device, fabric)
