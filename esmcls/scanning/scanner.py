"""A scanner at work: proteins in, their domains out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol, TypeAlias

import numpy as np

from esmcls.cache.spec import EmbeddingSpec
from esmcls.errors import NonFiniteError
from esmcls.reading.records import Protein
from esmcls.scanning.judge import Judge
from esmcls.scanning.selection import best_set
from esmcls.scanning.windows import Windows
from esmcls.types import Floats, Vectors

BLOCK: Final = 32
"""Proteins whose residue vectors are held at a time."""

ResidueVectors: TypeAlias = Callable[[Sequence[str]], Iterable[Vectors]]
"""Gives the vectors of all residues of each sequence, (residues, width)."""


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


class Recogniser(Protocol):
    """What finds the windows of a protein that may be domains."""

    def candidates(self, vectors: Vectors) -> tuple[Windows, Floats]:
        """Return windows and their measures, (windows, measures), of a protein's residue vectors."""


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
    found : float, optional
        The share of the validation domains that it finds in chains of them, by half of their residues at least.
    """

    families: tuple[str, ...]
    sizes: tuple[int, ...]
    spec: EmbeddingSpec
    recogniser: Recogniser
    judge: Judge
    found: float | None = None

    def domains(self, vectors: Vectors, least: float = 0.5, false: float | None = None) -> tuple[Domain, ...]:
        """Return the best set of domains of a protein.

        Parameters
        ----------
        vectors : float array, (residues, width)
        least : float
            Each has a probability above it.
        false : float, optional
            Each has a score that shuffled proteins have so often a megaresidue, at most.
        """
        windows, rows = self.recogniser.candidates(vectors)
        scores = self.judge.scores(rows)
        line = np.log(least / (1 - least))
        if false is not None:
            line = max(line, float(self.judge.log_odds(np.array(self.judge.score_of(false)))))
        weights = self.judge.log_odds(scores) - line
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
        self,
        proteins: Iterable[Protein],
        residue_vectors: ResidueVectors,
        least: float = 0.5,
        false: float | None = None,
    ) -> Iterator[Scanned]:
        """Give each protein with its domains, in their order, some proteins in memory at a time.

        Parameters
        ----------
        proteins : iterable of Protein
        residue_vectors : callable
            Of the encoder that the scanner was fitted with; see `esmcls.scanning.folder.encoded`.
        least, false
            As in `domains`.

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
                yield Scanned(protein, self.domains(rows, least, false))
