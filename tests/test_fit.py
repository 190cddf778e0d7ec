"""From dataset and cache to a model, of whatever kind of task: fitted on train, chosen on validation, test unread."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import KINDS, ONE_LABEL, TERMS, Kind, relabelled, with_parts
from toy_encoder import ToyEncoder

from esmcls.cache.embed import embed_into
from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.datasets.held_out import Shares
from esmcls.datasets.split import SplitReport
from esmcls.errors import CacheError, UnknownNameError, UsageError, WorkspaceError
from esmcls.heads.registry import load_head
from esmcls.models.fit import Fit, fit_dataset, fit_head
from esmcls.models.folder import load_model, read_manifest
from esmcls.tasks.kinds import task_of
from esmcls.workspace.workspace import Workspace

SETTINGS: dict[str, dict[str, object]] = {"knn": {"k": 3}, "linear": {"epochs": 3}, "mlp": {"epochs": 2}}


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


def fit(
    workspace: Workspace, head: str = "knn", settings: Mapping[str, object] | None = None, **options: Any
) -> Fit[Any, Any]:
    """Fit a head on the workspace's data and latest cache, without a folder."""
    knobs = SETTINGS.get(head) if settings is None else settings
    return fit_dataset(task_of(workspace), workspace.dataset, workspace.latest_cache(), head, knobs, **options)


def features_of(workspace: Workspace) -> Features:
    """Return the vectors of the whole data set."""
    return Features.from_cache(workspace.latest_cache(), workspace.dataset)


@pytest.mark.parametrize("head", ["knn", "linear", "mlp"])
def test_the_manifest_tells_what_was_fitted_on_what_and_what_it_reached(head: str, kind: Kind, tmp_path: Path) -> None:
    workspace = kind.workspace(tmp_path)
    dataset = workspace.dataset
    fitted = fit(workspace, head, seed=5)
    manifest, task = fitted.manifest, task_of(workspace)
    assert (manifest.head, manifest.seed, manifest.n_train, manifest.pooling) == (head, 5, 18, "mean")
    assert (manifest.dataset_digest, manifest.split_digest) == (dataset.digest(), dataset.split_digest())
    labels = task.labels(dataset.part("train"))
    assert manifest.classes == labels.classes == fitted.head.classes
    assert manifest.class_counts == tuple(labels.counts().tolist())
    assert manifest.spec == workspace.latest_cache().spec
    assert manifest.many == task.many
    assert manifest.validation["n"] == 6
    assert 0.5 < manifest.validation[task.score] <= 1
    assert manifest.setup["refit"] is False
    assert None not in manifest.config.values()


@pytest.mark.parametrize("head", ["knn", "linear", "mlp"])
def test_the_test_part_is_never_looked_at(head: str, kind: Kind, tmp_path: Path) -> None:
    """Its vectors are in no cache and its labels are other ones; the head is the same to the bit."""
    whole = kind.workspace(tmp_path / "whole")
    blind = kind.set_up(tmp_path / "blind", relabelled(kind.dataset(), "test", kind.another))
    encoder = ToyEncoder(batch=50)
    for workspace, unseen in ((whole, ""), (blind, "test")):
        rows = zip(workspace.dataset.sequences, workspace.dataset.parts, strict=True)
        seen = [sequence for sequence, part in rows if part != unseen]
        embed_into(workspace.cache_for(EmbeddingSpec.of(encoder)), encoder, seen)
    first, second = fit(whole, head), fit(blind, head)
    x = features_of(whole)
    np.testing.assert_array_equal(first.head.predict_proba(x), second.head.predict_proba(x))
    assert first.manifest.validation == second.manifest.validation
    with pytest.raises(CacheError, match="are not embedded; run: esmcls embed"):
        features_of(blind)


def test_settings_are_taken_as_text_and_what_is_done_is_told(kind: Kind, tmp_path: Path) -> None:
    entries: list[dict[str, float]] = []
    manifest = fit(kind.workspace(tmp_path), "linear", {"epochs": "4", "patience": "0"}, log=entries.append).manifest
    assert manifest.config["epochs"] == 4
    assert entries


def test_a_refit_changes_the_head_and_neither_the_choices_nor_the_scores(kind: Kind, tmp_path: Path) -> None:
    workspace = kind.workspace(tmp_path)
    once, again = (fit(workspace, "linear", refit=refit) for refit in (False, True))
    assert (once.manifest.n_train, again.manifest.n_train) == (18, 24)
    assert (once.manifest.setup["refit"], again.manifest.setup["refit"]) == (False, True)
    assert again.manifest.config == once.manifest.config
    assert again.manifest.validation == once.manifest.validation
    x = features_of(workspace)
    assert not np.array_equal(again.head.predict_proba(x), once.head.predict_proba(x))


def test_without_a_validation_part_nothing_is_left_to_refit(kind: Kind, tmp_path: Path) -> None:
    workspace = kind.workspace(tmp_path, with_parts(kind.dataset(), {"validation": "train"}))
    manifest = fit(workspace, refit=True).manifest
    assert (manifest.n_train, manifest.setup["refit"]) == (24, False)


