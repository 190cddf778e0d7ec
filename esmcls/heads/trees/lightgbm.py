"""The LightGBM head: boosted trees over classes where these are few, else over the candidates that two sources name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from esmcls.cache.features import Features
from esmcls.heads.base import BaseLabelHead, Log, Validation
from esmcls.heads.blocks import HELD_OUT_MOST, AnswerBlocks, checked_vectors, grid, score, training_vectors
from esmcls.heads.neighbours.search import Engine
from esmcls.heads.neighbours.votes import Numbers, Votes
from esmcls.heads.settings import ABOVE_0, AT_LEAST_0, AT_LEAST_1, AT_LEAST_2, FROM_0_TO_1, check_ranges
from esmcls.heads.trees.boosting import Multiclass, weigh
from esmcls.heads.trees.candidates import LabelledRows, Recipe, choose_recipe
from esmcls.heads.trees.ranker import Ranker
from esmcls.heads.trees.time_estimate import Size, Speed, in_words
from esmcls.heads.whitening import SHRINKAGES
from esmcls.labels.labels import Labels
from esmcls.types import Indices

PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Ridge penalties to choose from, in mean eigenvalues of XᵀX."""
TEMPERATURES = (0.05, 20.0)
LEAST = 1e-6
"""Of 1: what all classes together keep at least, and the candidates, whatever the recall."""

_RANGES: Final = {
    "lr": ABOVE_0,
    "ridge": ABOVE_0,
    "temperature": ABOVE_0,
    "shrinkage": FROM_0_TO_1,
    "recall": FROM_0_TO_1,
    "direct_classes": AT_LEAST_0,
    "l2": AT_LEAST_0,
    "folds": AT_LEAST_2,
    "leaves": AT_LEAST_2,
    "candidates": AT_LEAST_1,
    "neighbours": AT_LEAST_1,
    "most_rows": AT_LEAST_1,
    "rounds": AT_LEAST_1,
    "most_rounds": AT_LEAST_1,
    "patience": AT_LEAST_1,
}


