"""A baseline that needs no encoder: how far apart residues mostly lie that are so far apart in sequence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from esmcls.cache.features import Features
from esmcls.heads.contract import Log, Validation
from esmcls.heads.pairs.base import BasePairHead
from esmcls.heads.pairs.losses import bins_of, known_pairs
from esmcls.heads.pairs.network import SEPARATIONS, prior_of, separation_bins
from esmcls.heads.saved_tensors import read_tensors
from esmcls.labels.structure_labels import Structures
from esmcls.structures.distogram import BINS, PairAnswer

FILE: Final = "separation.safetensors"


def count_distances(labels: Structures) -> Tensor:
    """Return how many pairs of residues lie in each bin of distance, by their separation: int64 (separations, 64)."""
    counts = torch.zeros(SEPARATIONS * BINS, dtype=torch.int64)
    for row in range(len(labels)):
        pairs = known_pairs(torch.from_numpy(labels.row(row)))
        places = separation_bins(pairs.second - pairs.first) * BINS + bins_of(pairs.distance)
        counts += torch.bincount(places, minlength=SEPARATIONS * BINS)
    return counts.view(SEPARATIONS, BINS)


@dataclass(frozen=True)
class SeparationConfig:
    """The baseline has no knobs."""


class SeparationHead(BasePairHead):
    """The shares of the bins of distance among training pairs of the same separation in sequence.

    All residues have one confidence, the mean lDDT that this reaches.

    Examples
    --------
    >>> labels = Structures.from_texts(["0,0,0 3.8,0,0 7.6,0,0", "0,0,0 3.8,0,0"])
    >>> x = Features.from_arrays(np.zeros((2, 0), np.float32), sequences=["AAG", "AG"])
    >>> answer = next(SeparationHead().fit(x, labels, (x, labels)).per_protein(x))
    >>> answer.distogram.argmax(2).tolist()  # bins of 0.3125 Å from 2 Å on
    [[0, 5, 17], [5, 0, 5], [17, 5, 0]]
    """

    Config: ClassVar[type[SeparationConfig]] = SeparationConfig
    reads_vectors: ClassVar[bool] = False
    reads_residues: ClassVar[bool] = False
    shares: Tensor
    """float32, (separations, 64)"""
    confidence: float

    def _fit(
        self, x: Features, labels: Structures, validation: Validation[Structures], seed: int, log: Log | None
    ) -> None:
        self._refit(x, labels, seed, log)
        self.scores = self._score(*validation)
        self.confidence = self.scores["lddt"]

    def _refit(self, x: Features, labels: Structures, seed: int, log: Log | None) -> None:
        self.shares = prior_of(count_distances(labels)).exp()
        self.confidence = self.scores.get("lddt", 0.5)

    def per_protein(self, x: Features) -> Iterator[PairAnswer]:
        """Give what is said of each protein."""
        for sequence in x.sequences:
            positions = torch.arange(len(sequence))
            distogram = self.shares[separation_bins((positions[:, None] - positions).abs())]
            confidence = np.full(len(sequence), self.confidence, dtype=np.float32)
            yield PairAnswer(positions.numpy(), distogram.numpy(), confidence, len(sequence))

    def save(self, folder: Path) -> None:
        """Write the shares and the confidence as safetensors."""
        state = {"shares": self.shares.contiguous(), "confidence": torch.tensor([self.confidence])}
        save_file(state, folder / FILE)

    def _restore(self, folder: Path) -> None:
        shapes = {"shares": ("float32", "separations", "bins"), "confidence": ("float32", "one")}
        state = read_tensors(folder / FILE, shapes, separations=SEPARATIONS, bins=BINS, one=1)
        self.shares = state["shares"]
        self.confidence = float(state["confidence"])
