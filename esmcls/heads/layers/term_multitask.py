"""The multi-task head: a trunk that all groups of classes (aspects) share, an output layer a group, learned weights.

vectors ─▶ 1024 ─▶ 512 ─┬▶ classes of C ─▶ loss x exp(-s_C)
                        ├▶ classes of F ─▶ loss x exp(-s_F)
                        └▶ classes of P ─▶ loss x exp(-s_P)

The output layers lie in one matrix, a row a class, in the order of the classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esmcls.heads.layers.knobs import TrainedConfig, check_ranges
from esmcls.heads.layers.network import Network
from esmcls.heads.layers.term_descent import Grouping
from esmcls.heads.layers.trained import TrainedHead
from esmcls.training.term_losses import TaskWeights

_RANGES: Final = {"hidden": (1, 1e6), "shared": (1, 1e6), "limit": (0, 80)}


@dataclass(frozen=True)
class TermMultitaskConfig(TrainedConfig):
    """Knobs of the multi-task head besides those of `esmcls.heads.layers.knobs.TrainedConfig`.

    Parameters
    ----------
    hidden, shared : int
        Widths of the trunk's two hidden layers.
    norm : {"none", "layer", "batch"}
        What stands between the first hidden layer and its ReLU.
    attention : bool
        Take the vectors of a protein's encoder inputs (`esmcls embed --chunks`) and learn how much each counts; they
        are standardised, not whitened.
    limit : float
        Largest size of the logarithm of a group's variance: its weight stays from exp(-limit) to exp(limit).
    """

    dropout: float = 0.3
    hidden: int = 1024
    shared: int = 512
    norm: Literal["none", "layer", "batch"] = "none"
    attention: bool = False
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


class TermMultitaskHead(TrainedHead):
    """A perceptron whose groups of classes weigh in its loss by what they are found to be worth.

    Examples
    --------
    >>> import numpy as np
    >>> from esmcls.cache.features import Features
    >>> from esmcls.labels.labels import LabelSets
    >>> x = Features.from_arrays(np.array([[0, 1], [0, 2], [5, 1], [5, 2]] * 5, dtype=np.float32))
    >>> labels = LabelSets.from_names([["a", "d"], ["a", "c"], ["b", "d"], ["b", "c"]] * 5, "abcd", "CCFF")
    >>> head = TermMultitaskHead().fit(x, labels)
    >>> (head.predict_proba(x.take(range(2))) > 0.5).tolist(), head.task_weights().keys()
    ([[True, False, False, True], [True, False, True, False]], dict_keys(['C', 'F']))
    """

    Config: ClassVar[type[TrainedConfig]] = TermMultitaskConfig
    file: ClassVar[str] = "multitask.safetensors"

    def task_weights(self) -> dict[str, float]:
        """Return the weight of each group's loss, exp(-s)."""
        names = Grouping.of(len(self.classes), self.groups).names
        weights = torch.exp(-self.network.tasks.log_variances.detach()).tolist()
        return dict(zip(names, weights, strict=True))

    def _network(self, width: int, seed: int) -> Tasks:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return Tasks(width, len(self.classes), len(self.grouping.names), self.config)

    @property
    def _inner(self) -> Network:
        trunk: Network = self.network.trunk
        return trunk

    def _tasks(self) -> TaskWeights:
        tasks: TaskWeights = self.network.tasks
        return tasks

    def _restored(self, state: dict[str, Tensor]) -> Tasks:
        [width], [n_classes, _], [n_groups] = (
            state[name].shape for name in ("trunk.mean", "out.weight", "tasks.log_variances")
        )
        with torch.device("meta"):
            network = Tasks(width, n_classes, n_groups, self.config)
        network.to_empty(device="cpu").load_state_dict(state)  # copied: what a mapped file gives is not aligned
        return network
