"""The homology head for many labels: no vectors; the terms of training sequences that align, by their bit scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.heads.alignment.finder import AlignmentConfig, Finder
from esmcls.heads.alignment.search import Hits
from esmcls.heads.base import BaseTermHead, Log, Validation
from esmcls.heads.blocks import TermBlocks, first_held, grid, row_slices
from esmcls.heads.neighbours.term_votes import HELD_MOST, Choice, Known, settled
from esmcls.heads.saved_tensors import check_rows
from esmcls.heads.settings import AT_LEAST_0, AT_LEAST_1, check_ranges
from esmcls.labels.labels import LabelSets

RELATED = 1e-3
"""E-value of a hit that is a relative."""
HITS = (3, 10, 20, 50)
POWERS = (1.0, 2.0, 4.0)
BACKGROUNDS = (5.0, 10.0, 20.0, 30.0, 40.0)
"""The values that are tried on validation: k and power together, then the background."""
NEAREST_HITS = 20
"""Hits that are asked for at least: whatever is asked of the same rows, they are searched once."""


@dataclass(frozen=True)
class TermHomologyConfig(AlignmentConfig):
    """Knobs of the homology head besides those of `esmcls.heads.alignment.finder.AlignmentConfig`.

    None is chosen on validation.

    Parameters
    ----------
    k : int, optional
        Best hits whose terms are carried over. When to change: there is no validation part: fewer where the set
        is small.
    power : float, optional
        A hit of b bits weighs b to the power of it: above 1, strong hits count for more. When to change: the
        best hit is to decide (raise it), or all k alike (lower it).
    background : float, optional
        The bits of one hit more, which has each term by its share of the training rows with any of its aspect.
        When to change: proteins without a good hit get too many terms for certain: raise it.
    """

    k: int | None = None
    power: float | None = None
    background: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, {"k": AT_LEAST_1, "power": AT_LEAST_0, "background": AT_LEAST_0})

    def settled(self) -> TermHomologyConfig:
        """Return it with a default for each knob that is open."""
        return settled(self, {"k": 20, "power": 4.0, "background": 20.0})


class TermHomologyHead(BaseTermHead):
    """Alignment with the training sequences (MMseqs2 or phmmer); the encoder plays no part.

    A row's probability of a term is the bits, to a power, of its best k hits that have it over those of all k that have
    any term of its aspect. A training sequence hits itself.

    Examples
    --------
    >>> sequences = ["MKTAYIAKQRQISFVKSHFSRQ", "GSHMLEDPVDAFWLRTYQENIC"]
    >>> x = Features.from_arrays(np.zeros((2, 0), dtype=np.float32), sequences)
    >>> labels = LabelSets.from_names([["a", "c"], ["b", "c"]])
    >>> head = TermHomologyHead(TermHomologyConfig(engine="phmmer", background=0)).refit(x, labels)
    >>> head.predict_proba(x).tolist()
    [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    """

    Config: ClassVar[type[TermHomologyConfig]] = TermHomologyConfig
    reads_vectors: ClassVar[bool] = False
    config: TermHomologyConfig
    chosen: TermHomologyConfig
    finder: Finder
    known: Known

    def _fit(
        self, x: Features, labels: LabelSets, validation: Validation[LabelSets], seed: int, log: Log | None
    ) -> None:
        self._refit(x, labels, seed, log)
        self._choose(*first_held(validation, HELD_MOST), log)

    def _refit(self, x: Features, labels: LabelSets, seed: int, log: Log | None) -> None:
        """Take the sequences to search and what they have; nothing here is drawn or searched."""
        self.finder = Finder.of(x, self.chosen)
        searched_by = self.finder.config
        self.chosen = replace(self.chosen.settled(), engine=searched_by.engine, version=searched_by.version)
        self.known = Known(labels)

    def _choose(self, x: Features, labels: LabelSets, log: Log | None) -> None:
        """Choose on held rows, with one search."""
        ks = grid(self.config.k, HITS)
        hits = self.finder.hits(x, max(ks))
        choice = Choice(self.chosen, labels, lambda config: _carried(self.known, config, hits), log)
        choice.among(k=ks, power=grid(self.config.power, POWERS))
        choice.among(background=grid(self.config.background, BACKGROUNDS))
        self.chosen = choice.best
        self.scores = {"fmax": choice.fmax}

    def blocks(self, x: Features) -> TermBlocks:
        """Give slices of rows and their probabilities: of one search, however many blocks."""
        yield from _carried(self.known, self.chosen, self._hits(x))

    def _hits(self, x: Features) -> Hits:
        """Return the hits that all questions about rows are answered by, of one search."""
        return self.finder.hits(x, max(self.chosen.k or 1, NEAREST_HITS))

    def nearest(self, x: Features) -> tuple[npt.NDArray[np.float64], list[str | None]]:
        """Return the E-value of the best hit, (n,), and the id of its training row; without one, infinity and None."""
        return self.finder.nearest(x, max(self.chosen.k or 1, NEAREST_HITS))

    def related(self, x: Features) -> npt.NDArray[np.bool_]:
        """Return whether each row aligns with a training sequence at an E-value of .001 or less, bool (n,)."""
        return np.asarray(self._hits(x).evalues[:, 0] <= RELATED)

    def save(self, folder: Path) -> None:
        """Write what `esmcls.heads.alignment.finder` does, and `terms.safetensors` (offsets, codes int64)."""
        self.finder.save(folder, np.zeros(len(self.finder.ids), dtype=np.int64))
        self.known.save(folder)

    def _restore(self, folder: Path) -> None:
        self.known = Known.load(folder, self.classes, self.groups)
        self.finder, codes = Finder.load(folder, self.config, len(self.classes))
        check_rows(folder / "terms.safetensors", len(self.known.labels), len(codes))


def _carried(known: Known, config: TermHomologyConfig, hits: Hits) -> TermBlocks:
    """Give blocks of probabilities from the best hits, at least k a row."""
    k = config.k or 1
    power = config.power or 0.0
    background = config.background or 0.0
    for rows in row_slices(len(hits), known.labels.n_classes):
        bits = np.maximum(hits.bits[rows, :k], 0)
        prior = np.full(len(bits), background**power)
        yield rows, known.carried(hits.rows[rows, :k], bits**power, prior)
