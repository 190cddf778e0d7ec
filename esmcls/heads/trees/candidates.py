"""Candidates: the few classes that a row may be of, and what speaks for each, by two sources fitted on training rows.

The sources are a search for the nearest rows and a ridge regression, both after whitening; everything that is known of
a class comes from the rows that they were fitted on. The `FEATURES` of a candidate are what a ranker orders
candidates by.

A threshold of a tree turns the last bit of a feature into a jump, and a product of many rows rounds otherwise than that
of one. So features are computed from float64 and rounded to float32: a row has the same ones alone and among others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.heads.blocks import LOGITS, LogitBlocks, best_of, class_factors, score
from esmcls.heads.layers.ridge import Ridge
from esmcls.heads.neighbours.search import Engine, Search
from esmcls.heads.neighbours.votes import Numbers
from esmcls.heads.saved_tensors import check_codes, check_rows, read_tensors, write_state
from esmcls.heads.whitening import Whitening, WithinClass, class_sums, row_blocks
from esmcls.labels.labels import Labels
from esmcls.types import Indices, Vectors

SHAPES = {
    "codes": ("int64", "rows"),
    "lengths": ("int64", "rows"),
    "mean": ("float32", "width"),
    "matrix": ("float32", "width", "seen"),
    "weight": ("float32", "classes", "seen"),
    "bias": ("float32", "classes"),
}
"""Of the tensors of both sources."""
NAMED_ROWS = 512
"""Rows whose candidates are named together."""
PRODUCT_ROWS = 64
"""Rows that are multiplied by rows of their own at a time: 20 MB with 50 x 768 numbers."""
FEATURES = (
    "best",  # cosine of the row with the nearest member of the class, if that is among the neighbours
    "second",
    "mean",  # of the cosines of all members among the neighbours
    "votes",  # share of the neighbours' votes
    "near_rank",
    "near_margin",  # ahead of the best other candidate
    "ridge",  # output of the regression: about 1 for the class, about 0 for others
    "ridge_rank",
    "ridge_margin",
    "centre",  # cosine with the mean of the class
    "centre_rank",
    "centre_margin",
    "spread",  # length of that mean: 1 where all members are one
    "size",  # log of the number of members
    "length",  # log of the number of residues
    "longer",  # than the members of the class on average, as a log ratio
    "nearest",  # cosine of the nearest row of all, whatever its class
    "foremost",  # largest output of the regression
    "agree",  # whether both sources name the same class first
    "candidates",  # how many
)
"""Of each candidate; sizes, means and lengths are those of the rows that the sources were fitted on."""
SHARPNESS = 0.05
"""A neighbour votes with exp(cosine / this)."""
LAST = np.iinfo(np.int64).max


class LabelledRows(NamedTuple):
    """Rows to fit or choose on: vectors (n, width), labels and residues (n,)."""

    vectors: Vectors
    labels: Labels
    lengths: Indices

    def take(self, rows: Indices) -> LabelledRows:
        """Return some of the rows."""
        return LabelledRows(self.vectors[rows], self.labels.take(rows), self.lengths[rows])


@dataclass(frozen=True, eq=False)
class Candidates:
    """The classes that rows may be of.

    Parameters
    ----------
    codes : int64 array, (n, m)
        Rising; -1 after the last of a row.
    features : float32 array, (n, m, features)
        In the order of `FEATURES`; NaN where a source says nothing of a class.
    """

    codes: Indices
    features: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The neighbours of rows, the nearest first.

    Parameters
    ----------
    cosines : float64 array, (n, k)
    codes : int64 array, (n, k)
        Their classes.
    """

    cosines: Numbers
    codes: Indices

    @cached_property
    def _turns(self) -> Indices:
        """How many nearer hits of a row are of the same class (n, k)."""
        same = self.codes[:, :, None] == self.codes[:, None, :]
        return np.asarray(np.tril(same, -1).sum(2))

    def classes(self, k: int) -> Indices:
        """Return the k classes with the nearest members, (n, hits), in their places; -1 in all others."""
        first = self._turns == 0
        return np.where(first & (np.cumsum(first, 1) <= k), self.codes, -1)

    def of(self, codes: Indices) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """Return best, second and mean cosine of the hits of each class, NaN without, and share of votes: all (n, m).

        Examples
        --------
        >>> hits = Neighbours(np.array([[0.9, 0.8, 0.4]]), np.array([[7, 4, 7]]))
        >>> [values.round(2).tolist() for values in hits.of(np.array([[4, 7]]))[:3]]
        [[[0.8, 0.9]], [[nan, 0.4]], [[0.8, 0.65]]]
        """
        match = codes[:, :, None] == self.codes[:, None, :]  # (n, m, k)
        weights = np.exp((self.cosines - self.cosines[:, :1]) / SHARPNESS)
        counts = match.sum(2)
        sums = (match * self.cosines[:, None]).sum(2)
        mean = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        votes = (match * weights[:, None]).sum(2) / weights.sum(1, keepdims=True)
        return self._pick(match, 0), self._pick(match, 1), mean, votes

    def _pick(self, match: npt.NDArray[np.bool_], turn: int) -> Numbers:
        taken = match & (self._turns == turn)[:, None]
        return np.where(taken.any(2), (taken * self.cosines[:, None]).sum(2), np.nan)  # one is taken, at most


