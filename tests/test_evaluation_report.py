"""The report of one model: every class or term, every wrong protein with its nearest, and what a paper says beside."""

from __future__ import annotations

import csv
import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import done, run
from families import write_families
from kinds import KINDS, ONE_LABEL, TERMS, Kind, relabelled, with_parts

import esmcls
from esmcls.datasets.dataset import Dataset
from esmcls.errors import DataError, UsageError
from esmcls.evaluation.assess import Assessment, assess
from esmcls.evaluation.compare import compare
from esmcls.evaluation.nearness import NAMES, nearness
from esmcls.evaluation.origin import machine, origin
from esmcls.models.fit import fit_head
from esmcls.models.folder import load_model
from esmcls.models.model import Model
from esmcls.workspace.workspace import Workspace

SETTINGS = {"knn": {"k": "1"}, "linear": {"epochs": "2"}}


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def workspace(kind: Kind, tmp_path: Path) -> Workspace:
    return kind.workspace(tmp_path / "w")


@pytest.fixture
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmcls.reporting.report.save_figures", lambda *_: [])


def fitted(workspace: Workspace, head: str = "knn", **options: Any) -> Model:
    return load_model(fit_head(workspace, head, SETTINGS.get(head), **options).folder)


def swapped(workspace: Workspace, kind: Kind) -> Dataset:
    """Return the test part with the label of one third on all: two thirds are wrong."""
    return relabelled(workspace.dataset.part("test"), "test", kind.label)


def folder_of(assessment: Assessment) -> Path:
    assert assessment.file is not None
    return assessment.file.parent


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cosines(workspace: Workspace, one: str, others: list[str]) -> Any:
    with workspace.latest_cache() as cache:
        vectors = np.asarray(cache.read([one, *others], "mean"), dtype=np.float64)
    vectors -= vectors[1:].mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[1:] @ vectors[0]


# What is left


@pytest.mark.usefixtures("all_formats")
def test_a_page_tables_and_figures_are_left_and_are_the_same_bytes_twice(kind: Kind, workspace: Workspace) -> None:
    model = fitted(workspace)
    assessment = assess(model, workspace)
    page = assessment.write()
    assert page == workspace.reports / "evaluate-knn" / "report.html"
    names = {"one label": ("classes", "wrong", "tiers"), "terms": ("terms", "wrong", "buckets")}[kind.name]
    first = files_below(page.parent)
    assert {"metrics.json", "report.json", "evaluation.json"} <= set(first)
    assert {f"{name}.tsv" for name in names[:1]} | {f"{names[0]}.xlsx"} <= set(first)
    figure = "lengths" if kind is ONE_LABEL else "precision_recall"
    assert {f"figures/{figure}.{suffix}" for suffix in ("svg", "png", "pdf")} <= set(first)
    assess(model, workspace).write()
    assert files_below(page.parent) == first


@pytest.mark.usefixtures("_no_figures")
def test_every_wrong_protein_is_told_with_the_training_protein_whose_vector_is_nearest(
    kind: Kind, workspace: Workspace
) -> None:
    """Of a head that knows nothing of neighbours."""
    given = swapped(workspace, kind)
    assessment = assess(fitted(workspace, "linear"), workspace, given, source="swapped")
    assessment.write()
    told = {row["id"]: row for row in rows_of(folder_of(assessment) / "wrong.tsv")}
    right = zip(given.ids, workspace.dataset.part("test").labels, strict=True)
    expected = {name for name, label in right if label != kind.label}
    assert expected <= set(told)
    trained = [row for row, part in enumerate(workspace.dataset.parts) if part != "test"]
    for name, row in told.items():
        near = cosines(
            workspace, given.sequences[given.ids.index(name)], [workspace.dataset.sequences[i] for i in trained]
        )
        place = workspace.dataset.ids.index(row["nearest_id"])
        assert float(row["similarity"]) == pytest.approx(near.max(), abs=1e-4)
        assert near[trained.index(place)] == pytest.approx(near.max(), abs=1e-4)
        assert row["similarity_is"] == "cosine of composition vectors"
        assert (row["probability"] == "") == (row["taken_for"] == "")


