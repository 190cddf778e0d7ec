"""Protein chains of PDB, mmCIF and BinaryCIF files, as users of biotite expect them.

The first of several models; of several places of an atom the one of the highest occupancy; the sequence that the file
names, with residues without a CA not resolved, else that of the atoms. What was met is noted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from esmcls.errors import DataError
from esmcls.reading.structures.chain import Chain, virtual_beta
from esmcls.reading.structures.formats import NAMES, Format, chain_id, first_model, parse, require_biotite, unreadable
from esmcls.reading.structures.notes import StructureNotes
from esmcls.reading.structures.residues import ResidueAtoms, bound
from esmcls.reading.structures.sequences import Placed, by_entity, by_seqres, placed_by_number, placed_in
from esmcls.reading.structures.surface import relative_accessibility, states_by_dssp

if TYPE_CHECKING:
    from biotite.structure import AtomArray

_STANDARD: Final = frozenset(
    ("ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE", "LEU", "LYS", "MET", "PHE", "PRO", "SER")
    + ("THR", "TRP", "TYR", "VAL", "SEC", "PYL", "ASX", "GLX")
)
_RESOLUTIONS: Final = (
    ("refine", "ls_d_res_high"),
    ("em_3d_reconstruction", "resolution"),
    ("reflns", "d_resolution_high"),
)
_REMARK_2: Final = re.compile(r"REMARK   2 RESOLUTION\.\s+([\d.]+)\s+ANGSTROM")
_LABELS: Final = ("label_asym_id", "label_entity_id", "label_seq_id")


def read_structure(
    path: str, content: str | bytes, kind: Format, notes: StructureNotes, *, surface: bool = False
) -> Iterator[Chain]:
    """Give the protein chains of a file.

    Parameters
    ----------
    path : str
        As the user named it.
    content : str or bytes
        Unpacked; bytes of a BinaryCIF.
    kind : {"pdb", "cif", "bcif"}
    notes : StructureNotes
        Gets what was met.
    surface : bool
        Whether the accessibility and DSSP states of chains are made from their atoms, too.

    Raises
    ------
    DataError
        If the file cannot be read.
    MissingExtraError
        If biotite is not installed.
    """
    require_biotite("a structure file (PDB, mmCIF)")
    file = _File(path, parse(path, content, kind), content, notes)
    chains = file.chains()
    notes.files[NAMES[kind]] += 1
    for name, atoms in chains:
        chain = file.chain(name, atoms, surface)
        if chain is not None:
            notes.chains += 1
            yield chain


@dataclass
class _File:
    """A file that biotite has parsed."""

    path: str
    file: Any
    content: str | bytes
    notes: StructureNotes

    @property
    def name(self) -> str:
        return chain_id(self.path, "")

    @cached_property
    def is_pdb(self) -> bool:
        return not hasattr(self.file, "block")

    @cached_property
    def lines(self) -> list[str]:
        """The lines of a PDB."""
        return self.content.splitlines() if isinstance(self.content, str) else []

    @cached_property
    def sequences(self) -> dict[str, str]:
        """Sequences that the file names: of chains in a PDB, of entities in an mmCIF."""
        return by_seqres(self.lines) if self.is_pdb else by_entity(self.file.block)

    @cached_property
    def resolution(self) -> float | None:
        """In Å, where the file says one."""
        if self.is_pdb:
            remark = next(filter(None, map(_REMARK_2.match, self.lines)), None)
            return _positive(remark[1]) if remark else None
        for category, column in _RESOLUTIONS:
            if category in self.file.block and column in self.file.block[category]:
                number = _positive(str(self.file.block[category][column].as_array(str)[0]))
                if number is not None:
                    return number
        return None

    def chains(self) -> list[tuple[str, AtomArray]]:
        """Return the atoms of each protein chain of the first model, under the name that its authors gave it."""
        from biotite.structure import filter_amino_acids

        atoms = self._atoms()
        entities = "label_entity_id" in atoms.get_annotation_categories() and bool(self.sequences)
        keys = atoms.label_asym_id if entities else atoms.chain_id
        of_polymers = np.isin(atoms.label_entity_id, list(self.sequences)) if entities else None
        chains, others = [], 0
        for key in dict.fromkeys(keys.tolist()):
            rows = keys == key
            part = atoms[rows & filter_amino_acids(atoms) if of_polymers is None else rows & of_polymers]
            if not len(part):
                others += of_polymers is None and not _is_water_or_ligands(atoms[rows])
            else:
                chains.append((str(part.chain_id[0]), part))
        self.notes.add("no_protein", self.name, others + (self._other_polymers() if entities else 0))
        named = {str(part.label_asym_id[0] if entities else name) for name, part in chains}
        missing = [name for name in self._named_chains(entities) if name not in named]
        self.notes.add("no_atoms", self.name, len(missing))
        return chains

    def _named_chains(self, entities: bool) -> list[str]:
        """Return the protein chains that the file names a sequence for."""
        if not entities:
            return []  # SEQRES does not say which chains are proteins
        if "struct_asym" not in self.file.block:
            return []
        table = self.file.block["struct_asym"]
        both = zip(table["id"].as_array(str).tolist(), table["entity_id"].as_array(str).tolist(), strict=True)
        return [chain for chain, entity in both if entity in self.sequences]

    def _other_polymers(self) -> int:
        """Return how many chains of an mmCIF are polymers of another kind, such as DNA."""
        block = self.file.block
        if "entity_poly" not in block or "struct_asym" not in block or "entity_id" not in block["entity_poly"]:
            return 0
        others = set(block["entity_poly"]["entity_id"].as_array(str).tolist()) - set(self.sequences)
        return sum(entity in others for entity in block["struct_asym"]["entity_id"].as_array(str).tolist())

    def _atoms(self) -> AtomArray:
        """Return the atoms of the first model, of those in several places the one of the highest occupancy."""
        from biotite.structure import filter_highest_occupancy_altloc, get_residue_starts
        from biotite.structure.io import pdb, pdbx

        try:
            models = int((pdb if self.is_pdb else pdbx).get_model_count(self.file))
        except Exception as error:  # a parser of foreign text may fail in any way
            raise unreadable(self.path, error) from None
        self.notes.add("models", self.name, int(models > 1))
        fields = ["occupancy"]
        if not self.is_pdb:
            there = self.file.block.get("atom_site", {})
            fields = [name for name in ("occupancy", *_LABELS) if name in there]
        try:
            atoms = first_model(self.path, self.file, "all", fields)
        except DataError:  # occupancies that are no numbers, say
            atoms = first_model(self.path, self.file, "first", [name for name in fields if name != "occupancy"])
        categories = atoms.get_annotation_categories()
        if "altloc_id" not in categories or "occupancy" not in categories:
            return atoms
        several = ~np.isin(atoms.altloc_id, ["", " ", ".", "?"])
        residues = np.searchsorted(get_residue_starts(atoms), np.flatnonzero(several), side="right")
        self.notes.add("altlocs", self.name, len(np.unique(residues)))
        return atoms[filter_highest_occupancy_altloc(atoms, atoms.altloc_id, atoms.occupancy)]

    def chain(self, name: str, atoms: AtomArray, surface: bool) -> Chain | None:
        """Return a chain, or None where it has no CA atom."""
        name = chain_id(self.path, name)
        atoms, residues = self._residues(name, atoms)
        if np.isnan(residues.ca[:, 0]).all():
            self.notes.add("no_atoms", name)
            return None
        placed = self._placed(name, atoms, residues)
        inside = np.flatnonzero(placed.places >= 0)
        self.notes.add("outside", name, len(residues.names) - len(inside))
        backbone = np.full((len(placed.sequence), 3, 3), np.nan, dtype=np.float32)
        backbone[placed.places[inside]] = residues.places[inside]
        trace = backbone[:, 1].copy()
        self._note_residues(name, residues, trace)
        beta = virtual_beta(*(backbone[:, column] for column in range(3)))
        accessibility = states = None
        if surface:
            accessibility = relative_accessibility(atoms, residues, placed)
            states = states_by_dssp(atoms, residues, placed)
            self.notes.add("no_states", name, int(states is None))
        known = not np.isnan(beta).all()
        return Chain(name, placed.sequence, trace, states, accessibility, self.resolution, beta if known else None)

    def _residues(self, name: str, atoms: AtomArray) -> tuple[AtomArray, ResidueAtoms]:
        """Return the atoms of a chain, and its residues, each number once, without amino acids that are ligands."""
        residues = ResidueAtoms.of(atoms)
        first: dict[tuple[int, str], int] = {}
        for place, key in enumerate(zip(residues.numbers.tolist(), residues.insertions, strict=True)):
            first.setdefault(key, place)
        in_chain = np.isin(np.arange(len(residues.names)), list(first.values()))
        self.notes.add("altlocs", name, int((~in_chain).sum()))  # two amino acids in one place
        if "label_seq_id" not in atoms.get_annotation_categories() or not self.sequences:
            ligands = residues.unbound()
            self.notes.add("ligands", name, int((ligands & in_chain).sum()))
            in_chain &= ~ligands
        if in_chain.all():
            return atoms, residues
        atoms = atoms[in_chain[residues.of_atom]]
        return atoms, ResidueAtoms.of(atoms)

    def _placed(self, name: str, atoms: AtomArray, residues: ResidueAtoms) -> Placed:
        """Return the sequence of a chain and where in it its residues are."""
        of_atoms = Placed(residues.letters, np.arange(len(residues.names)))
        if not self.is_pdb and self.sequences and "label_seq_id" in atoms.get_annotation_categories():
            first = np.unique(residues.of_atom, return_index=True)[1]
            numbers = np.array([int(text) if text.isdigit() else 0 for text in atoms.label_seq_id[first].tolist()])
            placed = placed_by_number(self.sequences[str(atoms.label_entity_id[0])], numbers)
            if (placed.places >= 0).any():
                return placed
        elif self.is_pdb and (named := self.sequences.get(str(atoms.chain_id[0]).strip())):
            in_named = placed_in(named, residues)
            if in_named is not None:
                return in_named
            self.notes.add("unlike", name)
            return of_atoms
        self.notes.add("from_atoms", name)
        return of_atoms

    def _note_residues(self, name: str, residues: ResidueAtoms, trace: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        letters = residues.letters
        modified = [three not in _STANDARD for three in residues.names]
        self.notes.add("insertions", name, sum(map(bool, residues.insertions)))
        self.notes.add("modified", name, sum(m and letter != "X" for m, letter in zip(modified, letters, strict=True)))
        self.notes.add("nameless", name, letters.count("X"))
        self.notes.add("without_ca", name, int(np.isnan(residues.ca[:, 0]).sum()))
        both = ~np.isnan(trace[:-1, 0]) & ~np.isnan(trace[1:, 0])
        self.notes.add("breaks", name, int((both & ~bound(trace)).sum()))


def _is_water_or_ligands(atoms: AtomArray) -> bool:
    """Return whether atoms of no amino acid are all of small molecules."""
    return bool(atoms.hetero.all())


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < 100 else None
