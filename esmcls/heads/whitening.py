"""Within-class whitening: directions in which members of one class differ anyway count less.

The within-class covariance of the training rows, shrunk towards a multiple of the identity, becomes the identity.
After it the cosine of two rows is the measure that linear discriminant analysis uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.types import Indices, Vectors

WIDENED_ROWS = 8192
"""Rows that are converted to float32 at a time."""
SHRINKAGES = (0.001, 0.01, 0.1)
"""The values that are tried on validation."""
FLOOR = 1e-6
"""Smallest eigenvalue, as a share of the mean one: a constant column must not be blown up."""


def row_blocks(vectors: Vectors, device: str = "cpu", size: int = WIDENED_ROWS) -> Iterator[tuple[slice, Tensor]]:
    """Give slices of rows and the rows as float32 on the device; fp16 is never widened as a whole."""
    for start in range(0, len(vectors), size):
        rows = slice(start, min(start + size, len(vectors)))
        yield rows, torch.from_numpy(np.array(vectors[rows])).to(device, torch.float32)


def class_sums(vectors: Vectors, codes: Indices, n_classes: int) -> Tensor:
    """Return X^T Y for one-hot Y, transposed: the sum of the rows of each class, float64 (classes, width)."""
    sums = torch.zeros(n_classes, vectors.shape[1], dtype=torch.float64)  # on the CPU: index_add_ is in order there
    for rows, block in row_blocks(vectors):
        sums.index_add_(0, torch.from_numpy(codes[rows]), block.double())
    return sums


@dataclass(frozen=True)
class Whitening:
    """An affine map: subtract `mean` (width,), multiply by `matrix` (width, dims); both float32."""

    mean: Tensor
    matrix: Tensor

    def __call__(self, block: Tensor) -> Tensor:
        """Whiten float32 rows, (n, width) to (n, dims)."""
        return (block - self.mean.to(block.device)) @ self.matrix.to(block.device)

    def on(self, device: str) -> Whitening:
        """Return the map with its tensors on a device, for many calls: else each copies them."""
        return Whitening(self.mean.to(device), self.matrix.to(device))

    def unit(self, block: Tensor) -> Tensor:
        """Whiten float32 rows and bring each to length 1."""
        return F.normalize(self(block), eps=1e-9)

    def leading(self, components: int) -> Whitening:
        """Return the map to the directions of largest variance alone: the last columns, as `WithinClass` has them."""
        return Whitening(self.mean, self.matrix[:, -components:].contiguous())


@dataclass(frozen=True)
class WithinClass:
    """The within-class covariance of training rows by its eigenvalues (width,) and eigenvectors (width, width).

    Examples
    --------
    >>> vectors = np.array([[0, 0], [4, 0], [0, 9], [4, 9]], dtype=np.float32)
    >>> within = WithinClass.of(vectors, np.array([0, 0, 1, 1]), 2)
    >>> within(shrinkage=0.0)(torch.tensor([[4.0, 4.5]])).abs()
    tensor([[0.0000, 0.7071]])
    """

    mean: Tensor
    values: Tensor
    axes: Tensor

    @classmethod
    def of(cls, vectors: Vectors, codes: Indices, n_classes: int, device: str = "cpu") -> WithinClass:
        """Measure the rows; classes with one member say nothing about the spread and do not count.

        Where no class has two members the spread around the mean of all rows stands in; with one row, the identity.
        """
        counts = torch.from_numpy(np.bincount(codes, minlength=n_classes))
        centres = class_sums(vectors, codes, n_classes) / counts.clamp(min=1)[:, None]
        mean = (centres * counts[:, None]).sum(0) / max(1, len(vectors))
        freedom = int((counts - 1).clamp(min=0).sum())
        if not freedom:
            centres = mean.expand(n_classes, -1)
            freedom = len(vectors) - 1
        scatter = _scatter(vectors, codes, centres.float(), device)
        values, axes = torch.linalg.eigh(scatter / freedom if freedom else torch.eye(len(mean), dtype=torch.float64))
        return cls(mean.float(), values.clamp(min=0), axes)

    @classmethod
    def of_all(cls, vectors: Vectors, device: str = "cpu") -> WithinClass:
        """Measure the covariance of all rows: that within one class of all."""
        return cls.of(vectors, np.zeros(len(vectors), dtype=np.int64), 1, device)

    def __call__(self, shrinkage: float) -> Whitening:
        """Return the map for a shrinkage in [0, 1]: 0 trusts the covariance, 1 only its mean eigenvalue."""
        level = float(self.values.mean()) or 1.0
        shrunk = ((1 - shrinkage) * self.values + shrinkage * level).clamp(min=FLOOR * level)
        # contiguous, as a loaded one is: another layout is another order of sums
        return Whitening(self.mean, (self.axes / shrunk.sqrt()).float().contiguous())


def _scatter(vectors: Vectors, codes: Indices, centres: Tensor, device: str) -> Tensor:
    """Return the summed outer products of rows minus their class's centre, float64 (width, width)."""
    [_, width] = vectors.shape
    total = torch.zeros(width, width, dtype=torch.float64)
    for rows, block in row_blocks(vectors, device):
        centred = block - centres[torch.from_numpy(codes[rows])].to(device)
        total += (centred.T @ centred).cpu().double()
    return total
