"""What each residue adds to an output of a head that reads pooled residue vectors.

A mean vector v of residues e_r is a sum, and so is what a head makes of it, once the length that it is brought to is
given. With the mean training vector m, the whitening matrix M and the weights w of the scaled vector u = f (v - m) M:

    output = base + sum over r of s_r f (e_r - m) M w        s_r = 1 / L, f = sqrt(width) / |(v - m) M|, or 1

For a linear head w is its weight, and base its bias: the output of the mean training vector. For any other w is the
mean gradient on the straight way from u = 0 to u (integrated gradients: Sundararajan et al. 2017, arXiv:1703.01365), so
that the sum is the difference of the outputs at its two ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmcls.errors import UsageError
from esmcls.insight.explanation.opened import OpenedHead
from esmcls.types import Floats, Residues

POINTS = (32, 64, 128, 256)
"""Of the integral; doubled until what is left unexplained is small."""
SMALL = 0.005
"""What may be left unexplained, as a share of what there is to explain."""


@dataclass(frozen=True, eq=False)
class Contributions:
    """What residues add to an output.

    Parameters
    ----------
    values : float64 array, (residues seen,)
    base : float
        The output of what the protein is compared with.
    output : float
        That of the protein; `base` and all values add up to it, but for `rest`.
    """

    values: Floats
    base: float
    output: float

    @property
    def rest(self) -> float:
        """What is left unexplained."""
        return self.output - self.base - float(self.values.sum())


def contributions(
    opened: OpenedHead, residues: Residues, column: int, attention: npt.NDArray[np.floating] | None = None
) -> Contributions:
    """Return what each residue adds to one output of a head.

    Parameters
    ----------
    opened : OpenedHead
    residues : float array, (residues seen, width)
    column : int
        Which of the outputs.
    attention : float array, (width,), optional
        Weights of a residue's score, for a head that reads vectors that are pooled by it.

    Raises
    ------
    UsageError
        If the head reads vectors that are no sum over residues.

    Examples
    --------
    >>> head = OpenedHead(torch.zeros(2).double(), torch.ones(2).double(), False, lambda u: u[:, :1] + 5, True, "mean")
    >>> found = contributions(head, np.array([[1.0, 0.0], [3.0, 9.0]]), 0)
    >>> found.values.tolist(), found.base, found.output
    ([0.5, 1.5], 5.0, 7.0)
    """
    vectors = torch.from_numpy(np.asarray(residues, dtype=np.float64))  # (residues, width)
    shares = pooled_shares(vectors, opened.pooling, attention)
    mean = (shares * vectors).sum(0)  # (width,)
    scaled = opened.scaled(mean[None])
    weights, base, output = gradient_to(opened, scaled, column)
    direction = opened.factor(mean) * opened.back(weights)  # (width,)
    values = (shares * (vectors - opened.mean)) @ direction
    return Contributions(values.numpy(), base, output)


def pooled_shares(vectors: Tensor, pooling: str, attention: npt.NDArray[np.floating] | None = None) -> Tensor:
    """Return how much of each residue is in a pooled vector: (residues, 1), or (residues, width) for max.

    Raises
    ------
    UsageError
        If a pooled vector is no sum over residues.
    """
    if pooling == "mean":
        return torch.full((len(vectors), 1), 1 / len(vectors), dtype=torch.float64)
    if pooling == "max":
        return torch.zeros_like(vectors).scatter_(0, vectors.argmax(0)[None], 1.0)
    if pooling == "attention" and attention is not None:
        return (vectors @ torch.from_numpy(attention.astype(np.float64))).softmax(0)[:, None]
    raise UsageError(
        f"the model reads vectors of the pooling {pooling}, which are no sum over residues; explain one that reads "
        "mean, max or attention, or take the way through its encoder (--method gradients)"
    )


def gradient_to(opened: OpenedHead, scaled: Tensor, column: int) -> tuple[Tensor, float, float]:
    """Return the mean gradient (dims,) on the way from 0 to a scaled row (1, dims), and the outputs at both ends."""
    with torch.no_grad():
        ends = opened.outputs(torch.cat([torch.zeros_like(scaled), scaled]))[:, column]
    base, output = ends.tolist()
    for points in (1,) if opened.linear else POINTS:
        places, weights = legendre(points)
        on_the_way = (places[:, None] * scaled).requires_grad_()
        [gradients] = torch.autograd.grad(opened.outputs(on_the_way)[:, column].sum(), on_the_way)
        mean = (weights[:, None] * gradients).sum(0)
        if abs(output - base - float(mean @ scaled[0])) <= SMALL * abs(output - base):
            break
    return mean, base, output


def legendre(points: int) -> tuple[Tensor, Tensor]:
    """Return places and weights, float64 (points,), of the Gauss-Legendre rule on the way from 0 to 1.

    Examples
    --------
    >>> places, weights = legendre(2)
    >>> round(float((weights * places**3).sum()), 6)
    0.25
    """
    places, weights = np.polynomial.legendre.leggauss(points)
    return torch.from_numpy((places + 1) / 2), torch.from_numpy(weights / 2)
