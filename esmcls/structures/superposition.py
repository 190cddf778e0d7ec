"""Lay one trace on another: the rotation and shift that make the squared distances of matched atoms least."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from esmcls.metrics.structures.superposition import best_rotation
from esmcls.types import Coordinates, Floats


@dataclass(frozen=True, eq=False)
class Superposition:
    """How one trace is laid on another.

    Parameters
    ----------
    rotation : float64 array, (3, 3)
        Proper: no mirror image.
    translation : float64 array, (3,)
        Å.
    rmsd : float
        Å, over the residues that both have.
    """

    rotation: Floats
    translation: Floats
    rmsd: float

    def apply(self, trace: Coordinates) -> Coordinates:
        """Return a trace moved, float32 (residues, 3)."""
        return np.asarray(trace @ self.rotation.T + self.translation, dtype=np.float32)


def superpose(mobile: Coordinates, fixed: Coordinates, weights: Floats | None = None) -> Superposition:
    """Find how to lay `mobile` on `fixed`, residue i on residue i; see `best_rotation`.

    Parameters
    ----------
    mobile, fixed : float32 arrays, (residues, 3)
        Å; a residue that is NaN in one of them is left out.
    weights : float64 array, (residues,), optional
        How much each residue counts; default all alike.

    Raises
    ------
    ValueError
        If the traces differ in length, or have no residue in common.

    Examples
    --------
    >>> square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=np.float32)
    >>> turned = square[:, [1, 0, 2]] * [-1, 1, 1] + 5
    >>> superposition = superpose(turned, square)
    >>> round(superposition.rmsd, 5), bool(np.allclose(superposition.apply(turned), square, atol=1e-5))
    (0.0, True)
    """
    if mobile.shape != fixed.shape:
        raise ValueError(f"traces of {len(mobile)} and {len(fixed)} residues cannot be laid one on the other")
    share = np.ones(len(fixed)) if weights is None else np.asarray(weights, dtype=np.float64)
    known = ~np.isnan(mobile).any(1) & ~np.isnan(fixed).any(1) & (share > 0)
    if not known.any():
        raise ValueError("the traces have no residue in common")
    share = share[known] / share[known].sum()
    moved, target = mobile[known].astype(np.float64), fixed[known].astype(np.float64)
    centre, aim = share @ moved, share @ target
    rotation = best_rotation((moved - centre).T @ ((target - aim) * share[:, None])).T
    differences = (moved - centre) @ rotation.T + aim - target
    rmsd = float(np.sqrt(share @ np.square(differences).sum(1)))
    return Superposition(rotation, aim - rotation @ centre, rmsd)
