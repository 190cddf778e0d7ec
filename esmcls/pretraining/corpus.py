"""Batches for training an encoder: packed crops of unlabelled sequences, each step's a pure function of its number.

step ──▶ crop length ──▶ rows (pairs of one family, where families are known) ──▶ crops ──▶ Batch ──▶ masked tokens

Where residue targets are given, a share of the rows is drawn from their sequences; where aligned pairs are wanted, the
second crop of a pair begins at the residue that its alignment puts beside the first one's beginning.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmcls.encoders.alphabet import BOS, EOS, MASK, tokenize
from esmcls.errors import UsageError
from esmcls.pretraining.aligned_pairs import Aligner
from esmcls.pretraining.residue_targets import AMINO_ACIDS, ResidueTargets

MASKED_SHARE = 0.15
"""Share of residues that masked language modelling asks for."""
SHOWN_AS_MASK, SHOWN_AS_OTHER = 0.8, 0.1
"""Of those, the shares that stand as `<mask>` and as a random amino acid; the rest stay."""
_AMINO_ACIDS = tokenize(AMINO_ACIDS)
_Numbers = npt.NDArray[np.int64]


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
    states : int64 tensor, (total,), optional
        Number of each residue's secondary structure, -1 where it is not known; as the two that follow, given where
        the corpus has residue targets.
    accessibility : float32 tensor, (total,), optional
        nan where it is not known.
    profile : float32 tensor, (total, 20), optional
        0 throughout where it is not known.
    pairs : int64 tensor, (pairs, 2), optional
        Places of residues that the alignments of relatives put beside each other.
    """

    tokens: Tensor
    offsets: Tensor
    families: Tensor
    states: Tensor | None = None
    accessibility: Tensor | None = None
    profile: Tensor | None = None
    pairs: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        tensors = ((field.name, getattr(self, field.name)) for field in fields(self))
        return Batch(**{name: tensor.to(device) for name, tensor in tensors if tensor is not None})


@dataclass(frozen=True)
class _Crop:
    """A stretch of a corpus's residues: of the flat array, end excluded."""

    row: int
    start: int
    end: int


