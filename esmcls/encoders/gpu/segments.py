"""Pooling of all inputs of a stream at once, where their states lie: on the device."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from esmcls.encoders.gpu.transfer import to_device


class Segments:
    """Where special tokens and residues of each input of a stream lie.

        BOS M K T EOS BOS M V EOS    two inputs
        0   1     4   5   6   8   9  offsets of their six segments

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each input.
    ends : (int, int)
        Special tokens before and after the residues of each.
    device : torch.device
    """

    def __init__(self, lengths: Sequence[int], ends: tuple[int, int], device: torch.device) -> None:
        before, after = ends
        sizes = [size for length in lengths for size in (before, length - before - after, after)]
        self.total = sum(lengths)
        self.offsets = to_device([0, *accumulate(sizes)], device)  # (3 inputs + 1,)

    def pool(self, states: Tensor, pooling: str) -> Tensor:
        """Pool fp32 states (total, width) to (inputs, width) by "mean", "max" or "cls"."""
        if pooling == "cls":
            return states.index_select(0, self.offsets[:-1:3])
        return self._reduce(states, pooling)

    def pool_by_attention(self, states: Tensor, weight: Tensor) -> Tensor:
        """Return the mean of residues weighed by the softmax of their scores, (total, width) to (inputs, width)."""
        scores = (states @ weight)[:, None]  # (total, 1)
        highest = self._reduce(scores, "max")  # (inputs, 1)
        shares = (scores - highest[self._owners()]).exp()
        return self._reduce(shares * states, "sum") / self._reduce(shares, "sum")

    def _reduce(self, states: Tensor, how: str) -> Tensor:
        """Reduce every segment in one kernel, each from its first row to its last, and keep those of residues."""
        return torch.segment_reduce(states, how, offsets=self.offsets, unsafe=True)[1::3]

    def _owners(self) -> Tensor:
        """Return the number of the input that each token is of, (total,)."""
        inputs = self.offsets[::3]
        numbers = torch.arange(len(inputs) - 1, device=inputs.device)
        return numbers.repeat_interleave(inputs.diff(), output_size=self.total)
