"""The scale of training numbers, which heads for numbers fit on: less their mean, in deviations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file

from esmcls.heads.saved_tensors import read_tensors
from esmcls.labels.numbers import Numbers
from esmcls.metrics.regression import score_numbers
from esmcls.types import Floats

FILE: Final = "scale.safetensors"
_SHAPES: Final = {"centre": ("float64", "one"), "spread": ("float64", "one")}


@dataclass(frozen=True)
class NumberScale:
    """Mean and standard deviation of training numbers. Where all are one number, that is the answer to everything.

    Examples
    --------
    >>> import numpy as np
    >>> scale = NumberScale.of(Numbers(np.array([1.0, 3.0])))
    >>> scale.standardised(np.array([5.0])).tolist(), scale.restored(np.array([-1.0])).tolist()
    ([3.0], [1.0])
    >>> NumberScale.of(Numbers(np.array([4.5]))).restored(np.array([0.7])).tolist()
    [4.5]
    """

    centre: float
    spread: float

    @classmethod
    def of(cls, numbers: Numbers) -> NumberScale:
        """Measure numbers (n,), of which there is at least one."""
        return cls(float(numbers.values.mean()), float(numbers.values.std()))

    def standardised(self, values: Floats) -> Floats:
        """Return numbers less the mean, in deviations, if there is one."""
        return (values - self.centre) / (self.spread or 1.0)

    def restored(self, values: Floats) -> Floats:
        """Return what `standardised` was given."""
        return values * self.spread + self.centre

    def save(self, folder: Path) -> None:
        """Write `scale.safetensors`."""
        tensors = {name: torch.tensor([value], dtype=torch.float64) for name, value in vars(self).items()}
        save_file(tensors, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> NumberScale:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If the file is damaged.
        """
        tensors = read_tensors(folder / FILE, _SHAPES, one=1)
        return cls(float(tensors["centre"]), float(tensors["spread"]))


def held_scores(held: Numbers, predicted: Floats) -> dict[str, float]:
    """Return the measures of predictions for held rows."""
    return score_numbers(held.values, predicted)


def squared_error(held: Numbers, predicted: Floats) -> float:
    """Return the mean squared error on held rows: heads for numbers choose the knobs that make it least."""
    return float(((predicted - held.values) ** 2).mean()) if len(held) else 0.0
