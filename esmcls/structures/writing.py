"""CA traces as files: PDB and mmCIF, with the confidence of each residue in the place of the B-factor.

Chain A, residues numbered from 1 as in the sequence; those that were not seen have no atom.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from esmcls.errors import UsageError
from esmcls.types import Coordinates, Probabilities

_OF_LETTERS: Final = (
    "A ALA, C CYS, D ASP, E GLU, F PHE, G GLY, H HIS, I ILE, K LYS, L LEU, M MET, N ASN, P PRO, Q GLN, R ARG, S SER, "
    "T THR, V VAL, W TRP, Y TYR, B ASX, Z GLX, U SEC, O PYL"
)
NAMES: Final[Mapping[str, str]] = {pair[0]: pair[2:] for pair in _OF_LETTERS.split(", ")}
"""Letter -> name of a residue in files; any other is UNK."""
MOST_RESIDUES: Final = 9_999
"""A PDB file has four places for the number of a residue."""
_WIDEST: Final = 999.9
"""Å: a PDB file has eight places for a coordinate, three of them behind the point."""
_ROW: Final = 13
"""Residues in a line of SEQRES."""


@dataclass(frozen=True, eq=False)
class TraceFile:
    """What a file of a trace says.

    Parameters
    ----------
    id : str
        Of the protein, verbatim.
    sequence : str
    trace : float32 array, (residues, 3)
        Å; NaN where there is to be no atom.
    confidence : float32 array, (residues,)
        In [0, 1]; written as the B-factor, times 100.
    remarks : tuple of str
        What it is and where it is from.
    """

    id: str
    sequence: str
    trace: Coordinates
    confidence: Probabilities
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sizes = {len(self.sequence), len(self.trace), len(self.confidence)}
        if len(sizes) > 1:
            raise ValueError(f"sequence, trace and confidence are of {sorted(sizes)} residues")

    @property
    def atoms(self) -> list[tuple[int, str, float, float, float, float]]:
        """The number of each residue that has an atom, its name, x, y, z in Å, and the B-factor."""
        places = zip(self.sequence, self.trace.tolist(), self.confidence.tolist(), strict=True)
        return [
            (number, NAMES.get(letter, "UNK"), x, y, z, 100 * confidence)
            for number, (letter, (x, y, z), confidence) in enumerate(places, 1)
            if not np.isnan(x)
        ]


def pdb_text(file: TraceFile) -> str:
    """Return the text of a PDB file (format 3.3).

    Raises
    ------
    UsageError
        If the protein is longer, or the trace wider, than the format has room for.

    Examples
    --------
    >>> trace = np.array([[0, 0, 0], [1, -3.5, 2]], dtype=np.float32)
    >>> print(pdb_text(TraceFile("a", "MX", trace, np.array([0.5, 1.0])))[81:])
    SEQRES   1 A    2  MET UNK
    ATOM      1  CA  MET A   1       0.000   0.000   0.000  1.00 50.00           C
    ATOM      2  CA  UNK A   2       1.000  -3.500   2.000  1.00100.00           C
    TER       3      UNK A   2
    END
    <BLANKLINE>
    """
    length = len(file.sequence)
    check_room("pdb", file.id, length)
    if np.nanmax(np.abs(file.trace), initial=0.0) > _WIDEST:
        raise _no_room(file.id, f"a trace wider than {2 * _WIDEST:,.0f} Å")
    lines = [f"TITLE     {line:70}" for line in _wrapped(f"CA trace of {file.id}", 70)[:1]]
    lines += [f"REMARK 999 {line}" for remark in file.remarks for line in _wrapped(remark, 68)]
    names = [NAMES.get(letter, "UNK") for letter in file.sequence]
    for row, start in enumerate(range(0, length, _ROW), 1):
        lines.append(f"SEQRES {row:3d} A {length:4d}  {' '.join(names[start : start + _ROW])}")
    atoms = file.atoms
    for serial, (number, name, x, y, z, factor) in enumerate(atoms, 1):
        place = f"{x:8.3f}{y:8.3f}{z:8.3f}"
        lines.append(f"ATOM  {serial:5d}  CA  {name} A{number:4d}    {place}  1.00{factor:6.2f}           C")
    if atoms:
        lines.append(f"TER   {len(atoms) + 1:5d}      {atoms[-1][1]} A{atoms[-1][0]:4d}")
    return "\n".join([*lines, "END", ""])


def check_room(format: str, id_: str, length: int) -> None:
    """Refuse a protein that is longer than a format has room for; UsageError."""
    if format == "pdb" and length > MOST_RESIDUES:
        raise _no_room(id_, f"{length:,} residues")


def _no_room(id_: str, what: str) -> UsageError:
    return UsageError(f"{id_}: {what}, for which a PDB file has no room; write mmCIF (--format mmcif)")


def _wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines of ASCII."""
    return textwrap.wrap(ascii(text)[1:-1], width) or [""]


