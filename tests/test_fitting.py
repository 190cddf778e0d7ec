"""From dataset and cache to a model: fitted on train, chosen on validation, and the test part never looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_encoder import ToyEncoder, letters

from esmcls.artifact import load_model
from esmcls.cache import EmbeddingCache
from esmcls.dataset import Dataset
from esmcls.embedding import embed_into
from esmcls.errors import CacheError, UnknownNameError, UsageError, WorkspaceError
from esmcls.fitting import fit_dataset, fit_head
from esmcls.heads import list_heads, load_head, reads_vectors
from esmcls.spec import EmbeddingSpec
from esmcls.split import SplitReport
from esmcls.workspace import Workspace

CLASSES = ("little C", "much C")
PARTS = ("train", "train", "train", "validation", "test")


def toy_dataset(n: int = 100) -> Dataset:
    sequences = [letters(number) for number in range(n)]
    names = ["much C" if sequence.count("C") > 1 else "little C" for sequence in sequences]
    return Dataset([f"p{i}" for i in range(n)], sequences, names, [PARTS[i % 5] for i in range(n)])


def cache_of(folder: Path, sequences: Sequence[str], poolings: tuple[str, ...] = ("mean",)) -> EmbeddingCache:
    encoder = ToyEncoder(batch=50)
    cache = EmbeddingCache.open(folder, EmbeddingSpec.of(encoder, poolings=poolings))
    embed_into(cache, encoder, sequences)
    return cache


def relabelled(dataset: Dataset, part: str, names: dict[str, str]) -> Dataset:
    """Return the dataset with other names for the classes of one part."""
    pairs = zip(dataset.labels, dataset.parts, strict=True)
    return replace(dataset, labels=[names[label] if one == part else label for label, one in pairs])


@pytest.fixture
def dataset() -> Dataset:
    return toy_dataset()


@pytest.mark.parametrize("name", [name for name in list_heads() if reads_vectors(load_head(name))])
def test_the_manifest_tells_what_was_fitted_on_what_and_what_it_reached(
    name: str, dataset: Dataset, tmp_path: Path
) -> None:
    head, manifest = fit_dataset(dataset, cache_of(tmp_path, dataset.sequences), name, seed=5)
    train, held = dataset.part("train"), dataset.part("validation")
    assert (manifest.head, manifest.seed, manifest.n_train, manifest.pooling) == (name, 5, 60, "mean")
    assert manifest.classes == CLASSES == head.classes
    assert manifest.class_counts == tuple(train.labels.count(label) for label in manifest.classes)
    assert (manifest.dataset_digest, manifest.split_digest) == (dataset.digest(), dataset.split_digest())
    assert manifest.validation["n"] == len(held)
    assert manifest.validation["accuracy"] > 0.8
    assert set(manifest.validation) == {"accuracy", "macro_f1", "n"}
    assert None not in manifest.config.values()


@pytest.mark.parametrize("name", list_heads())
def test_the_test_part_is_never_looked_at(name: str, dataset: Dataset, tmp_path: Path) -> None:
    """Its vectors are in no cache and its labels are nonsense; the head is the same to the bit."""
    poisoned = relabelled(dataset, "test", dict.fromkeys(CLASSES, "poison"))
    seen = [sequence for sequence, part in zip(dataset.sequences, dataset.parts, strict=True) if part != "test"]
    whole, _ = fit_dataset(dataset, cache_of(tmp_path / "whole", dataset.sequences), name)
    blind, manifest = fit_dataset(poisoned, cache_of(tmp_path / "part", seen), name)
    x = cache_features(tmp_path / "whole", dataset)
    np.testing.assert_array_equal(blind.predict_proba(x), whole.predict_proba(x))
    assert "poison" not in manifest.classes


def cache_features(folder: Path, dataset: Dataset) -> Any:
    from esmcls.features import Features

    return Features.from_cache(EmbeddingCache.open(folder), dataset)


def test_validation_decides_what_is_chosen_and_is_not_fitted_on(dataset: Dataset, tmp_path: Path) -> None:
    turned = relabelled(dataset, "validation", dict(zip(CLASSES, CLASSES[::-1], strict=True)))
    cache = cache_of(tmp_path, dataset.sequences)
    settings = {"k": 3, "temperature": 0.1, "softness": 0.1, "shrinkage": 0.1}
    head, manifest = fit_dataset(dataset, cache, "knn", settings)
    turned_head, turned_manifest = fit_dataset(turned, cache, "knn", settings)
    x = cache_features(tmp_path, dataset)
    np.testing.assert_array_equal(head.predict_proba(x), turned_head.predict_proba(x))
    assert turned_manifest.validation["accuracy"] == pytest.approx(1 - manifest.validation["accuracy"])


def test_without_a_validation_part_the_scores_are_those_on_rows_held_out(dataset: Dataset, tmp_path: Path) -> None:
    parts = ["train" if part == "validation" else part for part in dataset.parts]
    _, manifest = fit_dataset(replace(dataset, parts=parts), cache_of(tmp_path, dataset.sequences), "knn")
    assert manifest.n_train == 80
    assert manifest.validation["macro_f1"] > 0.5


def test_classes_that_only_validation_has_are_errors_not_classes(dataset: Dataset, tmp_path: Path) -> None:
    labels = [
        "new" if part == "validation" else label for label, part in zip(dataset.labels, dataset.parts, strict=True)
    ]
    _, manifest = fit_dataset(replace(dataset, labels=labels), cache_of(tmp_path, dataset.sequences), "knn")
    assert manifest.classes == CLASSES
    assert manifest.validation["accuracy"] == 0


def test_settings_are_taken_as_text_and_every_step_is_told(dataset: Dataset, tmp_path: Path) -> None:
    entries: list[dict[str, float]] = []
    cache = cache_of(tmp_path, dataset.sequences)
    _, manifest = fit_dataset(
        dataset, cache, "linear", {"epochs": "4", "batch": "60", "patience": "0"}, log=entries.append
    )
    assert manifest.config["epochs"] == 4
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]


def test_the_pooling_asked_for_is_the_one_fitted_on(dataset: Dataset, tmp_path: Path) -> None:
    cache = cache_of(tmp_path, dataset.sequences, ("mean", "max"))
    mean, _ = fit_dataset(dataset, cache, "knn", {"metric": "l2", "k": 1})
    largest, manifest = fit_dataset(dataset, cache, "knn", {"metric": "l2", "k": 1}, pooling="max")
    assert manifest.pooling == manifest.config["pooling"] == "max"
    assert manifest.spec == cache.spec
    x = cache_features(tmp_path, dataset)
    torch_mean, torch_max = (head.whitening.mean for head in (mean, largest))  # type: ignore[attr-defined]
    np.testing.assert_allclose(torch_max, 3 * torch_mean, rtol=1e-3)
    assert (largest.top_k(x, 1)[0] == mean.top_k(x, 1)[0]).all()
    with pytest.raises(UsageError, match="the cache holds no cls vectors, but mean, max; embed with --pool cls"):
        fit_dataset(dataset, cache, pooling="cls")


def test_what_cannot_be_fitted_is_said(dataset: Dataset, tmp_path: Path) -> None:
    cache = cache_of(tmp_path, dataset.sequences[:50])
    with pytest.raises(WorkspaceError, match="no train part"):
        fit_dataset(replace(dataset, parts=["test"] * 100), cache)
    with pytest.raises(UnknownNameError, match="did you mean 'knn'"):
        fit_dataset(dataset, cache, "kn")
    with pytest.raises(UnknownNameError, match="unknown setting 'kk'; did you mean 'k'"):
        fit_dataset(dataset, cache, "knn", {"kk": 3})
    with pytest.raises(CacheError, match="are not embedded; run: esmcls embed"):
        fit_dataset(dataset, cache, "knn")


def test_a_workspace_gets_its_model_under_the_name_of_the_head_or_another(dataset: Dataset, tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "w", create=True)
    workspace.set_dataset(dataset, SplitReport("given", 0, (0.8, 0.1, 0.1)))
    with pytest.raises(WorkspaceError, match="nothing is embedded"):
        fit_head(workspace)
    encoder = ToyEncoder(batch=50)
    embed_into(workspace.cache_for(EmbeddingSpec.of(encoder)), encoder, dataset.sequences)
    first = fit_head(workspace, "knn", {"k": "1"})
    second = fit_head(workspace, "knn", name="again", encoder="toy", seed=1)
    assert [path.name for path in workspace.models()] == ["again", "knn"]
    assert load_model(first.folder).manifest == replace(first.manifest, files=load_model(first.folder).manifest.files)
    assert second.manifest.seed == 1
    assert "knn, 2 classes, 60 sequences; on validation: accuracy 1, macro_f1 1, n 20" in str(first)
