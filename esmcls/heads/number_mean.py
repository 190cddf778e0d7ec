"""The head that answers the mean of the training numbers: what a model must beat to have learned anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from esmcls.cache.features import Features
from esmcls.heads.base import BaseNumberHead, Log, Validation
from esmcls.heads.number_scale import NumberScale, held_scores
from esmcls.labels.numbers import Numbers
from esmcls.types import Floats


@dataclass(frozen=True)
class MeanConfig:
    """There is nothing to set."""


class MeanHead(BaseNumberHead):
    """The mean of the training numbers for every protein: a baseline.

    Examples
    --------
    >>> x = Features.from_arrays(np.zeros((2, 3), dtype=np.float32))
    >>> MeanHead().fit(x, Numbers(np.array([1.0, 4.0]))).predict(x).tolist()
    [2.5, 2.5]
    """

    Config: ClassVar[type[MeanConfig]] = MeanConfig
    config: MeanConfig
    chosen: MeanConfig
    reads_vectors = False
    scale: NumberScale

    def _fit(self, x: Features, labels: Numbers, validation: Validation[Numbers], seed: int, log: Log | None) -> None:
        self._refit(x, labels, seed, log)
        self.scores = held_scores(validation[1], self.predict(validation[0]))

    def _refit(self, x: Features, labels: Numbers, seed: int, log: Log | None) -> None:
        """Take the mean of all."""
        self.scale = NumberScale.of(labels)

    def predict(self, x: Features) -> Floats:
        """Return the mean for each row, (n,)."""
        return np.full(len(x), self.scale.centre)

    def save(self, folder: Path) -> None:
        """Write `scale.safetensors`."""
        self.scale.save(folder)

    def _restore(self, folder: Path) -> None:
        self.scale = NumberScale.load(folder)
