"""Contributions as B-factors: each residue of the right chain has its own, and nothing else of the file changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from biotite.structure import AtomArray
from biotite.structure.info import one_letter_code
from biotite.structure.io import pdb, pdbx

from esmcls.errors import DataError, UsageError
from esmcls.insight.explanation.explain import Explanation
from esmcls.insight.explanation.structures import colour_structure
from esmcls.reading.records import Protein
from esmcls.reading.structures.residues import aligned

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQ"
NAMES = (
    "ALA",
    "ARG",
    "ASP",
    "CYS",
    "GLN",
    "GLY",
    "HIS",
    "ILE",
    "LYS",
    "MET",
    "PHE",
    "PRO",
    "SER",
    "THR",
    "TRP",
    "TYR",
    "VAL",
)
NAME_OF = {one_letter_code(name): name for name in NAMES}


def explanation(sequence: str = SEQUENCE) -> Explanation:
    """Return one in which the third residue adds most, and the last was not seen."""
    values = np.arange(len(sequence)) / 100
    values[2], values[-1] = -2.0, np.nan
    return Explanation(Protein("p", sequence), "F", "logit", None, "residues", values, 0.0, 1.0)


def atoms(chains: Sequence[tuple[str, str, int]]) -> AtomArray:
    """Return a structure of an alpha carbon a residue: chain, sequence and the first number of each; then a water."""
    residues = [(chain, first + place, letter) for chain, text, first in chains for place, letter in enumerate(text)]
    array = AtomArray(len(residues) + 1)
    array.coord = np.random.default_rng(0).normal(size=(len(array), 3)).round(3)
    array.chain_id = np.array([*(chain for chain, _, _ in residues), "A"])
    array.res_id = np.array([*(number for _, number, _ in residues), 900])
    array.res_name = np.array([*(NAME_OF[letter] for _, _, letter in residues), "HOH"])
    array.atom_name = np.array(["CA"] * len(residues) + ["O"])
    array.element = np.array(["C"] * len(residues) + ["O"])
    array.hetero = np.array([False] * len(residues) + [True])
    array.set_annotation("b_factor", np.full(len(array), 33.0))
    array.set_annotation("occupancy", np.full(len(array), 1.0))
    return array


def write(path: Path, array: AtomArray) -> Path:
    if path.suffix == ".pdb":
        file = pdb.PDBFile()
        file.set_structure(array)
        file.lines.insert(0, "HEADER    A TEST")
    else:
        file = pdbx.CIFFile()
        pdbx.set_structure(file, array, data_block="x")
    file.write(path)
    return path


def factors(path: Path) -> dict[tuple[str, int], float]:
    """Return the B-factor of each residue of a file."""
    if path.suffix == ".pdb":
        lines = [line for line in path.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
        return {(line[21], int(line[22:26])): float(line[60:66]) for line in lines}
    array = pdbx.get_structure(pdbx.CIFFile.read(path), model=1, extra_fields=["b_factor"])
    keys = zip(array.chain_id.tolist(), array.res_id.tolist(), strict=True)
    return dict(zip(keys, array.b_factor.tolist(), strict=True))


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_residues_get_their_contributions_whatever_their_numbers(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"in{suffix}", atoms([("B", "GGGGGGGG", 1), ("A", SEQUENCE, 101)]))
    written = colour_structure(path, tmp_path / f"out{suffix}", explanation())
    found = factors(tmp_path / f"out{suffix}")
    assert (written.chains, written.residues, written.differing, written.unit) == (("A",), len(SEQUENCE), 0, 2.0)
    assert found["A", 103] == -99
    assert found["A", 111] == pytest.approx(0.99 * 10 / 2, abs=0.006)
    assert found["A", 122] == found["B", 1] == found["A", 900] == 0


def test_only_the_b_factors_of_a_pdb_change(tmp_path: Path) -> None:
    path = write(tmp_path / "in.pdb", atoms([("A", SEQUENCE, 1)]))
    colour_structure(path, tmp_path / "out.pdb", explanation())
    before, after = (file.read_text().splitlines() for file in (path, tmp_path / "out.pdb"))
    assert [line[:60] + line[66:] for line in before if line.startswith(("ATOM", "HETATM"))] == [
        line[:60] + line[66:] for line in after if line.startswith(("ATOM", "HETATM"))
    ]
    assert [line for line in before if line[:4] not in ("ATOM", "HETA")] == [
        line for line in after if line[:4] not in ("ATOM", "HETA")
    ]
    assert after[0] == "HEADER    A TEST"


def test_residues_that_a_structure_lacks_are_passed_over(tmp_path: Path) -> None:
    missing = SEQUENCE[:6] + SEQUENCE[12:]
    path = write(tmp_path / "in.pdb", atoms([("A", missing, 1)]))
    colour_structure(path, tmp_path / "out.pdb", explanation())
    assert factors(tmp_path / "out.pdb")["A", 7] == pytest.approx(0.99 * 12 / 2, abs=0.006)


def test_every_copy_of_the_protein_is_coloured_and_one_on_demand(tmp_path: Path) -> None:
    path = write(tmp_path / "in.cif", atoms([("A", SEQUENCE, 1), ("B", SEQUENCE, 1)]))
    assert colour_structure(path, tmp_path / "out.cif", explanation()).chains == ("A", "B")
    assert colour_structure(path, tmp_path / "out.cif", explanation(), "B").chains == ("B",)
    assert factors(tmp_path / "out.cif")["A", 3] == 0


def test_a_point_mutation_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "in.pdb", atoms([("A", SEQUENCE[:10] + "W" + SEQUENCE[11:], 1)]))
    assert colour_structure(path, tmp_path / "out.pdb", explanation()).differing == 1


def test_a_structure_of_another_protein_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "in.pdb", atoms([("A", "GSSGSSGWPWPWCCDD", 1)]))
    with pytest.raises(DataError, match=r"in\.pdb: is not of 'p': chain A has \d+% of its residues; give the sequence"):
        colour_structure(path, tmp_path / "out.pdb", explanation())
    with pytest.raises(DataError, match="no protein chain 'Z'; there are: A; name one with --chain"):
        colour_structure(path, tmp_path / "out.pdb", explanation(), "Z")
    assert not (tmp_path / "out.pdb").exists()


def test_what_is_no_structure_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.cif").write_text("no structure")
    with pytest.raises(DataError, match=r"bad\.cif: no structure that can be read"):
        colour_structure(tmp_path / "bad.cif", tmp_path / "out.cif", explanation())
    with pytest.raises(UsageError, match=r"out\.pdb: the structure is written as it was read; name it \.cif"):
        colour_structure(tmp_path / "bad.cif", tmp_path / "out.pdb", explanation())


def test_a_tag_and_a_gap_align_with_the_sequence() -> None:
    assert aligned("MKVLA", "GSMKTTTTVLA") == [(0, 2), (1, 3), (2, 8), (3, 9), (4, 10)]
    assert aligned("GSHM" + SEQUENCE[:8] + SEQUENCE[14:], SEQUENCE)[0] == (4, 0)
    assert aligned(SEQUENCE[:8] + SEQUENCE[14:], SEQUENCE)[-1] == (15, 21)
