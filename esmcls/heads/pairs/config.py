"""The knobs of the pair head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from esmcls.heads.layers.descent import DESCENT_RANGES, DescentConfig
from esmcls.heads.pairs.network import PairShape
from esmcls.heads.settings import AT_LEAST_1, FROM_0_TO_1, Ranges, check_ranges

_RANGES: Final[Ranges] = {
    "hidden": (1, 1e5),
    "depth": (0, 100),
    "rank": (1, 1e4),
    "channels": (1, 1e4),
    "blocks": (0, 1000),
    "dropout": (0, 0.999),
    "noise": (0, 1e3),
    "crop": (8, 1e5),
    "two": FROM_0_TO_1,
    "fape": (0, 1e3),
    **DESCENT_RANGES,
    "average": (0, 0.99999),
    "epochs": (1, 1e6),
    "stop": AT_LEAST_1,
}


@dataclass(frozen=True)
class PairsConfig(DescentConfig):
    """Knobs of the pair head besides those of `DescentConfig`; None is chosen on validation.

    Parameters
    ----------
    letters : bool
        Read amino acids instead of vectors: what the sequence alone tells the same network. When to change: it is
        asked what an encoder adds.
    attention : bool
        Read the attention maps of the encoder, too, symmetric and less the average product of rows and columns. They
        are made anew for each chain in each epoch and never stored. Only an ESM-2 has them. When to change: the time
        for a pass of the encoder over each chain in each epoch is there.
    hidden : int
        Width of the trunk, which looks along the sequence. When to change: vectors are of a large encoder: raise it.
    depth : int
        Convolutions of the trunk, each over seven residues. When to change: vectors know little of their neighbours,
        as letters do: raise it.
    rank : int
        Products of a number of one residue with one of the other that a pair begins with; and as many differences.
        When to change: vectors are of a large encoder: raise it.
    channels : int
        Numbers that a pair has between the layers; time grows with the square. When to change: there is a GPU: 64 to
        128.
    blocks : int
        Convolutions over the map of pairs, each over 3 x 3 places that lie 1, 2, 4 or 8 apart. When to change: there
        is a GPU: 20 to 40.
    dropout : float
        Share of the trunk's numbers that is left out in training. When to change: training is far ahead of validation:
        raise it.
    noise : float
        Added to vectors in training, in deviations of each of their numbers. When to change: as `dropout`.
    crop : int
        Residues of the part of a chain that training sees at a time; time and memory grow with the square. When to
        change: there is a GPU: 256.
    two : float
        Share of crops that are two stretches of half the size, so that pairs far apart along the sequence are seen,
        too. When to change: chains are much longer than a crop: raise it.
    fape : float
        Weight of the frame-aligned point error of the trace that the expected distances make, of 0.1 to 1; it takes
        the places of residues from their products, whose mirror image is as good. When to change: traces are wanted
        more than contacts.
    average : float
        Share that each step leaves of the running mean of the weights, which is what is validated and kept. When to
        change: an epoch has fewer than some hundred steps: 0.95 and less, or 0 for the last weights.
    batch : int
        Crops a step, one after another. When to change: there are a few hundred chains (less).
    epochs : int
        Length of the cosine schedule in passes over the training chains. When to change: the best epoch on validation
        is the last: raise it.
    patience : int
        Epochs without a lower cross-entropy on validation before training stops; 0 for never. When to change:
        validation is small: raise it.
    precision : {"auto", "bf16", "fp32"}
        Of the products of matrices; auto is bf16 where the hardware has it. When to change: the same numbers are
        wanted on hardware with and without bf16: fp32.
    """

    letters: bool = False
    attention: bool = False
    hidden: int = 128
    depth: int = 1
    rank: int = 32
    channels: int = 32
    blocks: int = 8
    dropout: float = 0.1
    noise: float = 0.05
    crop: int = 96
    two: float = 0.25
    fape: float = 0.0
    lr: float = 3e-3
    average: float = 0.999
    batch: int = 4
    epochs: int = 5
    patience: int = 2
    precision: Literal["auto", "bf16", "fp32"] = "auto"

    def __post_init__(self) -> None:
        check_ranges(self, _RANGES)

    def shape(self, maps: int) -> PairShape:
        """Return the layers of the network that reads so many attention maps."""
        return PairShape(self.hidden, self.depth, self.rank, self.channels, self.blocks, self.dropout, maps)
