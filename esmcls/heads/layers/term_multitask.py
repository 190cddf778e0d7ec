"""The multi-task head: a trunk that all groups of classes (aspects) share, an output layer a group, learned weights.

vectors ─▶ 1024 ─▶ 512 ─┬▶ classes of C ─▶ loss x exp(-s_C)
                        ├▶ classes of F ─▶ loss x exp(-s_F)
                        └▶ classes of P ─▶ loss x exp(-s_P)

The output layers lie in one matrix, a row a class, in the order of the classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from torch import Tensor, nn
from torch.nn import functional as F

from esmcls.heads.layers.network import Network, filled, seeded, shape_in
from esmcls.heads.layers.trained import HiddenConfig, TermNetworkConfig, TermNetworkHead
from esmcls.heads.settings import Ranges, check_ranges
from esmcls.training.term_losses import TaskWeights

_RANGES: Final[Ranges] = {"hidden": (1, 1e6), "shared": (1, 1e6), "limit": (0, 80)}


@dataclass(frozen=True)
class TermMultitaskConfig(HiddenConfig, TermNetworkConfig):
    """Knobs of the multi-task head besides those of `esmcls.heads.layers.trained`.

    Parameters
    ----------
    hidden : int
        Width of the trunk's first hidden layer. When to change: there are many rows (wider), or few (narrower,
        such as 256).
    shared : int
        Width of the trunk's second hidden layer, which all groups read. When to change: there are many thousand
        classes (wider), or few.
    norm : {"none", "layer", "batch"}
        What stands between the first hidden layer and its ReLU. When to change: training is unstable: try
        layer.
    limit : float
        Largest size of the logarithm of a group's variance: its weight stays from exp(-limit) to exp(limit).
        When to change: one aspect is neglected on validation: lower it, to 1 or 2.
    """

    dropout: float = 0.3
    hidden: int = 1024
    shared: int = 512
    limit: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, _RANGES)

    @property
    def depth(self) -> int:
        """Layers of the trunk before its last."""
        return 1


class Tasks(nn.Module):
    """The trunk, the output layers and the weights of the groups."""

    def __init__(self, width: int, n_classes: int, n_groups: int, knobs: TermMultitaskConfig) -> None:
        super().__init__()
        self.trunk = Network(width, knobs.shared, knobs)
        self.dropout = nn.Dropout(knobs.dropout)
        self.out = nn.Linear(knobs.shared, n_classes)
        self.tasks = TaskWeights(n_groups, knobs.limit)

    def forward(self, block: Tensor, counts: Tensor) -> Tensor:
        """Return logits (rows, classes) of vectors (vectors, width) and their counts (rows,)."""
        logits: Tensor = self.out(self.dropout(F.relu(self.trunk(block, counts))))
        return logits


class TermMultitaskHead(TermNetworkHead):
    """A perceptron whose groups of classes weigh in its loss by what they are found to be worth.

    Examples
    --------
    >>> import numpy as np
    >>> from esmcls.cache.features import Features
    >>> from esmcls.labels.labels import LabelSets
    >>> x = Features.from_arrays(np.array([[0, 1], [0, 2], [5, 1], [5, 2]] * 5, dtype=np.float32))
    >>> labels = LabelSets.from_names([["a", "d"], ["a", "c"], ["b", "d"], ["b", "c"]] * 5, "abcd", "CCFF")
    >>> (TermMultitaskHead().fit(x, labels).predict_proba(x.take(range(2))) > 0.5).tolist()
    [[True, False, False, True], [True, False, True, False]]
    """

    Config: ClassVar[type[TermMultitaskConfig]] = TermMultitaskConfig
    file: ClassVar[str] = "multitask.safetensors"
    config: TermMultitaskConfig
    chosen: TermMultitaskConfig
    network: Tasks

    def _drawn(self, width: int, seed: int) -> Tasks:
        with seeded(seed):
            return Tasks(width, len(self.classes), len(self.grouping.names), self.config)

    @property
    def _trunk(self) -> Network:
        return self.network.trunk

    def _task_weights(self) -> TaskWeights:
        return self.network.tasks

    def _of_state(self, state: dict[str, Tensor]) -> Tasks:
        [width] = shape_in(state, "trunk.mean", 1)
        [n_classes, _] = shape_in(state, "out.weight", 2)
        [n_groups] = shape_in(state, "tasks.log_variances", 1)
        return filled(lambda: Tasks(width, n_classes, n_groups, self.config), state)
