"""The LightGBM head: boosted trees over classes where these are few, else over the candidates that two sources name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.optimize import minimize_scalar

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.base import BaseHead, Validation
from esmcls.heads.blocks import HELD_OUT_MOST, checked_vectors, score, training_vectors
from esmcls.heads.neighbours.search import Engine
from esmcls.heads.neighbours.votes import Votes, dense_of, top_of
from esmcls.heads.registry import Log
from esmcls.heads.trees.boosting import Multiclass, weigh
from esmcls.heads.trees.candidates import Recipe, choose
from esmcls.heads.trees.evidence import Numbers, Rows
from esmcls.heads.trees.ranker import Ranker
from esmcls.heads.trees.time_estimate import Size, Speed, in_words
from esmcls.heads.whitening import SHRINKAGES
from esmcls.labels.labels import Labels
from esmcls.types import Indices, Probabilities

if TYPE_CHECKING:
    from typing_extensions import Self

PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Ridge penalties to choose from, in mean eigenvalues of XᵀX."""
TEMPERATURES = (0.05, 20.0)
LEAST = 1e-6
"""Of 1: what all classes together keep at least, and the candidates, whatever the recall."""


@dataclass(frozen=True)
class LightGBMConfig:
    """Every knob of the LightGBM head; None is chosen on validation.

    Parameters
    ----------
    direct_classes : int
        Up to so many classes each has a tree of its own in every round; above, candidates are ranked.
    candidates : int
        Classes that each of the two sources, nearest neighbours and ridge regression, names for a row.
    neighbours : int
        Training rows that are searched for.
    folds : int
        The ranker learns from rows whose candidates come from sources fitted on the other folds.
    most_rows : int
        Rows that it learns from at most, drawn at random; the sources are fitted on all.
    shrinkage : float, optional
        Of the within-class covariance, by which rows are whitened, towards a multiple of the identity, 0 to 1; with a
        tree for each class it is 0.1 where it is open.
    ridge : float, optional
        Penalty of the ridge regression, in mean eigenvalues of XᵀX.
    lr, leaves, l2 : float, int, float
        Of the trees: learning rate, leaves of one, penalty of a leaf's value.
    rounds : int, optional
        Of boosting.
    most_rounds, patience : int
        Where the rounds are chosen: most of them, and how many without a lower loss on validation end it.
    temperature : float, optional
        What the scores are divided by before the softmax: the least log loss on validation.
    recall : float, optional
        Share of rows whose class is among the candidates, on validation; all classes share what is missing to 1.
    engine : {"auto", "faiss", "torch"}
        What searches; the answers are the same up to ties.
    pooling : str
        The pooled vectors to take.
    """

    direct_classes: int = 100
    candidates: int = 10
    neighbours: int = 50
    folds: int = 5
    most_rows: int = 100_000
    shrinkage: float | None = None
    ridge: float | None = None
    lr: float = 0.05
    leaves: int = 15
    l2: float = 10.0
    rounds: int | None = None
    most_rounds: int = 500
    patience: int = 30
    temperature: float | None = None
    recall: float | None = None
    engine: Engine = "auto"
    pooling: str = "mean"

    def __post_init__(self) -> None:
        for name in ("lr", "ridge", "temperature"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"setting {name}: {value} is not above 0 and finite")
        for name in ("shrinkage", "recall"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"setting {name}: {value} is not from 0 to 1")
        least = {"direct_classes": 0, "l2": 0, "folds": 2, "leaves": 2, "candidates": 1, "neighbours": 1}
        for name, low in {**least, "most_rows": 1, "rounds": 1, "most_rounds": 1, "patience": 1}.items():
            value = getattr(self, name)
            if value is not None and not low <= value < math.inf:
                raise UsageError(f"setting {name}: {value} is not at least {low} and finite")


