"""The MLP head's network in one piece: standardise, add noise, pool by attention, hidden layers, logits.

A protein is one vector or, with attention, the vectors of its encoder inputs (chunks). Both come packed, unpadded:

    block   (vectors, width)   A1 A2 A3 B1 C1 C2
    counts  (rows,)            3        1  2
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esmcls.errors import ModelError
from esmcls.heads.saved_tensors import AGAIN, read_state
from esmcls.training.device_operations import segment_largest, segment_sums
from esmcls.types import Indices, Vectors

M = TypeVar("M", bound=nn.Module)
ATTENTION = 128
"""Width of the layer that scores a chunk."""


@dataclass(frozen=True, eq=False)
class Bags:
    """Rows of one or several vectors each.

    Parameters
    ----------
    vectors : float array, (vectors, width)
        Those of row i are `vectors[offsets[i] : offsets[i + 1]]`.
    offsets : int64 array, (rows + 1,)

    Examples
    --------
    >>> bags = Bags.of(np.array([[1.0], [2.0], [3.0]]), np.array([2, 1]))
    >>> [part.tolist() for part in bags.packed(np.array([1, 0]))]
    [[[3.0], [1.0], [2.0]], [1, 2]]
    """

    vectors: Vectors
    offsets: Indices

    @classmethod
    def of(cls, vectors: Vectors, counts: Indices | None = None) -> Bags:
        """Take vectors (vectors, width) in the order of their rows; `counts` (rows,), by default one vector a row."""
        ends = np.arange(1, len(vectors) + 1) if counts is None else np.cumsum(counts)
        return cls(vectors, np.concatenate(([0], ends)).astype(np.int64))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.offsets) - 1

    def packed(self, rows: Indices | slice) -> tuple[Vectors, Indices]:
        """Return the vectors of some rows (vectors, width), one row after the other, and their counts (rows,)."""
        counts = np.diff(self.offsets)[rows]
        begins = np.cumsum(counts) - counts  # of each row in what is returned
        places = np.arange(counts.sum()) + np.repeat(self.offsets[:-1][rows] - begins, counts)
        return self.vectors[places], counts

    def take(self, rows: Indices) -> Bags:
        """Return some rows, copied."""
        return Bags.of(*self.packed(rows))

    def blocks(self, size: int) -> Iterator[slice]:
        """Give slices of rows of at most `size` vectors; a row is never cut, however many it has."""
        start = 0
        while start < len(self):
            stop = int(np.searchsorted(self.offsets, self.offsets[start] + size, side="right")) - 1
            yield slice(start, max(start + 1, stop))
            start = max(start + 1, stop)


class Layout(Protocol):
    """The knobs of a head that its network reads."""

    @property
    def hidden(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def norm(self) -> str: ...
    @property
    def dropout(self) -> float: ...
    @property
    def noise(self) -> float: ...
    @property
    def attention(self) -> bool: ...
    @property
    def whiten(self) -> bool: ...


class Network(nn.Module):
    """From packed float32 vectors to logits.

    The training rows' mean, and their deviation or whitening matrix, are part of its state.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, n_classes: int, layout: Layout) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        whole = layout.whiten and not layout.attention
        # filled, since `torch.eye` loads sympy on the device "meta"
        scale = torch.zeros(width, width).fill_diagonal_(1) if whole else torch.ones(width)
        self.register_buffer("scale", scale)
        self.noise = layout.noise
        self.pool = Attention(width) if layout.attention else None
        widths = [width] + [layout.hidden] * layout.depth
        self.hidden = nn.Sequential(*(_layer(widths[place], layout) for place in range(layout.depth)))
        self.out = nn.Linear(widths[-1], n_classes)

    @classmethod
    def drawn(cls, width: int, n_classes: int, layout: Layout, seed: int) -> Network:
        """Return a network on the CPU with weights drawn from a seed; the caller's generator stays as it is."""
        with seeded(seed):
            return cls(width, n_classes, layout)

    @classmethod
    def of_state(cls, state: dict[str, Tensor], layout: Layout) -> Network:
        """Return the network on the CPU whose `state_dict` this is; ValueError where it is none of such a network."""
        [n_classes, _] = shape_in(state, "out.weight", 2)
        [width] = shape_in(state, "mean", 1)
        return filled(lambda: cls(width, n_classes, layout), state)

    def forward(self, block: Tensor, counts: Tensor) -> Tensor:
        """Return logits (rows, classes) of vectors (vectors, width) and their counts (rows,)."""
        x = self.standardised(block)
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        if self.pool is not None:
            x = self.pool(x, counts)  # (rows, width)
        logits: Tensor = self.out(self.hidden(x))
        return logits

    def standardised(self, block: Tensor) -> Tensor:
        """Return the vectors whitened, of one length and mean square 1; else less the mean, in deviations."""
        if self.scale.dim() == 1:
            return (block - self.mean) / self.scale
        return F.normalize((block - self.mean) @ self.scale, eps=1e-9) * math.sqrt(block.shape[1])


