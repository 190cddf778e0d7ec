"""Synthetic families: mutated copies of one random ancestor a class, which an alignment tells apart."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

RESIDUES = list("ACDEFGHIKLMNPQRSTVWY")


def ancestors(classes: int, length: int = 80) -> list[str]:
    """Return one random sequence a class; asking for more classes changes none of the first."""
    rng = np.random.default_rng(17)
    return ["".join(rng.choice(RESIDUES, length)) for _ in range(classes)]


def relatives(codes: Iterable[int], seed: int, mutated: float = 0.3) -> list[str]:
    """Return a copy of each class's ancestor with a share of its residues drawn anew."""
    codes, rng = list(codes), np.random.default_rng(seed)
    first = ancestors(max(codes, default=-1) + 1)
    return ["".join(rng.choice(RESIDUES) if rng.random() < mutated else one for one in first[code]) for code in codes]