def rounded(values: Tensor) -> Numbers:
    """Return float64 numbers of float32 precision: what differs by the rounding of a product alone is equal then."""
    return np.asarray(values.float().numpy(), dtype=np.float64)


def ranked(values: Numbers) -> tuple[Numbers, Numbers]:
    """Return the rank of each candidate in its row, from 1, and how far it is ahead of the best other; NaN stays NaN.

    Examples
    --------
    >>> [values.round(2).tolist() for values in ranked(np.array([[0.2, 0.9, np.nan, 0.5]]))]
    [[[3.0, 1.0, nan, 2.0]], [[-0.7, 0.4, nan, -0.4]]]
    """
    filled = np.where(np.isnan(values), -np.inf, values)
    order = np.argsort(-filled, axis=1, kind="stable")
    ranks = np.argsort(order, axis=1, kind="stable") + 1.0
    best = np.take_along_axis(filled, order[:, :2], 1)
    ahead = filled - np.where(ranks == 1, best[:, -1:], best[:, :1])
    lone = best.shape[1] == 1 or ~np.isfinite(best[:, -1:]) & (ranks == 1)  # nothing to be ahead of
    return np.where(np.isnan(values), np.nan, ranks), np.where(np.isnan(values) | lone, np.nan, ahead)


def unite(*codes: Indices) -> Indices:
    """Return all class codes of each row once, rising, -1 after the last; -1 among those given is none.

    Examples
    --------
    >>> unite(np.array([[5, -1], [2, 3]]), np.array([[5, 1], [3, 2]])).tolist()
    [[1, 5], [2, 3]]
    """
    every = np.concatenate(codes, 1)
    every = np.sort(np.where(every < 0, LAST, every), axis=1)
    every[:, 1:][every[:, 1:] == every[:, :-1]] = LAST
    every.sort(axis=1)
    most = int((every < LAST).sum(1).max(initial=0))
    return np.where(every < LAST, every, -1)[:, :most]


@dataclass(frozen=True)
class Recipe:
    """How the sources are fitted: shrinkage of the whitening, penalty of the ridge regression, what searches.

    `each` is how many classes a source names, `neighbours` how many rows are searched for.
    """

    shrinkage: float
    penalty: float
    each: int = 10
    neighbours: int = 50
    engine: Engine = "auto"


