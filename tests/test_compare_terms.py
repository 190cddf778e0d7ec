"""A comparison of models of terms: naive and homology beside, paired differences, folds; see `test_compare`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import TERMS, with_parts
from ontologies import MEMBRANE, NUCLEUS, ZINC
from tiny import write_encoder

from esmcls.errors import MissingExtraError, UsageError
from esmcls.evaluation.assess import assess
from esmcls.evaluation.compare import Compared, compare
from esmcls.evaluation.plan import ComparisonPlan
from esmcls.heads.neighbours.term_knn import TermKNNHead
from esmcls.metrics.cafa_curves import peaks
from esmcls.models.combine import combine, features_of_members
from esmcls.models.folder import load_model, read_manifest
from esmcls.models.model import features_for
from esmcls.models.predict import open_model
from esmcls.tasks.go_terms.answers import TermAnswers
from esmcls.tasks.go_terms.comparison import compare_terms
from esmcls.tasks.go_terms.results import TermNumbers
from esmcls.tasks.kinds import task_of
from esmcls.tasks.label_sets import task as label_sets
from esmcls.tasks.label_sets.evaluation import TermEvaluation
from esmcls.workspace.workspace import Workspace

HEADS = ("knn", "linear", "ensemble")
SETTINGS = {"knn": {"k": "3"}, "linear": {"epochs": "2"}, "homology": {"engine": "phmmer"}}


def run(workspace: Workspace, **plan: Any) -> tuple[Compared, list[str]]:
    said: list[str] = []
    options: dict[str, Any] = {"heads": HEADS, "settings": SETTINGS, "draws": 50} | plan
    options["settings"] = {head: knobs for head, knobs in options["settings"].items() if head in options["heads"]}
    return compare(workspace, ComparisonPlan(**options), say=said.append), said


def evaluation_of(workspace: Workspace, name: str) -> TermEvaluation:
    """Return what `evaluate` measures of a model on the test part."""
    evaluation = assess(open_model(workspace.folder, name), workspace).evaluation
    assert isinstance(evaluation, TermEvaluation)
    return evaluation


def rows(found: Compared) -> dict[str, Any]:
    return {row["name"]: row for row in found.report.to_json()["rows"]}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine is installed."""
    monkeypatch.setattr(label_sets, "installed", lambda: None)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return TERMS.workspace(tmp_path_factory.mktemp("terms") / "w")


@pytest.fixture(scope="module")
def compared(home: Workspace) -> Compared:
    """With homology, by phmmer."""
    return run(home)[0]


def test_naive_homology_and_the_ensembles_stand_beside_the_heads(compared: Compared) -> None:
    found = rows(compared)
    assert set(found) == {"knn", "linear", "homology", "naive", "ensemble", "ensemble-embeddings"}
    assert [name for name, row in found.items() if row["baseline"]] == ["naive"]
    assert found["homology"]["encoder"] == ""
    means = [row["mean_fmax"] for row in compared.report.to_json()["rows"]]
    assert means == sorted(means, reverse=True)
    assert compared.report.best == compared.report.rows[0].name
    assert compared.report.chosen in set(found) - {"naive"}
    assert compared.report.dataset.records == {"train": 18, "validation": 6, "test": 6}
    assert compared.report.dataset.terms == TermNumbers(trained=7, tested=7, unseen=0)
    assert [cost.name for cost in compared.timing.rows] == list(found)
    assert json.loads(json.dumps(compared.report.to_json())) == compared.report.to_json()


def test_a_row_holds_what_evaluate_measures(home: Workspace, compared: Compared) -> None:
    for name in ("knn", "ensemble", "naive"):
        alone = evaluation_of(home, name).to_json()
        assert rows(compared)[name]["aspects"] == json.loads(json.dumps(alone["aspects"]))


def test_differences_are_those_of_paired_draws_from_the_best_and_from_homology(
    home: Workspace, compared: Compared
) -> None:
    found, counts = rows(compared), {}
    for name in found:
        counts[name] = evaluation_of(home, name).counts
    best = compared.report.to_json()["best"]
    assert found[best]["versus_best"] is None
    assert found["homology"]["versus_homology"] is None
    for key, reference in (("versus_best", best), ("versus_homology", "homology")):
        others = [name for name in found if name != reference]
        expected = compare_terms(counts[reference], [counts[name] for name in others], folds=50)
        for name, aspects in zip(others, expected, strict=True):
            told = {a: {what: asdict(one) for what, one in some.items()} for a, some in aspects.items()}
            assert found[name][key] == json.loads(json.dumps(told))


