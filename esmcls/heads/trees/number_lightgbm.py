"""The LightGBM head for numbers: boosted trees on the columns of the vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from lightgbm import Dataset

from esmcls.cache.features import Features
from esmcls.errors import ModelError
from esmcls.heads.base import BaseNumberHead, Log, Validation
from esmcls.heads.blocks import checked_vectors, first_rows, training_vectors
from esmcls.heads.number_scale import NumberScale, held_scores
from esmcls.heads.saved_tensors import AGAIN
from esmcls.heads.settings import AT_LEAST_1, FROM_0_TO_1, PooledConfig, check_ranges
from esmcls.heads.trees.boosting import BoostingConfig, Trees
from esmcls.heads.whitening import WIDENED_ROWS
from esmcls.labels.numbers import Numbers
from esmcls.plain_values import read_as, write_json
from esmcls.types import Floats, Vectors

WIDTH: Final = "width.json"


@dataclass(frozen=True)
class NumberLightGBMConfig(BoostingConfig, PooledConfig):
    """Knobs of the LightGBM head besides those of `BoostingConfig`.

    Parameters
    ----------
    members : int
        Rows that a leaf holds at least; a tenth of all, where they are few. When to change: numbers are noisy:
        raise it.
    columns : float
        Share of the columns that a tree may split on, drawn for each. When to change: it takes too long (lower
        it), or vectors are narrow (1).
    patience : int
        Where the rounds are chosen: how many without a lower squared error on validation end it. When to change:
        validation is small and its error jumps about: raise it.
    """

    members: int = 20
    columns: float = 0.2
    patience: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, {"columns": FROM_0_TO_1, "members": AT_LEAST_1, "patience": AT_LEAST_1})


class NumberLightGBMHead(BaseNumberHead):
    """Boosted trees on the numbers of a vector.

    Examples
    --------
    >>> x = Features.from_arrays(np.array([[0, 1], [0, 2], [5, 1], [5, 2]] * 5, dtype=np.float32))
    >>> head = NumberLightGBMHead().fit(x, Numbers(np.array([1.0, 1.0, 7.0, 7.0] * 5)))
    >>> (head.predict(x.take(range(4))) > 4).tolist()
    [False, False, True, True]
    """

    Config: ClassVar[type[NumberLightGBMConfig]] = NumberLightGBMConfig
    config: NumberLightGBMConfig
    chosen: NumberLightGBMConfig
    trees: Trees | None
    """None where the rows are too few for a single split: then the mean is the answer."""
    scale: NumberScale
    width: int

    def _fit(self, x: Features, labels: Numbers, validation: Validation[Numbers], seed: int, log: Log | None) -> None:
        vectors = training_vectors(x, self.config.pooling)
        held = checked_vectors(validation[0], self.config.pooling, vectors.shape[1])
        rounds = self._train(vectors, labels, first_rows(held, validation[1]), seed)
        self.chosen = replace(self.chosen, rounds=self.config.rounds or rounds)
        self.scores = held_scores(validation[1], self._predicted(held))
        if log is not None:
            log({"rounds": float(self.chosen.rounds or 0), **self.scores})

    def _refit(self, x: Features, labels: Numbers, seed: int, log: Log | None) -> None:
        """Fit all rows with what is chosen; what is still open takes a default."""
        rounds = self._train(training_vectors(x, self.config.pooling), labels, None, seed)
        self.chosen = replace(self.chosen, rounds=self.chosen.rounds or rounds)

    def _train(self, vectors: Vectors, labels: Numbers, held: tuple[Vectors, Numbers] | None, seed: int) -> int:
        """Fit with what is chosen; on held rows choose the rounds where they are open, and return them."""
        self.scale = NumberScale.of(labels)
        self.width = vectors.shape[1]
        members = min(self.config.members, max(1, len(labels) // 10))
        parameters = {
            "objective": "regression",
            "min_data_in_leaf": members,
            "feature_fraction": self.config.columns if round(self.config.columns * self.width) else 1.0,
            "boost_from_average": False,
        }
        data = Dataset(vectors.astype(np.float32), self.scale.standardised(labels.values))
        held_data = None
        if held is not None and len(held[1]):
            targets = self.scale.standardised(held[1].values)
            held_data = Dataset(held[0].astype(np.float32), targets, reference=data)
        self.trees, rounds = Trees.train(data, held_data, self.chosen, seed, parameters)
        return rounds

    def _predicted(self, vectors: Vectors) -> Floats:
        answers = np.zeros(len(vectors))
        for start in range(0, len(vectors) if self.trees is not None else 0, WIDENED_ROWS):
            rows = slice(start, start + WIDENED_ROWS)
            answers[rows] = self.trees.scores(vectors[rows].astype(np.float32)) if self.trees is not None else 0.0
        return self.scale.restored(answers)

    def predict(self, x: Features) -> Floats:
        """Return the number of each row, (n,)."""
        return self._predicted(checked_vectors(x, self.config.pooling, self.width))

    def save(self, folder: Path) -> None:
        """Write LightGBM's text, `scale.safetensors` and the width of the vectors, `width.json`."""
        self.scale.save(folder)
        write_json(folder / WIDTH, self.width)
        if self.trees is not None:
            self.trees.save(folder)

    def _restore(self, folder: Path) -> None:
        self.scale = NumberScale.load(folder)
        self.width = read_as(folder / WIDTH, int, ModelError, AGAIN)
        self.trees = Trees.load(folder, self.width)
