"""What each residue adds, by the gradient through ESM-2 itself: integrated from no residues at all to those there are.

The way begins where the embeddings of all residues are zero (those of BOS and EOS stay) and ends at the protein. The
normalisation of the first layer makes most of the change happen near the beginning, so places are a power of the
integral's own, which lie densely there:

    value_r = (x_r - 0) · integral over t of p t^(p-1) d output / d x_r (t^p x)

Sundararajan et al. 2017, arXiv:1703.01365.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from esmcls.encoders.esm2 import with_ends
from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.encoders.pooling import pool_by_attention
from esmcls.encoders.weights import ATTENTION_WEIGHT
from esmcls.insight.explanation.opened import OpenedHead
from esmcls.insight.explanation.residues import Contributions, legendre

if TYPE_CHECKING:
    from typing_extensions import Self

POWER = 4
POINTS = (16, 32, 64, 128)
"""Of the integral; doubled until what is left unexplained is small."""
SMALL = 0.01
"""What may be left unexplained, as a share of what there is to explain."""
TOKENS = 4096
"""That are run at once."""


class _FromEmbedding(ESM2):
    """ESM-2 that begins with embeddings that it is given."""

    given: Tensor | None = None

    def embed(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return what was given, else the embedding of the tokens."""
        return super().embed(tokens, lengths) if self.given is None else self.given


@dataclass(frozen=True, eq=False)
class ThroughEncoder:
    """An encoder that gradients go through, below a head.

    Parameters
    ----------
    model : ESM2
    layers : tuple of int
        Side by side in a vector.
    attention : float tensor, (width,), optional
        Weights of a residue's score.
    opened : OpenedHead
    tries : tuple of int
        Points of the integral, until what is left unexplained is small.
    """

    model: _FromEmbedding
    layers: tuple[int, ...]
    attention: Tensor | None
    opened: OpenedHead
    tries: tuple[int, ...] = POINTS

    @classmethod
    def of(cls, config: ModelConfig, state: Mapping[str, Tensor], layers: Sequence[int], opened: OpenedHead) -> Self:
        """Build the encoder with a canonical state, in fp32 on the CPU."""
        model = _FromEmbedding.of(config, state).eval().requires_grad_(False)
        attention = state.get(ATTENTION_WEIGHT)
        return cls(model, tuple(layers), None if attention is None else attention.float().flatten(), opened)

    def contributions(self, sequence: str, column: int) -> Contributions:
        """Return what each residue of a protein that is one encoder input adds to an output of the head."""
        tokens = torch.from_numpy(with_ends(sequence).astype(np.int64))
        with torch.no_grad():
            whole = self.model.embed(tokens, torch.tensor([len(tokens)]))  # (tokens, width)
        start = torch.zeros_like(whole)
        start[[0, -1]] = whole[[0, -1]]
        with torch.no_grad():
            base, output = self._outputs(tokens, torch.stack([start, whole]), column).tolist()
        for points in self.tries:
            gradient = self._mean_gradient(tokens, start, whole, column, points)  # (tokens, width)
            values = ((whole - start).double() * gradient).sum(1)
            if abs(output - base - float(values.sum())) <= SMALL * abs(output - base):
                break
        return Contributions(values[1:-1].numpy(), base, output)

    def _mean_gradient(self, tokens: Tensor, start: Tensor, whole: Tensor, column: int, points: int) -> Tensor:
        nodes, weights = legendre(points)
        places = nodes**POWER
        weights = weights * POWER * nodes ** (POWER - 1)
        total = torch.zeros_like(whole, dtype=torch.float64)
        at_once = max(1, TOKENS // len(tokens))
        for first in range(0, points, at_once):
            part = slice(first, first + at_once)
            on_the_way = start + places[part, None, None].float() * (whole - start)  # (points, tokens, width)
            on_the_way.requires_grad_()
            [gradients] = torch.autograd.grad(self._outputs(tokens, on_the_way, column).sum(), on_the_way)
            total += (weights[part, None, None] * gradients.double()).sum(0)
        return total

    def _outputs(self, tokens: Tensor, embedded: Tensor, column: int) -> Tensor:
        """Return the output of each of several embeddings of one protein, (points, tokens, width) to (points,)."""
        [points, length, width] = embedded.shape
        self.model.given = embedded.reshape(points * length, width)
        try:
            states = self.model(tokens.repeat(points), torch.arange(points + 1) * length, self.layers)
        finally:
            self.model.given = None
        side_by_side = torch.cat([states[layer] for layer in self.layers], dim=-1)
        pooled = torch.stack([self._pooled(part) for part in torch.split(side_by_side, length)])  # (points, width)
        return self.opened.outputs(self.opened.scaled(pooled.double()))[:, column]

    def _pooled(self, vectors: Tensor) -> Tensor:
        """Pool the states of one input with its special tokens, (tokens, width) to (width,)."""
        inside = vectors[1:-1]
        if self.opened.pooling == "cls":
            return vectors[0]
        if self.opened.pooling == "max":
            return inside.amax(0)
        return pool_by_attention(inside, self.attention) if self.opened.pooling == "attention" else inside.mean(0)
