"""Contributions as B-factors of a structure that the user gives, PDB or mmCIF: viewers colour by them.

Nothing else of the file changes. What belongs to no residue of the protein gets 0.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from esmcls.errors import DataError, UsageError
from esmcls.files import atomic_text
from esmcls.insight.explanation.explain import Explanation
from esmcls.reading.structures.formats import first_model, format_by_name, parse
from esmcls.reading.structures.residues import ResidueKey, aligned, chains_of
from esmcls.text_files import open_lines

if TYPE_CHECKING:
    from biotite.structure import AtomArray

FULL: Final = 99.0
"""B-factor of the largest contribution, or minus that: a PDB has room for the six characters of -99.00."""
ALIKE: Final = 0.95
"""Share of the shorter one, chain or protein, that must be the same residues."""


@dataclass(frozen=True)
class Coloured:
    """What was written.

    Parameters
    ----------
    chains : tuple of str
        Those that are the protein.
    residues, differing : int
        Residues with a contribution, and those of them that are another amino acid than in the sequence.
    unit : float
        The contribution that has a B-factor of 99.
    """

    chains: tuple[str, ...]
    residues: int
    differing: int
    unit: float


def kind_of(path: Path) -> Literal["pdb", "cif"]:
    """Return `pdb` or `cif`, by the end of a name, of which .gz is no part; UsageError if it is neither."""
    kind = format_by_name(path)
    if kind not in ("pdb", "cif"):
        raise UsageError(f"{path}: a structure is a file named .pdb, .ent, .cif or .mmcif; name it by its format")
    return kind


def colour_structure(path: Path, output: Path, explanation: Explanation, chain: str | None = None) -> Coloured:
    """Write a structure with the contributions of its residues as B-factors, whole or not at all.

    Parameters
    ----------
    path, output : Path
        Of the same format.
    explanation : Explanation
        With a contribution a residue.
    chain : str, optional
        The chain that is the protein; default each that is.

    Raises
    ------
    DataError
        If the structure cannot be read, has no such chain, or none that is the protein.
    UsageError
        If one of the files is no structure by its name, or they are of two formats.
    """
    kind = kind_of(path)
    if kind_of(output) != kind:
        raise UsageError(f"{output}: the structure is written as it was read; name it .{kind}")
    with open_lines(str(path)) as lines:
        text = "".join(lines)
    known = np.abs(explanation.values[np.isfinite(explanation.values)])
    unit = float(known.max(initial=0.0)) or 1.0
    factors = np.nan_to_num(explanation.values) / unit * FULL
    file = parse(path, text, kind)
    atoms = first_model(path, file)
    places, differing = _places(path, atoms, explanation, chain)
    of_residue = {key: float(factors[place]) for key, place in places.items()}
    coloured = _cif_with(file, of_residue) if kind == "cif" else _pdb_with(text, of_residue)
    with atomic_text(output) as handle:
        handle.write(coloured)
    return Coloured(tuple(dict.fromkeys(key[0] for key in places)), len(places), differing, unit)


def _places(
    path: Path, atoms: AtomArray, explanation: Explanation, chain: str | None
) -> tuple[dict[ResidueKey, int], int]:
    """Return which residue of the protein each of the structure's is, and how many differ from it."""
    chains = chains_of(atoms)
    if chain is not None and chain not in chains:
        there = ", ".join(chains) or "none"
        raise DataError(path, f"no protein chain {chain!r}; there are: {there}", "name one with --chain")
    sequence = explanation.protein.sequence
    places: dict[ResidueKey, int] = {}
    differing, shares = 0, {}
    for name in chains if chain is None else [chain]:
        keys, letters = chains[name]
        pairs = aligned(letters, sequence)
        same = sum(letters[ours] in (sequence[theirs], "X") for ours, theirs in pairs)
        shares[name] = same / max(min(len(letters), len(sequence)), 1)
        if shares[name] >= ALIKE:
            places |= {keys[ours]: theirs for ours, theirs in pairs}
            differing += len(pairs) - same
    if not places:
        nearest = max(shares, key=shares.__getitem__, default="")
        nearest_share = (
            f"chain {nearest} has {shares[nearest]:.0%} of its residues" if shares else "there is no protein chain"
        )
        fix = "give the sequence of the structure, or another structure"
        raise DataError(path, f"is not of {explanation.protein.id!r}: {nearest_share}", fix)
    return places, differing


def _pdb_with(text: str, factors: Mapping[ResidueKey, float]) -> str:
    """Return the text of a PDB file with other B-factors, columns 61 to 66 of its atoms."""
    from biotite.structure.io.pdb.hybrid36 import decode_hybrid36

    lines = []
    for line in text.splitlines():
        if line.startswith(("ATOM  ", "HETATM")):
            key = (line[21].strip(), decode_hybrid36(line[22:26].strip()), line[26].strip())
            line = f"{line[:60]:60}{factors.get(key, 0.0):6.2f}{line[66:]}"
        lines.append(f"{line}\n")
    return "".join(lines)


def _cif_with(file: Any, factors: Mapping[ResidueKey, float]) -> str:
    """Return the text of an mmCIF file with other B-factors of its atoms."""
    from biotite.structure.io.pdbx import CIFColumn

    atoms = file.block["atom_site"]
    chains = atoms["auth_asym_id" if "auth_asym_id" in atoms else "label_asym_id"].as_array(str)
    numbers = atoms["auth_seq_id" if "auth_seq_id" in atoms else "label_seq_id"].as_array(int)
    codes = [""] * len(chains)
    if "pdbx_PDB_ins_code" in atoms:
        codes = atoms["pdbx_PDB_ins_code"].as_array(str, masked_value="").tolist()
    keys = zip(chains.tolist(), numbers.tolist(), codes, strict=True)
    atoms["B_iso_or_equiv"] = CIFColumn([f"{factors.get(key, 0.0):.2f}" for key in keys])
    written = io.StringIO()
    file.write(written)
    return written.getvalue()
