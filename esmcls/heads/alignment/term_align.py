"""The align head for many labels: terms of the training proteins whose residue vectors align best with a protein's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.heads.alignment.residues.aligner import (
    ENOUGH_CANDIDATES,
    Aligner,
    ResidueConfig,
    load_finder,
    tried_candidates,
)
from esmcls.heads.alignment.residues.base import ResidueAligningHead
from esmcls.heads.alignment.residues.finder import ResidueFinder
from esmcls.heads.base import BaseTermHead, Log, Validation
from esmcls.heads.blocks import TermBlocks, checked_vectors, grid, training_vectors
from esmcls.heads.neighbours.finder import Finder, whitening_of
from esmcls.heads.neighbours.term_votes import Choice, Known, carried_by_nearness, settled
from esmcls.heads.saved_tensors import check_rows
from esmcls.heads.settings import ABOVE_0, AT_LEAST_0, AT_LEAST_1, check_ranges
from esmcls.heads.whitening import SHRINKAGES, WithinClass
from esmcls.labels.labels import LabelSets

MOST_TRIED = 200
"""Candidates that are tried on validation at most: fewer than for families, since terms are carried over from the few
that are most alike."""
TRIFLE = 0.002
"""Of Fmax: no more candidates are aligned for a gain of less."""
VOTERS = (5, 10, 20, 50)
TEMPERATURES = (0.1, 0.2, 0.4, 0.8)
BACKGROUNDS = (0.0, 0.25, 0.5, 1.0, 1.5)
"""The values that are tried on validation."""
RELATED = 1e-3
"""E-value of an alignment with a relative."""


@dataclass(frozen=True)
class TermAlignConfig(ResidueConfig):
    """Knobs of the align head besides those of `esmcls.heads.alignment.residues.aligner.ResidueConfig`.

    None is chosen on validation. The offset is larger than for domains: with 1 an alignment of two whole proteins runs
    from end to end, whatever they share.

    Parameters
    ----------
    k : int, optional
        Best alignments whose terms are carried over. When to change: there is no validation part: fewer where each
        protein has near relatives.
    temperature : float, optional
        One of nearness s, score over length, weighs exp(s / temperature). When to change: the best alignment is to
        decide (lower it), or all k alike (raise it).
    background : float, optional
        The nearness of one alignment more, whose protein has each term by its share of the training rows with any of
        its aspect. When to change: proteins without a relative get too many terms: raise it.
    """

    offset: float = 1.5
    k: int | None = None
    temperature: float | None = None
    background: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, {"k": AT_LEAST_1, "temperature": ABOVE_0, "background": AT_LEAST_0})

    def settled(self) -> TermAlignConfig:
        """Return it with a default for each knob that is open."""
        defaults = {"candidates": ENOUGH_CANDIDATES, "shrinkage": SHRINKAGES[1]}
        return settled(self, {**defaults, "k": 20, "temperature": 0.1, "background": 0.5})


class TermAlignHead(ResidueAligningHead[LabelSets], BaseTermHead):
    """Local alignment of residue vectors with those of training proteins, whose terms are carried over.

    The nearness that votes is the score over the geometric mean of both lengths: it tells relatives from others better
    than the score as it is, or over the length of the query alone.
    """

    Config: ClassVar[type[TermAlignConfig]] = TermAlignConfig
    held_most: ClassVar[int] = 500
    config: TermAlignConfig
    chosen: TermAlignConfig
    known: Known

    def _refit(self, x: Features, labels: LabelSets, seed: int, log: Log | None) -> None:
        """Index all rows with what was chosen; residues that were reduced before are not read again."""
        if self.aligner is None:
            self.aligner = Aligner(self.config, x, seed)
        self.chosen = self.chosen.settled()
        self._take(self.aligner.finder(x, self._nearest_means(x, self.chosen.shrinkage)), labels)

    def _take(self, finder: ResidueFinder, labels: LabelSets) -> None:
        """Answer from now on by a search among rows of these labels."""
        self.finder = finder.with_candidates(self.chosen.candidates or ENOUGH_CANDIDATES)
        self.chosen = self.chosen.fitted_with(finder)
        self.known = Known(labels)

    def _nearest_means(self, x: Features, shrinkage: float | None) -> Finder:
        """Return the search among mean vectors, whitened by the covariance of all rows."""
        vectors = training_vectors(x, self.config.pooling)
        whitening = whitening_of(vectors, WithinClass.of_all(vectors, self.device), shrinkage)
        return Finder.of(vectors, list(x.ids), whitening, "cosine", "auto", self.device)

    def _choose(self, x: Features, labels: LabelSets, held: Validation[LabelSets], log: Log | None) -> ResidueFinder:
        """Choose on held rows: candidates, then votes, then the background; return the search, which remembers them."""
        assert self.aligner is not None
        tried = tried_candidates(self.config, len(x))
        tried = tuple(candidates for candidates in tried if candidates <= MOST_TRIED) or tried
        known = Known(labels)
        checked_vectors(held[0], self.config.pooling, training_vectors(x, self.config.pooling).shape[1])
        self.aligner.collect(held[0])
        finder = self.aligner.finder(x, self._nearest_means(x, self.config.settled().shrinkage))
        nearness, rows = finder.with_candidates(max(tried)).aligned(held[0])

        def blocks(trial: TermAlignConfig) -> TermBlocks:
            columns = finder.columns(trial.candidates or ENOUGH_CANDIDATES)
            order = np.argsort(-nearness[:, columns], axis=1, kind="stable")
            return carried_by_nearness(
                known, trial, np.take_along_axis(nearness, order, 1), np.take_along_axis(rows, order, 1)
            )

        choice = Choice(self.config.settled(), held[1], blocks, log)
        choice.fewest(TRIFLE, candidates=tried)
        choice.among(k=grid(self.config.k, VOTERS), temperature=grid(self.config.temperature, TEMPERATURES))
        choice.among(background=grid(self.config.background, BACKGROUNDS))
        self.chosen = choice.best
        self.scores = {"fmax": choice.fmax}
        return finder

    def blocks(self, x: Features) -> TermBlocks:
        """Give slices of rows and their probabilities: of one search, however many blocks."""
        yield from carried_by_nearness(self.known, self.chosen, *self.finder(x))

    def related(self, x: Features) -> npt.NDArray[np.bool_]:
        """Return whether each row aligns with a training protein at an E-value of .001 or less, bool (n,)."""
        return np.asarray(self.finder.evalues(x) <= RELATED)

    def save(self, folder: Path) -> None:
        """Write what `esmcls.heads.alignment.residues.finder` does, and `terms.safetensors` (offsets, codes int64)."""
        self.finder.save(folder, np.zeros(len(self.finder.ids), dtype=np.int64))
        self.known.save(folder)

    def _restore(self, folder: Path) -> None:
        self.known = Known.load(folder, self.classes, self.groups)
        nearest_means, codes = Finder.load(folder, "cosine", "auto", len(self.classes), self.device)
        check_rows(folder / "terms.safetensors", len(self.known.labels), len(codes))
        self.finder = load_finder(folder, nearest_means, self.config)
