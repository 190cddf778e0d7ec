"""The sequences that structure files name, and which of their residues those with atoms are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from esmcls.reading.structures.residues import ResidueAtoms, aligned, letter_of
from esmcls.types import Indices

_ALIKE: Final = 0.9
"""Share of the residues with atoms that must be the same in the sequence that a file names for them."""


class Placed(NamedTuple):
    """A chain's sequence, and the place in it of each residue with atoms.

    Parameters
    ----------
    sequence : str
    places : int64 array, (residues with atoms,)
        0-based, -1 where the sequence has no such residue.
    """

    sequence: str
    places: Indices


def by_seqres(lines: list[str]) -> dict[str, str]:
    """Return the sequence of each chain by the SEQRES lines of a PDB file.

    `SEQRES   1 A    3  MET LYS MSE` gives {"A": "MKM"}.
    """
    names: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("SEQRES"):
            names.setdefault(line[11:12].strip(), []).extend(line[19:70].split())
    return {chain: "".join(map(letter_of, listed)) for chain, listed in names.items()}


def by_entity(block: Any) -> dict[str, str]:
    """Return the sequence of each protein entity of an mmCIF's block: by entity_poly_seq, else by entity_poly."""
    entities = _columns(block, "entity_poly", "entity_id", "type")
    if entities is None:
        kinds = None
    else:
        kinds = {entity: "polypeptide" in kind.lower() for entity, kind in zip(*entities, strict=True)}
    sequences = dict(_by_monomers(block))
    if not sequences and (texts := _columns(block, "entity_poly", "entity_id", "pdbx_seq_one_letter_code_can")):
        sequences = {entity: "".join(text.split()).upper() for entity, text in zip(*texts, strict=True)}
    return {
        entity: sequence
        for entity, sequence in sequences.items()
        if (kinds is None or kinds.get(entity, True)) and sequence.isalpha()
    }


def _by_monomers(block: Any) -> Iterator[tuple[str, str]]:
    columns = _columns(block, "entity_poly_seq", "entity_id", "num", "mon_id")
    if columns is None:
        return
    monomers: dict[str, dict[str, str]] = {}
    for entity, number, name in zip(*columns, strict=True):
        monomers.setdefault(entity, {}).setdefault(number, name)  # of several in one place, the first
    for entity, names in monomers.items():
        yield entity, "".join(map(letter_of, names.values()))


def _columns(block: Any, category: str, *names: str) -> list[list[str]] | None:
    """Return columns of a category of an mmCIF as texts; None where one is missing."""
    if category not in block or any(name not in block[category] for name in names):
        return None
    return [[str(cell) for cell in block[category][name].as_array(str)] for name in names]


def placed_by_number(sequence: str, numbers: Indices) -> Placed:
    """Place residues by the numbers that an mmCIF gives them, from 1; 0 is none."""
    return Placed(sequence, np.where((numbers >= 1) & (numbers <= len(sequence)), numbers - 1, -1))


def placed_in(sequence: str, residues: ResidueAtoms) -> Placed | None:
    """Place the residues of a PDB's chain in its SEQRES: by their numbers where these fit, else by alignment.

    Returns
    -------
    Placed or None
        None where the atoms are those of another sequence.
    """
    letters = residues.letters
    if not letters or not sequence:
        return None
    if not any(residues.insertions) and (places := _by_offset(sequence, letters, residues.numbers)) is not None:
        return Placed(sequence, places)
    places = np.full(len(letters), -1, dtype=np.int64)
    pairs = aligned(letters, sequence)
    same = sum(letters[ours] == sequence[theirs] for ours, theirs in pairs)
    if same < _ALIKE * len(letters):
        return None
    for ours, theirs in pairs:
        places[ours] = theirs
    return Placed(sequence, places)


def _by_offset(sequence: str, letters: str, numbers: Indices) -> Indices | None:
    """Return places by numbers that count on from a residue of the sequence; None if that fits nowhere, or twice."""
    relative = numbers - numbers[0]
    if relative.min() < 0 or len(np.unique(relative)) < len(relative) or relative.max() >= len(sequence):
        return None
    codes = np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)
    wanted = np.frombuffer(letters.encode("ascii"), dtype=np.uint8)
    fitting = [
        first for first in range(len(sequence) - int(relative.max())) if (codes[first + relative] == wanted).all()
    ]
    return relative + fitting[0] if len(fitting) == 1 else None