@pytest.mark.usefixtures("_no_figures")
def test_a_head_that_knows_the_nearest_names_the_same_in_an_evaluation_as_in_a_prediction(
    kind: Kind, workspace: Workspace
) -> None:
    model = fitted(workspace, "knn")
    given = swapped(workspace, kind)
    assessment = assess(model, workspace, given, source="swapped")
    assessment.write()
    told = {row["id"]: row for row in rows_of(folder_of(assessment) / "wrong.tsv")}
    assert told
    for name, row in told.items():
        sequence = given.sequences[given.ids.index(name)]
        answer = esmcls.predict(model, [esmcls.Protein(name, sequence)])[0]
        assert (row["nearest_id"], row["similarity_is"]) == (answer.nearest_id, "distance in the head")
        if kind is ONE_LABEL:  # answers of terms tell no distance
            assert float(row["similarity"]) == pytest.approx(answer.distance, abs=1e-4)


@pytest.mark.usefixtures("_no_figures")
def test_a_wrong_protein_of_one_label_is_told_with_what_it_was_taken_for(tmp_path: Path) -> None:
    workspace = ONE_LABEL.workspace(tmp_path / "w")
    assessment = assess(fitted(workspace), workspace, swapped(workspace, ONE_LABEL), source="swapped")
    assessment.write(names={ONE_LABEL.label: "the first"})
    right = dict(zip(workspace.dataset.ids, workspace.dataset.labels, strict=True))
    wrong = rows_of(folder_of(assessment) / "wrong.tsv")
    assert len(wrong) == 4
    for row in wrong:
        assert (row["true"], row["true_name"]) == (ONE_LABEL.label, "the first")
        assert row["taken_for"] == right[row["id"]] == row["nearest_label"]
    classes = {row["class"]: row for row in rows_of(folder_of(assessment) / "classes.tsv")}
    first = classes[ONE_LABEL.label]
    assert (first["test_proteins"], first["predicted"], first["training_members"]) == ("6", "2", "6")
    assert (float(first["precision"]), float(first["recall"]), float(first["f1"])) == (1.0, pytest.approx(1 / 3), 0.5)
    assert classes[ONE_LABEL.another]["recall"] == ""
    assert "the first" in (folder_of(assessment) / "report.html").read_text()


@pytest.mark.usefixtures("_no_figures")
def test_a_wrong_protein_of_terms_is_told_with_what_is_wrong_and_what_is_missed(tmp_path: Path) -> None:
    workspace = TERMS.workspace(tmp_path / "w")
    assessment = assess(fitted(workspace), workspace, swapped(workspace, TERMS), source="swapped")
    assessment.write()
    terms = {row["term"]: row for row in rows_of(folder_of(assessment) / "terms.tsv")}
    evaluation = json.loads((folder_of(assessment) / "metrics.json").read_text())
    for aspect, scores in evaluation["aspects"].items():
        known = [float(row["average_precision"]) for row in terms.values() if row["aspect"] == aspect and row["fmax"]]
        assert np.mean(known) == pytest.approx(scores["aupr"]["macro"])
    for row in rows_of(folder_of(assessment) / "wrong.tsv"):
        missed, wrong = (int(row[name]) for name in ("missed", "wrong"))
        assert missed + wrong > 0
        assert len(row["missed_terms"].split("; ")) == max(missed, 1)
        assert row["wrong_terms"].count("GO:") == wrong
        assert not wrong or row["wrong_terms"].startswith(row["taken_for"])
        assert row["nearest_terms"].startswith("GO:")


@pytest.mark.usefixtures("_no_figures")
def test_the_nearest_of_a_head_without_vectors_is_the_best_hit_of_its_own_search(tmp_path: Path) -> None:
    pytest.importorskip("pyhmmer")
    workspace = ONE_LABEL.workspace(tmp_path / "w")
    model = load_model(fit_head(workspace, "homology", {"engine": "phmmer"}).folder)
    part = workspace.dataset.part("train")
    given = replace(relabelled(part, "train", ONE_LABEL.label), parts=["test"] * len(part))
    assessment = assess(model, workspace, given, source="train")
    assessment.write()
    wrong = rows_of(folder_of(assessment) / "wrong.tsv")
    assert wrong
    hits = [row for row in wrong if row["nearest_id"]]
    assert hits
    assert {row["similarity_is"] for row in hits} == {"E-value of the best hit"}
    assert all(float(row["similarity"]) < 10 for row in hits)


