"""A scanner at work: proteins in, their domains out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.errors import NonFiniteError
from esmcls.heads.layers.linear import LinearHead
from esmcls.reading.records import Protein
from esmcls.scanning.judge import Judge
from esmcls.scanning.selection import best_set
from esmcls.scanning.windows import (
    MEASURES,
    Lengths,
    Windows,
    best_windows,
    means,
    measures,
    moved,
    running_means,
    sums_from_start,
)
from esmcls.types import Floats, Indices, Vectors

BLOCK: Final = 32
"""Proteins whose residue vectors are held at a time."""
LEAST_PROBABILITY: Final = 1e-6

ResidueVectors: TypeAlias = Callable[[Sequence[str]], Iterable[Vectors]]
"""Gives the vectors of all residues of each sequence, (residues, width)."""


@dataclass(frozen=True)
class ScanConfig:
    """How a scanner looks at proteins.

    Parameters
    ----------
    smooth : int
        Residues whose mean vector stands for the middle one, odd. When to change: domains are as short as that.
    stride : int
        Residues from one window to the next; ends are then moved to where they fit best. When to change: speed.
    lengths : int
        How many lengths of windows are tried. When to change: families differ more in length than a hundredfold.
    clip : float
        Log odds of a single residue count so much at most.
    """

    smooth: int = 9
    stride: int = 4
    lengths: int = 12
    clip: float = 5.0


@dataclass(frozen=True)
class Domain:
    """A domain in a protein.

    Parameters
    ----------
    start, end : int
        Its first and last residue, from 1.
    family : str
    probability : float
        That half of it and of the real domain are the same residues, and the family is right.
    score : float
        What `probability` is calibrated from.
    by_chance : float
        Domains of that score or more in shuffled proteins of as many residues as were scanned in this protein.
    """

    start: int
    end: int
    family: str
    probability: float
    score: float
    by_chance: float


@dataclass(frozen=True)
class Scanned:
    """A protein with its domains in their order; none is upon another."""

    protein: Protein
    domains: tuple[Domain, ...]


@dataclass(frozen=True, eq=False)
class Recogniser:
    """What gives windows and their measures: two linear heads, whose last class is none of these.

    Parameters
    ----------
    residues : LinearHead
        On running means of residue vectors.
    windows : LinearHead
        On mean vectors of windows.
    lengths : Lengths
    config : ScanConfig
    """

    residues: LinearHead
    windows: LinearHead
    lengths: Lengths
    config: ScanConfig

    def candidates(self, vectors: Vectors) -> tuple[Windows, Floats]:
        """Return the windows of a protein that may be domains and their measures, of its residue vectors."""
        wide = vectors.astype(np.float32)
        odds = against_none(self.residues, running_means(wide, self.config.smooth))
        sums = sums_from_start(np.clip(odds, -self.config.clip, self.config.clip))
        whole = sums_from_start(wide)

        def by_residues(starts: Indices, ends: Indices) -> Floats:
            return np.asarray(sums[ends] - sums[starts])

        def by_mean(starts: Indices, ends: Indices) -> npt.NDArray[np.float32]:
            return against_none(self.windows, means(whole, starts, ends).astype(np.float32))

        stride = self.config.stride
        found = [best_windows(scores, len(wide), self.lengths, stride) for scores in (by_residues, by_mean)]
        windows = Windows.united(found)
        windows = Windows.united([windows, moved(sums, windows, stride)])
        if not len(windows):
            return windows, np.zeros((0, MEASURES))
        of_means = by_mean(windows.starts, windows.ends)[np.arange(len(windows)), windows.codes]
        return windows, measures(sums, windows, self.lengths, of_means.astype(np.float64))


def against_none(head: LinearHead, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the log odds of each family against none of these, the head's last class, (rows, families)."""
    logs = np.log(np.maximum(head.predict_proba(Features.from_arrays(rows)), LEAST_PROBABILITY))
    return np.asarray(logs[:, :-1] - logs[:, -1:])


@dataclass(frozen=True, eq=False)
class Scanner:
    """Finds domains of known families in proteins.

    Parameters
    ----------
    families : tuple of str
    sizes : tuple of int
        The median length of the training domains of each.
    spec : EmbeddingSpec
        Of the vectors.
    recogniser : Recogniser
    judge : Judge
    """

    families: tuple[str, ...]
    sizes: tuple[int, ...]
    spec: EmbeddingSpec
    recogniser: Recogniser
    judge: Judge

    def domains(self, vectors: Vectors, least: float = 0.5) -> tuple[Domain, ...]:
        """Return the best set of domains of a protein by its residue vectors, each of a probability above `least`."""
        windows, rows = self.recogniser.candidates(vectors)
        scores = self.judge.scores(rows)
        weights = self.judge.log_odds(scores) - np.log(least / (1 - least))
        probabilities = self.judge.probabilities(scores)
        return tuple(
            Domain(
                int(windows.starts[row]) + 1,
                int(windows.ends[row]),
                self.families[int(windows.codes[row])],
                float(probabilities[row]),
                float(scores[row]),
                self.judge.by_chance(float(scores[row]), len(vectors)),
            )
            for row in best_set(windows, weights)
        )

    def scan(
        self, proteins: Iterable[Protein], residue_vectors: ResidueVectors, least: float = 0.5
    ) -> Iterator[Scanned]:
        """Give each protein with its domains, in their order, some proteins in memory at a time.

        Parameters
        ----------
        proteins : iterable of Protein
        residue_vectors : callable
            Of the encoder that the scanner was fitted with; see `esmcls.scanning.folder.encoded`.
        least : float
            The least probability of a domain, in (0, 1).

        Raises
        ------
        NonFiniteError
            If a vector holds NaN or infinity.
        """
        stream = iter(proteins)
        while block := list(islice(stream, BLOCK)):
            vectors = residue_vectors([protein.sequence for protein in block])
            for protein, rows in zip(block, vectors, strict=True):
                if not np.isfinite(rows).all():
                    raise NonFiniteError(protein.sequence, "a vector of it is not finite", "embed with float32")
                yield Scanned(protein, self.domains(rows, least))
