"""Heads for residues that are trained by descent: batches of whole proteins, read from the store as they are needed.

Memory holds the labels, one batch of proteins, and of the validation part its answers: the vectors of a set may be far
larger than memory. What each epoch reads is read again, since the system keeps what fits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.cache.features import Features
from esmcls.errors import ModelError, UsageError
from esmcls.heads.contract import Log, Validation
from esmcls.heads.layers.descent import DESCENT_RANGES, BaseDescent, DescentConfig
from esmcls.heads.layers.network import read_network
from esmcls.heads.residues.base import BaseResidueHead, protein_vectors, scores_of, spread_out
from esmcls.heads.residues.network import ResidueNetwork, Shape
from esmcls.heads.saved_tensors import AGAIN, write_state
from esmcls.heads.settings import AT_LEAST_1, Ranges, check_ranges
from esmcls.labels.residue_labels import ResidueLabels, ResidueNumbers, Targets
from esmcls.training.loop import Entry, run
from esmcls.training.losses import LossName, ShuffledSampler, Weighting, class_weights, log_prior, make_loss
from esmcls.training.schedule import TrainingPlan
from esmcls.types import Floats, Indices, Probabilities, Vectors

MEASURED: Final = 1000
"""Proteins that the mean and deviation of vectors are taken from, drawn of the training ones."""
ADJUSTMENTS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Choices for the knob `adjust`."""
CHOSEN_BY: Final = {ResidueLabels: "macro_f1", ResidueNumbers: "spearman"}
"""By which score epochs and knobs are chosen."""
_RANGES: Final[Ranges] = {
    "gamma": (0, 1e3),
    "tau": (0, 1e3),
    "adjust": (0, 10),
    **DESCENT_RANGES,
    "epochs": (1, 1e6),
    "stop": AT_LEAST_1,
}


@dataclass(frozen=True)
class TrainedConfig(DescentConfig):
    """Knobs of every trained head for residues besides those of `DescentConfig`; None is chosen on validation.

    Parameters
    ----------
    loss : {"ce", "focal", "logit-adjusted"}
        What training on classes lowers: the cross-entropy of a residue; the same with residues that are answered
        well counting less (focal); or of logits to which the logarithms of the class sizes are added
        (logit-adjusted). Numbers have the squared error. When to change: rare classes matter (logit-adjusted).
    gamma : float
        Of the focal loss: a residue of probability p counts (1 - p) to the power of it. When to change: loss is
        focal, and hard residues are to count more (raise it) or less.
    tau : float
        Of logit adjustment: what the logarithms of the class sizes are multiplied by. When to change: loss is
        logit-adjusted, and rare classes are named too often (lower it) or too seldom (raise it).
    class_weights : {"none", "balanced", "sqrt", "effective-number"}
        A residue counts 1, 1 / n, 1 / sqrt(n) or by the effective number of the n residues of its class. When to
        change: a class has few residues, such as those that bind: sqrt first, balanced at most.
    adjust : float, optional
        How far rare classes are favoured in the answer: the logarithms of the class sizes, times this, are taken
        off the logits; the best macro F1 on validation. When to change: probabilities are to be those of the
        classes as frequent as in training: 0.
    batch : int
        Proteins a step. When to change: there are a few hundred proteins (less), or a GPU is idle (more).
    epochs : int
        Length of the cosine schedule in passes over the training proteins. When to change: the best epoch on
        validation is the last: raise it.
    patience : int
        Epochs without a better macro F1, or Spearman correlation, on validation before training stops; 0 for
        never. When to change: validation is small and its score jumps about: raise it.
    """

    loss: LossName = "ce"
    gamma: float = 2.0
    tau: float = 1.0
    class_weights: Weighting = "none"
    adjust: float | None = None
    batch: int = 16
    epochs: int = 10
    patience: int = 3

    def __post_init__(self) -> None:
        check_ranges(self, _RANGES)


@dataclass(frozen=True, eq=False)
class Batch:
    """The residues of some proteins, one protein after another.

    Parameters
    ----------
    block : float32 tensor, (residues, width)
    sizes : list of int
        Residues of each that were seen.
    known : bool array, (residues,)
        Whether each has a label.
    codes : int64 array, (residues,), or None
    values : float64 array, (residues,), or None
    """

    block: Tensor
    sizes: list[int]
    known: np.ndarray[Any, np.dtype[np.bool_]]
    codes: Indices | None
    values: Floats | None


