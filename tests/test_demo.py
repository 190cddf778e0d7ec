"""The demo does the whole job in an empty folder; random weights stand in its table and nowhere else."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from command import done, run
from families import write_families

from esmcls.demo import RANDOM, Demo, Options, run_demo, save_random_encoder
from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.encoders.weights import default_layers, load_state, save_state, state_digest
from esmcls.errors import WorkspaceError
from esmcls.models.folder import read_manifest
from esmcls.reading.inputs import Inputs
from esmcls.workspace.intake import demo_set, take_in
from esmcls.workspace.workspace import Workspace

CONFIG = ModelConfig(layers=2, width=16, heads=2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of an encoder that stands for the bundled one."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        save_state(path, CONFIG, ESM2(CONFIG).state_dict(), layers=(1, 2))
    return path


@pytest.fixture(scope="module")
def left(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Return what a small demo left."""
    folder = tmp_path_factory.mktemp("demo")
    options = Options(write_families(folder / "families.csv"), str(tiny), heads=("knn",), own_heads=())
    return run_demo(folder / "esmcls-demo", options)


def test_every_encoder_stands_in_the_table_with_every_head(left: Demo, tiny: Path) -> None:
    assert [(row.encoder, row.head) for row in left.rows] == [
        ("composition", "knn"),
        ("kmer", "knn"),
        (RANDOM, "knn"),
        (str(tiny), "knn"),
    ]


def test_all_of_them_are_measured_on_the_same_proteins_with_intervals(left: Demo) -> None:
    assert {row.n for row in left.rows} == {6}
    encoder, head, accuracy, interval, *_ = left.rows[0].cells()
    assert (encoder, head, accuracy, interval) == ("composition", "knn", "100.0", "100.0–100.0")


def test_the_workspace_is_left_with_the_encoder_of_the_demo_alone(left: Demo, tiny: Path) -> None:
    workspace = Workspace.open(left.folder)
    assert [entry.spec.encoder for entry in workspace.caches] == [str(tiny)]
    assert [folder.name for folder in workspace.models()] == ["knn"] == [left.model]


def test_a_report_of_the_comparison_is_left(left: Demo) -> None:
    assert left.report.resolve() == (left.folder / "reports" / "compare" / "report.html").resolve()
    assert "knn" in left.report.read_text(encoding="utf-8")


def test_the_baselines_stand_in_the_report_too(left: Demo) -> None:
    report = json.loads((left.report.parent / "report.json").read_text(encoding="utf-8"))
    baselines = {row["name"]: row["metrics"]["accuracy"]["value"] for row in report["rows"] if row["baseline"]}
    assert set(baselines) == {"knn-composition", "knn-kmer", "knn-random-weights"}
    printed = {f"{row.head}-{row.encoder.replace(' ', '-')}": row.metrics["accuracy"].value for row in left.rows[:3]}
    assert printed == baselines
    assert (report["best"], report["chosen"]) == ("knn", "knn")


def test_nothing_of_the_random_encoder_is_left_but_what_the_report_tells_of_it(left: Demo) -> None:
    found = [path for path in left.folder.parent.rglob("*") if "random" in path.name]
    assert {path.parent for path in found} <= {left.report.parent / "answers"}


def test_the_predictions_answer_the_test_part_in_order(left: Demo) -> None:
    with open(left.predictions, encoding="utf-8", newline="") as handle:
        told = [row["id"] for row in csv.DictReader(handle, delimiter="\t")]
    assert told == Workspace.open(left.folder).dataset.part("test").ids
    assert left.fasta.read_text().count(">") == len(told)


def test_the_model_that_is_left_predicts(left: Demo) -> None:
    told = done("predict", left.fasta, "-w", left.folder).out
    assert told == left.predictions.read_text()


def test_a_demo_can_be_run_again_in_its_folder(left: Demo, tiny: Path) -> None:
    alone: dict[str, Any] = {"baselines": (), "random": False, "heads": ("knn",), "own_heads": ()}
    again = run_demo(left.folder, Options(left.folder.parent / "families.csv", str(tiny), **alone))
    assert again.rows[0].metrics == left.rows[-1].metrics


