"""The MLP heads: hidden layers on whitened rows, or on a protein's chunks that attention weighs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import torch

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.base import BaseLabelHead, Log
from esmcls.heads.blocks import (
    LOGITS,
    AnswerBlocks,
    LogitBlocks,
    best_of,
    choose_temperature,
    energies_of,
    f1_of,
    score,
    softmax_of,
)
from esmcls.heads.layers.descent import Descent
from esmcls.heads.layers.network import Bags, Network
from esmcls.heads.layers.trained import (
    HIDDEN_RANGES,
    HeldBags,
    HiddenConfig,
    NetworkConfig,
    NetworkHead,
    TermNetworkConfig,
    TermNetworkHead,
)
from esmcls.heads.settings import ABOVE_0, AT_LEAST_1, Ranges, check_ranges
from esmcls.heads.whitening import WithinClass
from esmcls.labels.labels import Labels
from esmcls.training.loop import History
from esmcls.training.losses import BalancedSampler, LossName, ShuffledSampler, Weighting, class_weights, make_loss
from esmcls.training.schedule import TrainingPlan
from esmcls.types import Vectors

_RANGES: Final[Ranges] = {
    **HIDDEN_RANGES,
    "gamma": (0, 1e3),
    "tau": (0, 1e3),
    "beta": (0, 1 - 1e-9),
    "epochs": (1, 1e6),
    "plateau": (0, 1e6),
    "factor": (0, 1),
    "stop": AT_LEAST_1,
    "temperature": ABOVE_0,
}


@dataclass(frozen=True)
class MLPConfig(HiddenConfig, NetworkConfig):
    """Knobs of the MLP head besides those of `HiddenConfig` and `NetworkConfig`; None is chosen on validation.

    Parameters
    ----------
    whiten : bool
        Whiten the vectors by their within-class covariance and bring them to one length; else standardise the
        columns, as with attention, where the chunks of a protein are to differ. When to change: the length of a
        vector tells something, as with counts.
    depth : int
        Number of the hidden layers; without any it is logistic regression. When to change: one layer is not
        enough on validation; more than two seldom gain anything on frozen vectors.
    loss : {"ce", "focal", "logit-adjusted"}
        What training lowers: the cross-entropy; the same with rows that are answered well counting less
        (focal); or the cross-entropy of logits to which the logarithms of the class sizes are added, so that
        rare classes are answered as often as frequent ones (logit-adjusted). When to change: frequent classes
        matter most (ce), or most rows are easy and the hard ones decide (focal).
    gamma : float
        Of the focal loss: a row of probability p counts (1 - p) to the power of it; 0 is the cross-entropy.
        When to change: loss is focal, and hard rows are to count more (raise it) or less.
    tau : float
        Of logit adjustment: what the logarithms of the class sizes are multiplied by; 0 is the cross-entropy.
        When to change: loss is logit-adjusted, and rare classes are named too often (lower it) or too seldom
        (raise it).
    class_weights : {"none", "balanced", "sqrt", "effective-number"}
        A row counts 1, 1 / n, 1 / sqrt(n) or (1 - beta) / (1 - beta^n) for the n rows of its class. When to
        change: loss is ce or focal and rare classes are to count more: sqrt first, balanced at most.
    beta : float
        Of effective-number, from 0 to below 1: 0 weighs all rows alike, near 1 it is balanced; a class of many
        more than 1 / (1 - beta) rows weighs no less than one of so many. When to change: class_weights is
        effective-number, and the classes are much smaller (.99) or larger (.9999) than a thousand rows.
    weight_cap : float
        Largest ratio of a class's weight to the median one; 0 for none. When to change: classes of one or two
        rows make training unstable: try 10.
    sampling : {"as-is", "balanced"}
        Every row once an epoch, or every class equally often. When to change: a few classes have most of the
        rows and loss is ce; not beside class weights, which do the same.
    epochs : int
        Length of the schedule in passes over the training rows. When to change: training is stopped by it, not
        by `patience`.
    schedule : {"plateau", "cosine", "linear", "constant"}
        How the rate falls: by `factor` whenever validation gains nothing more (plateau), over all epochs along
        a cosine or a line, or not at all. When to change: there is no validation part (cosine), or runs of a
        fixed length are to be compared.
    plateau : int
        Epochs without a better macro F1 on validation, or as good a one with less cross-entropy, before the
        plateau schedule multiplies the rate by `factor`. When to change: validation is small and its score
        jumps about: raise it, and `patience` with it.
    factor : float
        What the plateau schedule multiplies the rate by. When to change: the rate falls too soon (.5) or too
        late (.1).
    patience : int
        Epochs without a gain, as of `plateau`, before training stops; 0 for never. When to change: validation
        is small and its score jumps about: raise it.
    falls : str, optional
        Epochs, with commas between, after which the plateau schedule multiplies the rate: where it did on
        validation. When to change: a run is to be repeated without its validation part.
    temperature : float, optional
        What logits are divided by for probabilities: the least log loss on validation. When to change:
        probabilities are too sure on your own proteins: raise it; which class is first stays as it is.
    pooling : str
        The pooled vectors to take, where attention is not asked for. When to change: the cache was embedded
        with another --pool, such as cls or max, and validation says that it is better.
    """

    depth: int = 1
    dropout: float = 0.2
    loss: LossName = "logit-adjusted"
    gamma: float = 2.0
    tau: float = 1.0
    class_weights: Weighting = "none"
    beta: float = 0.999
    weight_cap: float = 0.0
    sampling: Literal["as-is", "balanced"] = "as-is"
    epochs: int = 60
    schedule: Literal["plateau", "cosine", "linear", "constant"] = "plateau"
    plateau: int = 3
    factor: float = 0.3
    patience: int = 8
    falls: str | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, _RANGES)
        if self.weight_cap and not self.weight_cap >= 1:
            raise UsageError(f"setting weight_cap: {self.weight_cap} is not at least 1; 0 is for none")
        if not all(part.isdecimal() for part in self._falls):
            raise UsageError(f"setting falls: {self.falls!r} is not epochs with commas between, such as 3,7")

    @property
    def _falls(self) -> list[str]:
        return self.falls.split(",") if self.falls else []

    def plan(self, epoch: int, seed: int) -> TrainingPlan:
        """Return the plan of training without validation; `epoch` is its length in steps."""
        falls = tuple(int(part) * epoch for part in self._falls)
        plain = TrainingPlan(self.epochs * epoch, self.lr, warmup=epoch // 2, schedule=self.schedule, seed=seed)
        return replace(plain, plateau=self.plateau, factor=self.factor, falls=falls)


class MLPHead(NetworkHead[Labels], BaseLabelHead):
    """A multi-layer perceptron.

    Examples
    --------
    >>> vectors = np.array([[0, 1], [0, 2], [5, 1], [5, 2]], dtype=np.float32)
    >>> head = MLPHead().fit(Features.from_arrays(vectors), Labels.from_names(["a", "a", "b", "b"]))
    >>> head.top_k(Features.from_arrays(vectors), 1)[0].ravel().tolist()
    [0, 0, 1, 1]
    """

    Config: ClassVar[type[MLPConfig]] = MLPConfig
    file: ClassVar[str] = "mlp.safetensors"
    config: MLPConfig
    chosen: MLPConfig
    network: Network

    def _within(self, vectors: Vectors, labels: Labels) -> WithinClass:
        return WithinClass.of(vectors, labels.codes, labels.n_classes)

    def _descent(self, bags: Bags, labels: Labels, seed: int, log: Log | None) -> Descent:
        knobs = self.chosen
        counts = labels.counts()
        weights = class_weights(counts, knobs.class_weights, beta=knobs.beta, cap=knobs.weight_cap)
        self.capped = weights.capped
        if log is not None and knobs.weight_cap:
            log({"classes": len(self.classes), "capped": self.capped})
        cost = make_loss(knobs.loss, counts, weights.values, gamma=knobs.gamma, tau=knobs.tau, device=self.device)
        sampler: ShuffledSampler | BalancedSampler = ShuffledSampler(len(bags), knobs.batch, seed)
        if knobs.sampling == "balanced":
            sampler = BalancedSampler(labels.codes, knobs.batch, seed)
        return Descent(self.network, self._outputs_of(bags), labels.codes, cost, sampler, knobs, self.device)

    def _plan(self, epoch: int, seed: int) -> TrainingPlan:
        return self.chosen.plan(epoch, seed)

    def _measured(self, held: HeldBags[Labels], descent: Descent) -> float:
        return f1_of(self._logits(held[0]), held[1])

    def _settle(self, history: History, epoch: int) -> None:
        """Keep when to stop, and after which epochs the rate fell."""
        super()._settle(history, epoch)
        falls = ",".join(str(fall // epoch) for fall in history.falls if fall < history.best_step)
        self.chosen = replace(self.chosen, falls=falls)

    def _judge(self, held: HeldBags[Labels]) -> None:
        self.scores = score(held[1], best_of(self._logits(held[0]), len(held[0])))
        if self.chosen.temperature is None:
            temperature = choose_temperature(lambda: self._logits(held[0]), held[1])
            self.chosen = replace(self.chosen, temperature=temperature)

    def _logits(self, bags: Bags) -> LogitBlocks:
        """Give slices of rows and their logits (rows, classes), over the temperature once that is chosen."""
        outputs = self._outputs_of(bags)
        for rows in bags.blocks(max(1, min(4096, LOGITS // max(1, len(self.classes))))):
            with torch.inference_mode():
                yield rows, outputs(rows) / (self.chosen.temperature or 1.0)

    def _answers(self, x: Features) -> AnswerBlocks:
        return softmax_of(self._logits(self._checked(x)))

    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return how well the best classes fit, (n,); see `esmcls.heads.blocks.energies_of`."""
        return energies_of(self._logits(self._checked(x)), len(x))

    def attention(self, x: Features) -> list[npt.NDArray[np.float32]]:
        """Return how much each encoder input of a protein counts: one array (inputs,) a protein, of sum 1.

        Raises
        ------
        UsageError
            If the head was fitted without attention.
        """
        if self.network.pool is None:
            raise UsageError("the head was fitted without attention; fit with --set attention true")
        bags = self._checked(x)
        shares: list[npt.NDArray[np.float32]] = []
        for rows in bags.blocks(4096):
            block, counts = self._tensors(*bags.packed(rows))
            with torch.inference_mode():
                weights = self.network.pool.weights(self.network.standardised(block), counts)
            shares += np.split(weights.cpu().numpy(), counts.cumsum(0)[:-1].tolist())
        return shares


