"""Proteins as packed streams of bounded tokens, with the weight that each token has in what is answered.

tokens    BOS M K T EOS  BOS T A V EOS  BOS G L EOS      two inputs of one protein, one of another
offsets    0              5              10         14   of the inputs
counts                   10                       4      tokens of each protein
weights    0  1 1 .5 0    0 .5 1 1  0    0  1 1   0      mean pooling: a residue of two inputs counts half in each

What is answered is a protein, or with `of_residues` each residue that some input holds; of the first protein these are
M, K, the T of both inputs (whose mean it is), A and V:

order         1 2 3 6        7 8              11 12      tokens of the residues, side by side
counts        1 1 2          1 1               1 1       tokens of each
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
from esmcls.labels.residue_labels import offsets_of
from esmcls.training.device_operations import segment_largest, segment_sums
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
    answered : int64 array, (answers,)
        What is answered: the rows; or the numbers that residues have where all proteins stand one after another.
    tokens : int64 tensor, (total,)
    offsets : int64 tensor, (inputs + 1,)
    weights : float32 tensor, (total,)
    counts : int64 tensor, (answers,)
        Tokens of each protein, whose inputs lie side by side; or of each residue.
    order : int64 tensor, (residue tokens,), optional
        The tokens of each residue side by side, where residues are answered.
    """

    rows: Indices
    answered: Indices
    tokens: Tensor
    offsets: Tensor
    weights: Tensor
    counts: Tensor
    order: Tensor | None = None

    def to(self, device: torch.device) -> Packed:
        """Return the stream on a device."""
        parts = (self.tokens, self.offsets, self.weights, self.counts)
        moved = Packed(self.rows, self.answered, *(part.to(device, non_blocking=True) for part in parts))
        return moved if self.order is None else replace(moved, order=self.order.to(device, non_blocking=True))

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
        """Return the weighted mean of the states of each protein, or residue, (total, width) to (answers, width).

        Parameters
        ----------
        states : float32 tensor, (total, width)
        scores : float32 tensor, (total,), optional
            Whose softmax over each protein multiplies the weights; default all alike.
        """
        weights = self.weights
        if self.order is not None:
            states, weights = states[self.order], weights[self.order]
        if scores is not None:
            scores = scores.masked_fill(weights == 0, -torch.inf)
            largest = segment_largest(scores.detach(), self.counts)  # it cancels; exp stays finite
            weights = weights * (scores - torch.repeat_interleave(largest, self.counts)).exp()
        sums = segment_sums(states * weights[:, None], self.counts)
        return sums / segment_sums(weights, self.counts)[:, None]


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
    of_residues : bool
        Whether each residue is answered, by its mean over inputs, and not the protein.

    Raises
    ------
    UnknownNameError, UsageError
        As `check_pooling`.
    """

    def __init__(
        self,
        sequences: Sequence[str],
        strategy: Strategy,
        pooling: str = "mean",
        crop: int = 0,
        of_residues: bool = False,
    ) -> None:
        check_pooling(pooling, strategy)
        self.sequences, self.strategy, self.pooling, self.crop = sequences, strategy, pooling, crop
        self.of_residues = of_residues
        self.starts = offsets_of(map(len, sequences))

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
        cuts = self._all_cuts(rows, places)
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

    def answered(self, rows: Indices, places: Floats | None = None) -> Indices:
        """Return what is answered of rows, one after another: themselves, or their residues; see `Packed`.

        Parameters
        ----------
        rows, places
            As `packed` takes them.
        """
        return self._answered(rows, self._all_cuts(rows, places) if self.of_residues else ())

    def _answered(self, rows: Indices, cuts: Sequence[Sequence[Cut]]) -> Indices:
        if not self.of_residues:
            return rows
        seen = [self.starts[row] + _positions_seen(cuts_of_row) for row, cuts_of_row in zip(rows, cuts, strict=True)]
        return np.concatenate([np.zeros(0, np.int64), *seen])

    def _all_cuts(self, rows: Indices, places: Floats | None) -> list[list[Cut]]:
        return [self._cuts(int(row), None if places is None else places[i]) for i, row in enumerate(rows)]

    def _cuts(self, row: int, place: float | None) -> list[Cut]:
        length = len(self.sequences[row])
        if place is not None and 0 < self.crop < length:
            begin = int(place * (length - self.crop + 1))
            return [(slice(begin, begin + self.crop),)]
        return list(self.strategy.cut(length))

    def _stream(self, rows: Indices, cuts: Sequence[Sequence[Cut]]) -> Packed:
        inputs = [with_ends(glue(self.sequences[row], cut)) for row, one in zip(rows, cuts, strict=True) for cut in one]
        lengths = np.array([len(one) for one in inputs], dtype=np.int64)
        weights = np.concatenate([part for one in cuts for part in self._weights(one)])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        if self.of_residues:
            order, counts = _tokens_of_residues([len(self.sequences[row]) for row in rows], cuts)
        else:
            numbers = np.array([len(one) for one in cuts])
            counts = np.add.reduceat(lengths, np.cumsum(numbers) - numbers)
        stream = (np.concatenate(inputs).astype(np.int64), offsets, weights, counts)
        packed = Packed(rows, self._answered(rows, cuts), *map(torch.from_numpy, stream))
        return replace(packed, order=torch.from_numpy(order)) if self.of_residues else packed

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


def _positions_seen(cuts: Sequence[Cut]) -> Indices:
    """Return the 0-based positions of a protein that some input holds, ascending."""
    return np.unique(np.concatenate([positions_of(cut) for cut in cuts]))


def _tokens_of_residues(lengths: Sequence[int], cuts: Sequence[Sequence[Cut]]) -> tuple[Indices, Indices]:
    """Return the tokens of a stream that are residues, those of one side by side, and how many each residue has.

    Parameters
    ----------
    lengths : sequence of int
        Residues of each protein.
    cuts : sequence of sequences of Cut
        Of each protein.

    Examples
    --------
    >>> order, counts = _tokens_of_residues([3, 2], [[(slice(0, 2),), (slice(1, 3),)], [(slice(0, 2),)]])
    >>> order.tolist(), counts.tolist()
    ([1, 2, 5, 6, 9, 10], [1, 2, 1, 1, 1])
    """
    end = np.full(1, -1, dtype=np.int64)
    residue_of_token = list[Indices]()
    for start, cuts_of_row in zip(offsets_of(lengths)[:-1], cuts, strict=True):
        for cut in cuts_of_row:
            residue_of_token += [end, start + positions_of(cut), end]
    residues = np.concatenate(residue_of_token)
    order = np.argsort(residues, kind="stable")[np.count_nonzero(residues == -1) :]
    return order, np.unique(residues[order], return_counts=True)[1]


def _tokens(cuts: Sequence[Cut]) -> int:
    """Return the tokens of a protein's inputs, their ends among them."""
    return sum(map(cut_length, cuts)) + 2 * len(cuts)
