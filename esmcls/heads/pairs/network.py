"""The network of the pair head: vectors of residues, then features of pairs, then two-dimensional convolutions.

    vectors  (residues, width)
    trunk    (residues, hidden)               convolutions along the sequence
    pairs    (residues, residues, channels)   products and differences of i and j, their distance in sequence
    blocks   the same                         dilated 3 x 3 convolutions, each added to what it reads
    logits   (residues, residues, 64)         symmetric, on top of the mean distribution by separation

The features of a pair are those of its first residue with its second, whichever of the two a place of the map names,
so the map that the convolutions read is symmetric; what they make of both halves is averaged. Each place is
standardised over its channels alone (Ba et al. 2016, arXiv:1607.06450): an answer does not depend on the size of the
map, and crops and whole chains see the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esmcls.heads.layers.network import filled, seeded, shape_in
from esmcls.structures.distogram import BINS

if TYPE_CHECKING:
    from typing_extensions import Self

EXACT: Final = 32
"""Distances along the sequence that have a bin of their own; farther ones share bins, six for each doubling."""
PER_DOUBLING: Final = 6
SEPARATIONS: Final = EXACT + 6 * PER_DOUBLING
"""Bins of distance along the sequence; the last holds all from 1,825 residues on."""
DILATIONS: Final = (1, 2, 4, 8)
KERNEL: Final = 7
"""Residues that a convolution of the trunk looks at."""
WIDENED: Final = 4
"""Width of the layer before the logits, as a multiple of the channels."""
CONVOLUTIONS: Final = 0.25
"""Learning rate of the convolutions, which add up many more numbers each, as a multiple of the others'."""
EMBEDDED: Final = 0.2
"""Deviation of what is drawn for distances along the sequence and lengths: less than what residues say of a pair."""
LEAST: Final = 1e-6
"""Share of pairs that any bin of distance has at least before training."""
ROWS: Final = 1 << 17
"""Pairs whose logits are made at a time."""


@dataclass(frozen=True)
class PairShape:
    """The layers of a network.

    Parameters
    ----------
    hidden, depth : int
        Width of the trunk, and its convolutions.
    rank : int
        Products, and differences, that a pair begins with.
    channels, blocks : int
        Numbers that a pair has, and convolutions over the map of pairs.
    dropout : float
    maps : int
        Attention maps that are read, too.
    """

    hidden: int
    depth: int
    rank: int
    channels: int
    blocks: int
    dropout: float = 0.0
    maps: int = 0


def separation_bins(separation: Tensor) -> Tensor:
    """Return the bin of distances along the sequence, in residues, int64 of the same shape.

    Examples
    --------
    >>> separation_bins(torch.tensor([0, 1, 31, 32, 35, 36, 64, 100_000])).tolist()
    [0, 1, 31, 32, 32, 33, 38, 67]
    """
    doublings = torch.log2(separation.clamp(min=EXACT).double() / EXACT)
    far = EXACT + (doublings * PER_DOUBLING).floor().long()
    return torch.where(separation < EXACT, separation, far.clamp(max=SEPARATIONS - 1))


