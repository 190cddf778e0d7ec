"""A number a protein through the whole flow: embed, fit, evaluate, predict, combine, compare, reports, export."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command import done, run
from number_proteins import rows, write_numbers

import esmcls
from esmcls.errors import DataError, UsageError
from esmcls.evaluation.assess import evaluate
from esmcls.evaluation.compare import compare
from esmcls.models.fit import fit
from esmcls.models.folder import load_model, read_manifest
from esmcls.models.predict import predict
from esmcls.models.sharing.export_model import export_model
from esmcls.tasks.number.findings import NumberFindings
from esmcls.workspace.embed_in_workspace import embed_dataset
from esmcls.workspace.workspace import Workspace


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a ridge, a kNN, and a ridge with calibration rows."""
    folder = tmp_path_factory.mktemp("numbers")
    embed_dataset(folder / "w", write_numbers(folder / "s.csv"), encoder="composition")
    fit(folder / "w", "ridge")
    fit(folder / "w", "knn", {"k": 3, "shrinkage": 0.1})
    from esmcls.datasets.held_out import Shares

    fit(folder / "w", "ridge", name="calibrated", shares=Shares(calibration=0.3))
    return folder / "w"


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def test_the_command_says_the_task_and_what_a_fit_reaches(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "s.csv")
    ran = done("embed", path, "-w", tmp_path / "w", "--encoder", "composition")
    assert "esmcls: task: number, 110 values from " in ran.err
    ran = done("fit", "-w", tmp_path / "w", "--set", "whiten", "false")
    assert "ridge: ridge, a number each, 60 sequences; on validation: Spearman 0.9" in ran.out
    assert "task: number" in done("info", tmp_path / "w").out
    manifest = read_manifest(tmp_path / "w" / "models" / "ridge")
    assert (manifest.kind, manifest.classes, manifest.class_counts, manifest.n_train) == ("number", (), (), 60)
    card = (tmp_path / "w" / "models" / "ridge" / "README.md").read_text()
    assert "Predicts a number a protein, from its sequence." in card
    assert "| Spearman | 0.9" in card
    assert "classification" not in card


def test_a_prediction_has_the_number_its_interval_and_the_nearest_training_protein(place: Path) -> None:
    proteins = rows()
    test = [(sequence, float(value)) for _, sequence, value, part in proteins if part == "test"]
    answers = predict(load_model(place / "models" / "calibrated"), [sequence for sequence, _ in test], coverage=0.9)
    truth = np.array([value for _, value in test])
    values = np.array([row.value for row in answers])
    assert np.abs(values - truth).max() < 6
    half = NumberFindings.load(place / "models" / "calibrated").half_width(0.9)
    assert [(row.low, row.high) for row in answers] == [(value - half, value + half) for value in values]
    number_of = {name: float(value) for name, _, value, _ in proteins}
    assert all(row.nearest_value == number_of[row.nearest_id] for row in answers)
    within = np.mean([row.low <= value <= row.high for row, value in zip(answers, truth, strict=True)])
    assert within >= 0.8


def test_predict_writes_a_row_a_protein_in_every_format(place: Path, tmp_path: Path) -> None:
    fasta = tmp_path / "new.fasta"
    fasta.write_text(">a\nMKKKKKKKKKKAAAAAAAAAALIVE\n>b\nMAAAAAAAAAAAAAAALIVEWWWW\n")
    out = done("predict", fasta, "-w", place, "--model", "knn", "-q").out.splitlines()
    assert out[0].split("\t") == [
        *("id", "value", "low", "high", "distance", "nearest_id", "nearest_value", "status", "note", "model"),
    ]
    assert [line.split("\t")[0] for line in out[1:]] == ["a", "b"]
    [first, _] = done("predict", fasta, "-w", place, "--model", "knn", "-q", "--format", "jsonl").out.splitlines()
    told = json.loads(first)
    assert told["value"] == pytest.approx(float(out[1].split("\t")[1]))
    assert told["low"] is None
    assert esmcls.load_model(place / "models" / "knn").predict(["MKKKKKKKKKKAAAAAAAAAALIVE"]) == [
        pytest.approx(told["value"], rel=1e-5)
    ]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--top-k", "3"), "--top-k is not for model ridge, which gives a number a protein, not classes in an order"),
        (("--min-score", ".5"), "--min-score is not for model ridge, which gives a number a protein"),
        (("--format", "cafa"), "--format cafa is not for model ridge, which gives a number a protein"),
        (
            ("--coverage", ".9"),
            "0 calibration rows are too few for intervals of 90 %: it takes 9; fit with --calibration",
        ),
    ],
)
def test_what_a_number_cannot_have_is_refused(
    place: Path, tmp_path: Path, words: tuple[str, ...], problem: str
) -> None:
    fasta = tmp_path / "new.fasta"
    fasta.write_text(">a\nMKKKKKKKKKKAAAAAAAAAALIVE\n")
    ran = run("predict", fasta, "-w", place, "--model", "ridge", "-q", *words)
    assert (ran.code, ran.out) == (2, "")
    assert problem in ran.err


