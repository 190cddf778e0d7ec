"""The ranker: boosted trees that order the few candidates of a row, one tree a round however many classes there are.

Its loss is that of a choice among a row's candidates: the softmax of their scores against the true one (McFadden 1974,
conditional logit). It learns from candidates out of fold, whose features are such as those of a new row, and not
those of a row that the sources have seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from lightgbm import Dataset

from esmcls.heads.neighbours.votes import Numbers
from esmcls.heads.settings import AT_LEAST_1, AT_LEAST_2, check_ranges
from esmcls.heads.trees.boosting import ROUNDS, BoostingConfig, Scored, Trees
from esmcls.heads.trees.candidates import FEATURES, Candidates, CandidateSources, LabelledRows, Recipe, out_of_fold
from esmcls.types import Indices, Vectors

CENTRE = 0.03
"""Where nothing could be learned, the score of a candidate is its cosine with the mean of its class over this."""
LEAF, PARTS = 100, 20
"""Candidates that a leaf holds at least, but no more than one of so many parts of all."""


@dataclass(frozen=True)
class RankerConfig(BoostingConfig):
    """Knobs of a ranker besides those of `BoostingConfig`.

    Parameters
    ----------
    folds : int
        The ranker learns from rows whose candidates come from sources fitted on the other folds. When to
        change: it takes too long (3), or classes have few members (10).
    most_rows : int
        Rows that it learns from at most, drawn at random; the sources are fitted on all. When to change: it
        takes too long (lower it), or memory allows more.
    """

    folds: int = 5
    most_rows: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, {"folds": AT_LEAST_2, "most_rows": AT_LEAST_1})


class Learned(NamedTuple):
    """The rounds that training settled on, and the share of rows out of fold whose class was among the candidates.

    Rows without others of their class do not count: they cannot be found.
    """

    rounds: int
    recall: float


@dataclass(frozen=True, eq=False)
class Groups:
    """Candidates one below the other, those of one row together; rows whose class is not among them are left out.

    Parameters
    ----------
    features : float32 array, (candidates, features)
    right : bool array, (candidates,)
        One a row.
    starts : int64 array, (rows,)
        The first candidate of each row.
    """

    features: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]
    starts: Indices

    @classmethod
    def of(cls, parts: Iterable[tuple[Indices | slice, Candidates]], codes: Indices) -> Groups:
        """Put together the candidates of rows, given by their numbers; `codes` holds the class of every row."""
        answered = [_with_truth(candidates, codes[rows]) for rows, candidates in parts]
        if not answered:
            return cls(np.zeros((0, len(FEATURES)), np.float32), np.zeros(0, bool), np.zeros(0, np.int64))
        features, right, sizes = (np.concatenate(part) for part in zip(*answered, strict=True))
        return cls(features, right, np.cumsum(sizes) - sizes)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.starts)

    def dataset(self, reference: Dataset | None = None) -> Dataset:
        """Return them as LightGBM takes them."""
        return Dataset(self.features, self.right.astype(np.float32), reference=reference)

    def shares(self, scores: Numbers) -> Numbers:
        """Return the softmax of scores, (candidates,), over the candidates of each row.

        Examples
        --------
        >>> groups = Groups(np.zeros((3, 0), np.float32), np.array([True, False, True]), np.array([0, 2]))
        >>> groups.shares(np.log([3.0, 1.0, 5.0])).round(2).tolist()
        [0.75, 0.25, 1.0]
        """
        sizes = np.diff(np.append(self.starts, len(scores)))
        weights = np.exp(scores - np.repeat(np.maximum.reduceat(scores, self.starts), sizes))
        return np.asarray(weights / np.repeat(np.add.reduceat(weights, self.starts), sizes))

    def slopes(self, scores: Numbers, _: Dataset) -> tuple[Numbers, Numbers]:
        """Return first and second derivatives of the loss by each score."""
        shares = self.shares(scores)
        return shares - self.right, np.maximum(shares * (1 - shares), 1e-6)

    def loss(self, scores: Numbers, _: Dataset) -> tuple[str, float, bool]:
        """Return the mean of -log share of the true candidates, in the form that LightGBM asks for."""
        return "log_loss", float(-np.log(np.maximum(self.shares(scores)[self.right], 1e-12)).mean()), False


def _with_truth(
    candidates: Candidates, truth: Indices
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], Indices]:
    """Return features, which candidate is right, and the number of candidates, of the rows that have a right one."""
    there = candidates.codes >= 0
    right = there & (candidates.codes == truth[:, None])
    there &= right.any(1)[:, None]
    return candidates.features[there], right[there], there.sum(1)[right.any(1)]


@dataclass(frozen=True, eq=False)
class Ranker:
    """Sources of candidates and the trees that score these; without trees, the nearest mean of a class is the best."""

    sources: CandidateSources
    trees: Trees | None

    @classmethod
    def of(
        cls,
        rows: LabelledRows,
        held: LabelledRows | None,
        recipe: Recipe,
        knobs: RankerConfig,
        seed: int,
        device: str = "cpu",
    ) -> tuple[Ranker, Learned]:
        """Fit on rows; on held rows choose how many rounds."""
        codes = rows.labels.codes
        parts = [*out_of_fold(rows, recipe, knobs.folds, knobs.most_rows, seed, device)]
        groups = Groups.of(parts, codes)
        sources = CandidateSources.of(rows, recipe, device)
        askable = sum(int((rows.labels.counts()[codes[asked]] > 1).sum()) for asked, _ in parts)
        recall = len(groups) / askable if askable else 1.0
        if not len(groups):
            return cls(sources, None), Learned(knobs.rounds or ROUNDS, recall)
        data = groups.dataset()
        held_data, measure = None, None
        if held is not None:
            known = Groups.of(sources.candidates(held.vectors, held.lengths), held.labels.codes)
            held_data, measure = (known.dataset(data), known.loss) if len(known) else (None, None)
        leaf = min(LEAF, max(1, len(groups.right) // PARTS))
        parameters = {"objective": groups.slopes, "metric": "None", "min_data_in_leaf": leaf}
        trees, rounds = Trees.train(data, held_data, knobs, seed, parameters, measure)
        return cls(sources, trees), Learned(rounds, recall)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return len(self.sources.whitening.mean)

    def scored(self, vectors: Vectors, lengths: Indices) -> Iterator[Scored]:
        """Give slices of rows with the scores of their candidates."""
        for rows, candidates in self.sources.candidates(vectors, lengths):
            yield rows, candidates.codes, self._scores(candidates)

    def _scores(self, candidates: Candidates) -> Numbers:
        if self.trees is None:
            return candidates.features[:, :, FEATURES.index("centre")].astype(np.float64) / CENTRE
        there = candidates.codes >= 0
        scores = np.zeros(candidates.codes.shape)
        scores[there] = self.trees.scores(candidates.features[there])
        return scores

    def save(self, folder: Path) -> None:
        """Write what `CandidateSources` writes, and `lightgbm.txt`."""
        self.sources.save(folder)
        if self.trees is not None:
            self.trees.save(folder)

    @classmethod
    def load(cls, folder: Path, recipe: Recipe, n_classes: int, device: str = "cpu") -> Ranker:
        """Read what `save` wrote, of a model of so many classes."""
        return cls(CandidateSources.load(folder, recipe, n_classes, device), Trees.load(folder, len(FEATURES)))
