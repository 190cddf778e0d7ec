"""A model for one label: every head, rows set aside, and what is kept of the validation rows; see `test_fit`."""

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
from esmcls.datasets.held_out import Shares, set_aside, stranger_folds
from esmcls.errors import ModelError, UsageError
from esmcls.heads.registry import list_heads, load_head, reads_vectors
from esmcls.models.fit import Fit, fit_dataset
from esmcls.models.folder import load_model
from esmcls.tasks.one_label.task import OneLabel

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


def fit(dataset: Dataset, cache: EmbeddingCache, head: str = "linear", *args: Any, **options: Any) -> Fit[Any, Any]:
    return fit_dataset(OneLabel(), dataset, cache, head, *args, **options)


@pytest.fixture
def dataset() -> Dataset:
    return toy_dataset()


@pytest.mark.parametrize("name", [name for name in list_heads() if reads_vectors(load_head(name))])
def test_the_manifest_tells_what_was_fitted_on_what_and_what_it_reached(
    name: str, dataset: Dataset, tmp_path: Path
) -> None:
    fitted = fit(dataset, cache_of(tmp_path, dataset.sequences), name, seed=5)
    head, manifest = fitted.head, fitted.manifest
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
    whole = fit(dataset, cache_of(tmp_path / "whole", dataset.sequences), name)
    blind = fit(poisoned, cache_of(tmp_path / "part", seen), name)
    x = cache_features(tmp_path / "whole", dataset)
    np.testing.assert_array_equal(blind.head.predict_proba(x), whole.head.predict_proba(x))
    assert "poison" not in blind.manifest.classes


def cache_features(folder: Path, dataset: Dataset) -> Features:
    return Features.from_cache(EmbeddingCache.open(folder), dataset)


def test_validation_decides_what_is_chosen_and_is_not_fitted_on(dataset: Dataset, tmp_path: Path) -> None:
    turned = relabelled(dataset, "validation", dict(zip(CLASSES, CLASSES[::-1], strict=True)))
    cache = cache_of(tmp_path, dataset.sequences)
    settings = {"k": 3, "temperature": 0.1, "softness": 0.1, "shrinkage": 0.1}
    plain, other = fit(dataset, cache, "knn", settings), fit(turned, cache, "knn", settings)
    x = cache_features(tmp_path, dataset)
    np.testing.assert_array_equal(plain.head.predict_proba(x), other.head.predict_proba(x))
    assert other.manifest.validation["accuracy"] == pytest.approx(1 - plain.manifest.validation["accuracy"])


def test_without_a_validation_part_the_scores_are_those_on_rows_held_out(dataset: Dataset, tmp_path: Path) -> None:
    parts = ["train" if part == "validation" else part for part in dataset.parts]
    manifest = fit(replace(dataset, parts=parts), cache_of(tmp_path, dataset.sequences), "knn").manifest
    assert manifest.n_train == 80
    assert manifest.validation["macro_f1"] > 0.5


def test_classes_that_only_validation_has_are_errors_not_classes(dataset: Dataset, tmp_path: Path) -> None:
    labels = [
        "new" if part == "validation" else label for label, part in zip(dataset.labels, dataset.parts, strict=True)
    ]
    manifest = fit(replace(dataset, labels=labels), cache_of(tmp_path, dataset.sequences), "knn").manifest
    assert manifest.classes == CLASSES
    assert manifest.validation["accuracy"] == 0


def test_settings_are_taken_as_text_and_every_step_is_told(dataset: Dataset, tmp_path: Path) -> None:
    entries: list[dict[str, float]] = []
    cache = cache_of(tmp_path, dataset.sequences)
    settings = {"epochs": "4", "batch": "60", "patience": "0"}
    manifest = fit(dataset, cache, "linear", settings, log=entries.append).manifest
    assert manifest.config["epochs"] == 4
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]


def test_the_pooling_asked_for_is_the_one_fitted_on(dataset: Dataset, tmp_path: Path) -> None:
    cache = cache_of(tmp_path, dataset.sequences, ("mean", "max"))
    mean = fit(dataset, cache, "knn", {"metric": "l2", "k": 1}).head
    fitted = fit(dataset, cache, "knn", {"metric": "l2", "k": 1}, pooling="max")
    largest, manifest = fitted.head, fitted.manifest
    assert manifest.pooling == manifest.config["pooling"] == "max"
    assert manifest.spec == cache.spec
    x = cache_features(tmp_path, dataset)
    torch_mean, torch_max = (head.finder.whitening.mean for head in (mean, largest))
    np.testing.assert_allclose(torch_max, 3 * torch_mean, rtol=1e-3)
    assert (largest.top_k(x, 1)[0] == mean.top_k(x, 1)[0]).all()
    with pytest.raises(UsageError, match="the cache holds no cls vectors, but mean, max; embed with --pool cls"):
        fit(dataset, cache, pooling="cls")


SHARES = Shares(families=0.5, calibration=0.2)
AWAY = SHARES.taking_away()


def four_families(dataset: Dataset) -> Dataset:
    """Two families more, so that two can be held out."""
    return replace(dataset, labels=[f"{label}{row // 5 % 2}" for row, label in enumerate(dataset.labels)])


