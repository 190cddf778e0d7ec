"""What scanners of format 1 recognise windows by: two linear heads, on running means of residues and on windows' means.

No scanner is fitted with them any more: alignments find far more (`docs/scan.md`). Folders that hold them are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.heads.layers.linear import LinearHead
from esmcls.scanning.heads.grid import (
    MEASURES,
    Lengths,
    best_windows,
    means,
    measures,
    moved,
    running_means,
    sums_from_start,
)
from esmcls.scanning.windows import Windows
from esmcls.types import Floats, Indices, Vectors

LEAST_PROBABILITY: Final = 1e-6


@dataclass(frozen=True)
class HeadConfig:
    """How heads look at proteins.

    Parameters
    ----------
    smooth : int
        Residues whose mean vector stands for the middle one, odd. When to change: domains are as short as that.
    stride : int
        Residues from one window to the next; ends are then moved to where they fit best. When to change: speed.
    lengths : int
        How many lengths of windows are tried. When to change: families differ more in length than a hundredfold.
    clip : float
        Log odds of a single residue count so much at most.
    """

    smooth: int = 9
    stride: int = 4
    lengths: int = 12
    clip: float = 5.0


@dataclass(frozen=True, eq=False)
class HeadRecogniser:
    """What gives windows and their measures: two linear heads, whose last class is none of these.

    Parameters
    ----------
    residues : LinearHead
        On running means of residue vectors.
    windows : LinearHead
        On mean vectors of windows.
    lengths : Lengths
    config : HeadConfig
    """

    residues: LinearHead
    windows: LinearHead
    lengths: Lengths
    config: HeadConfig

    def candidates(self, vectors: Vectors) -> tuple[Windows, Floats]:
        """Return the windows of a protein that may be domains and their measures, of its residue vectors."""
        wide = vectors.astype(np.float32)
        odds = against_none(self.residues, running_means(wide, self.config.smooth))
        sums = sums_from_start(np.clip(odds, -self.config.clip, self.config.clip))
        whole = sums_from_start(wide)

        def by_residues(starts: Indices, ends: Indices) -> Floats:
            return np.asarray(sums[ends] - sums[starts])

        def by_mean(starts: Indices, ends: Indices) -> npt.NDArray[np.float32]:
            return against_none(self.windows, means(whole, starts, ends).astype(np.float32))

        stride = self.config.stride
        best = [best_windows(scores, len(wide), self.lengths, stride) for scores in (by_residues, by_mean)]
        windows = Windows.united(best)
        windows = Windows.united([windows, moved(sums, windows, stride)])
        if not len(windows):
            return windows, np.zeros((0, MEASURES))
        of_means = by_mean(windows.starts, windows.ends)[np.arange(len(windows)), windows.codes]
        return windows, measures(sums, windows, self.lengths, of_means.astype(np.float64))


def against_none(head: LinearHead, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the log odds of each family against none of these, the head's last class, (rows, families)."""
    logs = np.log(np.maximum(head.predict_proba(Features.from_arrays(rows)), LEAST_PROBABILITY))
    return np.asarray(logs[:, :-1] - logs[:, -1:])