def batch_of(x: Features, labels: Targets, rows: Indices) -> Batch:
    """Read the vectors and labels of some proteins."""
    blocks, sizes, targets = list[Tensor](), list[int](), list[np.ndarray[Any, Any]]()
    for row, (vectors, positions, length) in zip(rows.tolist(), protein_vectors(x.take(rows)), strict=True):
        of_protein = labels.row(row)
        if len(of_protein) != length:
            raise ValueError(f"labels of {len(of_protein)} residues for the {length} of protein {x.ids[row]!r}")
        blocks.append(as_tensor(vectors))
        sizes.append(len(positions))
        targets.append(of_protein[positions])
    joined = np.concatenate(targets)
    if isinstance(labels, ResidueNumbers):
        return Batch(torch.cat(blocks), sizes, ~np.isnan(joined), None, joined)
    return Batch(torch.cat(blocks), sizes, joined >= 0, joined, None)


def as_tensor(vectors: Vectors) -> Tensor:
    """Return vectors as a float32 tensor, copied: what is mapped from a file may not be writable."""
    return torch.from_numpy(np.array(vectors, dtype=np.float32))


class ResidueDescent(BaseDescent):
    """The task of the training loop: a batch of proteins a step, the mean loss over its known residues."""

    def __init__(
        self, model: ResidueNetwork, batch: Callable[[Indices], Batch], cost: Callable[[Tensor, Batch], Tensor],
        sampler: ShuffledSampler, knobs: DescentConfig, device: str,
    ) -> None:  # fmt: skip
        super().__init__(model, sampler, knobs)
        self.batch = batch
        self.cost = cost
        self.device = device

    def loss(self, step: int) -> tuple[Tensor, Entry]:
        """Return the loss of a batch; 0 where none of its residues is known."""
        batch = self.batch(self.sampler.rows(step))
        outputs = self.model(batch.block.to(self.device), batch.sizes)
        return (self.cost(outputs, batch) if batch.known.any() else outputs.sum() * 0.0), {}


