"""Mini-batch descent on a head's model: the task that a trained head gives to the training loop, and calibration.

`Descent` is for one label a row, `TermDescent` for many: they differ in their loss and in how rows are drawn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from esmcls.heads.settings import Ranges
from esmcls.labels.labels import LabelSets
from esmcls.training.loop import Entry
from esmcls.training.losses import Loss, Sampler, ShuffledSampler
from esmcls.training.term_losses import TaskWeights, TermLoss, binary_cross_entropy, group_losses
from esmcls.types import Indices

TASK_RATE: Final = 10.0
"""Times the learning rate: task weights have far to go, from 0 to the logarithm of a sum over classes."""
STEPS: Final = 16
"""Steps an epoch of `small_batches`, at least, where there are as many rows: a small set takes more than one step."""
SLOPES: Final = (0.05, 20.0)
SHIFTS: Final = (-20.0, 20.0)

RowLogits: TypeAlias = Callable[[Indices], Tensor]
"""From row numbers (n,) to a model's logits of those rows (n, classes)."""
Judged: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Logits and targets, both (rows, classes), and ones where a row says something of a group, (rows, groups)."""


@dataclass(frozen=True)
class DescentConfig:
    """Knobs of every head that is trained by descent.

    Parameters
    ----------
    lr : float
        Of AdamW: its peak learning rate. When to change: the loss jumps about (lower it) or still falls
        steadily at the end (raise it, or `epochs`).
    weight_decay : float
        Of AdamW: how much weights shrink a step, times the rate. When to change: training is far ahead of
        validation: raise it tenfold.
    batch : int
        Rows a step. When to change: there are a few hundred rows (less), or a GPU is idle (more).
    epochs : int
        Length of the cosine schedule in passes over the training rows. When to change: the best epoch on
        validation is the last: raise it.
    patience : int
        Epochs without a better score on validation before training stops; 0 for never. When to change:
        validation is small and its score jumps about: raise it.
    stop : int, optional
        Epochs after which training stops: the best on validation. When to change: there is no validation part,
        or a run is to be repeated to the same epoch.
    """

    lr: float = 1e-3
    weight_decay: float = 0.01
    batch: int = 128
    epochs: int = 20
    patience: int = 4
    stop: int | None = None


DESCENT_RANGES: Final[Ranges] = {"lr": (0, 1e3), "weight_decay": (0, 1e3), "batch": (1, 1e6), "patience": (0, 1e6)}
"""Of the knobs of descent that most heads bound alike."""


def small_batches(rows: int, batch: int, seed: int) -> ShuffledSampler:
    """Return batches of so many rows, of fewer where an epoch would have too few steps."""
    return ShuffledSampler(rows, max(1, min(batch, rows // STEPS)), seed)


def linear_layer(width: int, n_classes: int, device: str) -> nn.Linear:
    """Return a layer that is yet to be filled: drawing its weights would move the caller's random generator."""
    layer = nn.Linear(width, n_classes, device="meta")
    # not by `skip_init`, whose `to_empty` loads sympy, half a second
    layer.weight = nn.Parameter(torch.empty(n_classes, width, device=device))
    layer.bias = nn.Parameter(torch.empty(n_classes, device=device))
    return layer


class BaseDescent:
    """AdamW on mini-batches; a batch is a function of seed and step.

    Parameters
    ----------
    model : Module
    sampler : Sampler
    knobs : DescentConfig
    groups : list of dict, optional
        Of parameters, where not all are trained alike.

    Attributes
    ----------
    measure : callable, optional
        Gives the score on held rows, higher is better; without it there is nothing to validate on.
    """

    def __init__(
        self,
        model: nn.Module,
        sampler: Sampler,
        knobs: DescentConfig,
        groups: list[dict[str, Any]] | None = None,
    ) -> None:
        self.model = model
        self.sampler = sampler
        # fused: one pass over weights, gradients and moments instead of a dozen
        self.adamw = torch.optim.AdamW(
            groups or model.parameters(), lr=knobs.lr, weight_decay=knobs.weight_decay, fused=True
        )
        self.optimizers: Sequence[torch.optim.Optimizer] = [self.adamw]
        self.measure: Callable[[], float] | None = None

    def validate(self) -> float | None:
        """Return the score that `measure` gives, where there is something to measure on."""
        return None if self.measure is None else self.measure()