# What it is called


@pytest.mark.usefixtures("_no_figures")
def test_another_evaluation_gets_another_folder_and_the_same_one_its_own(kind: Kind, workspace: Workspace) -> None:
    model = fitted(workspace)
    assert folder_of(assess(model, workspace)).name == "evaluate-knn"
    assert folder_of(assess(model, workspace, seed=1)).name == "evaluate-knn-2"
    assert folder_of(assess(model, workspace)).name == "evaluate-knn"
    assert folder_of(assess(model, workspace, seed=2, replace=True)).name == "evaluate-knn"
    assert folder_of(assess(model, workspace, name="mine")).name == "evaluate-mine"
    with pytest.raises(UsageError, match="an evaluation mine of other settings is there; give another --name, or"):
        assess(model, workspace, name="mine", seed=1)
    assert folder_of(assess(model, workspace, name="mine", seed=1, replace=True)).name == "evaluate-mine"
    with pytest.raises(UsageError, match="name 'a/b': use letters"):
        assess(model, workspace, name="a/b")


def test_without_a_workspace_a_report_needs_a_folder(kind: Kind, workspace: Workspace, tmp_path: Path) -> None:
    given = with_parts(workspace.dataset.part("validation"), {"validation": "test"})
    assessment = assess(fitted(workspace), None, given)
    with pytest.raises(UsageError, match="no workspace to write the report in; give a folder"):
        assessment.write()
    assert assessment.write(tmp_path / "report") == tmp_path / "report" / "report.html"


# Information accretion


@pytest.mark.usefixtures("_no_figures")
def test_computed_information_accretion_is_written_and_read_back_gives_the_same_measures(tmp_path: Path) -> None:
    workspace = TERMS.workspace(tmp_path / "w")
    model = fitted(workspace)
    counted = assess(model, workspace)
    counted.write()
    table = folder_of(counted) / "ia.tsv"
    again = assess(model, workspace, ia=table)
    assert again.evaluation.to_json() == counted.evaluation.to_json()
    again.write()
    assert not (folder_of(again) / "ia.tsv").exists()
    plan: dict[str, Any] = {"heads": ("knn",), "settings": {"knn": {"k": "1"}}, "baselines": False, "draws": 20}
    compared = compare(workspace, **plan)
    compared.write()
    assert (compared.place.folder / "ia.tsv").read_bytes() == table.read_bytes()
    by_table = compare(workspace, **plan, ia=table)
    assert by_table.place.folder != compared.place.folder
    assert by_table.report.to_json()["rows"][0]["aspects"] == compared.report.to_json()["rows"][0]["aspects"]
    assert by_table.report.to_json()["weighed_by"] == "ia.tsv"
    other = tmp_path / "IA.tsv"
    other.write_text("".join(f"{line.split()[0]}\t1\n" for line in table.read_text().splitlines()))
    weighed = compare(workspace, **plan, ia=other).report.to_json()["rows"][0]["aspects"]
    assert weighed != compared.report.to_json()["rows"][0]["aspects"]
    other.write_text("GO:0003674\t0\n")
    with pytest.raises(DataError, match="no value for"):
        compare(workspace, **plan, ia=other)


def test_one_label_has_no_information_accretion_to_compare_by(tmp_path: Path) -> None:
    workspace = ONE_LABEL.workspace(tmp_path / "w")
    with pytest.raises(UsageError, match="--ia is not for"):
        compare(workspace, heads=("knn",), ia=tmp_path / "IA.tsv")


# Data set, date, machine


def test_the_date_is_the_users_or_that_of_the_data_sets_file_and_never_of_the_clock(tmp_path: Path) -> None:
    table = write_families(tmp_path / "families.csv")
    os.utime(table, (1_000_000_000, 1_000_000_000))
    done("embed", table, "--encoder", "composition", "-w", tmp_path / "w")
    workspace = Workspace.open(tmp_path / "w")
    known = origin(workspace)
    assert (known.data, known.date, known.split) == ("families.csv", "2001-09-09", "as the data set has it")
    assert set(known.versions) >= {"esmcls", "numpy", "torch"}
    assert origin(workspace, "2026-02-03").date == "2026-02-03"
    with pytest.raises(UsageError, match=r"date '3\.2\.2026': give year, month and day"):
        origin(workspace, "3.2.2026")
    table.write_text("changed")
    assert origin(workspace).date == ""
    assert machine().cores >= 1