@dataclass(frozen=True)
class LightGBMConfig:
    """Every knob of the LightGBM head; None is chosen on validation.

    Parameters
    ----------
    direct_classes : int
        Up to so many classes each has a tree of its own in every round; above, candidates are ranked. When to
        change: there are a few hundred classes with many members each, and time (raise it).
    candidates : int
        Classes that each of the two sources, nearest neighbours and ridge regression, names for a row. When to
        change: the true class is often missing among them (`recall` says how often): raise it.
    neighbours : int
        Training rows that are searched for. When to change: families have more members than that: raise it.
    folds : int
        The ranker learns from rows whose candidates come from sources fitted on the other folds. When to
        change: it takes too long (3), or classes have few members (10).
    most_rows : int
        Rows that it learns from at most, drawn at random; the sources are fitted on all. When to change: it
        takes too long (lower it), or memory allows more.
    shrinkage : float, optional
        Of the within-class covariance, by which rows are whitened, towards a multiple of the identity, 0 to 1;
        with a tree for each class it is 0.1 where it is open. When to change: a fit is to be repeated with what
        another chose.
    ridge : float, optional
        Penalty of the ridge regression, in mean eigenvalues of XᵀX. When to change: a fit is to be repeated
        with what another chose.
    lr : float
        Learning rate of the trees. When to change: rounds end at `most_rounds` (raise it), or validation is
        best after a few (lower it).
    leaves : int
        Leaves of a tree. When to change: there are many rows (31), or few (7).
    l2 : float
        Penalty of a leaf's value. When to change: training is far ahead of validation: raise it.
    rounds : int, optional
        Of boosting. When to change: there is no validation part, or it takes too long.
    most_rounds : int
        Where the rounds are chosen: most of them. When to change: validation still gains at the last one: raise
        it.
    patience : int
        Where the rounds are chosen: how many without a lower loss on validation end it. When to change:
        validation is small and its loss jumps about: raise it.
    temperature : float, optional
        What the scores are divided by before the softmax: the least log loss on validation. When to change:
        probabilities are too sure on your own proteins: raise it; which class is first stays as it is.
    recall : float, optional
        Share of rows whose class is among the candidates, on validation; all classes share what is missing to
        1. When to change: a fit is to be repeated with what another measured.
    engine : {"auto", "faiss", "torch"}
        What searches; the answers are the same up to ties. When to change: the one that is chosen is slow on
        your machine.
    pooling : str
        The pooled vectors to take. When to change: the cache was embedded with another --pool, such as cls or
        max, and validation says that it is better.
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
        check_ranges(self, _RANGES)


class LightGBMHead(BaseLabelHead):
    """Boosted trees: a tree a class and round, or a ranker of candidates; `explanation` says which, and why.

    Examples
    --------
    >>> vectors = np.array([[0, 1], [0, 2], [5, 1], [5, 2]], dtype=np.float32)
    >>> head = LightGBMHead().fit(Features.from_arrays(vectors), Labels.from_names(["a", "a", "b", "b"]))
    >>> head.top_k(Features.from_arrays(vectors), 1)[0].ravel().tolist()
    [0, 0, 1, 1]
    """

    Config: ClassVar[type[LightGBMConfig]] = LightGBMConfig
    config: LightGBMConfig
    chosen: LightGBMConfig
    model: Multiclass | Ranker

    def __init__(self, config: LightGBMConfig | None = None, device: str = "cpu") -> None:
        super().__init__(config, device)
        self._seconds: tuple[float, float] | None = None

    @property
    def _direct(self) -> bool:
        return len(self.classes) <= self.config.direct_classes

    def _fit(self, x: Features, labels: Labels, validation: Validation[Labels], seed: int, log: Log | None) -> None:
        rows = self._labelled(x, labels)
        vectors = checked_vectors(validation[0], self.config.pooling, rows.vectors.shape[1])
        held = LabelledRows(vectors, validation[1], validation[0].lengths)
        self._announce(rows, len(held.lengths), log)
        if not self._direct:
            self._choose(rows, held)
        self._train(rows, held, seed)
        self._calibrate(held, log)

    def _refit(self, x: Features, labels: Labels, seed: int, log: Log | None) -> None:
        """Fit all rows with what is chosen; what is still open takes a default."""
        rows = self._labelled(x, labels)
        self._announce(rows, 0, log)
        self._train(rows, None, seed)
        self.chosen = replace(self.chosen, temperature=self.chosen.temperature or 1.0)

    def _labelled(self, x: Features, labels: Labels) -> LabelledRows:
        return LabelledRows(training_vectors(x, self.config.pooling), labels, x.lengths)

    def _announce(self, rows: LabelledRows, held: int, log: Log | None) -> None:
        """Estimate what either way of boosting takes, and tell which will be begun."""
        knobs = self.chosen
        speed = Speed.measure(knobs.leaves)
        n = len(rows.lengths)
        size = Size(n, held, min(n, knobs.most_rows), rows.vectors.shape[1], len(self.classes))
        rounds = knobs.rounds or knobs.most_rounds
        trials = len(SHRINKAGES) if held and knobs.shrinkage is None else 0
        named = min(2 * knobs.candidates, len(self.classes))
        ranking = speed.ranker(size, rounds, knobs.folds, trials, named, knobs.neighbours)
        self._seconds = speed.multiclass(size, rounds), ranking
        if log is not None:
            log({"estimated_seconds": self._seconds[0 if self._direct else 1]})

    @property
    def explanation(self) -> str:
        """Which way of boosting it is, and why; with the time it was estimated to take, where it was fitted here."""
        classes = len(self.classes)
        knobs = self.chosen
        direct, ranking = (f" (about {in_words(seconds)})" for seconds in self._seconds) if self._seconds else ("", "")
        if self._direct:
            return f"one tree a class and round{direct}: {classes:,} classes are not over {knobs.direct_classes:,}"
        line = f"ranks up to {min(2 * knobs.candidates, classes)} candidates of {classes:,} classes{ranking}"
        line += f"; one tree a class and round{direct} is for up to {knobs.direct_classes:,} classes"
        return line + (f"; {knobs.recall:.1%} of rows have their class among the candidates" if knobs.recall else "")

    def _choose(self, rows: LabelledRows, held: LabelledRows) -> None:
        """Choose shrinkage and penalty of the sources where they are open."""
        shrinkages = grid(self.config.shrinkage, SHRINKAGES)
        penalties = grid(self.config.ridge, PENALTIES)
        if len(shrinkages) + len(penalties) > 2:
            some = held.take(np.arange(min(HELD_OUT_MOST, len(held.lengths))))
            shrinkage, penalty = choose_recipe(rows, some, shrinkages, penalties, self.device)
            self.chosen = replace(self.chosen, shrinkage=shrinkage, ridge=penalty)

    def _train(self, rows: LabelledRows, held: LabelledRows | None, seed: int) -> None:
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
        knobs = self.chosen
        penalty = knobs.ridge or PENALTIES[2]
        return Recipe(knobs.shrinkage or 0.0, penalty, knobs.candidates, knobs.neighbours, knobs.engine)

    def _calibrate(self, held: LabelledRows, log: Log | None) -> None:
        """Measure recall, choose the temperature where it is open, and count the held rows that are named right."""
        blocks = list(self.model.scored(held.vectors, held.lengths))
        truth = held.labels.codes
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
            chosen = {"rounds": float(self.chosen.rounds or 0), "recall": self.chosen.recall or 0.0}
            log({**chosen, "temperature": temperature, **self.scores})

    def _weigh(self, codes: Indices, scores: Numbers, temperature: float) -> Votes:
        missed = min(max(1 - (self.chosen.recall or 0.0), LEAST), 1 - LEAST)
        return weigh(codes, scores, len(self.classes), temperature, missed)

    def _answers(self, x: Features) -> AnswerBlocks:
        vectors = checked_vectors(x, self.config.pooling, self.model.width)
        for rows, codes, scores in self.model.scored(vectors, x.lengths):
            yield rows, self._weigh(codes, scores, self.chosen.temperature or 1.0)

    def familiarity(self, x: Features) -> Numbers:
        """Return the cosine of the nearest training row, or with a tree a class the log of the largest probability."""
        if isinstance(self.model, Ranker):
            return self.model.sources.nearest(checked_vectors(x, self.config.pooling, self.model.width))
        return np.log(self.top_k(x, 1)[1][:, 0].astype(np.float64))

    def save(self, folder: Path) -> None:
        """Write what the model is made of: LightGBM's text, safetensors and, of a ranker, FAISS's file."""
        self.model.save(folder)

    def _restore(self, folder: Path) -> None:
        n_classes = len(self.classes)
        if self._direct:
            self.model = Multiclass.load(folder, n_classes)
        else:
            self.model = Ranker.load(folder, self._recipe, n_classes, self.device)


def _least(loss: Callable[[float], float]) -> float:
    """Return the temperature with the least loss."""
    from scipy.optimize import minimize_scalar

    bounds = tuple(map(math.log, TEMPERATURES))
    best = minimize_scalar(lambda log: loss(math.exp(log)), bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return math.exp(best.x)
