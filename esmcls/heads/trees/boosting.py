"""Boosted trees by LightGBM: what every training shares, and the multiclass model, one tree a class and round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import lightgbm
import numpy as np
import numpy.typing as npt
import torch
from lightgbm import Booster, Dataset
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from esmcls.errors import ModelError
from esmcls.heads.neighbours.votes import Numbers, Votes
from esmcls.heads.saved_tensors import check_codes, read_tensors
from esmcls.heads.settings import ABOVE_0, AT_LEAST_0, AT_LEAST_1, AT_LEAST_2, check_ranges
from esmcls.heads.trees.candidates import LabelledRows
from esmcls.heads.trees.tree_text import checked_text
from esmcls.heads.whitening import WIDENED_ROWS, Whitening, WithinClass, row_blocks
from esmcls.types import Indices, Vectors

Scored: TypeAlias = tuple[slice, Indices, Numbers]
"""Rows, the class codes they may be of (rows, m), -1 after the last, and the scores of these (rows, m)."""
Measure: TypeAlias = Callable[[Numbers, Dataset], tuple[str, float, bool]]

ROUNDS = 100
"""Where there is nothing to choose their number on."""
MEMBERS = 5
"""Rows that a leaf of the multiclass model holds at least, or as many as the smallest class has."""
MODEL = "lightgbm.txt"
SHAPES = {
    "mean": ("float32", "width"),
    "matrix": ("float32", "width", "seen"),
    "centres": ("float32", "present", "seen"),
    "present": ("int64", "present"),
}
"""Of the tensors of a multiclass model."""


@dataclass(frozen=True)
class BoostingConfig:
    """Knobs of every head of boosted trees; None is chosen on validation.

    Parameters
    ----------
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
    """

    lr: float = 0.05
    leaves: int = 15
    l2: float = 10.0
    rounds: int | None = None
    most_rounds: int = 500

    def __post_init__(self) -> None:
        least = {"lr": ABOVE_0, "leaves": AT_LEAST_2, "l2": AT_LEAST_0, "rounds": AT_LEAST_1, "most_rounds": AT_LEAST_1}
        check_ranges(self, least)

    @property
    def patience(self) -> int:
        """Rounds without a gain on held rows that end boosting: by default none do."""
        return self.most_rounds


class Trees:
    """A trained model, held as the text that it is saved as.

    Parameters
    ----------
    text : str
        As LightGBM wrote it.
    checked : str, optional
        What the library is to read of it, where it comes from a file.
    """

    def __init__(self, text: str, checked: str | None = None) -> None:
        self.text = text
        self._booster = Booster(model_str=text if checked is None else checked)

    @classmethod
    def train(
        cls,
        data: Dataset,
        held: Dataset | None,
        knobs: BoostingConfig,
        seed: int,
        parameters: dict[str, Any],
        measure: Measure | None = None,
    ) -> tuple[Trees | None, int]:
        """Train, and stop early where there are held rows and the rounds are open; return the rounds as well.

        There is no model where the rows are too few for a single split.
        """
        early = held is not None and knobs.rounds is None
        fixed = {"learning_rate": knobs.lr, "num_leaves": knobs.leaves, "lambda_l2": knobs.l2, "seed": seed}
        fixed |= {"deterministic": True, "force_row_wise": True, "min_data_in_bin": 1, "verbosity": -1}
        booster = lightgbm.train(
            {**fixed, "num_threads": torch.get_num_threads(), **parameters},
            data,
            knobs.most_rounds if early else knobs.rounds or ROUNDS,
            valid_sets=[held] if early and held is not None else None,
            feval=measure if early else None,
            callbacks=[lightgbm.early_stopping(knobs.patience, verbose=False)] if early else None,
        )
        rounds = booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration()
        split = booster.feature_importance("split", iteration=rounds).any()
        return (cls(booster.model_to_string(num_iteration=rounds)) if split else None), max(1, rounds)

    def scores(self, features: npt.NDArray[np.float32], rounds: int | None = None) -> Numbers:
        """Return the sums of leaves, of the first `rounds` alone if given: (n,), or (n, classes) if multiclass."""
        if not len(features):
            return np.zeros(0)
        threads = torch.get_num_threads()
        scores = self._booster.predict(features, raw_score=True, num_iteration=rounds, num_threads=threads)
        return np.asarray(scores, dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write `lightgbm.txt`."""
        (folder / MODEL).write_text(self.text, encoding="utf-8")

    @classmethod
    def read(cls, text: str, features: int, classes: int = 1) -> Trees:
        """Read a text that `save` wrote, of trees on so many features, so many a round.

        Raises
        ------
        ValueError
            If they are not that, or cannot be walked.
        """
        return cls(text, checked_text(text, features, classes))

    @classmethod
    def load(cls, folder: Path, features: int, classes: int = 1) -> Trees | None:
        """Read what `save` wrote, if it did; see `read`.

        Raises
        ------
        ModelError
            If it is damaged.
        """
        path = folder / MODEL
        if not path.exists():
            return None
        try:
            return cls.read(path.read_text(encoding="utf-8"), features, classes)
        except ValueError as error:
            raise ModelError(path, f"is damaged ({error})", "fit again") from None


