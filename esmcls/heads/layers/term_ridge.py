"""Ridge regression onto all classes in one pass over the rows: where the linear head begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from esmcls.heads.whitening import row_blocks
from esmcls.labels.labels import LabelSets
from esmcls.types import Vectors

GROUP_CLASSES = 4096
"""Classes that are solved at a time."""


@dataclass(frozen=True, eq=False)
class TermRidge:
    """The sums that the solution is made of, each over the rows that say something of a group.

    With centred rows X and labels Y the solution is (XᵀX + penalty I)⁻¹ XᵀY. Neither X as float32 nor Y is ever held
    whole.

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
        [_, width], [_, groups] = vectors.shape, known.shape
        gram = torch.zeros(groups, width, width, dtype=torch.float64)
        total = torch.zeros(groups, width, dtype=torch.float64)
        sums = np.zeros((labels.n_classes, width), dtype=np.float32)
        for rows, block in row_blocks(vectors, device):
            prepared = prepare(block).cpu()
            for group in range(groups):
                own = prepared[known[rows, group] > 0]
                gram[group] += (own.T @ own).double()
                total[group] += own.sum(0, dtype=torch.float64)
            some = labels.take(rows)
            ones = np.ones(len(some.codes), dtype=np.float32)
            have = csr_matrix((ones, some.codes, some.offsets), (len(some), labels.n_classes))
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
        weight, bias = torch.zeros_like(self.sums), torch.zeros(len(self.sums))
        for group in range(len(rows)):
            gram = self.gram[group] - rows[group] * torch.outer(centre[group], centre[group])
            level = float(gram.diagonal().mean()) or 1.0
            factor = torch.linalg.cholesky(gram + penalty * level * torch.eye(len(gram), dtype=gram.dtype))
            for part in torch.split(torch.nonzero(self.places == group)[:, 0], GROUP_CLASSES):
                target = self.sums[part].double() - torch.outer(self.counts[part], centre[group])
                found = torch.cholesky_solve(target.T, factor)  # (width, classes)
                weight[part], bias[part] = found.T.float(), -(centre[group] @ found).float()
        return weight, bias