def test_families_cannot_be_held_out_of_numbers(place: Path) -> None:
    ran = run("fit", "-w", place, "--hold-out-families", "10%")
    assert ran.code == 2
    assert "--hold-out-families is not for" in ran.err
    assert "gives a number a protein: there are no families to hold out" in ran.err


def test_a_model_of_numbers_has_no_probabilities(place: Path) -> None:
    model = load_model(place / "models" / "ridge")
    with pytest.raises(UsageError, match="has no classes, and no probabilities of them"):
        model.predict_proba(["MKTAYIAKQR"])
    assert "classes" not in repr(model)


def test_an_evaluation_measures_the_test_part_and_its_report_is_the_same_twice(place: Path, tmp_path: Path) -> None:
    assessment = evaluate(load_model(place / "models" / "calibrated"))
    assert assessment.lines()[0] == "30 proteins"
    metrics = assessment.evaluation.to_json()["metrics"]
    assert metrics["spearman"]["value"] > 0.95
    assert "intervals of 90 %, ± " in assessment.lines()[-1]
    first = assessment.write(tmp_path / "one")
    second = evaluate(load_model(place / "models" / "calibrated")).write(tmp_path / "two")
    assert first.read_bytes() == second.read_bytes()
    page = first.read_text(encoding="utf-8")
    assert "Predicted against true numbers" in page
    assert "How far calibrated is off" in page
    worst = rows_of(tmp_path / "one" / "proteins.tsv")
    errors = [abs(float(row["error"])) for row in worst]
    assert len(worst) == 30
    assert errors == sorted(errors, reverse=True)
    assert all(row["nearest_id"] for row in worst)


def test_labels_of_an_input_that_are_no_numbers_are_told_of(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "given.csv"
    path.write_text("id,sequence,tm\na,MKTAYIAKQR,37.5\nb,MKTAYIAKQW,unknown\n")
    with pytest.raises(DataError, match=r"given.csv:3: record 'b': value 'unknown', where a number is expected"):
        evaluate(load_model(place / "models" / "ridge"), path, label_column="tm")
    path.write_text("id,sequence,tm\na,MKTAYIAKQR,37.5\nb,MKKKKKKKKW,50\n")
    assert done("evaluate", path, "-w", place, "--model", "ridge", "--label-column", "tm").out.startswith(
        "model ridge\n2 "
    )


def test_models_are_combined_by_what_they_said_of_validation_rows(place: Path) -> None:
    ran = done("fit", "-w", place, "--head", "ensemble", "--of", "ridge,knn", "--name", "both")
    assert "both: ensemble, a number each, 60 sequences; on validation: Spearman 0.9" in ran.out
    model = load_model(place / "models" / "both")
    members = [load_model(place / "models" / name) for name in ("ridge", "knn")]
    weights = dict(zip((member.name for member in model.head.members), model.head.stack.weights, strict=True))
    assert set(weights) <= {"ridge", "knn"}
    assert min(weights.values()) > 0
    x = ["MKKKKKKKKKKAAAAAAAAAALIVE"]
    said = {member.name: member.predict(x)[0] for member in members}
    expected = sum(weight * said[name] for name, weight in weights.items()) + model.head.stack.shift
    assert model.predict(x) == [pytest.approx(expected)]
    ran = run("fit", "-w", place, "--head", "ensemble", "--of", "ridge,knn", "--set", "members", "ridge")
    assert "fitted models of numbers are combined as they are" in ran.err


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Path]:
    """A comparison with intervals, and its page."""
    folder = tmp_path_factory.mktemp("compared")
    embed_dataset(folder / "w", write_numbers(folder / "s.csv"), encoder="composition")
    workspace = Workspace.open(folder / "w")
    from esmcls.datasets.held_out import Shares

    made = compare(workspace, heads=("ridge", "knn"), shares=Shares(calibration=0.3), coverage=0.9, draws=200)
    return workspace, made.write()


