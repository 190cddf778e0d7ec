"""`esmcls fold`: a file a protein, whole or not at all, named so that nothing is lost; and the files' exact text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command import done, run
from distograms import HelixHead, helix, sharp
from families import write_families

import esmcls
from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.labels.kinds import STRUCTURE
from esmcls.models import predict
from esmcls.models.model import Model
from esmcls.structures.distogram import PairAnswer
from esmcls.structures.writing import MOST_RESIDUES, TraceFile, mmcif_text, pdb_text

HEADER = "id\tlength\tunseen\tconfidence\tloss\tmirror_loss\tfile\tstatus"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with a model of another kind of task."""
    folder = tmp_path_factory.mktemp("folded")
    done("embed", write_families(folder / "families.csv"), "--encoder", "composition", "-w", folder / "w")
    done("fit", "--head", "knn", "-w", folder / "w")
    return folder / "w"


@pytest.fixture
def model(other: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """Return a model that folds every protein to a helix; the command opens it."""
    knn = esmcls.load_model(other / "models" / "knn")
    manifest = dataclasses.replace(knn.manifest, task=STRUCTURE, head="helix")
    helical = dataclasses.replace(knn, manifest=manifest, head=HelixHead())  # type: ignore[arg-type]
    monkeypatch.setattr(predict, "open_model", lambda *args, **options: helical)
    return helical


def fasta(path: Path, **sequences: str) -> Path:
    path.write_text("".join(f">{id_}\n{sequence}\n" for id_, sequence in sequences.items()))
    return path


def test_a_protein_is_a_file_and_a_row_of_the_table(model: Model, tmp_path: Path) -> None:
    ran = done("fold", fasta(tmp_path / "a.fasta", a="MKTAYIAK", b="MLX"), "-o", tmp_path / "o", "--starts", "1")
    header, first, second = ran.out.splitlines()
    assert header == HEADER
    assert (tmp_path / "o" / "summary.tsv").read_text() == ran.out
    assert first.split("\t")[:4] == ["a", "8", "1", "0.5"]
    assert [line.split("\t")[-2:] for line in (first, second)] == [["a.pdb", "folded"], ["b.pdb", "folded"]]
    text = (tmp_path / "o" / "a.pdb").read_text()
    assert sum(line.startswith("ATOM") for line in text.splitlines()) == 7
    assert "REMARK 999 The B-factor is the predicted lDDT of the residue, times 100." in text
    assert f"with model {model.name}:" in text.replace("\nREMARK 999", "")
    assert "model knn: 2 of 2 folded; in " in ran.err
    assert "2 with residues that the encoder did not see, which have no atom: a, b" in ran.err


def test_a_run_goes_on_where_it_was_and_keeps_what_is_there(model: Model, tmp_path: Path) -> None:
    words = ("-o", tmp_path / "o", "--starts", "1", "--format", "mmcif")
    done("fold", fasta(tmp_path / "a.fasta", a="MKTAYIAK"), *words)
    before = (tmp_path / "o" / "a.cif").stat().st_mtime_ns
    ran = done("fold", fasta(tmp_path / "b.fasta", a="MKTAYIAK", b="MKTAY"), *words)
    rows = [line.split("\t") for line in ran.out.splitlines()[1:]]
    assert [row[-1] for row in rows] == ["kept", "folded"]
    assert rows[0][1:4] == ["8", "1", "0.5"]
    assert (tmp_path / "o" / "a.cif").stat().st_mtime_ns == before
    assert "1 of 2 folded; 1 were there from an earlier run" in ran.err


@pytest.mark.parametrize("there", ["sequence", "seed", "text", "folder"])
def test_a_file_of_something_else_is_never_replaced(model: Model, tmp_path: Path, there: str) -> None:
    output = tmp_path / "o"
    if there == "folder":
        (output / "a.pdb").mkdir(parents=True)
    else:
        sequence, seed = ("MKTAYIAR", "0") if there == "sequence" else ("MKTAYIAK", "1")
        done("fold", fasta(tmp_path / "b.fasta", a=sequence), "-o", output, "--starts", "1", "--seed", seed)
    if there == "text":
        (output / "a.pdb").write_text("mine")
    ran = run("fold", fasta(tmp_path / "a.fasta", a="MKTAYIAK"), "-o", output, "--starts", "1")
    assert ran.code == 1
    assert ran.err.endswith(
        f"{output / 'a.pdb'}: is there already, and not of this model, sequence and settings; "
        "write into another folder (-o FOLDER), or remove it\n"
    )
    assert there != "text" or (output / "a.pdb").read_text() == "mine"


def test_ids_of_any_signs_have_files_of_their_own(model: Model, tmp_path: Path) -> None:
    ids = ["sp|P1|A/B", "sp.P1.A B", "sp|P1|A:B", "../etc", "CASE", "case", "é", "summary"]
    path = tmp_path / "a.fasta"
    path.write_text("".join(f">{id_}\nMKTA\n" for id_ in ids))
    ran = done("fold", path, "-o", tmp_path / "o", "--starts", "1")
    files = [line.split("\t")[-2] for line in ran.out.splitlines()[1:]]
    assert files == [
        "sp_P1_A_B.pdb",
        "sp.P1.A.pdb" if "sp.P1.A\t" in ran.out else "sp.P1.A_B.pdb",
        "sp_P1_A_B-2.pdb",
        "_.._etc.pdb",
        "CASE.pdb",
        "case-2.pdb",
        "_.pdb",
        "summary.pdb",
    ]
    assert sorted(file.name for file in (tmp_path / "o").iterdir()) == sorted([*files, "summary.tsv"])
    assert "files are not called by the id" in ran.err


def test_a_model_of_another_kind_of_task_is_refused_before_anything_is_written(other: Path, tmp_path: Path) -> None:
    ran = run("fold", fasta(tmp_path / "a.fasta", a="MKTA"), "-w", other, "-o", tmp_path / "o")
    assert ran.code == 2
    assert "esmcls: error: model knn is of one label; fold takes one of structures (esmcls embed CHAINS" in ran.err
    assert not (tmp_path / "o").exists()


def test_the_folder_must_be_one(model: Model, tmp_path: Path) -> None:
    path = fasta(tmp_path / "a.fasta", a="MKTA")
    ran = run("fold", path, "-o", path)
    assert (ran.code, ran.err) == (1, f"esmcls: error: {path}: is no folder; name a folder (-o FOLDER)\n")


def test_a_bad_record_ends_the_run_or_is_left_out_as_asked(model: Model, tmp_path: Path) -> None:
    path = fasta(tmp_path / "a.fasta", a="MK1A", b="MKTA")
    assert run("fold", path, "-o", tmp_path / "o").code == 1
    ran = run("fold", path, "-o", tmp_path / "o", "--on-bad-record", "skip", "--starts", "1")
    assert ran.code == 3
    assert [line.split("\t")[0] for line in ran.out.splitlines()] == ["id", "b"]


def test_python_folds_as_the_command_does(model: Model, tmp_path: Path) -> None:
    [folded] = esmcls.fold(model, ["MKTAYIAK"], starts=1)
    done("fold", fasta(tmp_path / "a.fasta", a="MKTAYIAK"), "-o", tmp_path / "o", "--starts", "1")
    lines = [line for line in (tmp_path / "o" / "a.pdb").read_text().splitlines() if line.startswith("ATOM")]
    written = np.array([[float(line[start : start + 8]) for start in (30, 38, 46)] for line in lines])
    np.testing.assert_allclose(folded.trace[1:], written, atol=6e-4)
    with pytest.raises(UsageError, match="fold takes a list of sequences, not one text"):
        esmcls.fold(model, "MKTAYIAK")


def written(sequence: str, **options: object) -> TraceFile:
    """Return a file of a helix whose confidence falls from 1 to 0."""
    confidence = np.linspace(1, 0, len(sequence), dtype=np.float32)
    return TraceFile("sp|P1|é", sequence, helix(len(sequence)), confidence, ("what it is",))


def test_a_pdb_file_has_its_columns_where_the_format_wants_them() -> None:
    file = written("MKX" * 5)
    file.trace[1] = np.nan
    lines = pdb_text(file).splitlines()
    assert lines[0].rstrip() == "TITLE     CA trace of sp|P1|\\xe9"
    assert lines[1] == "REMARK 999 what it is"
    assert lines[2] == "SEQRES   1 A   15  MET LYS UNK MET LYS UNK MET LYS UNK MET LYS UNK MET"
    assert lines[3] == "SEQRES   2 A   15  LYS UNK"
    assert lines[4] == "ATOM      1  CA  MET A   1       2.300   0.000   0.000  1.00100.00           C"
    assert lines[5] == "ATOM      2  CA  UNK A   3      -2.161  -0.787   3.000  1.00 85.71           C"
    assert lines[-3:] == [
        "ATOM     14  CA  UNK A  15       1.762  -1.478  21.000  1.00  0.00           C",
        "TER      15      UNK A  15",
        "END",
    ]
    assert {len(line) for line in lines if line.startswith("ATOM")} == {78}


def test_an_mmcif_file_has_as_many_values_as_columns() -> None:
    lines = mmcif_text(written("MKX")).splitlines()
    assert lines[0] == "data_sp_P1__"
    columns = [line for line in lines if line.startswith("_atom_site.")]
    atoms = [line.split() for line in lines if line.startswith("ATOM")]
    assert [len(atom) for atom in atoms] == [len(columns)] * 3
    assert dict(zip(columns, atoms[2], strict=True))["_atom_site.B_iso_or_equiv"] == "0.00"


def test_what_a_pdb_file_has_no_room_for_is_refused() -> None:
    length = MOST_RESIDUES + 1
    long = TraceFile("a", "M" * length, np.zeros((length, 3), np.float32), np.zeros(length, np.float32))
    with pytest.raises(UsageError, match=r"a: 10,000 residues, for which a PDB file has no room; write mmCIF"):
        pdb_text(long)
    assert mmcif_text(long).count("\nATOM ") == length
    wide = TraceFile("a", "M", np.array([[1e3, 0, 0]], np.float32), np.zeros(1, np.float32))
    with pytest.raises(UsageError, match="a trace wider than 2,000 Å"):
        pdb_text(wide)


def test_arrays_of_different_lengths_make_no_file() -> None:
    with pytest.raises(ValueError, match=r"are of \[1, 2\] residues"):
        TraceFile("a", "MK", np.zeros((1, 3), np.float32), np.zeros(1, np.float32))


def test_a_protein_that_the_memory_does_not_hold_is_told_and_the_others_are_folded(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scarce(self: HelixHead, x: Features) -> Iterator[PairAnswer]:
        if len(x.sequences[0]) > 6:
            raise MemoryError
        yield sharp(helix(len(x.sequences[0]) - 1), first=1)

    monkeypatch.setattr(HelixHead, "per_protein", scarce)
    path = fasta(tmp_path / "a.fasta", long="MKTAYIAK", short="MKTA")
    ran = run("fold", path, "-o", tmp_path / "o", "--starts", "1")
    rows = [line.split("\t") for line in ran.out.splitlines()[1:]]
    assert (ran.code, [row[-2:] for row in rows]) == (3, [["", "too_large"], ["short.pdb", "folded"]])
    assert "1 not folded (too_large): long" in ran.err