class Corpus:
    """Sequences as one flat array of tokens, and the crops of a step as a pure function of its number.

    Parameters
    ----------
    sequences : sequence of str
        Upper-case residues.
    families : sequence of hashable, optional
        The family of each, such as its cluster; with it crops come in pairs of one family.
    targets : ResidueTargets, optional
        Further sequences, with what is known of their residues; each is a family of its own.
    targets_share : float
        Share of a batch's crops that is drawn from those.
    aligned : bool
        Whether the crops of a pair begin at residues that their alignment puts beside each other, and a batch names
        such residues; needs families.
    tokens : int
        Tokens of a batch at most, BOS and EOS included.
    shortest, longest : int
        Crop lengths in residues; drawn log-uniformly, one a step.
    seed : int

    Raises
    ------
    UsageError
        If there are no sequences, or no family has two.
    MissingExtraError
        If aligned pairs are wanted and pyfamsa is not installed.
    """

    def __init__(
        self,
        sequences: Sequence[str],
        families: Sequence[Hashable] | None = None,
        *,
        targets: ResidueTargets | None = None,
        targets_share: float = 0.5,
        aligned: bool = False,
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
        self.targets = targets
        self.targets_share = targets_share
        self.count = len(sequences)
        everything = [*sequences, *(targets.sequences if targets else ())]
        self.ends = np.cumsum([len(sequence) for sequence in everything])
        self.tokens = np.concatenate([tokenize(sequence) for sequence in everything])
        self.families = np.arange(len(everything))
        self.partners = None if families is None else self._join(families)
        self.sequences = everything if aligned else None  # to be aligned
        self.aligner = Aligner() if aligned else None

    def _join(self, families: Sequence[Hashable]) -> Partners:
        numbers: dict[Hashable, int] = {}
        own = [numbers.setdefault(family, len(numbers)) for family in families]
        if len(numbers) == len(families):
            raise UsageError("no cluster has two members; check the cluster column, or train without clusters")
        self.families = np.array([*own, *range(len(numbers), len(numbers) + len(self.ends) - len(own))])
        return Partners(self.families)

    def batch(self, step: int, replica: int = 0) -> Batch:
        """Return the crops of a step; those of another replica are others, as many and as long."""
        random = np.random.default_rng([self.seed, step])
        limit = round(math.exp(random.uniform(math.log(self.shortest), math.log(self.longest))))
        if replica:
            random = np.random.default_rng([self.seed, step, replica])
        count = self.budget // (limit + 2)
        annotated = 0 if self.targets is None else round(self.targets_share * count)
        rows = random.integers(self.count, size=count - annotated)
        half = len(rows) // 2
        if self.partners is not None:
            rows[half : 2 * half] = self.partners.draw(rows[:half], rows[half : 2 * half], random)
        if annotated:
            rows = np.concatenate([rows, random.integers(self.count, len(self.ends), size=annotated)])
        if self.aligner is None:
            return self._pack([self._crop(int(row), limit, random) for row in rows])
        crops, pairs = self._aligned_crops(rows, half, limit, random)
        return self._pack(crops, pairs)

    def _begin(self, row: int) -> int:
        return int(self.ends[row - 1]) if row else 0

    def _crop(self, row: int, limit: int, random: np.random.Generator) -> _Crop:
        begin = self._begin(row)
        end = int(self.ends[row])
        start = begin + int(random.integers(max(1, end - begin - limit + 1)))
        return _Crop(row, start, min(end, start + limit))

    def _aligned_crops(
        self, rows: _Numbers, half: int, limit: int, random: np.random.Generator
    ) -> tuple[list[_Crop], _Numbers]:
        """Return the crops, and the aligned pairs of residues: crop and place in it of both, (pairs, 2, 2)."""
        crops = [self._crop(int(row), limit, random) for row in rows]
        pairs = [np.zeros((0, 2, 2), np.int64)]
        for place in range(half):
            first, second = crops[place], crops[half + place]
            if first.row == second.row or self.families[first.row] != self.families[second.row]:
                continue
            columns = self._columns(first.row, second.row)
            inside = columns[(columns[:, 0] >= first.start) & (columns[:, 0] < first.end)]
            if len(inside):
                start = max(self._begin(second.row), min(int(inside[0, 1]), int(self.ends[second.row]) - limit))
                second = _Crop(second.row, start, min(int(self.ends[second.row]), start + limit))
                crops[half + place] = second
                inside = inside[(inside[:, 1] >= second.start) & (inside[:, 1] < second.end)]
                numbers = np.broadcast_to([place, half + place], inside.shape)
                pairs.append(np.stack([numbers, inside - [first.start, second.start]], axis=2))
        return crops, np.concatenate(pairs)

    def _columns(self, first: int, second: int) -> _Numbers:
        """Return the places of the flat array that share a column of two rows' alignment."""
        assert self.aligner is not None
        assert self.sequences is not None
        columns = self.aligner.columns(self.sequences[first], self.sequences[second])
        columns += [self._begin(first), self._begin(second)]
        return columns

    def _pack(self, crops: list[_Crop], pairs: _Numbers | None = None) -> Batch:
        """Lay crops out by length, shortest first, each between BOS and EOS."""
        order = sorted(range(len(crops)), key=lambda place: crops[place].end - crops[place].start)
        crops_in_order = [crops[place] for place in order]
        lengths = np.array([crop.end - crop.start for crop in crops_in_order])
        offsets = np.concatenate([[0], np.cumsum(lengths + 2)])
        tokens = np.full(offsets[-1], EOS, np.int64)
        tokens[offsets[:-1]] = BOS
        places = np.full(offsets[-1], -1)  # of the flat array; -1 at BOS and EOS
        for crop, start in zip(crops_in_order, offsets, strict=False):
            inner = slice(start + 1, start + 1 + crop.end - crop.start)
            places[inner] = np.arange(crop.start, crop.end)
            tokens[inner] = self.tokens[crop.start : crop.end]
        families = self.families[[crop.row for crop in crops_in_order]]
        batch = Batch(*map(torch.from_numpy, (tokens, offsets, families)))
        if self.targets is not None:
            batch = self._annotated(batch, places, self.targets)
        if pairs is not None:
            begins = np.empty(len(crops), np.int64)
            begins[order] = offsets[:-1]
            batch = replace(batch, pairs=torch.from_numpy(begins[pairs[..., 0]] + 1 + pairs[..., 1]))
        return batch

    def _annotated(self, batch: Batch, places: _Numbers, targets: ResidueTargets) -> Batch:
        """Return a batch with what is known of its residues, which stand at these places of the flat array."""
        first = int(self.ends[self.count - 1])
        known = places >= first
        rows = places[known] - first
        states = np.full(len(places), -1, np.int64)
        states[known] = targets.states[rows]
        accessibility = np.full(len(places), np.nan, np.float32)
        accessibility[known] = targets.accessibility[rows]
        profile = np.zeros((len(places), len(AMINO_ACIDS)), np.float32)
        profile[known] = targets.profile[rows]
        tensors = map(torch.from_numpy, (states, accessibility, profile))
        return replace(batch, **dict(zip(("states", "accessibility", "profile"), tensors, strict=True)))

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
