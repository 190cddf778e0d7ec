"""What is known of each residue of some sequences: secondary structure, accessibility, a sequence profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

STATES: Final = "BCEGHIST"
"""DSSP's letters in the order of their numbers; C is none of the others."""
AMINO_ACIDS: Final = "ACDEFGHIKLMNPQRSTVWY"
"""Columns of a profile."""


@dataclass(frozen=True)
class ResidueTargets:
    """Sequences with what is known of their residues, which stand one after the other.

    Parameters
    ----------
    ids, sequences : list of str, (n,)
    states : int8 array, (residues,)
        Number of the secondary structure in `STATES`, -1 where it is not known.
    accessibility : float32 array, (residues,)
        1 is as accessible as the residue gets, nan is not known.
    profile : float16 array, (residues, 20)
        Shares that add up to 1; 0 throughout where they are not known.
    """

    ids: list[str]
    sequences: list[str]
    states: npt.NDArray[np.int8]
    accessibility: npt.NDArray[np.float32]
    profile: npt.NDArray[np.float16]

    @property
    def has_structure(self) -> bool:
        """Whether secondary structure or accessibility of any residue is known."""
        return bool((self.states >= 0).any() or np.isfinite(self.accessibility).any())

    @property
    def has_profile(self) -> bool:
        """Whether any residue has a profile."""
        return bool(self.profile.any())
