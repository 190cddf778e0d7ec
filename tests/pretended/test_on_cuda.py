"""The pretended CUDA device itself: it computes what a CPU does, under a GPU's rules."""

from __future__ import annotations

import pytest
import torch
from pretended_device import pretended, without_kernel


def test_it_computes_with_gradients_and_counts_what_is_copied_and_waited_for() -> None:
    weights = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    with pretended() as device:
        x = weights.to("cuda").requires_grad_()
        (x @ x.T).square().sum().backward()
        assert x.grad is not None
        gradient = x.grad.cpu()
        assert (sum(device.to_device.values()), sum(device.to_host.values()), sum(device.waits.values())) == (
            128,
            128,
            1,
        )
        assert device.kernels["mm"] >= 2
        assert device.held >= 256
    plain = weights.requires_grad_()
    (plain @ plain.T).square().sum().backward()
    assert plain.grad is not None
    torch.testing.assert_close(gradient, plain.grad)


def test_it_refuses_tensors_of_two_devices_and_more_than_it_holds() -> None:
    with pretended(limit=1000) as device:
        x = torch.ones(10, device="cuda")
        with pytest.raises(RuntimeError, match="found at least two devices"):
            x + torch.ones(10)
        with pytest.raises(torch.OutOfMemoryError):
            torch.ones(1000, device="cuda")
        assert device.held == 40


def test_autocast_lowers_products_as_on_a_gpu() -> None:
    with pretended(), torch.autocast("cuda", torch.bfloat16):
        x = torch.ones(4, 4, device="cuda")
        assert (x @ x).dtype == torch.bfloat16


def test_it_knows_which_operations_a_backend_lacks() -> None:
    assert without_kernel({"mm", "add.Tensor", "mkldnn_linear"}, "CUDA") == {"mkldnn_linear"}
