"""The trained heads for residues: linear, a multi-layer perceptron, and a small convolution along the sequence."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from esmcls.cache.features import Features
from esmcls.heads.contract import Log, Validation
from esmcls.heads.residues.base import scores_of
from esmcls.heads.residues.network import Shape
from esmcls.heads.residues.trained import TrainedConfig, TrainedResidueHead, batch_of, check_kernel
from esmcls.heads.settings import AT_LEAST_0, Ranges, check_ranges
from esmcls.labels.residue_labels import ResidueNumbers, Targets
from esmcls.types import Floats

if TYPE_CHECKING:
    from typing_extensions import Self

_HIDDEN_RANGES: Final[Ranges] = {"hidden": (1, 1e6), "depth": (1, 100), "dropout": (0, 0.999)}
PENALTIES: Final = tuple(10.0**power for power in range(-6, 2))
"""Choices for the penalty of the linear head on numbers, times the residues."""


@dataclass(frozen=True)
class LinearConfig(TrainedConfig):
    """Knobs of the linear head besides those of `TrainedConfig`, which numbers do not need.

    Parameters
    ----------
    penalty : float, optional
        On numbers: the ridge penalty, times the residues; the best on validation. When to change: a fit is to be
        repeated with what another chose.
    """

    penalty: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, {"penalty": AT_LEAST_0})


@dataclass(frozen=True)
class MLPConfig(TrainedConfig):
    """Knobs of the MLP head besides those of `TrainedConfig`.

    Parameters
    ----------
    hidden : int
        Width of the hidden layers. When to change: there are millions of residues (wider), or few (narrower).
    depth : int
        Number of the hidden layers. When to change: one layer is not enough on validation.
    dropout : float
        Share of a hidden layer's outputs that is left out in training. When to change: training is far ahead of
        validation: raise it.
    """

    hidden: int = 128
    depth: int = 2
    dropout: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, _HIDDEN_RANGES)


@dataclass(frozen=True)
class ConvConfig(MLPConfig):
    """Knobs of the convolution besides those of `MLPConfig` and `TrainedConfig`.

    Parameters
    ----------
    hidden : int
        Channels of the hidden layers. When to change: there are millions of residues (more), or few (less).
    depth : int
        Number of the hidden layers: the first looks at a residue alone, each later one at its neighbours, too. When
        to change: what decides is farther along the sequence: raise it, or `kernel`.
    kernel : int
        Residues along the sequence that a later layer looks at, odd. When to change: see `depth`.
    """

    hidden: int = 64
    depth: int = 3
    kernel: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, {"kernel": (1, 1001)})
        check_kernel(self.kernel)


class ResidueLinearHead(TrainedResidueHead):
    """Logistic regression on classes of residues; on numbers ridge regression in closed form.

    Either reads the vectors as a stream: of numbers, the products of columns are summed up, (width, width).
    """

    Config: ClassVar[type[LinearConfig]] = LinearConfig
    file: ClassVar[str] = "residue_linear.safetensors"
    config: LinearConfig
    chosen: LinearConfig

    @property
    def shape(self) -> Shape:
        """No hidden layer."""
        return Shape()

    def _train(
        self, x: Features, labels: Targets, held: Validation[Targets] | None, seed: int, log: Log | None
    ) -> None:
        if not isinstance(labels, ResidueNumbers):
            super()._train(x, labels, held, seed, log)
            return
        self._draw(x, labels, seed)
        products, target, mean, n = self._sums(x, labels)
        penalties = PENALTIES if self.chosen.penalty is None else (self.chosen.penalty,)
        if held is None and self.chosen.penalty is None:
            penalties = (1e-3,)
        best = (-np.inf, penalties[0])
        for penalty in penalties if held is not None else ():
            self._solve(products, target, mean, n, penalty)
            reached = scores_of(np.concatenate(list(self.per_protein(held[0]))), held[1]) if held else {}
            best = max(best, (reached["spearman"], penalty))
            if best[1] == penalty:
                self.scores = reached
        self._solve(products, target, mean, n, best[1])
        self.chosen = replace(self.chosen, penalty=best[1], adjust=0.0, stop=self.chosen.stop)

    def _sums(self, x: Features, labels: ResidueNumbers) -> tuple[Floats, Floats, Floats, int]:
        """Return centred XᵀX and XᵀY of standardised known residues, the mean row, and how many residues they are."""
        width, knobs = x.width, self.chosen
        products, target, total, n, sum_of_targets = np.zeros((width, width)), np.zeros(width), np.zeros(width), 0, 0.0
        network = self.network
        for start in range(0, len(x), knobs.batch):
            batch = batch_of(x, labels, np.arange(start, min(start + knobs.batch, len(x))))
            assert batch.values is not None
            rows = ((batch.block[torch.from_numpy(batch.known)] - network.mean.cpu()) / network.scale.cpu()).numpy()
            values = (batch.values[batch.known] - float(network.centre)) / float(network.spread)
            products += (rows.T @ rows).astype(np.float64)
            target += rows.T.astype(np.float64) @ values
            total += rows.sum(0, dtype=np.float64)
            sum_of_targets += float(values.sum())
            n += len(values)
        mean = total / n
        return products - n * np.outer(mean, mean), target - mean * sum_of_targets, mean, n

    def _solve(self, products: Floats, target: Floats, mean: Floats, n: int, penalty: float) -> None:
        """Set the network to the solution of a penalty; the centre of the numbers is theirs, so 0 is their mean."""
        weights = np.linalg.solve(products + penalty * n * np.eye(len(mean)), target)
        with torch.no_grad():
            self.network.out.weight.copy_(torch.from_numpy(weights)[None])
            self.network.out.bias.fill_(-float(weights @ mean))
        self.network.eval().requires_grad_(False)

    def at_zero(self, x: Features, labels: Targets, held: Validation[Targets] | None, seed: int) -> Self:
        """Return the head with a layer of zeros: only the scaling of the vectors is measured, and the scores."""
        self._check(x, labels)
        self._draw(x, labels, seed)
        self.classes = labels.classes
        with torch.no_grad():
            self.network.out.weight.zero_()
            self.network.out.bias.zero_()
        self.network.eval().requires_grad_(False)
        if held is not None:
            self._check_validation(labels, held[1])
            self._judge(held)
        return self

    def continued(self, weight: Tensor, bias: Tensor, mean: Tensor, held: Validation[Targets] | None) -> Self:
        """Return the head with another layer on vectors that are scaled alike, as fine-tuning made it of this one.

        How far rare classes are favoured is chosen, and the scores are measured, on the held proteins.

        Parameters
        ----------
        weight, bias : float32 tensors, (outputs, width) and (outputs,)
        mean : float32 tensor, (width,)
            Subtracted from a vector.
        held : (Features, ResidueLabels or ResidueNumbers), optional
        """
        head = type(self)(replace(self.chosen, adjust=self.config.adjust), self.device)
        head.classes = self.classes
        head.network = deepcopy(self.network)
        if self.classes:
            head.prior = self.prior
        with torch.no_grad():
            head.network.out.weight.copy_(weight)
            head.network.out.bias.copy_(bias)
            head.network.mean.copy_(mean)
        if held is not None:
            head._judge(held)
        return head


class ResidueMLPHead(TrainedResidueHead):
    """A multi-layer perceptron on each residue by itself."""

    Config: ClassVar[type[MLPConfig]] = MLPConfig
    file: ClassVar[str] = "residue_mlp.safetensors"
    config: MLPConfig
    chosen: MLPConfig

    @property
    def shape(self) -> Shape:
        """Hidden layers that look at the residue alone."""
        return Shape(self.config.depth, self.config.hidden, 1, self.config.dropout)


class ResidueConvHead(TrainedResidueHead):
    """A small convolution along the sequence: a residue is answered by its vector and those of its neighbours."""

    Config: ClassVar[type[ConvConfig]] = ConvConfig
    file: ClassVar[str] = "residue_conv.safetensors"
    config: ConvConfig
    chosen: ConvConfig

    @property
    def shape(self) -> Shape:
        """Hidden layers, of which the first looks at the residue alone."""
        return Shape(self.config.depth, self.config.hidden, self.config.kernel, self.config.dropout)
