"""The kNN head: the nearest training rows vote after within-class whitening; their distance tells how far to trust."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.heads.base import Log, Validation
from esmcls.heads.blocks import AnswerBlocks, checked_vectors, first_rows, grid, score, training_vectors
from esmcls.heads.neighbours.base import NeighbourConfig, NeighbourHead
from esmcls.heads.neighbours.finder import Finder, whitening_of
from esmcls.heads.neighbours.votes import Tally, least_loss, priors_of
from esmcls.heads.neighbours.voting import VotingHead
from esmcls.heads.settings import ABOVE_0, check_ranges
from esmcls.heads.whitening import SHRINKAGES, WithinClass
from esmcls.labels.labels import Labels
from esmcls.types import Vectors

NEIGHBOURS = (5, 20)
TEMPERATURES = (0.005, 0.02, 0.05, 0.1, 0.2)
"""The values that are tried on validation; with the lowest temperature the nearest row decides alone."""
DEPTH = 20
"""The neighbour whose nearness stands for classes without a vote."""
SOFTNESS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)


@dataclass(frozen=True)
class KNNConfig(NeighbourConfig):
    """Knobs of the kNN head besides those of `NeighbourConfig`; None is chosen on validation.

    Parameters
    ----------
    metric : {"cosine", "l2"}
        Nearness of two whitened vectors: their cosine, or minus half the squared distance a dimension. When to
        change: the length of a vector tells something, as with counts (l2).
    whiten : bool
        Whiten by the within-class covariance of the training rows; else only the mean is subtracted. When to
        change: nearly every class has a single member, so that there is no covariance within classes.
    k : int, optional
        Neighbours that vote. When to change: there is no validation part: 1 for families of two or three
        members, more for large ones.
    temperature : float, optional
        A neighbour votes with exp(nearness / temperature). When to change: the nearest one is to decide (lower
        it), or all k alike (raise it).
    softness : float, optional
        A class whose votes amount to those of one neighbour of nearness s weighs exp(s / softness), all classes
        without a vote together as one of the twentieth neighbour's nearness: the least log loss on validation.
        When to change: probabilities are too sure on your own proteins: raise it; which class is first stays as
        it is.
    """

    metric: Literal["cosine", "l2"] = "cosine"
    softness: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, {"softness": ABOVE_0})


class KNNHead(NeighbourHead[Labels], VotingHead):
    """Nearest neighbours among the training rows.

    Examples
    --------
    >>> vectors = np.array([[0, 1], [0, 2], [5, 1], [5, 2]], dtype=np.float32)
    >>> head = KNNHead().fit(Features.from_arrays(vectors), Labels.from_names(["a", "a", "b", "b"]))
    >>> head.top_k(Features.from_arrays(vectors), 1)[0].ravel().tolist()
    [0, 0, 1, 1]
    """

    Config: ClassVar[type[KNNConfig]] = KNNConfig
    config: KNNConfig
    chosen: KNNConfig

    def _fit(self, x: Features, labels: Labels, validation: Validation[Labels], seed: int, log: Log | None) -> None:
        self._choose(x, labels, validation, log)
        self._refit(x, labels, seed, log)

    def _refit(self, x: Features, labels: Labels, seed: int, log: Log | None) -> None:
        """Index all rows with what was chosen; nothing here is drawn, whatever the seed."""
        vectors = training_vectors(x, self.config.pooling)
        self._index(vectors, x.ids, labels, self._within(vectors, labels))

    def _within(self, vectors: Vectors, labels: Labels) -> WithinClass | None:
        return WithinClass.of(vectors, labels.codes, labels.n_classes, self.device) if self.chosen.whiten else None

    def _index(self, vectors: Vectors, ids: list[str], labels: Labels, within: WithinClass | None) -> None:
        """Put the training rows, whitened, into the index."""
        whitening = whitening_of(vectors, within, self.chosen.shrinkage)
        self.finder = Finder.of(vectors, list(ids), whitening, self.chosen.metric, self.chosen.engine, self.device)
        self._take_labels(labels)

    def _choose(self, x: Features, labels: Labels, validation: Validation[Labels], log: Log | None) -> None:
        """Take shrinkage, k and temperature of the best macro F1 on held rows, the first of equals; then softness."""
        vectors = training_vectors(x, self.config.pooling)
        held, truth = first_rows(checked_vectors(validation[0], self.config.pooling, vectors.shape[1]), validation[1])
        within = self._within(vectors, labels)
        best = self.config
        for shrinkage in grid(self.config.shrinkage, SHRINKAGES if within is not None else (1.0,)):
            self.chosen = replace(self.config, shrinkage=shrinkage)
            self._index(vectors, x.ids, labels, within)
            for config, tally, scores in self._trials(held, truth):
                if not self.scores or scores["macro_f1"] > self.scores["macro_f1"]:
                    best = config
                    best_tally = tally
                    self.scores = scores
                if log is not None:
                    log({"shrinkage": shrinkage, "k": config.k or 0, "temperature": config.temperature or 0, **scores})
        tallies = [(slice(None), best_tally)]
        softness, _, _ = least_loss(tallies, self.priors, truth.codes, grid(best.softness, SOFTNESS))
        self.chosen = replace(best, softness=softness)

    def _trials(self, held: Vectors, truth: Labels) -> Iterator[tuple[KNNConfig, Tally, dict[str, float]]]:
        """Give what every k and temperature reaches on the held rows, with one search."""
        ks = grid(self.config.k, NEIGHBOURS)
        nearness, rows = self.finder.whole(held, max(*ks, DEPTH))
        for k in ks:
            for temperature in grid(self.config.temperature, TEMPERATURES if k > 1 else TEMPERATURES[:1]):
                tally = Tally.soft(self.codes[rows[:, :k]], nearness, temperature)
                yield replace(self.chosen, k=k, temperature=temperature), tally, score(truth, tally.codes[:, 0])

    def _answers(self, x: Features) -> AnswerBlocks:
        k = self.chosen.k or NEIGHBOURS[-1]
        temperature = self.chosen.temperature or TEMPERATURES[0]
        softness = self.chosen.softness or SOFTNESS[4]
        for rows, nearness, training_rows in self.finder(self._checked(x), max(k, DEPTH)):
            tally = Tally.soft(self.codes[training_rows[:, :k]], nearness, temperature)
            yield rows, tally.weigh(self.priors, softness)

    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return minus the distance of the nearest training row, (n,)."""
        return -self.nearest(x)[0].astype(np.float64)

    @property
    def _row_ids(self) -> list[str]:
        return self.finder.ids

    def save(self, folder: Path) -> None:
        """Write `index.faiss`, `ids.json` and `knn.safetensors` (codes int64; mean, matrix float32)."""
        self.finder.save(folder, self.codes)

    def _restore(self, folder: Path) -> None:
        self.finder, self.codes = Finder.load(
            folder, self.config.metric, self.config.engine, len(self.classes), self.device
        )
        self.priors = priors_of(self.codes, len(self.classes))
