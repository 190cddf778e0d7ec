"""The linear head: multinomial logistic regression on whitened rows, warm-started by ridge regression."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esmcls.cache.features import Features
from esmcls.heads.base import BaseLabelHead, Log, Validation
from esmcls.heads.blocks import (
    LOGITS,
    AnswerBlocks,
    LogitBlocks,
    best_of,
    checked_vectors,
    choose_temperature,
    class_factors,
    energies_of,
    first_rows,
    grid,
    score,
    softmax_of,
    training_vectors,
)
from esmcls.heads.layers.descent import Descent, DescentConfig, linear_layer
from esmcls.heads.layers.ridge import Ridge, Scaling
from esmcls.heads.saved_tensors import read_tensors, write_state
from esmcls.heads.settings import ABOVE_0, FROM_0_TO_1, PooledConfig, Ranges, check_ranges
from esmcls.heads.whitening import SHRINKAGES, Whitening, WithinClass, row_blocks
from esmcls.labels.labels import Labels
from esmcls.training.loop import run
from esmcls.training.losses import ShuffledSampler, cross_entropy
from esmcls.training.schedule import TrainingPlan
from esmcls.types import Indices, Vectors

if TYPE_CHECKING:
    from typing_extensions import Self

FILE: Final = "linear.safetensors"
PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Ridge penalties to choose from, in mean eigenvalues of XᵀX."""
SCALES = (1.0, 3.0, 10.0, 20.0, 40.0, 80.0)
"""Factors that turn a ridge regression's outputs (0 to 1) into logits."""

HeldVectors: TypeAlias = tuple[Vectors, Labels]
"""Rows that choices are made on."""

_RANGES: Final[Ranges] = {
    "epochs": (0, 1e6),
    "batch": (1, 1e6),
    "smoothing": (0, 0.999),
    "lr": (0, 1e3),
    "shrinkage": FROM_0_TO_1,
    "ridge": ABOVE_0,
    "temperature": ABOVE_0,
}


@dataclass(frozen=True)
class LinearConfig(DescentConfig, PooledConfig):
    """Knobs of the linear head besides those of `DescentConfig`; None is chosen on validation.

    Parameters
    ----------
    whiten : bool
        Whiten the rows by their within-class covariance and bring them to one length; else standardise the
        columns. When to change: the length of a vector tells something, as with counts; embeddings of a
        language model want it on.
    shrinkage : float, optional
        Of that covariance towards a multiple of the identity, 0 to 1; chosen with the ridge regression. When to
        change: a fit is to be repeated with what another chose.
    epochs : int
        Length of the cosine schedule in passes over the training rows; 0 leaves the ridge regression as it is.
        When to change: the best epoch on validation is the last (more), or a quick answer will do (0).
    batch : int
        Rows a step. When to change: there are a few hundred rows (less, so that an epoch has steps), or a GPU
        is idle (more).
    smoothing : float
        Share of a label's mass that is spread over all classes. When to change: labels are certain and
        probabilities are to be sharp (0), or many labels are wrong (.2).
    class_weights : {"none", "balanced", "sqrt"}
        A row counts 1, 1 / n or 1 / sqrt(n) for the n rows of its class. When to change: new proteins come from
        classes as often as training rows do (none), or each class is to count alike (balanced).
    warm_start : bool
        Begin at the closed-form ridge regression instead of at zero. When to change: the ridge regression takes
        too long, as with many thousand numbers a vector.
    ridge_weights : {"none", "balanced", "sqrt"}
        As `class_weights`, in the ridge regression. When to change: `class_weights` is changed for what you
        know of new proteins: then alike.
    ridge : float, optional
        Its penalty, in mean eigenvalues of XᵀX. When to change: a fit is to be repeated with what another
        chose.
    scale : float, optional
        Its outputs times this are the first logits. When to change: a fit is to be repeated with what another
        chose.
    patience : int
        Epochs without a better macro F1 on validation before training stops; 0 for never. When to change:
        validation is small and its score jumps about: raise it.
    temperature : float, optional
        What logits are divided by for probabilities: the least log loss on validation. When to change:
        probabilities are too sure on your own proteins: raise it; which class is first stays as it is.
    """

    whiten: bool = True
    shrinkage: float | None = None
    epochs: int = 8
    lr: float = 2e-3
    batch: int = 256
    smoothing: float = 0.1
    class_weights: Literal["none", "balanced", "sqrt"] = "sqrt"
    warm_start: bool = True
    ridge_weights: Literal["none", "balanced", "sqrt"] = "sqrt"
    ridge: float | None = None
    scale: float | None = None
    patience: int = 3
    temperature: float | None = None

    def __post_init__(self) -> None:
        check_ranges(self, _RANGES)