def test_commands_take_a_date_and_say_what_is_wrong_with_it(tmp_path: Path) -> None:
    workspace = ONE_LABEL.workspace(tmp_path / "w")
    fitted(workspace)
    for command in ("evaluate", "compare"):
        refused = run(command, "--date", "today", "-w", workspace.folder)
        assert refused.code == 2
        assert "date 'today': give year, month and day, as 2026-11-29" in refused.err


# How near to train


@pytest.fixture
def mmseqs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that answers as MMseqs2 does, and writes a line into a file for each search."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "mmseqs"
    hits = "0\\t0.25\\n0\\t0.55\\n1\\t1.000\\n"
    answers = f"version) echo 99;;\neasy-search) echo >> {folder}/searches; printf '{hits}' > $4;;"
    program.write_text(f"#!/bin/sh\ncase $1 in\n{answers}\nesac\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setattr("esmcls.heads.alignment.search.PROGRAM", str(program))
    return folder / "searches"


def test_identities_stand_in_bins_and_are_searched_for_once(tmp_path: Path, mmseqs: Path) -> None:
    workspace = ONE_LABEL.workspace(tmp_path / "w")
    test, train = workspace.dataset.part("test"), workspace.dataset.part("train")
    near = nearness([(test, train)], workspace)
    assert near is not None
    assert near.names == NAMES
    assert [NAMES[place] for place in near.places] == ["50–70 %", "≥ 90 %", *["no alignment"] * 4]
    assert "MMseqs2 99" in near.measured_by
    again = nearness([(test, train)], workspace)
    assert again is not None
    assert again.places.tolist() == near.places.tolist()
    assert mmseqs.read_text() == "\n"


def test_the_training_proteins_that_align_are_counted_and_an_older_search_tells_none(
    tmp_path: Path, mmseqs: Path
) -> None:
    workspace = ONE_LABEL.workspace(tmp_path / "w")
    asked = [(workspace.dataset.part("test"), workspace.dataset.part("train"))]
    for _ in ("searched for", "kept"):
        near = nearness(asked, workspace)
        assert near is not None
        assert near.relatives is not None
        assert near.relatives.tolist() == [2, 1, 0, 0, 0, 0]
    [kept] = (workspace.reports / "identities").iterdir()
    kept.write_text(json.dumps({"format": 1, "identities": json.loads(kept.read_text())["identities"]}))
    older = nearness(asked, workspace)
    assert older is not None
    assert older.relatives is None
    assert older.places.tolist() == near.places.tolist()


def test_where_a_search_fails_the_cosine_stands_for_the_identity_and_the_reason_is_told(
    tmp_path: Path, mmseqs: Path
) -> None:
    workspace = ONE_LABEL.workspace(tmp_path / "w")
    (mmseqs.parent / "mmseqs").write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    with workspace.latest_cache() as cache:
        near = nearness([(workspace.dataset.part("test"), workspace.dataset.part("train"))], workspace, cache)
    assert near is not None
    assert near.measured_by.startswith("The cosine of a test protein’s composition vector")
    assert "MMseqs2 failed (engine mmseqs: `mmseqs version` ended with exit code 3: broken" in near.measured_by


def test_without_mmseqs2_the_report_tells_the_cosine_and_says_so(kind: Kind, workspace: Workspace) -> None:
    report = compare(workspace, heads=("knn",), settings={"knn": {"k": "1"}}, baselines=False, draws=20).report
    assert report.leakage is not None
    assert "MMseqs2 is not installed here, which would tell the identity" in report.leakage.measured_by
    assert sum(part.n for part in report.leakage.bins) == 6
    assert {name for part in report.leakage.bins for name in part.scores} == {"knn"}
    if kind is ONE_LABEL:
        accuracy = sum(part.n * (part.scores["knn"] or 0.0) for part in report.leakage.bins) / 6
        assert accuracy == pytest.approx(report.to_json()["rows"][0]["metrics"]["accuracy"]["value"])
