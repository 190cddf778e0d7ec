"""Every head on the same split: fitted once, kept, and compared; what cannot run is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from relatives import relatives

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import Shares
from esmcls.datasets.split import SplitReport
from esmcls.errors import MissingExtraError, UsageError, WorkspaceError
from esmcls.evaluation import fit_and_ask as contestants
from esmcls.evaluation import plan as lineup
from esmcls.evaluation.compare import Comparison, compare
from esmcls.evaluation.plan import Terms
from esmcls.models.fit import fit_head
from esmcls.models.predict import open_model
from esmcls.workspace.embed_in_workspace import Recipe, embed_in_workspace
from esmcls.workspace.intake import Intake
from esmcls.workspace.workspace import Workspace

HEADS = ("linear", "knn")
FAMILIES = 8


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Eight families of 20: 12 train, 4 validation, 4 test."""
    codes = [family for family in range(FAMILIES) for _ in range(20)]
    parts = (["train"] * 12 + ["validation"] * 4 + ["test"] * 4) * FAMILIES
    ids = [f"p{number}" for number in range(len(codes))]
    return Dataset(ids, relatives(codes, 0, mutated=0.6), [f"PF{code}" for code in codes], parts)


def workspace_of(folder: Path, dataset: Dataset) -> Workspace:
    workspace = Workspace.open(folder, create=True)
    workspace.set_dataset(dataset, SplitReport("given"))
    embed_in_workspace(workspace, Intake(dataset), Recipe("composition"))
    return workspace


@pytest.fixture
def workspace(tmp_path: Path, dataset: Dataset) -> Workspace:
    return workspace_of(tmp_path / "w", dataset)


def run(workspace: Workspace, **terms: Any) -> tuple[Comparison, list[str]]:
    said: list[str] = []
    found = compare(workspace, Terms(**({"heads": (*HEADS, "ensemble")} | terms)), say=said.append)
    return found, said


def rows(found: Comparison) -> dict[str, Any]:
    return {row["name"]: row for row in found.report["rows"]}


def test_every_head_the_ensemble_and_the_baselines_stand_in_one_table(workspace: Workspace) -> None:
    found, _ = run(workspace)
    assert set(rows(found)) == {"linear", "knn", "ensemble", "linear-kmer", "majority"}
    assert {name for name, row in rows(found).items() if row["baseline"]} == {"linear-kmer", "majority"}
    assert rows(found)["majority"]["metrics"]["accuracy"]["value"] == pytest.approx(1 / FAMILIES)
    assert rows(found)["linear"]["metrics"]["accuracy"]["value"] > 3 / FAMILIES
    assert found.report["best"] == found.report["rows"][0]["name"]
    assert found.report["chosen"] in {"linear", "knn", "ensemble"}
    assert found.report["dataset"]["records"] == {"train": 96, "validation": 32, "test": 32}
    assert found.report["settings"]["encoders"] == ["composition"]
    assert json.loads(json.dumps(found.report)) == found.report


def test_each_model_is_left_in_the_workspace_and_answers_alone_as_in_the_comparison(
    workspace: Workspace, dataset: Dataset
) -> None:
    found, _ = run(workspace)
    test = dataset.part("test")
    for name in ("linear", "ensemble"):
        predicted = open_model(workspace.folder, name).predict(test.sequences)
        right = np.mean([row[0][0] == label for row, label in zip(predicted, test.labels, strict=True)])
        assert rows(found)[name]["metrics"]["accuracy"]["value"] == pytest.approx(right)


def test_a_second_run_fits_nothing_and_reports_the_same_bytes_timing_too(workspace: Workspace) -> None:
    once, first = run(workspace)
    again, said = run(workspace)
    assert not any("kept" in line for line in first)
    assert not any("fitting" in line for line in said)
    assert json.dumps(again.report) == json.dumps(once.report)
    assert again.timing == once.timing