def test_members_of_an_ensemble_are_not_fitted_again(
    home: Workspace, compared: Compared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(TermKNNHead, "fit", refuse)
    models = [load_model(home.find_model(name)) for name in ("knn", "linear")]
    fit = combine(task_of(home), models, home.dataset, features_of_members(models, home))
    test = home.dataset.part("test")
    x = features_for(load_model(home.find_model("ensemble-embeddings")), test, home)
    loaded = load_model(home.find_model("ensemble-embeddings"))
    np.testing.assert_array_equal(loaded.head.predict_proba(x), fit.head.predict_proba(x))
    assert loaded.manifest.config["members"] == fit.head.chosen.members
    assert set(fit.head.chosen.members.split(",")) <= {"knn", "linear"}
    assert set(loaded.manifest.validation) == {"fmax", "fmax_C", "fmax_F", "fmax_P", "n"}
    members = json.loads((loaded.folder / "members.json").read_text())["members"]
    assert [one["name"] for one in members] == fit.head.chosen.members.split(",")


def test_a_combined_model_predicts_sequences_it_has_no_vectors_of(home: Workspace, compared: Compared) -> None:
    model = open_model(home.folder, "ensemble-embeddings")
    scores = dict(zip(model.classes, model.predict_proba(["M" + "A" * 40 + "DLIVE"])[0].tolist(), strict=True))
    assert scores[MEMBRANE] > scores[NUCLEUS]


def test_no_model_is_fitted_on_validation_rows_so_that_they_can_weigh_it(home: Workspace, compared: Compared) -> None:
    for name in rows(compared):
        manifest = read_manifest(home.find_model(name))
        assert (manifest.n_train, manifest.setup["refit"]) == (18, False)


@pytest.mark.usefixtures("alone")
def test_a_head_that_cannot_run_is_told_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise MissingExtraError("head knn", "faiss", "knn")

    monkeypatch.setattr(TermKNNHead, "fit", missing)
    workspace = TERMS.workspace(tmp_path / "w")
    found, _ = run(workspace, settings=SETTINGS | {"lightgbm": {"minutes": "1e-9"}}, heads=("knn", "naive", "lightgbm"))
    assert set(rows(found)) == {"naive"}
    reasons = {model.name: model.reason for model in found.report.not_run}
    assert reasons["knn"] == "head knn needs the package faiss; run: pip install 'esmcls[knn]'"
    assert set(reasons) == {"knn", "lightgbm"}
    assert rows(found)["naive"]["versus_best"] is rows(found)["naive"]["versus_homology"] is None


@pytest.mark.usefixtures("alone")
def test_strategies_for_long_proteins_stand_side_by_side_each_on_its_vectors(tmp_path: Path) -> None:
    workspace = TERMS.workspace(tmp_path / "w")
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
def test_without_a_validation_part_the_ensemble_is_not_run(tmp_path: Path) -> None:
    workspace = TERMS.workspace(tmp_path / "w", with_parts(TERMS.dataset(), {"validation": "train"}))
    found, _ = run(workspace, heads=("knn", "linear", "ensemble"))
    reason = "the split has no validation part, which weighs the members; embed with --validation"
    assert found.report.to_json()["not_run"] == [{"name": "ensemble", "reason": reason}]


def test_answers_come_back_as_they_were_saved_and_not_for_another_key(
    home: Workspace, compared: Compared, tmp_path: Path
) -> None:
    path = home.folder / "reports" / "compare-1" / "answers" / "knn.safetensors"
    assert TermAnswers.load(path, "another key") is None
    assert TermAnswers.load(tmp_path / "none", "key") is None
    counts = evaluation_of(home, "knn").counts
    before = TermAnswers(counts, rows(compared)["knn"], (None, 0.5), {"model": "x"}, np.arange(6))
    before.save(tmp_path / "a.safetensors", "key")
    after = TermAnswers.load(tmp_path / "a.safetensors", "key")
    assert after is not None
    assert (after.evaluation, after.seconds, after.about) == (before.evaluation, (None, 0.5), {"model": "x"})
    np.testing.assert_array_equal(after.lengths, before.lengths)
    for name in ("plain", "weighted"):
        for part in ("true", "predicted", "members"):
            one, other = (getattr(getattr(x.counts, name), part) for x in (before, after))
            np.testing.assert_array_equal(one, other)
    (tmp_path / "a.safetensors").write_bytes(b"damaged")
    assert TermAnswers.load(tmp_path / "a.safetensors", "key") is None


def test_the_zinc_of_the_test_proteins_is_found(home: Workspace, compared: Compared) -> None:
    assert rows(compared)["knn"]["aspects"]["F"]["metrics"]["fmax"]["value"] > 0.9
    assert ZINC in read_manifest(home.find_model("knn")).classes


def test_validation_rows_are_never_fitted_on_since_they_weigh_the_members(home: Workspace) -> None:
    for refit in (True, False):
        with pytest.raises(UsageError, match=r"^--refit is not for Gene Ontology terms: validation rows weigh "):
            run(home, refit=refit)


def test_an_ensemble_of_a_comparison_takes_no_knobs(home: Workspace) -> None:
    with pytest.raises(UsageError, match="fitted models of terms are combined as they are; esmcls fit --head ensemble"):
        run(home, settings={"ensemble": {"members": "knn"}})


@pytest.mark.usefixtures("alone")
def test_what_folds_reach_follows_from_the_counts_of_all_their_proteins_together(tmp_path: Path) -> None:
    workspace = TERMS.workspace(tmp_path / "w")
    found, _ = run(workspace, folds=3)
    assert set(rows(found)) == {"knn", "linear", "ensemble", "naive"}
    assert found.report.to_json()["settings"]["folds"] == 3
    folder = workspace.reports / "compare-1" / "answers"
    for name, row in rows(found).items():
        folds = [answers for n in range(3) if (answers := TermAnswers.load(folder / f"{name}.{n}.safetensors"))]
        assert row["folds"] == [fold.mean_fmax for fold in folds]
        assert sum(len(fold.counts) for fold in folds) == 24
        joined = TermAnswers.joined(folds)
        assert len(joined.counts) == 24
        assert row["mean_fmax"] == joined.mean_fmax
        for group, aspect in enumerate(joined.counts.groups):
            told = row["aspects"][aspect]
            for measure, (value, threshold) in peaks(joined.counts, group).items():
                assert (told["metrics"][measure]["value"], told["thresholds"][measure]) == (value, threshold)
            assert told["proteins"] == sum(fold.evaluation["aspects"][aspect]["proteins"] for fold in folds)
            assert sum(part["n"] for part in told["lengths"]) == told["proteins"]
            parts = [fold.evaluation["aspects"][aspect]["aupr"]["micro"] for fold in folds]
            assert told["aupr"]["micro"] == pytest.approx(np.mean(parts))
        scores = [fold.about["validation"] for fold in folds]
        for score, value in row["validation"].items():
            assert value == pytest.approx(np.mean([fold[score] for fold in scores if score in fold]))


@pytest.mark.usefixtures("alone")
def test_differences_of_folds_are_paired_by_protein(tmp_path: Path) -> None:
    workspace = TERMS.workspace(tmp_path / "w")
    found, _ = run(workspace, folds=3, heads=("knn", "naive"))
    folder = workspace.reports / "compare-1" / "answers"
    counts = {}
    for name in ("knn", "naive"):
        folds = [answers for n in range(3) if (answers := TermAnswers.load(folder / f"{name}.{n}.safetensors"))]
        counts[name] = TermAnswers.joined(folds).counts
    [expected] = compare_terms(counts["knn"], [counts["naive"]], folds=50)
    told = {a: {what: asdict(one) for what, one in some.items()} for a, some in expected.items()}
    assert rows(found)["naive"]["versus_best"] == json.loads(json.dumps(told))


def test_an_aspect_that_a_fold_lacks_is_measured_on_the_proteins_of_the_others(home: Workspace) -> None:
    """As where one fold has no protein with a process: its counts of that aspect are none."""
    folder = home.reports / "compare-1" / "answers"
    whole = TermAnswers.load(folder / "knn.safetensors")
    assert whole is not None
    kept = [group for group, name in enumerate(whole.counts.groups) if name != "P"]
    sums = {
        name: type(one)(*(part[kept] for part in (one.true, one.predicted, one.members)))
        for name in ("plain", "weighted")
        if (one := getattr(whole.counts, name)) is not None
    }
    lacking = type(whole.counts)(tuple(whole.counts.groups[group] for group in kept), **sums)
    aspects = {name: told for name, told in whole.evaluation["aspects"].items() if name != "P"}
    other = TermAnswers(lacking, whole.evaluation | {"aspects": aspects}, whole.seconds, whole.about, whole.lengths)
    for folds in ([whole, other], [other, whole]):
        joined = TermAnswers.joined(folds)
        assert joined.counts.groups == ("C", "F", "P")
        told = joined.evaluation["aspects"]
        assert told["P"]["metrics"]["fmax"]["value"] == whole.evaluation["aspects"]["P"]["metrics"]["fmax"]["value"]
        assert told["P"]["proteins"] == whole.evaluation["aspects"]["P"]["proteins"]
        assert told["F"]["proteins"] == 2 * whole.evaluation["aspects"]["F"]["proteins"]
