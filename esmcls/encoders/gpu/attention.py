"""Attention within all sequences of a packed stream in one call, by the kernel that a CUDA device has for it.

Flash attention (Dao 2023, arXiv:2307.08691) is for fp16 and bf16 from compute capability 8.0 on; the memory-efficient
one of xFormers, which torch holds too, for the older devices and for fp32. Where torch was built with neither, or a
head's width fits neither, each sequence is a call of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor
from torch.backends.cuda import SDPAParams

AttentionKernel: TypeAlias = Literal["flash", "efficient", "each"]
"""Of a stream: one call of either kernel, or a call for each sequence."""
StreamAttention: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]
"""Query, key, value, (total, heads, head width), offsets and the longest in; (total, heads, head width) out."""
WIDTH_MULTIPLE: Final = 8
"""Numbers of a head's row must fill 16 bytes in half precision (flash_api.cpp, `mha_varlen_fwd`)."""
WIDEST: Final = 256
"""Head width of the flash attention that torch holds."""
_NO_MASK: Final = 0
"""`custom_mask_type` of `_efficient_attention_forward` (attention.cu)."""


def choose_attention(heads: int, head_width: int, dtype: torch.dtype, device: torch.device) -> AttentionKernel:
    """Return the kernel for streams of so many heads on a device.

    Parameters
    ----------
    heads, head_width : int
    dtype : torch.dtype
        Of query, key and value.
    device : torch.device
        Of CUDA; any other has no kernel for streams.
    """
    if device.type != "cuda" or head_width % WIDTH_MULTIPLE:
        return "each"
    newer = torch.cuda.get_device_capability(device) >= (8, 0)
    built = torch.backends.cuda.is_flash_attention_available()
    if newer and built and head_width <= WIDEST and dtype in (torch.float16, torch.bfloat16):
        return "flash"
    rows = torch.empty(1, heads, WIDTH_MULTIPLE, head_width, dtype=dtype, device=device)
    asked = SDPAParams(rows, rows, rows, None, 0.0, False, False)
    return "efficient" if torch.backends.cuda.can_use_efficient_attention(asked) else "each"


def attend_flash(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, longest: int, scale: float | None = None
) -> Tensor:
    """Attend within each sequence; (total, heads, head width) in and out.

    Parameters
    ----------
    query, key, value : fp16 or bf16 tensors, (total, heads, head width)
    offsets : int32 tensor, (sequences + 1,)
    longest : int
        Tokens of the longest sequence.
    scale : float, optional
        Of the scores; default one over the root of the head width.
    """
    from torch.nn.attention.varlen import varlen_attn

    mixed = varlen_attn(query, key, value, offsets, offsets, longest, longest, scale=scale)
    assert isinstance(mixed, Tensor)
    return mixed


def attend_efficiently(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, longest: int, scale: float | None = None
) -> Tensor:
    """Attend as `attend_flash` does, in fp32, fp16 or bf16, on devices of any age."""
    mixed: Tensor = torch.ops.aten._efficient_attention_forward(
        query[None],
        key[None],
        value[None],
        None,  # bias
        offsets,
        offsets,
        longest,
        longest,
        0.0,  # dropout
        _NO_MASK,
        torch.is_grad_enabled() and query.requires_grad,  # the log-sum-exp is for the backward pass
        scale=scale,
    )[0]
    return mixed[0]


def stream_attention(query: Tensor) -> StreamAttention | None:
    """Return what attends within all sequences of such a query's stream in one call; None where nothing does."""
    kernel = choose_attention(query.shape[1], query.shape[2], query.dtype, query.device)
    return {"flash": attend_flash, "efficient": attend_efficiently, "each": None}[kernel]
