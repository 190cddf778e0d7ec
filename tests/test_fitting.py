"""From dataset and cache to a model: fitted on train, chosen on validation, and the test part never looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_encoder import ToyEncoder, letters

from esmcls.cache.embed import embed_into
from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import Shares, set_aside
from esmcls.datasets.split import SplitReport
from esmcls.errors import CacheError, ModelError, UnknownNameError, UsageError, WorkspaceError
from esmcls.heads.registry import list_heads, load_head, reads_vectors
from esmcls.models.fit import fit_dataset, fit_head
from esmcls.models.folder import load_model
from esmcls.tasks.one_label.confidence import known_score
from esmcls.tasks.one_label.validation_answers import Held
from esmcls.workspace.workspace import Workspace

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
    head, manifest = fit_dataset(dataset, cache_of(tmp_path, dataset.sequences), name, seed=5)[:2]
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
    whole, _ = fit_dataset(dataset, cache_of(tmp_path / "whole", dataset.sequences), name)[:2]
    blind, manifest = fit_dataset(poisoned, cache_of(tmp_path / "part", seen), name)[:2]
    x = cache_features(tmp_path / "whole", dataset)
    np.testing.assert_array_equal(blind.predict_proba(x), whole.predict_proba(x))
    assert "poison" not in manifest.classes


def cache_features(folder: Path, dataset: Dataset) -> Any:
    from esmcls.cache.features import Features

    return Features.from_cache(EmbeddingCache.open(folder), dataset)


def test_validation_decides_what_is_chosen_and_is_not_fitted_on(dataset: Dataset, tmp_path: Path) -> None:
    turned = relabelled(dataset, "validation", dict(zip(CLASSES, CLASSES[::-1], strict=True)))
    cache = cache_of(tmp_path, dataset.sequences)
    settings = {"k": 3, "temperature": 0.1, "softness": 0.1, "shrinkage": 0.1}
    head, manifest = fit_dataset(dataset, cache, "knn", settings)[:2]
    turned_head, turned_manifest = fit_dataset(turned, cache, "knn", settings)[:2]
    x = cache_features(tmp_path, dataset)
    np.testing.assert_array_equal(head.predict_proba(x), turned_head.predict_proba(x))
    assert turned_manifest.validation["accuracy"] == pytest.approx(1 - manifest.validation["accuracy"])


def test_without_a_validation_part_the_scores_are_those_on_rows_held_out(dataset: Dataset, tmp_path: Path) -> None:
    parts = ["train" if part == "validation" else part for part in dataset.parts]
    _, manifest = fit_dataset(replace(dataset, parts=parts), cache_of(tmp_path, dataset.sequences), "knn")[:2]
    assert manifest.n_train == 80
    assert manifest.validation["macro_f1"] > 0.5


def test_classes_that_only_validation_has_are_errors_not_classes(dataset: Dataset, tmp_path: Path) -> None:
    labels = [
        "new" if part == "validation" else label for label, part in zip(dataset.labels, dataset.parts, strict=True)
    ]
    _, manifest = fit_dataset(replace(dataset, labels=labels), cache_of(tmp_path, dataset.sequences), "knn")[:2]
    assert manifest.classes == CLASSES
    assert manifest.validation["accuracy"] == 0


def test_settings_are_taken_as_text_and_every_step_is_told(dataset: Dataset, tmp_path: Path) -> None:
    entries: list[dict[str, float]] = []
    cache = cache_of(tmp_path, dataset.sequences)
    _, manifest = fit_dataset(
        dataset, cache, "linear", {"epochs": "4", "batch": "60", "patience": "0"}, log=entries.append
    )[:2]
    assert manifest.config["epochs"] == 4
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]


def test_the_pooling_asked_for_is_the_one_fitted_on(dataset: Dataset, tmp_path: Path) -> None:
    cache = cache_of(tmp_path, dataset.sequences, ("mean", "max"))
    mean, _ = fit_dataset(dataset, cache, "knn", {"metric": "l2", "k": 1})[:2]
    largest, manifest = fit_dataset(dataset, cache, "knn", {"metric": "l2", "k": 1}, pooling="max")[:2]
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


SHARES = Shares(families=0.5, calibration=0.2)


def four_families(dataset: Dataset) -> Dataset:
    """Two families more, so that two can be held out."""
    return replace(dataset, labels=[f"{label}{row // 5 % 2}" for row, label in enumerate(dataset.labels)])


@pytest.mark.parametrize("refit", [True, False])
def test_what_is_set_aside_is_not_fitted_on_and_kept_beside_the_head(
    refit: bool, dataset: Dataset, tmp_path: Path
) -> None:
    dataset = four_families(dataset)
    cache = cache_of(tmp_path, dataset.sequences)
    fit = fit_dataset(dataset, cache, "knn", shares=SHARES, refit=refit)
    apart = set_aside(dataset, SHARES)
    assert set(fit.manifest.classes) == set(apart.kept.labels)
    assert len(fit.manifest.classes) == 2
    parts = {"train", "validation"} if refit else {"train"}
    assert fit.manifest.n_train == sum(part in parts for part in apart.kept.parts)
    assert fit.manifest.setup == {
        "families": 0.5,
        "calibration": 0.2,
        "false_acceptance": 0.05,
        "refit": refit,
    }
    assert fit.confidence is not None
    assert len(fit.confidence.true_probabilities) == len(apart.calibration)
    rejection = fit.confidence.rejection
    assert rejection is not None
    assert (rejection.strangers, rejection.checks) == (len(apart.strangers), len(apart.checks))
    by_hand = known_score(fit.head, Features.from_cache(cache, apart.strangers), rejection.score)
    assert (by_hand > rejection.threshold).mean() <= 0.05


def test_a_refit_changes_the_head_and_neither_the_choices_nor_the_scores_nor_what_was_held(
    dataset: Dataset, tmp_path: Path
) -> None:
    cache = cache_of(tmp_path, dataset.sequences)
    once, again = (fit_dataset(dataset, cache, "linear", refit=refit) for refit in (False, True))
    assert again.manifest.n_train == once.manifest.n_train + len(dataset.part("validation"))
    assert again.manifest.config == once.manifest.config
    assert again.manifest.validation == once.manifest.validation
    assert once.held is not None
    assert again.held is not None
    np.testing.assert_array_equal(again.held.probabilities, once.held.probabilities)
    x = Features.from_cache(cache, dataset)
    assert not np.array_equal(again.head.predict_proba(x), once.head.predict_proba(x))


def test_a_refit_learns_classes_that_only_validation_has(dataset: Dataset, tmp_path: Path) -> None:
    labels = [
        "a new one" if part == "validation" and row % 2 else label
        for row, (label, part) in enumerate(zip(dataset.labels, dataset.parts, strict=True))
    ]
    dataset = replace(dataset, labels=labels)
    fit = fit_dataset(dataset, cache_of(tmp_path, dataset.sequences), "knn", refit=True)
    assert fit.manifest.classes == ("a new one", *CLASSES)
    assert fit.held is not None
    truth = [CLASSES.index(name) + 1 if name in CLASSES else -1 for name in dataset.part("validation").labels]
    assert fit.held.truth.tolist() == truth
    assert set(fit.held.codes.ravel().tolist()) == {1, 2}


def test_a_model_folder_keeps_its_doubts_and_what_was_held(dataset: Dataset, tmp_path: Path) -> None:
    dataset = four_families(dataset)
    fit = fit_dataset(dataset, cache_of(tmp_path / "cache", dataset.sequences), "knn", shares=SHARES)
    folder = fit.save(tmp_path / "model")
    assert load_model(folder).confidence == fit.confidence
    held = Held.load(folder / "held.safetensors")
    assert fit.held is not None
    assert held.digest == fit.held.digest
    for name in ("codes", "probabilities", "familiarity", "truth"):
        np.testing.assert_array_equal(getattr(held, name), getattr(fit.held, name))
    (folder / "confidence.json").write_text("{}")
    with pytest.raises(ModelError, match=r"confidence.json: is not as it was written"):
        load_model(folder)


def test_the_validation_part_is_fitted_on_in_the_end_where_it_was_drawn_not_where_it_was_given(
    dataset: Dataset, tmp_path: Path
) -> None:
    trained = {}
    for name, report in (("given", SplitReport("given")), ("drawn", SplitReport("given", drawn_validation=7))):
        workspace = Workspace.open(tmp_path / name, create=True)
        workspace.set_dataset(dataset, report)
        cache_of(tmp_path / name / "cache" / "one", dataset.sequences)
        trained[name] = fit_head(workspace, "knn").manifest.n_train
    assert trained["given"] == len(dataset.part("train"))
    assert trained["drawn"] == trained["given"] + len(dataset.part("validation"))
