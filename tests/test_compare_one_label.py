"""A comparison of models for one label: baselines beside, families held out, sets, folds; see `test_compare`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from relatives import relatives

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import Shares
from esmcls.datasets.split import SplitReport
from esmcls.evaluation.compare import Compared, compare
from esmcls.evaluation.plan import ComparisonPlan
from esmcls.models.fit import fit_head
from esmcls.models.predict import open_model
from esmcls.workspace.embed_in_workspace import EmbeddingRecipe, embed_in_workspace
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
    embed_in_workspace(workspace, Intake(dataset), EmbeddingRecipe("composition"))
    return workspace


@pytest.fixture
def workspace(tmp_path: Path, dataset: Dataset) -> Workspace:
    return workspace_of(tmp_path / "w", dataset)


def run(workspace: Workspace, **plan: Any) -> tuple[Compared, list[str]]:
    said: list[str] = []
    options = {"heads": (*HEADS, "ensemble")} | plan
    return compare(workspace, ComparisonPlan(**options), say=said.append), said


def rows(found: Compared) -> dict[str, Any]:
    return {row["name"]: row for row in found.report.to_json()["rows"]}


def test_every_head_the_ensemble_and_the_baselines_stand_in_one_table(workspace: Workspace) -> None:
    found, _ = run(workspace)
    assert set(rows(found)) == {"linear", "knn", "ensemble", "linear-kmer", "majority"}
    assert {name for name, row in rows(found).items() if row["baseline"]} == {"linear-kmer", "majority"}
    assert rows(found)["majority"]["metrics"]["accuracy"]["value"] == pytest.approx(1 / FAMILIES)
    assert rows(found)["linear"]["metrics"]["accuracy"]["value"] > 3 / FAMILIES
    assert found.report.best == found.report.rows[0].name
    assert found.report.chosen in {"linear", "knn", "ensemble"}
    assert found.report.dataset.records == {"train": 96, "validation": 32, "test": 32}
    assert found.report.settings.encoders == ["composition"]
    assert json.loads(json.dumps(found.report.to_json())) == found.report.to_json()


def test_each_model_is_left_in_the_workspace_and_answers_alone_as_in_the_comparison(
    workspace: Workspace, dataset: Dataset
) -> None:
    found, _ = run(workspace)
    test = dataset.part("test")
    for name in ("linear", "ensemble"):
        predicted = open_model(workspace.folder, name).predict(test.sequences)
        right = np.mean([row[0][0] == label for row, label in zip(predicted, test.labels, strict=True)])
        assert rows(found)[name]["metrics"]["accuracy"]["value"] == pytest.approx(right)


def test_what_lightgbm_will_take_and_why_it_is_made_as_it_is_are_told(workspace: Workspace) -> None:
    _, said = run(workspace, heads=("lightgbm",))
    assert any(line.startswith("lightgbm: about ") for line in said)
    assert any("lightgbm: one tree a class and round" in line for line in said)


def test_a_model_that_is_fitted_already_answers_beside_the_heads_as_it_does_alone(workspace: Workspace) -> None:
    fit_head(workspace, "knn", {"k": "1"}, name="mine")
    found, _ = run(workspace, heads=("linear",), models=("mine",))
    test = workspace.dataset.part("test")
    predicted = open_model(workspace.folder, "mine").predict(test.sequences)
    right = np.mean([row[0][0] == label for row, label in zip(predicted, test.labels, strict=True)])
    assert rows(found)["mine"]["metrics"]["accuracy"]["value"] == pytest.approx(right)


def test_families_held_out_and_calibration_rows_are_measured_for_each_head(workspace: Workspace) -> None:
    found, _ = run(workspace, shares=Shares(0.5, 0.25, 0.2), coverage=0.8)
    for name in ("linear", "knn", "ensemble"):
        row = rows(found)[name]
        assert row["open_set"]["strangers"] == 8
        assert row["open_set"]["known"] == 16
        assert row["open_set"]["wanted"] == 0.2
        for name_of in ("reached", "accepted"):
            assert row["open_set"][f"{name_of}_low"] <= row["open_set"][name_of] <= row["open_set"][f"{name_of}_high"]
        assert row["open_set"]["told_reached"] is not None
        assert row["sets"]["calibration_rows"] == 12
        assert 0 <= row["sets"]["test"] <= 1 <= row["sets"]["mean_size"]
    assert rows(found)["majority"]["open_set"] is None


def test_folds_measure_on_train_and_validation_and_never_on_test(tmp_path: Path, dataset: Dataset) -> None:
    labels = ["poison" if part == "test" else label for label, part in zip(dataset.labels, dataset.parts, strict=True)]
    workspace = workspace_of(tmp_path / "folds", replace(dataset, labels=labels))
    found, said = run(workspace, heads=("linear",), folds=3, baselines=False)
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
