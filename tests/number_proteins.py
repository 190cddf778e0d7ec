"""Proteins with a number that can be told by eye: how many of their residues are lysine, and a little noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

PARTS = ("train",) * 60 + ("validation",) * 20 + ("test",) * 30


def rows(seed: int = 0) -> list[tuple[str, str, str, str]]:
    """Return id, sequence, number and part of 110 proteins, all different."""
    random = np.random.default_rng(seed)
    proteins = []
    for number, part in enumerate(PARTS):
        lysines = int(random.integers(0, 25))
        letters = ["K"] * lysines + ["A"] * (30 - lysines)
        random.shuffle(letters)
        value = 20 + 1.5 * lysines + 0.3 * random.normal()
        proteins.append(
            (f"p{number}", f"M{''.join(letters)}{'DEST'[number % 4] * (1 + number // 4)}", f"{value:.2f}", part)
        )
    return proteins


def write_numbers(path: Path, seed: int = 0) -> Path:
    """Write them as CSV."""
    lines = ["id,sequence,target,split", *(",".join(row) for row in rows(seed))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
