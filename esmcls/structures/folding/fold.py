"""A trace of CA atoms from what a head says of the pairs of residues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from esmcls.structures.distogram import PairAnswer
from esmcls.structures.folding.descent import Loss, descend
from esmcls.structures.folding.restraints import Restraints
from esmcls.structures.folding.scaling import start_places
from esmcls.types import Coordinates, Floats, Probabilities

STARTS: Final = 3
FIRST_STEPS: Final = 150
LAST_STEPS: Final = 60


@dataclass(frozen=True, eq=False)
class Fold:
    """A predicted structure.

    Parameters
    ----------
    trace : float32 array, (length, 3)
        Å; NaN where the encoder did not see the residue.
    confidence : float32 array, (length,)
        Predicted lDDT of each residue in [0, 1]; NaN likewise.
    loss : float
        A residue, of the start that was chosen.
    """

    trace: Coordinates
    confidence: Probabilities
    loss: float


def fold(answer: PairAnswer, *, starts: int = STARTS, seed: int = 0, device: str = "cpu") -> Fold:
    """Fold a protein: the trace that the distances between its residues make likeliest.

    Parameters
    ----------
    answer : PairAnswer
    starts : int
        Tries, of which the best by its loss is taken; the first is always the same.
    seed : int
        Decides the other starts.
    device : str
        Of torch.
    """
    trace = np.full((answer.length, 3), np.nan, dtype=np.float32)
    confidence = np.full(answer.length, np.nan, dtype=np.float32)
    confidence[answer.positions] = answer.confidence
    if len(answer.positions) == 0:
        return Fold(trace, confidence, 0.0)
    loss = Loss(Restraints.of(answer), device)
    rng = np.random.default_rng(seed)
    tries = [_tried(answer, loss, None if number == 0 else rng) for number in range(starts)]
    places, least = min(tries, key=lambda pair: pair[1])
    trace[answer.positions] = places - places.mean(0)
    return Fold(trace, confidence, least)


def _tried(answer: PairAnswer, loss: Loss, rng: np.random.Generator | None) -> tuple[Floats, float]:
    """Return the better of a start and its mirror image, and its loss."""
    places, _ = descend(loss, start_places(answer, rng), FIRST_STEPS, handed=False)
    images = [descend(loss, image, LAST_STEPS, handed=True) for image in (places, places * [1, 1, -1])]
    return min(images, key=lambda pair: pair[1])
