"""Structure files as users of biotite expect them: what is odd about a file is told in a line, nothing is lost."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from biotite.application.dssp import DsspApp
from biotite.structure import AtomArray, superimpose
from biotite.structure import lddt as lddt_of_biotite
from biotite.structure import tm_score as tm_score_of_biotite
from biotite.structure.io import pdb, pdbx
from tmtools.testing import get_pdb_path
from traces import helix, hinged, wandering

from esmcls.errors import DataError
from esmcls.metrics.structures.distances import lddt
from esmcls.metrics.structures.superposition import realigned_tm_score, tm_score
from esmcls.reading.readers import read_records
from esmcls.reading.records import Tally
from esmcls.reading.structures.chain import Chain
from esmcls.reading.structures.inputs import StructureReading, chains_of_inputs

Atom = tuple[str, str, str, str, float]
"""Name, place, residue, number with insertion code, x in Å; in chain A."""


def pdb_line(number: int, atom: Atom, chain: str = "A", occupancy: float = 1.0) -> str:
    name, place, residue, at, x = atom
    code = at[-1] if at[-1].isalpha() else " "
    at = at.rstrip(code)
    record = "ATOM  " if residue not in ("MSE", "HOH", "GLU-LIGAND") else "HETATM"
    return (
        f"{record}{number:5d}  {name:<3}{place or ' '}{residue[:3]:>3} {chain}{at:>4}{code}"
        f"   {x:8.3f}{0:8.3f}{0:8.3f}{occupancy:6.2f}{10:6.2f}          {name[0]:>2}"
    )


def ca_lines(residues: Sequence[tuple[str, str, float]]) -> list[str]:
    """Return the lines of CA atoms: residue, number with insertion code, x."""
    return [pdb_line(place, ("CA", "", name, at, x)) for place, (name, at, x) in enumerate(residues, 1)]


def read(path: Path, *, surface: bool = False) -> tuple[list[Chain], list[str]]:
    """Return the chains of a file and what was told."""
    reading = StructureReading()
    chains = [chain for chain, _ in chains_of_inputs([path], reading, surface=surface)]
    return chains, reading.lines()[1:]


def written(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join([*lines, "END", ""]))
    return path


TRIPLE = [("MET", "1", 0.0), ("LYS", "2", 3.8), ("THR", "3", 7.6)]


def test_residues_of_seqres_without_atoms_are_not_resolved(tmp_path: Path) -> None:
    """By their numbers, where a letter stands on both sides of the gap and an alignment could not tell."""
    seqres = ["SEQRES   1 A    6  GLY MET LYS LYS THR GLY"]
    lines = [*seqres, *ca_lines([("MET", "2", 0.0), ("LYS", "4", 7.0), ("THR", "5", 10.8)])]
    [chain], told = read(written(tmp_path / "x.pdb", lines))
    assert (chain.id, chain.sequence, told) == ("x_A", "GMKKTG", [])
    assert np.isnan(chain.trace[:, 0]).tolist() == [True, False, True, False, False, True]
    assert chain.trace[3].tolist() == [7.0, 0.0, 0.0]


def test_without_seqres_the_sequence_is_that_of_the_atoms(tmp_path: Path) -> None:
    [chain], told = read(written(tmp_path / "x.pdb", ca_lines([*TRIPLE, ("ALA", "9", 40.0)])))
    assert chain.sequence == "MKTA"
    assert told == [
        "  1 break of the trace: neighbours more than 4.5 Å apart (x_A)",
        "  1 chain without SEQRES or entity_poly: the sequence is that of the residues with atoms (x_A)",
    ]


def test_a_seqres_of_another_protein_is_not_taken(tmp_path: Path) -> None:
    lines = ["SEQRES   1 A    4  GLY GLY TRP TRP", *ca_lines(TRIPLE)]
    [chain], told = read(written(tmp_path / "x.pdb", lines))
    assert chain.sequence == "MKT"
    assert told == [
        "  1 chain whose atoms do not fit the sequence that the file names: that of the atoms was taken (x_A)"
    ]


def test_of_two_places_the_one_of_the_highest_occupancy_is_taken(tmp_path: Path) -> None:
    atoms: list[tuple[Atom, float]] = [
        (("CA", "", "MET", "1", 0.0), 1.0),
        (("CA", "A", "LYS", "2", 3.0), 0.3),
        (("CA", "B", "LYS", "2", 3.8), 0.7),
        (("CA", "", "THR", "3", 7.6), 1.0),
    ]
    lines = [pdb_line(number, atom, occupancy=share) for number, (atom, share) in enumerate(atoms, 1)]
    [chain], told = read(written(tmp_path / "x.pdb", lines))
    assert chain.trace[:, 0].tolist() == pytest.approx([0.0, 3.8, 7.6])
    assert told[0] == "  1 residue in several places: that of the highest occupancy was taken (x)"


def test_insertion_codes_modified_residues_and_missing_ca_are_told(tmp_path: Path) -> None:
    lines = ca_lines([("MSE", "1", 0.0), ("LYS", "1A", 3.8), ("THR", "2", 7.6)])
    lines += [pdb_line(4, ("N", "", "GLY", "3", 11.0)), pdb_line(5, ("CA", "", "ALA", "4", 15.2))]
    [chain], told = read(written(tmp_path / "x.pdb", lines))
    assert chain.sequence == "MKTGA"
    assert np.isnan(chain.trace[:, 0]).tolist() == [False, False, False, True, False]
    assert told[:3] == [
        "  1 residue with an insertion code, read in the order of the file (x_A)",
        "  1 modified residue read as the amino acid that they are made from (x_A)",
        "  1 residue with atoms but no CA: not resolved (x_A)",
    ]


def test_of_several_models_the_first_is_read(tmp_path: Path) -> None:
    other = [(name, at, x + 1) for name, at, x in TRIPLE]
    lines = ["MODEL        1", *ca_lines(TRIPLE), "ENDMDL", "MODEL        2", *ca_lines(other), "ENDMDL"]
    [chain], told = read(written(tmp_path / "x.pdb", lines))
    assert chain.trace[:, 0].tolist() == pytest.approx([0.0, 3.8, 7.6])
    assert told[0] == "  1 file of several models: the first was read (x)"


def test_dna_water_and_an_amino_acid_that_nothing_holds_are_no_residues(tmp_path: Path) -> None:
    lines = [
        *ca_lines(TRIPLE),
        pdb_line(4, ("CA", "", "GLU-LIGAND", "300", 60.0)),
        pdb_line(5, ("O", "", "HOH", "301", 70.0)),
        pdb_line(6, ("P", "", "DA", "1", 0.0), chain="B"),
    ]
    [chain], told = read(written(tmp_path / "x.pdb", lines))
    assert chain.sequence == "MKT"
    assert told[1:] == [
        "  1 amino acid left out, which no chain is bound to (x_A)",
        "  1 chain left out, of no protein (x)",
    ]


CIF = """data_x
_refine.ls_d_res_high 1.85
{sequence}
loop_
_atom_site.group_PDB
_atom_site.id
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_entity_id
_atom_site.label_seq_id
_atom_site.pdbx_PDB_ins_code
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.occupancy
_atom_site.auth_seq_id
_atom_site.auth_asym_id
_atom_site.pdbx_PDB_model_num
ATOM 1 C CA . MSE A 1 2 ? 0.0 0.0 0.0 1.0 11 H 1
ATOM 2 C CA . LYS A 1 4 ? 3.8 0.0 0.0 1.0 13 H 1
HETATM 3 O O . HOH B 2 . ? 9.0 0.0 0.0 1.0 99 H 1
"""
POLYMER = """loop_
_entity_poly_seq.entity_id
_entity_poly_seq.num
_entity_poly_seq.mon_id
1 1 GLY
1 2 MSE
1 3 LYS
1 4 LYS
#"""