class PairNetwork(nn.Module):
    """From vectors of the residues of a chain to features of its pairs; what was measured in training is its state.

    `mean` and `scale` are those of the training residues, `map_scale` the deviations of attention maps, `prior`
    (separations, 64) the logarithms of the shares of training pairs in each bin of distance.
    """

    mean: Tensor
    scale: Tensor
    map_scale: Tensor
    prior: Tensor

    def __init__(self, width: int, shape: PairShape) -> None:
        super().__init__()
        hidden, channels = shape.hidden, shape.channels
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("prior", torch.zeros(SEPARATIONS, BINS))
        self.dropout = nn.Dropout(shape.dropout)
        self.enter = nn.Linear(width, hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(shape.depth))
        self.trunk = nn.ModuleList(nn.Conv1d(hidden, hidden, KERNEL, padding=KERNEL // 2) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(hidden)
        self.first = nn.Linear(hidden, 2 * shape.rank + channels)
        self.second = nn.Linear(hidden, 2 * shape.rank + channels)
        self.joined = nn.Linear(2 * shape.rank, channels, bias=False)
        self.separation = nn.Embedding(SEPARATIONS, channels)
        self.length = nn.Embedding(SEPARATIONS, channels)
        self.register_buffer("map_scale", torch.ones(shape.maps))
        self.maps = nn.Parameter(torch.randn(channels, shape.maps) / math.sqrt(max(1, shape.maps)))
        self.pair_norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(shape.blocks + 1))
        dilations = [DILATIONS[number % len(DILATIONS)] for number in range(shape.blocks)]
        self.blocks = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=reach, dilation=reach) for reach in dilations
        )
        self.widen = nn.Linear(channels, WIDENED * channels)
        self.chosen_by = nn.Embedding(SEPARATIONS, WIDENED * channels)
        self.out = nn.Linear(WIDENED * channels, BINS)
        self.rank = shape.rank
        self.judge = nn.Sequential(nn.Linear(hidden + 2 * channels, hidden), nn.GELU(), nn.Linear(hidden, 1))
        for table in (self.separation, self.length):
            nn.init.normal_(table.weight, std=EMBEDDED)
        for layer in (*self.trunk, *self.blocks, self.out):
            nn.init.zeros_(layer.weight)  # what is added begins at nothing, and the answer at the prior
            nn.init.zeros_(layer.bias)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def drawn(cls, width: int, shape: PairShape, seed: int) -> Self:
        """Return a network on the CPU with weights drawn from a seed; the caller's generator stays as it is."""
        with seeded(seed):
            return cls(width, shape)

    @classmethod
    def of_state(cls, state: dict[str, Tensor], shape: PairShape) -> Self:
        """Return the network on the CPU whose `state_dict` this is; ValueError where it is none of such a network."""
        [width] = shape_in(state, "mean", 1)
        return filled(lambda: cls(width, shape), state)

    def groups(self) -> list[dict[str, Any]]:
        """Return the parameters in groups for an optimiser: those of convolutions learn at a lower rate."""
        convolutions = [*self.trunk.parameters(), *self.blocks.parameters()]
        there = set(map(id, convolutions))
        others = [parameter for parameter in self.parameters() if id(parameter) not in there]
        return [{"params": others}, {"params": convolutions, "lr_scale": CONVOLUTIONS}]

    def standardised(self, vectors: Tensor) -> Tensor:
        """Return vectors (residues, width) less the mean of training residues, by their deviation."""
        return (vectors.to(self.mean) - self.mean) / self.scale

    def residues(self, x: Tensor) -> Tensor:
        """Return the trunk (residues, hidden) of the standardised vectors of a whole chain."""
        h = self.enter(self.dropout(x))
        for norm, layer in zip(self.norms, self.trunk, strict=True):
            convolved = layer(F.gelu(norm(h)).T[None])[0].T  # (residues, hidden)
            h = h + self.dropout(convolved)
        return F.gelu(self.norm(h))

    def pairs(self, h: Tensor, positions: Tensor, length: int, maps: Iterable[Tensor] = ()) -> Tensor:
        """Return the features of all pairs, symmetric, (residues, residues, channels).

        Parameters
        ----------
        h : tensor, (residues, hidden)
            Of the trunk.
        positions : int64 tensor, (residues,)
            In the sequence, ascending.
        length : int
            Residues of the sequence.
        maps : iterable of tensors, (heads, residues, residues)
            What they attend to, layer by layer: one is held at a time.
        """
        x = self._begin(h, positions, length)
        start = 0
        for layer in maps:
            part = slice(start, start + len(layer))
            x = x + F.linear((layer / self.map_scale[part, None, None]).permute(1, 2, 0), self.maps[:, part])
            start = part.stop
        x = x.permute(2, 0, 1)[None]  # (1, channels, residues, residues), channels last in memory
        for norm, block in zip(self.pair_norms, self.blocks, strict=False):
            x = x + block(F.relu(_standardised(x, norm)))
        features = F.relu(_standardised(x, self.pair_norms[-1]))[0].permute(1, 2, 0)
        return 0.5 * (features + features.transpose(0, 1))

    def _begin(self, h: Tensor, positions: Tensor, length: int) -> Tensor:
        """Return what the convolutions begin with, (residues, residues, channels)."""
        rank = self.rank
        first, second = self.first(h)[:, None], self.second(h)[None]  # (i, 1, …), (1, j, …)
        product = first[..., :rank] * second[..., :rank]
        difference = (first[..., rank : 2 * rank] - second[..., rank : 2 * rank]).abs()
        joined = self.joined(torch.cat([product, difference], dim=-1))
        joined = joined + (first[..., 2 * rank :] + second[..., 2 * rank :])
        ordered = (positions[:, None] <= positions)[..., None]
        joined = torch.where(ordered, joined, joined.transpose(0, 1))  # a pair is read from its first residue
        separation = self.separation(separation_bins((positions[:, None] - positions).abs()))
        of_length = self.length(separation_bins(torch.tensor(length, device=h.device)))
        begun: Tensor = (joined + separation + of_length).to(joined.dtype)
        return begun

    def logits(self, features: Tensor, separation: Tensor) -> Tensor:
        """Return logits (pairs, 64) of features (pairs, channels), of so many residues along the sequence (pairs,)."""
        bins = separation_bins(separation)
        widened = self.widen(features)
        out: Tensor = self.out(F.relu(widened + self.chosen_by(bins).to(widened.dtype)))
        return out.float() + self.prior[bins]

    def confidence(self, h: Tensor, features: Tensor) -> Tensor:
        """Return logits of the lDDT of residues, (residues,); what it reads is not trained by it."""
        pooled = features.detach()
        read = torch.cat([h.detach().to(pooled.dtype), pooled.mean(1), pooled.amax(1)], dim=-1)
        judged: Tensor = self.judge(read)
        return judged[..., 0].float()

    def distogram(self, features: Tensor, positions: Tensor) -> Tensor:
        """Return probabilities (residues, residues, 64) of one chain's features, made some rows at a time."""
        n = len(positions)
        answer = torch.empty(n, n, BINS, device=features.device)
        rows = max(1, ROWS // n)
        for start in range(0, n, rows):
            block = features[start : start + rows]
            separation = (positions[start : start + rows, None] - positions).abs()
            answer[start : start + rows] = self.logits(block, separation).softmax(-1)
        return answer


def _standardised(x: Tensor, norm: nn.Module) -> Tensor:
    """Standardise each place of a map over its channels; x (1, channels, residues, residues)."""
    standardised: Tensor = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return standardised


def prior_of(counts: Tensor) -> Tensor:
    """Return the logarithms of the shares (separations, 64) of pairs in bins of distance, by counts of them.

    To each separation one more pair is added, which is spread as those of the separation before it are: a separation
    that was never seen takes after that one. A residue is at no distance from itself.
    """
    before = (counts.sum(0) + 1.0) / (counts.sum() + BINS)
    shares = []
    for count in counts.double():
        before = (count + before) / (count.sum() + 1)
        shares.append(before)
    shares[0] = F.one_hot(torch.tensor(0), BINS).double()
    least = torch.stack(shares).clamp(min=LEAST)
    return (least / least.sum(1, keepdim=True)).log().float()
