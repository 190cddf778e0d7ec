"""The MLP head for numbers: hidden layers on scaled rows, trained on standardised numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch
from torch import Tensor, nn

from esmcls.cache.features import Features
from esmcls.heads.base import BaseNumberHead, Log
from esmcls.heads.layers.descent import DescentConfig, RowDescent, RowLogits, small_batches
from esmcls.heads.layers.network import Bags, Network
from esmcls.heads.layers.trained import HIDDEN_RANGES, HeldBags, HiddenConfig, NetworkConfig, NetworkHead
from esmcls.heads.number_scale import NumberScale, held_scores, squared_error
from esmcls.heads.settings import check_ranges
from esmcls.heads.whitening import WithinClass
from esmcls.labels.numbers import Numbers
from esmcls.training.loop import Entry
from esmcls.training.losses import NumberLossName, make_number_loss
from esmcls.training.schedule import TrainingPlan
from esmcls.types import Floats, Vectors

ROWS: Final = 4096
"""Rows that are asked about at a time."""


@dataclass(frozen=True)
class NumberMLPConfig(HiddenConfig, NetworkConfig):
    """Knobs of the MLP head besides those of `HiddenConfig` and `NetworkConfig`; None is chosen on validation.

    Parameters
    ----------
    whiten : bool
        Whiten the vectors by their covariance and bring them to one length; else standardise the columns. When
        to change: validation says that it is better.
    shrinkage : float
        Of that covariance towards a multiple of the identity, 0 to 1. When to change: there are fewer training
        rows than numbers in a vector: then raise it to .3.
    hidden : int
        Width of the hidden layers. When to change: there are many rows (wider), or a few hundred (narrower).
    depth : int
        Number of the hidden layers; without any it is linear regression. When to change: one layer is not enough
        on validation; more than two seldom gain anything on frozen vectors.
    loss : {"mse", "huber"}
        What training lowers: the squared error, or one that grows with the error itself beyond a deviation
        (huber). When to change: some values are far off all others, or wrong: huber.
    batch : int
        Rows a step; fewer where an epoch would have less than 16 steps. When to change: there are a few hundred
        rows (less), or a GPU is idle (more).
    patience : int
        Epochs without a lower squared error on validation before training stops; 0 for never. When to change:
        validation is small and its error jumps about: raise it.
    pooling : str
        The pooled vectors to take, where attention is not asked for. When to change: the cache was embedded with
        another --pool, such as cls or max, and validation says that it is better.
    """

    whiten: bool = False
    shrinkage: float = 0.1
    depth: int = 1
    dropout: float = 0.3
    loss: NumberLossName = "mse"
    batch: int = 64
    epochs: int = 60
    patience: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, {**HIDDEN_RANGES, "epochs": (1, 1e6), "stop": (0, 1e6)})


class NumberDescent(RowDescent):
    """Descent on a number a row; see `RowDescent`.

    Parameters
    ----------
    targets : float32 tensor, (rows,)
        Standardised.
    loss_name : {"mse", "huber"}
    """

    def __init__(
        self,
        model: nn.Module,
        outputs: RowLogits,
        targets: Tensor,
        knobs: DescentConfig,
        loss_name: NumberLossName,
        seed: int,
    ) -> None:
        super().__init__(model, outputs, small_batches(len(targets), knobs.batch, seed), knobs)
        self.targets = targets
        self.cost = make_number_loss(loss_name)

    def loss(self, step: int) -> tuple[Tensor, Entry]:
        """Return the loss of a batch."""
        rows = self.sampler.rows(step)
        targets = self.targets[torch.from_numpy(rows).to(self.targets.device)]
        return self.cost(self.logits(rows)[:, 0], targets), {}


class NumberMLPHead(NetworkHead[Numbers], BaseNumberHead):
    """A multi-layer perceptron with one output, the number.

    Examples
    --------
    >>> x = Features.from_arrays(np.array([[0, 1], [0, 2], [5, 1], [5, 2]] * 5, dtype=np.float32))
    >>> head = NumberMLPHead().fit(x, Numbers(np.array([1.0, 1.0, 7.0, 7.0] * 5)))
    >>> (head.predict(x.take(range(4))) > 4).tolist()
    [False, False, True, True]
    """

    Config: ClassVar[type[NumberMLPConfig]] = NumberMLPConfig
    config: NumberMLPConfig
    chosen: NumberMLPConfig
    file: ClassVar[str] = "mlp.safetensors"
    network: Network
    scale: NumberScale

    @property
    def _outputs(self) -> int:
        return 1

    def _train(self, bags: Bags, labels: Numbers, held: HeldBags[Numbers] | None, seed: int, log: Log | None) -> None:
        self.scale = NumberScale.of(labels)
        super()._train(bags, labels, held, seed, log)

    def _within(self, vectors: Vectors, labels: Numbers) -> WithinClass:
        return WithinClass.of_all(vectors)

    def _descent(self, bags: Bags, labels: Numbers, seed: int, log: Log | None) -> NumberDescent:
        targets = torch.from_numpy(self.scale.standardised(labels.values)).float().to(self.device)
        return NumberDescent(self.network, self._outputs_of(bags), targets, self.chosen, self.chosen.loss, seed)

    def _plan(self, epoch: int, seed: int) -> TrainingPlan:
        return TrainingPlan(self.chosen.epochs * epoch, self.chosen.lr, warmup=epoch // 2, seed=seed)

    def _measured(self, held: HeldBags[Numbers], descent: NumberDescent) -> float:
        return -squared_error(held[1], self._predicted(held[0]))

    def _judge(self, held: HeldBags[Numbers]) -> None:
        self.scores = held_scores(held[1], self._predicted(held[0]))

    def _predicted(self, bags: Bags) -> Floats:
        answers = np.zeros(len(bags))
        outputs = self._outputs_of(bags)
        for rows in bags.blocks(ROWS):
            with torch.inference_mode():
                answers[rows] = outputs(rows)[:, 0].cpu().double().numpy()
        return self.scale.restored(answers)

    def predict(self, x: Features) -> Floats:
        """Return the number of each row, (n,)."""
        return self._predicted(self._checked(x))

    def save(self, folder: Path) -> None:
        """Write the state of the network as safetensors, and `scale.safetensors`."""
        super().save(folder)
        self.scale.save(folder)

    def _restore(self, folder: Path) -> None:
        super()._restore(folder)
        self.scale = NumberScale.load(folder)
