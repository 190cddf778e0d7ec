"""A tiny encoder of random weights and a labelled set of six families: a fine-tuning of them takes a second."""

from __future__ import annotations

from pathlib import Path

import torch
from relatives import relatives

from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.encoders.weights import save_state

CONFIG = ModelConfig(layers=2, width=16, heads=2)
FAMILIES = 6
PARTS = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2


def tiny_model(seed: int = 0) -> ESM2:
    """Return an ESM-2 of two layers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ESM2(CONFIG)


def write_encoder(path: Path, seed: int = 0) -> Path:
    """Write its weights, with both layers as its default ones."""
    save_state(path, CONFIG, tiny_model(seed).state_dict(), layers=(1, 2))
    return path


def sequences(n: int, seed: int = 0) -> list[str]:
    """Return relatives of the families' ancestors in turn, all of different lengths."""
    found = relatives([row % FAMILIES for row in range(n)], seed)
    return [sequence[: 20 + (7 * row) % 60] for row, sequence in enumerate(found)]


def write_set(path: Path, n: int = 120) -> Path:
    """Write a set as CSV: F0 has more training rows than F1, and so on."""
    lines = ["id,sequence,label,split"]
    for row, sequence in enumerate(sequences(n)):
        family, part = row % FAMILIES, PARTS[row // FAMILIES % len(PARTS)]
        if part != "train" or row // FAMILIES % len(PARTS) < 6 - family // 2:
            lines.append(f"p{row},{sequence},F{family},{part}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
