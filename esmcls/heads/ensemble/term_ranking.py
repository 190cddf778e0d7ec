"""The ranker of terms: boosted trees that correct what a mix of members says of the likely terms of a protein.

members' answers ──▶ Pairs of a protein and a term that any of them names ──▶ features ──▶ logit of the mix + trees

The trees see what a weighed mean cannot: where a term stands among the others that a member names for the protein, how
sure the members are of any, how near its nearest relative is, and how frequent the term. They begin at the mix, so that
what they have learnt nothing of stays as it was, and are of a binary loss, so that what comes out is a probability.

They learn from the held proteins, of which the members have seen none. What is measured there is said out of fold: each
fold by trees of the others. Trees that do not make Fmax higher so are not taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from lightgbm import Dataset
from safetensors.numpy import save_file
from scipy.special import expit, logit

from esmcls.errors import ModelError
from esmcls.heads.ensemble.term_mixing import EDGE, LEAST, Mixes, Pairs
from esmcls.heads.saved_tensors import read_tensors
from esmcls.heads.trees.boosting import Trees
from esmcls.labels.labels import LabelSets
from esmcls.types import Floats, Indices, Probabilities

COUNTS: Final = "ranker.safetensors"
FOLDS: Final = 3
ENOUGH: Final = 100
"""Held proteins that trees are learnt from at least."""
BESIDE: Final = ("frequency", "group", "distance", "mix")
"""Features of a pair besides the three of each member."""
_LEAF: Final = 200
_PARTS: Final = 50
"""Pairs that a leaf holds at least, but no more than one of so many parts of all."""
_NEAREST: Final = 1e-200
_FARTHEST: Final = 1e3
"""Distances are taken to be no nearer, and no farther: there is no relative."""


@dataclass(frozen=True)
class Knobs:
    """Of the boosting; see `BoostingKnobs`. Set in trials on folds of GO's validation
    part, which benchmarks/term_ranker.py measures."""

    lr: float = 0.05
    leaves: int = 15
    l2: float = 10.0
    rounds: int | None = 100
    most_rounds: int = 100
    patience: int = 100


@dataclass(frozen=True, eq=False)
class About:
    """What is known besides the members' answers.

    Parameters
    ----------
    counts : int64 array, (classes,), optional
        Training rows of each class.
    distance : float array, (n,), optional
        Of each protein to its nearest relative, as the member that tells relatives measures it.
    """

    counts: Indices | None = None
    distance: npt.NDArray[np.floating] | None = None


def features_of(pairs: Pairs, mix: Floats, about: About) -> npt.NDArray[np.float32]:
    """Return the features of each pair, float32 (pairs, 3 x members + 4).

    Of each member the logit of its probability, the log of the term's rank among the pairs of its protein and group,
    and the highest probability there; then `BESIDE`.
    """
    proteins, codes = pairs.cells
    cells = proteins * (int(pairs.groups.max(initial=0)) + 1) + pairs.groups
    members = range(pairs.given.shape[1])
    ranks, highest = zip(*(_ranked(cells, pairs.given[:, member]) for member in members), strict=True)
    nothing = np.full(len(codes), np.nan)
    frequency = nothing if about.counts is None else np.log1p(about.counts[codes])
    distance = nothing if about.distance is None else _log(about.distance)[proteins]
    columns = [*_logits(pairs.given).T, *ranks, *highest, frequency, pairs.groups, distance, _logits(mix)]
    return np.stack(columns, axis=1).astype(np.float32)


def _ranked(cells: Indices, given: npt.NDArray[np.float32]) -> tuple[Floats, npt.NDArray[np.float32]]:
    """Return the log of each pair's rank in its cell, of equals the first, and the highest probability there."""
    order = np.lexsort((-given, cells))
    ordered = cells[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    sizes = np.diff(starts, append=len(ordered))
    ranks = np.empty(len(cells))
    ranks[order] = np.log1p(np.arange(len(cells)) - np.repeat(starts, sizes))
    highest = np.empty(len(cells), np.float32)
    highest[order] = np.repeat(given[order[starts]], sizes)
    return ranks, highest


def _logits(given: npt.NDArray[np.floating]) -> Floats:
    return np.asarray(logit(np.clip(given.astype(np.float64), EDGE, 1 - EDGE)))


def _log(distance: npt.NDArray[np.floating]) -> Floats:
    return np.asarray(np.log10(np.clip(distance.astype(np.float64), _NEAREST, _FARTHEST)))


def mix_of(pairs: Pairs, mixes: Mixes, related: npt.NDArray[np.bool_] | None) -> Floats:
    """Return what mixes make of pairs, (pairs,)."""
    out = np.zeros(len(pairs.groups))
    kinds = np.zeros(len(out), bool) if related is None or len(mixes) == 1 else related[pairs.cells[0]]
    for kind, by_group in enumerate(mixes):
        for group, mix in enumerate(by_group):
            some = (kinds == kind) & (pairs.groups == group)
            out[some] = mix(list(pairs.given[some].T))
    return out


@dataclass(frozen=True, eq=False)
class Ranker:
    """Trees that correct a mix.

    Parameters
    ----------
    trees : Trees
    counts : int64 array, (classes,), optional
        See `About`.
    """

    trees: Trees
    counts: Indices | None = None

    @classmethod
    def fit(cls, pairs: Pairs, mix: Floats, about: About, seed: int) -> Ranker | None:
        """Learn from pairs; None where there is nothing to learn."""
        if not 0 < pairs.right.sum() < len(pairs.right):
            return None
        leaf = max(1, min(_LEAF, len(pairs.right) // _PARTS))
        parameters = {"objective": "binary", "min_data_in_leaf": leaf, "feature_fraction": 0.7}
        data = Dataset(features_of(pairs, mix, about), pairs.right.astype(np.float32), init_score=_logits(mix))
        trees, _ = Trees.train(data, None, Knobs(), seed, parameters)
        return None if trees is None else cls(trees, about.counts)

    def scores(self, pairs: Pairs, mix: Floats, distance: npt.NDArray[np.floating] | None) -> Floats:
        """Return the probability of each pair, (pairs,)."""
        features = features_of(pairs, mix, About(self.counts, distance))
        return np.asarray(expit(_logits(mix) + self.trees.scores(features)))

    def correct(
        self,
        mix: Probabilities,
        given: Sequence[Probabilities],
        place: Indices,
        distance: npt.NDArray[np.floating] | None,
    ) -> Probabilities:
        """Return a mix of some rows, float32 (rows, classes), with the pairs that any member names corrected."""
        pairs = named_pairs(given, place)
        out = mix.copy()
        if len(pairs.groups):
            out[pairs.cells] = self.scores(pairs, mix[pairs.cells].astype(np.float64), distance)
        return out

    def save(self, folder: Path) -> None:
        """Write `lightgbm.txt`, and `ranker.safetensors` (counts int64, of no class where they are not known)."""
        self.trees.save(folder)
        save_file({"counts": np.zeros(0, np.int64) if self.counts is None else self.counts}, folder / COUNTS)

    @classmethod
    def load(cls, folder: Path, members: int, classes: int) -> Ranker | None:
        """Read what `save` wrote, if it did.

        Raises
        ------
        ModelError
            If it is damaged, or of other members or classes.
        """
        trees = Trees.load(folder, 3 * members + len(BESIDE))
        if trees is None:
            return None
        counts = read_tensors(folder / COUNTS, {"counts": ("int64", "known")})["counts"].numpy()
        if len(counts) not in (0, classes) or (counts < 0).any():
            raise ModelError(folder / COUNTS, f"{len(counts)} counts of {classes} classes", "fit again")
        return cls(trees, counts if len(counts) else None)


def named_pairs(given: Sequence[Probabilities], place: Indices) -> Pairs:
    """Return the pairs that any member gives at least `LEAST`, of which nothing is known to be right."""
    proteins, codes = np.nonzero(np.maximum.reduce(list(given)) >= LEAST)
    parts = np.stack([part[proteins, codes] for part in given], 1)
    return Pairs(place[codes], parts, np.zeros(len(codes), bool), len(given[0]), (proteins, codes))


@dataclass(frozen=True, eq=False)
class Learnt:
    """A ranker, and what is said of the pairs it learnt from out of fold.

    Parameters
    ----------
    ranker : Ranker
    pairs : Pairs
    scores : float64 array, (pairs,)
    fmax : float
        Of these.
    """

    ranker: Ranker
    pairs: Pairs
    scores: Floats
    fmax: float

    def said(self, rows: slice, mix: Probabilities) -> Probabilities:
        """Return a mix of some of the rows with what is said out of fold in its place."""
        proteins, codes = self.pairs.cells
        some = slice(*np.searchsorted(proteins, [rows.start, rows.stop]))
        out = mix.copy()
        out[proteins[some] - rows.start, codes[some]] = self.scores[some]
        return out


def learn(
    pairs: Pairs,
    truth: LabelSets,
    mixes: Mixes,
    related: npt.NDArray[np.bool_] | None,
    about: About,
    seed: int = 0,
) -> Learnt | None:
    """Learn a ranker on held rows.

    Parameters
    ----------
    pairs : Pairs
        Of the members that were chosen.
    truth : LabelSets
        Of the held rows.
    mixes, related
        As `choose_members` has them.
    about : About
    seed : int

    Returns
    -------
    Learnt or None
        Where held rows are too few, or trees make Fmax no higher out of fold.
    """
    if pairs.rows < ENOUGH:
        return None
    pairs = pairs.take(pairs.given.max(axis=1, initial=0) >= LEAST)
    mix = mix_of(pairs, mixes, related)
    folds = (np.random.default_rng(seed).permutation(pairs.rows) % FOLDS)[pairs.cells[0]]
    scores = mix.copy()
    for fold in range(FOLDS):
        some, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        trained = Ranker.fit(pairs.take(rest), mix[rest], about, seed)
        if trained is not None:
            scores[some] = trained.scores(pairs.take(some), mix[some], about.distance)
    fmax = pairs.fmax(scores, truth)
    ranker = Ranker.fit(pairs, mix, about, seed) if fmax > pairs.fmax(mix, truth) else None
    return None if ranker is None else Learnt(ranker, pairs, scores, fmax)
