"""Chains as the pair head reads them: vectors of residues with their places, or the letters alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from esmcls.cache.features import Features
from esmcls.heads.residues.base import protein_vectors
from esmcls.reading.records import RESIDUES
from esmcls.types import Positions


class Chain(NamedTuple):
    """What is read of a chain: vectors (seen, width), float32, their 0-based places (seen,), and its sequence."""

    vectors: Tensor
    positions: Positions
    sequence: str

    @property
    def length(self) -> int:
        """Residues of the sequence; those seen, where it is not known."""
        return len(self.sequence) or len(self.positions)


def chains(x: Features, *, letters: bool, width: int | None = None) -> Iterator[Chain]:
    """Give the chains of proteins, one at a time.

    Raises
    ------
    WidthMismatchError
        If vectors are not of the width that a head was fitted on.
    """
    if letters:
        for sequence in x.sequences:
            yield Chain(letters_of(sequence), np.arange(len(sequence), dtype=np.int64), sequence)
        return
    for (vectors, positions, _), sequence in zip(protein_vectors(x, width), x.sequences, strict=True):
        yield Chain(torch.from_numpy(np.array(vectors, dtype=np.float32)), positions, sequence)


def letters_of(sequence: str) -> Tensor:
    """Return which amino acid each residue is, float32 (residues, amino acids)."""
    return one_hot(torch.tensor([RESIDUES.index(letter) for letter in sequence]), len(RESIDUES)).float()


class Moments:
    """The mean and the deviation of columns, summed up as rows come."""

    def __init__(self) -> None:
        self.n = 0
        self.total = torch.zeros((), dtype=torch.float64)
        self.square = torch.zeros((), dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """Count rows, (n, columns)."""
        wide = rows.double()
        self.n += len(wide)
        self.total = self.total + wide.sum(0)
        self.square = self.square + wide.square().sum(0)

    @property
    def mean(self) -> Tensor:
        """(columns,)."""
        return self.total / self.n

    @property
    def deviation(self) -> Tensor:
        """(columns,), 1 where a column is constant."""
        deviation = (self.square / self.n - self.mean.square()).clamp(min=0.0).sqrt()
        constant = deviation <= 1e-6 * (self.mean.abs() + deviation.mean())
        return torch.where(constant, torch.ones_like(deviation), deviation)


def upper_values(layers: Iterable[Tensor]) -> Tensor:
    """Return what attention maps (heads, residues, residues), layer by layer, say of pairs, (pairs, maps)."""
    values = []
    for layer in layers:
        first, second = torch.triu_indices(layer.shape[1], layer.shape[1], 1, device=layer.device)
        values.append(layer[:, first, second].T)
    return torch.cat(values, dim=1)
