"""Closed-form ridge regression onto classes: a linear classifier in one pass over the rows.

With centred, scaled rows X and labels Y, ones where a row has a class, the solution is (XᵀX + λI)⁻¹ XᵀY. Neither X as
float32 nor Y is ever held whole: XᵀX is summed over blocks and XᵀY is the sum of the rows of each class.

`Ridge` is for one label a row, with weights of the rows; `TermRidge` for many, each group of classes over the rows that
say something of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmcls.heads.whitening import row_blocks
from esmcls.labels.labels import LabelSets
from esmcls.types import Indices, Vectors

CLASSES_SOLVED = 4096
"""Classes of `TermRidge` that are solved at a time."""


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

    def on(self, device: str) -> Scaling:
        """Return the map with its tensors on a device, for many calls: else each copies them."""
        return Scaling(self.mean.to(device), self.deviation.to(device))


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
        [_, width] = vectors.shape
        weights = torch.from_numpy(factors).double()
        gram = torch.zeros(width, width, dtype=torch.float64)
        sums = torch.zeros(len(factors), width, dtype=torch.float64)  # on the CPU: index_add_ is in order there
        for rows, block in row_blocks(vectors, device):
            block_codes = torch.from_numpy(codes[rows])
            prepared = prepare(block)
            weighted = prepared * weights[block_codes].sqrt().float().to(device)[:, None]
            gram += (weighted.T @ weighted).cpu().double()
            sums.index_add_(0, block_codes, prepared.cpu().double())
        sums = sums * weights[:, None]
        mass = torch.from_numpy(np.bincount(codes, minlength=len(factors))) * weights
        centre = sums.sum(0) / mass.sum()
        prior = mass / mass.sum()
        values, axes = torch.linalg.eigh(gram - mass.sum() * torch.outer(centre, centre))
        return cls(values.clamp(min=0), axes, axes.T @ (sums.T - torch.outer(centre, mass)), centre, prior)

    def solve(self, penalty: float) -> tuple[Tensor, Tensor]:
        """Return weight (classes, width) and bias (classes,), float32; the penalty is in mean eigenvalues of XᵀX."""
        level = float(self.values.mean()) or 1.0
        weight = self.axes @ (self.target / (self.values + penalty * level)[:, None])  # (width, classes)
        bias = self.prior - self.centre @ weight
        return weight.T.float().contiguous(), bias.float()


@dataclass(frozen=True, eq=False)
class TermRidge:
    """The sums that the solution is made of, each over the rows that say something of a group.

    Parameters
    ----------
    gram : float64 tensor, (groups, width, width)
        Xᵀ X of each group's rows, not centred.
    total : float64 tensor, (groups, width)
        Their sum.
    rows : float64 tensor, (groups,)
        Their number.
    sums : float32 tensor, (classes, width)
        The sum of the rows that have each class.
    counts : float64 tensor, (classes,)
        Their number.
    places : int64 tensor, (classes,)
        The group of each class.
    """

    gram: Tensor
    total: Tensor
    rows: Tensor
    sums: Tensor
    counts: Tensor
    places: Tensor

    @classmethod
    def of(
        cls,
        vectors: Vectors,
        labels: LabelSets,
        known: Tensor,
        places: Tensor,
        prepare: Callable[[Tensor], Tensor],
        device: str = "cpu",
    ) -> TermRidge:
        """Sum over the rows in blocks.

        Parameters
        ----------
        vectors : float array, (n, width)
        labels : LabelSets
            Of n rows.
        known : float tensor, (n, groups)
            1 where a row says something of a group.
        places : int64 tensor, (classes,)
        prepare : callable
            Scales a block of rows.
        device : str
        """
        from scipy.sparse import csr_matrix

        [_, width] = vectors.shape
        [_, groups] = known.shape
        gram = torch.zeros(groups, width, width, dtype=torch.float64)
        total = torch.zeros(groups, width, dtype=torch.float64)
        sums = np.zeros((labels.n_classes, width), dtype=np.float32)
        for rows, block in row_blocks(vectors, device):
            prepared = prepare(block).cpu()
            for group in range(groups):
                judged = prepared[known[rows, group] > 0]
                gram[group] += (judged.T @ judged).double()
                total[group] += judged.sum(0, dtype=torch.float64)
            block_labels = labels.take(rows)
            ones = np.ones(len(block_labels.codes), dtype=np.float32)
            have = csr_matrix((ones, block_labels.codes, block_labels.offsets), (len(block_labels), labels.n_classes))
            sums += have.T @ prepared.numpy()
        counts = torch.from_numpy(labels.counts()).double()
        return cls(gram, total, known.sum(0, dtype=torch.float64), torch.from_numpy(sums), counts, places)

    def solve(self, penalty: float) -> tuple[Tensor, Tensor]:
        """Return weight (classes, width) and bias (classes,), float32, that give each row's distance from the mean.

        Parameters
        ----------
        penalty : float
            In mean eigenvalues of XᵀX.
        """
        rows = self.rows.clamp(min=1)
        centre = self.total / rows[:, None]  # (groups, width)
        weight = torch.zeros_like(self.sums)
        bias = torch.zeros(len(self.sums))
        for group in range(len(rows)):
            gram = self.gram[group] - rows[group] * torch.outer(centre[group], centre[group])
            level = float(gram.diagonal().mean()) or 1.0
            factor = torch.linalg.cholesky(gram + penalty * level * torch.eye(len(gram), dtype=gram.dtype))
            for part in torch.split(torch.nonzero(self.places == group)[:, 0], CLASSES_SOLVED):
                target = self.sums[part].double() - torch.outer(self.counts[part], centre[group])
                solution = torch.cholesky_solve(target.T, factor)  # (width, classes)
                weight[part] = solution.T.float()
                bias[part] = -(centre[group] @ solution).float()
        return weight, bias
