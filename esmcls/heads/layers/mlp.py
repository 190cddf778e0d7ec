"""The MLP head: hidden layers on whitened rows, or on a protein's chunks that attention weighs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.base import BaseHead, Validation
from esmcls.heads.blocks import (
    LOGITS,
    Blocks,
    best_of,
    check_labels,
    checked_chunks,
    checked_vectors,
    choose_temperature,
    energies_of,
    f1_of,
    probabilities_of,
    score,
    top_k_of,
)
from esmcls.heads.layers.descent import Descent
from esmcls.heads.layers.network import Bags, Network
from esmcls.heads.layers.ridge import Scaling
from esmcls.heads.registry import Log
from esmcls.heads.whitening import WithinClass
from esmcls.labels.labels import Labels
from esmcls.training.loop import run
from esmcls.training.losses import Balanced, LossName, Shuffled, Weighting, class_weights, make_loss
from esmcls.training.schedule import Plan
from esmcls.types import Indices, Probabilities, Vectors

if TYPE_CHECKING:
    from typing_extensions import Self

Held = tuple[Bags, Labels]

_RANGES = {
    "shrinkage": (0, 1),
    "hidden": (1, 1e6),
    "depth": (0, 100),
    "dropout": (0, 0.999),
    "noise": (0, 1e3),
    "gamma": (0, 1e3),
    "tau": (0, 1e3),
    "beta": (0, 1 - 1e-9),
    "lr": (0, 1e3),
    "weight_decay": (0, 1e3),
    "batch": (1, 1e6),
    "epochs": (1, 1e6),
    "patience": (0, 1e6),
    "plateau": (0, 1e6),
    "factor": (0, 1),
}


@dataclass(frozen=True)
class MLPConfig:
    """Every knob of the MLP head; None is chosen on validation.

    Parameters
    ----------
    whiten : bool
        Whiten the vectors by their within-class covariance and bring them to one length; else standardise the columns,
        as with attention, where the chunks of a protein are to differ.
    shrinkage : float
        Of that covariance towards a multiple of the identity, 0 to 1.
    hidden, depth : int
        Width and number of the hidden layers; without any it is logistic regression.
    norm : {"none", "layer", "batch"}
        What stands between a hidden layer and its ReLU.
    dropout : float
        Share of a hidden layer's outputs that is left out in training.
    noise : float
        Deviation of the noise that is added to the vectors in training, in deviations of the training rows.
    attention : bool
        Take the vectors of a protein's encoder inputs (`esmcls embed --chunks`) and learn how much each counts.
    loss : {"ce", "focal", "logit-adjusted"}
    gamma, tau : float
        Of the focal loss and of logit adjustment; see `esmcls.training.losses`.
    class_weights : {"none", "balanced", "sqrt", "effective-number"}
        A row counts 1, 1 / n, 1 / sqrt(n) or (1 - beta) / (1 - beta^n) for the n rows of its class.
    beta : float
    weight_cap : float
        Largest ratio of a class's weight to the median one; 0 for none.
    sampling : {"as-is", "balanced"}
        Every row once an epoch, or every class equally often.
    lr, weight_decay : float
        Of AdamW.
    batch : int
        Rows a step.
    epochs : int
        Length of the schedule in passes over the training rows.
    schedule : {"plateau", "cosine", "linear", "constant"}
    plateau, factor : int, float
        Epochs without a better macro F1 on validation, or as good a one with less cross-entropy, before the plateau
        schedule multiplies the rate by `factor`.
    patience : int
        Such epochs before training stops; 0 for never.
    stop : int, optional
        Epochs after which training stops: the best on validation.
    falls : str, optional
        Epochs, with commas between, after which the plateau schedule multiplies the rate: where it did on validation.
    temperature : float, optional
        What logits are divided by for probabilities: the least log loss on validation.
    pooling : str
        The pooled vectors to take, where attention is not asked for.
    """

    whiten: bool = True
    shrinkage: float = 0.01
    hidden: int = 512
    depth: int = 1
    norm: Literal["none", "layer", "batch"] = "none"
    dropout: float = 0.2
    noise: float = 0.0
    attention: bool = False
    loss: LossName = "logit-adjusted"
    gamma: float = 2.0
    tau: float = 1.0
    class_weights: Weighting = "none"
    beta: float = 0.999
    weight_cap: float = 0.0
    sampling: Literal["as-is", "balanced"] = "as-is"
    lr: float = 1e-3
    weight_decay: float = 0.01
    batch: int = 128
    epochs: int = 60
    schedule: Literal["plateau", "cosine", "linear", "constant"] = "plateau"
    plateau: int = 3
    factor: float = 0.3
    patience: int = 8
    stop: int | None = None
    falls: str | None = None
    temperature: float | None = None
    pooling: str = "mean"

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"setting {name}: {getattr(self, name)} is not from {low} to {high:g}")
        if self.weight_cap and not self.weight_cap >= 1:
            raise UsageError(f"setting weight_cap: {self.weight_cap} is not at least 1; 0 is for none")
        if self.stop is not None and self.stop < 1:
            raise UsageError(f"setting stop: {self.stop} is not at least 1")
        if self.temperature is not None and not self.temperature > 0:
            raise UsageError(f"setting temperature: {self.temperature} is not above 0")
        if not all(part.isdecimal() for part in self._falls):
            raise UsageError(f"setting falls: {self.falls!r} is not epochs with commas between, such as 3,7")

    @property
    def _falls(self) -> list[str]:
        return self.falls.split(",") if self.falls else []

    def plan(self, epoch: int, seed: int) -> Plan:
        """Return the plan of training without validation; `epoch` is its length in steps."""
        falls = tuple(int(part) * epoch for part in self._falls)
        plain = Plan(self.epochs * epoch, self.lr, warmup=epoch // 2, schedule=self.schedule, seed=seed)
        return replace(plain, plateau=self.plateau, factor=self.factor, falls=falls)


class MLPHead(BaseHead):
    """A multi-layer perceptron.

    Examples
    --------
    >>> vectors = np.array([[0, 1], [0, 2], [5, 1], [5, 2]], dtype=np.float32)
    >>> head = MLPHead().fit(Features.from_arrays(vectors), Labels.from_names(["a", "a", "b", "b"]))
    >>> head.top_k(Features.from_arrays(vectors), 1)[0].ravel().tolist()
    [0, 0, 1, 1]
    """

    Config: ClassVar[type[MLPConfig]] = MLPConfig

    def __init__(self, config: MLPConfig | None = None, device: str = "cpu") -> None:
        super().__init__(config, device)
        self.capped = 0
        """Classes whose weight `weight_cap` lowered."""

    def _fit(self, x: Features, labels: Labels, validation: Validation, seed: int, log: Log | None) -> None:
        """Train; with `weight_cap` the log is first told how many classes it reached."""
        bags, held = self._bags(x, x.width), self._bags(validation[0], x.width)
        self._train(bags, labels, (held, validation[1]), seed, log)

    def refit(self, x: Features, labels: Labels, seed: int = 0, log: Log | None = None) -> Self:
        """Fit all rows with what was chosen."""
        check_labels(x, labels)
        self._train(self._bags(x, x.width), labels, None, seed, log)
        return self

    def _bags(self, x: Features, width: int) -> Bags:
        """Return checked vectors, one a row or, with attention, one an encoder input."""
        if self.config.attention:
            return Bags.of(*checked_chunks(x, width))
        return Bags.of(checked_vectors(x, self.config.pooling, width))

    def _train(self, bags: Bags, labels: Labels, held: Held | None, seed: int, log: Log | None) -> None:
        """Fit with what is chosen; choose on the held rows when to stop."""
        self.classes = labels.classes
        self._draw(bags, labels, seed)
        task = self._task(bags, labels, seed)
        if log is not None and self.chosen.weight_cap:
            log({"classes": len(self.classes), "capped": self.capped})
        epoch = task.sampler.steps_an_epoch
        plan = self.chosen.plan(epoch, seed)
        if held is None or self.chosen.stop is not None:
            run(task, plan, log=log, stop_after=min((self.chosen.stop or self.chosen.epochs) * epoch, plan.steps))
        else:
            task.measure = lambda: f1_of(self._logits(held[0]), held[1])
            history = run(task, replace(plan, validate_every=epoch, patience=self.chosen.patience), log=log)
            falls = ",".join(str(fall // epoch) for fall in history.falls if fall < history.best_step)
            self.chosen = replace(self.chosen, stop=history.best_step // epoch, falls=falls)
        self.network.eval().requires_grad_(False)
        if held is not None:
            self.scores = score(held[1], best_of(self._logits(held[0]), len(held[0])))
            if self.chosen.temperature is None:
                chosen = choose_temperature(lambda: self._logits(held[0]), held[1])
                self.chosen = replace(self.chosen, temperature=chosen)

    def _draw(self, bags: Bags, labels: Labels, seed: int) -> None:
        """Make the network, with the mean and deviation, or the whitening, of the rows to fit on."""
        network = Network.drawn(bags.vectors.shape[1], len(self.classes), self.config, seed)
        if self.config.whiten and not self.config.attention:
            whitening = WithinClass.of(bags.vectors, labels.codes, labels.n_classes)(self.config.shrinkage)
            network.mean.copy_(whitening.mean)
            network.scale.copy_(whitening.matrix)
        else:
            scaling = Scaling.of(bags.vectors)
            network.mean.copy_(scaling.mean)
            network.scale.copy_(scaling.deviation)
        self.network = network.to(self.device)

    def _task(self, bags: Bags, labels: Labels, seed: int) -> Descent:
        knobs, counts = self.chosen, labels.counts()
        weights = class_weights(counts, knobs.class_weights, beta=knobs.beta, cap=knobs.weight_cap)
        self.capped = weights.capped
        loss = make_loss(knobs.loss, counts, weights.values, gamma=knobs.gamma, tau=knobs.tau, device=self.device)
        sampler: Shuffled | Balanced = Shuffled(len(bags), knobs.batch, seed)
        if knobs.sampling == "balanced":
            sampler = Balanced(labels.codes, knobs.batch, seed)

        def logits(rows: Indices) -> Tensor:
            return self._forward(*bags.packed(rows))

        return Descent(self.network, logits, labels.codes, loss, sampler, knobs, self.device)

    def _forward(self, vectors: Vectors, counts: Indices) -> Tensor:
        """Return the logits (rows, classes) of packed vectors."""
        logits: Tensor = self.network(*self._tensors(vectors, counts))
        return logits

    def _tensors(self, vectors: Vectors, counts: Indices) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(vectors).to(self.device, torch.float32), torch.from_numpy(counts).to(self.device)

    def _logits(self, bags: Bags) -> Blocks:
        """Give slices of rows and their logits (rows, classes), over the temperature once that is chosen."""
        for rows in bags.blocks(max(1, min(4096, LOGITS // max(1, len(self.classes))))):
            with torch.inference_mode():
                logits = self._forward(*bags.packed(np.arange(rows.start, rows.stop)))
                yield rows, logits / (self.chosen.temperature or 1.0)

    def predict_proba(self, x: Features) -> Probabilities:
        """Return probabilities, float32 (n, classes); the rows sum to 1."""
        bags = self._bags(x, len(self.network.mean))
        return probabilities_of(self._logits(bags), len(bags), len(self.classes))

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k best class codes a row and their probabilities, both (n, min(k, classes))."""
        bags = self._bags(x, len(self.network.mean))
        return top_k_of(self._logits(bags), len(bags), min(k, len(self.classes)))

    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return how well the best classes fit, (n,); see `esmcls.heads.blocks.energies_of`."""
        bags = self._bags(x, len(self.network.mean))
        return energies_of(self._logits(bags), len(bags))

    def attention(self, x: Features) -> list[npt.NDArray[np.float32]]:
        """Return how much each encoder input of a protein counts: one array (inputs,) a protein, of sum 1.

        Raises
        ------
        UsageError
            If the head was fitted without attention.
        """
        if self.network.pool is None:
            raise UsageError("the head was fitted without attention; fit with --set attention true")
        bags, found = self._bags(x, len(self.network.mean)), []
        for rows in bags.blocks(4096):
            block, counts = self._tensors(*bags.packed(np.arange(rows.start, rows.stop)))
            with torch.inference_mode():
                weights = self.network.pool.weights(self.network.standardised(block), counts)
            found += np.split(weights.cpu().numpy(), counts.cumsum(0)[:-1].tolist())
        return found

    def save(self, folder: Path) -> None:
        """Write `mlp.safetensors`: the state of the network, with mean and whitening of the training rows."""
        state = self.network.state_dict()
        save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, folder / "mlp.safetensors")

    @classmethod
    def load(cls, folder: Path, config: MLPConfig, classes: tuple[str, ...], device: str = "cpu") -> Self:
        """Read what `save` wrote."""
        head = cls(config, device)
        head.classes = classes
        network = Network.of_state(load_file(folder / "mlp.safetensors"), config)
        head.network = network.to(device).eval().requires_grad_(False)
        return head
