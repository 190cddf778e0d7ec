"""Losses for many labels of many, where each pair of a protein and a class is a yes or no of its own.

A loss gives one number a pair, (rows, classes). Training lowers the mean over rows of the sum over classes: AdamW
divides by a gradient's size, but for an epsilon that the gradients of rare classes would sink below if they were
divided by 26,000 classes, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esmcls.errors import UnknownNameError, UsageError
from esmcls.types import Indices

TermLossName: TypeAlias = Literal["bce", "weighted", "focal", "asymmetric"]
TermLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From logits and targets, both (rows, classes), to the loss of each pair, (rows, classes)."""
LEAST_PROBABILITY = 1e-12
"""At 0 the slope of a power below 1 is infinite."""


class LossKnobs(Protocol):
    """The settings of a head's configuration that decide its loss."""

    @property
    def loss(self) -> TermLossName: ...
    @property
    def cap(self) -> float: ...
    @property
    def alpha(self) -> float: ...
    @property
    def gamma(self) -> float: ...
    @property
    def gamma_positive(self) -> float: ...
    @property
    def gamma_negative(self) -> float: ...
    @property
    def clip(self) -> float: ...


@dataclass(frozen=True)
class PositiveWeights:
    """The weight of a protein that has a class, against one that has not.

    Parameters
    ----------
    values : float32 array, (classes,)
    capped : int
        Classes whose weight the cap lowered.
    """

    values: npt.NDArray[np.float32]
    capped: int = 0


def positive_weights(counts: Indices, rows: int | Indices, cap: float = 0.0) -> PositiveWeights:
    """Return the weight of each class's positives: neg / (pos + 1).

    Parameters
    ----------
    counts : int64 array, (classes,)
        Training proteins that have each class.
    rows : int or int64 array, (classes,)
        Those that have it or have it not.
    cap : float
        Largest weight; 0 for none.

    Raises
    ------
    UsageError
        If `cap` is neither 0 nor at least 1.

    Examples
    --------
    >>> weights = positive_weights(np.array([1, 9, 49]), 99, cap=20)
    >>> weights.values.tolist(), weights.capped
    ([20.0, 9.0, 1.0], 1)
    """
    if cap and not cap >= 1:
        raise UsageError(f"cap {cap} on the weights of positives: not at least 1; give 0 for none")
    weights = (rows - counts) / (counts + 1)
    limit = cap or np.inf
    return PositiveWeights(np.minimum(weights, limit).astype(np.float32), int((weights > limit).sum()))


