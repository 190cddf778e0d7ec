"""The kNN head for many labels: the terms of the nearest training rows, by how near these are after whitening."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.blocks import grid
from esmcls.heads.neighbours.knn import KNNConfig, KNNHead
from esmcls.heads.neighbours.search import Engine
from esmcls.heads.neighbours.term_votes import HELD_MOST, Choice, Known, settled
from esmcls.heads.registry import Log
from esmcls.heads.term_base import BaseTermHead, Validation
from esmcls.heads.term_common import Blocks, check_sets, row_slices
from esmcls.heads.whitening import SHRINKAGES
from esmcls.labels.labels import Labels, LabelSets
from esmcls.types import Indices, Probabilities

if TYPE_CHECKING:
    from typing_extensions import Self

NEIGHBOURS = (10, 20, 50, 100)
TEMPERATURES = (0.02, 0.05, 0.1, 0.2)
BACKGROUNDS = (0.0, 0.1, 0.2, 0.3, 0.4)
"""What is chosen from on validation, one knob after another."""


@dataclass(frozen=True)
class TermKNNConfig:
    """Every knob of the kNN head; None is chosen on validation.

    Parameters
    ----------
    whiten : bool
        Whiten by the covariance of all training rows; else only the mean is subtracted.
    shrinkage : float, optional
        Of that covariance towards a multiple of the identity, 0 to 1.
    k : int, optional
        Neighbours whose terms are carried over.
    temperature : float, optional
        A neighbour of cosine s weighs exp(s / temperature).
    background : float, optional
        The cosine of one neighbour more, which has each term by its share of the training rows with any of its aspect.
    engine : {"auto", "faiss", "torch"}
        What searches; the answers are the same up to ties.
    pooling : str
        The pooled vectors to take.
    """

    whiten: bool = True
    shrinkage: float | None = None
    k: int | None = None
    temperature: float | None = None
    background: float | None = None
    engine: Engine = "auto"
    pooling: str = "mean"

    def __post_init__(self) -> None:
        if self.shrinkage is not None and not 0 <= self.shrinkage <= 1:
            raise UsageError(f"setting shrinkage: {self.shrinkage} is not from 0 to 1")
        if self.k is not None and self.k < 1:
            raise UsageError(f"setting k: {self.k} is not at least 1")
        if self.temperature is not None and not 0 < self.temperature < np.inf:
            raise UsageError(f"setting temperature: {self.temperature} is not above 0 and finite")
        if self.background is not None and not -1 <= self.background <= 1:
            raise UsageError(f"setting background: {self.background} is not from -1 to 1")

    def settled(self) -> TermKNNConfig:
        """Return it with a default for each knob that is open."""
        return settled(self, {"shrinkage": SHRINKAGES[1], "k": 50, "temperature": 0.1, "background": 0.1})

    def search(self) -> KNNConfig:
        """Return the knobs of the head that finds the neighbours."""
        return KNNConfig(whiten=self.whiten, shrinkage=self.shrinkage, engine=self.engine, pooling=self.pooling)


class TermKNNHead(BaseTermHead):
    """Terms of the nearest neighbours among the training rows.

    Neighbours are those that `neighbours.knn` finds where all rows are of one class: the covariance within it is
    that of all rows.

    Examples
    --------
    >>> vectors = np.array([[0, 1], [0, 2], [5, 1], [5, 2]], dtype=np.float32)
    >>> labels = LabelSets.from_names([["a"], ["a"], ["b"], ["a", "b"]])
    >>> head = TermKNNHead(TermKNNConfig(k=1)).refit(Features.from_arrays(vectors), labels)
    >>> (head.predict_proba(Features.from_arrays(vectors)) > 0.5).astype(int).tolist()
    [[1, 0], [1, 0], [0, 1], [1, 1]]
    """

    Config: ClassVar[type[TermKNNConfig]] = TermKNNConfig

    def _fit(self, x: Features, labels: LabelSets, validation: Validation, seed: int, log: Log | None) -> None:
        rows = slice(HELD_MOST)
        self._choose(x, labels, (validation[0].take(rows), validation[1].take(rows)), log)
        self.refit(x, labels, seed, log)

    def refit(self, x: Features, labels: LabelSets, seed: int = 0, log: Log | None = None) -> Self:
        """Index all rows with what was chosen; nothing here is drawn, whatever the seed."""
        check_sets(x, labels)
        self.chosen = self.chosen.settled()
        self.classes, self.groups, self.known = labels.classes, labels.groups, Known(labels)
        self.finder = self._finder(x, self.chosen)
        return self

    def _finder(self, x: Features, config: TermKNNConfig) -> KNNHead:
        return KNNHead(config.search(), self.device).refit(x, Labels(("any",), np.zeros(len(x), dtype=np.int64)))

    def _choose(self, x: Features, labels: LabelSets, held: tuple[Features, LabelSets], log: Log | None) -> None:
        """Choose on held rows: shrinkage, then k and temperature, then the background."""
        config, known = self.config, Known(labels)
        shrinkages = grid(config.shrinkage, SHRINKAGES if config.whiten else SHRINKAGES[:1])
        ks = grid(config.k, NEIGHBOURS)
        found = {}
        for shrinkage in shrinkages:
            finder = self._finder(x, replace(config, shrinkage=shrinkage))
            parts = [
                (nearness, rows) for _, nearness, rows in finder.neighbours(held[0], max(*ks, config.settled().k or 0))
            ]
            found[shrinkage] = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
        choice = Choice(config.settled(), held[1], lambda one: _carried(known, one, *found[one.shrinkage]), log)
        choice.among(shrinkage=shrinkages)
        choice.among(k=ks, temperature=grid(config.temperature, TEMPERATURES))
        choice.among(background=grid(config.background, BACKGROUNDS))
        self.chosen, self.scores = choice.best, {"fmax": choice.fmax}

    def blocks(self, x: Features) -> Blocks:
        """Give slices of rows and their probabilities: of one search, however many blocks."""
        for rows, nearness, found in self.finder.neighbours(x, self.chosen.k or 1):
            for part, block in _carried(self.known, self.chosen, nearness, found):
                yield slice(rows.start + part.start, rows.start + part.stop), block

    def nearest(self, x: Features) -> tuple[npt.NDArray[np.float32], list[str]]:
        """Return 1 - cosine of the nearest training row after whitening, float32 (n,), and its id."""
        return self.finder.nearest(x)

    def save(self, folder: Path) -> None:
        """Write what `esmcls.heads.neighbours.knn` does, and `terms.safetensors` (offsets, codes int64)."""
        self.finder.save(folder)
        self.known.save(folder)

    @classmethod
    def load(
        cls, folder: Path, config: TermKNNConfig, classes: tuple[str, ...], groups: tuple[str, ...], device: str = "cpu"
    ) -> Self:
        """Read what `save` wrote."""
        head = cls._of(config, classes, groups, device)
        head.known = Known.load(folder, classes, groups)
        head.finder = KNNHead.load(folder, config.search(), ("any",), device)
        return head


def _carried(
    known: Known, config: TermKNNConfig, nearness: npt.NDArray[np.float32], found: Indices
) -> Iterator[tuple[slice, Probabilities]]:
    """Give blocks of probabilities from the nearest rows, both (n, at least k)."""
    k, temperature, background = config.k or 1, config.temperature or 0.1, config.background or 0.0
    for rows in row_slices(len(found), known.labels.n_classes):
        near = nearness[rows, :k].astype(np.float64)
        top = np.maximum(near[:, :1], background)  # subtracted, so that nothing overflows
        weights, prior = np.exp((near - top) / temperature), np.exp((background - top[:, 0]) / temperature)
        yield rows, known.carried(found[rows, :k], weights, prior)