class TrainedResidueHead(BaseResidueHead):
    """A network over residues; a subclass says of which shape."""

    file: ClassVar[str]
    """Name of the file that holds the network."""
    config: TrainedConfig
    chosen: TrainedConfig
    network: ResidueNetwork

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """The layers of the network, by its knobs."""

    def _fit(self, x: Features, labels: Targets, validation: Validation[Targets], seed: int, log: Log | None) -> None:
        self._train(x, labels, validation, seed, log)

    def _refit(self, x: Features, labels: Targets, seed: int, log: Log | None) -> None:
        self._train(x, labels, None, seed, log)

    def _train(
        self, x: Features, labels: Targets, held: Validation[Targets] | None, seed: int, log: Log | None
    ) -> None:
        """Fit with what is chosen; choose on the held proteins when to stop, and how far rare classes are favoured."""
        self._draw(x, labels, seed)
        knobs = self.chosen
        sampler = ShuffledSampler(len(x), knobs.batch, seed)

        def read(rows: Indices) -> Batch:
            return batch_of(x, labels, rows)

        descent = ResidueDescent(self.network, read, self._cost(labels), sampler, knobs, self.device)
        epoch = sampler.steps_an_epoch
        plan = TrainingPlan(knobs.epochs * epoch, knobs.lr, warmup=min(epoch // 2, 100), clip=1.0, seed=seed)
        if held is None or knobs.stop is not None:
            run(descent, plan, log=log, stop_after=epoch * (knobs.epochs if knobs.stop is None else knobs.stop))
        else:
            descent.measure = lambda: self._measured(held)
            watched = replace(plan, validate_every=epoch, patience=knobs.patience)
            history = run(descent, watched, log=log)
            self.chosen = replace(self.chosen, stop=max(1, history.best_step // epoch))
        self.network.eval().requires_grad_(False)
        if held is not None:
            self._judge(held)

    def _draw(self, x: Features, labels: Targets, seed: int) -> None:
        """Make the network, with the mean and deviation of the vectors of some training proteins."""
        rows = np.sort(np.random.default_rng(seed).permutation(len(x))[:MEASURED])
        total, square, n = np.zeros(x.width), np.zeros(x.width), 0
        for vectors, _, _ in protein_vectors(x.take(rows)):
            wide = vectors.astype(np.float64)
            total += wide.sum(0)
            square += np.square(wide).sum(0)
            n += len(wide)
        mean = total / n
        deviation = np.sqrt(np.maximum(square / n - np.square(mean), 0.0))
        deviation[deviation <= 1e-6 * (np.abs(mean) + deviation.mean())] = 1.0
        self.network = ResidueNetwork.drawn(x.width, max(1, labels.n_classes), self.shape, seed)
        self.network.mean.copy_(torch.from_numpy(mean))
        self.network.scale.copy_(torch.from_numpy(deviation))
        if isinstance(labels, ResidueNumbers):
            values = labels.values[labels.known]
            self.network.centre.fill_(float(values.mean()))
            self.network.spread.fill_(float(values.std()) or 1.0)
        else:
            self.prior = log_prior(labels.counts())
            self._begin(labels.counts())
        self.network.to(self.device).train()

    def _begin(self, counts: Indices) -> None:
        """Begin at the shares of the classes: to find that one is rare would take a linear network many epochs."""
        weights = class_weights(counts, self.config.class_weights).values
        with torch.no_grad():
            if self.network.enter is None:
                self.network.out.weight.zero_()
            if self.config.loss != "logit-adjusted":
                shares = np.maximum(counts, 1) * weights.astype(np.float64)
                self.network.out.bias.copy_(torch.from_numpy(np.log(shares / shares.sum())))

    def _cost(self, labels: Targets) -> Callable[[Tensor, Batch], Tensor]:
        """Return the loss of outputs (residues, outputs) on a batch: of the known residues alone."""
        knobs = self.chosen
        if isinstance(labels, ResidueNumbers):

            def squares(outputs: Tensor, batch: Batch) -> Tensor:
                assert batch.values is not None
                wanted = torch.from_numpy(batch.values[batch.known]).to(outputs)
                known = torch.from_numpy(batch.known).to(outputs.device)
                return F.mse_loss(outputs[known, 0], (wanted - self.network.centre) / self.network.spread)

            return squares
        counts = labels.counts()
        weights = class_weights(counts, knobs.class_weights)
        cost = make_loss(knobs.loss, counts, weights.values, gamma=knobs.gamma, tau=knobs.tau, device=self.device)

        def entropy(outputs: Tensor, batch: Batch) -> Tensor:
            assert batch.codes is not None
            known = torch.from_numpy(batch.known).to(outputs.device)
            return cost(outputs[known], torch.from_numpy(batch.codes[batch.known]).to(outputs.device))

        return entropy

    def _outputs(self, x: Features) -> Iterator[Probabilities]:
        """Give the outputs of each protein, asked by itself, (residues, outputs); NaN of those not seen."""
        for vectors, positions, length in protein_vectors(x, len(self.network.mean)):
            with torch.inference_mode():
                block = as_tensor(vectors).to(self.device)
                outputs = self.network(block, [len(block)])
            yield spread_out(outputs.cpu().numpy(), positions, length)

    def _said(self, outputs: Probabilities, adjust: float) -> Probabilities:
        """Return probabilities, or the number, of outputs."""
        tensor = torch.from_numpy(outputs)
        if not self.classes:
            return (tensor * self.network.spread.cpu() + self.network.centre.cpu()).numpy()
        return (tensor - adjust * self.prior).softmax(1).numpy()

    def per_protein(self, x: Features) -> Iterator[Probabilities]:
        """Give what is said of each protein."""
        for outputs in self._outputs(x):
            yield self._said(outputs, self.chosen.adjust or 0.0)

    def _measured(self, held: Validation[Targets]) -> float:
        """Return the score on held proteins that decides between epochs."""
        reached = self._reached(held)
        return max(scores[CHOSEN_BY[type(held[1])]] for scores in reached.values())

    def _reached(self, held: Validation[Targets]) -> dict[float, dict[str, float]]:
        """Return the scores on held proteins for each choice of how far rare classes are favoured."""
        outputs = np.concatenate(list(self._outputs(held[0])))
        choices = (0.0,) if not self.classes else ADJUSTMENTS
        if self.config.adjust is not None:
            choices = (self.config.adjust,)
        return {adjust: scores_of(self._said(outputs, adjust), held[1]) for adjust in choices}

    def _judge(self, held: Validation[Targets]) -> None:
        """Choose how far rare classes are favoured, where that is open, and keep what is reached."""
        score, reached = CHOSEN_BY[type(held[1])], self._reached(held)
        best = max(reached, key=lambda adjust: (reached[adjust][score], -adjust))
        self.chosen = replace(self.chosen, adjust=best)
        self.scores = reached[best]

    def save(self, folder: Path) -> None:
        """Write the state of the network, and with classes their logarithmic shares, as safetensors."""
        prior = {"prior": self.prior} if self.classes else {}
        write_state(folder / self.file, self.network.state_dict() | prior)

    def _restore(self, folder: Path) -> None:
        path = folder / self.file
        self.network = read_network(path, self._of_state, self.device)
        outputs = max(1, len(self.classes))
        if self.network.out.out_features != outputs or (self.classes and self.prior.shape != (outputs,)):
            raise ModelError(path, f"not of {outputs} outputs", AGAIN)

    def _of_state(self, state: dict[str, Tensor]) -> ResidueNetwork:
        """Return the network of a file, and keep the logarithmic shares of classes that stand beside it."""
        if self.classes:
            self.prior = state.pop("prior")
        return ResidueNetwork.of_state(state, self.shape)


def check_kernel(kernel: int) -> None:
    """Refuse a window of residues that has no middle.

    Raises
    ------
    UsageError
        If it is even.
    """
    if kernel % 2 == 0:
        raise UsageError(f"setting kernel: {kernel} is even; give an odd number, with a residue in the middle")
