"""Candidates: the few classes that a row may be of, and what speaks for each, by two sources fitted on training rows.

The sources are a search for the nearest rows and a ridge regression, both after whitening; everything that is known of
a class comes from the rows that they were fitted on.

Products are computed in float64, since those of float32 round otherwise for many rows than for one; see `evidence`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from esmcls.heads.blocks import LOGITS, Blocks, best_of, class_factors, score
from esmcls.heads.layers.ridge import Ridge
from esmcls.heads.neighbours.search import Engine, Search
from esmcls.heads.trees.evidence import Candidates, Hits, Numbers, Rows, ranked, rounded, unite
from esmcls.heads.whitening import Whitening, WithinClass, class_sums, row_blocks
from esmcls.labels.labels import Labels
from esmcls.types import Indices, Vectors

BLOCK, PART = 512, 64
"""Rows that are looked at together, and those that are multiplied by rows of their own: 20 MB with 50 x 768 numbers."""


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
class Sources:
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
    def of(cls, rows: Rows, recipe: Recipe, device: str = "cpu") -> Sources:
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
        for rows, block in row_blocks(vectors, size=BLOCK):
            yield rows, self._named(self._unit(block), lengths[rows])

    def nearest(self, vectors: Vectors) -> Numbers:
        """Return the cosine of each row with the nearest training row, float64 (n,)."""
        parts = [self._hits(self._unit(block), 1).cosines[:, 0] for _, block in row_blocks(vectors, size=BLOCK)]
        return np.concatenate([np.zeros(0), *parts])

    def _unit(self, block: Tensor) -> Tensor:
        """Whiten float32 rows (n, width) in float64 and bring each to length 1."""
        return F.normalize((block.double() - self.whitening.mean) @ self.whitening.matrix.double(), eps=1e-9)

    def _hits(self, unit: Tensor, neighbours: int) -> Hits:
        _, rows = self.search(unit.float(), neighbours)
        cosines = rounded(_products(torch.from_numpy(self.search.rows()), rows, unit))
        order = np.lexsort((rows, -cosines), axis=1)  # of equals the first row, whatever the search did
        return Hits(np.take_along_axis(cosines, order, 1), self.codes[np.take_along_axis(rows, order, 1)])

    def _named(self, unit: Tensor, lengths: Indices) -> Candidates:
        hits, members = self._hits(unit, self.recipe.neighbours), self._members
        weight, bias = self._regression
        outputs = unit @ weight + bias  # (n, classes)
        best, first = outputs.float().topk(min(self.recipe.each, len(bias)))
        named = np.where(best.isfinite().numpy(), first.numpy(), -1)
        codes = unite(hits.classes(self.recipe.each), named)
        own = np.maximum(codes, 0)
        length = np.log1p(lengths)[:, None]
        ridge = np.where(codes >= 0, rounded(outputs.gather(1, torch.from_numpy(own))), np.nan)
        centre = np.where(codes >= 0, rounded(_products(members.centres, own, unit)), np.nan)
        near, second, mean, votes = hits.of(codes)
        columns = (
            *(near, second, mean, votes, *ranked(near), ridge, *ranked(ridge), centre, *ranked(centre)),
            *(members.spread[own], members.sizes[own], length, length - members.lengths[own], hits.cosines[:, :1]),
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
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, folder / "sources.safetensors")

    @classmethod
    def load(cls, folder: Path, recipe: Recipe, device: str = "cpu") -> Sources:
        """Read what `save` wrote."""
        state = {name: tensor.clone() for name, tensor in load_file(folder / "sources.safetensors").items()}
        whitening = Whitening(state["mean"], state["matrix"])  # cloned: aligned, which a mapped file is not
        search = Search.load(folder / "index.faiss", "cosine", recipe.engine, device)
        codes, lengths = state["codes"].numpy(), state["lengths"].numpy()
        return cls(recipe, whitening, search, codes, lengths, state["weight"], state["bias"])


@dataclass(frozen=True, eq=False)
class _Members:
    """What is known of classes: mean of their unit rows and the length it had, log of their number, mean log length."""

    centres: Tensor  # float64 (classes, width), of length 1; the others (classes,)
    spread: Numbers
    sizes: Numbers
    lengths: Numbers


def choose(
    rows: Rows, held: Rows, shrinkages: Sequence[float], penalties: Sequence[float], device: str = "cpu"
) -> tuple[float, float]:
    """Return the shrinkage and the penalty with the best macro F1 on held rows, the first of equals.

    The nearest neighbour alone decides on the shrinkage; then the ridge regression, with that one, on the penalty.
    """
    within, best = _within(rows, device), -1.0
    for one in shrinkages:
        whitening = within(one)
        search = _index(rows.vectors, whitening, "auto", device)
        found = [search(whitening.unit(block), 1)[1][:, 0] for _, block in row_blocks(held.vectors, device)]
        reached = score(held.labels, rows.labels.codes[np.concatenate(found)])["macro_f1"]
        if reached > best:
            best, shrinkage, base = reached, one, search
    whitening, ridge = within(shrinkage), _ridge(base, rows.labels, device)

    def f1(penalty: float) -> float:
        weight, bias = (tensor.to(device) for tensor in ridge.solve(penalty))
        blocks = row_blocks(held.vectors, device, max(1, LOGITS // len(bias)))
        logits: Blocks = ((own, whitening.unit(block) @ weight.T + bias) for own, block in blocks)
        return score(held.labels, best_of(logits, len(held.vectors)))["macro_f1"]

    return shrinkage, max(penalties, key=f1)


def out_of_fold(
    rows: Rows, recipe: Recipe, folds: int, most: int, seed: int, device: str = "cpu"
) -> Iterator[tuple[Indices, Candidates]]:
    """Give numbers of rows and their candidates, by sources that are fitted on the rows of all other folds.

    Of more than `most` rows as many are drawn; the sources are fitted on all the same.
    """
    fold, drawn = assign_folds(rows.labels.codes, folds, seed), np.ones(len(rows.lengths), dtype=bool)
    drawn[np.random.default_rng(seed).permutation(len(drawn))[most:]] = False
    for number in range(folds):
        base, asked = np.flatnonzero(fold != number), np.flatnonzero((fold == number) & drawn)
        if len(base) and len(asked):
            queries, sources = rows.take(asked), Sources.of(rows.take(base), recipe, device)
            for part, found in sources.candidates(queries.vectors, queries.lengths):
                yield asked[part], found


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


def _within(rows: Rows, device: str) -> WithinClass:
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
    parts = zip(torch.split(torch.from_numpy(places), PART), torch.split(unit, PART), strict=True)
    return torch.cat([(table[own].double() @ one[:, :, None]).squeeze(2) for own, one in parts])
