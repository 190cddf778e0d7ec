"""What heads share that align residue vectors, whatever their labels: how they are fitted, and segments."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Generic

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.heads.alignment.residues.aligner import Aligner, ResidueConfig
from esmcls.heads.alignment.residues.finder import ResidueFinder
from esmcls.heads.base import AlignedSegment, HeadFrame, L, Log, Validation
from esmcls.heads.blocks import first_held


class ResidueAligningHead(HeadFrame[L], Generic[L]):
    """A head that aligns the residue vectors of proteins with those of training proteins.

    Residue vectors are read from the cache where it keeps them, else the encoder makes them when the head is fitted.
    """

    reads_residues: ClassVar[bool] = True
    held_most: ClassVar[int]
    """Held rows that choices are made on at most: each is aligned with as many candidates as are tried."""
    config: ResidueConfig
    finder: ResidueFinder
    aligner: Aligner | None = None

    def _forget(self) -> None:
        super()._forget()
        self.aligner = None

    def _fit(self, x: Features, labels: L, validation: Validation[L], seed: int, log: Log | None) -> None:
        held = first_held(validation, self.held_most)
        self.aligner = Aligner(self.config, x, seed, held[0], log)
        self._take(self._choose(x, labels, held, log), labels)

    @abstractmethod
    def _choose(self, x: Features, labels: L, held: Validation[L], log: Log | None) -> ResidueFinder:
        """Choose on held rows; return the search, which remembers how these align."""

    @abstractmethod
    def _take(self, finder: ResidueFinder, labels: L) -> None:
        """Answer from now on by a search among rows of these labels."""

    def nearest(self, x: Features) -> tuple[npt.NDArray[np.float64], list[str | None]]:
        """Return the E-value of the best alignment, (n,), and the id of its training row."""
        return self.finder.nearest(x)

    def segments(self, x: Features) -> list[list[AlignedSegment]]:
        """Return the segments of each row that align, the best first."""
        return self.finder.segments(x)
