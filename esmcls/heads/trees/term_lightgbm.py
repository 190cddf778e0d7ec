"""The LightGBM head for many labels: boosted trees for each of the frequent terms, the share of rows for all others."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch
from lightgbm import Dataset
from safetensors.torch import load_file, save_file
from scipy.sparse import csc_matrix
from scipy.special import expit

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.blocks import checked_vectors, grid
from esmcls.heads.neighbours.term_votes import HELD_MOST, Choice, Known
from esmcls.heads.registry import Log
from esmcls.heads.term_base import BaseTermHead, Validation
from esmcls.heads.term_common import Blocks, check_sets, row_slices
from esmcls.heads.trees.boosting import MEMBERS, MODEL, Trees
from esmcls.heads.trees.time_estimate import SPLIT, Speed, in_words
from esmcls.heads.whitening import BLOCK, Whitening, WithinClass, row_blocks
from esmcls.labels.labels import LabelSets
from esmcls.types import Vectors

if TYPE_CHECKING:
    from typing_extensions import Self

ROUNDS: Final = (25, 50, 100, 200)
"""What is chosen from on validation, up to `most_rounds`."""
ENDED: Final = "\n=== end of a term's trees ===\n"
"""What stands between models in the file."""


@dataclass(frozen=True)
class TermLightGBMConfig:
    """Every knob of the LightGBM head; None is chosen on validation.

    Parameters
    ----------
    most_terms : int
        So many of the most frequent terms have trees of their own.
    least_rows : int
        A term that fewer training rows have, has none.
    minutes : float
        What would take longer by the estimate is refused before it begins.
    features : int
        Leading principal components of the vectors that trees see.
    lr, leaves, l2 : float, int, float
        Of the trees: learning rate, leaves of one, penalty of a leaf's value.
    rounds : int, optional
        Of boosting.
    most_rounds : int
        Where they are chosen: most of them.
    pooling : str
        The pooled vectors to take.
    """

    most_terms: int = 200
    least_rows: int = 10
    minutes: float = 60.0
    features: int = 64
    lr: float = 0.1
    leaves: int = 15
    l2: float = 10.0
    rounds: int | None = None
    most_rounds: int = 100
    pooling: str = "mean"

    def __post_init__(self) -> None:
        for name in ("lr", "minutes"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise UsageError(f"setting {name}: {value} is not above 0 and finite")
        least = {"most_terms": 1, "least_rows": 1, "features": 1, "leaves": 2, "l2": 0, "rounds": 1, "most_rounds": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and not low <= value < math.inf:
                raise UsageError(f"setting {name}: {value} is not at least {low} and finite")

    @property
    def patience(self) -> int:
        """Rounds are chosen from a few, not one by one."""
        return self.most_rounds


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

    def __init__(self, config: TermLightGBMConfig | None = None, device: str = "cpu") -> None:
        super().__init__(config, device)
        self.trees: dict[int, Trees] = {}
        """By the code of a term."""

    def fit(
        self,
        x: Features,
        labels: LabelSets,
        validation: Validation | None = None,
        seed: int = 0,
        log: Log | None = None,
    ) -> Self:
        """Fit; see `esmcls.term_heads.TermHead`; refused, before anything is begun, if it would take too long."""
        check_sets(x, labels)
        if validation is None or not len(validation[0]):
            self._afford(x, labels, 2, log)
        return super().fit(x, labels, validation, seed, log)

    def _fit(self, x: Features, labels: LabelSets, validation: Validation, seed: int, log: Log | None) -> None:
        most = self.config.rounds or self.config.most_rounds
        self.chosen = replace(self.config, rounds=most)
        self.refit(x, labels, seed, log)
        rows = slice(HELD_MOST)
        self._choose(validation[0].take(rows), validation[1].take(rows), log)

    def refit(self, x: Features, labels: LabelSets, seed: int = 0, log: Log | None = None) -> Self:
        """Train on all rows with what was chosen.

        Raises
        ------
        UsageError
            If it would take longer than the setting `minutes`; nothing was begun.
        """
        check_sets(x, labels)
        vectors = checked_vectors(x, self.config.pooling, x.width)
        self._afford(x, labels, 1, log)
        self.chosen = replace(self.chosen, rounds=self.chosen.rounds or self.chosen.most_rounds)
        self.classes, self.groups, self.shares = labels.classes, labels.groups, Known(labels).shares
        whole = WithinClass.of(vectors, np.zeros(len(x), dtype=np.int64), 1, self.device)(0.0)
        self.whitening = Whitening(whole.mean, whole.matrix[:, -self.chosen.features :].contiguous())  # the widest axes
        self._train(self._seen(vectors), labels, seed)
        return self

    def _afford(self, x: Features, labels: LabelSets, times: int, log: Log | None) -> None:
        """Estimate the time, tell it, and refuse what is too long."""
        one, terms = self.chosen, len(self._frequent(labels))
        rounds = one.rounds or one.most_rounds
        cells = terms * rounds * min(one.features, x.width) * (len(x) + SPLIT)
        seconds = times * cells * Speed.measure(one.leaves).cell
        if log is not None:
            log({"estimated_seconds": seconds, "terms": terms})
        if seconds > 60 * one.minutes:
            work = f"{terms:,} terms x {rounds} rounds on {len(x):,} rows x {min(one.features, x.width)} features"
            fix = f"set most_terms to about {max(1, int(terms * 60 * one.minutes / seconds)):,}, or minutes higher"
            raise UsageError(f"head lightgbm would take about {in_words(seconds)}: {work}; {fix}")

    def _frequent(self, labels: LabelSets) -> list[int]:
        """Return the codes of the terms that have trees: the most frequent, of equals the lowest."""
        counts = labels.counts()
        best = np.argsort(-counts, kind="stable")[: self.config.most_terms]
        return sorted(best[counts[best] >= self.config.least_rows].tolist())

    def _train(self, seen: npt.NDArray[np.float32], labels: LabelSets, seed: int) -> None:
        """Train each on rows with any term of the aspect; a term without a single split has its share of these rows."""
        known = Known(labels)
        columns, own = csc_matrix(known.matrix), np.zeros(len(seen), dtype=np.float32)
        parameters = {"objective": "binary", "min_data_in_leaf": MEMBERS, "feature_pre_filter": False}
        self.trees, frequent = {}, np.array(self._frequent(labels), dtype=np.int64)
        for group, voters in enumerate(known.voters.T.astype(bool)):
            data = Dataset(seen[voters])
            for code in frequent[known.place[frequent] == group].tolist():
                own[:] = 0
                own[columns.indices[columns.indptr[code] : columns.indptr[code + 1]]] = 1
                data.set_label(own[voters])
                trees, _ = Trees.train(data, None, self.chosen, seed, parameters)
                if trees is not None and not own[voters].all():
                    self.trees[code] = trees

    def _choose(self, x: Features, labels: LabelSets, log: Log | None) -> None:
        """Choose the rounds on held rows: the first trees of a model are a model of fewer rounds."""
        vectors, most = checked_vectors(x, self.config.pooling, len(self.whitening.mean)), self.chosen.rounds or 1
        rounds = tuple(one for one in ROUNDS if one < most) + (most,)
        choice = Choice(self.chosen, labels, lambda one: self._scored(vectors, one.rounds), log)
        choice.among(rounds=grid(self.config.rounds, rounds))
        self.chosen, self.scores = choice.best, {"fmax": choice.fmax}

    def _seen(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """Return what trees see, (n, features); in float64 first, so that a row has the same bits among any others."""
        mean, matrix = self.whitening.mean.double(), self.whitening.matrix.double()
        parts = [((block.double() - mean) @ matrix).float().numpy() for _, block in row_blocks(vectors)]
        return np.concatenate([np.zeros((0, matrix.shape[1]), dtype=np.float32), *parts])

    def _scored(self, vectors: Vectors, rounds: int | None) -> Blocks:
        """Give blocks of probabilities by so many rounds."""
        codes = sorted(self.trees)
        for start in range(0, len(vectors), BLOCK):
            seen = self._seen(vectors[start : start + BLOCK])
            scores = [expit(self.trees[code].scores(seen, rounds)).astype(np.float32) for code in codes]
            for rows in row_slices(len(seen), len(self.classes)):
                block = np.tile(self.shares, (rows.stop - rows.start, 1))
                for code, score in zip(codes, scores, strict=True):
                    block[:, code] = score[rows]
                yield slice(start + rows.start, start + rows.stop), block

    def blocks(self, x: Features) -> Blocks:
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

    @classmethod
    def load(
        cls,
        folder: Path,
        config: TermLightGBMConfig,
        classes: tuple[str, ...],
        groups: tuple[str, ...],
        device: str = "cpu",
    ) -> Self:
        """Read what `save` wrote."""
        head = cls._of(config, classes, groups, device)
        state = {name: tensor.clone() for name, tensor in load_file(folder / "terms.safetensors").items()}
        head.whitening, head.shares = Whitening(state["mean"], state["matrix"]), state["shares"].numpy()
        codes, texts = state["codes"].tolist(), (folder / MODEL).read_text(encoding="utf-8").split(ENDED)
        head.trees = {code: Trees(text) for code, text in zip(codes, texts, strict=False)}  # no code: one empty text
        return head
