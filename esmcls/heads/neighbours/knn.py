"""The kNN head: the nearest training rows vote after within-class whitening; their distance tells how far to trust."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.heads.base import BaseLabelHead, Log, Validation, labels_by_id
from esmcls.heads.blocks import HELD_OUT_MOST, AnswerBlocks, checked_vectors, grid, score, training_vectors
from esmcls.heads.neighbours.finder import Finder, Nearness, whitening_of
from esmcls.heads.neighbours.search import Engine
from esmcls.heads.neighbours.votes import Numbers, Tally, priors_of
from esmcls.heads.settings import ABOVE_0, AT_LEAST_1, FROM_0_TO_1, check_ranges
from esmcls.heads.whitening import SHRINKAGES, WithinClass
from esmcls.labels.labels import Labels
from esmcls.types import Indices, Vectors

NEIGHBOURS = (5, 20)
TEMPERATURES = (0.005, 0.02, 0.05, 0.1, 0.2)
"""The values that are tried on validation; with the lowest temperature the nearest row decides alone."""
DEPTH = 20
"""The neighbour whose nearness stands for classes without a vote."""
SOFTNESS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)


@dataclass(frozen=True)
class KNNConfig:
    """Every knob of the kNN head; None is chosen on validation.

    Parameters
    ----------
    metric : {"cosine", "l2"}
        Nearness of two whitened vectors: their cosine, or minus half the squared distance a dimension. When to
        change: the length of a vector tells something, as with counts (l2).
    whiten : bool
        Whiten by the within-class covariance of the training rows; else only the mean is subtracted. When to
        change: nearly every class has a single member, so that there is no covariance within classes.
    shrinkage : float, optional
        Of that covariance towards a multiple of the identity, 0 to 1. When to change: a fit is to be repeated
        with what another chose.
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
    engine : {"auto", "faiss", "torch"}
        What searches; the answers are the same up to ties. When to change: the one that is chosen is slow on
        your machine.
    pooling : str
        The pooled vectors to take. When to change: the cache was embedded with another --pool, such as cls or
        max, and validation says that it is better.
    """

    metric: Literal["cosine", "l2"] = "cosine"
    whiten: bool = True
    shrinkage: float | None = None
    k: int | None = None
    temperature: float | None = None
    softness: float | None = None
    engine: Engine = "auto"
    pooling: str = "mean"

    def __post_init__(self) -> None:
        check_ranges(self, {"shrinkage": FROM_0_TO_1, "k": AT_LEAST_1, "temperature": ABOVE_0, "softness": ABOVE_0})


class KNNHead(BaseLabelHead):
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
    finder: Finder
    codes: Indices
    """The class of each training row."""
    priors: Numbers

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
        self.codes = labels.codes
        self.__dict__.pop("label_of_row", None)
        self.priors = priors_of(labels.codes, labels.n_classes)

    def _choose(self, x: Features, labels: Labels, validation: Validation[Labels], log: Log | None) -> None:
        """Take shrinkage, k and temperature of the best macro F1 on held rows, the first of equals; then softness."""
        vectors = training_vectors(x, self.config.pooling)
        held = checked_vectors(validation[0], self.config.pooling, vectors.shape[1])[:HELD_OUT_MOST]
        truth = validation[1].take(slice(HELD_OUT_MOST))
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
        losses = {
            softness: best_tally.weigh(self.priors, softness).losses(truth.codes).mean()
            for softness in grid(best.softness, SOFTNESS)
        }
        self.chosen = replace(best, softness=min(losses, key=losses.__getitem__))

    def _trials(self, held: Vectors, truth: Labels) -> Iterator[tuple[KNNConfig, Tally, dict[str, float]]]:
        """Give what every k and temperature reaches on the held rows, with one search."""
        ks = grid(self.config.k, NEIGHBOURS)
        nearness, rows = self.finder.whole(held, max(*ks, DEPTH))
        for k in ks:
            for temperature in grid(self.config.temperature, TEMPERATURES if k > 1 else TEMPERATURES[:1]):
                tally = Tally.soft(self.codes[rows[:, :k]], nearness, temperature)
                yield replace(self.chosen, k=k, temperature=temperature), tally, score(truth, tally.codes[:, 0])

    def _checked(self, x: Features) -> Vectors:
        return checked_vectors(x, self.config.pooling, self.finder.width)

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

    def nearest(self, x: Features) -> tuple[Nearness, list[str | None]]:
        """Return the distance of the nearest training row, float32 (n,), and its id.

        The distance is 1 - cosine ("cosine") or the root mean square difference of the whitened vectors ("l2").
        """
        return self.finder.nearest(self._checked(x))

    @cached_property
    def label_of_row(self) -> dict[str, str]:
        """The label of each training row by its id; ids of rows with different labels are not there."""
        return labels_by_id(self.finder.ids, self.codes, self.classes)

    def save(self, folder: Path) -> None:
        """Write `index.faiss`, `ids.json` and `knn.safetensors` (codes int64; mean, matrix float32)."""
        self.finder.save(folder, self.codes)

    def _restore(self, folder: Path) -> None:
        self.finder, self.codes = Finder.load(
            folder, self.config.metric, self.config.engine, len(self.classes), self.device
        )
        self.priors = priors_of(self.codes, len(self.classes))
