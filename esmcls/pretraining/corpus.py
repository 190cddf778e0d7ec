"""Batches for training an encoder: packed crops of unlabelled sequences, each step's a pure function of its number.

step ──▶ crop length ──▶ rows (pairs of one family, where families are known) ──▶ crops ──▶ Batch ──▶ masked tokens
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmcls.encoders.alphabet import BOS, EOS, MASK, tokenize
from esmcls.errors import UsageError

MASKED_SHARE = 0.15
"""Share of residues that masked language modelling asks for."""
SHOWN_AS_MASK, SHOWN_AS_OTHER = 0.8, 0.1
"""Of those, the shares that stand as `<mask>` and as a random amino acid; the rest stay."""
_AMINO_ACIDS = tokenize("ACDEFGHIKLMNPQRSTVWY")


@dataclass(frozen=True)
class Batch:
    """Crops of one step, packed.

    Parameters
    ----------
    tokens : int64 tensor, (total,)
        BOS, residues and EOS of each crop.
    offsets : int64 tensor, (crops + 1,)
        Where each crop begins; the last entry is the total.
    families : int64 tensor, (crops,)
        Number of the family that each crop is of.
    """

    tokens: Tensor
    offsets: Tensor
    families: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(self.tokens.to(device), self.offsets.to(device), self.families.to(device))


class Corpus:
    """Sequences as one flat array of tokens, and the crops of a step as a pure function of its number.

    Parameters
    ----------
    sequences : sequence of str
        Upper-case residues.
    families : sequence of hashable, optional
        The family of each, such as its cluster; with it crops come in pairs of one family.
    tokens : int
        Tokens of a batch at most, BOS and EOS included.
    shortest, longest : int
        Crop lengths in residues; drawn log-uniformly, one a step.
    seed : int

    Raises
    ------
    UsageError
        If there are no sequences, or no family has two.
    """

    def __init__(
        self,
        sequences: Sequence[str],
        families: Sequence[Hashable] | None = None,
        *,
        tokens: int = 4096,
        shortest: int = 64,
        longest: int = 384,
        seed: int = 0,
    ) -> None:
        if not sequences:
            raise UsageError("no sequences to train on; give a FASTA, CSV or TSV file with at least one")
        self.budget = tokens
        self.shortest = shortest
        self.longest = longest
        self.seed = seed
        self.ends = np.cumsum([len(sequence) for sequence in sequences])
        self.tokens = np.concatenate([tokenize(sequence) for sequence in sequences])
        self.families = np.arange(len(sequences))
        self.partners = None if families is None else self._join(families)

    def _join(self, families: Sequence[Hashable]) -> Partners:
        numbers: dict[Hashable, int] = {}
        self.families = np.array([numbers.setdefault(family, len(numbers)) for family in families])
        if len(numbers) == len(families):
            raise UsageError("no cluster has two members; check the cluster column, or train without clusters")
        return Partners(self.families)

    def batch(self, step: int, replica: int = 0) -> Batch:
        """Return the crops of a step; those of another replica are others, as many and as long."""
        random = np.random.default_rng([self.seed, step])
        limit = round(math.exp(random.uniform(math.log(self.shortest), math.log(self.longest))))
        if replica:
            random = np.random.default_rng([self.seed, step, replica])
        rows = random.integers(len(self.ends), size=self.budget // (limit + 2))
        if self.partners is not None:
            half = len(rows) // 2
            rows[half : 2 * half] = self.partners.draw(rows[:half], rows[half : 2 * half], random)
        crops = [self._crop(int(row), limit, random) for row in rows]
        order = sorted(range(len(crops)), key=lambda place: len(crops[place]))
        offsets = np.concatenate([[0], np.cumsum([len(crops[place]) for place in order])])
        tokens = np.concatenate([crops[place] for place in order]).astype(np.int64)
        return Batch(*map(torch.from_numpy, (tokens, offsets, self.families[rows[order]])))

    def _crop(self, row: int, limit: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
        begin = int(self.ends[row - 1]) if row else 0
        end = int(self.ends[row])
        start = begin + int(random.integers(max(1, end - begin - limit + 1)))
        inner = self.tokens[start : min(end, start + limit)]
        return np.concatenate([[BOS], inner, [EOS]]).astype(np.uint8)

    def masked(self, batch: Batch, step: int, replica: int = 0) -> tuple[Batch, Tensor]:
        """Hide residues as ESM-2's training does.

        Source: Devlin et al. 2019, arXiv:1810.04805, section 3.1; Lin et al. 2023, doi:10.1126/science.ade2574.

        Returns
        -------
        batch : Batch
            With 15 % of the residues chosen: 80 % of them `<mask>`, 10 % another amino acid, 10 % as they were.
        chosen : bool tensor, (total,)
        """
        random = np.random.default_rng([self.seed, step, replica, 1])
        tokens = batch.tokens.numpy()
        chosen = (random.random(len(tokens)) < MASKED_SHARE) & (tokens != BOS) & (tokens != EOS)
        fate = random.random(len(tokens))
        others = random.choice(_AMINO_ACIDS, size=len(tokens)).astype(np.int64)
        shown = np.where(fate < SHOWN_AS_MASK, MASK, np.where(fate < SHOWN_AS_MASK + SHOWN_AS_OTHER, others, tokens))
        hidden = torch.from_numpy(np.where(chosen, shown, tokens))
        return replace(batch, tokens=hidden), torch.from_numpy(chosen)


class Partners:
    """Another member of a row's family, drawn evenly."""

    def __init__(self, families: npt.NDArray[np.int64]) -> None:
        self.order = np.argsort(families, kind="stable")
        self.place = np.empty_like(self.order)
        self.place[self.order] = np.arange(len(families))
        _, group, sizes = np.unique(families, return_inverse=True, return_counts=True)
        self.size = sizes[group]  # of each row's family
        self.first = (np.cumsum(sizes) - sizes)[group]  # where each row's family begins in `order`

    def draw(
        self, rows: npt.NDArray[np.int64], instead: npt.NDArray[np.int64], random: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Return a partner of each row; `instead` where the row is alone in its family."""
        size = self.size[rows]
        first = self.first[rows]
        step = 1 + random.integers(np.maximum(size - 1, 1))
        partner = self.order[first + (self.place[rows] - first + step) % size]
        return np.where(size > 1, partner, instead)
