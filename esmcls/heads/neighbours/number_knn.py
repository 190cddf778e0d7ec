"""The kNN head for numbers: the weighted mean of the nearest training rows' numbers, by how near these are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np
import torch
from safetensors.torch import save_file

from esmcls.cache.features import Features
from esmcls.heads.base import BaseNumberHead, Log, Validation
from esmcls.heads.blocks import checked_vectors, first_rows, grid, training_vectors
from esmcls.heads.neighbours.base import NeighbourConfig, NeighbourHead
from esmcls.heads.neighbours.finder import Finder, Nearness, whitening_of
from esmcls.heads.number_scale import held_scores, squared_error
from esmcls.heads.saved_tensors import check_rows, read_tensors
from esmcls.heads.whitening import SHRINKAGES, WithinClass
from esmcls.labels.numbers import Numbers
from esmcls.types import Floats, Indices, Vectors

NEIGHBOURS: Final = (1, 3, 5, 10, 20, 50)
TEMPERATURES: Final = (0.02, 0.05, 0.1, 0.3, 1.0)
"""The values that are tried on validation."""
FILE: Final = "numbers.safetensors"


@dataclass(frozen=True)
class NumberKNNConfig(NeighbourConfig):
    """Knobs of the kNN head besides those of `NeighbourConfig`; None is chosen on validation.

    Parameters
    ----------
    metric : {"cosine", "l2"}
        Nearness of two whitened vectors: their cosine, or minus half the squared distance a dimension. When to
        change: the length of a vector tells something, as with counts (l2).
    k : int, optional
        Neighbours whose numbers are averaged. When to change: there is no validation part: more where numbers
        are noisy.
    """

    metric: Literal["cosine", "l2"] = "cosine"

    def settled(self) -> NumberKNNConfig:
        """Return it with a default for each knob that is open."""
        return replace(
            self,
            shrinkage=SHRINKAGES[2] if self.shrinkage is None else self.shrinkage,
            k=self.k or 10,
            temperature=self.temperature or 0.1,
        )


def weighted_mean(values: Floats, nearness: Nearness, temperature: float) -> Floats:
    """Return the mean of neighbours' numbers by the softmax of nearness over temperature, (rows,); both (rows, k).

    Examples
    --------
    >>> weighted_mean(np.array([[1.0, 3.0]]), np.array([[0.5, 0.5]], dtype=np.float32), 0.1).tolist()
    [2.0]
    """
    powers = (nearness.astype(np.float64) - nearness[:, :1]) / temperature  # the nearest comes first
    weights = np.exp(powers)
    return np.asarray((weights * values).sum(1) / weights.sum(1))


class NumberKNNHead(NeighbourHead[Numbers], BaseNumberHead):
    """The numbers of the nearest neighbours among the training rows, averaged.

    Examples
    --------
    >>> x = Features.from_arrays(np.array([[0, 1], [0, 2], [5, 1], [5, 2]], dtype=np.float32))
    >>> head = NumberKNNHead(NumberKNNConfig(k=1)).refit(x, Numbers(np.array([1.0, 2.0, 3.0, 4.0])))
    >>> head.predict(x).tolist()
    [1.0, 2.0, 3.0, 4.0]
    """

    Config: ClassVar[type[NumberKNNConfig]] = NumberKNNConfig
    config: NumberKNNConfig
    chosen: NumberKNNConfig
    values: Floats
    """The number of each training row."""

    def _fit(self, x: Features, labels: Numbers, validation: Validation[Numbers], seed: int, log: Log | None) -> None:
        vectors = training_vectors(x, self.config.pooling)
        held = checked_vectors(validation[0], self.config.pooling, vectors.shape[1])
        self._choose(x, vectors, labels, first_rows(held, validation[1]), log)
        self._refit(x, labels, seed, log)
        self.scores = held_scores(validation[1], self._predicted(held))

    def _refit(self, x: Features, labels: Numbers, seed: int, log: Log | None) -> None:
        """Index all rows with what was chosen; nothing here is drawn, whatever the seed."""
        self.chosen = self.chosen.settled()
        vectors = training_vectors(x, self.config.pooling)
        self._index(vectors, list(x.ids), labels, self._within(vectors), self.chosen.shrinkage)

    def _within(self, vectors: Vectors) -> WithinClass | None:
        return WithinClass.of_all(vectors, self.device) if self.config.whiten else None

    def _index(
        self, vectors: Vectors, ids: list[str], labels: Numbers, within: WithinClass | None, shrinkage: float | None
    ) -> None:
        whitening = whitening_of(vectors, within, shrinkage)
        self.finder = Finder.of(vectors, ids, whitening, self.config.metric, self.config.engine, self.device)
        self.values = labels.values
        self.__dict__.pop("label_of_row", None)

    def _choose(
        self, x: Features, vectors: Vectors, labels: Numbers, held: tuple[Vectors, Numbers], log: Log | None
    ) -> None:
        """Take shrinkage, k and temperature of the least squared error on held rows, the first of equals."""
        within = self._within(vectors)
        best = np.inf
        for shrinkage in grid(self.config.shrinkage, SHRINKAGES if within is not None else SHRINKAGES[2:]):
            self._index(vectors, list(x.ids), labels, within, shrinkage)
            for trial, predicted in self._trials(held[0]):
                error = squared_error(held[1], predicted)
                if log is not None:
                    log({"shrinkage": shrinkage, "k": trial.k or 0, "squared_error": error})
                if error < best:
                    best = error
                    self.chosen = replace(trial, shrinkage=shrinkage)

    def _trials(self, held: Vectors) -> Iterator[tuple[NumberKNNConfig, Floats]]:
        """Give what every k and temperature says of the held rows, with one search."""
        ks = grid(self.config.k, NEIGHBOURS)
        nearness, rows = self.finder.whole(held, max(ks))
        for k in ks:
            for temperature in grid(self.config.temperature, TEMPERATURES if k > 1 else TEMPERATURES[:1]):
                predicted = weighted_mean(self.values[rows[:, :k]], nearness[:, :k], temperature)
                yield replace(self.config, k=k, temperature=temperature), predicted

    def _predicted(self, vectors: Vectors) -> Floats:
        answers = np.zeros(len(vectors))
        knobs = self.chosen.settled()
        for rows, nearness, training_rows in self.finder(vectors, knobs.k or 1):
            answers[rows] = weighted_mean(self.values[training_rows], nearness, knobs.temperature or 1.0)
        return answers

    def predict(self, x: Features) -> Floats:
        """Return the number of each row, (n,)."""
        return self._predicted(self._checked(x))

    @cached_property
    def label_of_row(self) -> dict[str, str]:
        """The number of each training row by its id; ids of rows with different numbers are not there."""
        values: dict[str, set[float]] = {}
        for name, value in zip(self.finder.ids, self.values.tolist(), strict=True):
            values.setdefault(name, set()).add(value)
        return {name: f"{known.pop():.6g}" for name, known in values.items() if len(known) == 1}

    def save(self, folder: Path) -> None:
        """Write what `esmcls.heads.neighbours.finder` does, and `numbers.safetensors` (values float64)."""
        codes: Indices = np.zeros(len(self.finder.ids), dtype=np.int64)
        self.finder.save(folder, codes)
        save_file({"values": torch.from_numpy(self.values)}, folder / FILE)

    def _restore(self, folder: Path) -> None:
        self.finder, codes = Finder.load(folder, self.config.metric, self.config.engine, 0, self.device)
        self.values = read_tensors(folder / FILE, {"values": ("float64", "rows")})["values"].numpy()
        check_rows(folder / FILE, len(self.values), len(codes))
