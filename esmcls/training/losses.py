"""Losses and samplers for classes of very different size: weights, focal loss, logit adjustment, balanced batches.

All of them answer to the number of training members of each class. A loss is a mean over rows and never divided by the
weights of a batch, so that a row counts the same whatever its batch is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.errors import UnknownNameError, UsageError
from esmcls.types import Indices

Weighting: TypeAlias = Literal["none", "balanced", "sqrt", "effective-number"]
LossName: TypeAlias = Literal["ce", "focal", "logit-adjusted"]
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From logits (n, classes) and codes (n,) to a number."""
NumberLossName: TypeAlias = Literal["mse", "huber"]
NumberLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From predicted and true numbers, both standardised (n,), to their mean loss."""


@dataclass(frozen=True)
class ClassWeights:
    """The weight of a row of each class.

    Parameters
    ----------
    values : float32 array, (classes,)
        Of mean 1 over the training rows.
    capped : int
        Classes with members whose weight the cap lowered.
    """

    values: npt.NDArray[np.float32]
    capped: int = 0


def class_weights(counts: Indices, how: Weighting, *, beta: float = 0.999, cap: float = 0.0) -> ClassWeights:
    """Return the weight of a row of each class by the number n of its members.

    Parameters
    ----------
    counts : int64 array, (classes,)
        Training members; a class without any is weighted as one with a single member.
    how : {"none", "balanced", "sqrt", "effective-number"}
        1, 1 / n, 1 / sqrt(n) or (1 - beta) / (1 - beta^n): Cui et al. 2019 (arXiv:1901.05555), equation 4.
    beta : float
        0 is "none", towards 1 it becomes "balanced".
    cap : float
        Largest ratio to the median weight of the classes that have members; 0 for none. Against the median, unlike
        against the least weight, no more than half of these classes can be capped, however large the largest is.

    Returns
    -------
    ClassWeights

    Raises
    ------
    UnknownNameError
        If there is no such weighting.
    UsageError
        If `beta` or `cap` is out of its range.

    Examples
    --------
    >>> class_weights(np.array([1, 3]), "balanced").values.tolist()
    [2.0, 0.6666666865348816]
    >>> class_weights(np.array([1, 100, 100, 10_000]), "balanced", cap=10).capped
    1
    """
    weights = _uncapped(counts, how, beta)
    capped = 0
    if cap:
        if not cap >= 1:
            raise UsageError(f"cap {cap} on class weights: not at least 1; give 0 for none")
        present = weights[counts > 0]
        limit = cap * np.median(present) if len(present) else np.inf
        capped = int((present > limit).sum())
        weights = np.minimum(weights, limit)
    scaled = weights * counts.sum() / (weights * counts).sum()
    return ClassWeights(np.asarray(scaled, dtype=np.float32), capped)


def _uncapped(counts: Indices, how: Weighting, beta: float) -> npt.NDArray[np.float64]:
    members = np.maximum(counts, 1).astype(np.float64)
    if how == "effective-number":
        if not 0 <= beta < 1:
            raise UsageError(f"beta {beta} of class weights: not from 0 to below 1; choose one such as 0.999")
        return np.asarray((1 - beta) / (1 - beta**members))
    powers = {"none": 0.0, "sqrt": -0.5, "balanced": -1.0}
    if how not in powers:
        raise UnknownNameError("class weighting", how, get_args(Weighting))
    return np.asarray(members ** powers[how])


def cross_entropy(logits: Tensor, codes: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Return the mean of the rows' cross-entropies, each times the weight of its class.

    Parameters
    ----------
    logits : float tensor, (n, classes)
    codes : int64 tensor, (n,)
    weights : float tensor, (classes,), optional
    smoothing : float
        Share of a label's mass that is spread over all classes.
    """
    return _mean(F.cross_entropy(logits, codes, label_smoothing=smoothing, reduction="none"), codes, weights)


def focal_loss(logits: Tensor, codes: Tensor, weights: Tensor | None = None, gamma: float = 2.0) -> Tensor:
    """Return the mean of -(1 - p)^gamma log p, where p is the softmax probability of a row's own class.

    Lin et al. 2017 (arXiv:1708.02002), equation 4, with a softmax in place of the sigmoid; their alpha is `weights`.
    With `gamma` 0 it is `cross_entropy`; the larger, the less a row counts that is answered well already.

    Parameters
    ----------
    logits : float tensor, (n, classes)
    codes : int64 tensor, (n,)
    weights : float tensor, (classes,), optional
    gamma : float
        At least 0.

    Examples
    --------
    >>> logits = torch.tensor([[0.9, 0.1]]).log()
    >>> round(float(focal_loss(logits, torch.tensor([0])) / cross_entropy(logits, torch.tensor([0]))), 4)
    0.01
    """
    surprise = F.cross_entropy(logits, codes, reduction="none")  # -log p
    missing = (-torch.expm1(-surprise)).clamp(min=1e-12)  # 1 - p; at 0 the slope of a power below 1 is infinite
    return _mean(missing**gamma * surprise, codes, weights)


def log_prior(counts: Indices) -> Tensor:
    """Return the logarithm of each class's share of the rows, float32 (classes,); no members count as one."""
    members = np.maximum(counts, 1).astype(np.float64)
    return torch.from_numpy(np.log(members / members.sum())).float()


def logit_adjusted(
    logits: Tensor, codes: Tensor, prior: Tensor, weights: Tensor | None = None, tau: float = 1.0
) -> Tensor:
    """Return the cross-entropy of logits plus tau times the log prior: rare classes must win by a margin.

    Menon et al. 2021 (arXiv:2007.07314), equation 10. The model is meant to be used without the prior: its
    largest logit then has the least balanced error for `tau` 1. With `tau` 0 it is `cross_entropy`.

    Parameters
    ----------
    logits : float tensor, (n, classes)
    codes : int64 tensor, (n,)
    prior : float tensor, (classes,)
        From `log_prior`.
    weights : float tensor, (classes,), optional
    tau : float
    """
    return cross_entropy(logits + tau * prior, codes, weights)


