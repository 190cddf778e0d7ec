"""The network of the heads for residues: standardise, hidden layers that may look at neighbours, an output a class.

Proteins are packed one after another, without padding; before each layer that looks at neighbours they are laid apart
by as many zeros as it reaches to each side, so that no residue ever sees one of another protein:

    block    (residues, width)            A1 A2 A3 B1 B2
    strip    (residues + gaps, hidden)  0 A1 A2 A3  0 B1 B2 0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esmcls.heads.layers.network import filled, seeded, shape_in
from esmcls.types import Indices


@dataclass(frozen=True)
class Shape:
    """The layers of a network.

    Parameters
    ----------
    depth : int
        Hidden layers; without any it is linear.
    hidden : int
        Their width.
    kernel : int
        Residues that one of them looks at, odd; 1 for the residue alone.
    dropout : float
    """

    depth: int = 0
    hidden: int = 64
    kernel: int = 1
    dropout: float = 0.0


class ResidueNetwork(nn.Module):
    """From packed float32 vectors of residues to outputs; mean and deviation of the training residues are its state.

    `centre` and `spread` are those of the numbers that it was trained on; 0 and 1 with classes.
    """

    mean: Tensor
    scale: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, width: int, outputs: int, shape: Shape) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        self.reach = shape.kernel // 2
        self.dropout = nn.Dropout(shape.dropout)
        self.enter = nn.Linear(width, shape.hidden) if shape.depth else None
        self.layers = nn.ModuleList(
            nn.Conv1d(shape.hidden, shape.hidden, shape.kernel, padding=self.reach) for _ in range(shape.depth - 1)
        )
        self.out = nn.Linear(shape.hidden if shape.depth else width, outputs)

    @classmethod
    def drawn(cls, width: int, outputs: int, shape: Shape, seed: int) -> ResidueNetwork:
        """Return a network on the CPU with weights drawn from a seed; the caller's generator stays as it is."""
        with seeded(seed):
            return cls(width, outputs, shape)

    @classmethod
    def of_state(cls, state: dict[str, Tensor], shape: Shape) -> ResidueNetwork:
        """Return the network on the CPU whose `state_dict` this is; ValueError where it is none of such a network."""
        [outputs, _] = shape_in(state, "out.weight", 2)
        [width] = shape_in(state, "mean", 1)
        return filled(lambda: cls(width, outputs, shape), state)

    def forward(self, block: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return outputs (residues, outputs) of vectors (residues, width) of proteins of so many residues."""
        x = (block - self.mean) / self.scale
        if self.enter is not None:
            x = self.dropout(F.relu(self.enter(x)))
            places = torch.from_numpy(_places(sizes, self.reach)).to(x.device)
            for layer in self.layers:
                x = x + self.dropout(F.relu(self._convolved(layer, x, places)))
        outputs: Tensor = self.out(x)
        return outputs

    def _convolved(self, layer: nn.Module, x: Tensor, places: Tensor) -> Tensor:
        """Return what a layer makes of residues that are laid apart in a strip; (residues, hidden)."""
        strip = x.new_zeros(int(places[-1]) + 1 + self.reach, x.shape[1]).index_copy(0, places, x)
        convolved: Tensor = layer(strip.T[None])[0].T[places]
        return convolved


def _places(sizes: Sequence[int], reach: int) -> Indices:
    """Return where in a strip each residue lies, with `reach` zeros before each protein.

    Examples
    --------
    >>> _places([2, 1], 1).tolist()
    [1, 2, 4]
    """
    counts = np.asarray(sizes, dtype=np.int64)
    shifts = reach * np.arange(1, len(counts) + 1)
    return np.asarray(np.arange(counts.sum()) + np.repeat(shifts, counts))
