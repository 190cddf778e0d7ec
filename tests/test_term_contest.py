"""Heads for many labels on one split: fitted once, kept, combined and compared; what cannot run is told."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ontologies import MEMBRANE, NUCLEUS, ZINC, term_dataset, tiny_ontology
from tiny import write_encoder

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.split import SplitReport
from esmcls.errors import MissingExtraError, ModelError, UsageError, WorkspaceError
from esmcls.evaluation import term_contest
from esmcls.evaluation.compare import Comparison
from esmcls.evaluation.plan import Terms
from esmcls.evaluation.term_assessment import assess_terms
from esmcls.heads.neighbours.term_knn import TermKNNHead
from esmcls.models.folder import load_model, read_manifest
from esmcls.models.predict import features_for, open_model
from esmcls.models.term_ensembling import combine_terms
from esmcls.models.term_fitting import fit_terms
from esmcls.tasks.go_terms.answers import TermAnswers
from esmcls.tasks.go_terms.comparison import compare_terms
from esmcls.workspace.embed_in_workspace import Recipe, embed_in_workspace
from esmcls.workspace.intake import Intake
from esmcls.workspace.workspace import Workspace

HEADS = ("knn", "linear", "ensemble")
SETTINGS = {"knn": {"k": "3"}, "linear": {"epochs": "2"}, "homology": {"engine": "phmmer"}}


def workspace_of(folder: Path, dataset: Dataset) -> Workspace:
    workspace = Workspace.open(folder, create=True)
    workspace.set_dataset(dataset, SplitReport("given"), (), tiny_ontology(), True)
    embed_in_workspace(workspace, Intake(dataset), Recipe("composition"))
    return workspace


def run(workspace: Workspace, **terms: Any) -> tuple[Comparison, list[str]]:
    said: list[str] = []
    wanted = Terms(**({"heads": HEADS, "settings": SETTINGS} | terms))
    return term_contest.compare(workspace, wanted, say=said.append, draws=50), said


def rows(found: Comparison) -> dict[str, Any]:
    return {row["name"]: row for row in found.report["rows"]}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine is installed."""
    monkeypatch.setattr(term_contest, "installed", lambda: None)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return workspace_of(tmp_path_factory.mktemp("terms") / "w", term_dataset())


@pytest.fixture(scope="module")
def compared(home: Workspace) -> Comparison:
    """With homology, by phmmer."""
    return run(home)[0]


def test_naive_homology_and_the_ensembles_stand_beside_the_heads(compared: Comparison) -> None:
    found = rows(compared)
    assert set(found) == {"knn", "linear", "homology", "naive", "ensemble", "ensemble-embeddings"}
    assert [name for name, row in found.items() if row["baseline"]] == ["naive"]
    assert found["homology"]["encoder"] == ""
    means = [row["mean_fmax"] for row in compared.report["rows"]]
    assert means == sorted(means, reverse=True)
    assert compared.report["best"] == compared.report["rows"][0]["name"]
    assert compared.report["chosen"] in set(found) - {"naive"}
    assert compared.report["dataset"]["records"] == {"train": 18, "validation": 6, "test": 6}
    assert compared.report["dataset"]["terms"] == {"trained": 7, "tested": 7, "unseen": 0}
    assert [row["name"] for row in compared.timing["rows"]] == list(found)
    assert json.loads(json.dumps(compared.report)) == compared.report


def test_a_row_holds_what_evaluate_measures(home: Workspace, compared: Comparison) -> None:
    for name in ("knn", "ensemble", "naive"):
        alone = assess_terms(open_model(home.folder, name), home).evaluation.to_json()
        assert rows(compared)[name]["aspects"] == json.loads(json.dumps(alone["aspects"]))


def test_differences_are_those_of_paired_draws_from_the_best_and_from_homology(
    home: Workspace, compared: Comparison
) -> None:
    found, counts = rows(compared), {}
    for name in found:
        counts[name] = assess_terms(open_model(home.folder, name), home).evaluation.counts
    best = compared.report["best"]
    assert found[best]["versus_best"] is None
    assert found["homology"]["versus_homology"] is None
    for key, reference in (("versus_best", best), ("versus_homology", "homology")):
        others = [name for name in found if name != reference]
        expected = compare_terms(counts[reference], [counts[name] for name in others], folds=50)
        for name, aspects in zip(others, expected, strict=True):
            told = {a: {what: asdict(one) for what, one in some.items()} for a, some in aspects.items()}
            assert found[name][key] == json.loads(json.dumps(told))