_COLUMNS: Final = (
    *("group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id"),
    *("label_entity_id", "label_seq_id", "pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy"),
    *("B_iso_or_equiv", "auth_seq_id", "auth_comp_id", "auth_asym_id", "auth_atom_id", "pdbx_PDB_model_num"),
)


def mmcif_text(file: TraceFile) -> str:
    """Return the text of an mmCIF file.

    Examples
    --------
    >>> trace = np.array([[0, 0, 0], [1, -3.5, 2]], dtype=np.float32)
    >>> for line in mmcif_text(TraceFile("a b", "MX", trace, np.array([0.5, 1.0]))).splitlines()[-3:]:
    ...     print(line)
    ATOM 1 C CA . MET A 1 1 ? 0.000 0.000 0.000 1.00 50.00 1 MET A CA 1
    ATOM 2 C CA . UNK A 1 2 ? 1.000 -3.500 2.000 1.00 100.00 2 UNK A CA 1
    #
    """
    block = re.sub(r"[^A-Za-z0-9_.-]", "_", file.id) or "protein"
    lines = [f"data_{block}", "#", f"_entry.id {block}", "#"]
    lines += ["_struct.entry_id " + block, "_struct.title", *_text_field(f"CA trace of {file.id}"), "#"]
    lines += ["_software.pdbx_ordinal 1", "_software.name esmcls", "_software.classification 'model building'"]
    lines += ["_software.description", *_text_field(*file.remarks), "#"]
    lines += ["_entity.id 1", "_entity.type polymer", "#"]
    lines += ["_entity_poly.entity_id 1", "_entity_poly.type polypeptide(L)"]
    lines += ["_entity_poly.pdbx_seq_one_letter_code_can", *_text_field(file.sequence), "#"]
    lines += ["_struct_asym.id A", "_struct_asym.entity_id 1", "#"]
    lines += ["loop_", "_entity_poly_seq.entity_id", "_entity_poly_seq.num", "_entity_poly_seq.mon_id"]
    lines += [f"1 {number} {NAMES.get(letter, 'UNK')}" for number, letter in enumerate(file.sequence, 1)]
    lines += ["#", "loop_", *(f"_atom_site.{column}" for column in _COLUMNS)]
    for serial, (number, name, x, y, z, factor) in enumerate(file.atoms, 1):
        place = f"{x:.3f} {y:.3f} {z:.3f} 1.00 {factor:.2f}"
        lines.append(f"ATOM {serial} C CA . {name} A 1 {number} ? {place} {number} {name} A CA 1")
    return "\n".join([*lines, "#", ""])


def _text_field(*texts: str) -> list[str]:
    """Return the lines of a text between semicolons; none of them begins with one."""
    lines = [line for text in texts for line in _wrapped(text, 78)] or ["?"]
    return [f";{lines[0]}", *(f" {line}" if line.startswith(";") else line for line in lines[1:]), ";"]


WRITERS: Final[Mapping[str, Callable[[TraceFile], str]]] = {"pdb": pdb_text, "mmcif": mmcif_text}
"""Format -> what makes the text of a file."""
ENDINGS: Final[Mapping[str, str]] = {"pdb": ".pdb", "mmcif": ".cif"}