def test_align_stands_beside_the_other_heads_of_the_encoder_and_no_vectors_of_residues_are_left(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[str] = []

    def embedded_again(encoder: object, sequences: list[str], dtype: str) -> None:
        embedded.extend(sequences)

    monkeypatch.setattr("esmcls.cache.features.residues_by", embedded_again)
    families = write_families(tmp_path / "families.csv")
    shown = run_demo(tmp_path / "w", Options(families, str(tiny), baselines=("kmer",), random=False, heads=("knn",)))
    assert [(row.encoder, row.head) for row in shown.rows] == [
        ("kmer", "knn"),
        (str(tiny), "knn"),
        (str(tiny), "align"),
        (str(tiny), "ensemble"),
    ]
    workspace = Workspace.open(shown.folder)
    assert [entry.spec.poolings for entry in workspace.caches] == [("mean",)]
    assert sorted(folder.name for folder in workspace.models()) == ["align", "ensemble", "knn"]
    assert read_manifest(workspace.find_model("align")).config["candidates"] == 50
    assert embedded == []


def test_after_an_interrupted_demo_the_next_one_leaves_no_vectors_of_residues(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(write_families(tmp_path / "families.csv"), str(tiny), baselines=(), random=False, heads=("knn",))

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("esmcls.demo.compare", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_demo(tmp_path / "w", options)
    workspace = Workspace.open(tmp_path / "w")
    assert {entry.spec.poolings for entry in workspace.caches} == {("mean",), ("mean", "residue")}
    run_demo(tmp_path / "w", options)
    assert [entry.spec.poolings for entry in workspace.caches] == [("mean",)]


def test_a_workspace_with_another_dataset_is_left_alone(tmp_path: Path, tiny: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("id,sequence,label,split\na,MAA,x,train\nb,MCC,y,test\n")
    workspace = Workspace.open(tmp_path / "w", create=True)
    intake = take_in(Inputs((other,)))
    assert intake.report is not None
    workspace.set_dataset(intake.dataset, intake.report)  # type: ignore[arg-type]
    families = write_families(tmp_path / "families.csv")
    with pytest.raises(WorkspaceError, match="holds another dataset; name a new folder for the demo"):
        run_demo(tmp_path / "w", Options(data=families, encoder=str(tiny)))
    assert Workspace.open(tmp_path / "w").dataset.labels == ["x", "y"]


def test_the_random_encoder_has_the_shape_and_layers_of_its_model_but_not_its_weights(
    tiny: Path, tmp_path: Path
) -> None:
    path = save_random_encoder(tmp_path / "random.safetensors", str(tiny), seed=0)
    config, state = load_state(path)
    assert (config, default_layers(path)) == (CONFIG, (1, 2))
    assert state_digest(state) != state_digest(load_state(tiny)[1])
    again = save_random_encoder(tmp_path / "again.safetensors", str(tiny), seed=0)
    assert again.read_bytes() == path.read_bytes()


def test_the_random_encoder_leaves_the_random_numbers_of_others_alone(tiny: Path, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    save_random_encoder(tmp_path / "random.safetensors", str(tiny), seed=0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_missing_encoder_is_an_error_and_never_replaced_by_random_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "no" / "encoder.safetensors"
    monkeypatch.setattr("esmcls.encoders.sources.places.bundled_path", lambda: missing)
    workspace = Workspace.open(tmp_path / "w", create=True)
    ran = run("embed", write_families(tmp_path / "families.csv"), "-w", workspace.folder)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("esmcls: error: encoder ")
    assert workspace.caches == []


def test_the_command_prints_the_table_and_what_to_do_next(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    families = write_families(tmp_path / "families.csv")
    monkeypatch.setattr("esmcls.encoders.sources.places.bundled_path", lambda: tiny)
    short = partial(run_demo, options=Options(families, baselines=("composition",)))
    monkeypatch.setattr("esmcls.demo.run_demo", short)
    monkeypatch.chdir(tmp_path)
    ran = done("demo")
    lines = ran.out.splitlines()
    assert lines[0].split("  ")[0] == "encoder"
    assert [line.split("  ")[0] for line in lines[1:7:2]] == ["composition", "random weights", "bundled"]
    assert lines[-3:] == [
        "  esmcls predict esmcls-demo/unknown.fasta --top-k 3 -w esmcls-demo",
        "  esmcls evaluate -w esmcls-demo",
        "  esmcls info -w esmcls-demo",
    ]
    for line in lines[-3:]:
        done(*line.split()[1:])


def test_the_bundled_set_is_labelled_and_split() -> None:
    intake = take_in(Inputs((demo_set(),)))
    assert intake.report is not None
    assert intake.report.kind == "given"
