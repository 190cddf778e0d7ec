"""Chains of known structure as a data set: arrays and tables, recognised, checked, split, told of, without biotite."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import done, run
from traces import helix, wandering

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.structures import StructureSet, leakage
from esmcls.errors import DataError
from esmcls.labels.kinds import STRUCTURE
from esmcls.labels.label_checks import LabelChecks, misfit
from esmcls.labels.residue_labels import masked
from esmcls.labels.structure_labels import Structures, trace_in_words
from esmcls.reading.inputs import Inputs
from esmcls.reading.structures.arrays import read_arrays
from esmcls.reading.structures.chain import Chain, virtual_beta
from esmcls.reading.structures.notes import StructureNotes
from esmcls.types import Coordinates
from esmcls.workspace.intake import Intake, take_in

SEQUENCES = ["MKTAYIAKQRQISF", "AELMKRAGNPSDGNP", "VIYFTWVIYAGNPSDK"]


def arrays_of(traces: Sequence[Coordinates], sequences: Sequence[str] = SEQUENCES) -> dict[str, Any]:
    """Return the arrays of chains, in steps of 0.1 Å."""
    steps = [np.diff(np.round(trace * 10), axis=0, prepend=np.round(trace[:1] * 10)).T for trace in traces]
    return {
        "id": np.array([f"1ABC_{letter}" for letter, _ in zip("ABC", sequences, strict=False)], dtype="S"),
        "length": np.array([len(sequence) for sequence in sequences], dtype=np.uint16),
        "sequence": np.frombuffer("".join(sequences).encode(), dtype=np.uint8),
        "ss8": np.frombuffer(("H" * sum(map(len, sequences))).encode(), dtype=np.uint8),
        "rsa_percent": np.arange(sum(map(len, sequences)), dtype=np.uint8),
        "ca_delta_tenth_angstrom": np.concatenate(steps, axis=1).astype(np.int8),
    }


@pytest.fixture
def arrays() -> dict[str, Any]:
    """Three chains."""
    return arrays_of([wandering(len(sequence), seed) for seed, sequence in enumerate(SEQUENCES)])


@pytest.fixture
def npz(tmp_path: Path, arrays: dict[str, Any]) -> Path:
    """A file of them."""
    np.savez_compressed(tmp_path / "chains.npz", **arrays)
    return tmp_path / "chains.npz"


def taken_in(*inputs: Path, **options: Any) -> tuple[Intake, Dataset]:
    intake = take_in(Inputs(inputs, **options))
    assert isinstance(intake.dataset, Dataset)
    return intake, intake.dataset


def test_arrays_are_chains_to_a_tenth_of_an_angstrom_from_the_first_atom(npz: Path) -> None:
    notes = StructureNotes()
    chains = list(read_arrays(str(npz), notes))
    assert [chain.id for chain in chains] == ["1ABC_A", "1ABC_B", "1ABC_C"]
    assert [chain.sequence for chain in chains] == SEQUENCES
    for seed, chain in enumerate(chains):
        true = wandering(len(chain.sequence), seed)
        np.testing.assert_allclose(chain.trace, true - true[0], atol=0.11)
        assert chain.ss8 == "H" * len(chain.sequence)
    assert chains[1].accessibility is not None
    assert chains[1].accessibility[0] == len(SEQUENCES[0])
    assert notes.lines() == ["structures: 3 protein chains of 1 file (arrays)"]


def test_structures_are_recognised_and_kept_as_traces_with_their_residues(npz: Path) -> None:
    intake, dataset = taken_in(npz)
    assert intake.task == dataset.task == STRUCTURE
    assert intake.lines()[:3] == [
        "3 records read",
        "structures: 3 protein chains of 1 file (arrays)",
        "dataset: structure, resolved 45 of 45 residues; records: 2 train, 1 validation, 0 test",
    ]
    traces = Structures.from_texts(dataset.labels)
    assert np.diff(traces.offsets).tolist() == list(map(len, dataset.sequences))


def test_a_test_part_is_a_file_of_its_own_or_a_name(npz: Path, tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "test.npz", **arrays_of([helix(14)], SEQUENCES[:1]))
    _, named = taken_in(npz, tmp_path / "test.npz")
    np.savez(tmp_path / "held_out.npz", **arrays_of([helix(14)], SEQUENCES[:1]))
    _, given = taken_in(npz, test=(tmp_path / "held_out.npz",))
    assert named.parts.count("test") == given.parts.count("test") == 1
    assert len(given) == 3  # the same sequence has left train


def test_another_kind_of_task_of_structures_is_refused(npz: Path) -> None:
    with pytest.raises(DataError, match=r"a structure, not labels for --task residue-label; leave --task out"):
        taken_in(npz, task="residue-label")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "ca_delta_tenth_angstrom",
            None,
            r"no chains: it lacks the array 'ca_delta_tenth_angstrom', and holds id, leng",
        ),
        (
            "sequence",
            np.zeros(4, dtype=np.uint8),
            r"array 'sequence' is uint8 \(4,\), where the lengths ask for \(45,\)",
        ),
        ("ss8", np.zeros(45), r"array 'ss8' is float64 \(45,\)"),
        ("length", np.array([14.0, 15.0, 16.0]), r"array 'ca_delta_tenth_angstrom' is int8 \(3, 45\)"),
        ("id", np.array(["1ABC_A"]), r"array 'id' is <U6 \(1,\), where the lengths ask for \(3,\)"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error_of_one_line(
    tmp_path: Path, arrays: dict[str, Any], name: str, value: Any, message: str
) -> None:
    changed = {key: array for key, array in {**arrays, name: value}.items() if array is not None}
    np.savez(tmp_path / "x.npz", **changed)
    with pytest.raises(DataError, match=message):
        taken_in(tmp_path / "x.npz")


def test_a_table_of_traces_is_recognised_and_its_lengths_are_checked(tmp_path: Path) -> None:
    rows = [f"p{n}\t{sequence}\t{trace_in_words(helix(len(sequence)))}" for n, sequence in enumerate(SEQUENCES)]
    table = tmp_path / "traces.tsv"
    table.write_text("\n".join(["id\tsequence\tlabel", *rows, ""]))
    intake, _ = taken_in(table)
    assert intake.task == STRUCTURE
    rows[1] = rows[1].rpartition(" ")[0]
    table.write_text("\n".join(["id\tsequence\tlabel", *rows, ""]))
    message = (
        r"traces.tsv:3: record 'p1': structure of 14 residues for a sequence of 15 residues; "
        r"give x,y,z of the CA atom of each residue"
    )
    with pytest.raises(DataError, match=message):
        taken_in(table, task="structure")


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        ("1,2,3 ? 4,5,6", ""),
        ("? ? ?", ""),
        ("1,2,3 4,5,6", "structure of 2 residues for a sequence of 3 residues"),
        ("1,2,3 4,5 7,8,9", "residue 2 is '4,5', where x,y,z in Å or ? is wanted"),
        ("CCH", "label 'CCH' that is no CA trace, for a sequence of 3 residues"),
    ],
)
def test_a_trace_has_a_place_for_each_residue(label: str, problem: str) -> None:
    assert misfit(label, "MKT", STRUCTURE) == problem


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        (trace_in_words(helix(12)), STRUCTURE),
        (" ".join(["0.5"] * 12), "residue-number"),
        (",".join(["0.5"] * 12), "residue-number"),
        ("CCCHHHHHHCCC", "residue-label"),
    ],
)
def test_labels_of_residues_are_told_apart(label: str, kind: str) -> None:
    checks = LabelChecks()
    for start in "MKT":
        checks.add(label, start + "A" * 11)
    assert checks.kind("x.csv") == kind


def test_what_is_for_classes_says_where_structures_are_described(npz: Path) -> None:
    ran = run("data", "stats", npz)
    assert ran.code == 1
    assert ran.err.endswith(
        "structures, not classes of proteins; esmcls data structures describes them, esmcls embed takes them\n"
    )


def test_a_mask_takes_places_away() -> None:
    assert masked("1,2,3 4,5,6 7,8,9", "101") == "1,2,3 ? 7,8,9"
    assert masked("1,2,3", "101") == "1 nan 3"  # numbers with commas between, as ever


def test_the_virtual_beta_of_an_ideal_residue_lies_where_that_of_alanine_does() -> None:
    """Ideal N, CA, C, CB of alanine (Engh and Huber's angles; rigid_group_atom_positions of AlphaFold): CB to .03 Å."""
    places = (-0.525, 1.363, 0), (0, 0, 0), (1.526, 0, 0), (-0.529, -0.774, -1.205)
    n, ca, c, cb = (np.array([place], dtype=np.float32) for place in places)
    assert np.linalg.norm(virtual_beta(n, ca, c) - cb) < 0.03
    assert np.isnan(virtual_beta(n * np.nan, ca, c)).all()


def test_what_data_structures_writes_is_what_embed_reads(npz: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "held_out.npz", **arrays_of([helix(14)], ["MKTAYIAKQRQISW"]))
    table, states, surfaces = tmp_path / "all.csv", tmp_path / "states.fasta", tmp_path / "surfaces.fasta"
    outputs = ["-o", str(table), "--ss8", str(states), "--accessibility", str(surfaces)]
    ran = done("data", "structures", npz, "--test", tmp_path / "held_out.npz", *outputs)
    assert ran.out.splitlines()[1].split() == ["train", "3", "3", "45", "0.0", "–", "3", "3"]
    _, dataset = taken_in(table)
    direct = list(read_arrays(str(npz), StructureNotes()))
    assert dataset.labels[:3] == [trace_in_words(chain.trace) for chain in direct]
    assert dataset.parts[3] == "test"
    assert taken_in(states)[0].task == "residue-label"
    intake, numbers = taken_in(surfaces)
    assert intake.task == "residue-number"
    assert numbers.parts[3] == "test"
    with open(table, encoding="utf-8") as handle:
        assert next(csv.DictReader(handle))["ss8"] == "H" * 14


def test_a_test_chain_that_is_like_a_training_one_is_told(tmp_path: Path) -> None:
    whole = "".join(SEQUENCES) + "MGHEDKCFRWTNQYPVIL"
    for name, sequence in (("train", whole), ("test", whole[3:-3].replace("Q", "E"))):
        np.savez(tmp_path / f"{name}.npz", **arrays_of([helix(len(sequence))], [sequence]))
    [line] = [line for line in done("data", "structures", tmp_path).out.splitlines() if line.startswith("leakage")]
    assert line.startswith("leakage: 1 of 1 test chains (100.0 %) has a hit at E < 0.001 in another part (phmmer ")


def test_unresolved_residues_parts_and_resolution_are_counted() -> None:
    half = helix(10)
    half[5:] = np.nan
    chains = [Chain("a", "M" * 10, half, resolution=2.0), Chain("b", "K" * 10, helix(10), resolution=3.0)]
    [counts, _] = StructureSet(chains, ["train", "train"]).sections()
    assert counts[1] == ("train", "2", "2", "20", "25.0", "2.50 of 2", "0", "0")
    assert leakage(np.array([1e-4, np.inf])) == (
        "leakage: 1 of 2 test chains (50.0 %) has a hit at E < 0.001 in another part"
    )


def test_structures_without_biotite_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "biotite.structure", None)
    (tmp_path / "x.pdb").write_text("HEADER    A\n")
    result = run("embed", str(tmp_path / "x.pdb"), "-w", str(tmp_path / "w"))
    assert result.code == 1
    assert result.err.splitlines() == [
        "esmcls: error: a structure file (PDB, mmCIF) needs the package biotite; run: pip install 'esmcls[structure]'"
    ]