def read_layer(path: Path, whiten: bool, **outputs: int) -> tuple[Tensor, Tensor, Scaling | Whitening]:
    """Return weight (outputs, width) and bias (outputs,) of a linear layer on rows, and how these are scaled.

    Parameters
    ----------
    path : Path
    whiten : bool
        Whether rows are whitened, else standardised.
    **outputs : int
        How many outputs there are, by the name that they have in messages.

    Raises
    ------
    ModelError
        If the file is damaged, or of another layer.
    """
    [axis] = outputs
    make, scale = (Whitening, "matrix") if whiten else (Scaling, "deviation")
    shapes = {
        "weight": ("float32", axis, "width"),
        "bias": ("float32", axis),
        "mean": ("float32", "width"),
        scale: ("float32", "width", "width") if whiten else ("float32", "width"),
    }
    state = read_tensors(path, shapes, **outputs)
    return state["weight"], state["bias"], make(state["mean"], state[scale])


def scaled(scaling: Scaling | Whitening, block: Tensor) -> Tensor:
    """Return float32 rows (n, width) as the layer takes them, of mean square 1 or thereabouts."""
    return scaling.unit(block) * math.sqrt(block.shape[1]) if isinstance(scaling, Whitening) else scaling(block)


class LinearHead(BaseLabelHead):
    """Multinomial logistic regression.

    Examples
    --------
    >>> import numpy as np
    >>> vectors = np.array([[0, 1], [0, 2], [5, 1], [5, 2]], dtype=np.float32)
    >>> head = LinearHead().fit(Features.from_arrays(vectors), Labels.from_names(["a", "a", "b", "b"]))
    >>> head.top_k(Features.from_arrays(vectors), 1)[0].ravel().tolist()
    [0, 0, 1, 1]
    """

    Config: ClassVar[type[LinearConfig]] = LinearConfig
    config: LinearConfig
    chosen: LinearConfig
    model: nn.Linear
    scaling: Scaling | Whitening

    def _fit(self, x: Features, labels: Labels, validation: Validation[Labels], seed: int, log: Log | None) -> None:
        vectors = training_vectors(x, self.config.pooling)
        held = checked_vectors(validation[0], self.config.pooling, vectors.shape[1])
        self._train(vectors, labels, (held, validation[1]), seed, log)

    def _refit(self, x: Features, labels: Labels, seed: int, log: Log | None) -> None:
        """Fit all rows with what was chosen."""
        self._train(training_vectors(x, self.config.pooling), labels, None, seed, log)

    def _train(self, vectors: Vectors, labels: Labels, held: HeldVectors | None, seed: int, log: Log | None) -> None:
        """Fit with what is chosen; make the open choices on the held rows."""
        self.model = linear_layer(vectors.shape[1], len(self.classes), self.device)
        nn.init.zeros_(self.model.weight)
        nn.init.zeros_(self.model.bias)
        within = WithinClass.of(vectors, labels.codes, labels.n_classes, self.device) if self.chosen.whiten else None
        self._scale_rows(vectors, within)
        if self.chosen.warm_start:
            self._start_warm(vectors, labels, within, held)
        self._train_layer(vectors, labels, held, seed, log)
        self.model.requires_grad_(False)
        if held is not None:
            self.scores = score(held[1], self._best(held[0]))
            if self.chosen.temperature is None:
                vectors, truth = first_rows(*held)
                temperature = choose_temperature(lambda: self._logits(vectors), truth)
                self.chosen = replace(self.chosen, temperature=temperature)

    def _scale_rows(self, vectors: Vectors, within: WithinClass | None) -> None:
        if within is None:
            self.scaling = Scaling.of(vectors)
        else:
            self.scaling = within(SHRINKAGES[1] if self.chosen.shrinkage is None else self.chosen.shrinkage)

    def _start_warm(
        self, vectors: Vectors, labels: Labels, within: WithinClass | None, held: HeldVectors | None
    ) -> None:
        """Set the layer to the ridge regression; choose shrinkage, penalty and scale where they are open."""
        if held is None:
            ridge = self._ridge(vectors, labels)
        else:
            held = first_rows(*held)
            ridge = self._choose_ridge(vectors, labels, within, held)
        self._set(*ridge.solve(self.chosen.ridge or PENALTIES[2]))
        if held is not None and self.chosen.scale is None:
            self.chosen = replace(self.chosen, scale=self._choose_scale(held))
        self._set(*(tensor * (self.chosen.scale or SCALES[2]) for tensor in (self.model.weight, self.model.bias)))

    def _ridge(self, vectors: Vectors, labels: Labels) -> Ridge:
        factors = class_factors(labels.counts(), self.chosen.ridge_weights)
        return Ridge.of(vectors, labels.codes, factors, partial(scaled, self.scaling.on(self.device)), self.device)

    def _choose_ridge(self, vectors: Vectors, labels: Labels, within: WithinClass | None, held: HeldVectors) -> Ridge:
        """Take the shrinkage and penalty of the best macro F1 on the held rows, first of equals; return its sums."""
        chosen = self.chosen
        best = -1.0
        fixed = chosen.shrinkage is not None or within is None
        for shrinkage in (chosen.shrinkage,) if fixed else SHRINKAGES:
            self.chosen = replace(chosen, shrinkage=shrinkage)
            self._scale_rows(vectors, within)
            ridge = self._ridge(vectors, labels)
            for penalty in grid(chosen.ridge, PENALTIES):
                self._set(*ridge.solve(penalty))
                reached = score(held[1], self._best(held[0]))["macro_f1"]
                if reached > best:
                    best = reached
                    better = replace(self.chosen, ridge=penalty)
                    sums = ridge
        self.chosen = better
        self._scale_rows(vectors, within)
        return sums

    def _choose_scale(self, held: HeldVectors) -> float:
        """Return the factor with the least loss, as descent counts it, on held rows of known classes."""
        losses = torch.zeros(len(SCALES), dtype=torch.float64)
        codes = torch.from_numpy(held[1].codes).to(self.device)
        for rows, logits in self._logits(held[0]):
            known = codes[rows] >= 0
            for place, scale in enumerate(SCALES):
                losses[place] += F.cross_entropy(
                    scale * logits[known], codes[rows][known], reduction="sum", label_smoothing=self.chosen.smoothing
                ).item()
        return SCALES[int(losses.argmin())]

    def _set(self, weight: Tensor, bias: Tensor) -> None:
        with torch.no_grad():
            self.model.weight.copy_(weight)
            self.model.bias.copy_(bias)

    def _train_layer(
        self, vectors: Vectors, labels: Labels, held: HeldVectors | None, seed: int, log: Log | None
    ) -> None:
        """Run AdamW, to the best epoch on the held rows (the start counts as epoch 0) or to the one chosen."""
        descent = self._descent(vectors, labels, seed)
        epoch = descent.sampler.steps_an_epoch
        plan = TrainingPlan(self.chosen.epochs * epoch, self.chosen.lr, warmup=epoch // 2, seed=seed)
        if held is None or self.chosen.stop is not None:
            stop = plan.steps if self.chosen.stop is None else min(self.chosen.stop * epoch, plan.steps)
            if stop:
                run(descent, plan, log=log, stop_after=stop)
            return
        descent.measure = lambda: score(held[1], self._best(held[0]))["macro_f1"]
        started = descent.measure()
        start = [tensor.clone() for tensor in (self.model.weight, self.model.bias)]
        history = run(descent, replace(plan, validate_every=epoch, patience=self.chosen.patience), log=log)
        better = history.best_score > started
        if not better:
            self._set(*start)
        self.chosen = replace(self.chosen, stop=history.best_step // epoch if better else 0)

    def _descent(self, vectors: Vectors, labels: Labels, seed: int) -> Descent:
        scaling = self.scaling.on(self.device)

        def logits(rows: Indices) -> Tensor:
            block = torch.from_numpy(vectors[rows]).to(self.device, torch.float32)
            out: Tensor = self.model(scaled(scaling, block))
            return out

        weights = torch.from_numpy(class_factors(labels.counts(), self.chosen.class_weights)).to(self.device)
        loss = partial(cross_entropy, weights=weights, smoothing=self.chosen.smoothing)
        sampler = ShuffledSampler(len(vectors), self.chosen.batch, seed)
        return Descent(self.model, logits, labels.codes, loss, sampler, self.chosen, self.device)

    def _logits(self, vectors: Vectors) -> LogitBlocks:
        """Give slices of rows and their logits (rows, classes), over the temperature once that is chosen."""
        size = max(1, min(4096, LOGITS // max(1, len(self.classes))))
        scaling = self.scaling.on(self.device)
        for rows, block in row_blocks(vectors, self.device, size):
            with torch.inference_mode():
                yield rows, self.model(scaled(scaling, block)) / (self.chosen.temperature or 1.0)

    def continued(
        self, weight: Tensor, bias: Tensor, mean: Tensor, held: Validation[Labels] | None, pooling: str
    ) -> Self:
        """Return the head with another layer on rows that are scaled alike, as fine-tuning made it of this one.

        Temperature and scores are measured anew on the held rows.

        Parameters
        ----------
        weight, bias : float32 tensors, (classes, width) and (classes,)
        mean : float32 tensor, (width,)
            Subtracted from a row.
        held : (Features, Labels), optional
        pooling : str
            Of what it will read.
        """
        head = type(self)(replace(self.chosen, temperature=None, pooling=pooling), self.device)
        head.classes = self.classes
        head.scaling = replace(self.scaling, mean=mean)
        head.model = linear_layer(weight.shape[1], len(weight), self.device).requires_grad_(False)
        head._set(weight, bias)
        temperature = 1.0
        if held is not None:
            vectors = checked_vectors(held[0], pooling, weight.shape[1])
            head.scores = score(held[1], head._best(vectors))
            temperature = choose_temperature(lambda: head._logits(vectors), held[1])
        head.config = replace(head.chosen, temperature=temperature)
        head.chosen = head.config
        return head

    def _best(self, vectors: Vectors) -> Indices:
        return best_of(self._logits(vectors), len(vectors))

    def _checked(self, x: Features) -> Vectors:
        return checked_vectors(x, self.config.pooling, self.model.in_features)

    def _answers(self, x: Features) -> AnswerBlocks:
        return softmax_of(self._logits(self._checked(x)))

    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return how well the best classes fit, (n,); see `esmcls.heads.blocks.energies_of`."""
        return energies_of(self._logits(self._checked(x)), len(x))

    def save(self, folder: Path) -> None:
        """Write `linear.safetensors`: weight, bias, mean and matrix or deviation, all float32."""
        write_state(folder / FILE, {**self.model.state_dict(), **asdict(self.scaling)})

    def _restore(self, folder: Path) -> None:
        weight, bias, self.scaling = read_layer(folder / FILE, self.config.whiten, classes=len(self.classes))
        self.model = linear_layer(weight.shape[1], len(weight), self.device).requires_grad_(False)
        self._set(weight, bias)
