"""A baseline that needs no encoder: what each amino acid mostly is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch
from safetensors.torch import save_file

from esmcls.cache.features import Features
from esmcls.heads.contract import Log, Validation
from esmcls.heads.residues.base import BaseResidueHead
from esmcls.heads.saved_tensors import read_tensors
from esmcls.labels.residue_labels import ResidueNumbers, Targets
from esmcls.reading.records import RESIDUES
from esmcls.types import Indices, Probabilities

FILE: Final = "letter.safetensors"


@dataclass(frozen=True)
class LetterConfig:
    """The baseline has no knobs."""


class LetterHead(BaseResidueHead):
    """The shares of the classes, or the mean number, among the training residues of the same amino acid.

    Examples
    --------
    >>> from esmcls.labels.residue_labels import ResidueLabels
    >>> x = Features.from_arrays(np.zeros((2, 0), np.float32), sequences=["AAG", "AG"])
    >>> labels = ResidueLabels.from_texts(["HHC", "CC"])
    >>> head = LetterHead().fit(x, labels, (x, labels))
    >>> next(head.per_protein(x)).argmax(1).tolist()  # of A two of three are H, the only G is C
    [1, 1, 0]
    """

    Config: ClassVar[type[LetterConfig]] = LetterConfig
    reads_vectors: ClassVar[bool] = False
    reads_residues: ClassVar[bool] = False
    table: Probabilities

    def _fit(self, x: Features, labels: Targets, validation: Validation[Targets], seed: int, log: Log | None) -> None:
        self._refit(x, labels, seed, log)
        self.scores = self._score(*validation)

    def _refit(self, x: Features, labels: Targets, seed: int, log: Log | None) -> None:
        letters = np.concatenate([_letters(sequence) for sequence in x.sequences])
        known = labels.known
        sums = np.zeros((len(RESIDUES), max(1, labels.n_classes)))
        if isinstance(labels, ResidueNumbers):
            sums[:, 0] = np.bincount(letters[known], labels.values[known], minlength=len(RESIDUES))
        else:
            np.add.at(sums, (letters[known], labels.codes[known]), 1)
        counts = np.bincount(letters[known], minlength=len(RESIDUES))[:, None]
        overall = sums.sum(0) / counts.sum()
        self.table = np.where(counts > 0, sums / np.maximum(counts, 1), overall).astype(np.float32)

    def per_protein(self, x: Features) -> Iterator[Probabilities]:
        """Give what is said of each protein."""
        for sequence in x.sequences:
            yield self.table[_letters(sequence)]

    def save(self, folder: Path) -> None:
        """Write the table as safetensors."""
        save_file({"table": torch.from_numpy(self.table)}, folder / FILE)

    def _restore(self, folder: Path) -> None:
        sizes = {"letters": len(RESIDUES), "outputs": max(1, len(self.classes))}
        state = read_tensors(folder / FILE, {"table": ("float32", "letters", "outputs")}, **sizes)
        self.table = state["table"].numpy()


def _letters(sequence: str) -> Indices:
    """Return the place of each residue among all amino acids."""
    lookup = np.zeros(256, dtype=np.int64)
    lookup[list(RESIDUES.encode("ascii"))] = np.arange(len(RESIDUES))
    return lookup[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)]
