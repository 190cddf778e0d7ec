"""The LightGBM head for many labels: boosted trees for each of the frequent terms, the share of rows for all others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch
from lightgbm import Dataset
from safetensors.torch import save_file
from scipy.sparse import csc_matrix
from scipy.special import expit

from esmcls.cache.features import Features
from esmcls.errors import ModelError, UsageError
from esmcls.heads.base import BaseTermHead, Log, Validation
from esmcls.heads.blocks import TermBlocks, check_sets, checked_vectors, first_held, grid, row_slices, training_vectors
from esmcls.heads.neighbours.term_votes import HELD_MOST, Choice, Known
from esmcls.heads.saved_tensors import check_codes, read_tensors
from esmcls.heads.settings import ABOVE_0, AT_LEAST_1, PooledConfig, check_ranges
from esmcls.heads.trees.boosting import MEMBERS, MODEL, BoostingConfig, Trees
from esmcls.heads.trees.time_estimate import SPLIT, Speed, in_words
from esmcls.heads.whitening import WIDENED_ROWS, Whitening, WithinClass, row_blocks
from esmcls.labels.labels import LabelSets
from esmcls.types import Vectors

if TYPE_CHECKING:
    from typing_extensions import Self

ROUNDS: Final = (25, 50, 100, 200)
"""The numbers that are tried on validation, up to `most_rounds`."""
ENDED: Final = "\n=== end of a term's trees ===\n"
"""The line between models in the file."""

SHAPES: Final = {
    "mean": ("float32", "width"),
    "matrix": ("float32", "width", "seen"),
    "shares": ("float32", "classes"),
    "codes": ("int64", "trees"),
}
"""Of the tensors of a model."""
_RANGES: Final = {"minutes": ABOVE_0, "most_terms": AT_LEAST_1, "least_rows": AT_LEAST_1, "features": AT_LEAST_1}


@dataclass(frozen=True)
class TermLightGBMConfig(BoostingConfig, PooledConfig):
    """Knobs of the LightGBM head besides those of `BoostingConfig`.

    Parameters
    ----------
    most_terms : int
        So many of the most frequent terms have trees of their own. When to change: there is time for more, or
        it takes too long.
    least_rows : int
        A term that fewer training rows have, has none. When to change: rare terms are predicted badly by their
        trees: raise it.
    minutes : float
        What would take longer by the estimate is refused before it begins. When to change: you can wait longer.
    features : int
        Leading principal components of the vectors that trees see. When to change: it takes too long (32), or
        there are many rows (128).
    """

    most_terms: int = 200
    least_rows: int = 10
    minutes: float = 60.0
    features: int = 64
    lr: float = 0.1
    most_rounds: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, _RANGES)


class TermLightGBMHead(BaseTermHead):
    """Boosted trees, one binary model a frequent term.

    Examples
    --------
    >>> vectors = np.repeat(np.arange(60, dtype=np.float32)[:, None], 2, 1)
    >>> labels = LabelSets.from_names([["a"] if row < 30 else ["b", "c"] for row in range(60)])
    >>> head = TermLightGBMHead(TermLightGBMConfig(least_rows=20)).refit(Features.from_arrays(vectors), labels)
    >>> (head.predict_proba(Features.from_arrays(vectors[[0, 59]])) > 0.5).astype(int).tolist()
    [[1, 0, 0], [0, 1, 1]]
    """

    Config: ClassVar[type[TermLightGBMConfig]] = TermLightGBMConfig
    config: TermLightGBMConfig
    chosen: TermLightGBMConfig
    shares: npt.NDArray[np.float32]
    """Of each class among the training rows, (classes,)."""
    whitening: Whitening

    def __init__(self, config: TermLightGBMConfig | None = None, device: str = "cpu") -> None:
        super().__init__(config, device)
        self.trees: dict[int, Trees] = {}
        """By the code of a term."""

    def fit(
        self,
        x: Features,
        labels: LabelSets,
        validation: Validation[LabelSets] | None = None,
        seed: int = 0,
        log: Log | None = None,
    ) -> Self:
        """Fit; see `LabelledHead`; refused, before anything is begun, if it would take too long."""
        check_sets(x, labels)
        if validation is None or not len(validation[0]):
            self._afford(x, labels, 2, log)
        return super().fit(x, labels, validation, seed, log)

    def _fit(
        self, x: Features, labels: LabelSets, validation: Validation[LabelSets], seed: int, log: Log | None
    ) -> None:
        self.chosen = replace(self.config, rounds=self.config.rounds or self.config.most_rounds)
        self._refit(x, labels, seed, log)
        self._choose(*first_held(validation, HELD_MOST), log)

    def _refit(self, x: Features, labels: LabelSets, seed: int, log: Log | None) -> None:
        """Train on all rows with what was chosen.

        Raises
        ------
        UsageError
            If it would take longer than the setting `minutes`; nothing was begun.
        """
        vectors = training_vectors(x, self.config.pooling)
        self._afford(x, labels, 1, log)
        self.chosen = replace(self.chosen, rounds=self.chosen.rounds or self.chosen.most_rounds)
        self.shares = Known(labels).shares
        self.whitening = WithinClass.of_all(vectors, self.device)(0.0).leading(self.chosen.features)
        self._train(self._seen(vectors), labels, seed)

    def _afford(self, x: Features, labels: LabelSets, times: int, log: Log | None) -> None:
        """Estimate the time, tell it, and refuse what is too long."""
        knobs = self.chosen
        terms = len(self._frequent(labels))
        rounds = knobs.rounds or knobs.most_rounds
        features = min(knobs.features, x.width)
        seconds = times * terms * rounds * features * (len(x) + SPLIT) * Speed.measure(knobs.leaves).cell
        if log is not None:
            log({"estimated_seconds": seconds, "terms": terms})
        if seconds > 60 * knobs.minutes:
            work = f"{terms:,} terms x {rounds} rounds on {len(x):,} rows x {features} features"
            fix = f"set most_terms to about {max(1, int(terms * 60 * knobs.minutes / seconds)):,}, or minutes higher"
            raise UsageError(f"head lightgbm would take about {in_words(seconds)}: {work}; {fix}")

    def _frequent(self, labels: LabelSets) -> list[int]:
        """Return the codes of the terms that have trees: the most frequent, of equals the lowest."""
        counts = labels.counts()
        best = np.argsort(-counts, kind="stable")[: self.config.most_terms]
        return sorted(best[counts[best] >= self.config.least_rows].tolist())

    def _train(self, seen: npt.NDArray[np.float32], labels: LabelSets, seed: int) -> None:
        """Train each on rows with any term of the aspect; a term without a single split has its share of these rows."""
        known = Known(labels)
        columns = csc_matrix(known.matrix)
        targets = np.zeros(len(seen), dtype=np.float32)
        parameters = {"objective": "binary", "min_data_in_leaf": MEMBERS, "feature_pre_filter": False}
        self.trees = {}
        frequent = np.array(self._frequent(labels), dtype=np.int64)
        for group, voters in enumerate(known.voters.T.astype(bool)):
            data = Dataset(seen[voters])
            for code in frequent[known.place[frequent] == group].tolist():
                targets[:] = 0
                targets[columns.indices[columns.indptr[code] : columns.indptr[code + 1]]] = 1
                data.set_label(targets[voters])
                trees, _ = Trees.train(data, None, self.chosen, seed, parameters)
                if trees is not None and not targets[voters].all():
                    self.trees[code] = trees

    def _choose(self, x: Features, labels: LabelSets, log: Log | None) -> None:
        """Choose the rounds on held rows: the first trees of a model are a model of fewer rounds."""
        vectors = checked_vectors(x, self.config.pooling, len(self.whitening.mean))
        most = self.chosen.rounds or 1
        rounds = tuple(number for number in ROUNDS if number < most) + (most,)
        choice = Choice(self.chosen, labels, lambda config: self._scored(vectors, config.rounds), log)
        choice.among(rounds=grid(self.config.rounds, rounds))
        self.chosen = choice.best
        self.scores = {"fmax": choice.fmax}

    def _seen(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """Return what trees see, (n, features); in float64 first, so that a row has the same bits among any others."""
        mean = self.whitening.mean.double()
        matrix = self.whitening.matrix.double()
        parts = [((block.double() - mean) @ matrix).float().numpy() for _, block in row_blocks(vectors)]
        return np.concatenate([np.zeros((0, matrix.shape[1]), dtype=np.float32), *parts])

    def _scored(self, vectors: Vectors, rounds: int | None) -> TermBlocks:
        """Give blocks of probabilities by so many rounds."""
        codes = sorted(self.trees)
        for start in range(0, len(vectors), WIDENED_ROWS):
            seen = self._seen(vectors[start : start + WIDENED_ROWS])
            scores = [expit(self.trees[code].scores(seen, rounds)).astype(np.float32) for code in codes]
            for rows in row_slices(len(seen), len(self.classes)):
                block = np.tile(self.shares, (rows.stop - rows.start, 1))
                for code, score in zip(codes, scores, strict=True):
                    block[:, code] = score[rows]
                yield slice(start + rows.start, start + rows.stop), block

    def blocks(self, x: Features) -> TermBlocks:
        """Give slices of rows and their probabilities."""
        return self._scored(checked_vectors(x, self.config.pooling, len(self.whitening.mean)), self.chosen.rounds)

    def save(self, folder: Path) -> None:
        """Write `lightgbm.txt`, LightGBM's text of each model, and `terms.safetensors`.

        The latter holds codes int64 (of the terms with a model, in order) and shares, mean, matrix float32.
        """
        codes = sorted(self.trees)
        (folder / MODEL).write_text(ENDED.join(self.trees[code].text for code in codes), encoding="utf-8")
        tensors = {"mean": self.whitening.mean, "matrix": self.whitening.matrix}
        tensors |= {"codes": torch.tensor(codes, dtype=torch.int64), "shares": torch.from_numpy(self.shares)}
        save_file(tensors, folder / "terms.safetensors")

    def _restore(self, folder: Path) -> None:
        state = read_tensors(folder / "terms.safetensors", SHAPES, classes=len(self.classes))
        self.whitening = Whitening(state["mean"], state["matrix"])
        self.shares = state["shares"].numpy()
        codes = check_codes(folder / "terms.safetensors", state["codes"].numpy(), len(self.classes)).tolist()
        path = folder / MODEL
        try:
            texts = path.read_text(encoding="utf-8").split(ENDED)[: len(codes)]  # no code: one empty text
            trees = [Trees.read(text, state["matrix"].shape[1]) for text in texts]
            self.trees = dict(zip(codes, trees, strict=True))
        except ValueError as error:
            raise ModelError(path, f"is damaged ({error})", "fit again") from None
