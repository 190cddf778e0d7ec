"""What follows from all atoms of a chain: relative accessibility to solvent, and DSSP's states by mkdssp."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

import numpy as np

from esmcls.reading.structures.residues import ResidueAtoms
from esmcls.reading.structures.sequences import Placed
from esmcls.types import Floats

if TYPE_CHECKING:
    from biotite.structure import AtomArray

LARGEST: Final = dict(
    zip(
        "ARNDCQEGHILKMFPSTWYV",
        (129, 274, 195, 193, 167, 225, 223, 104, 224, 197, 201, 236, 224, 240, 159, 155, 172, 285, 263, 174),
        strict=True,
    )
)
"""Å²: the largest surface of an amino acid X in Gly-X-Gly, Tien et al. 2013, doi:10.1371/journal.pone.0080635, table 1,
theoretical."""
HEAVY_ATOMS: Final = dict(
    zip("ARNDCQEGHILKMFPSTWYV", (5, 11, 8, 8, 6, 9, 9, 4, 10, 8, 8, 9, 8, 11, 7, 6, 7, 14, 12, 7), strict=True)
)
"""Atoms of a residue without hydrogens: with fewer, its surface says nothing."""
DSSP: Final = "mkdssp"


def relative_accessibility(atoms: AtomArray, residues: ResidueAtoms, placed: Placed) -> Floats | None:
    """Return the surface of each residue of the sequence in percent of the largest; None without side chains.

    The chain stands alone, as a model of its sequence sees it: what other chains cover counts as surface. A residue
    that lacks atoms is NaN.
    """
    from biotite.structure import sasa

    heavy = ~np.isin(atoms.element, ["H", "D"])
    whole = np.bincount(residues.of_atom[heavy], minlength=len(residues.names)) >= np.array(
        [HEAVY_ATOMS.get(letter, 99) for letter in residues.letters]
    )
    if not whole.any():
        return None
    heavy_atoms = atoms[heavy]
    try:
        of_atoms = sasa(heavy_atoms, vdw_radii="ProtOr")
    except (KeyError, ValueError):  # an atom that has no radius there
        of_atoms = sasa(heavy_atoms, vdw_radii="Single")
    surface = np.bincount(residues.of_atom[heavy], weights=np.nan_to_num(of_atoms), minlength=len(residues.names))
    accessibility = np.full(len(placed.sequence), np.nan)
    for row in np.flatnonzero(whole & (placed.places >= 0)).tolist():
        accessibility[placed.places[row]] = 100 * surface[row] / LARGEST[residues.letters[row]]
    return accessibility


def states_by_dssp(atoms: AtomArray, residues: ResidueAtoms, placed: Placed) -> str | None:
    """Return the DSSP state of each residue of the sequence, `?` where it has none; None where mkdssp gives none."""
    from biotite.application.dssp import DsspApp

    if shutil.which(DSSP) is None:
        return None
    try:
        states = [str(state) for state in DsspApp.annotate_sse(atoms, bin_path=DSSP)]
    except Exception:  # of another program, of any version
        return None
    if len(states) != len(residues.names):
        return None
    signs = ["?"] * len(placed.sequence)
    for place, state in zip(placed.places.tolist(), states, strict=True):
        if place >= 0:
            signs[place] = state if state in "HGIEBTSP" else "C"
    return "".join(signs)