def make_loss(
    kind: LossName,
    counts: Indices,
    weights: npt.NDArray[np.float32] | None = None,
    *,
    gamma: float = 2.0,
    tau: float = 1.0,
    device: str = "cpu",
) -> Loss:
    """Return a loss of logits (n, classes) and codes (n,) with all else filled in.

    Parameters
    ----------
    kind : {"ce", "focal", "logit-adjusted"}
    counts : int64 array, (classes,)
        Training members.
    weights : float32 array, (classes,), optional
        From `class_weights`.
    gamma, tau : float
        Of `focal_loss` and of `logit_adjusted`.

    Raises
    ------
    UnknownNameError
        If there is no such loss.
    """
    factors = None if weights is None else torch.from_numpy(weights).to(device)
    if kind == "ce":
        return partial(cross_entropy, weights=factors)
    if kind == "focal":
        return partial(focal_loss, weights=factors, gamma=gamma)
    if kind == "logit-adjusted":
        return partial(logit_adjusted, prior=log_prior(counts).to(device), weights=factors, tau=tau)
    raise UnknownNameError("loss", kind, get_args(LossName))


def make_number_loss(kind: NumberLossName) -> NumberLoss:
    """Return a loss of predicted numbers (n,) and true ones (n,), both in deviations of the training numbers.

    Parameters
    ----------
    kind : {"mse", "huber"}
        The squared error, or half of it up to a deviation and beyond growing with the error itself (Huber 1964).

    Raises
    ------
    UnknownNameError
        If there is no such loss.
    """
    if kind == "mse":
        return F.mse_loss
    if kind == "huber":
        return partial(F.huber_loss, delta=1.0)
    raise UnknownNameError("loss", kind, get_args(NumberLossName))


def _mean(losses: Tensor, codes: Tensor, weights: Tensor | None) -> Tensor:
    return losses.mean() if weights is None else (losses * weights[codes]).mean()


class Sampler(Protocol):
    """Draws the rows of each step from its seed and the step alone, so that nothing has to be remembered."""

    @property
    def steps_an_epoch(self) -> int:
        """Steps that take as many rows as there are."""
        ...

    def rows(self, step: int) -> Indices:
        """Return the row numbers of the batch of `step` (0-based), int64 (at most the batch,)."""
        ...


class ShuffledSampler:
    """Every row once an epoch, in an order of its own; the last batch of an epoch may be smaller.

    Examples
    --------
    >>> shuffled = ShuffledSampler(5, batch=2, seed=0)
    >>> sorted(row for step in range(3) for row in shuffled.rows(step).tolist())
    [0, 1, 2, 3, 4]
    """

    def __init__(self, n: int, batch: int, seed: int) -> None:
        self.n = n
        self.batch = batch
        self.seed = seed
        self.steps_an_epoch = -(-n // batch)
        self._epoch = -1  # asked for last; its order is not drawn twice
        self._order = np.zeros(0, dtype=np.int64)

    def rows(self, step: int) -> Indices:
        """Return the row numbers of a step's batch."""
        epoch, place = divmod(step, self.steps_an_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.n)
        return self._order[place * self.batch : (place + 1) * self.batch]


class BalancedSampler:
    """Every class equally often, and each member of a class once before any of them comes again.

    Rows are drawn in rounds: each class takes as many turns in a round as make the round no smaller than a batch, in
    an order of the round's own. A class's members take their turns in one shuffled order, round after round.

    Parameters
    ----------
    codes : int64 array, (n,)
        The class of each row; a class without rows has no turn.
    batch : int
        Rows a step, always all of them.
    seed : int

    Examples
    --------
    >>> codes = np.array([0] * 97 + [1] * 2 + [2])
    >>> np.bincount(codes[BalancedSampler(codes, batch=30, seed=0).rows(step=7)]).tolist()
    [10, 10, 10]
    """

    def __init__(self, codes: Indices, batch: int, seed: int) -> None:
        self.batch = batch
        self.seed = seed
        self.steps_an_epoch = -(-len(codes) // batch)
        shuffled = np.random.default_rng([seed]).permutation(len(codes))
        self._rows = shuffled[np.argsort(codes[shuffled], kind="stable")]  # class by class
        _, self._first, self._members = np.unique(codes[self._rows], return_index=True, return_counts=True)
        self._turns = -(-batch // len(self._first))  # of a class in a round
        self._number = -1  # of the round asked for last, which is not drawn twice
        self._round = np.zeros(0, dtype=np.int64)

    def rows(self, step: int) -> Indices:
        """Return the row numbers of a step's batch."""
        size = self._turns * len(self._first)
        start = step * self.batch
        first = start // size
        last = (start + self.batch - 1) // size
        drawn = np.concatenate([self._draw(number) for number in range(first, last + 1)])
        return drawn[start - first * size :][: self.batch]

    def _draw(self, number: int) -> Indices:
        """Return the rows of a round (turns x classes,)."""
        if number != self._number:
            n_classes = len(self._first)
            random = np.random.default_rng([self.seed, number, 1])
            classes = random.permutation(np.tile(np.arange(n_classes), self._turns))
            visits = np.zeros_like(classes)
            visits[np.argsort(classes, kind="stable")] = np.tile(np.arange(self._turns), n_classes)
            visits += number * self._turns
            self._number = number
            self._round = self._rows[self._first[classes] + visits % self._members[classes]]
        return self._round
