"""The align head: training proteins that may be relatives, ranked by how well their residue vectors align."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from esmcls.cache.features import Features
from esmcls.heads.alignment.residues.aligner import (
    ENOUGH_CANDIDATES,
    Aligner,
    ResidueConfig,
    fewest,
    load_finder,
    tried_candidates,
)
from esmcls.heads.alignment.residues.finder import ResidueFinder
from esmcls.heads.base import AlignedSegment, BaseLabelHead, Log, Validation, labels_by_id
from esmcls.heads.blocks import AnswerBlocks, checked_vectors, grid, score, training_vectors
from esmcls.heads.neighbours.finder import Finder, Nearness, whitening_of
from esmcls.heads.neighbours.term_votes import settled
from esmcls.heads.neighbours.votes import Numbers, Tally, priors_of
from esmcls.heads.saved_tensors import check_rows, read_tensors
from esmcls.heads.settings import ABOVE_0, AT_LEAST_1, check_ranges
from esmcls.heads.whitening import SHRINKAGES, WithinClass
from esmcls.labels.labels import Labels
from esmcls.types import Indices

Background = npt.NDArray[np.float32]

BACKGROUND = "background.safetensors"
VOTERS = (1, 5, 20)
TEMPERATURES = (0.02, 0.05, 0.1, 0.2)
"""The values that are tried on validation."""
SOFTNESS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
DEPTH = 20
"""The neighbour whose nearness stands for classes without a vote."""
TRIFLE = 0.002
"""Of macro F1: no more candidates are aligned for a gain of less."""
HELD_MOST = 2000
"""Held rows that choices are made on at most: each is aligned with as many candidates as are tried."""
PRIOR = 10
"""Unrelated proteins that the nearness of a training protein to such proteins is drawn to the mean of all by."""
ANSWERED_ROWS = 1024
"""Rows whose votes are counted at a time."""


@dataclass(frozen=True)
class AlignConfig(ResidueConfig):
    """Knobs of the align head besides those of `esmcls.heads.alignment.residues.aligner.ResidueConfig`.

    None is chosen on validation.

    Parameters
    ----------
    k : int, optional
        Best alignments that vote. When to change: there is no validation part: 1 for families of two or three members,
        more for large ones.
    temperature : float, optional
        One of nearness s, score over length, votes with exp(s / temperature). When to change: the best alignment is to
        decide (lower it), or all k alike (raise it).
    softness : float, optional
        A class whose votes amount to those of one alignment of nearness s weighs exp(s / softness), all classes without
        a vote together as one of the twentieth alignment's nearness: the least log loss on validation. When to change:
        probabilities are too sure on your own proteins: raise it; which class is first stays as it is.
    """

    k: int | None = None
    temperature: float | None = None
    softness: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, {"k": AT_LEAST_1, "temperature": ABOVE_0, "softness": ABOVE_0})

    def settled(self) -> AlignConfig:
        """Return it with a default for each knob that is open."""
        votes = {"k": 5, "temperature": 0.1, "softness": 0.2}
        return settled(self, {"candidates": ENOUGH_CANDIDATES, "shrinkage": SHRINKAGES[1], **votes})


class AlignHead(BaseLabelHead):
    """Local alignment of residue vectors with those of training proteins.

    Residue vectors are read from the cache where it keeps them, else the encoder makes them when the head is fitted.
    """

    Config: ClassVar[type[AlignConfig]] = AlignConfig
    reads_residues: ClassVar[bool] = True
    config: AlignConfig
    chosen: AlignConfig
    finder: ResidueFinder
    codes: Indices
    """The class of each training row."""
    priors: Numbers
    aligner: Aligner | None = None
    background: Background
    """How near each training row is to proteins of other classes."""
    known_background: dict[str, float]
    """The same by sequence, of those that the last choice was made with."""

    def __init__(self, config: AlignConfig | None = None, device: str = "cpu") -> None:
        super().__init__(config, device)
        self.known_background = {}

    def _forget(self) -> None:
        super()._forget()
        self.aligner = None
        self.known_background = {}

    def _fit(self, x: Features, labels: Labels, validation: Validation[Labels], seed: int, log: Log | None) -> None:
        held = (validation[0].take(slice(HELD_MOST)), validation[1].take(slice(HELD_MOST)))
        self.aligner = Aligner(self.config, x, seed, held[0], log)
        finder = self._choose(x, labels, held, log)
        self._take(finder, labels)

    def _refit(self, x: Features, labels: Labels, seed: int, log: Log | None) -> None:
        """Index all rows with what was chosen; residues that were reduced before are not read again."""
        if self.aligner is None:
            self.aligner = Aligner(self.config, x, seed)
        vectors = training_vectors(x, self.config.pooling)
        within = WithinClass.of(vectors, labels.codes, labels.n_classes, self.device)
        self.chosen = self.chosen.settled()
        self._take(self.aligner.finder(x, self._nearest_means(x, within, self.chosen.shrinkage)), labels)

    def _take(self, finder: ResidueFinder, labels: Labels) -> None:
        """Answer from now on by a search among rows of these labels."""
        self.finder = finder.with_candidates(self.chosen.candidates or ENOUGH_CANDIDATES)
        self.chosen = self.chosen.fitted_with(finder)
        self.codes = labels.codes
        known = self.known_background
        self.background = np.array([known.get(sequence, 0.0) for sequence in self.finder.sequences], dtype=np.float32)
        self.__dict__.pop("label_of_row", None)
        self.priors = priors_of(labels.codes, labels.n_classes)

    def _nearest_means(self, x: Features, within: WithinClass, shrinkage: float | None) -> Finder:
        vectors = x.vectors(self.config.pooling)
        whitening = whitening_of(vectors, within, shrinkage)
        return Finder.of(vectors, list(x.ids), whitening, "cosine", "auto", self.device)

    def _choose(self, x: Features, labels: Labels, held: Validation[Labels], log: Log | None) -> ResidueFinder:
        """Choose on held rows: the whitening that finds most true classes, then candidates and votes, then softness.

        Returns the search, which remembers how the held rows align.
        """
        assert self.aligner is not None
        vectors = training_vectors(x, self.config.pooling)
        within = WithinClass.of(vectors, labels.codes, labels.n_classes, self.device)
        tried = tried_candidates(self.config, len(x))
        held_vectors = checked_vectors(held[0], self.config.pooling, vectors.shape[1])
        finders = {
            shrinkage: self._nearest_means(x, within, shrinkage)
            for shrinkage in grid(self.config.shrinkage, SHRINKAGES)
        }
        recalls = {
            shrinkage: _recall(labels.codes[finder.whole(held_vectors, max(tried))[1]], held[1].codes, tried)
            for shrinkage, finder in finders.items()
        }
        shrinkage = max(recalls, key=recalls.__getitem__)
        self.aligner.collect(held[0])
        finder = self.aligner.finder(x, finders[shrinkage]).with_candidates(max(tried))
        nearness, rows = finder.aligned(held[0])
        background, own = background_of(nearness, rows, labels.codes, held[1].codes)
        self.known_background = dict(zip(finder.sequences, background.tolist(), strict=True))
        nearness = nearness - own
        trials: dict[int, tuple[AlignConfig, Tally, dict[str, float]]] = {}
        for candidates in tried:
            config = replace(self.config, candidates=candidates, shrinkage=shrinkage)
            columns = finder.columns(candidates)
            best = max(
                self._trials(config, *_ranked(nearness[:, columns], rows[:, columns]), labels, held[1], log),
                key=lambda trial: trial[2]["macro_f1"],
            )
            trials[candidates] = best
        candidates = fewest({count: trial[2]["macro_f1"] for count, trial in trials.items()}, TRIFLE)
        config, tally, self.scores = trials[candidates]
        priors = priors_of(labels.codes, labels.n_classes)
        losses = {
            softness: tally.weigh(priors, softness).losses(held[1].codes).mean()
            for softness in grid(config.softness, SOFTNESS)
        }
        self.chosen = replace(config, softness=min(losses, key=losses.__getitem__))
        return finder

    def _trials(
        self, config: AlignConfig, nearness: Nearness, rows: Indices, labels: Labels, truth: Labels, log: Log | None
    ) -> Iterator[tuple[AlignConfig, Tally, dict[str, float]]]:
        """Give what every number of voters and temperature reaches on the held rows, with one search."""
        for k in grid(config.k, VOTERS):
            for temperature in grid(config.temperature, TEMPERATURES if k > 1 else TEMPERATURES[:1]):
                tally = _tally(labels.codes, nearness, rows, k, temperature)
                scores = score(truth, tally.codes[:, 0])
                if log is not None:
                    log({"candidates": config.candidates or 0, "k": k, "temperature": temperature, **scores})
                yield replace(config, k=k, temperature=temperature), tally, scores

    def _answers(self, x: Features) -> AnswerBlocks:
        chosen = self.chosen.settled()
        nearness, rows = self._ahead(x)
        for start in range(0, len(x), ANSWERED_ROWS):
            block = slice(start, start + ANSWERED_ROWS)
            tally = _tally(self.codes, nearness[block], rows[block], chosen.k or 1, chosen.temperature or 1.0)
            yield slice(start, start + len(tally.codes)), tally.weigh(self.priors, chosen.softness or 1.0)

    def _ahead(self, x: Features) -> tuple[Nearness, Indices]:
        """Return by how much each candidate is nearer than it is to unrelated proteins, falling, and training rows."""
        nearness, rows = self.finder.aligned(x)
        return _ranked(nearness - self.background[rows], rows)

    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return by how much the training protein that is most ahead is nearer than it is to unrelated ones, (n,)."""
        return self._ahead(x)[0][:, 0].astype(np.float64)

    def nearest(self, x: Features) -> tuple[npt.NDArray[np.float64], list[str | None]]:
        """Return the E-value of the best alignment, (n,), and the id of its training row."""
        return self.finder.nearest(x)

    @cached_property
    def label_of_row(self) -> dict[str, str]:
        """The label of each training row by its id; ids of rows with different labels are not there."""
        return labels_by_id(self.finder.ids, self.codes, self.classes)

    def segments(self, x: Features) -> list[list[AlignedSegment]]:
        """Return the segments of each row that align, the best first."""
        return self.finder.segments(x)

    def save(self, folder: Path) -> None:
        """Write what `esmcls.heads.alignment.residues.finder` does, and `background.safetensors`.

        `knn.safetensors` has the class of each row.
        """
        self.finder.save(folder, self.codes)
        save_file({"background": torch.from_numpy(self.background)}, folder / BACKGROUND)

    def _restore(self, folder: Path) -> None:
        nearest_means, self.codes = Finder.load(folder, "cosine", "auto", len(self.classes), self.device)
        self.finder = load_finder(folder, nearest_means, self.config)
        self.priors = priors_of(self.codes, len(self.classes))
        self.background = read_tensors(folder / BACKGROUND, {"background": ("float32", "rows")})["background"].numpy()
        check_rows(folder / BACKGROUND, len(self.background), len(self.codes))


