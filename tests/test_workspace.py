"""The workspace: what it remembers, what it refuses, and one clear line for each thing that can be wrong with it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import pytest

from esmcls.cache.spec import EmbeddingSpec
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.split import SplitReport
from esmcls.errors import CacheError, EsmclsError, ModelError, UnknownNameError, UsageError, WorkspaceError
from esmcls.workspace.state_file import FORMAT
from esmcls.workspace.workspace import Workspace

DATASET = Dataset(["1", "2", "3"], ["MA", "MC", "MD"], ["x", "y", "x"], ["train", "validation", "test"])
REPORT = SplitReport("stratified", 5, (0.5, 0.25, 0.25))
SPEC = EmbeddingSpec("toy", "c0ffee" * 8, (1,), "balanced", "fp32", "float32", ("mean",), 2)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "work", create=True)


def add_model(workspace: Workspace, name: str, macro_f1: float | None = 0.5) -> Path:
    folder = workspace.model_folder(name)
    folder.mkdir(parents=True)
    scores = {} if macro_f1 is None else {"macro_f1": macro_f1}
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "validation": scores}))
    return folder


def change(workspace: Workspace, **changes: object) -> None:
    path = workspace.folder / "workspace.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def message(workspace: Workspace, error: EsmclsError) -> str:
    return str(error).replace(str(workspace.folder), "W")


def test_a_new_workspace_is_empty_and_opened_again_the_same(workspace):
    again = Workspace.open(workspace.folder)
    assert again.state() == {"format": 1, "dataset": None, "split": None, "caches": []}
    assert (again.has_dataset, again.caches, again.models()) == (False, [], [])


def test_opening_with_create_keeps_what_is_there(workspace):
    workspace.set_dataset(DATASET, REPORT)
    assert Workspace.open(workspace.folder, create=True).dataset == DATASET


def test_the_data_set_is_remembered_with_files_counts_and_digests(workspace, tmp_path):
    source = tmp_path / "in.csv"
    source.write_bytes(b"sequence,label\nMA,x\n")
    (tmp_path / "folder" / "train").mkdir(parents=True)
    (tmp_path / "folder" / "train" / "data-00000").write_bytes(b"shard")
    workspace.set_dataset(DATASET, REPORT, [source, tmp_path / "folder", "-"])
    state = Workspace.open(workspace.folder).state()
    table = (workspace.folder / "dataset.parquet").read_bytes()
    assert state["dataset"] == {
        "files": [
            {"path": str(source.resolve()), "bytes": 20, "sha256": hashlib.sha256(source.read_bytes()).hexdigest()},
            {
                "path": str((tmp_path / "folder" / "train" / "data-00000").resolve()),
                "bytes": 5,
                "sha256": hashlib.sha256(b"shard").hexdigest(),
            },
        ],
        "records": 3,
        "sequences": 3,
        "classes": 2,
        "parts": {"train": 1, "validation": 1, "test": 1},
        "digest": DATASET.digest(),
        "parquet_sha256": hashlib.sha256(table).hexdigest(),
    }
    assert state["split"] == {
        "kind": "stratified",
        "seed": 5,
        "fractions": [0.5, 0.25, 0.25],
        "digest": DATASET.split_digest(),
        "drawn_validation": True,
    }


def test_a_remembered_data_set_is_read_by_the_next_process(workspace):
    workspace.set_dataset(DATASET, REPORT)
    again = Workspace.open(workspace.folder)
    assert again.has_dataset
    assert again.dataset == DATASET
    assert (again.dataset_digest, again.split_digest) == (DATASET.digest(), DATASET.split_digest())


def test_a_given_split_has_no_fractions(workspace):
    workspace.set_dataset(DATASET, SplitReport("given"))
    assert workspace.state()["split"]["fractions"] is None


def test_another_data_set_takes_the_place_of_one_without_models(workspace):
    workspace.set_dataset(DATASET, REPORT)
    other = dataclasses.replace(DATASET, labels=["x", "x", "x"])
    workspace.set_dataset(other, REPORT)
    assert workspace.dataset == other == Workspace.open(workspace.folder).dataset


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(DATASET, labels=["x", "x", "x"]),
        dataclasses.replace(DATASET, parts=["train", "test", "validation"]),
    ],
)
def test_the_data_set_or_split_cannot_be_changed_under_models(workspace, other):
    workspace.set_dataset(DATASET, REPORT)
    add_model(workspace, "linear")
    add_model(workspace, "knn")
    with pytest.raises(WorkspaceError) as caught:
        workspace.set_dataset(other, REPORT)
    assert message(workspace, caught.value) == (
        "W: its models (knn, linear) were fitted on another dataset or split; "
        "use another workspace (-w DIR), or delete its models/ first"
    )
    assert Workspace.open(workspace.folder).dataset == DATASET


def test_the_same_content_in_another_order_may_be_set_under_models(workspace):
    workspace.set_dataset(DATASET, REPORT)
    add_model(workspace, "linear")
    turned = DATASET.take([2, 0, 1])
    workspace.set_dataset(turned, REPORT)
    assert Workspace.open(workspace.folder).dataset == turned


def test_a_missing_workspace_is_told_and_not_made(tmp_path):
    with pytest.raises(WorkspaceError) as caught:
        Workspace.open(tmp_path / "none")
    assert str(caught.value) == (
        f"{tmp_path / 'none'}: no workspace here; run: esmcls embed INPUT first, or name another with -w DIR"
    )
    assert not (tmp_path / "none").exists()


def test_a_file_where_the_workspace_should_be_is_told(tmp_path):
    (tmp_path / "work").write_text("mine")
    with pytest.raises(WorkspaceError, match="a file, not a folder; name another with -w DIR"):
        Workspace.open(tmp_path / "work", create=True)
    assert (tmp_path / "work").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"{", "cannot be read ("),
        (b"\xff\xfe", "cannot be read ("),
        (b"[]", "not the state of a workspace"),
        (b'{"format": 1}', "not the state of a workspace"),
        (b'{"format": 1, "dataset": [], "split": null, "caches": []}', "not the state of a workspace"),
        (b'{"format": "x", "dataset": null, "split": null, "caches": []}', "not the state of a workspace"),
    ],
)
def test_a_damaged_state_is_told_in_one_line_with_what_to_do(workspace, content, found):
    (workspace.folder / "workspace.json").write_bytes(content)
    with pytest.raises(WorkspaceError) as caught:
        Workspace.open(workspace.folder)
    told = message(workspace, caught.value)
    assert told.startswith(f"W/workspace.json: {found}")
    assert told.endswith("; delete this file and run: esmcls embed INPUT; the caches beside it are found again")
    assert "\n" not in told


def test_a_newer_format_is_told(workspace):
    change(workspace, format=FORMAT + 1)
    with pytest.raises(WorkspaceError) as caught:
        Workspace.open(workspace.folder)
    assert message(workspace, caught.value) == (
        "W/workspace.json: format 2 is newer than this esmcls knows (1); update esmcls"
    )


@pytest.mark.parametrize("wanted", ["dataset", "dataset_digest", "split_digest"])
def test_a_workspace_without_a_data_set_says_how_to_get_one(workspace, wanted):
    with pytest.raises(WorkspaceError) as caught:
        getattr(workspace, wanted)
    assert message(workspace, caught.value) == "W: no dataset; run: esmcls embed INPUT"


def test_a_table_that_is_not_the_remembered_one_is_told(workspace):
    workspace.set_dataset(DATASET, REPORT)
    dataclasses.replace(DATASET, labels=["y", "y", "y"]).save(workspace.folder / "dataset.parquet")
    with pytest.raises(WorkspaceError) as caught:
        _ = Workspace.open(workspace.folder).dataset
    assert message(workspace, caught.value) == (
        "W/dataset.parquet: its content is not what workspace.json says; run: esmcls embed INPUT again"
    )


def test_a_missing_table_is_told(workspace):
    workspace.set_dataset(DATASET, REPORT)
    (workspace.folder / "dataset.parquet").unlink()
    with pytest.raises(WorkspaceError, match="the file is missing; run: esmcls embed INPUT again"):
        _ = Workspace.open(workspace.folder).dataset


@pytest.mark.parametrize("crash_at", range(2))
def test_a_crash_at_any_rename_leaves_the_old_data_set_or_says_what_to_do(workspace, monkeypatch, crash_at):
    workspace.set_dataset(DATASET, REPORT)
    other, renames, replace = dataclasses.replace(DATASET, labels=["z", "z", "z"]), [], os.replace

    def crash(source, target):
        renames.append(target)
        if len(renames) > crash_at:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("esmcls.files.os.replace", crash)
    with pytest.raises(KeyboardInterrupt):
        workspace.set_dataset(other, REPORT)
    monkeypatch.undo()
    again = Workspace.open(workspace.folder)
    if crash_at == 0:
        assert again.dataset == DATASET
    else:
        with pytest.raises(WorkspaceError, match="run: esmcls embed INPUT again"):
            _ = again.dataset
    again.set_dataset(other, REPORT)
    assert Workspace.open(workspace.folder).dataset == other
    assert not list(workspace.folder.glob(".*"))


# caches


def test_caches_are_listed_by_last_use(workspace):
    specs = [dataclasses.replace(SPEC, digest=digit * 64) for digit in "abc"]
    for spec in [*specs, specs[0]]:
        workspace.cache_for(spec).close()
    again = Workspace.open(workspace.folder)
    assert [entry.spec for entry in again.caches] == [specs[1], specs[2], specs[0]]
    assert [entry.folder.name for entry in again.caches] == [spec.key() for spec in (specs[1], specs[2], specs[0])]
    with again.latest_cache() as cache:
        assert cache.spec == specs[0]


def test_a_cache_that_the_state_forgot_is_found_on_disk(workspace):
    workspace.cache_for(SPEC).close()
    change(workspace, caches=[])
    assert [entry.spec for entry in workspace.caches] == [SPEC]


def test_a_cache_that_was_deleted_is_no_cache(workspace):
    change(workspace, caches=["gone"])
    assert workspace.caches == []


def test_the_cache_of_an_encoder_is_found_by_name_or_digest(workspace):
    other = dataclasses.replace(SPEC, encoder="weights/other.safetensors", digest="d00d" * 16)
    for spec in (SPEC, other):
        workspace.cache_for(spec).close()
    named = (("toy", SPEC), ("c0ffeec0ffee", SPEC), ("weights/other.safetensors", other), ("other", other))
    for name, spec in named:
        with workspace.cache_of_encoder(name) as cache:
            assert cache.spec == spec
    with pytest.raises(WorkspaceError) as caught:
        workspace.cache_of_encoder("toys")
    assert message(workspace, caught.value) == (
        "W: nothing is embedded with encoder 'toys' (there are: toy, weights/other.safetensors); "
        "run: esmcls embed --encoder toys"
    )


def test_a_workspace_without_embeddings_says_how_to_get_them(workspace):
    with pytest.raises(WorkspaceError) as caught:
        workspace.latest_cache()
    assert message(workspace, caught.value) == "W: nothing is embedded yet; run: esmcls embed INPUT"


def test_a_damaged_spec_is_told(workspace):
    folder = workspace.folder / "cache" / "abc"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text("{}")
    with pytest.raises(CacheError, match=r"abc.spec\.json: cannot be read .*; delete this cache's folder"):
        _ = workspace.caches


def test_setting_a_data_set_keeps_the_caches(workspace):
    workspace.cache_for(SPEC).close()
    workspace.set_dataset(DATASET, REPORT)
    workspace.cache_for(SPEC).close()
    assert workspace.state()["caches"] == [SPEC.key()]
    assert Workspace.open(workspace.folder).dataset == DATASET


# models


def test_the_best_model_has_the_highest_validation_macro_f1(workspace):
    for name, score in (("knn", 0.5), ("linear", 0.7), ("alone", None)):
        add_model(workspace, name, score)
    assert workspace.best_model().name == "linear"


def test_of_equal_models_the_first_by_name_is_the_best(workspace):
    for name in ("b", "c", "a"):
        add_model(workspace, name, 0.5)
    assert workspace.best_model().name == "a"


def test_a_model_without_a_score_is_better_than_none(workspace):
    add_model(workspace, "alone", None)
    assert workspace.best_model().name == "alone"


def describe_model(
    workspace: Workspace, name: str, macro_f1: float, classes: int, rows: int = 10, **setup: bool
) -> None:
    manifest = {
        "classes": [f"c{number}" for number in range(classes)],
        "validation": {"macro_f1": macro_f1, "n": rows},
        "setup": setup,
    }
    (add_model(workspace, name) / "manifest.json").write_text(json.dumps({"format": 1} | manifest))


def test_the_best_model_is_chosen_among_those_of_the_same_classes_and_validation_rows(workspace):
    describe_model(workspace, "careful", 0.9, classes=3)  # it was never asked about the hardest family
    describe_model(workspace, "knn", 0.6, classes=4)
    describe_model(workspace, "linear", 0.7, classes=4)
    describe_model(workspace, "fewer", 0.8, classes=4, rows=5)
    choice = workspace.choose_model()
    assert (choice.best.name, choice.others, choice.apart) == ("linear", ("knn",), ("careful", "fewer"))
    assert str(choice) == (
        "model linear, the best of 2 on validation (0.7000); "
        "not compared, since of other classes or validation rows: careful, fewer; another: --model NAME"
    )


def test_what_is_only_there_to_be_beaten_is_never_the_best_model_beside_others(workspace):
    describe_model(workspace, "linear-kmer", 0.9, classes=4, baseline=True)
    assert str(workspace.choose_model()) == "model linear-kmer, the only one here"
    describe_model(workspace, "linear", 0.7, classes=4)
    assert workspace.best_model().name == "linear"


def test_a_workspace_without_models_says_how_to_get_one(workspace):
    with pytest.raises(WorkspaceError) as caught:
        workspace.best_model()
    assert message(workspace, caught.value) == "W: no model; run: esmcls fit --head linear"


@pytest.mark.parametrize("content", ["{", "[]", '{"validation": 5}', '{"validation": {"macro_f1": "x"}}'])
def test_a_damaged_manifest_is_told(workspace, content):
    (add_model(workspace, "linear") / "manifest.json").write_text(content)
    with pytest.raises(ModelError, match=r"manifest\.json: cannot be read .*fit this model again"):
        workspace.best_model()


def test_folders_without_a_manifest_and_unfinished_ones_are_no_models(workspace):
    add_model(workspace, "linear")
    (workspace.folder / "models" / "empty").mkdir()
    unfinished = workspace.folder / "models" / ".linear.tmp"
    unfinished.mkdir()
    (unfinished / "manifest.json").write_text("{}")
    assert [path.name for path in workspace.models()] == ["linear"]


def test_a_model_that_an_interrupted_replacement_left_aside_is_put_back(workspace):
    linear = add_model(workspace, "linear")
    linear.rename(linear.with_name(".linear.previous"))
    assert [path.name for path in workspace.models()] == ["linear"]
    linear.rename(linear.with_name(".linear.previous"))
    assert workspace.find_model("linear") == linear
    assert (linear / "manifest.json").is_file()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", "/tmp", ".hidden", "-x", "a\n", "é", "a" * 101])
def test_a_model_name_that_is_no_plain_name_is_refused(workspace, name):
    with pytest.raises(UsageError, match="use letters, digits and"):
        workspace.model_folder(name)


def test_a_plain_model_name_is_a_folder_of_the_workspace(workspace):
    assert workspace.model_folder("knn-2.5_B") == workspace.folder / "models" / "knn-2.5_B"


def test_a_model_is_found_by_name_before_folder_and_by_folder(workspace, tmp_path):
    linear = add_model(workspace, "linear")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "manifest.json").write_text("{}")
    assert workspace.find_model("linear") == linear
    assert workspace.find_model(elsewhere) == elsewhere
    with pytest.raises(UnknownNameError, match="unknown model 'lineer'; did you mean 'linear'"):
        workspace.find_model("lineer")


def test_reports_have_a_folder(workspace):
    assert workspace.reports.is_dir()
    assert workspace.reports == workspace.folder / "reports"


def test_a_kind_of_task_of_a_newer_version_is_refused_in_a_line(workspace):
    workspace.set_dataset(DATASET, REPORT)
    about = workspace.state()["dataset"]
    assert "task" not in about, "an older version reads a data set of one label"
    change(workspace, dataset=about | {"task": "structures"})
    with pytest.raises(WorkspaceError) as caught:
        _ = workspace.task
    assert message(workspace, caught.value) == (
        "W/workspace.json: a kind of task 'structures', not known here; update esmcls"
    )
