"""A fair-esm model with random weights: the reference that parity tests compare with."""

from __future__ import annotations

from collections.abc import Sequence

import esm
import numpy as np
import torch
from torch import Tensor

from esmcls.encoders.alphabet import BOS, EOS, PAD
from esmcls.encoders.model import ModelConfig

CONFIG = ModelConfig(layers=2, width=32, heads=4)
ALPHABET = esm.data.Alphabet.from_architecture("ESM-1b")
ALL_TOKENS = [token for token in range(33) if token != PAD]
"""All but `<pad>`, which fair-esm hides from attention and a packed stream does not have."""
SEQUENCES = ["M", "MKTAYIAKQR", "LAGVSERTIDPKQNFYMHWCXBUZO", "GG", "MKTAYIAKQX"]


def random_fair_esm(config: ModelConfig = CONFIG, seed: int = 0) -> esm.ESM2:
    """Return fair-esm's ESM-2 with every parameter random: LayerNorm's defaults would hide two that are swapped."""
    torch.manual_seed(seed)
    model = esm.ESM2(config.layers, config.width, config.heads, ALPHABET, config.token_dropout)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_norm" in name:
                parameter.normal_(mean=float(name.endswith("weight")), std=0.3)
            elif name.endswith("bias"):
                parameter.normal_(std=0.3)
    return model.eval()


def canonical(model: esm.ESM2) -> dict[str, Tensor]:
    """Return its canonical state."""
    left_out = ("lm_head.", "contact_head.")
    state = model.state_dict()
    return {name: state[name] for name in state if not name.startswith(left_out)}


def reference(model: esm.ESM2, tokens: Sequence[Sequence[int]], layers: Sequence[int]) -> list[dict[int, Tensor]]:
    """Return each sequence's states by fair-esm in a padded batch, layer -> (tokens, width)."""
    longest = max(map(len, tokens))
    padded = torch.tensor([[*one, *[PAD] * (longest - len(one))] for one in tokens])
    with torch.no_grad():
        states = model(padded, repr_layers=layers)["representations"]
    return [{layer: states[layer][row, : len(one)] for layer in layers} for row, one in enumerate(tokens)]


def random_tokens(length: int, seed: int = 0) -> list[int]:
    """Return BOS, `length` random tokens without `<mask>`, and EOS."""
    usable = [token for token in ALL_TOKENS if token != 32]
    return [BOS, *np.random.default_rng(seed).choice(usable, length).tolist(), EOS]
