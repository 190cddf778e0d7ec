"""Products of eight-bit floating-point numbers (e4m3, Micikevicius et al. 2022, arXiv:2209.05433), scaled by row.

Each token and each output channel has a scale of its own, the largest of its numbers over the largest of the format,
so that none overflows. GPUs multiply such rows from compute capability 8.9 on (torch's `_scaled_mm`, row-wise).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.encoders.gpu.fused import add_and_norm

Multiply: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Rounded rows and their scales in, the bf16 product with a weight, plus bias, out."""
FORMAT: Final = torch.float8_e4m3fn
LARGEST: Final = 448.0
"""Of the format."""
MULTIPLE: Final = 16
"""Rows and columns of a weight must be one of this (`_scaled_mm`)."""
FLOWS: Final = torch.bfloat16
"""The dtype between two products: of those that are scaled by row, the one that torch gives."""


def round_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows rounded to e4m3, (rows, width), and the fp32 scale of each, (rows, 1).

    Examples
    --------
    >>> values, scales = round_rows(torch.tensor([[448.0, 1.0, 17.1]]))
    >>> values.float().tolist(), scales.tolist()
    ([[448.0, 1.0, 18.0]], [[1.0]])
    """
    scales = (x.abs().amax(-1, keepdim=True).float() / LARGEST).clamp(min=1e-12)
    return (x.float() / scales).to(FORMAT), scales


def add_norm_and_round(x: Tensor, change: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the fp32 residual stream after a change, and its LayerNorm rounded, with scales; see `add_and_norm`."""
    x, normed = add_and_norm(x, change, weight, bias, FLOWS)
    return x, *round_rows(normed)


def gelu_and_round(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the exact GELU of rows rounded, with scales."""
    return round_rows(F.gelu(x))


class RoundedProduct:
    """The function x -> x weight^T + bias of rounded rows, followed by an exact GELU if asked for.

    Parameters
    ----------
    multiply : function
        With the weight.
    gelu : bool
    """

    def __init__(self, multiply: Multiply, *, gelu: bool) -> None:
        self.multiply = multiply
        self.gelu = gelu

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply rows of any dtype, which are rounded first."""
        y = self.multiply(*round_rows(x))
        return F.gelu(y) if self.gelu else y


def by_the_device(values: Tensor, scales: Tensor, bias: Tensor) -> Multiply:
    """Return the product with a rounded weight, (out, in), that the device computes; sums are in fp32 throughout."""
    across, channels, added = values.t(), scales.t(), bias.to(FLOWS)
    return lambda x, tokens: torch._scaled_mm(x, across, tokens, channels, added, out_dtype=FLOWS)


def emulated(exact: Callable[[Tensor], Tensor], scales: Tensor, bias: Tensor) -> Multiply:
    """Return the same, given the fp32 product with the rounded weight."""
    channels, added = scales.t(), bias.to(FLOWS).float()
    return lambda x, tokens: torch.addcmul(added, exact(x.float()) * channels, tokens).to(FLOWS)


def fits(weight: Tensor) -> bool:
    """Tell whether the device multiplies with a weight of such sizes."""
    return not (weight.shape[0] % MULTIPLE or weight.shape[1] % MULTIPLE)
