"""A model of terms: labels go up, thresholds are chosen on validation rows and kept; see `test_fit`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import TERMS
from ontologies import BINDING, CELL_GROWTH, GROWTH, ION, MEMBRANE, NUCLEUS, PARENTS, ZINC
from toy_encoder import ToyEncoder

from esmcls.cache.embed import embed_into
from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.split import SplitReport
from esmcls.errors import ModelError
from esmcls.models.fit import Fit, fit_dataset, fit_head
from esmcls.models.folder import load_model
from esmcls.tasks.kinds import task_of
from esmcls.workspace.workspace import Workspace

CLASSES = tuple(sorted([BINDING, ION, ZINC, MEMBRANE, NUCLEUS, GROWTH, CELL_GROWTH]))


def workspace_of(folder: Path, dataset: Dataset, *, leave_out: str = "", propagate: bool = True) -> Workspace:
    """Return a workspace of terms with the vectors of all parts but one."""
    workspace = TERMS.set_up(folder, dataset, propagate=propagate)
    encoder = ToyEncoder(batch=50)
    rows = zip(dataset.sequences, dataset.parts, strict=True)
    wanted = [sequence for sequence, part in rows if part != leave_out]
    embed_into(workspace.cache_for(EmbeddingSpec.of(encoder)), encoder, wanted)
    return workspace


def fit(workspace: Workspace, head: str = "knn", **options: Any) -> Fit[Any, Any]:
    settings = {"k": 3} if head == "knn" else {}
    return fit_dataset(task_of(workspace), workspace.dataset, workspace.latest_cache(), head, settings, **options)


@pytest.fixture
def dataset() -> Dataset:
    return TERMS.dataset()


@pytest.mark.parametrize("head", ["naive", "knn"])
def test_the_manifest_tells_what_was_fitted_on_what_and_what_it_reached(
    head: str, dataset: Dataset, tmp_path: Path
) -> None:
    found = fit(workspace_of(tmp_path, dataset), head)
    manifest = found.manifest
    assert manifest.many
    assert (manifest.head, manifest.n_train, manifest.setup["refit"]) == (head, 18, False)
    assert manifest.classes == CLASSES == found.head.classes
    counts = dict(zip(manifest.classes, manifest.class_counts, strict=True))
    assert counts == {BINDING: 18, ION: 12, ZINC: 6, MEMBRANE: 6, NUCLEUS: 6, GROWTH: 12, CELL_GROWTH: 6}
    assert set(manifest.validation) == {"fmax", "fmax_C", "fmax_F", "fmax_P", "n"}
    assert manifest.validation["n"] == 6
    aspects = [manifest.validation[f"fmax_{aspect}"] for aspect in "CFP"]
    assert manifest.validation["fmax"] == pytest.approx(np.mean(aspects))


def test_fmax_on_validation_is_that_of_the_naive_model_by_hand(dataset: Dataset, tmp_path: Path) -> None:
    """Of C, membrane and nucleus have probability 1/3 each: both are predicted, half is right, all is recalled.

    Of P, growth alone is right for all four with a process, of which two have cell growth, too: precision 1, recall
    3/4. With both predicted it is the other way round.
    """
    found = fit(workspace_of(tmp_path, dataset), "naive").manifest.validation
    assert found["fmax_C"] == pytest.approx(2 / 3)
    assert found["fmax_P"] == pytest.approx(2 * 0.75 / 1.75)


@pytest.mark.parametrize("head", ["naive", "knn"])
def test_the_test_part_is_never_looked_at(head: str, dataset: Dataset, tmp_path: Path) -> None:
    """Its vectors are in no cache and its labels are other ones; the head is the same to the bit."""
    labels = [ZINC if part == "test" else label for label, part in zip(dataset.labels, dataset.parts, strict=True)]
    whole = workspace_of(tmp_path / "whole", dataset)
    blind = workspace_of(tmp_path / "blind", replace(dataset, labels=labels), leave_out="test")
    x = Features.from_cache(whole.latest_cache(), dataset)
    one, other = fit(whole, head), fit(blind, head)
    np.testing.assert_array_equal(one.head.predict_proba(x), other.head.predict_proba(x))
    np.testing.assert_array_equal(one.findings.thresholds.values, other.findings.thresholds.values)


def test_terms_that_only_validation_has_are_no_classes_unless_it_is_fitted_on(dataset: Dataset, tmp_path: Path) -> None:
    pairs = zip(dataset.labels, dataset.parts, strict=True)
    labels = [label.replace(ZINC, ION) if part == "train" else label for label, part in pairs]
    workspace = workspace_of(tmp_path, replace(dataset, labels=[" ".join(sorted(set(x.split()))) for x in labels]))
    once, again = fit(workspace), fit(workspace, refit=True)
    assert once.manifest.classes == tuple(term for term in CLASSES if term != ZINC)
    assert again.manifest.classes == CLASSES == again.head.classes
    assert (again.manifest.n_train, again.manifest.setup["refit"]) == (24, True)
    assert again.manifest.validation == once.manifest.validation
    known = dict(zip(once.manifest.classes, once.findings.thresholds.values, strict=True))
    for term, value in zip(CLASSES, again.findings.thresholds.values, strict=True):
        assert value == pytest.approx(known.get(term, once.findings.thresholds.pooled["F"]))


def test_without_a_validation_part_every_threshold_is_a_half(dataset: Dataset, tmp_path: Path) -> None:
    parts = ["train" if part == "validation" else part for part in dataset.parts]
    found = fit(workspace_of(tmp_path, replace(dataset, parts=parts)), refit=True)
    assert set(found.findings.thresholds.values.tolist()) == {0.5}
    assert (found.manifest.n_train, found.manifest.setup["refit"]) == (24, False)


def test_labels_that_are_not_propagated_are_learned_as_they_are(dataset: Dataset, tmp_path: Path) -> None:
    found = fit(workspace_of(tmp_path, dataset, propagate=False), "naive")
    assert dict(zip(found.manifest.classes, found.manifest.class_counts, strict=True))[BINDING] == 6


def test_a_model_folder_holds_all_that_predict_needs(dataset: Dataset, tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path / "w", dataset)
    before = fit(workspace)
    folder = before.save(tmp_path / "elsewhere")
    model = load_model(folder)
    assert model.manifest == replace(before.manifest, files=model.manifest.files)
    assert {"terms.json", "thresholds.json"} <= set(model.manifest.files)
    hierarchy = model.task.hierarchy(model.classes)
    assert hierarchy.names == tuple(PARENTS[term][0] for term in CLASSES)
    assert hierarchy.groups == tuple(PARENTS[term][1] for term in CLASSES)
    np.testing.assert_array_equal(hierarchy.edges, before.task.hierarchy(CLASSES).edges)
    before_values, after_values = (one.findings.thresholds.values for one in (before, model))
    np.testing.assert_allclose(after_values, before_values, atol=1e-4)
    assert model.findings.thresholds.pooled == before.findings.thresholds.pooled
    assert model.findings.thresholds.n == 6
    x = Features.from_cache(workspace.latest_cache(), dataset)
    np.testing.assert_array_equal(model.head.predict_proba(x), before.head.predict_proba(x))


def test_a_damaged_file_of_thresholds_is_one_line(dataset: Dataset, tmp_path: Path) -> None:
    folder = fit(workspace_of(tmp_path / "w", dataset), "naive").save(tmp_path / "m")
    model = load_model(folder)
    (folder / "thresholds.json").write_text("{}")
    with pytest.raises(ModelError, match=r"thresholds.json: is damaged \(lacks 'values'\); fit again"):
        _ = model.findings
    with pytest.raises(ModelError, match=r"thresholds.json: is not as it was written"):
        load_model(folder)


def test_the_best_model_is_that_of_the_highest_fmax_and_a_fit_says_what_it_reached(
    dataset: Dataset, tmp_path: Path
) -> None:
    workspace = TERMS.workspace(tmp_path, dataset, report=SplitReport("given", drawn_validation=6))
    first, second = fit_head(workspace, "naive"), fit_head(workspace, "knn", {"k": "3"}, name="zz")
    assert (first.manifest.n_train, second.manifest.n_train) == (24, 24)
    assert second.manifest.validation["fmax"] > first.manifest.validation["fmax"]
    assert workspace.best_model().name == "zz"
    assert "naive, 7 classes, 24 sequences; on validation: fmax 0." in str(first)
    assert first.lines()[-1].startswith("thresholds from 6 validation proteins")