@pytest.mark.parametrize("refit", [True, False])
def test_families_that_are_taken_away_are_not_fitted_on(refit: bool, dataset: Dataset, tmp_path: Path) -> None:
    dataset = four_families(dataset)
    cache = cache_of(tmp_path, dataset.sequences)
    fitted = fit(dataset, cache, "knn", shares=AWAY, refit=refit)
    apart = set_aside(dataset, AWAY)
    assert set(fitted.manifest.classes) == set(apart.kept.labels)
    assert len(fitted.manifest.classes) == 2
    parts = {"train", "validation"} if refit else {"train"}
    assert fitted.manifest.n_train == sum(part in parts for part in apart.kept.parts)
    setup = dict(fitted.manifest.setup)
    assert setup.pop("asked")["config"]["k"] is None  # as it was asked for, not as it was chosen
    assert setup == {**vars(AWAY), "refit": refit}
    assert fitted.findings.confidence is not None
    assert len(fitted.findings.confidence.true_probabilities) == len(apart.calibration)
    rejection = fitted.findings.confidence.rejection
    assert rejection is not None
    assert (rejection.folds, rejection.families) == (0, 2)
    assert rejection.strangers is not None
    assert rejection.strangers.n == len(apart.checks)
    by_hand = rejection.of(fitted.head, Features.from_cache(cache, apart.strangers))
    assert (by_hand > rejection.threshold).mean() <= 0.05
    far = rejection.of(fitted.head, Features.from_cache(cache, apart.checks))
    assert rejection.strangers.share == pytest.approx((far > rejection.threshold).mean())


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("head", ["knn", "linear"])
def test_families_held_out_in_folds_set_the_threshold_and_the_model_is_as_without(
    head: str, refit: bool, dataset: Dataset, tmp_path: Path
) -> None:
    """The heads of the folds leave no trace in it: it is the same, bit for bit."""
    dataset = four_families(dataset)
    cache = cache_of(tmp_path, dataset.sequences)
    plain = fit(dataset, cache, head, refit=refit)
    careful = fit(dataset, cache, head, refit=refit, shares=Shares(1.0))
    assert careful.manifest.classes == plain.manifest.classes == tuple(sorted(set(dataset.labels)))
    x = Features.from_cache(cache, dataset)
    np.testing.assert_array_equal(careful.head.predict_proba(x), plain.head.predict_proba(x))
    assert careful.findings.confidence is not None
    rejection = careful.findings.confidence.rejection
    assert rejection is not None
    assert (rejection.folds, rejection.families) == (4, 4)
    assert rejection.known is not None
    assert rejection.known.n == len(dataset.part("validation"))
    assert rejection.strangers is not None
    assert Shares.of_setup(careful.manifest.setup) == Shares(1.0)


def test_strangers_are_asked_of_a_head_that_was_fitted_without_their_families(dataset: Dataset, tmp_path: Path) -> None:
    dataset = four_families(dataset)
    cache = cache_of(tmp_path, dataset.sequences)
    folds = fit(dataset, cache, "knn", shares=Shares(1.0), settings={"k": 3}).findings.folds
    assert folds is not None
    classes = sorted(set(dataset.labels))
    for number, fold in enumerate(stranger_folds(dataset, Shares(1.0))):
        strange = folds.strangers & (folds.folds == number)
        assert strange.sum() == len(fold.strangers)
        first = {classes[code] for code in folds.codes[strange, 0]}
        assert not first & set(fold.strangers.labels)
        assert first <= set(fold.train.labels)
    assert (folds.codes >= 0).all()
    assert {len(set(row)) for row in folds.codes.tolist()} == {4}


def test_a_refit_changes_the_head_and_neither_the_choices_nor_the_scores_nor_what_was_held(
    dataset: Dataset, tmp_path: Path
) -> None:
    cache = cache_of(tmp_path, dataset.sequences)
    once, again = (fit(dataset, cache, "linear", refit=refit) for refit in (False, True))
    assert again.manifest.n_train == once.manifest.n_train + len(dataset.part("validation"))
    assert again.manifest.config == once.manifest.config
    assert again.manifest.validation == once.manifest.validation
    assert once.findings.held is not None
    assert again.findings.held is not None
    np.testing.assert_array_equal(again.findings.held.probabilities, once.findings.held.probabilities)
    x = Features.from_cache(cache, dataset)
    assert not np.array_equal(again.head.predict_proba(x), once.head.predict_proba(x))


def test_a_refit_learns_classes_that_only_validation_has(dataset: Dataset, tmp_path: Path) -> None:
    labels = [
        "a new one" if part == "validation" and row % 2 else label
        for row, (label, part) in enumerate(zip(dataset.labels, dataset.parts, strict=True))
    ]
    dataset = replace(dataset, labels=labels)
    fitted = fit(dataset, cache_of(tmp_path, dataset.sequences), "knn", refit=True)
    assert fitted.manifest.classes == ("a new one", *CLASSES)
    assert fitted.findings.held is not None
    truth = [CLASSES.index(name) + 1 if name in CLASSES else -1 for name in dataset.part("validation").labels]
    assert fitted.findings.held.truth.tolist() == truth
    assert set(fitted.findings.held.codes.ravel().tolist()) == {1, 2}


def test_a_model_folder_keeps_its_doubts_and_what_was_held(dataset: Dataset, tmp_path: Path) -> None:
    dataset = four_families(dataset)
    fitted = fit(dataset, cache_of(tmp_path / "cache", dataset.sequences), "knn", shares=SHARES)
    folder = fitted.save(tmp_path / "model")
    findings = load_model(folder).findings
    assert findings.confidence == fitted.findings.confidence
    held, before = findings.held, fitted.findings.held
    assert held.digest == before.digest
    for name in ("codes", "probabilities", "familiarity", "truth"):
        np.testing.assert_array_equal(getattr(held, name), getattr(before, name))
    (folder / "confidence.json").write_text("{}")
    with pytest.raises(ModelError, match=r"confidence.json: is not as it was written"):
        load_model(folder)