def binary_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return -log p of what is so, p being the sigmoid of the logit; that of a positive times its class's weight.

    Parameters
    ----------
    logits : float tensor, (rows, classes)
    targets : bool or float tensor, (rows, classes)
    weights : float tensor, (classes,), optional
        From `positive_weights`.

    Returns
    -------
    float tensor, (rows, classes)

    Examples
    --------
    >>> binary_cross_entropy(torch.zeros(1, 2), torch.tensor([[True, False]]), torch.tensor([3.0, 3.0]))
    tensor([[2.0794, 0.6931]])
    """
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), pos_weight=weights, reduction="none")


def binary_focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.5, gamma: float = 2.0) -> Tensor:
    """Return -a (1 - p)^gamma log p of what is so, where a is alpha for a positive and 1 - alpha for a negative.

    Lin et al. 2017 (arXiv:1708.02002), equation 5. With gamma 0 and alpha 0.5 it is half the cross-entropy.

    Parameters
    ----------
    logits : float tensor, (rows, classes)
    targets : bool or float tensor, (rows, classes)
        0 or 1.
    alpha : float
        0 to 1.
    gamma : float
        At least 0.

    Returns
    -------
    float tensor, (rows, classes)

    Examples
    --------
    >>> binary_focal_loss(torch.zeros(1, 2), torch.tensor([[True, False]]), alpha=0.25, gamma=1.0)
    tensor([[0.0866, 0.2599]])
    """
    signed = torch.where(targets > 0, logits, -logits)  # the logit of what is so
    missing = torch.exp(-gamma * F.softplus(signed))  # (1 - p)^gamma
    return torch.where(targets > 0, alpha, 1 - alpha) * missing * F.softplus(-signed)


def asymmetric_loss(
    logits: Tensor, targets: Tensor, gamma_positive: float = 0.0, gamma_negative: float = 4.0, clip: float = 0.05
) -> Tensor:
    """Return a focal loss that is stricter with negatives, and forgets those that are less probable than `clip`.

    Ridnik et al. 2021 (arXiv:2009.14119), equation 7: -(1 - p)^gamma_positive log p of a positive, and
    -q^gamma_negative log(1 - q) of a negative, with q = max(p - clip, 0). With all three 0 it is the cross-entropy.

    Parameters
    ----------
    logits : float tensor, (rows, classes)
    targets : bool or float tensor, (rows, classes)
        0 or 1.
    gamma_positive, gamma_negative : float
        At least 0.
    clip : float
        From 0 to below 1.

    Returns
    -------
    float tensor, (rows, classes)

    Examples
    --------
    >>> asymmetric_loss(torch.zeros(1, 2), torch.tensor([[True, False]]), 0.0, 1.0, clip=0.1)
    tensor([[0.6931, 0.2043]])
    """
    positive = F.softplus(-logits) * torch.exp(-gamma_positive * F.softplus(logits))
    shifted = (logits.sigmoid() - clip).clamp(min=LEAST_PROBABILITY)
    surprise = -torch.log1p(-shifted) if clip else F.softplus(logits)
    return torch.where(targets > 0, positive, surprise * shifted**gamma_negative)


def make_term_loss(
    knobs: LossKnobs, counts: Indices, rows: int | Indices, device: str = "cpu"
) -> tuple[TermLoss, PositiveWeights | None]:
    """Return a loss with all knobs filled in, and the weights it gives to positives, where it does.

    Parameters
    ----------
    knobs : LossKnobs
    counts : int64 array, (classes,)
        Training proteins that have each class.
    rows : int or int64 array, (classes,)
        Those that have it or have it not.
    device : str

    Raises
    ------
    UnknownNameError
        If there is no such loss.
    """
    if knobs.loss == "bce":
        return binary_cross_entropy, None
    if knobs.loss == "weighted":
        weights = positive_weights(counts, rows, knobs.cap)
        return partial(binary_cross_entropy, weights=torch.from_numpy(weights.values).to(device)), weights
    if knobs.loss == "focal":
        return partial(binary_focal_loss, alpha=knobs.alpha, gamma=knobs.gamma), None
    if knobs.loss == "asymmetric":
        return partial(
            asymmetric_loss,
            gamma_positive=knobs.gamma_positive,
            gamma_negative=knobs.gamma_negative,
            clip=knobs.clip,
        ), None
    raise UnknownNameError("loss", knobs.loss, get_args(TermLossName))


def group_losses(losses: Tensor, members: Tensor, known: Tensor) -> Tensor:
    """Return what each group of classes adds: the mean over rows of the sum over its classes.

    Parameters
    ----------
    losses : float tensor, (rows, classes)
    members : float tensor, (classes, groups)
        1 where a class is of a group.
    known : float tensor, (rows, groups)
        0 where a row says nothing of a group; it counts among the rows all the same.

    Returns
    -------
    float tensor, (groups,)

    Examples
    --------
    >>> members, known = torch.tensor([[1.0, 0], [1, 0], [0, 1]]), torch.tensor([[1.0, 1], [1, 0]])
    >>> group_losses(torch.tensor([[1.0, 2, 3], [5, 6, 7]]), members, known)
    tensor([7.0000, 1.5000])
    """
    return ((losses @ members) * known).mean(0)


class TaskWeights(nn.Module):
    """Weights of several losses that are learned with the rest: the sum of exp(-s) L + s / 2, s = log sigma^2.

    Kendall et al. 2018 (arXiv:1705.07115), equation 10; a loss that stays large comes to count less.

    Parameters
    ----------
    tasks : int
    limit : float
        Largest s, and minus the least: see `clamp`.

    Examples
    --------
    >>> TaskWeights(2)(torch.tensor([1.0, 2.0]))
    tensor(3., grad_fn=<SumBackward0>)
    """

    def __init__(self, tasks: int, limit: float = 8.0) -> None:
        super().__init__()
        self.limit = limit
        self.log_variances = nn.Parameter(torch.zeros(tasks))

    def forward(self, losses: Tensor) -> Tensor:
        """Return the weighted sum of losses (tasks,)."""
        return (torch.exp(-self.log_variances) * losses + self.log_variances / 2).sum()

    def clamp(self) -> None:
        """Bring s back between its limits, to be called after each step: clamped in `forward`, it could not return."""
        with torch.no_grad():
            self.log_variances.clamp_(-self.limit, self.limit)