def background_of(nearness: Nearness, rows: Indices, codes: Indices, truth: Indices) -> tuple[Background, Background]:
    """Return how near training rows are to held proteins of other classes than theirs, less the mean of all such pairs.

    A row that few have met is drawn to that mean: some proteins align well with whatever comes, and are no better
    evidence for it.

    Parameters
    ----------
    nearness, rows : arrays, (n, candidates)
        Of held proteins, and the training rows that these are of.
    codes : int64 array, (training rows,)
    truth : int64 array, (n,)
        The class of each held protein; -1 where it is none of them.

    Returns
    -------
    float32 array, (training rows,)
    float32 array, (n, candidates)
        Of each pair, without that pair.

    Examples
    --------
    >>> nearness, rows = np.array([[3.0, 1.0], [2.0, 1.0]]), np.array([[0, 1], [0, 1]])
    >>> both = background_of(nearness, rows, codes=np.array([0, 1]), truth=np.array([2, 2]))
    >>> [values.astype(float).round(3).tolist() for values in both]
    [[0.125, -0.125], [[0.023, -0.068], [0.114, -0.068]]]
    """
    apart = codes[rows] != truth[:, None]
    mean = float(nearness[apart].mean()) if apart.any() else 0.0
    above = np.where(apart, nearness - mean, 0.0)
    sums = np.bincount(rows.ravel(), above.ravel(), len(codes))
    counts = np.bincount(rows.ravel(), apart.ravel(), len(codes))
    without = (sums[rows] - above) / (counts[rows] - apart + PRIOR)
    return (sums / (counts + PRIOR)).astype(np.float32), without.astype(np.float32)


def _recall(codes: Indices, truth: Indices, tried: tuple[int, ...]) -> float:
    """Return the share of rows with their true class among the first candidates, averaged over how many these are."""
    return float(np.mean([(codes[:, :candidates] == truth[:, None]).any(1).mean() for candidates in tried]))


def _ranked(nearness: Nearness, rows: Indices) -> tuple[Nearness, Indices]:
    """Return both in falling order of nearness."""
    order = np.argsort(-nearness, axis=1, kind="stable")
    return np.take_along_axis(nearness, order, 1), np.take_along_axis(rows, order, 1)


def _tally(codes: Indices, nearness: Nearness, rows: Indices, k: int, temperature: float) -> Tally:
    """Return the votes of the k nearest rows, above the nearness of one beyond them."""
    return Tally.soft(codes[rows[:, :k]], nearness[:, : max(k, DEPTH)], temperature)
