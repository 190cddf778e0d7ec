"""The optimisers of fine-tuning: AdamW, with states of 8 bits where memory is short."""

from __future__ import annotations

import importlib
from typing import Any, Final

import torch
from torch import nn

from esmcls.errors import MissingExtraError, UnknownNameError, UsageError

OPTIMIZERS: Final = ("adamw", "adamw8bit")


def parameter_groups(
    encoder: nn.Module, out: nn.Module, *, weight_decay: float, out_scale: float
) -> list[dict[str, Any]]:
    """Return the trained parameters in groups: matrices decay, biases and LayerNorm do not.

    Parameters
    ----------
    encoder, out : Module
        Encoder and output layer.
    weight_decay : float
    out_scale : float
        Learning rate of the output layer, as a multiple of the encoder's.
    """
    groups = []
    for module, scale in ((encoder, 1.0), (out, out_scale)):
        trained = [value for value in module.parameters() if value.requires_grad]
        for matrix, decay in ((True, weight_decay), (False, 0.0)):
            chosen = [value for value in trained if (value.ndim > 1) == matrix]
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "lr_scale": scale})
    return groups


def check_optimizer(name: str, device: torch.device) -> None:
    """Make sure that an optimiser can be had, before anything takes time.

    Raises
    ------
    UnknownNameError
        If there is no such optimiser.
    UsageError
        If the device cannot have it.
    MissingExtraError
        If bitsandbytes is not installed.
    """
    if name not in OPTIMIZERS:
        raise UnknownNameError("optimizer", name, OPTIMIZERS)
    if name == "adamw":
        return
    if device.type != "cuda":
        raise UsageError(f"optimizer adamw8bit needs a CUDA device, not {device.type}; use --optimizer adamw")
    try:
        importlib.import_module("bitsandbytes.optim")
    except ImportError:
        raise MissingExtraError("optimizer adamw8bit", "bitsandbytes", "finetune") from None


def make_optimizer(name: str, groups: list[dict[str, Any]], lr: float, device: torch.device) -> torch.optim.Optimizer:
    """Return an optimiser by its name.

    Parameters
    ----------
    name : {"adamw", "adamw8bit"}
    groups : list of dict
        From `parameter_groups`.
    lr : float
    device : torch.device
        Where the parameters are.

    Raises
    ------
    UnknownNameError, UsageError, MissingExtraError
        As `check_optimizer`.

    References
    ----------
    Dettmers et al. 2021, arXiv:2110.02861 (states of 8 bits).
    """
    check_optimizer(name, device)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=device.type == "cuda")
    from bitsandbytes.optim import AdamW8bit

    optimizer: torch.optim.Optimizer = AdamW8bit(groups, lr=lr)
    return optimizer
