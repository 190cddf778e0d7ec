"""The two pieces of a layer beside its products and attention, each one kernel where torch.compile can make it one.

Nothing in them depends on where sequences begin, and they take any number of tokens: they are compiled once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.encoders.devices import is_out_of_memory, say

P = ParamSpec("P")
R = TypeVar("R")

SWITCH: Final = "ESMCLS_COMPILE"
"""Set to 0 in the environment, it leaves the pieces as they are."""
OLDEST: Final = (7, 0)
"""Compute capability from which Triton compiles for a device."""
EPSILON: Final = 1e-5
"""Of LayerNorm, as fair-esm's."""


def add_and_norm(x: Tensor, change: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the fp32 residual stream after a change, and its LayerNorm in the dtype of the next product.

    Parameters
    ----------
    x : fp32 tensor, (total, width)
    change : tensor of any dtype, (total, width)
    weight, bias : fp32 tensors, (width,)
    dtype : torch.dtype
    """
    x = x + change
    return x, F.layer_norm(x, weight.shape, weight, bias, EPSILON).to(dtype)


def turn_pairs(mixed: Tensor, cosines: Tensor, sines: Tensor, positions: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn query and key by their positions, in real numbers (Su et al. 2021, eq. 34).

    Parameters
    ----------
    mixed : tensor, (total, 3, heads, head width / 2, 2)
        Query, key and value of each token; the last axis holds the two numbers that are turned together.
    cosines : fp32 tensor, (longest, head width / 2, 1)
        By position.
    sines : fp32 tensor, (longest, head width / 2, 2)
        Below zero for the first of two numbers.
    positions : int32 tensor, (total,)
    dtype : torch.dtype

    Returns
    -------
    tensor, (total, 2, heads, head width / 2, 2)
    """
    pairs = mixed[:, :2].float()
    cosine, sine = (table[positions][:, None, None] for table in (cosines, sines))  # (total, 1, 1, ...)
    return (pairs * cosine + pairs.flip(-1) * sine).to(dtype)


def may_compile(device: torch.device) -> bool:
    """Tell whether the pieces are to be compiled for a device; where its compiler is missing, say so."""
    if device.type != "cuda" or os.environ.get(SWITCH) == "0" or torch.cuda.get_device_capability(device) < OLDEST:
        return False
    if find_spec("triton") is None:
        say("torch.compile needs triton, which is not installed: layers run in more kernels (pip install triton)")
        return False
    return True


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function compiled for any number of tokens; it stays as it is, with a line, if that fails at first."""
    fast: Callable[P, R] = torch.compile(function, dynamic=True, fullgraph=True)
    chosen: list[Callable[P, R]] = []  # the one that has worked

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if chosen:
            return chosen[0](*args, **kwargs)
        try:
            result = fast(*args, **kwargs)
        except Exception as error:  # compilers have many classes of them, and no common one
            if is_out_of_memory(error):
                raise
            reason = str(error).strip().partition("\n")[0]
            say(f"torch.compile fails here ({type(error).__name__}: {reason:.120}): layers run in more kernels")
            chosen.append(function)
            return function(*args, **kwargs)
        chosen.append(fast)
        return result

    return call