# many labels


@dataclass(frozen=True)
class TermMLPConfig(HiddenConfig, TermNetworkConfig):
    """Knobs of the MLP head besides those of `HiddenConfig` and `esmcls.heads.layers.trained.TermNetworkConfig`.

    Parameters
    ----------
    depth : int
        Number of the hidden layers. When to change: one layer is not enough on validation; more than two seldom
        gain anything on frozen vectors.
    """

    dropout: float = 0.3
    hidden: int = 1024
    depth: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, HIDDEN_RANGES)


class TermMLPHead(TermNetworkHead):
    """A multi-layer perceptron with an output a class.

    Examples
    --------
    >>> from esmcls.labels.labels import LabelSets
    >>> x = Features.from_arrays(np.array([[0, 1], [0, 2], [5, 1], [5, 2]] * 5, dtype=np.float32))
    >>> labels = LabelSets.from_names([["a"], ["a", "c"], ["b"], ["b", "c"]] * 5)
    >>> (TermMLPHead().fit(x, labels).predict_proba(x.take(range(4))) > 0.5).tolist()
    [[True, False, False], [True, False, True], [False, True, False], [False, True, True]]
    """

    Config: ClassVar[type[TermMLPConfig]] = TermMLPConfig
    config: TermMLPConfig
    chosen: TermMLPConfig
    file: ClassVar[str] = "mlp.safetensors"
