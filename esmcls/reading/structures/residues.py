"""Residues of the protein chains of biotite's atoms: their names, and where N, CA and C are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from esmcls.types import Coordinates, Indices

if TYPE_CHECKING:
    from biotite.structure import AtomArray

ResidueKey: TypeAlias = tuple[str, int, str]
"""Chain, number and insertion code, as the authors gave them."""
_BACKBONE: Final = ("N", "CA", "C")
_BOUND: Final = 4.5
"""Å from CA to CA: 3.8 in a trans and 2.9 in a cis peptide; beyond, nothing binds two residues."""


@dataclass(frozen=True, eq=False)
class ResidueAtoms:
    """The residues of a chain that have atoms, in the order of the file.

    Parameters
    ----------
    names : list of str, (residues,)
        Three letters each.
    numbers : int64 array, (residues,)
        As the authors gave them.
    insertions : list of str, (residues,)
    places : float32 array, (residues, 3, 3)
        Of N, CA and C in Å, NaN where one is missing.
    of_atom : int64 array, (atoms,)
        The residue of each atom.
    hetero : bool array, (residues,)
    """

    names: list[str]
    numbers: Indices
    insertions: list[str]
    places: npt.NDArray[np.float32]
    of_atom: Indices
    hetero: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, atoms: AtomArray) -> ResidueAtoms:
        """Take the residues of the atoms of a chain."""
        from biotite.structure import get_residue_starts

        starts = np.asarray(get_residue_starts(atoms), dtype=np.int64)
        of_atom = np.searchsorted(starts, np.arange(len(atoms)), side="right") - 1
        places = np.full((len(starts), 3, 3), np.nan, dtype=np.float32)
        for column, name in enumerate(_BACKBONE):
            rows = np.flatnonzero((atoms.atom_name == name) & np.isfinite(atoms.coord).all(axis=1))[::-1]
            places[of_atom[rows], column] = atoms.coord[rows]  # of several, the first
        insertions = [str(code).strip() for code in atoms.ins_code[starts]]
        names = [str(name) for name in atoms.res_name[starts]]
        return cls(names, atoms.res_id[starts].astype(np.int64), insertions, places, of_atom, atoms.hetero[starts])

    @property
    def ca(self) -> Coordinates:
        """Where the CA atoms are, (residues, 3)."""
        return self.places[:, 1]

    @property
    def letters(self) -> str:
        """A letter for each residue."""
        return "".join(map(letter_of, self.names))

    def unbound(self) -> npt.NDArray[np.bool_]:
        """Return which residues are amino acids that no neighbour in the file is bound to, such as ligands."""
        near = bound(self.ca)
        bound_to_one = np.zeros(len(self.names), dtype=np.bool_)
        bound_to_one[:-1] |= near
        bound_to_one[1:] |= near
        return self.hetero & ~bound_to_one & (len(self.names) > 1)


def bound(ca: Coordinates) -> npt.NDArray[np.bool_]:
    """Return whether residues are near enough to the next to be bound to it, (residues - 1,); False if not resolved."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.linalg.norm(np.diff(ca, axis=0), axis=1) <= _BOUND)


@lru_cache(maxsize=10_000)
def letter_of(name: str) -> str:
    """Return the letter of a residue's three, of a modified one that of the amino acid it is made from; else X."""
    from biotite.structure.info import one_letter_code

    letter = one_letter_code(name)
    return letter if letter is not None and len(letter) == 1 and letter.isalpha() else "X"


def chains_of(atoms: AtomArray) -> dict[str, tuple[list[ResidueKey], str]]:
    """Return the residues of each protein chain and their letters, X for one that is none of the twenty."""
    from biotite.structure import filter_amino_acids, get_residue_starts

    protein = atoms[filter_amino_acids(atoms)]
    chains: dict[str, tuple[list[ResidueKey], str]] = {}
    for start in get_residue_starts(protein).tolist() if len(protein) else []:
        key = (str(protein.chain_id[start]), int(protein.res_id[start]), str(protein.ins_code[start]).strip())
        keys, letters = chains.get(key[0], ([], ""))
        chains[key[0]] = ([*keys, key], letters + letter_of(str(protein.res_name[start])))
    return chains


def aligned(chain: str, sequence: str) -> list[tuple[int, int]]:
    """Return pairs of places, of the residues of a chain and of a sequence; parts of either may be missing."""
    from biotite.sequence import ProteinSequence
    from biotite.sequence.align import SubstitutionMatrix, align_optimal

    alphabet = ProteinSequence.alphabet
    scores = np.full((len(alphabet), len(alphabet)), -2, dtype=np.int32)
    np.fill_diagonal(scores, 5)
    matrix = SubstitutionMatrix(alphabet, alphabet, scores)
    both = [ProteinSequence(_known(text, alphabet.get_symbols())) for text in (chain, sequence)]
    [best, *_] = align_optimal(*both, matrix, gap_penalty=(-6, -1), terminal_penalty=False, max_number=1)
    return [(ours, theirs) for ours, theirs in best.trace.tolist() if ours >= 0 and theirs >= 0]


def _known(letters: str, symbols: Sequence[str]) -> str:
    return "".join(letter if letter in symbols else "X" for letter in letters)