@dataclass(frozen=True, eq=False)
class Multiclass:
    """One tree a class and round, on the cosines of a whitened row with the mean of each class.

    The other features are how far each cosine is below the largest. A split on either asks for one class, where one on
    a column of the vectors would ask for part of a direction.

    Parameters
    ----------
    whitening : Whitening
    centres : float32 tensor, (present, width)
        The mean of the whitened rows, of length 1 each, of the classes that have training rows; of length 1 itself.
    present : int64 array, (present,)
        Codes of these classes.
    trees : Trees, optional
        Without, the cosines are the scores.
    """

    whitening: Whitening
    centres: Tensor
    present: Indices
    trees: Trees | None

    @classmethod
    def of(
        cls,
        rows: LabelledRows,
        held: LabelledRows | None,
        shrinkage: float,
        knobs: BoostingConfig,
        seed: int,
        device: str = "cpu",
    ) -> tuple[Multiclass, int]:
        """Fit on rows; on held rows choose how many rounds. Return them as well."""
        bare = cls._bare(rows, shrinkage, device)
        if len(bare.present) < 2:
            return bare, knobs.rounds or ROUNDS
        data = bare._dataset(rows)
        held_data = None
        if held is not None:
            known = held.take(np.flatnonzero(np.isin(held.labels.codes, bare.present)))
            held_data = bare._dataset(known, data) if len(known.lengths) else None
        counts = rows.labels.counts()[bare.present]
        leaf = min(MEMBERS, int(counts.min()))
        parameters = {"objective": "multiclass", "num_class": len(counts), "min_data_in_leaf": leaf}
        trees, rounds = Trees.train(data, held_data, knobs, seed, parameters)
        return replace(bare, trees=trees), rounds

    @classmethod
    def _bare(cls, rows: LabelledRows, shrinkage: float, device: str) -> Multiclass:
        """Measure all but the trees."""
        codes = rows.labels.codes
        n_classes = rows.labels.n_classes
        whitening = WithinClass.of(rows.vectors, codes, n_classes, device)(shrinkage)
        sums = torch.zeros(n_classes, rows.vectors.shape[1], dtype=torch.float64)
        for part, block in row_blocks(rows.vectors):
            sums.index_add_(0, torch.from_numpy(codes[part]), whitening.unit(block).double())
        present = np.unique(codes)
        return cls(whitening, F.normalize(sums[torch.from_numpy(present)], eps=1e-9).float(), present, None)

    def _dataset(self, rows: LabelledRows, reference: Dataset | None = None) -> Dataset:
        """Return rows of present classes as LightGBM takes them."""
        places = np.searchsorted(self.present, rows.labels.codes)
        return Dataset(self._features(rows.vectors), places, reference=reference)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return len(self.whitening.mean)

    def _features(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """Return the cosines and their distances from the largest, (n, 2 present); for float64 see `candidates`."""
        mean = self.whitening.mean.double()
        matrix = self.whitening.matrix.double()
        parts = [np.zeros((0, 2 * len(self.present)), dtype=np.float32)]
        for _, block in row_blocks(vectors):
            unit = F.normalize((block.double() - mean) @ matrix, eps=1e-9)
            cosines = (unit @ self.centres.double().T).float()
            parts.append(torch.cat((cosines, cosines - cosines.amax(1, keepdim=True)), 1).numpy())
        return np.concatenate(parts)

    def scored(self, vectors: Vectors, lengths: Indices) -> Iterator[Scored]:
        """Give slices of rows with the scores of the present classes; lengths play no part."""
        for start in range(0, len(vectors), WIDENED_ROWS):
            rows = slice(start, min(start + WIDENED_ROWS, len(vectors)))
            codes = np.tile(self.present, (rows.stop - start, 1))
            features = self._features(vectors[rows])
            bare = features[:, : len(self.present)].astype(np.float64)
            yield rows, codes, bare if self.trees is None else self.trees.scores(features)

    def save(self, folder: Path) -> None:
        """Write `lightgbm.txt` and `multiclass.safetensors` (present int64; mean, matrix, centres float32)."""
        tensors = {"mean": self.whitening.mean, "matrix": self.whitening.matrix, "centres": self.centres}
        save_file({**tensors, "present": torch.from_numpy(self.present)}, folder / "multiclass.safetensors")
        if self.trees is not None:
            self.trees.save(folder)

    @classmethod
    def load(cls, folder: Path, n_classes: int) -> Multiclass:
        """Read what `save` wrote, of a model of so many classes."""
        state = read_tensors(folder / "multiclass.safetensors", SHAPES)
        whitening = Whitening(state["mean"], state["matrix"])
        present = state["present"].numpy()
        check_codes(folder / "multiclass.safetensors", present, n_classes)
        return cls(whitening, state["centres"], present, Trees.load(folder, 2 * len(present), len(present)))


def weigh(codes: Indices, scores: Numbers, n_classes: int, temperature: float, rest: float) -> Votes:
    """Return the softmax of scores / temperature over the candidates of each row, mixed with `rest` over all classes.

    Examples
    --------
    >>> weigh(np.array([[1, 3]]), np.log([[1.0, 3.0]]), 4, 1.0, rest=0.2).dense().round(2).tolist()
    [[0.0..., 0.25, 0.0..., 0.6...]]
    """
    hit = codes >= 0
    share = 1 / n_classes
    logits = np.where(hit, scores / temperature, -np.inf)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    mass = np.where(hit, (1 - rest) * weights / weights.sum(1, keepdims=True) + rest * share, 0.0)
    order = np.argsort(-mass, axis=1, kind="stable")  # of equals the lowest code
    codes = np.take_along_axis(codes, order, 1)
    mass = np.take_along_axis(mass, order, 1)
    return Votes(codes, mass, np.full(len(codes), rest), np.full(n_classes, share))
