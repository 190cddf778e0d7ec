"""Stands in for CUDA graphs on a pretended device: what is captured is recorded, and replayed on the same buffers.

As on a device, nothing is computed while a region is captured, so that what it returns holds no values until it is
replayed; and what would need them then, or the host's, is refused: a synchronisation, a copy from or to the host. What
a graph reads from outside must still be there when it is replayed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pretended_device
import pytest
import torch
from pretended_device import OnDevice, Pretended, current, leaves, mapped
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class _Outside:
    """A tensor that a graph reads and has not made: its memory is where it was, if anybody holds it still."""

    def __init__(self, tensor: OnDevice) -> None:
        self.values = tensor.values

    def there(self) -> OnDevice:
        storage = self.values.untyped_storage()
        if storage.nbytes() and storage.data_ptr() not in pretended_device._held:
            raise RuntimeError("CUDA error: an illegal memory access was encountered (pretended)")
        return OnDevice(self.values)


class Captured(TorchDispatchMode):
    """A `torch.cuda.CUDAGraph`, and the mode that records it."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []  # what is called with what, and what it gave
        self.made: dict[int, OnDevice] = {}
        self.pools: object = None
        self.stream: object = None

    def pool(self) -> object:
        return self.pools

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [value for value in leaves((args, kwargs)) if isinstance(value, Tensor)]
        asked = kwargs.get("device")
        if not any(isinstance(tensor, OnDevice) for tensor in tensors) and asked is None:
            return func(*args, **kwargs)
        if any(not isinstance(tensor, OnDevice) and tensor.dim() for tensor in tensors):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func} reads the host's values")
        if asked is not None and torch.device(asked).type == "cpu":
            raise RuntimeError(f"operation not permitted when stream is capturing: {func} copies to the host")
        result = func(*args, **kwargs)
        if not func.is_view:
            reads = mapped(self._read, (args, kwargs))
            self.operations.append((func, *reads, result))
        self.made.update((id(value), value) for value in leaves(result) if isinstance(value, OnDevice))
        return result

    def _read(self, value: Any) -> Any:
        return _Outside(value) if isinstance(value, OnDevice) and id(value) not in self.made else value

    def forget(self) -> None:
        """Leave no values in what was made: the device has computed nothing yet."""
        for _, _, _, result in self.operations:
            for value in leaves(result):
                if isinstance(value, OnDevice) and value.dtype.is_floating_point:
                    value.values.fill_(torch.nan)

    def replay(self) -> None:
        with uncounted(current()):
            for func, args, kwargs, result in self.operations:
                given = mapped(lambda value: value.there() if isinstance(value, _Outside) else value, (args, kwargs))
                again = func(*given[0], **given[1])
                for value, other in zip(leaves(result), leaves(again), strict=True):
                    if isinstance(value, OnDevice):
                        value.values.copy_(other.values)
        current().kernels["graph"] += 1


@contextmanager
def uncounted(device: Pretended) -> Iterator[None]:
    """Count no kernels: a graph has them launched by the device."""
    before = device.kernels.copy(), device.bytes.copy()
    try:
        yield
    finally:
        device.kernels, device.bytes = before


def give_graphs(device: Pretended, monkeypatch: pytest.MonkeyPatch) -> list[Captured]:
    """Have them on the device for the length of a test; returned is the list of those that are captured."""
    captured: list[Captured] = []

    def refuse(name: str) -> None:
        raise RuntimeError(f"operation not permitted when stream is capturing: {name} synchronises")

    @contextmanager
    def capture(
        graph: Captured, pool: object = None, stream: object = None, capture_error_mode: str = "global"
    ) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        graph.stream = stream
        graph.pools = object() if pool is None else pool
        with uncounted(device), monkeypatch.context() as patch:
            patch.setattr(device, "synchronised", refuse)
            with graph:
                yield
        graph.forget()
        captured.append(graph)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Captured)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: SimpleNamespace(device=device))
    return captured
