"""Closed-form ridge regression onto one-hot classes: a linear classifier in one pass over the rows.

With centred, scaled rows X and one-hot Y the solution is (XᵀX + λI)⁻¹ XᵀY. Neither X as float32 nor Y is ever
held whole: XᵀX is summed over blocks and XᵀY is the sum of the rows of each class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmcls.heads.whitening import row_blocks
from esmcls.types import Indices, Vectors


@dataclass(frozen=True)
class Scaling:
    """Standardisation: (x - mean) / deviation, both float32 (width,); a constant column becomes 0."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, vectors: Vectors) -> Scaling:
        """Measure the rows in two passes, in blocks."""
        mean = torch.zeros(vectors.shape[1], dtype=torch.float64)
        for _, block in row_blocks(vectors):
            mean += block.double().sum(0)
        mean /= len(vectors)
        square = torch.zeros_like(mean)
        for _, block in row_blocks(vectors):
            square += (block.double() - mean).square().sum(0)
        deviation = (square / len(vectors)).sqrt()
        constant = deviation <= 1e-6 * (mean.abs() + deviation.mean())
        return cls(mean.float(), torch.where(constant, 1.0, deviation).float())

    def __call__(self, block: Tensor) -> Tensor:
        """Standardise float32 rows (n, width)."""
        return (block - self.mean.to(block.device)) / self.deviation.to(block.device)


@dataclass(frozen=True)
class Ridge:
    """The sums that every penalty's solution is made of.

    `values` and `axes` are the eigenvalues (width,) and eigenvectors (width, width) of the weighted, centred XᵀX,
    `target` is the centred XᵀY on those axes (width, classes), `centre` the weighted mean row and `prior` the weighted
    share of each class.
    """

    values: Tensor
    axes: Tensor
    target: Tensor
    centre: Tensor
    prior: Tensor

    @classmethod
    def of(
        cls,
        vectors: Vectors,
        codes: Indices,
        factors: npt.NDArray[np.float32],
        prepare: Callable[[Tensor], Tensor],
        device: str = "cpu",
    ) -> Ridge:
        """Sum over the rows in blocks; `factors` (classes,) weighs a row by its class, `prepare` scales a block."""
        width, weights = vectors.shape[1], torch.from_numpy(factors).double()
        gram = torch.zeros(width, width, dtype=torch.float64)
        sums = torch.zeros(len(factors), width, dtype=torch.float64)  # on the CPU: index_add_ is in order there
        for rows, block in row_blocks(vectors, device):
            own, prepared = torch.from_numpy(codes[rows]), prepare(block)
            weighted = prepared * weights[own].sqrt().float().to(device)[:, None]
            gram += (weighted.T @ weighted).cpu().double()
            sums.index_add_(0, own, prepared.cpu().double())
        sums = sums * weights[:, None]
        mass = torch.from_numpy(np.bincount(codes, minlength=len(factors))) * weights
        centre, prior = sums.sum(0) / mass.sum(), mass / mass.sum()
        values, axes = torch.linalg.eigh(gram - mass.sum() * torch.outer(centre, centre))
        return cls(values.clamp(min=0), axes, axes.T @ (sums.T - torch.outer(centre, mass)), centre, prior)

    def solve(self, penalty: float) -> tuple[Tensor, Tensor]:
        """Return weight (classes, width) and bias (classes,), float32; the penalty is in mean eigenvalues of XᵀX."""
        level = float(self.values.mean()) or 1.0
        weight = self.axes @ (self.target / (self.values + penalty * level)[:, None])  # (width, classes)
        bias = self.prior - self.centre @ weight
        return weight.T.float().contiguous(), bias.float()
