"""Traces that can be drawn by hand, and the sharp distograms of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from esmcls.cache.features import Features
from esmcls.structures.distogram import CENTRES, PairAnswer, distances
from esmcls.types import Coordinates


def helix(residues: int) -> Coordinates:
    """Return a right-handed alpha helix: radius 2.3 Å, rise 1.5 Å and 100 degrees a residue."""
    turn = np.radians(100) * np.arange(residues)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(residues)], axis=1).astype(np.float32)


def hairpin(residues: int) -> Coordinates:
    """Return two such helices side by side, of opposite directions, and a loop of five between them."""
    up = helix(residues)
    down = helix(residues)[:, [0, 2, 1]] * [1, -1, 1]  # turned by a quarter about x, twice with the next line
    down = down[:, [0, 2, 1]] * [1, -1, 1] + [10, 0, up[-1, 2]]
    share = np.linspace(0, 1, 7)[1:-1, None]
    loop = (1 - share) * up[-1] + share * down[0] + np.sin(np.pi * share) * [0, 0, 7]
    return np.concatenate([up, loop, down]).astype(np.float32)


def sharp(trace: Coordinates, length: int | None = None, first: int = 0) -> PairAnswer:
    """Return what a head that knows a trace says: each distance within 0.3 Å, confidence from 1 down to 0.

    Parameters
    ----------
    trace : float32 array, (residues, 3)
    length, first : int
        Of the whole protein, and the position of the trace's first residue in it.
    """
    wide = np.minimum(distances(trace)[:, :, None], CENTRES[-1])
    weights = np.exp(-0.5 * np.square((CENTRES - wide) / 0.3))
    distogram = (weights / weights.sum(2, keepdims=True)).astype(np.float32)
    positions = np.arange(first, first + len(trace), dtype=np.int64)
    confidence = np.linspace(1, 0, len(trace), dtype=np.float32)
    return PairAnswer(positions, distogram, confidence, first + len(trace) if length is None else length)


class HelixHead:
    """A head of structures that holds all proteins for helices; the first residue of each was not seen."""

    reads_vectors = False
    classes: tuple[str, ...] = ()

    def per_protein(self, x: Features) -> Iterator[PairAnswer]:
        """Say so of each protein."""
        for sequence in x.sequences:
            yield sharp(helix(len(sequence) - 1), first=1)