def test_an_mmcif_has_the_sequence_of_its_entity_and_the_chain_of_its_authors(tmp_path: Path) -> None:
    path = tmp_path / "1abc.cif.gz"
    path.write_bytes(gzip.compress(CIF.format(sequence=POLYMER).encode()))
    [chain], told = read(path)
    assert (chain.id, chain.sequence, chain.resolution) == ("1abc_H", "GMKK", 1.85)
    assert np.isnan(chain.trace[:, 0]).tolist() == [True, False, True, False]
    assert told == ["  1 modified residue read as the amino acid that they are made from (1abc_H)"]


def test_an_mmcif_without_a_sequence_has_that_of_its_atoms(tmp_path: Path) -> None:
    path = tmp_path / "1abc.cif"
    path.write_text(CIF.format(sequence="#"))
    [chain], told = read(path)
    assert (chain.sequence, chain.resolved) == ("MK", 2)
    assert told[-1] == (
        "  1 chain without SEQRES or entity_poly: the sequence is that of the residues with atoms (1abc_H)"
    )


def test_pdb_mmcif_and_binary_cif_of_a_structure_give_the_same(tmp_path: Path) -> None:
    """2GTL, which tmtools brings: 15 chains, four with residues that were not resolved."""
    as_pdb, _ = read(Path(get_pdb_path("2gtl")))
    binary = tmp_path / "2gtl.bcif"
    file = pdbx.CIFFile.read(Path(get_pdb_path("2gtl")).with_suffix(".cif"))
    packed = pdbx.BinaryCIFFile()
    packed["2GTL"] = pdbx.BinaryCIFBlock(
        {
            name: pdbx.BinaryCIFCategory({column: table[column].as_array() for column in table})
            for name, table in file.block.items()
            if name in ("atom_site", "entity_poly", "entity_poly_seq", "struct_asym", "refine")
        }
    )
    packed.write(binary)
    as_binary, _ = read(binary)
    assert [chain.id for chain in as_pdb] == [f"2gtl_{letter}" for letter in "ABCDEFGHIJKLMNO"]
    assert [chain.sequence for chain in as_pdb] == [chain.sequence for chain in as_binary]
    assert [(len(chain.sequence), chain.resolved) for chain in as_pdb[:4]] == [
        (151, 147),
        (145, 145),
        (153, 149),
        (140, 140),
    ]
    for one, other in zip(as_pdb, as_binary, strict=True):
        np.testing.assert_allclose(one.trace, other.trace, atol=1e-3)
        assert one.resolution == other.resolution == 3.5