class Attention(nn.Module):
    """The weighted mean of a row's vectors x, with weights softmax(v · tanh(U x)).

    Ilse et al. 2018 (arXiv:1802.04712), equations 7 and 8.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, ATTENTION)
        self.score = nn.Linear(ATTENTION, 1, bias=False)

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        """Return (rows, width)."""
        powers = self._powers(x, counts)
        return segment_sums(powers[:, None] * x, counts) / segment_sums(powers, counts)[:, None]

    def weights(self, x: Tensor, counts: Tensor) -> Tensor:
        """Return the weight of each vector (vectors,); those of a row sum to 1."""
        powers = self._powers(x, counts)
        return powers / segment_sums(powers, counts)[torch.repeat_interleave(counts)]

    def _powers(self, x: Tensor, counts: Tensor) -> Tensor:
        """Return exp(score) (vectors,), scaled so that the largest of each row is 1."""
        scores = self.score(torch.tanh(self.hidden(x)))[:, 0]
        largest = segment_largest(scores.detach(), counts)
        return torch.exp(scores - largest[torch.repeat_interleave(counts)])


def shape_in(state: Mapping[str, Tensor], name: str, axes: int) -> torch.Size:
    """Return the shape of a tensor of a state; ValueError where it is not there, or of another number of axes."""
    if name not in state or state[name].dim() != axes:
        raise ValueError(f"no {name} of {axes} axes")
    return state[name].shape


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed, on the CPU; the caller's generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def filled(make: Callable[[], M], state: Mapping[str, Tensor]) -> M:
    """Return a network that is made, with a copy of a state on the CPU; ValueError where its tensors are not those.

    It is made without memory, and shapes are compared before any is asked for: settings may claim any size.
    """
    with torch.device("meta"):
        network = make()
    expected, there = _forms(network.state_dict()), _forms(state)
    for name in sorted(expected.keys() | there.keys()):
        if expected.get(name) != there.get(name):
            raise ValueError(f"{name[:80]} is {there.get(name, 'missing')} instead of {expected.get(name, 'nothing')}")
    # copied: what a mapped file gives is not aligned; assigned: `to_empty` loads sympy, half a second
    network.load_state_dict({name: tensor.clone() for name, tensor in state.items()}, assign=True)
    return network


def read_network(path: Path, of_state: Callable[[dict[str, Tensor]], M], device: str) -> M:
    """Return the network of a file, to be asked, not trained.

    Parameters
    ----------
    path : Path
    of_state : callable
        Makes it of the tensors of the file; ValueError or KeyError where they are none of such a network.
    device : str

    Raises
    ------
    ModelError
        If the file is damaged, or of another network.
    """
    state = read_state(path)
    try:
        network = of_state(state)
    except (ValueError, KeyError) as error:
        raise ModelError(path, f"no network of these settings ({error})", AGAIN) from None
    return network.to(device).eval().requires_grad_(False)


def _forms(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the dtype and shape of each tensor, as messages show them."""
    return {name: f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}" for name, tensor in state.items()}


class _BatchNorm(nn.BatchNorm1d):
    """Batch norm that takes a batch of one row, whose deviation is not known, by the running one."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def _layer(width: int, layout: Layout) -> nn.Module:
    """Return one hidden layer."""
    norms = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": _BatchNorm}
    norm = norms[layout.norm](layout.hidden)
    return nn.Sequential(nn.Linear(width, layout.hidden), norm, nn.ReLU(), nn.Dropout(layout.dropout))
