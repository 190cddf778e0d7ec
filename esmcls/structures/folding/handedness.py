"""Which of two mirror images: how four CA atoms in a row turn, as proteins have it.

Distances are the same in a trace and its mirror image; what differs is the sign of the volume (b1 x b2) . b3 of the
three bonds between four neighbours. In a right-handed alpha helix it is near +42 Å³ (a pseudo-dihedral of +50
degrees), in twisted strands it is a little below 0: enough, over a chain, to tell the image of one without helices.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from esmcls.structures.distogram import CENTRES, PairAnswer
from esmcls.types import Indices, Probabilities

THREE_STEPS: Final = (4.6, 5.0, 5.4, 5.8, 6.4, 7.0, 7.8, 8.6, 9.2, 9.8, 10.4)
"""Å: where classes of the distance from the first of four residues to the last end (rows of the table)."""
TWO_STEPS: Final = (5.0, 5.3, 5.6, 6.0, 6.4, 6.8)
"""Å: likewise of the mean of the two distances over two steps (columns)."""
_MEAN: Final = np.array(
    [
        [0, 38, 27, 8, 0, 0, 0],
        [0, 43, 39, 18, 0, 0, 0],
        [0, 46, 42, 27, 0, 0, 0],
        [48, 49, 45, 29, 6, 0, 0],
        [46, 48, 48, 34, 11, 0, 0],
        [0, 38, 44, 42, 12, 2, 0],
        [0, -15, -17, 19, 12, 5, 0],
        [0, -6, -7, -5, -3, -5, -2],
        [0, 0, 2, -3, -8, -29, -9],
        [0, 0, 0, 1, -9, -24, -19],
        [0, 0, 0, 0, -5, -9, -10],
        [0, 0, 0, 0, 0, 0, -3],
    ],
    dtype=np.float64,
)
"""Å³: mean volume of a class, of 9,309 training chains (`benchmarks/folding.py --table`); 0 where it has few."""
_SPREAD: Final = np.array(
    [
        [25, 6, 11, 9, 25, 25, 25],
        [25, 5, 4, 13, 25, 25, 25],
        [25, 11, 7, 17, 25, 25, 25],
        [20, 16, 14, 18, 10, 25, 25],
        [24, 25, 22, 20, 15, 25, 25],
        [25, 38, 33, 28, 19, 10, 25],
        [25, 42, 48, 49, 33, 16, 25],
        [25, 28, 37, 44, 42, 29, 10],
        [25, 25, 12, 22, 33, 24, 18],
        [25, 25, 25, 8, 17, 16, 20],
        [25, 25, 25, 25, 6, 10, 15],
        [25, 25, 25, 25, 25, 25, 9],
    ],
    dtype=np.float64,
)
"""Å³: its standard deviation."""


def expected_volumes(answer: PairAnswer) -> tuple[Indices, Probabilities, Probabilities]:
    """Return what the distances of four neighbours say of their volume.

    Returns
    -------
    starts : int64 array, (turns,)
        The first of each four residues that were seen and follow one another in the chain.
    means, variances : float32 arrays, (turns,)
        Å³ and their squares.
    """
    positions = answer.positions
    starts = np.flatnonzero(positions[3:] - positions[:-3] == 3)
    centres = CENTRES.astype(np.float32)
    two = 0.5 * (answer.distogram[starts, starts + 2] + answer.distogram[starts + 1, starts + 3]) @ centres
    columns = np.digitize(two, TWO_STEPS)
    in_class = np.digitize(CENTRES, THREE_STEPS)[:, None] == np.arange(len(THREE_STEPS) + 1)
    shares = answer.distogram[starts, starts + 3].astype(np.float64) @ in_class
    means = (shares * _MEAN[:, columns].T).sum(1)
    squares = (shares * (np.square(_MEAN) + np.square(_SPREAD))[:, columns].T).sum(1)
    variances = np.maximum(squares - np.square(means), 1.0)
    return starts, means.astype(np.float32), variances.astype(np.float32)