class RowDescent(BaseDescent, ABC):
    """Descent on rows by their logits; see `BaseDescent`.

    Parameters
    ----------
    logits : RowLogits
    """

    def __init__(
        self,
        model: nn.Module,
        logits: RowLogits,
        sampler: Sampler,
        knobs: DescentConfig,
        groups: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(model, sampler, knobs, groups)
        self.logits = logits

    @abstractmethod
    def loss(self, step: int) -> tuple[Tensor, Entry]:
        """Return the loss of a batch, and what to log besides."""


class Descent(RowDescent):
    """Descent on one label a row; see `RowDescent`.

    Parameters
    ----------
    codes : int64 array, (rows,)
        The class of each row to fit on.
    cost : Loss
    device : str
    """

    def __init__(
        self,
        model: nn.Module,
        logits: RowLogits,
        codes: Indices,
        cost: Loss,
        sampler: Sampler,
        knobs: DescentConfig,
        device: str = "cpu",
    ) -> None:
        super().__init__(model, logits, sampler, knobs)
        self.codes = torch.from_numpy(codes).to(device)
        self.cost = cost

    def loss(self, step: int) -> tuple[Tensor, Entry]:
        """Return the loss of a batch."""
        rows = self.sampler.rows(step)
        codes = self.codes[torch.from_numpy(rows).to(self.codes.device)]
        return self.cost(self.logits(rows), codes), {}


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


class TermDescent(RowDescent):
    """Descent on many labels a row; see `RowDescent`.

    Parameters
    ----------
    labels : LabelSets
        Of all rows.
    cost : TermLoss
    members, known : float tensors, (classes, groups) and (rows, groups)
        See `esmcls.training.term_losses.group_losses`.
    seed : int
        Of the order of rows.
    tasks : TaskWeights, optional
        A part of `model` that weighs the groups; without it all count alike.
    """

    def __init__(
        self,
        model: nn.Module,
        logits: RowLogits,
        labels: LabelSets,
        cost: TermLoss,
        members: Tensor,
        known: Tensor,
        knobs: DescentConfig,
        seed: int,
        tasks: TaskWeights | None = None,
    ) -> None:
        sampler = small_batches(len(labels), knobs.batch, seed)
        super().__init__(model, logits, sampler, knobs, None if tasks is None else _parameter_groups(model, tasks))
        self.labels = labels
        self.cost = cost
        self.members = members
        self.known = known
        self.tasks = tasks
        if tasks is not None:
            self.adamw.register_step_post_hook(lambda *_: tasks.clamp())

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


def _parameter_groups(model: nn.Module, tasks: TaskWeights) -> list[dict[str, Any]]:
    """Return the parameters of a model in two groups: task weights are trained faster, and not decayed."""
    weights = list(tasks.parameters())
    others = [parameter for parameter in model.parameters() if not any(parameter is weight for weight in weights)]
    return [{"params": others}, {"params": weights, "lr_scale": TASK_RATE, "weight_decay": 0.0}]


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
    from scipy.optimize import minimize

    def surprise(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        knobs = torch.tensor(parameters, requires_grad=True)
        total = 0.0
        for logits, targets, known in blocks:
            scaled = knobs[0].to(logits) * logits + knobs[1].to(logits)
            loss = group_losses(binary_cross_entropy(scaled, targets), members, known).sum() * len(logits)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        assert knobs.grad is not None
        return total, knobs.grad.numpy()

    best = minimize(surprise, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=(SLOPES, SHIFTS))
    return float(best.x[0]), float(best.x[1])
