"""From a workspace of terms to a model: fitted on train, thresholds chosen on validation, the test part never read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ontologies import BINDING, CELL_GROWTH, GROWTH, ION, MEMBRANE, NUCLEUS, PARENTS, ZINC, tiny_ontology
from ontologies import term_dataset as dataset_of_terms
from toy_encoder import ToyEncoder

from esmcls.cache.embed import embed_into
from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.split import SplitReport
from esmcls.errors import ModelError, UnknownNameError, UsageError, WorkspaceError
from esmcls.models.fit import fit_head
from esmcls.models.folder import load_model, read_manifest
from esmcls.models.term_fitting import TermFit, fit_term_sets, fit_terms
from esmcls.workspace.workspace import Workspace

CLASSES = tuple(sorted([BINDING, ION, ZINC, MEMBRANE, NUCLEUS, GROWTH, CELL_GROWTH]))


def workspace_of(
    folder: Path, dataset: Dataset, *, report: SplitReport | None = None, leave_out: str = "", propagate: bool = True
) -> Workspace:
    """Return a workspace of terms with the vectors of all parts but one."""
    workspace = Workspace.open(folder, create=True)
    workspace.set_dataset(dataset, report or SplitReport("given"), (), tiny_ontology(), propagate)
    encoder = ToyEncoder(batch=50)
    rows = zip(dataset.sequences, dataset.parts, strict=True)
    wanted = [sequence for sequence, part in rows if part != leave_out]
    embed_into(workspace.cache_for(EmbeddingSpec.of(encoder)), encoder, wanted)
    return workspace


def fit(workspace: Workspace, head: str = "knn", **options: bool) -> TermFit:
    return fit_term_sets(workspace, workspace.latest_cache(), head, {"k": 3} if head == "knn" else {}, **options)


@pytest.fixture
def dataset() -> Dataset:
    return dataset_of_terms()


@pytest.mark.parametrize("head", ["naive", "knn"])
def test_the_manifest_tells_what_was_fitted_on_what_and_what_it_reached(
    head: str, dataset: Dataset, tmp_path: Path
) -> None:
    found = fit(workspace_of(tmp_path, dataset), head)
    manifest = found.manifest
    assert manifest.many
    assert (manifest.head, manifest.n_train, manifest.setup) == (head, 18, {"refit": False})
    assert manifest.classes == CLASSES == found.terms.classes
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
    np.testing.assert_array_equal(one.thresholds.values, other.thresholds.values)


def test_terms_that_only_validation_has_are_no_classes_unless_it_is_fitted_on(dataset: Dataset, tmp_path: Path) -> None:
    pairs = zip(dataset.labels, dataset.parts, strict=True)
    labels = [label.replace(ZINC, ION) if part == "train" else label for label, part in pairs]
    workspace = workspace_of(tmp_path, replace(dataset, labels=[" ".join(sorted(set(x.split()))) for x in labels]))
    once, again = fit(workspace), fit(workspace, refit=True)
    assert once.manifest.classes == tuple(term for term in CLASSES if term != ZINC)
    assert again.manifest.classes == CLASSES == again.head.classes
    assert (again.manifest.n_train, again.manifest.setup) == (24, {"refit": True})
    assert again.manifest.validation == once.manifest.validation
    known = dict(zip(once.manifest.classes, once.thresholds.values, strict=True))
    for term, value in zip(CLASSES, again.thresholds.values, strict=True):
        assert value == pytest.approx(known.get(term, once.thresholds.pooled["F"]))


def test_without_a_validation_part_every_threshold_is_a_half(dataset: Dataset, tmp_path: Path) -> None:
    parts = ["train" if part == "validation" else part for part in dataset.parts]
    found = fit(workspace_of(tmp_path, replace(dataset, parts=parts)), refit=True)
    assert set(found.thresholds.values.tolist()) == {0.5}
    assert (found.manifest.n_train, found.manifest.setup) == (24, {"refit": False})


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
    assert model.terms is not None
    assert model.terms.names == tuple(PARENTS[term][0] for term in CLASSES)
    assert model.terms.groups == tuple(PARENTS[term][1] for term in CLASSES)
    np.testing.assert_array_equal(model.terms.edges, before.terms.edges)
    np.testing.assert_allclose(model.thresholds.values, before.thresholds.values, atol=1e-4)
    x = Features.from_cache(workspace.latest_cache(), dataset)
    np.testing.assert_array_equal(model.head.predict_proba(x), before.head.predict_proba(x))


def test_a_damaged_file_of_thresholds_is_one_line(dataset: Dataset, tmp_path: Path) -> None:
    folder = fit(workspace_of(tmp_path / "w", dataset), "naive").save(tmp_path / "m")
    model = load_model(folder)
    (folder / "thresholds.json").write_text("{}")
    with pytest.raises(ModelError, match=r"thresholds.json: is damaged \(KeyError: 'values'\); fit again"):
        _ = model.thresholds
    with pytest.raises(ModelError, match=r"thresholds.json: is not as it was written"):
        load_model(folder)


def test_models_of_one_label_do_not_say_that_they_are_none_of_many(dataset: Dataset, tmp_path: Path) -> None:
    """So an older esmcls reads them: it refuses keys that it does not know."""
    manifest = fit(workspace_of(tmp_path, dataset), "naive").manifest
    assert manifest.to_json()["many"]
    assert "many" not in replace(manifest, many=False).to_json()


def test_a_workspace_gets_its_model_and_the_best_is_that_of_the_highest_fmax(dataset: Dataset, tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, dataset, report=SplitReport("given", drawn_validation=6))
    first, second = fit_terms(workspace, "naive"), fit_terms(workspace, "knn", {"k": "3"}, name="zz")
    assert [path.name for path in workspace.models()] == ["naive", "zz"]
    assert (first.manifest.n_train, second.manifest.n_train) == (24, 24)
    assert second.manifest.validation["fmax"] > first.manifest.validation["fmax"]
    assert workspace.best_model().name == "zz"
    assert "naive, 7 classes, 24 sequences; on validation: fmax 0." in str(first)
    assert first.lines()[-1].startswith("thresholds from 6 validation proteins")
    assert json.loads((second.folder / "manifest.json").read_text())["format"] == 1
    assert read_manifest(second.folder).many


def test_what_cannot_be_fitted_is_said(dataset: Dataset, tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path / "w", dataset)
    with pytest.raises(UnknownNameError, match="unknown head 'nave'; did you mean 'naive'"):
        fit_terms(workspace, "nave")
    with pytest.raises(UsageError, match=r"fit_head is for one label a protein, but .* holds Gene Ontology terms"):
        fit_head(workspace)
    one_label = Workspace.open(tmp_path / "one", create=True)
    one_label.set_dataset(dataset, SplitReport("given"))
    cache = workspace.latest_cache()
    with pytest.raises(WorkspaceError, match="holds no ontology; embed with the terms' own: esmcls embed --obo"):
        fit_term_sets(one_label, cache, "naive")
    with pytest.raises(UsageError, match="the cache holds no cls vectors, but mean; embed with --pool cls"):
        fit_term_sets(workspace, cache, "knn", pooling="cls")
    bare = workspace_of(tmp_path / "bare", replace(dataset, parts=["test"] * 30))
    with pytest.raises(WorkspaceError, match="no train part"):
        fit(bare, "naive")