def test_other_options_or_a_model_that_is_gone_are_fitted_again(workspace: Workspace) -> None:
    run(workspace)
    assert any(line == "knn: fitting" for line in run(workspace, settings={"knn": {"k": "3"}})[1])
    assert any(line == "linear: fitting" for line in run(workspace, seed=1)[1])


def test_a_model_that_another_fit_replaced_is_fitted_again_and_so_is_the_ensemble_with_it(workspace: Workspace) -> None:
    once, _ = run(workspace)
    fit_head(workspace, "linear", {"warm_start": "false", "epochs": "1"})
    again, said = run(workspace)
    assert "linear: fitting" in said
    assert "knn: kept from an earlier run" in said
    assert again.report["rows"] == once.report["rows"]


def test_an_ensemble_of_other_members_is_fitted_again(workspace: Workspace) -> None:
    run(workspace)
    _, said = run(workspace, heads=(*HEADS, "mlp", "ensemble"), settings={"mlp": {"epochs": "1"}})
    assert "ensemble: fitting" in said


def test_what_lightgbm_will_take_and_why_it_is_made_as_it_is_are_told(workspace: Workspace) -> None:
    _, said = run(workspace, heads=("lightgbm",))
    assert any(line.startswith("lightgbm: about ") for line in said)
    assert any("lightgbm: one tree a class and round" in line for line in said)


def test_a_model_that_is_fitted_already_stands_beside_the_heads(workspace: Workspace) -> None:
    fit_head(workspace, "knn", {"k": "1"}, name="mine")
    found, said = run(workspace, heads=("linear",), models=("mine",))
    test = workspace.dataset.part("test")
    predicted = open_model(workspace.folder, "mine").predict(test.sequences)
    right = np.mean([row[0][0] == label for row, label in zip(predicted, test.labels, strict=True)])
    assert rows(found)["mine"]["metrics"]["accuracy"]["value"] == pytest.approx(right)
    assert (rows(found)["mine"]["head"], rows(found)["mine"]["encoder"]) == ("knn", "composition")
    times = {row["name"]: row["fit_seconds"] for row in found.timing["rows"]}
    assert times["mine"] is None
    assert "mine: asking" in said
    assert "mine: kept from an earlier run" in run(workspace, heads=("linear",), models=("mine",))[1]
    elsewhere = str(shutil.move(workspace.folder / "models" / "mine", workspace.folder.parent / "moved"))
    assert "moved: asking" in run(workspace, heads=("linear",), models=(elsewhere,))[1]
    assert "moved: kept from an earlier run" in run(workspace, heads=("linear",), models=(elsewhere,))[1]


def test_a_model_that_may_know_the_test_part_is_not_compared(workspace: Workspace, tmp_path: Path) -> None:
    shuffled = replace(workspace.dataset, parts=workspace.dataset.parts[::-1])
    other = workspace_of(tmp_path / "other", shuffled)
    folder = fit_head(other, "knn", name="elsewhere").folder
    found, _ = run(workspace, heads=("linear",), models=(str(folder),))
    assert found.report["not_run"][0]["reason"].startswith("fitted on another split")
    with pytest.raises(UsageError, match="cannot stand beside folds"):
        run(workspace, models=("mine",), folds=2)
    with pytest.raises(UsageError, match="two models named linear"):
        run(workspace, heads=("linear",), models=("linear",))


