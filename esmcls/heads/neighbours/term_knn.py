"""The kNN head for many labels: the terms of the nearest training rows, by how near these are after whitening."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from esmcls.cache.features import Features
from esmcls.heads.base import BaseTermHead, Log, Validation
from esmcls.heads.blocks import TermBlocks, checked_vectors, first_held, grid, training_vectors
from esmcls.heads.neighbours.base import NeighbourConfig, NeighbourHead
from esmcls.heads.neighbours.finder import Finder, whitening_of
from esmcls.heads.neighbours.term_votes import HELD_MOST, Choice, Known, carried_by_nearness, settled
from esmcls.heads.saved_tensors import check_rows
from esmcls.heads.settings import AT_LEAST_0, check_ranges
from esmcls.heads.whitening import SHRINKAGES, WithinClass
from esmcls.labels.labels import LabelSets
from esmcls.types import Vectors

NEIGHBOURS = (10, 20, 50, 100)
TEMPERATURES = (0.02, 0.05, 0.1, 0.2)
BACKGROUNDS = (0.0, 0.1, 0.2, 0.3, 0.4)
"""The values that are tried on validation, one knob after another."""


@dataclass(frozen=True)
class TermKNNConfig(NeighbourConfig):
    """Knobs of the kNN head besides those of `NeighbourConfig`; None is chosen on validation.

    Parameters
    ----------
    components : int
        Directions of largest variance that are kept of whitened rows; 0 keeps all. When to change: the index is to
        be small: of 768 numbers 128 find nearly the same neighbours.
    k : int, optional
        Neighbours whose terms are carried over. When to change: there is no validation part: fewer where the
        set is small.
    temperature : float, optional
        A neighbour of cosine s weighs exp(s / temperature). When to change: the nearest one is to decide (lower
        it), or all k alike (raise it).
    background : float, optional
        The cosine of one neighbour more, which has each term by its share of the training rows with any of its
        aspect. When to change: proteins without near neighbours get too many terms for certain: raise it.
    """

    components: int = 0
    background: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, {"components": AT_LEAST_0, "background": (-1, 1)})

    def settled(self) -> TermKNNConfig:
        """Return it with a default for each knob that is open."""
        return settled(self, {"shrinkage": SHRINKAGES[1], "k": 50, "temperature": 0.1, "background": 0.1})


class TermKNNHead(NeighbourHead[LabelSets], BaseTermHead):
    """Terms of the nearest neighbours among the training rows.

    Examples
    --------
    >>> vectors = np.array([[0, 1], [0, 2], [5, 1], [5, 2]], dtype=np.float32)
    >>> labels = LabelSets.from_names([["a"], ["a"], ["b"], ["a", "b"]])
    >>> head = TermKNNHead(TermKNNConfig(k=1)).refit(Features.from_arrays(vectors), labels)
    >>> (head.predict_proba(Features.from_arrays(vectors)) > 0.5).astype(int).tolist()
    [[1, 0], [1, 0], [0, 1], [1, 1]]
    """

    Config: ClassVar[type[TermKNNConfig]] = TermKNNConfig
    config: TermKNNConfig
    chosen: TermKNNConfig
    known: Known

    def _fit(
        self, x: Features, labels: LabelSets, validation: Validation[LabelSets], seed: int, log: Log | None
    ) -> None:
        self._choose(x, labels, first_held(validation, HELD_MOST), log)
        self._refit(x, labels, seed, log)

    def _refit(self, x: Features, labels: LabelSets, seed: int, log: Log | None) -> None:
        """Index all rows with what was chosen; nothing here is drawn, whatever the seed."""
        self.chosen = self.chosen.settled()
        self.known = Known(labels)
        vectors = training_vectors(x, self.config.pooling)
        self.finder = self._finder(vectors, list(x.ids), self._within(vectors), self.chosen.shrinkage)

    def _within(self, vectors: Vectors) -> WithinClass | None:
        return WithinClass.of_all(vectors, self.device) if self.config.whiten else None

    def _finder(self, vectors: Vectors, ids: list[str], within: WithinClass | None, shrinkage: float | None) -> Finder:
        whitening = whitening_of(vectors, within, shrinkage)
        if within is not None and self.config.components:
            whitening = whitening.leading(self.config.components)
        return Finder.of(vectors, ids, whitening, "cosine", self.config.engine, self.device)

    def _choose(self, x: Features, labels: LabelSets, held: Validation[LabelSets], log: Log | None) -> None:
        """Choose on held rows: shrinkage, then k and temperature, then the background."""
        config = self.config.settled()
        shrinkages = grid(self.config.shrinkage, SHRINKAGES if config.whiten else SHRINKAGES[:1])
        ks = grid(self.config.k, NEIGHBOURS)
        vectors = training_vectors(x, config.pooling)
        held_vectors = checked_vectors(held[0], config.pooling, vectors.shape[1])
        within = self._within(vectors)
        nearest = {}
        for shrinkage in shrinkages:
            finder = self._finder(vectors, list(x.ids), within, shrinkage)
            nearest[shrinkage] = finder.whole(held_vectors, max(*ks, config.k or 0))
        known = Known(labels)

        def blocks(trial: TermKNNConfig) -> TermBlocks:
            return carried_by_nearness(known, trial, *nearest[trial.shrinkage or 0.0])

        choice = Choice(config, held[1], blocks, log)
        choice.among(shrinkage=shrinkages)
        choice.among(k=ks, temperature=grid(self.config.temperature, TEMPERATURES))
        choice.among(background=grid(self.config.background, BACKGROUNDS))
        self.chosen = choice.best
        self.scores = {"fmax": choice.fmax}

    def blocks(self, x: Features) -> TermBlocks:
        """Give slices of rows and their probabilities: of one search, however many blocks."""
        for rows, nearness, training_rows in self.finder(self._checked(x), self.chosen.k or 1):
            for part, block in carried_by_nearness(self.known, self.chosen, nearness, training_rows):
                yield slice(rows.start + part.start, rows.start + part.stop), block

    def save(self, folder: Path) -> None:
        """Write what `esmcls.heads.neighbours.finder` does, and `terms.safetensors` (offsets, codes int64)."""
        self.finder.save(folder, np.zeros(len(self.finder.ids), dtype=np.int64))
        self.known.save(folder)

    def _restore(self, folder: Path) -> None:
        self.known = Known.load(folder, self.classes, self.groups)
        self.finder, codes = Finder.load(folder, "cosine", self.config.engine, len(self.classes), self.device)
        check_rows(folder / "terms.safetensors", len(self.known.labels), len(codes))
