"""Knobs of the heads for many labels that are trained by descent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from esmcls.errors import UsageError
from esmcls.training.term_losses import TermLossName

_RANGES: Final = {
    "shrinkage": (0, 1),
    "cap": (0, 1e9),
    "alpha": (0, 1),
    "gamma": (0, 1e3),
    "gamma_positive": (0, 1e3),
    "gamma_negative": (0, 1e3),
    "clip": (0, 0.999),
    "dropout": (0, 0.999),
    "noise": (0, 1e3),
    "lr": (0, 1e3),
    "weight_decay": (0, 1e3),
    "batch": (1, 1e6),
    "epochs": (0, 1e6),
    "patience": (0, 1e6),
    "stop": (0, 1e6),
    "slope": (1e-9, 1e9),
    "shift": (-1e9, 1e9),
}


@dataclass(frozen=True)
class TrainedConfig:
    """Knobs of every head that is trained by descent; None is chosen on validation.

    Parameters
    ----------
    whiten : bool
        Whiten the vectors by their covariance and bring them to one length; else standardise the columns.
    shrinkage : float
        Of that covariance towards a multiple of the identity, 0 to 1.
    loss : {"bce", "weighted", "focal", "asymmetric"}
        See `esmcls.training.term_losses`.
    cap : float
        Largest weight of the positives of a class in the weighted loss, 0 for none; the log tells how many it reached.
    alpha, gamma : float
        Of the focal loss.
    gamma_positive, gamma_negative, clip : float
        Of the asymmetric loss.
    unannotated : {"unknown", "negative"}
        What a protein without any class of a group (an aspect) says of that group: nothing, or that it has none.
    dropout : float
        Share of a hidden layer's outputs that is left out in training.
    noise : float
        Deviation of the noise that is added to the vectors in training, in deviations of the training rows.
    lr, weight_decay : float
        Of AdamW.
    batch : int
        Rows a step; fewer where an epoch would have less than 16 steps.
    epochs : int
        Length of the cosine schedule in passes over the training rows.
    patience : int
        Epochs without a better mean Fmax on validation before training stops; 0 for never.
    stop : int, optional
        Epochs after which training stops: the best on validation.
    slope, shift : float, optional
        Probabilities are sigmoid(slope x logit + shift): the least log loss on validation.
    pooling : str
        The pooled vectors to take.
    """

    whiten: bool = True
    shrinkage: float = 0.01
    loss: TermLossName = "bce"
    cap: float = 10.0
    alpha: float = 0.5
    gamma: float = 2.0
    gamma_positive: float = 0.0
    gamma_negative: float = 4.0
    clip: float = 0.05
    unannotated: Literal["unknown", "negative"] = "unknown"
    dropout: float = 0.0
    noise: float = 0.0
    lr: float = 1e-3
    weight_decay: float = 0.01
    batch: int = 128
    epochs: int = 20
    patience: int = 4
    stop: int | None = None
    slope: float | None = None
    shift: float | None = None
    pooling: str = "mean"

    def __post_init__(self) -> None:
        check_ranges(self, _RANGES)
        if 0 < self.cap < 1:
            raise UsageError(f"setting cap: {self.cap} is not at least 1; 0 is for none")

    @property
    def attention(self) -> bool:
        """Whether a protein is its encoder inputs, weighed by attention; a head may make it a knob."""
        return False


def check_ranges(config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Check knobs; None is in every range.

    Raises
    ------
    UsageError
        If one is out of its range.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"setting {name}: {value} is not from {low:g} to {high:g}")
