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
        A pair of residues, of the trace: -log of how likely its distances are, less than which none can be (0), and
        what a chain demands.
    mirror_loss : float
        That of the best trace of the other hand: the farther above `loss`, the surer is the choice of the image.
    """

    trace: Coordinates
    confidence: Probabilities
    loss: float
    mirror_loss: float


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

    Raises
    ------
    ValueError
        If there is to be no start.
    """
    if starts < 1:
        raise ValueError(f"{starts} starts: there must be one at least")
    trace = np.full((answer.length, 3), np.nan, dtype=np.float32)
    confidence = np.full(answer.length, np.nan, dtype=np.float32)
    confidence[answer.positions] = answer.confidence
    if len(answer.positions) == 0:
        return Fold(trace, confidence, 0.0, 0.0)
    loss = Loss(Restraints.of(answer), device)
    rng = np.random.default_rng(seed)
    tries = [_tried(answer, loss, rng if number else None) for number in range(starts)]
    images = min(tries, key=lambda images: min(least for _, least in images))
    [(places, least), (_, other)] = sorted(images, key=lambda image: image[1])
    trace[answer.positions] = places - places.mean(0)
    return Fold(trace, confidence, least, other)


def _tried(answer: PairAnswer, loss: Loss, rng: np.random.Generator | None) -> list[tuple[Floats, float]]:
    """Return what comes of a start and of its mirror image: places, and their loss."""
    places, _ = descend(loss, start_places(answer, rng), FIRST_STEPS, handed=False)
    return [descend(loss, image, LAST_STEPS, handed=True) for image in (places, places * [1, 1, -1])]