class LightGBMHead(BaseHead):
    """Boosted trees: a tree a class and round, or a ranker of candidates; `explanation` says which, and why.

    Examples
    --------
    >>> vectors = np.array([[0, 1], [0, 2], [5, 1], [5, 2]], dtype=np.float32)
    >>> head = LightGBMHead().fit(Features.from_arrays(vectors), Labels.from_names(["a", "a", "b", "b"]))
    >>> head.top_k(Features.from_arrays(vectors), 1)[0].ravel().tolist()
    [0, 0, 1, 1]
    """

    Config: ClassVar[type[LightGBMConfig]] = LightGBMConfig

    def __init__(self, config: LightGBMConfig | None = None, device: str = "cpu") -> None:
        super().__init__(config, device)
        self.model: Multiclass | Ranker
        self._seconds: tuple[float, float] | None = None

    @property
    def _direct(self) -> bool:
        return len(self.classes) <= int(self.config.direct_classes)

    def _fit(self, x: Features, labels: Labels, validation: Validation, seed: int, log: Log | None) -> None:
        rows = self._rows(x, labels)
        vectors = checked_vectors(validation[0], self.config.pooling, rows.vectors.shape[1])
        held = Rows(vectors, validation[1], validation[0].lengths)
        self._announce(rows, len(held.lengths), log)
        if not self._direct:
            self._choose(rows, held)
        self._train(rows, held, seed)
        self._calibrate(held, log)

    def refit(self, x: Features, labels: Labels, seed: int = 0, log: Log | None = None) -> Self:
        """Fit all rows with what is chosen; what is still open takes a default."""
        rows = self._rows(x, labels)
        self.classes = labels.classes
        self._announce(rows, 0, log)
        self._train(rows, None, seed)
        self.chosen = replace(self.chosen, temperature=self.chosen.temperature or 1.0)
        return self

    def _rows(self, x: Features, labels: Labels) -> Rows:
        return Rows(training_vectors(x, labels, self.config.pooling), labels, x.lengths)

    def _announce(self, rows: Rows, held: int, log: Log | None) -> None:
        """Estimate what either way of boosting takes, and tell which will be begun."""
        one, speed, n = self.chosen, Speed.measure(self.chosen.leaves), len(rows.lengths)
        size = Size(n, held, min(n, one.most_rows), rows.vectors.shape[1], len(self.classes))
        rounds, grid = one.rounds or one.most_rounds, len(SHRINKAGES) if held and one.shrinkage is None else 0
        named = min(2 * one.candidates, len(self.classes))
        ranking = speed.ranker(size, rounds, one.folds, grid, named, one.neighbours)
        self._seconds = speed.multiclass(size, rounds), ranking
        if log is not None:
            log({"estimated_seconds": self._seconds[0 if self._direct else 1]})

    @property
    def explanation(self) -> str:
        """Which way of boosting it is, and why; with the time it was estimated to take, where it was fitted here."""
        classes, one = len(self.classes), self.chosen
        direct, ranking = (f" (about {in_words(seconds)})" for seconds in self._seconds) if self._seconds else ("", "")
        if self._direct:
            return f"one tree a class and round{direct}: {classes:,} classes are not over {one.direct_classes:,}"
        told = f"ranks up to {min(2 * one.candidates, classes)} candidates of {classes:,} classes{ranking}"
        told += f"; one tree a class and round{direct} is for up to {one.direct_classes:,} classes"
        return told + (f"; {one.recall:.1%} of rows have their class among the candidates" if one.recall else "")

    def _choose(self, rows: Rows, held: Rows) -> None:
        """Choose shrinkage and penalty of the sources where they are open."""
        shrinkages = SHRINKAGES if self.config.shrinkage is None else (self.config.shrinkage,)
        penalties = PENALTIES if self.config.ridge is None else (self.config.ridge,)
        if len(shrinkages) + len(penalties) > 2:
            some = held.take(np.arange(min(HELD_OUT_MOST, len(held.lengths))))
            shrinkage, penalty = choose(rows, some, shrinkages, penalties, self.device)
            self.chosen = replace(self.chosen, shrinkage=shrinkage, ridge=penalty)

    def _train(self, rows: Rows, held: Rows | None, seed: int) -> None:
        """Fit with what is chosen; on held rows choose the rounds where they are open."""
        shrinkage = SHRINKAGES[2 if self._direct else 1] if self.chosen.shrinkage is None else self.chosen.shrinkage
        self.chosen = replace(self.chosen, shrinkage=shrinkage, ridge=self.chosen.ridge or PENALTIES[2])
        recall = 1.0
        if self._direct:
            self.model, rounds = Multiclass.of(rows, held, shrinkage, self.chosen, seed, self.device)
        else:
            self.model, (rounds, recall) = Ranker.of(rows, held, self._recipe, self.chosen, seed, self.device)
        recall = recall if self.chosen.recall is None else self.chosen.recall
        self.chosen = replace(self.chosen, rounds=self.chosen.rounds or rounds, recall=recall)

    @property
    def _recipe(self) -> Recipe:
        one = self.chosen
        return Recipe(one.shrinkage or 0.0, one.ridge or PENALTIES[2], one.candidates, one.neighbours, one.engine)

    def _calibrate(self, held: Rows, log: Log | None) -> None:
        """Measure recall, choose the temperature where it is open, and count what held rows are told right."""
        blocks, truth = [*self.model.scored(held.vectors, held.lengths)], held.labels.codes
        named = np.concatenate([(codes == truth[rows, None]).any(1) for rows, codes, _ in blocks])
        known = truth >= 0
        if known.any() and self.config.recall is None:
            self.chosen = replace(self.chosen, recall=float(named[known].mean()))

        def loss(temperature: float) -> float:
            parts = (self._weigh(codes, scores, temperature).losses(truth[rows]) for rows, codes, scores in blocks)
            return float(np.concatenate([*parts]).mean())

        temperature = self.config.temperature or (_least(loss) if known.any() else 1.0)
        self.chosen = replace(self.chosen, temperature=temperature)
        best = [self._weigh(codes, scores, temperature).top(1)[0][:, 0] for _, codes, scores in blocks]
        self.scores = score(held.labels, np.concatenate(best))
        if log is not None:
            told = {"rounds": float(self.chosen.rounds or 0), "recall": self.chosen.recall or 0.0}
            log({**told, "temperature": temperature, **self.scores})

    def _weigh(self, codes: Indices, scores: Numbers, temperature: float) -> Votes:
        missed = min(max(1 - (self.chosen.recall or 0.0), LEAST), 1 - LEAST)
        return weigh(codes, scores, len(self.classes), temperature, missed)

    def _votes(self, x: Features) -> Iterator[tuple[slice, Votes]]:
        vectors = checked_vectors(x, self.config.pooling, self.model.width)
        for rows, codes, scores in self.model.scored(vectors, x.lengths):
            yield rows, self._weigh(codes, scores, self.chosen.temperature or 1.0)

    def predict_proba(self, x: Features) -> Probabilities:
        """Return probabilities, float32 (n, classes); the rows sum to 1, and no class has 0."""
        return dense_of(self._votes(x), len(x), len(self.classes))

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k best class codes a row and their probabilities, both (n, min(k, classes))."""
        return top_of(self._votes(x), len(x), min(k, len(self.classes)))

    def familiarity(self, x: Features) -> Numbers:
        """Return the cosine of the nearest training row, or with a tree a class the log of the largest probability."""
        if isinstance(self.model, Ranker):
            return self.model.sources.nearest(checked_vectors(x, self.config.pooling, self.model.width))
        return np.log(self.top_k(x, 1)[1][:, 0].astype(np.float64))

    def save(self, folder: Path) -> None:
        """Write what the model is made of: LightGBM's text, safetensors and, of a ranker, FAISS's file."""
        self.model.save(folder)

    @classmethod
    def load(cls, folder: Path, config: LightGBMConfig, classes: tuple[str, ...], device: str = "cpu") -> Self:
        """Read what `save` wrote."""
        head = cls(config, device)
        head.classes = classes
        head.model = Multiclass.load(folder) if head._direct else Ranker.load(folder, head._recipe, device)
        return head


def _least(loss: Callable[[float], float]) -> float:
    """Return the temperature with the least loss."""
    bounds = tuple(map(math.log, TEMPERATURES))
    found = minimize_scalar(lambda log: loss(math.exp(log)), bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return math.exp(found.x)
