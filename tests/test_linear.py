"""The linear head: ridge regression and logistic regression against their definitions, choices on validation alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge

from esmcls.cache.features import Features
from esmcls.errors import NonFiniteError
from esmcls.heads import whitening
from esmcls.heads.blocks import class_factors
from esmcls.heads.layers import linear
from esmcls.heads.layers.linear import LinearConfig, LinearHead
from esmcls.heads.layers.ridge import Ridge, Scaling
from esmcls.labels.labels import Labels

Array = npt.NDArray[np.float32]


def noisy(n: int = 90, classes: int = 3, width: int = 5, seed: int = 0, spread: float = 1.5) -> tuple[Array, Labels]:
    """Overlapping classes, of sizes 3 : 2 : 1 and so on, with columns of very different scale."""
    rng = np.random.default_rng(seed)
    codes = np.sort(rng.choice(classes, n, p=np.arange(classes, 0, -1) / np.arange(classes + 1).sum()))
    codes[:classes] = np.arange(classes)
    centres = np.random.default_rng(7).normal(size=(classes, width))
    vectors = (centres[codes] + rng.normal(size=(n, width)) * spread) * 10.0 ** np.arange(width) + 100
    return vectors.astype(np.float32), Labels(tuple("abcdefgh"[:classes]), codes)


def fit(vectors: Array, labels: Labels, held: tuple[Array, Labels] | None = None, **knobs: object) -> LinearHead:
    head = LinearHead(LinearConfig(**knobs))  # type: ignore[arg-type]
    return head.fit(Features.from_arrays(vectors), labels, held and (Features.from_arrays(held[0]), held[1]), seed=1)


def test_scaling_is_mean_and_deviation_and_leaves_a_constant_column_alone() -> None:
    vectors = np.random.default_rng(0).normal(5, 3, size=(50, 3)).astype(np.float32)
    vectors[:, 1] = 4
    scaling = Scaling.of(vectors)
    np.testing.assert_allclose(scaling.mean, vectors.mean(0), rtol=1e-6)
    np.testing.assert_allclose(scaling.deviation, [vectors[:, 0].std(), 1, vectors[:, 2].std()], rtol=1e-5)
    assert scaling(torch.from_numpy(vectors))[:, 1].tolist() == [0] * 50


def test_blocks_are_summed_to_the_same_numbers_as_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = noisy()
    monkeypatch.setattr(whitening.row_blocks, "__defaults__", ("cpu", 7))
    blocked = Scaling.of(vectors), Ridge.of(vectors, labels.codes, np.ones(3, np.float32), Scaling.of(vectors))
    monkeypatch.undo()
    whole = Scaling.of(vectors), Ridge.of(vectors, labels.codes, np.ones(3, np.float32), Scaling.of(vectors))
    torch.testing.assert_close(blocked[0].deviation, whole[0].deviation)
    for ours, theirs in zip(blocked[1].solve(0.1), whole[1].solve(0.1), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", ["none", "sqrt", "balanced"])
def test_ridge_is_that_of_scikit_learn_weighted_or_not(how: str) -> None:
    vectors, labels = noisy()
    factors, scaling = class_factors(labels.counts(), how), Scaling.of(vectors)
    ridge = Ridge.of(vectors, labels.codes, factors, scaling)
    weight, bias = ridge.solve(0.3)
    rows = scaling(torch.from_numpy(vectors)).numpy()
    oracle = SklearnRidge(alpha=0.3 * float(ridge.values.mean()))
    oracle.fit(rows, np.eye(3)[labels.codes], sample_weight=factors[labels.codes])
    np.testing.assert_allclose(weight, oracle.coef_, atol=1e-5)
    np.testing.assert_allclose(bias, oracle.intercept_, atol=1e-5)


def test_training_reaches_the_minimum_that_scikit_learn_finds() -> None:
    vectors, labels = noisy(300)
    head = fit(
        vectors,
        labels,
        epochs=400,
        lr=0.01,
        batch=300,
        smoothing=0.0,
        weight_decay=0.0,
        ridge=0.1,
        scale=1.0,
        stop=400,
        whiten=False,
        class_weights="none",
    )
    rows = Scaling.of(vectors)(torch.from_numpy(vectors)).numpy()
    oracle = LogisticRegression(C=1e4, max_iter=5000).fit(rows, labels.codes)
    ours = head.predict_proba(Features.from_arrays(vectors))
    np.testing.assert_allclose(ours, oracle.predict_proba(rows), atol=0.03)


def test_without_epochs_the_head_is_the_ridge_regression_times_the_scale() -> None:
    vectors, labels = noisy()
    head = fit(vectors, labels, epochs=0, ridge=0.3, scale=7.0, ridge_weights="none", whiten=False, temperature=1.0)
    scaling = Scaling.of(vectors)
    weight, bias = Ridge.of(vectors, labels.codes, np.ones(3, np.float32), scaling).solve(0.3)
    logits = 7 * (scaling(torch.from_numpy(vectors)) @ weight.T + bias)
    np.testing.assert_allclose(head.predict_proba(Features.from_arrays(vectors)), logits.softmax(1), atol=1e-6)


def test_balanced_weights_turn_more_rows_to_the_rare_class() -> None:
    vectors, labels = noisy(400, spread=4)
    x, rare = Features.from_arrays(vectors), {}
    for how in ("none", "sqrt", "balanced"):
        head = fit(vectors, labels, class_weights=how, warm_start=False, whiten=False, epochs=20, lr=0.05, stop=20)
        rare[how] = int((head.top_k(x, 1)[0] == 2).sum())
    assert rare["none"] < rare["sqrt"] < rare["balanced"]


def test_smoothing_lowers_the_confidence() -> None:
    vectors, labels = noisy(spread=0.3)
    sharp, soft = (
        fit(vectors, labels, smoothing=s, epochs=60, lr=0.05, stop=60, temperature=1.0)
        .predict_proba(Features.from_arrays(vectors))
        .max(1)
        for s in (0.0, 0.3)
    )
    assert soft.mean() < sharp.mean() - 0.05


def test_the_scale_is_the_one_with_the_least_cross_entropy_on_validation() -> None:
    vectors, labels = noisy(200)
    held = noisy(100, seed=5)
    losses = {}
    for scale in linear.SCALES:
        head = fit(vectors, labels, held, epochs=0, ridge=0.1, scale=scale, temperature=1.0)  # it evens them
        probabilities = head.predict_proba(Features.from_arrays(held[0]))
        losses[scale] = -np.log(probabilities[np.arange(100), held[1].codes]).mean()
    assert np.diff(sorted(losses.values())).min() > 1e-3, "two are as good"
    assert fit(vectors, labels, held, epochs=0, ridge=0.1).chosen.scale == min(losses, key=lambda scale: losses[scale])


def test_the_penalty_is_the_one_with_the_best_macro_f1_on_validation() -> None:
    vectors, labels = noisy(60, width=6)
    held = noisy(200, width=6, seed=5)
    reached = {p: fit(vectors, labels, held, epochs=0, ridge=p).scores["macro_f1"] for p in linear.PENALTIES}
    head = fit(vectors, labels, held, epochs=0)
    assert len(set(reached.values())) > 1
    assert head.scores["macro_f1"] == max(reached.values()) == reached[head.chosen.ridge or 0]


def test_training_that_only_does_harm_is_undone() -> None:
    vectors, labels = noisy(60, spread=0.5)
    held = noisy(100, seed=5, spread=0.5)
    start = fit(vectors, labels, held, epochs=0)
    harmed = fit(vectors, labels, held, epochs=2, lr=500.0, smoothing=0.9)
    assert harmed.chosen.stop == 0
    assert harmed.scores == start.scores


def test_it_stops_after_as_many_epochs_without_a_better_score_as_patience_says() -> None:
    vectors, labels = noisy(60)
    entries: list[dict[str, float]] = []
    head = LinearHead(LinearConfig(epochs=50, batch=60, patience=2))
    held = Features.from_arrays(vectors), labels
    head.fit(Features.from_arrays(vectors), labels, held, 0, entries.append)
    scores = [entry["score"] for entry in entries if "score" in entry]
    best = int(np.argmax(scores)) + 1
    assert len(scores) <= best + 2
    assert head.chosen.stop in (0, best)


def test_a_chosen_configuration_fits_on_all_rows_what_was_chosen_on_some() -> None:
    vectors, labels = noisy(200)
    head = fit(vectors, labels)
    assert head.chosen.stop is not None
    again = LinearHead(head.chosen)
    again.classes = labels.classes
    again._train(vectors, labels, None, 1, None)
    x = Features.from_arrays(vectors)
    np.testing.assert_array_equal(again.predict_proba(x), head.predict_proba(x))


def test_without_a_warm_start_it_begins_at_zero() -> None:
    vectors, labels = noisy()
    head = fit(vectors, labels, epochs=0, warm_start=False)
    np.testing.assert_allclose(head.predict_proba(Features.from_arrays(vectors)), 1 / 3, atol=1e-6)


def test_logits_are_never_held_for_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = noisy(90)
    head = fit(vectors, labels, epochs=0)
    whole = head.predict_proba(Features.from_arrays(vectors))
    monkeypatch.setattr(linear, "LOGITS", 30)
    blocks = [len(logits) for _, logits in head._logits(vectors)]
    assert max(blocks) == 10
    assert sum(blocks) == 90
    np.testing.assert_allclose(head.predict_proba(Features.from_arrays(vectors)), whole, atol=1e-6)
    assert head.top_k(Features.from_arrays(vectors), 2)[0].shape == (90, 2)


def test_a_vector_that_is_not_finite_is_not_fitted_on() -> None:
    vectors, labels = noisy()
    vectors[40, 2] = np.inf
    x = Features.from_arrays(vectors, sequences=["MKT"] * 40 + ["MLE"] * 50)
    with pytest.raises(NonFiniteError, match=r"sequence MLE \(3 residues\): NaN or infinity in its vector"):
        LinearHead().fit(x, labels)


def test_vectors_that_may_not_be_written_to_are_read() -> None:
    vectors, labels = noisy()
    vectors.flags.writeable = False
    assert fit(vectors, labels, epochs=1).predict_proba(Features.from_arrays(vectors)).shape == (90, 3)


def test_another_pooling_is_taken_where_it_is_asked_for() -> None:
    vectors, labels = noisy()
    x = Features.from_arrays({"mean": np.zeros_like(vectors), "max": vectors})
    head = LinearHead(replace(LinearConfig(), pooling="max", epochs=0)).fit(x, labels, None, seed=1)
    plain = fit(vectors, labels, epochs=0)
    np.testing.assert_array_equal(head.predict_proba(x), plain.predict_proba(Features.from_arrays(vectors)))


@pytest.mark.gpu
def test_cuda_gives_what_the_cpu_gives() -> None:
    vectors, labels = noisy(300)
    x = Features.from_arrays(vectors)
    cpu = fit(vectors, labels)
    cuda = LinearHead(LinearConfig(), device="cuda").fit(x, labels, None, seed=1)
    np.testing.assert_allclose(cuda.predict_proba(x), cpu.predict_proba(x), atol=1e-3)
