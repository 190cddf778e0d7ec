"""Products of one input with several matrices as one, and with the low-rank changes that LoRA trains beside them.

    x ──▶ W_q | W_k | W_v ──▶ q | k | v        one product, whose input is rounded to bf16 once
    x ──▶ A_q | A_k | A_v ──▶ inner ──▶ B      added to it in place, B block-diagonal

Source: Hu et al. 2021, arXiv:2106.09685.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Adapted(nn.Linear):
    """A linear layer that stays as it is, and a change of it that is trained: x W^T + b + scale (x A^T) B^T.

    Parameters
    ----------
    layer : Linear
        Whose weight and bias it takes over.
    rank : int
        Of the change, which is zero at first: A is drawn, B is 0.
    scale : float
    """

    def __init__(self, layer: nn.Linear, rank: int, scale: float) -> None:
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.scale = scale
        self.lora_A = nn.Parameter(torch.empty(rank, layer.in_features))
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, math.sqrt(5))  # as nn.Linear, and peft, draw it

    def forward(self, x: Tensor) -> Tensor:
        """Return the changed product, (total, out)."""
        return joint_product(x, [self])


def joint_product(x: Tensor, layers: Sequence[nn.Linear]) -> Tensor:
    """Return what several linear layers make of one input, side by side.

    Parameters
    ----------
    x : tensor, (total, width)
    layers : sequence of Linear
        Each with a bias, some of them perhaps `Adapted`, all with one scale.

    Returns
    -------
    tensor, (total, sum of the layers' widths)
        In the dtype of autocast, where that is on.
    """
    weight, bias = _rows([layer.weight for layer in layers]), _rows([layer.bias for layer in layers])
    adapted = [layer for layer in layers if isinstance(layer, Adapted)]
    if not adapted:
        return F.linear(x, weight, bias)
    down = _rows([layer.lora_A for layer in adapted])  # (ranks, width)
    ups = [layer.lora_B if isinstance(layer, Adapted) else down.new_zeros(layer.out_features, 0) for layer in layers]
    up = ups[0] if len(ups) == 1 else torch.block_diag(*ups)  # type: ignore[no-untyped-call]  # (widths, ranks)
    parts, dtype = (x, weight, bias, down, up), product_dtype(x)
    changed: Tensor = _LowRankChange.apply(*(part.to(dtype) for part in parts), adapted[0].scale)  # type: ignore[no-untyped-call]
    return changed


def _rows(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype that a product of this input is computed in: autocast's where that is on, else its own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class _LowRankChange(torch.autograd.Function):
    """x W^T + b + scale (x A^T) B^T, of which x, A and B have gradients; all of one dtype."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        inner = x @ down.T  # (total, ranks)
        ctx.save_for_backward(x, weight, down, up, inner)
        ctx.scale = scale
        return torch.addmm(bias, x, weight.T).addmm_(inner, up.T, alpha=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        x, weight, down, up, inner = ctx.saved_tensors
        of_inner = _scaled_product(gradient, up, ctx.scale)
        of_x = (gradient @ weight).addmm_(of_inner, down) if ctx.needs_input_grad[0] else None
        return of_x, None, None, of_inner.T @ x, _scaled_product(gradient.T, inner, ctx.scale), None


def _scaled_product(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """Return scale times a product, by one kernel."""
    return torch.addmm(left.new_empty(()), left, right, beta=0, alpha=scale)