def test_a_comparison_ranks_models_by_spearman_with_the_mean_and_kmers_beside(compared: tuple[Workspace, Path]) -> None:
    _, page = compared
    table = rows_of(page.parent / "table.tsv")
    assert {row["model"] for row in table} == {"ridge", "knn", "mean", "ridge-kmer"}
    by_rank = [float(row["spearman"]) for row in table]
    assert by_rank == sorted(by_rank, reverse=True)
    assert {row["model"] for row in table if row["baseline"] == "yes"} == {"mean", "ridge-kmer"}
    assert next(row for row in table if row["model"] == "mean")["spearman"] == "0.0"
    assert float(next(row for row in table if row["model"] == "mean")["p_holm"]) < 0.05
    intervals = {row["model"]: row for row in rows_of(page.parent / "intervals.tsv")}
    assert intervals["ridge"]["calibration_rows"] == "18"


def test_the_page_shows_scatter_residuals_and_measures(compared: tuple[Workspace, Path]) -> None:
    _, page = compared
    text = page.read_text(encoding="utf-8")
    for title in ("Spearman correlation of each model.", "Predicted against true numbers.", "How far "):
        assert f"<b>{title}" in text
    assert "split conformal prediction" in text
    assert "Chosen</dt><dd>" in text
    assert "nan" not in text.replace("ribonan", "").split("<svg")[0]


def test_a_comparison_again_fits_nothing_and_gives_the_same_bytes(compared: tuple[Workspace, Path]) -> None:
    from esmcls.datasets.held_out import Shares

    workspace, page = compared
    before = page.read_text(encoding="utf-8").split('<section id="cost">')[0]
    said: list[str] = []
    again = compare(
        workspace, heads=("ridge", "knn"), shares=Shares(calibration=0.3), coverage=0.9, draws=200, say=said.append
    )
    assert again.write().read_text(encoding="utf-8").split('<section id="cost">')[0] == before
    assert not any("fitting" in line for line in said)


def test_folds_are_compared_too(tmp_path: Path) -> None:
    embed_dataset(tmp_path / "w", write_numbers(tmp_path / "s.csv"), encoder="composition")
    made = compare(Workspace.open(tmp_path / "w"), heads=("ridge",), folds=3, baselines=False, draws=50)
    [row] = made.report.rows
    assert [len(fold) for fold in row.folds] == [5, 5, 5]
    assert len(made.report.truth) == 80


def test_the_best_model_is_that_of_the_highest_spearman(place: Path) -> None:
    scores = {path.name: read_manifest(path).validation["spearman"] for path in Workspace.open(place).models()}
    chosen = Workspace.open(place).choose_model()
    assert scores[chosen.best.name] == max(scores.values())
    assert "the best of " in str(chosen)


@pytest.mark.parametrize("head", ["ridge", "mlp"])
def test_the_onnx_of_a_head_gives_its_numbers(place: Path, tmp_path: Path, head: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    settings = {"epochs": 2} if head == "mlp" else {}
    model = fit(place, head, settings, name=f"{head}-onnx").load()
    path = export_model(model, tmp_path / "head.onnx", format="onnx")
    x = model.features(["MKKKKKKKKKKAAAAAAAAAALIVE", "MAAAAAAAAAAAAAAALIVE"])
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    [values] = session.run(["values"], {"vectors": x.vectors().astype(np.float32)})
    np.testing.assert_allclose(values[:, 0], model.head.predict(x), rtol=1e-4)
    with pytest.raises(UsageError, match="has no form in ONNX; fit ridge or mlp"):
        export_model(load_model(place / "models" / "knn"), tmp_path / "knn.onnx", format="onnx")


def test_findings_come_back_as_they_were_and_damage_is_told(place: Path, tmp_path: Path) -> None:
    findings = NumberFindings.load(place / "models" / "calibrated")
    assert len(findings.errors) == 18
    assert findings.held is not None
    assert len(findings.held.truth) == 20
    findings.save(tmp_path)
    again = NumberFindings.load(tmp_path)
    np.testing.assert_array_equal(again.errors, findings.errors)
    (tmp_path / "conformal.safetensors").write_bytes(b"damaged")
    with pytest.raises(esmcls.EsmclsError, match=r"conformal.safetensors: cannot be read"):
        NumberFindings.load(tmp_path)
