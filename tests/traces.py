"""CA traces that can be drawn by hand: helices, straight and with a hinge."""

from __future__ import annotations

import numpy as np

from esmcls.types import Coordinates


def helix(residues: int) -> Coordinates:
    """Return the CA trace of an ideal helix: 100° and 1.5 Å a residue, 2.3 Å from its axis."""
    turn = np.radians(100) * np.arange(residues)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(residues)], axis=1).astype(np.float32)


def hinged(residues: int, at: int, degrees: float) -> Coordinates:
    """Return the same helix whose part from residue `at` on is turned about the first axis through that residue."""
    trace = helix(residues)
    angle = np.radians(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    trace[at:] = (trace[at:] - trace[at]) @ turn.T + trace[at]
    return trace


def wandering(residues: int, seed: int = 0) -> Coordinates:
    """Return a chain of 3.8 Å steps in directions by chance."""
    steps = np.random.default_rng(seed).normal(size=(residues, 3))
    return np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0).astype(np.float32)
