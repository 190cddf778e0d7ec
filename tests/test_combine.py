"""Fitted models into one, of whatever kind of task: none is fitted again, nor trusted for what it was taught."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import done
from kinds import KINDS, ONE_LABEL, TERMS, Kind, relabelled, with_parts
from tiny import write_encoder, write_set

from esmcls.datasets.held_out import Shares, set_aside
from esmcls.errors import EsmclsError, ModelError, UsageError, WorkspaceError
from esmcls.heads.ensemble.members import Ranked
from esmcls.models.combine import combine, combine_in_workspace, features_of_members
from esmcls.models.fit import fit_head
from esmcls.models.folder import load_model
from esmcls.models.model import features_for
from esmcls.tasks.kinds import task_of
from esmcls.workspace.workspace import Workspace

SETTINGS = {"knn": {"k": "3"}, "linear": {"epochs": "2"}}


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def workspace(kind: Kind, tmp_path: Path) -> Workspace:
    return kind.workspace(tmp_path / "w")


def fit(workspace: Workspace, name: str, head: str = "knn", **options: Any) -> Path:
    return fit_head(workspace, head, SETTINGS.get(head), name=name, refit=options.pop("refit", False), **options).folder


def test_an_ensemble_answers_with_its_members_and_none_is_fitted_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {name: fit(workspace, name, head) for name, head in (("near", "knn"), ("line", "linear"))}
    before = {path: path.read_bytes() for folder in members.values() for path in folder.rglob("*")}

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("fitted again")

    for head in SETTINGS:
        monkeypatch.setattr(task_of(workspace).head_class(head), "fit", refuse)
    fitted = combine_in_workspace(workspace, list(members), "both")
    assert {path: path.read_bytes() for path in before} == before
    model, manifest = load_model(fitted.folder), fitted.manifest
    assert (manifest.head, manifest.n_train, manifest.seed) == ("ensemble", 18, 0)
    assert manifest.classes == load_model(members["near"]).classes
    assert set(manifest.config["members"].split(",")) <= set(members)
    assert manifest.validation["n"] == 6
    assert manifest.validation[task_of(workspace).score] > 0.5
    assert [spec.encoder for spec in manifest.specs] == ["composition"]
    test = workspace.dataset.part("test")
    right = [
        best[0][0] in names.split()
        for best, names in zip(model.predict(test.sequences), told(model, test), strict=True)
    ]
    assert np.mean(right) > 0.8


def told(model: Any, part: Any) -> list[str]:
    """Return the labels of proteins, terms with those that contain them."""
    return [" ".join(names) if model.task.many else names for names in model.task.labels(part, model.classes).names()]


def test_the_ensemble_of_a_folder_is_that_of_the_models_it_was_made_of(workspace: Workspace) -> None:
    folders = [fit(workspace, name, head) for name, head in (("near", "knn"), ("line", "linear"))]
    models = [load_model(folder) for folder in folders]
    features = features_of_members(models, workspace)
    fitted = combine(task_of(workspace), models, workspace.dataset, features)
    loaded = load_model(combine_in_workspace(workspace, ["near", "line"], "both").folder)
    x = features(workspace.dataset.part("test"))
    np.testing.assert_array_equal(loaded.probabilities(x), fitted.task.probabilities(fitted.head, x))
    assert loaded.findings.lines() == fitted.findings.lines()


def test_a_member_that_adds_nothing_is_left_out_and_named_by_the_fit_the_model_and_the_report(
    workspace: Workspace,
) -> None:
    for name in ("one", "same"):
        fit(workspace, name, "knn")
    fitted = combine_in_workspace(workspace, ["one", "same"], "both")
    kept = fitted.manifest.config["members"]
    left_out = {"one": "same", "same": "one"}[kept]
    words = f"of one, same it takes {kept}; on validation it is as good without {left_out}"
    assert fitted.lines()[0] == words
    assert f"fit: {words}\n" in done("info", fitted.folder).out
    done("evaluate", "--model", "both", "-w", workspace.folder)
    [page] = (workspace.folder / "reports").rglob("evaluate-both/report.html")
    assert words in page.read_text()


def test_models_of_two_encoders_are_combined_each_on_its_vectors(workspace: Workspace) -> None:
    fit(workspace, "one", encoder="composition")
    done("embed", "-w", workspace.folder, "--encoder", "kmer")
    fit(workspace, "two", encoder="kmer")
    manifest = combine_in_workspace(workspace, ["one", "two"], "both").manifest
    encoders = {"one": "composition", "two": "kmer"}
    assert {spec.encoder for spec in manifest.specs} == {
        encoders[name] for name in manifest.config["members"].split(",")
    }


def test_one_model_is_no_ensemble(workspace: Workspace) -> None:
    fit(workspace, "one")
    with pytest.raises(UsageError, match="an ensemble takes two models or more; name each with --of"):
        combine_in_workspace(workspace, ["one"], "alone")
    with pytest.raises(UsageError, match="unknown model 'onn'; did you mean 'one'"):
        combine_in_workspace(workspace, ["one", "onn"], "alone")


def test_models_of_another_split_are_not_of_the_workspace(kind: Kind, workspace: Workspace, tmp_path: Path) -> None:
    fit(workspace, "mine")
    turned = replace(workspace.dataset, parts=workspace.dataset.parts[::-1])
    other = fit(kind.workspace(tmp_path / "other", turned), "theirs")
    with pytest.raises(ModelError, match="theirs: was not fitted on the data and the split of this workspace; fit it"):
        combine_in_workspace(workspace, ["mine", str(other)], "both")
    with pytest.raises(UsageError, match="models mine and theirs differ in the split; fit them again with the same"):
        combine(
            task_of(workspace), [load_model(workspace.find_model("mine")), load_model(other)], workspace.dataset, max
        )


def six_families(folder: Path) -> Workspace:
    """Return a workspace of half the families each, so that two can be held out."""
    dataset = ONE_LABEL.dataset()
    labels = [f"{label} {row % 2}" for row, label in enumerate(dataset.labels)]
    return ONE_LABEL.workspace(folder, replace(dataset, labels=labels))


def test_models_of_two_kinds_of_task_are_not_combined(tmp_path: Path) -> None:
    first, second = (fit(kind.workspace(tmp_path / str(n)), str(n)) for n, kind in enumerate(KINDS))
    place = Workspace.open(tmp_path / "0")
    with pytest.raises(UsageError, match="models 0 and 1 differ in kind of task"):
        combine(task_of(place), [load_model(first), load_model(second)], place.dataset, max)


def test_where_nothing_is_set_aside_models_of_other_seeds_are_combined(workspace: Workspace) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        fit(workspace, name, "linear", seed=seed)
    assert combine_in_workspace(workspace, ["one", "two"], "both").manifest.setup["refit"] is False


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"shares": Shares(0, 0.25)}),
        ({"shares": Shares(0.34)}, {"shares": Shares(0.34), "seed": 1}),
        ({"shares": Shares(0.34)}, {"shares": Shares(0.34, folds=0)}),
        ({"refit": True}, {"refit": False}),
    ],
)
def test_models_that_other_rows_were_set_aside_of_are_not_combined(
    first: dict[str, Any], second: dict[str, Any], tmp_path: Path
) -> None:
    workspace = six_families(tmp_path)
    fit(workspace, "one", **first)
    fit(workspace, "two", **second)
    with pytest.raises(UsageError, match="models one and two differ in what was set aside; fit them again"):
        combine_in_workspace(workspace, ["one", "two"], "both")


def test_models_that_a_refit_taught_other_classes_are_not_combined(tmp_path: Path) -> None:
    """Both are on one split, by its digest; one of them is of a data set with another label."""
    workspace = ONE_LABEL.workspace(tmp_path / "w")
    first = fit(workspace, "one")
    second = fit(ONE_LABEL.workspace(tmp_path / "v", relabelled(ONE_LABEL.dataset(), "train", "one")), "two")
    models = [load_model(first), load_model(second)]
    same = {"dataset_digest": models[0].manifest.dataset_digest, "split_digest": models[0].manifest.split_digest}
    models[1].manifest = replace(models[1].manifest, **same)
    with pytest.raises(UsageError, match="models one and two differ in the classes"):
        combine(task_of(workspace), models, workspace.dataset, max)


def test_without_a_validation_part_nothing_tells_what_a_member_is_worth(kind: Kind, tmp_path: Path) -> None:
    workspace = kind.workspace(tmp_path, with_parts(kind.dataset(), {"validation": "train"}))
    for name in ("one", "two"):
        fit(workspace, name)
    message = {
        "one label": "one: was fitted without a validation part, or by an older esmcls: nothing tells",
        "terms": "the split has no validation part, which weighs the members; embed with --validation",
    }[kind.name]
    with pytest.raises(EsmclsError, match=message):
        combine_in_workspace(workspace, ["one", "two"], "both")


def test_a_model_of_terms_that_was_fitted_on_validation_rows_weighs_in_no_ensemble(tmp_path: Path) -> None:
    workspace = TERMS.workspace(tmp_path)
    for name in ("one", "two"):
        fit(workspace, name, "naive", refit=True)
    with pytest.raises(
        ModelError, match="one: was fitted on the validation rows, too: nothing tells how much to trust"
    ):
        combine_in_workspace(workspace, ["one", "two"], "both")


def test_one_label_remembers_what_was_said_of_validation_rows_before_they_were_fitted_on(tmp_path: Path) -> None:
    """So models that were fitted on them in the end weigh as they did before."""
    manifests = []
    for name, refit in (("plain", False), ("refitted", True)):
        workspace = ONE_LABEL.workspace(tmp_path / name)
        fit(workspace, "one", refit=refit)
        fit(workspace, "two", "linear", refit=refit)
        manifests.append(combine_in_workspace(workspace, ["one", "two"], "both").manifest)
    assert manifests[0].validation == manifests[1].validation
    assert [manifest.n_train for manifest in manifests] == [18, 24]


@pytest.mark.parametrize("folds", [0, 5])
def test_rows_set_aside_tell_sets_and_rejection_of_the_ensemble(folds: int, tmp_path: Path) -> None:
    """They are those of its members, which saw none of them."""
    workspace = six_families(tmp_path)
    for name, head in (("one", "knn"), ("two", "linear")):
        fit(workspace, name, head, shares=Shares(0.34, 0.25, folds=folds))
    fitted = combine_in_workspace(workspace, ["one", "two"], "both")
    confidence = load_model(fitted.folder).findings.confidence
    assert confidence.rejection is not None
    assert confidence.rejection.strangers is not None
    calibration = len(set_aside(workspace.dataset, Shares(0.34, 0.25, folds=folds)).calibration)
    assert len(confidence.true_probabilities) == calibration
    assert fitted.manifest.setup["calibration"] == 0.25
    assert len(fitted.manifest.classes) == (6 if folds else 4)
    assert any(line.startswith(f"{calibration} calibration rows; ") for line in fitted.lines())


def test_the_ensemble_is_asked_about_the_strangers_of_its_members_without_a_fit(tmp_path: Path) -> None:
    """And its line can be drawn elsewhere than theirs."""
    workspace = six_families(tmp_path)
    for name, head in (("one", "knn"), ("two", "linear")):
        fit(workspace, name, head, shares=Shares(1.0))
    fitted = combine_in_workspace(workspace, ["one", "two"], "both", accept_known=0.5)
    model, first = (load_model(workspace.find_model(name)) for name in ("both", "one"))
    folds, theirs = model.findings.folds, first.findings.folds
    for name in ("families", "folds", "strangers"):
        np.testing.assert_array_equal(getattr(folds, name), getattr(theirs, name))
    np.testing.assert_allclose(folds.probabilities.sum(1), 1, atol=1e-4)
    rejection = model.findings.confidence.rejection
    assert (rejection.point, rejection.wanted) == ("accept_known", 0.5)
    assert fitted.manifest.setup["accept_known"] == 0.5
    assert first.findings.confidence.rejection.point == "false_acceptance"


def test_what_the_ensemble_says_of_rows_is_what_its_head_says_when_asked(tmp_path: Path) -> None:
    workspace = six_families(tmp_path)
    for name, head in (("one", "knn"), ("two", "linear")):
        fit(workspace, name, head)
    model: Any = load_model(combine_in_workspace(workspace, ["one", "two"], "both").folder)
    x = features_for(model, workspace.dataset, workspace)
    said = [Ranked.of(member.head, member.view(x), 20) for member in model.head.members]
    answers = model.head.combined(said, 20)
    codes, mass = model.head.top_k(x, 20)
    np.testing.assert_array_equal(answers.codes, codes)
    np.testing.assert_allclose(answers.mass, mass, rtol=1e-6)
    np.testing.assert_allclose(answers.familiarity, model.head.familiarity(x))


def test_a_member_whose_vectors_are_gone_is_named(workspace: Workspace) -> None:
    for name in ("one", "two"):
        fit(workspace, name)
    done("embed", "-w", workspace.folder, "--encoder", "kmer")
    [entry] = [entry for entry in workspace.caches if entry.spec.encoder == "composition"]
    shutil.rmtree(entry.folder)
    with pytest.raises(
        WorkspaceError, match=r"holds no vectors for model one \(encoder composition\); run: esmcls embed"
    ):
        combine_in_workspace(Workspace.open(workspace.folder), ["one", "two"], "both")


def test_a_fine_tuned_encoder_and_a_frozen_one_make_an_ensemble(tmp_path: Path) -> None:
    """They were fitted in other ways, but on the same rows: that is what must be the same."""
    encoder, place = write_encoder(tmp_path / "tiny.safetensors"), tmp_path / "w"
    done("embed", write_set(tmp_path / "set.csv"), "--encoder", encoder, "-w", place)
    done("fit", "--head", "knn", "--no-refit", "-w", place)
    short = ("--method", "full", "--epochs", "1", "--batch", "16", "--lr", "1e-3", "--start", "zero")
    done("finetune", "--encoder", encoder, *short, "--device", "cpu", "-w", place)
    done("embed", "--encoder", place / "models" / "finetuned", "-w", place)
    words = ("fit", "--head", "ensemble", "--of", "knn", "--of", "finetuned", "--name", "both", "-w", place)
    for order in (words, (*words[:3], "--of", "finetuned", "--of", "knn", *words[7:])):
        done(*order)
        model = load_model(place / "models" / "both")
        assert sorted(model.manifest.config["members"].split(",")) == ["finetuned", "knn"]
        assert "finetuned" not in model.manifest.setup
        assert len(model.manifest.specs) == 2
        assert len(model.predict(["MKTAYIAKQRQISFVK"])) == 1
        assert json.loads((model.folder / "manifest.json").read_text())["head"] == "ensemble"
