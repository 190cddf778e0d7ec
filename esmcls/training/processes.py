"""Several processes that train one model together, through Lightning's Fabric; one process is the simplest case.

Each process has its own batches, and the whole model: after the backward pass the gradients are averaged, so that all
take the same step. Or, sharded, it keeps a part of every parameter and gathers a layer's parts when it runs (torch's
FSDP, `fully_shard`). Nothing else is exchanged, but what an objective gathers itself.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from esmcls.errors import MissingExtraError, UsageError
from esmcls.training.device_operations import widest_float

if TYPE_CHECKING:
    from lightning_fabric import Fabric


LONGEST: Final = timedelta(days=30)
"""What the others wait for the first process."""


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

    def place(self, model: nn.Module, blocks: Iterable[nn.Module], lower: torch.dtype | None = None) -> None:
        """Move a model to this process's device: all of it, or a part of each block and of what is in no block.

        Parameters
        ----------
        model : Module
        blocks : iterable of Module
        lower : torch.dtype, optional
            What a block's parts are gathered in where a model is shared, such as bf16: half of what is sent and held,
            and nothing for autocast to copy. The parts, their gradients' sums and all outside of the blocks are fp32.
        """
        if self.sharded:
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

            mesh = init_device_mesh(self.device.type, (self.count,))
            policy = MixedPrecisionPolicy(param_dtype=lower, reduce_dtype=torch.float32, cast_forward_inputs=False)
            for block in blocks:  # one after another: the device never holds the model whole
                fully_shard(block, mesh=mesh, mp_policy=policy)
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

    def kept(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return a copy of a state to come back to: on the CPU, where there is room, unless it is in parts."""
        if self.sharded:
            return deepcopy(state)
        return {name: value.detach().to("cpu", copy=True) for name, value in state.items()}

    def beside(self, values: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return tensors where those of the same names in `like` are."""
        return {name: value.to(like[name].device) for name, value in values.items()}

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
        values = torch.tensor(list(entry.values()), dtype=widest_float(self.device))
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

    @contextmanager
    def first_alone(self) -> Iterator[bool]:
        """Let the first process do something that may take hours, for which the others wait; tell each which it is.

        They wait in a group of their own: in that of the gradients a collective of NCCL ends after 30 minutes.
        """
        if self.fabric is None:
            yield True
            return
        waiting = torch.distributed.new_group(backend="gloo", timeout=LONGEST)
        yield self.first
        torch.distributed.barrier(group=waiting)
        torch.distributed.destroy_process_group(waiting)

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
        If the devices are of two kinds, one alone is to share a model, or Slurm starts another number of processes.
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
        from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    except ImportError:
        raise MissingExtraError("training on several devices", "lightning-fabric", "finetune") from None
    own_processes = _starts_its_own(len(devices), nodes)
    places = len(devices) if kind == "cpu" else [torch.device(name).index or 0 for name in devices]
    started_by = LightningEnvironment() if own_processes else None
    fabric = Fabric(accelerator=kind, devices=places, num_nodes=nodes, strategy="ddp", plugins=started_by)
    fabric.launch()
    atexit.register(_leave)
    return Replicas(fabric.device, fabric, sharded)


def _leave() -> None:
    """Leave the group of processes: threads of gloo that still run when Python ends would abort the process."""
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()


def _starts_its_own(devices: int, nodes: int) -> bool:
    """Tell whether this process is Slurm's only one on its one machine, and starts those of the other devices itself.

    Raises
    ------
    UsageError
        If Slurm starts neither one process a device nor one in all.
    """
    tasks = os.environ.get("SLURM_NTASKS")
    by_hand = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")  # as Fabric knows an interactive job
    if tasks is None or by_hand or "TORCHELASTIC_RUN_ID" in os.environ:
        return False
    if int(tasks) == nodes == 1:
        return True
    if int(tasks) != nodes * devices:
        there = f"Slurm starts {tasks} processes (tasks) for {nodes * devices} devices"
        raise UsageError(f"{there}: give sbatch --nodes={nodes} --ntasks-per-node={devices}, and begin with srun")
    return False