def test_a_model_folder_holds_all_that_predict_needs(kind: Kind, tmp_path: Path) -> None:
    workspace = kind.workspace(tmp_path / "w")
    before = fit(workspace)
    after = load_model(before.save(tmp_path / "elsewhere"))
    assert after.manifest == replace(before.manifest, files=after.manifest.files)
    assert type(after.task) is type(before.task)
    assert (after.name, after.head_name, after.refitted) == ("elsewhere", "knn", False)
    assert after.class_counts == before.manifest.class_counts
    x = features_of(workspace)
    np.testing.assert_array_equal(after.probabilities(x), before.task.probabilities(before.head, x))
    assert after.findings.lines() == before.findings.lines()


def test_a_workspace_gets_its_model_under_the_name_of_the_head_or_another(kind: Kind, tmp_path: Path) -> None:
    workspace = kind.set_up(tmp_path)
    with pytest.raises(WorkspaceError, match="nothing is embedded"):
        fit_head(workspace)
    encoder = ToyEncoder(batch=50)
    embed_into(workspace.cache_for(EmbeddingSpec.of(encoder)), encoder, workspace.dataset.sequences)
    first = fit_head(workspace, "knn", {"k": "3"})
    second = fit_head(workspace, "knn", {"k": "3"}, name="again", encoder="toy", seed=1)
    assert [path.name for path in workspace.models()] == ["again", "knn"]
    assert load_model(first.folder).manifest == replace(first.manifest, files=load_model(first.folder).manifest.files)
    assert second.manifest.seed == 1
    assert json.loads((second.folder / "manifest.json").read_text())["format"] == 1
    size = f"{len(first.manifest.classes)} classes, 18 sequences; on validation: "
    assert str(first).startswith(f"{first.folder}: knn, {size}")


def test_the_best_model_is_that_of_the_highest_score_on_validation(kind: Kind, tmp_path: Path) -> None:
    workspace = kind.workspace(tmp_path)
    for name, value in (("aa", 0.5), ("bb", 0.75), ("cc", 0.25)):
        path = fit_head(workspace, "knn", SETTINGS["knn"], name=name).folder / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["validation"][task_of(workspace).score] = value
        path.write_text(json.dumps(manifest))
    assert workspace.best_model().name == "bb"


def test_the_validation_part_is_fitted_on_in_the_end_where_it_was_drawn_not_where_it_was_given(
    kind: Kind, tmp_path: Path
) -> None:
    trained = {}
    for name, report in (("given", SplitReport("given")), ("drawn", SplitReport("given", drawn_validation=6))):
        workspace = kind.workspace(tmp_path / name, report=report)
        trained[name] = fit_head(workspace, "knn", SETTINGS["knn"]).manifest.n_train
    assert trained == {"given": 18, "drawn": 24}


def test_what_cannot_be_fitted_is_said(kind: Kind, tmp_path: Path) -> None:
    workspace = kind.workspace(tmp_path / "w")
    with pytest.raises(UnknownNameError, match="unknown head 'kn'; did you mean 'knn'"):
        fit(workspace, "kn")
    with pytest.raises(UnknownNameError, match="unknown setting 'kk'; did you mean 'k'"):
        fit(workspace, "knn", {"kk": 3})
    with pytest.raises(UsageError, match="the cache holds no cls vectors, but mean; embed with --pool cls"):
        fit(workspace, "knn", pooling="cls")
    bare = kind.workspace(tmp_path / "bare", with_parts(kind.dataset(), {"train": "test", "validation": "test"}))
    with pytest.raises(WorkspaceError, match="no train part"):
        fit(bare)


def test_heads_of_one_kind_are_no_heads_of_another(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown head 'naive'"):
        fit(ONE_LABEL.workspace(tmp_path), "naive")


def test_no_families_of_terms_are_held_out_and_that_is_said_before_anything_is_fitted(tmp_path: Path) -> None:
    workspace = TERMS.workspace(tmp_path)
    refused = "^--hold-out-families is not for a data set, which gives Gene Ontology terms, any"
    with pytest.raises(UsageError, match=refused):
        fit_head(workspace, "knn", shares=Shares(0.3))
    assert workspace.models() == []


def test_models_of_one_label_do_not_say_that_they_are_none_of_many(tmp_path: Path) -> None:
    """So an older esmcls reads them: it refuses keys that it does not know."""
    for kind in KINDS:
        folder = fit(kind.workspace(tmp_path / kind.label[:2])).save(tmp_path / kind.name)
        written = json.loads((folder / "manifest.json").read_text())
        assert ("many" in written) == read_manifest(folder).many == (kind is TERMS)


def test_checkpoints_lie_beside_the_reports_until_the_model_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = ONE_LABEL.workspace(tmp_path)
    head_class: Any = load_head("knn")
    fit_as_ever, folders = head_class._fit, list[Path]()

    def fit_with_checkpoints(head: Any, *arguments: Any) -> None:
        head.checkpoints.mkdir(parents=True)
        folders.append(head.checkpoints)
        fit_as_ever(head, *arguments)

    monkeypatch.setattr(head_class, "checkpoints", None, raising=False)
    monkeypatch.setattr(head_class, "_fit", fit_with_checkpoints)
    fit_head(workspace, "knn", {"k": "3"}, name="mine")
    assert folders == [workspace.folder / "reports" / "fit" / "mine"]
    assert not folders[0].exists()
