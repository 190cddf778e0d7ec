"""Mini-batch descent on all classes at once: the task that trained heads give to the training loop, and calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from esmcls.labels.labels import LabelSets
from esmcls.training.losses import Shuffled
from esmcls.training.runlog import Entry
from esmcls.training.term_losses import TaskWeights, TermLoss, binary_cross_entropy, group_losses
from esmcls.types import Indices

TASK_RATE: Final = 10.0
"""Times the learning rate: task weights have far to go, from 0 to the logarithm of a sum over classes."""
STEPS: Final = 16
"""Steps an epoch, at least, where there are as many rows: a small set is not fitted in one step an epoch."""
SLOPES: Final = (0.05, 20.0)
SHIFTS: Final = (-20.0, 20.0)

Judged: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Logits and targets, both (rows, classes), and what each row says something of, (rows, groups)."""


class Knobs(Protocol):
    """What descent needs of a head's configuration."""

    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def batch(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Grouping:
    """Which class is of which group.

    Parameters
    ----------
    names : tuple of str
        Each group once, sorted; one without a name where there are none.
    places : int64 array, (classes,)
        The group of each class.

    Examples
    --------
    >>> labels = LabelSets.from_names([["a"], ["b", "c"]], "abc", "FPP")
    >>> grouping = Grouping.of(labels.n_classes, labels.groups)
    >>> grouping.places.tolist(), grouping.known(labels).tolist()
    ([0, 1, 1], [[1.0, 0.0], [0.0, 1.0]])
    """

    names: tuple[str, ...]
    places: Indices

    @classmethod
    def of(cls, n_classes: int, groups: Sequence[str]) -> Grouping:
        """Take the group of each class."""
        names, places = np.unique(groups or [""] * n_classes, return_inverse=True)
        return cls(tuple(names.tolist()), places.astype(np.int64))

    @property
    def members(self) -> Tensor:
        """Ones where a class is of a group, float32 (classes, groups)."""
        return torch.eye(len(self.names))[torch.from_numpy(self.places)]

    def known(self, labels: LabelSets) -> Tensor:
        """Return ones where a row has some class of a group, float32 (rows, groups)."""
        out = torch.zeros(len(labels), len(self.names))
        rows = np.repeat(np.arange(len(labels)), labels.sizes())
        out[torch.from_numpy(rows), torch.from_numpy(self.places[labels.codes])] = 1
        return out


class TermDescent:
    """AdamW on mini-batches of rows; a batch is a function of seed and step.

    Parameters
    ----------
    model : Module
    logits : callable
        From row numbers (n,) to the model's logits of those rows (n, classes).
    labels : LabelSets
        Of all rows.
    loss : TermLoss
    members, known : float tensors, (classes, groups) and (rows, groups)
        See `esmcls.training.term_losses.group_losses`.
    knobs : Knobs
    seed : int
    tasks : TaskWeights, optional
        A part of `model` that weighs the groups; without it all count alike.
    """

    def __init__(
        self,
        model: nn.Module,
        logits: Callable[[Indices], Tensor],
        labels: LabelSets,
        loss: TermLoss,
        members: Tensor,
        known: Tensor,
        knobs: Knobs,
        seed: int,
        tasks: TaskWeights | None = None,
    ) -> None:
        self.model, self.logits, self.labels, self.cost, self.tasks = model, logits, labels, loss, tasks
        self.members, self.known = members, known
        self.sampler = Shuffled(len(labels), max(1, min(knobs.batch, len(labels) // STEPS)), seed)
        own = [] if tasks is None else list(tasks.parameters())
        others = [one for one in model.parameters() if not any(one is task for task in own)]
        groups: list[dict[str, Any]] = [{"params": others}, {"params": own, "lr_scale": TASK_RATE, "weight_decay": 0.0}]
        # fused: one pass over weights, gradients and moments instead of a dozen
        adamw = torch.optim.AdamW(groups[: 2 if own else 1], lr=knobs.lr, weight_decay=knobs.weight_decay, fused=True)
        if tasks is not None:
            adamw.register_step_post_hook(lambda *_: tasks.clamp())
        self.optimizers: Sequence[torch.optim.Optimizer] = [adamw]
        self.measure: Callable[[], float] | None = None

    def loss(self, step: int) -> tuple[Tensor, Entry]:
        """Return the loss of a batch; with task weights, what each group adds is logged, too."""
        rows = self.sampler.rows(step)
        logits = self.logits(rows)
        targets = torch.from_numpy(self.labels.dense(rows)).to(logits.device)
        losses = group_losses(self.cost(logits, targets), self.members, self.known[torch.from_numpy(rows)])
        if self.tasks is None:
            return losses.sum(), {}
        logged = {f"loss_{place}": loss for place, loss in enumerate(losses.tolist())}
        total: Tensor = self.tasks(losses)
        return total, logged

    def validate(self) -> float | None:
        """Return what `measure` says, where there is something to measure on."""
        return None if self.measure is None else self.measure()


def calibrate(blocks: Sequence[Judged], members: Tensor) -> tuple[float, float]:
    """Return slope and shift such that sigmoid(slope x logit + shift) has the least log loss on held rows.

    Parameters
    ----------
    blocks : sequence of Judged
        Of the held rows.
    members : float tensor, (classes, groups)

    References
    ----------
    Platt 1999, Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods.
    """

    def surprise(parameters: Indices) -> tuple[float, Indices]:
        found = torch.tensor(parameters, requires_grad=True)
        total = 0.0
        for logits, targets, known in blocks:
            scaled = found[0].to(logits) * logits + found[1].to(logits)
            loss = group_losses(binary_cross_entropy(scaled, targets), members, known).sum() * len(logits)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        assert found.grad is not None
        return total, found.grad.numpy()

    best = minimize(surprise, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=(SLOPES, SHIFTS))
    return float(best.x[0]), float(best.x[1])
