"""Several processes that train one model together, through Lightning's Fabric; one process is the simplest case.

Each process has its own batches, and the whole model: after the backward pass the gradients are averaged, so that all
take the same step. Or, sharded, it keeps a part of every parameter and gathers a layer's parts when it runs (torch's
FSDP, `fully_shard`). Nothing else is exchanged, but what an objective gathers itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
        Joins several processes; None for one alone.
    sharded : bool
        Whether each keeps only a part of the model.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    fabric: Fabric | None = None
    sharded: bool = False

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return 0 if self.fabric is None else self.fabric.global_rank

    @property
    def count(self) -> int:
        """Number of the processes."""
        return 1 if self.fabric is None else self.fabric.world_size

    @property
    def first(self) -> bool:
        """True in the process that logs and writes."""
        return self.rank == 0

    def place(self, model: nn.Module, blocks: Iterable[nn.Module]) -> None:
        """Move a model to this process's device: all of it, or a part of each block and of what is in no block."""
        if self.sharded:
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh(self.device.type, (self.count,))
            for block in blocks:  # one after another: the device never holds the model whole
                fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh)
        model.to(self.device)

    def whole(self, values: Any) -> Any:
        """Return nested values with the parts of all processes put together; every process must ask."""
        if not self.sharded:
            return values
        if isinstance(values, Mapping):
            return {name: self.whole(value) for name, value in values.items()}
        if isinstance(values, list):
            return [self.whole(value) for value in values]
        return values.full_tensor().cpu() if hasattr(values, "full_tensor") else values

    def part(self, values: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return this process's parts of whole tensors, cut as those of the same names in `like` are."""
        return {name: self._part(value, like[name]) for name, value in values.items()} if self.sharded else values

    def part_of_optimizer(self, state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return this process's part of an optimiser's whole state, cut as its parameters are."""
        if not self.sharded:
            return state
        parameters = [value for group in optimizer.param_groups for value in group["params"]]
        parts = {
            number: {
                name: self._part(value, parameters[number]) if value.shape == parameters[number].shape else value
                for name, value in values.items()
            }
            for number, values in state["state"].items()
        }
        return {**state, "state": parts}

    def _part(self, value: Tensor, like: Any) -> Tensor:
        from torch.distributed.tensor import DTensor, distribute_tensor

        cut = isinstance(like, DTensor)
        return distribute_tensor(value.to(self.device), like.device_mesh, like.placements) if cut else value

    def average_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its mean over the processes; sharded ones are that already."""
        if self.fabric is None or self.sharded:
            return
        gradients = [value.grad for value in model.parameters() if value.grad is not None]
        flat: Any = self.fabric.all_reduce(torch.cat([gradient.flatten() for gradient in gradients]), reduce_op="mean")
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def average_entry(self, entry: dict[str, float]) -> dict[str, float]:
        """Return the mean over the processes of their entries."""
        if self.fabric is None:
            return entry
        values = torch.tensor(list(entry.values()), dtype=torch.float64 if self.device.type != "mps" else torch.float32)
        mean: Any = self.fabric.all_reduce(values.to(self.device), reduce_op="mean")
        return dict(zip(entry, mean.tolist(), strict=True))

    def most(self, here: int) -> int:
        """Return the largest of the processes' numbers."""
        if self.fabric is None:
            return here
        largest: Any = self.fabric.all_reduce(torch.tensor(here, device=self.device), reduce_op="max")
        return int(largest)

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


def start_replicas(devices: Sequence[str], *, nodes: int = 1, sharded: bool = False) -> Replicas:
    """Start a process for each device; every one goes on from here as if it had been started by hand.

    Parameters
    ----------
    devices : sequence of str
        Of one kind, such as ("cuda:0", "cuda:1") or ("cpu", "cpu"). The processes beside the first run the program's
        command line again.
    nodes : int
        Machines that run this same command line, each on such devices, with one file system. Slurm and torchrun tell
        each its number; elsewhere the variables MASTER_ADDR, MASTER_PORT and NODE_RANK do.
    sharded : bool
        See `Replicas`.

    Raises
    ------
    UsageError
        If the devices are of two kinds, or one alone is to share a model.
    MissingExtraError
        If Lightning's Fabric is not installed.
    """
    kinds = {torch.device(name).type for name in devices}
    if len(kinds) > 1:
        raise UsageError(f"--device {','.join(devices)}: devices of one kind train together; name those of one kind")
    (kind,) = kinds
    if len(devices) == nodes == 1:
        if sharded:
            raise UsageError(f"--shard: {devices[0]} alone has nobody to share the model with; name several devices")
        return Replicas(torch.device(devices[0]))
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise MissingExtraError("training on several devices", "lightning-fabric", "finetune") from None
    places = len(devices) if kind == "cpu" else [torch.device(name).index or 0 for name in devices]
    fabric = Fabric(accelerator=kind, devices=places, num_nodes=nodes, strategy="ddp")
    fabric.launch()
    return Replicas(fabric.device, fabric, sharded)