def test_accessibility_and_virtual_beta_come_from_atoms(tmp_path: Path) -> None:
    """Of a chain of 2GTL: the virtual CB is near the true one; a protein's core is buried and its surface is not."""
    atoms = pdb.PDBFile.read(get_pdb_path("2gtl")).get_structure(model=1)
    file = pdb.PDBFile()
    file.set_structure(atoms[atoms.chain_id == "B"])
    file.write(tmp_path / "b.pdb")
    [chain], _ = read(tmp_path / "b.pdb", surface=True)
    true = atoms.coord[(atoms.chain_id == "B") & (atoms.atom_name == "CB")]
    with_cb = [place for place, letter in enumerate(chain.sequence) if letter != "G"]
    assert chain.virtual_beta is not None
    assert np.median(np.linalg.norm(chain.virtual_beta[with_cb] - true, axis=1)) < 0.15
    assert chain.accessibility is not None
    assert 20 < np.nanmean(chain.accessibility) < 40
    means = {
        letter: np.nanmean([a for a, b in zip(chain.accessibility, chain.sequence, strict=True) if b == letter])
        for letter in "KL"
    }
    assert means["K"] > 2 * means["L"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.pdb", "ATOM      1  CA  MET A   1       x.000\n", "no structure that can be read"),
        ("x.cif", "data_x\n_entry.id X\n", "no structure that can be read"),
        ("x.bcif", "no MessagePack", "no structure that can be read"),
        ("x.pdb", pdb_line(1, ("P", "", "DA", "1", 0.0)) + "\n", "no protein chain; leave the file out"),
        ("x.npz", "PK no zip", "no .npz of chains that can be read"),
        ("x.txt", "hello\n", "neither sequences nor a table"),
    ],
)
def test_a_damaged_file_is_one_line_and_can_be_left_out(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        list(read_records(tmp_path / name))
    if message.startswith("no "):
        tally = Tally()
        good = written(tmp_path / "good.pdb", ca_lines(TRIPLE))
        records = list(read_records([tmp_path / name, good], on_bad="skip", tally=tally))
        assert [record.protein.id for record in records] == ["good_A"]
        assert message.split(";")[0] in "\n".join(tally.lines())


def test_a_folder_notes_files_without_protein_and_reads_sequences_first_unless_told(tmp_path: Path) -> None:
    written(tmp_path / "good.pdb", ca_lines(TRIPLE))
    written(tmp_path / "dna.pdb", [pdb_line(1, ("P", "", "DA", "1", 0.0))])
    tally = Tally()
    [record] = read_records(tmp_path, tally=tally)
    assert (record.protein.sequence, record.label) == ("MKT", "0.00,0.00,0.00 3.80,0.00,0.00 7.60,0.00,0.00")
    assert f"  1 file without a protein chain ({tmp_path / 'dna.pdb'})" in tally.lines()
    (tmp_path / "a.fasta").write_text(">a\nMKT\n")
    tally = Tally()
    assert [record.protein.id for record in read_records(tmp_path, tally=tally)] == ["a"]
    assert len(tally.unread) == 2
    assert [record.protein.id for record in read_records(tmp_path, structures=True)] == ["good_A"]


def test_labels_of_a_table_are_joined_to_chains(tmp_path: Path) -> None:
    written(tmp_path / "good.pdb", ca_lines(TRIPLE))
    (tmp_path / "labels.tsv").write_text("good_A\tfold\n")
    [record] = read_records(tmp_path / "good.pdb", labels=tmp_path / "labels.tsv")
    assert record.label == "fold"


@pytest.mark.parametrize("residues", [30, 120])
def test_measures_are_those_of_biotite_and_tmtools(residues: int) -> None:
    """lDDT to the rounding of float32; no superposition of either program is better than ours by more than .01."""
    true = wandering(residues)
    predicted = true + np.random.default_rng(residues).normal(scale=1.5, size=true.shape).astype(np.float32)
    atoms = AtomArray(residues)
    atoms.coord, atoms.res_id = true, np.arange(residues)
    atoms.chain_id[:], atoms.res_name[:], atoms.atom_name[:], atoms.element[:] = "A", "ALA", "CA", "C"
    moved = atoms.copy()
    moved.coord = predicted
    mine = lddt(predicted, true)
    assert mine.mean == pytest.approx(lddt_of_biotite(atoms, moved), abs=1e-3)
    np.testing.assert_allclose(mine.residues, lddt_of_biotite(atoms, moved, aggregation="residue"), atol=1e-2)
    fitted, _ = superimpose(atoms, moved)
    rows = np.arange(residues)
    in_order = tm_score(predicted, true)
    assert in_order >= tm_score_of_biotite(atoms, fitted, rows, rows, residues) - 1e-6
    assert in_order == pytest.approx(realigned_tm_score(predicted, true, "A" * residues), abs=0.01)


def test_tm_align_may_lay_other_residues_on_one_another() -> None:
    """A helix that is shifted by three residues: nearly perfect when aligned anew."""
    true = helix(60)
    predicted = np.vstack([hinged(60, 30, 90)[:3] - 9, true[:-3]])
    assert realigned_tm_score(predicted, true, "A" * 60) > 0.9 > tm_score(predicted, true) - 0.1


def test_states_of_mkdssp_stand_at_their_residues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own answer is a stand-in here; of 2GTL, mkdssp 4.2.2 gave 54.7 % H and 9.3 % E by hand (2026-11-29)."""
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(DsspApp, "annotate_sse", staticmethod(lambda *_, **__: np.array(["H", " ", "E"])))
    path = written(tmp_path / "x.pdb", ["SEQRES   1 A    5  GLY MET LYS THR GLY", *ca_lines(TRIPLE)])
    [chain], told = read(path, surface=True)
    assert (chain.ss8, told) == ("?HCE?", [])
    monkeypatch.setattr("shutil.which", lambda _: None)
    [chain], told = read(path, surface=True)
    assert chain.ss8 is None
    assert told == ["  1 chain without DSSP states: mkdssp is not installed, or gave none (x_A)"]


def test_a_structure_is_read_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join([*ca_lines(TRIPLE), "END", ""]).encode()
    for read_ids in (
        lambda: [record.protein.id for record in read_records("-")],
        lambda: [chain.id for chain, _ in chains_of_inputs(["-"], StructureReading())],
    ):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
        assert read_ids() == ["stdin_A"]
