"""What fine-tuning needs of a kind of task: its labels, the loss of a step, the score it chooses by, and its head.

    Objective ──supervise(rows)──▶ Supervision ──fit(frozen vectors)──▶ StartingHead ──continued(tuned layer)──▶ head
                                        │
                                        └── loss of a step's pieces, score of validation

The steps of fine-tuning know no label: one a protein, or any number of terms, is what a `Supervision` holds.

What the network answers, an output each, is a protein or, where the objective is `of_residues`, a residue. Below, a row
is then a residue: its number where the proteins of the part stand one after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from torch import Tensor

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.heads.blocks import LogitBlocks
from esmcls.heads.layers.linear import LinearHead
from esmcls.heads.layers.number_ridge import RidgeHead
from esmcls.heads.layers.ridge import Scaling
from esmcls.heads.layers.term_linear import TermLinearHead
from esmcls.heads.residues.networks import ResidueLinearHead
from esmcls.heads.whitening import Whitening
from esmcls.metrics.classification import Interval
from esmcls.tasks.fitted import ClassLabels, FittedModel
from esmcls.training.losses import LossName, NumberLossName, Sampler, Weighting
from esmcls.training.term_losses import TermLossName
from esmcls.types import Indices

FinalHead: TypeAlias = LinearHead | TermLinearHead | RidgeHead | ResidueLinearHead
"""What a model folder holds after fine-tuning."""


class Settings(Protocol):
    """What labels and losses read of the settings of a fine-tuning."""

    @property
    def loss(self) -> str | None: ...
    @property
    def gamma(self) -> float: ...
    @property
    def tau(self) -> float: ...
    @property
    def class_weights(self) -> Weighting: ...
    @property
    def beta(self) -> float: ...
    @property
    def weight_cap(self) -> float: ...
    @property
    def sampling(self) -> Literal["as-is", "balanced"]: ...
    @property
    def start(self) -> Literal["linear", "zero"]: ...
    @property
    def batch(self) -> int: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class OutputLayer:
    """A linear layer on scaled vectors: where the layer that is trained begins.

    Parameters
    ----------
    weight, bias : float32 tensors, (classes, width) and (classes,)
        Calibrated: the logits are as sure as validation says they may be.
    scaling : Scaling or Whitening
        Of the vectors; see `esmcls.heads.layers.linear.scaled`.
    """

    weight: Tensor
    bias: Tensor
    scaling: Scaling | Whitening


class StartingHead(Protocol):
    """The head fitted on vectors of the frozen encoder."""

    @property
    def output(self) -> OutputLayer:
        """The layer that training goes on from."""
        ...

    @property
    def scores(self) -> dict[str, float]:
        """What it reaches on the held rows; nothing where there are none."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """Every knob of the head, with what was chosen, for a manifest."""
        ...

    def continued(self, weight: Tensor, bias: Tensor, mean: Tensor, held: Features | None, pooling: str) -> FinalHead:
        """Return the head with what training made of its layer; calibrated, and its `scores` measured, on held rows.

        Parameters
        ----------
        weight, bias : float32 tensors, (classes, width) and (classes,)
        mean : float32 tensor, (width,)
            What is subtracted from a vector now; the rest of the scaling stays.
        held : Features, optional
            The held rows as the tuned encoder gives them.
        pooling : str
            Of what it will read.
        """
        ...


class StepLoss(Protocol):
    """The loss of a step, so that its gradient is that of the whole batch whatever the pieces.

    The loss of a step is the sum over pieces of `mean` times rows of the piece, over `total` of all rows of the step.
    """

    @property
    def capped(self) -> int:
        """Classes whose weight a cap lowered."""
        ...

    @property
    def logs(self) -> tuple[str, ...]:
        """Names of what is logged beside the loss: see `logged`."""
        ...

    def total(self, rows: Indices) -> float:
        """Return the weight of training rows (n,) together."""
        ...

    def mean(self, logits: Tensor, rows: Indices) -> Tensor:
        """Return the mean over rows (n,) of each row's weight times its loss; logits are (n, classes)."""
        ...

    def logged(self, logits: Tensor, rows: Indices) -> dict[str, Tensor]:
        """Return the sum over rows (n,) of each of `logs`, whose mean over the step is logged."""
        ...


class Supervision(Protocol):
    """The labels of the rows of a run, those to train on and those held for validation, and what is done with them."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the training rows, in the order of logits."""
        ...

    @property
    def counts(self) -> Indices:
        """Training rows of each class, (classes,)."""
        ...

    @property
    def held(self) -> ClassLabels:
        """The labels of the held rows, by the classes of the training rows."""
        ...

    @property
    def marks(self) -> Iterator[str]:
        """The labels of each training protein as a text, for a digest of the run."""
        ...

    def sampler(self, settings: Settings) -> Sampler:
        """Return which proteins each step trains on."""
        ...

    def loss(self, settings: Settings, device: str) -> StepLoss:
        """Return the loss of a step."""
        ...

    def score(self, rows: Indices, blocks: LogitBlocks) -> float:
        """Return how good logits of held rows are, higher being better; of equals, the one with less loss is.

        Parameters
        ----------
        rows : int64 array, (held,)
            The held rows in the order that blocks give them.
        blocks : iterable of (slice, float tensor (rows, classes))
        """
        ...

    def fit(self, x: Features, held: Features | None, settings: Settings, pooling: str, device: str) -> StartingHead:
        """Fit the linear head on vectors of the training rows and, where there are any, of the held ones.

        With `start` "zero" its layer is left at zero, and only the scaling of the vectors is measured.
        """
        ...


class TestReport(Protocol):
    """What a fine-tuned model reaches on the test part."""

    def lines(self) -> list[str]:
        """Return tables for people, one line each."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        ...


class Objective(Protocol):
    """What fine-tuning needs of a kind of task before any row is looked at, and after all is done."""

    @property
    def labelled(self) -> str:
        """What a protein has, in words: "one label a protein", say."""
        ...

    @property
    def losses(self) -> tuple[LossName | TermLossName | NumberLossName, ...]:
        """Names of the losses; the first is the default."""
        ...

    @property
    def refused(self) -> Mapping[str, str]:
        """Settings that this kind of task cannot have: name -> the line that says why."""
        ...

    @property
    def chosen_by(self) -> str:
        """The score of `StartingHead.scores` that validation chooses by."""
        ...

    @property
    def chosen_by_name(self) -> str:
        """The same in words."""
        ...

    @property
    def percent(self) -> bool:
        """Whether metrics are shown to people in percent."""
        ...

    @property
    def of_residues(self) -> bool:
        """Whether each residue is answered, not the protein."""
        ...

    def supervise(self, train: Dataset, held: Dataset) -> Supervision:
        """Code the labels of the rows to train on and of those held for validation."""
        ...

    def hold_out(self, train: Dataset, seed: int) -> tuple[Indices, Indices]:
        """Split training proteins into those to train on and to validate on, where there is no validation part."""
        ...

    def test(self, model: FittedModel[Any, Any], test: Dataset, x: Features, seed: int) -> TestReport:
        """Measure a model on the test part.

        Parameters
        ----------
        model : FittedModel[Any, Any]
        test : Dataset
        x : Features
            Its vectors by the model's encoder.
        seed : int
            Of the bootstrap.
        """
        ...

    def metrics_of(self, report: Mapping[str, Any]) -> dict[str, Interval]:
        """Return the metrics of a `TestReport` in JSON, for a mean over seeds; ValueError where they are none."""
        ...

    def highest(self, metric: str) -> float:
        """Return the best or worst that a metric can be, beyond which no interval goes."""
        ...