def test_an_interrupted_comparison_goes_on_where_it_stopped(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = contestants.fit_dataset

    def stopped(dataset: Dataset, cache: Any, head: str, *args: Any, **options: Any) -> Any:
        if head == "linear":
            raise KeyboardInterrupt
        return fit(dataset, cache, head, *args, **options)

    monkeypatch.setattr(contestants, "fit_dataset", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(workspace, heads=("knn", "linear"))
    monkeypatch.undo()
    found, said = run(workspace, heads=("knn", "linear"))
    assert "knn: kept from an earlier run" in said
    assert "linear: fitting" in said
    assert {"knn", "linear"} <= set(rows(found))


def test_a_head_whose_extra_is_missing_is_listed_with_what_to_install(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    load: Callable[..., Any] = lineup.load_head

    def missing(name: str, group: str) -> Any:
        if name == "mlp":
            raise MissingExtraError("head mlp", "perceptron", "mlp")
        return load(name, group)

    monkeypatch.setattr(lineup, "load_head", missing)
    found, _ = run(workspace, heads=("knn", "mlp"))
    assert [one["name"] for one in found.report["not_run"]] == ["mlp"]
    assert "pip install 'esmcls[mlp]'" in found.report["not_run"][0]["reason"]
    assert "knn" in rows(found)


def test_families_held_out_and_calibration_rows_are_measured_for_each_head(workspace: Workspace) -> None:
    found, _ = run(workspace, shares=Shares(0.5, 0.25, 0.2), coverage=0.8)
    for name in ("linear", "knn", "ensemble"):
        row = rows(found)[name]
        assert row["open_set"]["strangers"] == 8
        assert row["open_set"]["known"] == 16
        assert row["open_set"]["wanted"] == 0.2
        assert row["sets"]["calibration_rows"] == 12
        assert 0 <= row["sets"]["test"] <= 1 <= row["sets"]["mean_size"]
    assert rows(found)["majority"]["open_set"] is None


def test_folds_measure_on_train_and_validation_and_never_on_test(tmp_path: Path, dataset: Dataset) -> None:
    labels = ["poison" if part == "test" else label for label, part in zip(dataset.labels, dataset.parts, strict=True)]
    workspace = workspace_of(tmp_path / "folds", replace(dataset, labels=labels))
    found, said = run(workspace, folds=3)
    row = rows(found)["linear"]
    assert len(row["folds"]) == 3
    assert sum(tier["n"] for tier in row["tiers"]) == 128
    assert row["metrics"]["accuracy"]["value"] > 3 / FAMILIES
    assert not any("poison" in one["true"] + one["predicted"] for one in row["confusions"])
    assert "linear.2: fitting" in said
    assert workspace.models() == []  # what folds fit is not for prediction


def test_another_encoder_is_embedded_if_need_be_and_the_ensemble_is_of_both(workspace: Workspace) -> None:
    found, said = run(workspace, encoders=("composition", "kmer"))
    assert set(rows(found)) == {"linear", "knn", "linear-kmer", "knn-kmer", "ensemble", "majority"}
    assert "embedding with kmer" in said
    model = open_model(workspace.folder, "ensemble")
    assert {spec.encoder for spec in (model.manifest.spec, *model.manifest.others)} == {"composition", "kmer"}


def test_where_the_encoder_is_the_baseline_it_is_compared_and_no_baseline_stands_beside(
    workspace: Workspace,
) -> None:
    found, _ = run(workspace, heads=("knn",), encoders=("kmer",))
    assert {name: row["baseline"] for name, row in rows(found).items()} == {"knn": False, "majority": True}


def test_a_baseline_does_not_become_what_the_next_fit_takes(workspace: Workspace) -> None:
    run(workspace, heads=("knn",))
    with workspace.latest_cache() as cache:
        assert cache.spec.encoder == "composition"


def test_without_a_test_part_folds_are_asked_for(tmp_path: Path, dataset: Dataset) -> None:
    workspace = workspace_of(
        tmp_path / "w", dataset.take([r for r, part in enumerate(dataset.parts) if part != "test"])
    )
    with pytest.raises(WorkspaceError, match="no test part; compare on folds: --folds 5"):
        run(workspace)


def test_nothing_that_can_be_fitted_is_an_error_with_the_reasons(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="no head could be fitted: knn: setting k: 0"):
        run(workspace, heads=("knn",), settings={"knn": {"k": "0"}}, baselines=False)
