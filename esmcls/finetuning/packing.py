"""Proteins as packed streams of bounded tokens, with the weight that each token has in its protein's vector.

tokens    BOS M K T EOS  BOS T A V EOS  BOS G L EOS      two inputs of one protein, one of another
offsets    0              5              10         14   of the inputs
counts                   10                       4      tokens of each protein
weights    0  1 1 .5 0    0 .5 1 1  0    0  1 1   0      mean pooling: a residue of two inputs counts half in each
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmcls.encoders.alphabet import BOS, EOS, MASK
from esmcls.encoders.encoder import BatchPlan
from esmcls.encoders.esm2 import with_ends
from esmcls.encoders.windows import Cut, Strategy, Window, cut_length, glue, positions_of
from esmcls.errors import UnknownNameError, UsageError
from esmcls.types import Indices

TRAINED: Final = ("mean", "cls", "attention")
"""Poolings that can be trained through."""

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Packed:
    """Some proteins in one stream.

    Parameters
    ----------
    rows : int64 array, (proteins,)
        Their row numbers.
    tokens : int64 tensor, (total,)
    offsets : int64 tensor, (inputs + 1,)
    counts : int64 tensor, (proteins,)
        Tokens of each protein: its inputs lie side by side.
    weights : float32 tensor, (total,)
    """

    rows: Indices
    tokens: Tensor
    offsets: Tensor
    counts: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> Packed:
        """Return the stream on a device."""
        parts = (self.tokens, self.offsets, self.counts, self.weights)
        return Packed(self.rows, *(part.to(device, non_blocking=True) for part in parts))

    def masked(self, share: float, random: np.random.Generator) -> Packed:
        """Return the stream with a share of the residues, drawn, as `<mask>`; each input keeps its ends.

        Parameters
        ----------
        share : float
            From 0 to below 1; 0 draws nothing.
        random : numpy Generator
        """
        if not share:
            return self
        chosen = torch.from_numpy(random.random(len(self.tokens)) < share) & (self.tokens != BOS) & (self.tokens != EOS)
        return replace(self, tokens=self.tokens.masked_fill(chosen, MASK))

    def pool(self, states: Tensor, scores: Tensor | None = None) -> Tensor:
        """Return the weighted mean of each protein's states, (total, width) to (proteins, width).

        Parameters
        ----------
        states : float32 tensor, (total, width)
        scores : float32 tensor, (total,), optional
            Whose softmax over each protein multiplies the weights; default all alike.
        """
        weights = self.weights
        if scores is not None:
            scores = scores.masked_fill(weights == 0, -torch.inf)
            largest = torch.segment_reduce(scores.detach(), "max", lengths=self.counts)  # it cancels; exp stays finite
            weights = weights * (scores - torch.repeat_interleave(largest, self.counts)).exp()
        sums = torch.segment_reduce(states * weights[:, None], "sum", lengths=self.counts, axis=0)
        return sums / torch.segment_reduce(weights, "sum", lengths=self.counts)[:, None]


def check_pooling(pooling: str, strategy: Strategy) -> None:
    """Make sure that a pooling can be trained through, before anything takes time.

    Raises
    ------
    UnknownNameError
        If there is no such pooling.
    UsageError
        If attention is to run over inputs that share residues.
    """
    if pooling not in TRAINED:
        raise UnknownNameError("pooling for fine-tuning", pooling, TRAINED)
    if pooling == "attention" and isinstance(strategy, Window):  # a residue's score is of its mean over inputs
        raise UsageError(f"attention over residues does not go with --long {strategy}, whose windows overlap")


class Proteins:
    """Sequences to be packed.

    Parameters
    ----------
    sequences : sequence of str
        Upper-case residues.
    strategy : Strategy
        For sequences beyond the context.
    pooling : {"mean", "cls", "attention"}
        As `ESM2Encoder` pools: over the residues seen, or over the BOS of all inputs.
    crop : int
        Residues of a random crop, where one is asked for; 0 for none.

    Raises
    ------
    UnknownNameError, UsageError
        As `check_pooling`.
    """

    def __init__(self, sequences: Sequence[str], strategy: Strategy, pooling: str = "mean", crop: int = 0) -> None:
        check_pooling(pooling, strategy)
        self.sequences, self.strategy, self.pooling, self.crop = sequences, strategy, pooling, crop

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.sequences)

    def packed(self, rows: Indices, budget: int, places: Floats | None = None) -> Iterator[Packed]:
        """Pack rows, the shortest first, into streams of at most `budget` tokens; a longer protein is one of its own.

        Parameters
        ----------
        rows : int64 array, (n,)
        budget : int
        places : float array, (n,), optional
            Where a row's crop lies, from 0, the first place, to below 1; None for no crops.
        """
        cuts = [self._cuts(int(row), None if places is None else places[i]) for i, row in enumerate(rows)]
        sizes = [_tokens(cut) for cut in cuts]
        order = sorted(range(len(rows)), key=sizes.__getitem__)  # stable
        start = 0
        for count in BatchPlan(budget).counts(sizes[place] for place in order):
            chosen = order[start : start + count]
            yield self._stream(rows[chosen], [cuts[place] for place in chosen])
            start += count

    def by_size(self, rows: Indices) -> Indices:
        """Return rows in the order that `packed` gives them without crops, whatever the budget: the shortest first."""
        sizes = np.array([_tokens(self._cuts(row, None)) for row in rows.tolist()], dtype=np.int64)
        ordered: Indices = rows[np.argsort(sizes, kind="stable")]
        return ordered

    def _cuts(self, row: int, place: float | None) -> list[Cut]:
        length = len(self.sequences[row])
        if place is not None and 0 < self.crop < length:
            begin = int(place * (length - self.crop + 1))
            return [(slice(begin, begin + self.crop),)]
        return list(self.strategy.cut(length))

    def _stream(self, rows: Indices, cuts: Sequence[Sequence[Cut]]) -> Packed:
        inputs = [with_ends(glue(self.sequences[row], cut)) for row, one in zip(rows, cuts, strict=True) for cut in one]
        lengths = np.array([len(one) for one in inputs], dtype=np.int64)
        numbers = np.array([len(one) for one in cuts])
        counts = np.add.reduceat(lengths, np.cumsum(numbers) - numbers)
        weights = np.concatenate([part for one in cuts for part in self._weights(one)])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        arrays = (np.concatenate(inputs).astype(np.int64), offsets, counts, weights)
        return Packed(rows, *map(torch.from_numpy, arrays))

    def _weights(self, cuts: Sequence[Cut]) -> list[Weights]:
        """Return the weight of each token of each input (tokens,)."""
        places = [positions_of(cut) for cut in cuts]
        out = [np.zeros(len(place) + 2, dtype=np.float32) for place in places]
        if self.pooling == "cls":
            for one in out:
                one[0] = 1
            return out
        times = np.bincount(np.concatenate(places)) if len(cuts) > 1 else None
        for one, place in zip(out, places, strict=True):
            one[1:-1] = 1 if times is None else 1 / times[place]
        return out


def _tokens(cuts: Sequence[Cut]) -> int:
    """Return the tokens of a protein's inputs, their ends among them."""
    return sum(map(cut_length, cuts)) + 2 * len(cuts)