def test_members_of_an_ensemble_are_not_fitted_again(
    home: Workspace, compared: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(TermKNNHead, "fit", refuse)
    models = [load_model(home.find_model(name)) for name in ("knn", "linear")]
    fit = combine_terms(models, home)
    test = home.dataset.part("test")
    x = features_for(load_model(home.find_model("ensemble-embeddings")), test, home)
    loaded = load_model(home.find_model("ensemble-embeddings"))
    np.testing.assert_array_equal(loaded.head.predict_proba(x), fit.head.predict_proba(x))
    assert loaded.manifest.config["members"] == fit.head.chosen.members
    assert set(fit.head.chosen.members.split(",")) <= {"knn", "linear"}
    assert set(loaded.manifest.validation) == {"fmax", "fmax_C", "fmax_F", "fmax_P", "n"}
    members = json.loads((loaded.folder / "members.json").read_text())["members"]
    assert [one["name"] for one in members] == fit.head.chosen.members.split(",")


def test_a_combined_model_predicts_sequences_it_has_no_vectors_of(home: Workspace, compared: Comparison) -> None:
    model = open_model(home.folder, "ensemble-embeddings")
    x = model.features(["M" + "A" * 40 + "DLIVE"])
    assert model.terms is not None
    scores = dict(zip(model.classes, model.terms.scores(model.head, x)[0].tolist(), strict=True))  # type: ignore[arg-type]
    assert scores[MEMBRANE] > scores[NUCLEUS]


def test_a_model_that_was_fitted_on_validation_rows_weighs_in_no_ensemble(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path / "w", term_dataset())
    models = [load_model(fit_terms(workspace, "naive", name=name, refit=name == "b").folder) for name in "ab"]
    with pytest.raises(ModelError, match="b: was fitted on the validation rows, too: nothing tells how much"):
        combine_terms(models, workspace)


def test_no_model_is_fitted_on_validation_rows_so_that_they_can_weigh_it(home: Workspace, compared: Comparison) -> None:
    for name in rows(compared):
        manifest = read_manifest(home.find_model(name))
        assert (manifest.n_train, manifest.setup) == (18, {"refit": False})


def test_a_second_run_fits_nothing_and_reports_the_same_bytes_timing_too(home: Workspace, compared: Comparison) -> None:
    again, said = run(home)
    assert not any("fitting" in line for line in said)
    assert json.dumps(again.report) == json.dumps(compared.report)
    assert again.timing == compared.timing


@pytest.mark.usefixtures("alone")
def test_what_an_interrupted_run_fitted_is_kept_and_other_knobs_are_fitted_again(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path / "w", term_dataset())
    run(workspace, heads=("knn",))
    assert (workspace.folder / "reports" / "compare" / "answers" / "knn.safetensors").is_file()
    said = run(workspace)[1]
    assert "knn: kept from an earlier run" in said
    assert {"linear: fitting", "ensemble: fitting"} <= set(said)
    said = run(workspace, settings=SETTINGS | {"knn": {"k": "2"}})[1]
    assert {"knn: fitting", "linear: kept from an earlier run", "ensemble: fitting"} <= set(said)
    fit_terms(workspace, "knn", {"k": "1"})
    assert "knn: fitting" in run(workspace, settings=SETTINGS | {"knn": {"k": "2"}})[1]


@pytest.mark.usefixtures("alone")
def test_a_head_that_cannot_run_is_told_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise MissingExtraError("head knn", "faiss", "knn")

    monkeypatch.setattr(TermKNNHead, "fit", missing)
    workspace = workspace_of(tmp_path / "w", term_dataset())
    found, _ = run(workspace, settings=SETTINGS | {"lightgbm": {"minutes": "1e-9"}}, heads=("knn", "naive", "lightgbm"))
    assert set(rows(found)) == {"naive"}
    reasons = {one["name"]: one["reason"] for one in found.report["not_run"]}
    assert reasons["knn"] == "head knn needs the package faiss; run: pip install 'esmcls[knn]'"
    assert set(reasons) == {"knn", "lightgbm"}
    assert rows(found)["naive"]["versus_best"] is rows(found)["naive"]["versus_homology"] is None


@pytest.mark.usefixtures("alone")
def test_another_encoder_is_embedded_and_the_ensemble_reads_those_of_its_members(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path / "w", term_dataset())
    found, said = run(
        workspace,
        heads=("linear", "ensemble"),
        encoders=("composition", "kmer"),
        settings={"linear": {"epochs": "1", "whiten": "false"}},
    )
    assert set(rows(found)) == {"linear", "linear-kmer", "naive", "ensemble"}
    assert "embedding with kmer" in said
    manifest = read_manifest(workspace.find_model("ensemble"))
    encoders = {"linear": "composition", "linear-kmer": "kmer"}
    members = manifest.config["members"].split(",")
    assert {spec.encoder for spec in manifest.specs} == {encoders[name] for name in members if name in encoders}
    assert workspace.has_terms


@pytest.mark.usefixtures("alone")
def test_strategies_for_long_proteins_stand_side_by_side_each_on_its_vectors(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path / "w", term_dataset())
    encoder = str(write_encoder(tmp_path / "tiny.safetensors"))
    wanted = {"heads": ("linear",), "encoders": (encoder,), "longs": ("start", "window", "chunk")}
    found, said = run(workspace, **wanted)
    assert set(rows(found)) == {"naive", "linear", "linear-window-1022-511", "linear-chunk"}
    assert [line for line in said if line.startswith("embedding")] == [
        f"embedding with {encoder}, {long}" for long in ("start", "window:1022:511", "chunk")
    ]
    made = {name: read_manifest(workspace.find_model(name)).spec.long for name in rows(found) if "linear" in name}
    assert made == {"linear": "start", "linear-window-1022-511": "window:1022:511", "linear-chunk": "chunk"}
    assert rows(found)["linear-chunk"]["aspects"]["F"]["lengths"]
    assert not [line for line in run(workspace, **wanted)[1] if "fitting" in line or "embedding" in line]


@pytest.mark.usefixtures("alone")
def test_a_model_that_was_fitted_already_stands_beside_unless_it_may_know_the_test_part(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path / "w", term_dataset())
    other = term_dataset()
    other.parts[:] = ["train" if part == "test" else part for part in other.parts]
    knows = fit_terms(workspace_of(tmp_path / "other", other), "naive", name="knows").folder
    fit_terms(workspace, "knn", {"k": "1"}, name="mine", refit=True)
    found, said = run(workspace, heads=("knn",), models=("mine", str(knows)), baselines=False)
    assert set(rows(found)) == {"knn", "mine"}
    assert rows(found)["mine"]["head"] == "knn"
    assert "mine: asking" in said
    [refused] = found.report["not_run"]
    assert refused["reason"] == "fitted on another split, so it may know the test part; fit it again"
    with pytest.raises(UsageError, match="two models named knn"):
        run(workspace, heads=("knn",), models=("knn",), baselines=False)


@pytest.mark.usefixtures("alone")
def test_without_a_test_part_or_without_terms_it_is_one_line(tmp_path: Path) -> None:
    dataset = term_dataset()
    kept = [row for row, part in enumerate(dataset.parts) if part != "test"]
    with pytest.raises(WorkspaceError, match="its split has no test part; embed with one: esmcls embed --test"):
        run(workspace_of(tmp_path / "w", dataset.take(kept)))
    plain = Workspace.open(tmp_path / "plain", create=True)
    plain.set_dataset(dataset, SplitReport("given"))
    with pytest.raises(WorkspaceError, match="its proteins have one label each, not terms"):
        run(plain)


@pytest.mark.usefixtures("alone")
def test_without_a_validation_part_the_ensemble_is_not_run(tmp_path: Path) -> None:
    dataset = term_dataset()
    dataset.parts[:] = ["train" if part == "validation" else part for part in dataset.parts]
    found, _ = run(workspace_of(tmp_path / "w", dataset), heads=("knn", "linear", "ensemble"))
    [one] = found.report["not_run"]
    assert one["name"] == "ensemble"
    assert "its split has no validation part, which weighs the members" in one["reason"]


def test_answers_come_back_as_they_were_saved_and_not_for_another_key(
    home: Workspace, compared: Comparison, tmp_path: Path
) -> None:
    path = home.folder / "reports" / "compare" / "answers" / "knn.safetensors"
    assert TermAnswers.load(path, "another key") is None
    assert TermAnswers.load(tmp_path / "none", "key") is None
    counts = assess_terms(open_model(home.folder, "knn"), home).evaluation.counts
    before = TermAnswers(counts, rows(compared)["knn"], (None, 0.5), {"model": "x"})
    before.save(tmp_path / "a.safetensors", "key")
    after = TermAnswers.load(tmp_path / "a.safetensors", "key")
    assert after is not None
    assert (after.evaluation, after.seconds, after.about) == (before.evaluation, (None, 0.5), {"model": "x"})
    for name in ("plain", "weighted"):
        for part in ("true", "predicted", "members"):
            one, other = (getattr(getattr(x.counts, name), part) for x in (before, after))
            np.testing.assert_array_equal(one, other)
    (tmp_path / "a.safetensors").write_bytes(b"damaged")
    assert TermAnswers.load(tmp_path / "a.safetensors", "key") is None


def test_the_zinc_of_the_test_proteins_is_found(home: Workspace, compared: Comparison) -> None:
    assert rows(compared)["knn"]["aspects"]["F"]["metrics"]["fmax"]["value"] > 0.9
    assert ZINC in read_manifest(home.find_model("knn")).classes