@dataclass(frozen=True, eq=False)
class CandidateSources:
    """Both sources, fitted on training rows.

    Parameters
    ----------
    recipe : Recipe
    whitening : Whitening
    search : Search
        The training rows, whitened and of length 1.
    codes, lengths : int64 arrays, (rows,)
        Class and residues of each.
    weight, bias : float32 tensors, (classes, width) and (classes,)
        The ridge regression, on rows as `search` holds them.
    """

    recipe: Recipe
    whitening: Whitening
    search: Search
    codes: Indices
    lengths: Indices
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, rows: LabelledRows, recipe: Recipe, device: str = "cpu") -> CandidateSources:
        """Fit on rows, which the sources keep."""
        whitening = _within(rows, device)(recipe.shrinkage)
        search = _index(rows.vectors, whitening, recipe.engine, device)
        weight, bias = _ridge(search, rows.labels, device).solve(recipe.penalty)
        return cls(recipe, whitening, search, rows.labels.codes, rows.lengths, weight, bias)

    @cached_property
    def _members(self) -> _Members:
        sums = class_sums(self.search.rows(), self.codes, len(self.bias))
        sizes = np.bincount(self.codes, minlength=len(self.bias))
        logs = np.bincount(self.codes, np.log1p(self.lengths), minlength=len(self.bias))
        shared = np.maximum(sizes, 1)
        return _Members(F.normalize(sums, eps=1e-9), sums.norm(dim=1).numpy() / shared, np.log1p(sizes), logs / shared)

    @cached_property
    def _regression(self) -> tuple[Tensor, Tensor]:
        there = torch.from_numpy(self._members.sizes > 0)  # a class without rows is no candidate
        return self.weight.double().T.contiguous(), torch.where(there, self.bias.double(), -torch.inf)

    def candidates(self, vectors: Vectors, lengths: Indices) -> Iterator[tuple[slice, Candidates]]:
        """Give slices of rows with their candidates; `lengths` (n,) are the residues of each row."""
        for rows, block in row_blocks(vectors, size=NAMED_ROWS):
            yield rows, self._named(self._unit(block), lengths[rows])

    def nearest(self, vectors: Vectors) -> Numbers:
        """Return the cosine of each row with the nearest training row, float64 (n,)."""
        parts = [self._hits(self._unit(block), 1).cosines[:, 0] for _, block in row_blocks(vectors, size=NAMED_ROWS)]
        return np.concatenate([np.zeros(0), *parts])

    def _unit(self, block: Tensor) -> Tensor:
        """Whiten float32 rows (n, width) in float64 and bring each to length 1."""
        return F.normalize((block.double() - self.whitening.mean) @ self.whitening.matrix.double(), eps=1e-9)

    def _hits(self, unit: Tensor, neighbours: int) -> Neighbours:
        _, rows = self.search(unit.float(), neighbours)
        cosines = rounded(_products(torch.from_numpy(self.search.rows()), rows, unit))
        order = np.lexsort((rows, -cosines), axis=1)  # of equals the first row, whatever the search did
        return Neighbours(np.take_along_axis(cosines, order, 1), self.codes[np.take_along_axis(rows, order, 1)])

    def _named(self, unit: Tensor, lengths: Indices) -> Candidates:
        hits = self._hits(unit, self.recipe.neighbours)
        members = self._members
        weight, bias = self._regression
        outputs = unit @ weight + bias  # (n, classes)
        best, first = outputs.float().topk(min(self.recipe.each, len(bias)))
        named = np.where(best.isfinite().numpy(), first.numpy(), -1)
        codes = unite(hits.classes(self.recipe.each), named)
        columns_of = np.maximum(codes, 0)
        length = np.log1p(lengths)[:, None]
        ridge = np.where(codes >= 0, rounded(outputs.gather(1, torch.from_numpy(columns_of))), np.nan)
        centre = np.where(codes >= 0, rounded(_products(members.centres, columns_of, unit)), np.nan)
        near, second, mean, votes = hits.of(codes)
        columns = (
            *(near, second, mean, votes, *ranked(near), ridge, *ranked(ridge), centre, *ranked(centre)),
            *(
                members.spread[columns_of],
                members.sizes[columns_of],
                length,
                length - members.lengths[columns_of],
                hits.cosines[:, :1],
            ),
            *(np.nanmax(ridge, 1, keepdims=True), hits.codes[:, :1] == named[:, :1], (codes >= 0).sum(1)[:, None]),
        )
        features = np.stack([np.broadcast_to(column, codes.shape) for column in columns], 2).astype(np.float32)
        return Candidates(codes, features)

    def save(self, folder: Path) -> None:
        """Write `index.faiss` and `sources.safetensors` (codes, lengths int64; mean, matrix, weight, bias float32)."""
        self.search.save(folder / "index.faiss")
        tensors = {"codes": torch.from_numpy(self.codes), "lengths": torch.from_numpy(self.lengths)}
        tensors |= {"mean": self.whitening.mean, "matrix": self.whitening.matrix}
        tensors |= {"weight": self.weight, "bias": self.bias}
        write_state(folder / "sources.safetensors", tensors)

    @classmethod
    def load(cls, folder: Path, recipe: Recipe, n_classes: int, device: str = "cpu") -> CandidateSources:
        """Read what `save` wrote, of a model of so many classes."""
        path = folder / "sources.safetensors"
        state = read_tensors(path, SHAPES, classes=n_classes)
        whitening = Whitening(state["mean"], state["matrix"])
        search = Search.load(folder / "index.faiss", "cosine", recipe.engine, device, state["matrix"].shape[1])
        codes = state["codes"].numpy()
        check_rows(folder / "index.faiss", len(search), len(codes))
        check_codes(path, codes, n_classes)
        lengths = state["lengths"].numpy()
        return cls(recipe, whitening, search, codes, lengths, state["weight"], state["bias"])


