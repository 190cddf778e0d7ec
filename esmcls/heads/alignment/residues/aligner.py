"""What heads of all kinds that align residues share: their knobs, the reduced residues, and the search made of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from typing_extensions import Self

from esmcls.cache.features import Features
from esmcls.errors import MissingExtraError
from esmcls.heads.alignment.finder import AlignmentConfig, sequences_of
from esmcls.heads.alignment.finder import Finder as SequenceFinder
from esmcls.heads.alignment.residues.finder import ResidueFinder
from esmcls.heads.alignment.residues.reduction import Reduction
from esmcls.heads.alignment.residues.scoring import Scheme
from esmcls.heads.alignment.residues.significance import Significance
from esmcls.heads.alignment.residues.store import ResiduePool
from esmcls.heads.blocks import grid
from esmcls.heads.contract import Log
from esmcls.heads.neighbours.finder import Finder
from esmcls.heads.settings import AT_LEAST_0, AT_LEAST_1, FROM_0_TO_1, check_ranges

SAMPLED_RESIDUES = 60_000
"""Residues that the reduction is fitted on."""
DECOYS = 400
"""Shuffled proteins whose best scores tell what chance reaches."""
DECOYS_AT_ONCE = 32
CANDIDATES = (50, 100, 200, 400)
"""The values that are tried on validation; with no more training rows than the last, each meets all of them."""
ENOUGH_CANDIDATES = 200
"""Where there is nothing to choose on."""
CELLS_A_SECOND = 4e8
"""That a core fills, as a fit is estimated by; `benchmarks/alignment.py speed` measures it."""


@dataclass(frozen=True)
class ResidueConfig:
    """Knobs of every head that aligns residue vectors; None is chosen on validation.

    Parameters
    ----------
    candidates : int, optional
        Training proteins with the nearest mean vectors that are aligned with a protein: the more, the slower. When to
        change: predictions take too long (50), or families are many and remote (400 and more). Where there are 400 at
        most, all of them are.
    components : int
        Principal components of residue vectors that are compared, a byte each a residue of the training set. When to
        change: the model folder is too large: 32 halves it.
    offset : float
        Taken off the similarity of each pair of residues, in standard scores: more makes alignments shorter. When to
        change: proteins share a part of their length only: 1.5 or 2.
    opening : float
        Cost of the first residue of a gap. When to change: validation says so; the default was chosen on domains.
    extension : float
        Of each further one. When to change: long insertions are usual in your families: lower it.
    shrinkage : float, optional
        Of the covariance that mean vectors are whitened by towards a multiple of the identity, 0 to 1. When to change:
        a fit is to be repeated with what another chose.
    pooling : str
        The pooled vectors that candidates are found by. When to change: the cache was embedded with another --pool.
    homologs : int
        Best hits of a sequence search that are aligned besides: the model then needs the search engine wherever it
        predicts, and is no longer one on embeddings alone. When to change: the engine is there in any case and speed
        matters: on CATH's development domains 5 bring 3.5 points of 100 candidates, .8 of 400.
    engine : {"auto", "mmseqs", "phmmer"}
        What searches for homologs, as in the head homology. When to change: the model is to be used where the other
        one is installed: the engine is part of a model.
    version : str
        Of the engine; empty is the one that is installed when the head is fitted. Another build of the same major
        version will do, and is said. When to change: a fit is to fail where another version is installed.
    any_version : bool
        Predict with another major version of the engine, too. When to change: the version cannot be had any more, and
        candidates that differ a little will do.
    """

    candidates: int | None = None
    components: int = 64
    offset: float = 1.0
    opening: float = 2.0
    extension: float = 0.5
    shrinkage: float | None = None
    pooling: str = "mean"
    homologs: int = 0
    engine: Literal["auto", "mmseqs", "phmmer"] = "auto"
    version: str = ""
    any_version: bool = False

    def __post_init__(self) -> None:
        costs = {"offset": AT_LEAST_0, "opening": AT_LEAST_0, "extension": AT_LEAST_0}
        numbers = {"candidates": AT_LEAST_1, "components": AT_LEAST_1, "shrinkage": FROM_0_TO_1}
        check_ranges(self, costs | numbers | {"homologs": AT_LEAST_0})

    @property
    def scheme(self) -> Scheme:
        """What an alignment scores."""
        return Scheme(self.offset, self.opening, self.extension)

    @property
    def searches_sequences(self) -> bool:
        """Whether candidates come from sequences, too: it is not a head on embeddings alone then."""
        return self.homologs > 0

    @property
    def sequence_search(self) -> AlignmentConfig:
        """The knobs of the search for homologs."""
        return AlignmentConfig(self.engine, self.version or None, self.any_version)

    def fitted_with(self, finder: ResidueFinder) -> Self:
        """Return it with the engine that searches for homologs, and its version; as it is, where none does."""
        if finder.sequence_search is None:
            return self
        searched_by = finder.sequence_search.config
        return replace(self, engine=searched_by.engine, version=searched_by.version or "")


class Aligner:
    """Reduced residues of all rows that a head has met while it was fitted, and searches among some of them.

    Parameters
    ----------
    config : ResidueConfig
    x : Features
        Training rows, on some of which the reduction of residues is fitted.
    seed : int
    held : Features, optional
        Rows that choices will be made on.
    log : callable, optional
        Told how many seconds the fit will take, before all other rows are read or embedded again.
    """

    def __init__(
        self, config: ResidueConfig, x: Features, seed: int, held: Features | None = None, log: Log | None = None
    ) -> None:
        self.config = config
        self.seed = seed
        begun = time.perf_counter()
        sample = sampled_residues(x, seed)
        second = (time.perf_counter() - begun) / max(len(sample), 1)  # a residue
        if log is not None:
            log({"estimated_seconds": seconds_of_fit(config, second, x, held)})
        self.pool = ResiduePool(Reduction.of(sample, config.components))
        self.significance: Significance | None = None

    def collect(self, x: Features) -> None:
        """Read and reduce the residues of the rows that were not met before."""
        place = {sequence: row for row, sequence in enumerate(x.sequences)}
        missing = self.pool.missing(x.sequences)
        if missing:
            self.pool.add(missing, x.take([place[sequence] for sequence in missing]).residues())

    def finder(self, x: Features, nearest_means: Finder) -> ResidueFinder:
        """Return the search among training rows, whose mean vectors are in a finder already."""
        self.collect(x)
        finder = ResidueFinder(
            nearest_means,
            self.config.pooling,
            self.pool.of(x.sequences),
            x.sequences,
            self.pool.reduction,
            self.config.scheme,
            self.config.candidates or ENOUGH_CANDIDATES,
            pool=self.pool,
            homologs=self.config.homologs,
            sequence_search=sequence_search_of(self.config, x),
        )
        if self.significance is None:
            self.significance = significance_of(finder, x, self.seed)
        return replace(finder, significance=self.significance)


def sequence_search_of(config: ResidueConfig, x: Features) -> SequenceFinder | None:
    """Return the search for homologs among training rows; None where none are asked for.

    Raises
    ------
    EngineError, EngineMismatchError
        If the engine is not there, or not in the version that is asked for.
    MissingExtraError
        If there is none at all.
    """
    if not config.searches_sequences:
        return None
    sequences_of(x, "align")
    try:
        return SequenceFinder.of(x, config.sequence_search)
    except MissingExtraError as error:
        raise MissingExtraError("head align with homologs", error.package, error.extra) from None


def load_finder(folder: Path, nearest_means: Finder, config: ResidueConfig) -> ResidueFinder:
    """Read what `ResidueFinder.save` wrote, of a head with these knobs; an engine that it needs must be there.

    Raises
    ------
    ModelError
        As `ResidueFinder.load`.
    EngineMismatchError
        If the engine that searches for homologs is not that of the fit: said now, before anything is embedded.
    """
    candidates = config.candidates or ENOUGH_CANDIDATES
    finder = ResidueFinder.load(folder, nearest_means, config.pooling, config.scheme, candidates)
    if not config.searches_sequences:
        return finder
    search = SequenceFinder(config.sequence_search, finder.sequences, finder.ids)
    search.check_engine()
    return replace(finder, homologs=config.homologs, sequence_search=search)


def sampled_residues(x: Features, seed: int) -> npt.NDArray[np.float32]:
    """Return residue vectors of some proteins, float32 (at most SAMPLED_RESIDUES, width): whole proteins, drawn."""
    drawn = np.random.default_rng(seed).permutation(len(x))
    enough = int(np.searchsorted(np.cumsum(x.lengths[drawn]), SAMPLED_RESIDUES)) + 1
    residues = x.take(np.sort(drawn[:enough])).residues()
    return np.concatenate([vectors.astype(np.float32) for vectors in residues])[:SAMPLED_RESIDUES]


def seconds_of_fit(config: ResidueConfig, second: float, x: Features, held: Features | None) -> float:
    """Estimate the seconds of a fit: residues are read, of shuffled proteins too, and cells of alignments filled.

    Parameters
    ----------
    config : ResidueConfig
    second : float
        That the residues of a protein take, by the residue.
    x, held : Features
        Training rows, and those that choices are made on.
    """
    candidates = min((config.candidates or CANDIDATES[-1]) + config.homologs, len(x))
    of_target = float(x.lengths.mean()) if len(x) else 0.0
    of_held = int(held.lengths.sum()) if held is not None else 0
    read = int(x.lengths.sum()) + of_held + DECOYS * of_target
    cells = (of_held + DECOYS * of_target) * candidates * of_target
    return second * read + cells / (CELLS_A_SECOND * torch.get_num_threads())


def significance_of(finder: ResidueFinder, x: Features, seed: int) -> Significance:
    """Fit the tail of the best score of a search on shuffled training proteins: the encoder embeds them now."""
    generator = np.random.default_rng(seed)
    drawn = np.resize(generator.permutation(len(x)), DECOYS)
    decoys = ["".join(generator.permutation(list(x.sequences[row]))) for row in drawn.tolist()]
    best: list[float] = []
    if finder.sequence_search is not None:  # at once: each search makes a database of all training rows
        finder.hits(decoys)
    for start in range(0, DECOYS, DECOYS_AT_ONCE):
        block = slice(start, start + DECOYS_AT_ONCE)
        nearness, rows = finder(x.embedded(decoys[block], finder.pooling))
        others = (rows != drawn[block, None]) | (len(x) == 1)  # what it was shuffled of is more like it than chance
        best += np.where(others, nearness, -np.inf).max(axis=1).tolist()
    lengths = np.array([len(decoy) for decoy in decoys], dtype=np.int64)
    return Significance.of(np.array(best), lengths)


def tried_candidates(config: ResidueConfig, rows: int) -> tuple[int, ...]:
    """Return how many candidates are tried on held rows; where the most are all training rows, these alone.

    Examples
    --------
    >>> tried_candidates(ResidueConfig(), 5000), tried_candidates(ResidueConfig(), 300)
    ((50, 100, 200, 400), (400,))
    >>> tried_candidates(ResidueConfig(candidates=20), 300)
    (20,)
    """
    return grid(config.candidates, CANDIDATES if rows > CANDIDATES[-1] else CANDIDATES[-1:])


def fewest(scores: dict[int, float], trifle: float) -> int:
    """Return the fewest candidates whose score is within a trifle of the best.

    Examples
    --------
    >>> fewest({50: 0.80, 100: 0.849, 200: 0.85}, trifle=0.002)
    100
    """
    best = max(scores.values())
    return min(candidates for candidates, score in scores.items() if score >= best - trifle)
