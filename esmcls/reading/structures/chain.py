"""A protein chain as files of structures have it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from esmcls.types import Coordinates, Floats


@dataclass(frozen=True, eq=False)
class Chain:
    """A protein chain.

    Parameters
    ----------
    id : str
    sequence : str
        Of all residues, those that were not resolved too where the file names them.
    trace : float32 array, (residues, 3)
        CA atoms in Å, NaN where a residue was not resolved.
    ss8 : str, optional
        A DSSP state for each residue (H G I E B T S P, C for none), `?` where it was not resolved.
    accessibility : float64 array, (residues,), optional
        Relative accessibility to solvent in percent, NaN where it is not known.
    resolution : float, optional
        Of the structure, in Å.
    virtual_beta : float32 array, (residues, 3), optional
        Where a CB atom would lie by the residue's N, CA and C, NaN where one of them is missing; None without any.
    """

    id: str
    sequence: str
    trace: Coordinates
    ss8: str | None = None
    accessibility: Floats | None = None
    resolution: float | None = None
    virtual_beta: Coordinates | None = None

    @property
    def resolved(self) -> int:
        """Number of residues with a CA atom."""
        return int((~np.isnan(self.trace[:, 0])).sum())


def virtual_beta(n: Coordinates, ca: Coordinates, c: Coordinates) -> Coordinates:
    """Return where CB atoms of ideal residues would lie, whatever the amino acid, float32 (residues, 3).

    Parameters
    ----------
    n, ca, c : float32 arrays, (residues, 3)
        Å, NaN where an atom is missing.

    References
    ----------
    The factors are those of Dauparas et al. 2022, doi:10.1126/science.add2187 (protein_mpnn_utils.py), as trRosetta's.
    """
    to_ca, to_c = ca - n, c - ca
    across = np.cross(to_ca, to_c)
    return np.asarray(-0.58273431 * across + 0.56802827 * to_ca - 0.54067466 * to_c + ca, dtype=np.float32)