@dataclass(frozen=True, eq=False)
class _Members:
    """Facts of classes: mean of their unit rows and the length it had, log of their number, mean log length."""

    centres: Tensor  # float64 (classes, width), of length 1; the others (classes,)
    spread: Numbers
    sizes: Numbers
    lengths: Numbers


def choose_recipe(
    rows: LabelledRows, held: LabelledRows, shrinkages: Sequence[float], penalties: Sequence[float], device: str = "cpu"
) -> tuple[float, float]:
    """Return the shrinkage and the penalty with the best macro F1 on held rows, the first of equals.

    The nearest neighbour alone decides on the shrinkage; then the ridge regression, with that one, on the penalty.
    """
    within = _within(rows, device)
    best = -1.0
    for trial in shrinkages:
        whitening = within(trial)
        search = _index(rows.vectors, whitening, "auto", device)
        nearest = [search(whitening.unit(block), 1)[1][:, 0] for _, block in row_blocks(held.vectors, device)]
        reached = score(held.labels, rows.labels.codes[np.concatenate(nearest)])["macro_f1"]
        if reached > best:
            best = reached
            shrinkage = trial
            base = search
    whitening = within(shrinkage)
    ridge = _ridge(base, rows.labels, device)

    def f1(penalty: float) -> float:
        weight, bias = (tensor.to(device) for tensor in ridge.solve(penalty))
        blocks = row_blocks(held.vectors, device, max(1, LOGITS // len(bias)))
        logits: LogitBlocks = ((part, whitening.unit(block) @ weight.T + bias) for part, block in blocks)
        return score(held.labels, best_of(logits, len(held.vectors)))["macro_f1"]

    return shrinkage, max(penalties, key=f1)


def out_of_fold(
    rows: LabelledRows, recipe: Recipe, folds: int, most: int, seed: int, device: str = "cpu"
) -> Iterator[tuple[Indices, Candidates]]:
    """Give numbers of rows and their candidates, by sources that are fitted on the rows of all other folds.

    Of more than `most` rows as many are drawn; the sources are fitted on all the same.
    """
    fold = assign_folds(rows.labels.codes, folds, seed)
    drawn = np.ones(len(rows.lengths), dtype=bool)
    drawn[np.random.default_rng(seed).permutation(len(drawn))[most:]] = False
    for number in range(folds):
        base = np.flatnonzero(fold != number)
        asked = np.flatnonzero((fold == number) & drawn)
        if len(base) and len(asked):
            queries = rows.take(asked)
            sources = CandidateSources.of(rows.take(base), recipe, device)
            for part, candidates in sources.candidates(queries.vectors, queries.lengths):
                yield asked[part], candidates


def assign_folds(codes: Indices, folds: int, seed: int) -> Indices:
    """Return the fold of each row (n,): the members of a class are dealt in turn, so two are never all in one fold.

    Examples
    --------
    >>> np.bincount(assign_folds(np.array([7, 7, 7, 7]), 2, seed=0)).tolist()
    [2, 2]
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(codes))
    order = shuffled[np.argsort(codes[shuffled], kind="stable")]  # class by class, within a class as shuffled
    _, starts, counts = np.unique(codes[order], return_index=True, return_counts=True)
    first = rng.integers(folds, size=len(starts))
    dealt = np.repeat(first - starts, counts) + np.arange(len(codes))
    fold = np.zeros(len(codes), dtype=np.int64)
    fold[order] = dealt % folds
    return fold


def _within(rows: LabelledRows, device: str) -> WithinClass:
    return WithinClass.of(rows.vectors, rows.labels.codes, rows.labels.n_classes, device)


def _index(vectors: Vectors, whitening: Whitening, engine: Engine, device: str) -> Search:
    search = Search.empty(whitening.matrix.shape[1], "cosine", engine, device)
    for _, block in row_blocks(vectors, device):
        search.add(whitening.unit(block))
    return search


def _ridge(search: Search, labels: Labels, device: str) -> Ridge:
    factors = class_factors(labels.counts(), "sqrt")
    return Ridge.of(search.rows(), labels.codes, factors, lambda block: block, device)


def _products(table: Tensor, places: Indices, unit: Tensor) -> Tensor:
    """Return the products of each of `unit` (n, width) with its own rows of a table, float64 (n, m)."""
    parts = zip(torch.split(torch.from_numpy(places), PRODUCT_ROWS), torch.split(unit, PRODUCT_ROWS), strict=True)
    return torch.cat([(table[part].double() @ rows[:, :, None]).squeeze(2) for part, rows in parts])
