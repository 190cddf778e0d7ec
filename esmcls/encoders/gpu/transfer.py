"""Copies between host and device that the host does not wait for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(values: Sequence[int] | Tensor, device: torch.device) -> Tensor:
    """Return int32 numbers on a device: from pinned memory, so that the host goes on while they travel."""
    return _pinned(torch.as_tensor(values, dtype=torch.int32), device).to(device, non_blocking=True)


def refill(numbers: Tensor, values: Tensor) -> None:
    """Overwrite int32 numbers on a device with others of the host, as `to_device` copies them."""
    numbers.copy_(_pinned(values, numbers.device), non_blocking=True)


def _pinned(host: Tensor, device: torch.device) -> Tensor:
    return host.pin_memory() if device.type == "cuda" else host


class HostCopies:
    """Tensors on their way from a CUDA device to pinned memory; reading any of them is right after `wait` alone.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.done: torch.Event | None = None

    def begin(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the host that is being filled with the values of one of the device."""
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return copy.copy_(tensor, non_blocking=True)

    def all_begun(self) -> None:
        """Mark the place in the device's queue that `wait` waits for."""
        self.done = torch.cuda.current_stream(self.device).record_event()

    def wait(self) -> None:
        """Wait until every copy has arrived: the one time that a batch makes the host wait."""
        if self.done is not None:
            self.done.synchronize()
