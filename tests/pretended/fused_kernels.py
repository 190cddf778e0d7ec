"""Stands in for torch.compile on a pretended device: what it joins is one kernel, which reads and writes but once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pretended_device import OnDevice, Pretended
from torch.utils._pytree import tree_leaves

from esmcls.encoders.gpu import fused


def fuse(device: Pretended, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a compiler on the device for the length of a test; its values are those of the function that it is given."""

    def compiled(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            kernels, moved = device.kernels.copy(), device.bytes.copy()
            result = function(*args)
            device.kernels, device.bytes = kernels, moved
            tensors = [value for value in (*args, *tree_leaves(result)) if isinstance(value, OnDevice)]
            device.kernels[function.__name__] += 1
            device.bytes[function.__name__] += sum(one.numel() * one.element_size() for one in tensors)
            return result

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(fused, "find_spec", lambda name: name)
