"""What not every device can do, done as it can: numbers in float64, sums and maxima over segments.

Apple's GPUs have no float64, and torch has no kernel for segments there.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_WITH_SEGMENTS: Final = ("cpu", "cuda")


def widest_float(device: torch.device | str) -> torch.dtype:
    """Return the widest float of a device.

    Examples
    --------
    >>> widest_float("cpu"), widest_float("mps")
    (torch.float64, torch.float32)
    """
    return torch.float32 if torch.device(device).type == "mps" else torch.float64


def doubled(values: Tensor) -> Tensor:
    """Return numbers in float64: where they are, or on the CPU where their device has none."""
    return (values if widest_float(values.device) == torch.float64 else values.cpu()).double()


def segment_sums(values: Tensor, lengths: Tensor) -> Tensor:
    """Return the sum of each segment, in order where torch has it, so that a GPU too gives the same bits each time.

    Parameters
    ----------
    values : float tensor, (total, …)
        Those of a segment side by side.
    lengths : int64 tensor, (segments,)
        Of sum `total`; this is not checked, for which a GPU would have to be waited for.

    Returns
    -------
    float tensor, (segments, …)

    Examples
    --------
    >>> segment_sums(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2, 1])).tolist()
    [3.0, 3.0]
    """
    if values.device.type in _WITH_SEGMENTS:
        return torch.segment_reduce(values, "sum", lengths=lengths, axis=0, unsafe=True)
    sums = values.new_zeros(len(lengths), *values.shape[1:])
    return sums.index_add(0, torch.repeat_interleave(lengths), values)


def segment_largest(values: Tensor, lengths: Tensor) -> Tensor:
    """Return the largest number of each segment, (segments,); see `segment_sums`.

    Examples
    --------
    >>> segment_largest(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2, 1])).tolist()
    [2.0, 3.0]
    """
    if values.device.type in _WITH_SEGMENTS:
        return torch.segment_reduce(values, "max", lengths=lengths, unsafe=True)
    lowest = torch.full((len(lengths),), -torch.inf, dtype=values.dtype, device=values.device)
    return lowest.scatter_reduce(0, torch.repeat_interleave(lengths), values, "amax")
