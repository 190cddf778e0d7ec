"""The API from Python does what the commands do, for both kinds of task, and shows itself in a notebook."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import done
from families import rows as family_rows
from families import write_families
from gene_ontology import ZINC, write_cafa, write_obo

import esmcls
from esmcls.errors import UsageError, WorkspaceError

ARCHIVES = Path(__file__).with_name("archives") / "release-0.1.0"


@pytest.fixture(scope="module", params=["families", "terms"])
def workspace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> esmcls.Workspace:
    """A workspace of each kind of task with a knn model, made from Python alone."""
    folder = tmp_path_factory.mktemp(request.param)
    place = esmcls.Workspace.open(folder / "w", create=True)
    if request.param == "families":
        esmcls.embed_dataset(place, write_families(folder / "families.csv"), encoder="kmer", dtype="float32")
    else:
        fasta, table = write_cafa(folder)
        obo = write_obo(folder / "go.obo")
        esmcls.embed_dataset(place, fasta, labels=[table], obo=obo, encoder="kmer", dtype="float32")
    esmcls.fit(place, "knn")
    return place


def test_a_workspace_made_from_python_is_the_one_that_the_command_makes(tmp_path: Path) -> None:
    families = write_families(tmp_path / "families.csv")
    esmcls.embed_dataset(tmp_path / "python", families, encoder="kmer")
    done("embed", families, "--encoder", "kmer", "-w", tmp_path / "command")
    here, there = (esmcls.Workspace.open(tmp_path / name) for name in ("python", "command"))
    assert (here.dataset, here.split_digest) == (there.dataset, there.split_digest)
    sequences = here.dataset.sequences
    np.testing.assert_array_equal(
        here.latest_cache().read(sequences, "mean"), there.latest_cache().read(sequences, "mean")
    )


def test_a_model_is_asked_by_itself_by_its_folder_or_as_the_best_of_its_workspace(workspace: esmcls.Workspace) -> None:
    sequences = workspace.dataset.part("test").sequences
    model = esmcls.load_model(workspace.model_folder("knn"))
    by_itself = esmcls.predict(model, sequences)
    assert by_itself == esmcls.predict(model.folder, sequences)
    assert by_itself == esmcls.predict(workspace, sequences)
    assert by_itself == esmcls.predict(workspace.folder, sequences)
    assert [row.id for row in by_itself if row.rank == 1] == [str(number) for number in range(1, len(sequences) + 1)]


def test_predictions_are_a_table_with_a_column_a_field(workspace: esmcls.Workspace) -> None:
    rows = esmcls.predict(workspace, workspace.dataset.part("test").sequences)
    frame = rows.to_frame()
    assert tuple(frame.columns) == rows.columns
    assert frame["probability"].to_list() == [row.probability for row in rows]  # type: ignore[attr-defined]
    assert esmcls.predict(workspace, []).to_frame().shape[0] == 0


def test_what_is_predicted_is_what_the_command_writes(workspace: esmcls.Workspace, tmp_path: Path) -> None:
    test = workspace.dataset.part("test")
    proteins = [esmcls.Protein(name, sequence) for name, sequence in zip(test.ids, test.sequences, strict=True)]
    (tmp_path / "test.fasta").write_text("".join(f">{one.id}\n{one.sequence}\n" for one in proteins))
    written = done("predict", tmp_path / "test.fasta", "-w", workspace.folder, "-q").out.splitlines()
    rows = esmcls.predict(workspace, proteins)
    assert len(written) == len(rows) + 1
    assert [line.split("\t")[0] for line in written[1:]] == [row.id for row in rows]


def test_evaluate_measures_the_test_part_as_the_command_does(workspace: esmcls.Workspace) -> None:
    lines = esmcls.evaluate(workspace).lines()
    assert done("evaluate", "-w", workspace.folder, "-q").out.splitlines() == ["model knn", *lines]
    assert esmcls.evaluate(workspace.model_folder("knn")).lines() == lines
    assert esmcls.evaluate(workspace, workspace.dataset.part("test")).lines() == lines


def test_a_model_outside_any_workspace_needs_inputs(workspace: esmcls.Workspace, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(workspace.model_folder("knn"), tmp_path / "far" / "away" / "knn"))
    with pytest.raises(WorkspaceError, match="no test part to measure this model on; give INPUT and --labels"):
        esmcls.evaluate(elsewhere)


def test_compare_gives_a_typed_report_that_can_be_written(workspace: esmcls.Workspace, tmp_path: Path) -> None:
    compared = esmcls.compare(workspace, heads=("knn",), baselines=False)
    # the one that `fit` made is taken; of terms it stays as it is, since it was fitted on validation proteins, too
    name = "knn" if workspace.ontology is None else "knn-1"
    assert compared.report.best == name
    assert [row.name for row in compared.report.rows] == [name]
    assert compared.write(tmp_path / "report") == tmp_path / "report" / "report.html"
    assert repr(compared) == f"<comparison of 1 model, the best is {name}>"


def test_one_text_instead_of_a_list_is_refused(workspace: esmcls.Workspace) -> None:
    with pytest.raises(UsageError, match="a list of sequences, not one text"):
        esmcls.predict(workspace, "MKTAYIAKQR")


def test_an_option_that_a_model_cannot_have_is_refused_with_the_reason(workspace: esmcls.Workspace) -> None:
    if workspace.ontology is None:
        with pytest.raises(UsageError, match=r"is not for model knn, which .*one label a protein"):
            esmcls.predict(workspace, ["MKTAYIAKQR"], min_score=0.3)
    with pytest.raises(UsageError, match=r"calibration rows .*fit .*with --calibration 10%"):
        esmcls.predict(workspace, ["MKTAYIAKQR"], coverage=0.9)


def test_everything_shows_itself_in_a_notebook(workspace: esmcls.Workspace) -> None:
    model = esmcls.load_model(workspace.model_folder("knn"))
    assert repr(model).startswith("<Model knn: task ")
    assert repr(workspace).startswith(f"<Workspace {workspace.folder}: records ")
    for shown in (workspace, model, esmcls.predict(workspace, ["MKT"]), esmcls.evaluate(model)):
        page = shown._repr_html_()
        assert page.startswith(("<table>", "<pre>"))
        assert "<script" not in page


def test_names_are_escaped_in_a_notebook(tmp_path: Path) -> None:
    lines = ["id,sequence,label,split"]
    lines += [f"{name},{sequence},<script>{label}</script>,{part}" for name, sequence, label, part in family_rows()]
    (tmp_path / "f.csv").write_text("\n".join(lines) + "\n")
    esmcls.embed_dataset(tmp_path / "w", tmp_path / "f.csv", encoder="composition")
    model = esmcls.fit(tmp_path / "w", "knn", {"k": 1}).load()
    assert "<script>" not in esmcls.predict(model, ["MAAAAAAAA"])._repr_html_()


def test_a_model_of_terms_gives_terms_with_their_names(workspace: esmcls.Workspace) -> None:
    if workspace.ontology is None:
        assert {type(row) for row in esmcls.predict(workspace, ["MKT"])} == {esmcls.Prediction}
        return
    rows = esmcls.predict(workspace, ["MCHACCCCCCCCCCCC"])
    assert {type(row) for row in rows} == {esmcls.TermPrediction}
    assert "zinc ion binding" in {row.name for row in rows if row.term == ZINC}  # type: ignore[attr-defined]


def test_an_archived_model_is_evaluated_in_its_workspace(tmp_path: Path) -> None:
    shutil.copytree(ARCHIVES / "families", tmp_path / "w")
    place = esmcls.Workspace.open(tmp_path / "w")
    assessment = esmcls.evaluate(place.model_folder("knn"))
    assert assessment.same_split
    assert assessment.file == place.reports / "evaluate-knn" / "metrics.json"
    assert replace(assessment, file=None).lines() == assessment.lines()
