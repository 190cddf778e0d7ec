"""What is run on one of Apple's GPUs, on a pretended one: it has no float64."""

from __future__ import annotations

import pytest
import torch
from pretended_device import pretended


def test_it_refuses_float64() -> None:
    with pretended():
        x = torch.ones(4, device="mps").requires_grad_()
        (x * x).sum().backward()
        assert x.grad is not None
        assert x.grad.cpu().tolist() == [2.0] * 4
        with pytest.raises(TypeError, match="no float64"):
            x.double()
        with pytest.raises(TypeError, match="no float64"):
            torch.ones(4, dtype=torch.float64).to("mps")
