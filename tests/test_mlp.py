"""The MLP head: what linear cannot learn, chunks by attention, noise in training alone, choices on validation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression
from toy_encoder import ToyEncoder

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.errors import CacheError, NonFiniteError, UsageError, WidthMismatchError
from esmcls.heads.blocks import f1_of
from esmcls.heads.layers import mlp
from esmcls.heads.layers.linear import LinearHead
from esmcls.heads.layers.mlp import MLPConfig, MLPHead
from esmcls.heads.layers.network import Bags, Network
from esmcls.labels.labels import Labels
from esmcls.models.folder import load_model, save_model
from esmcls.models.manifest import Manifest
from esmcls.training.loop import History, run

Array = npt.NDArray[np.float32]
SMALL: dict[str, Any] = {"loss": "ce", "hidden": 16, "dropout": 0.0, "lr": 0.01, "batch": 32, "epochs": 25}


def xor(n: int, seed: int) -> tuple[Array, Labels]:
    """Two classes that lie on opposite corners of a square."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, 2, size=(n, 2))
    vectors = corners + random.normal(size=(n, 2)) * 0.1
    return vectors.astype(np.float32), Labels(("same", "different"), corners[:, 0] ^ corners[:, 1])


def overlapping(n: int = 120, seed: int = 0, spread: float = 1.5) -> tuple[Array, Labels]:
    """Three classes of sizes 6 : 2 : 1 that overlap, in columns of very different scale."""
    random = np.random.default_rng(seed)
    codes = np.append(np.arange(3), np.sort(random.choice(3, n - 3, p=[6 / 9, 2 / 9, 1 / 9])))
    centres = np.random.default_rng(7).normal(size=(3, 4))
    vectors = (centres[codes] + random.normal(size=(n, 4)) * spread) * 10.0 ** np.arange(4) + 100
    return vectors.astype(np.float32), Labels(tuple("abc"), codes)


def needles(n: int, seed: int) -> tuple[Features, Labels, list[int]]:
    """Return proteins of 1 to 6 chunks, of which a marked one tells the class, and the place of that one.

    Columns 0 and 1 are the class in the marked chunk and noise in all others; column 2 is the mark.
    """
    random = np.random.default_rng(seed)
    codes, chunks, places = random.integers(0, 2, size=n), [], []
    for code in codes:
        count = int(random.integers(1, 7))
        vectors, place = random.normal(size=(count, 3)) * [3, 3, 0.3], int(random.integers(count))
        vectors[place] = [2 * code - 1, 1 - 2 * code, 3] + random.normal(size=3) * 0.3
        chunks.append(vectors.astype(np.float32))
        places.append(place)
    means = np.stack([part.mean(0) for part in chunks])
    return Features.from_arrays(means, chunks=chunks), Labels(("no", "yes"), codes), places


def fit(vectors: Array, labels: Labels, held: tuple[Array, Labels] | None = None, **knobs: Any) -> MLPHead:
    validation = held and (Features.from_arrays(held[0]), held[1])
    return MLPHead(MLPConfig(**(SMALL | knobs))).fit(Features.from_arrays(vectors), labels, validation, seed=1)


def right(head: Any, vectors: Array, labels: Labels) -> float:
    return float((head.top_k(Features.from_arrays(vectors), 1)[0][:, 0] == labels.codes).mean())


def same_state(one: MLPHead, other: MLPHead) -> bool:
    pairs = zip(one.network.state_dict().items(), other.network.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


# what it learns


def test_it_learns_classes_that_no_linear_head_can_tell_apart() -> None:
    test = xor(200, seed=1)
    assert right(fit(*xor(300, seed=0)), *test) > 0.98
    linear = LinearHead().fit(Features.from_arrays(xor(300, seed=0)[0]), xor(300, seed=0)[1])
    assert right(linear, *test) < 0.8
    assert right(fit(*xor(300, seed=0), depth=0), *test) < 0.8


@pytest.mark.parametrize(
    "knobs", [{"depth": 3}, {"norm": "layer"}, {"norm": "batch"}, {"dropout": 0.3}, {"noise": 0.1}]
)
def test_every_layout_learns_them(knobs: dict[str, Any]) -> None:
    assert right(fit(*xor(300, seed=0), **knobs), *xor(200, seed=1)) > 0.95


@pytest.mark.parametrize("knobs", [{"loss": "focal"}, {"loss": "logit-adjusted"}, {"sampling": "balanced"}])
def test_every_loss_and_sampling_learns_them(knobs: dict[str, Any]) -> None:
    assert right(fit(*xor(300, seed=0), **knobs), *xor(200, seed=1)) > 0.95


@pytest.mark.parametrize("schedule", ["plateau", "cosine", "linear", "constant"])
def test_every_schedule_learns_them(schedule: str) -> None:
    assert right(fit(*xor(300, seed=0), schedule=schedule), *xor(200, seed=1)) > 0.95


def test_without_hidden_layers_it_reaches_the_minimum_that_scikit_learn_finds() -> None:
    vectors, labels = overlapping(200)
    knobs = {
        "whiten": False,
        "depth": 0,
        "epochs": 300,
        "stop": 300,
        "batch": 200,
        "weight_decay": 0.0,
        "schedule": "linear",
    }
    head = fit(vectors, labels, **knobs, lr=0.05, temperature=1.0)
    rows = (vectors - vectors.mean(0)) / vectors.std(0)
    oracle = LogisticRegression(C=1e6, max_iter=5000).fit(rows, labels.codes)
    np.testing.assert_allclose(head.predict_proba(Features.from_arrays(vectors)), oracle.predict_proba(rows), atol=0.01)


def test_probabilities_are_what_the_saved_numbers_say(tmp_path: Path) -> None:
    vectors, labels = overlapping()
    head = fit(vectors, labels, epochs=2, temperature=1.0, whiten=False)
    head.save(tmp_path)
    state = load_file(tmp_path / "mlp.safetensors")
    np.testing.assert_allclose(state["mean"], vectors.mean(0), rtol=1e-6)
    np.testing.assert_allclose(state["scale"], vectors.std(0), rtol=1e-5)
    rows = (vectors - state["mean"]) / state["scale"]
    inner = np.maximum(rows @ state["hidden.0.0.weight"].T + state["hidden.0.0.bias"], 0)  # (120, 16)
    logits = torch.from_numpy(inner @ state["out.weight"].T + state["out.bias"])
    np.testing.assert_allclose(head.predict_proba(Features.from_arrays(vectors)), logits.softmax(1), atol=1e-6)


def test_the_scale_of_a_column_does_not_matter() -> None:
    vectors, labels = overlapping()
    moved = vectors * np.float32(1024)
    ours = fit(vectors, labels, epochs=5).predict_proba(Features.from_arrays(vectors))
    np.testing.assert_allclose(fit(moved, labels, epochs=5).predict_proba(Features.from_arrays(moved)), ours, atol=1e-5)


def test_the_default_is_one_hidden_layer_of_512_with_relu_and_dropout() -> None:
    network = Network.drawn(20, 7, MLPConfig(), seed=0)
    parts = [type(part).__name__ for part in network.hidden.modules()]
    assert [name for name in parts if name not in ("Sequential", "Identity")] == ["Linear", "ReLU", "Dropout"]
    assert (network.hidden[0][0].in_features, network.hidden[0][0].out_features) == (20, 512)  # type: ignore[index]
    assert (network.out.in_features, network.out.out_features) == (512, 7)


@pytest.mark.parametrize(("norm", "name"), [("layer", "LayerNorm"), ("batch", "_BatchNorm")])
def test_a_norm_stands_before_each_relu(norm: str, name: str) -> None:
    network = Network.drawn(20, 7, MLPConfig(norm=norm, depth=2), seed=0)
    assert [[type(part).__name__ for part in layer] for layer in network.hidden] == [  # type: ignore[union-attr]
        ["Linear", name, "ReLU", "Dropout"]
    ] * 2


def test_batch_norm_takes_a_last_batch_of_a_single_row_and_a_single_row_alone() -> None:
    vectors, labels = overlapping(33)
    head = fit(vectors, labels, norm="batch", epochs=3, stop=3)  # 32 + 1
    assert np.isfinite(head.predict_proba(Features.from_arrays(vectors))).all()
    lone = fit(vectors[:1], labels.take([0]), norm="batch", epochs=2)
    assert np.isfinite(lone.predict_proba(Features.from_arrays(vectors))).all()


# noise and dropout


def test_noise_has_the_deviation_asked_for_in_units_of_the_standardised_vectors() -> None:
    network = Network.drawn(4, 4, MLPConfig(depth=0, noise=0.25), seed=0).requires_grad_(False)
    network.scale.copy_(torch.tensor([1.0, 10.0, 100.0, 1000.0]))
    network.out.weight.copy_(torch.eye(4))
    network.out.bias.zero_()
    block, counts = torch.full((5000, 4), 3.0), torch.ones(5000, dtype=torch.int64)
    noise = network.train()(block, counts) - network.standardised(block)
    np.testing.assert_allclose(noise.std(0), 0.25, rtol=0.05)
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.02)
    assert torch.equal(network.eval()(block, counts), network.standardised(block))


def test_noise_touches_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = overlapping()
    shapes: list[int] = []
    original = torch.randn_like

    def counted(x: torch.Tensor) -> torch.Tensor:
        shapes.append(len(x))
        return original(x)

    monkeypatch.setattr(torch, "randn_like", counted)
    head = fit(vectors, labels, overlapping(50, seed=1), noise=0.5, epochs=4, patience=0, batch=40)
    assert shapes == [40] * 12  # the rows of each step, neither those of validation nor of prediction
    x = Features.from_arrays(vectors)
    np.testing.assert_array_equal(head.predict_proba(x), head.predict_proba(x))
    assert shapes == [40] * 12


def test_noise_and_dropout_change_what_is_learned() -> None:
    vectors, labels = overlapping()
    plain, *others = (fit(vectors, labels, epochs=3, **knobs) for knobs in ({}, {"noise": 0.3}, {"dropout": 0.3}))
    assert not any(same_state(plain, other) for other in others)


# chunks


def chunked(**knobs: Any) -> MLPHead:
    x, labels, _ = needles(400, seed=0)
    return MLPHead(MLPConfig(**(SMALL | {"attention": True} | knobs))).fit(x, labels, needles(60, 1)[:2], seed=1)


def test_attention_attends_to_the_chunk_that_tells_the_class() -> None:
    x, _, places = needles(200, seed=2)
    weights = chunked(depth=0).attention(x)  # with hidden layers, to attend to one of two classes is enough
    assert [len(part) for part in weights] == [len(part) for part in x.chunks()]
    np.testing.assert_allclose([part.sum() for part in weights], 1, rtol=1e-5)
    several = [(part, place) for part, place in zip(weights, places, strict=True) if len(part) > 1]
    assert len(several) > 100
    assert np.mean([part.argmax() == place for part, place in several]) > 0.95
    assert np.mean([part[place] for part, place in several]) > 0.8


def test_attention_finds_what_the_mean_of_the_chunks_drowns() -> None:
    x, labels, _ = needles(200, seed=2)
    means = MLPHead(MLPConfig(**SMALL)).fit(*needles(400, 0)[:2], needles(60, 1)[:2], seed=1)
    assert (chunked().top_k(x, 1)[0][:, 0] == labels.codes).mean() > 0.95
    assert (means.top_k(x, 1)[0][:, 0] == labels.codes).mean() < 0.85


def test_attention_is_the_softmax_of_its_scores_over_each_protein() -> None:
    network = Network.drawn(3, 2, MLPConfig(depth=0, attention=True), seed=0).requires_grad_(False)
    assert network.pool is not None
    x, counts = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) * 5, torch.tensor([3, 1, 2])
    scores = network.pool.score(torch.tanh(network.pool.hidden(x)))[:, 0]
    weights = torch.cat([part.softmax(0) for part in scores.split([3, 1, 2])])
    pooled = torch.stack(
        [(w[:, None] * v).sum(0) for w, v in zip(weights.split([3, 1, 2]), x.split([3, 1, 2]), strict=True)]
    )
    torch.testing.assert_close(network.pool.weights(x, counts), weights)
    torch.testing.assert_close(network.pool(x, counts), pooled)
    torch.testing.assert_close(network(x, counts), network.out(pooled))


def test_the_order_of_the_chunks_does_not_matter() -> None:
    x, _, _ = needles(30, seed=2)
    turned = Features.from_arrays(x.vectors(), chunks=[part[::-1] for part in x.chunks()])
    head = chunked(epochs=2)
    np.testing.assert_allclose(head.predict_proba(turned), head.predict_proba(x), atol=1e-6)


def test_a_protein_is_answered_the_same_alone_and_among_others_with_more_chunks() -> None:
    x, head = needles(30, seed=2)[0], chunked(epochs=2)
    alone = np.concatenate([head.predict_proba(x.take([row])) for row in range(30)])
    np.testing.assert_allclose(alone, head.predict_proba(x), atol=1e-6)


def test_chunks_are_read_only_where_attention_is_asked_for() -> None:
    vectors, labels = overlapping()
    fit(vectors, labels, epochs=1)  # these have no chunks
    with pytest.raises(CacheError, match="run: esmcls embed --chunks"):
        fit(vectors, labels, epochs=1, attention=True)
    with pytest.raises(UsageError, match="fitted without attention; fit with --set attention true"):
        fit(vectors, labels, epochs=1).attention(Features.from_arrays(vectors))


def test_chunks_of_another_width_and_chunks_that_are_not_finite_are_errors() -> None:
    head = chunked(epochs=1)
    wide = [np.zeros((2, 4), dtype=np.float32)]
    with pytest.raises(WidthMismatchError, match="of width 3, but these have width 4"):
        head.predict_proba(Features.from_arrays(np.zeros((1, 3), dtype=np.float32), chunks=wide))
    bad = [np.zeros((2, 3), dtype=np.float32), np.full((2, 3), np.nan, dtype=np.float32)]
    x = Features.from_arrays(np.zeros((2, 3), dtype=np.float32), sequences=["MKT", "MLE"], chunks=bad)
    with pytest.raises(NonFiniteError, match="sequence MLE"):
        head.predict_proba(x)


def test_no_proteins_with_chunks_give_no_predictions() -> None:
    x, _, _ = needles(5, seed=2)
    head = chunked(epochs=1)
    assert head.predict_proba(x.take([])).shape == (0, 2)
    assert head.attention(x.take([])) == []


def test_a_model_with_attention_predicts_from_sequences(tmp_path: Path) -> None:
    encoder, sequences = ToyEncoder(), ["ACD", "ACDACDAC", "WAAA", "WWAAAAAAW"]
    spec, embedded = EmbeddingSpec.of(encoder, poolings=("mean", "chunk")), encoder.encode(sequences, keep="chunk")
    assert embedded.chunks is not None
    chunks = [part.astype(np.float16) for part in embedded.chunks]
    x = Features.from_arrays(embedded.pooled["mean"].astype(np.float16), chunks=chunks, spec=spec)
    labels = Labels.from_names(["a", "a", "w", "w"])
    head = MLPHead(MLPConfig(attention=True, epochs=3)).fit(x, labels)
    config = {name: getattr(head.chosen, name) for name in head.chosen.__dataclass_fields__}
    facts = {
        "classes": labels.classes,
        "class_counts": (2, 2),
        "spec": spec,
        "pooling": "mean",
        "seed": 0,
        "n_train": 4,
    }
    manifest = Manifest(head="mlp", config=config, dataset_digest="", split_digest="", validation={}, **facts)
    model = load_model(save_model(tmp_path / "m", head, manifest), encoder=ToyEncoder())
    np.testing.assert_array_equal(
        model.predict_proba(["WAAA", *sequences]), head.predict_proba(x.take([2, 0, 1, 2, 3]))
    )


# saved, repeated, interrupted

EVERYTHING: dict[str, Any] = {
    **{"depth": 2, "norm": "batch", "dropout": 0.3, "noise": 0.2, "attention": True, "loss": "focal"},
    **{"class_weights": "effective-number", "weight_cap": 3.0, "sampling": "balanced", "epochs": 4},
}


@pytest.mark.parametrize(
    "knobs",
    [EVERYTHING, {"norm": "layer", "epochs": 2}, {"depth": 0, "epochs": 2}],
    ids=["everything", "layer", "depth 0"],
)
def test_every_layout_is_saved_and_loaded_to_the_bit(knobs: dict[str, Any], tmp_path: Path) -> None:
    head, x = chunked(**knobs), needles(50, seed=2)[0]
    head.save(tmp_path)
    again = MLPHead.load(tmp_path, head.chosen, head.classes)
    np.testing.assert_array_equal(again.predict_proba(x), head.predict_proba(x))
    assert same_state(head, again)


def test_the_same_seed_gives_the_same_bits_with_everything_that_is_random() -> None:
    assert same_state(chunked(**EVERYTHING), chunked(**EVERYTHING))
    x, labels, _ = needles(400, seed=0)
    other = MLPHead(MLPConfig(**(SMALL | EVERYTHING))).fit(x, labels, needles(60, 1)[:2], seed=2)
    assert not same_state(chunked(**EVERYTHING), other)


def begun(folder: Path | None = None, stop: int | None = None, resume: bool = False) -> tuple[MLPHead, History]:
    """Train with everything that is random and a rate that falls, to a checkpoint or from one."""
    x, labels, _ = needles(120, seed=0)
    knobs = SMALL | EVERYTHING | {"schedule": "plateau", "plateau": 1, "lr": 0.05}
    head = MLPHead(MLPConfig(**knobs))
    head.classes = labels.classes
    bags = head._bags(x, 3)
    head._draw(bags, labels, 1)
    task = head._descent(bags, labels, 1, None)
    task.measure = lambda: f1_of(head._logits(bags), labels)
    plan = replace(head.config.plan(task.sampler.steps_an_epoch, 1), validate_every=2, checkpoint_every=3)
    checkpoint = None if folder is None else folder / "c"
    return head, run(task, plan, checkpoint=checkpoint, resume=resume, stop_after=stop)


@pytest.mark.parametrize("stop", [1, 4, 7, 15])
def test_interrupted_and_resumed_equals_uninterrupted(stop: int, tmp_path: Path) -> None:
    whole, expected = begun()
    begun(tmp_path, stop=stop)
    resumed, history = begun(tmp_path, resume=True)
    assert same_state(whole, resumed)
    assert history == expected
    assert history.falls


# choices


def test_it_stops_after_as_many_epochs_without_a_better_score_as_patience_says() -> None:
    vectors, labels = overlapping()
    held, entries = overlapping(60, seed=3), list[dict[str, float]]()
    head = MLPHead(MLPConfig(**(SMALL | {"epochs": 50, "patience": 4})))
    head.fit(Features.from_arrays(vectors), labels, (Features.from_arrays(held[0]), held[1]), 0, entries.append)
    scores = [entry["score"] for entry in entries if "score" in entry]
    assert head.chosen.stop == np.argmax(scores) + 1
    assert len(scores) == head.chosen.stop + 4
    assert head.scores["macro_f1"] == pytest.approx(max(scores), abs=1e-6)


def test_of_epochs_that_are_equally_right_the_one_with_the_least_cross_entropy_is_the_best() -> None:
    labels = Labels(("a", "b"), np.array([0, 1, -1]))
    sure, unsure, wrong = (torch.tensor([[x, 0.0], [0.0, x], [0.0, 0.0]]) for x in (3.0, 1.0, -3.0))
    right, hardly, never = (f1_of(iter([(slice(3), logits)]), labels) for logits in (sure, unsure, wrong))
    assert right > hardly > never
    assert right == pytest.approx(hardly, abs=1e-6)


def test_without_validation_all_rows_are_fitted_for_as_long_and_with_the_falls_that_some_were_best() -> None:
    vectors, labels = overlapping(200)
    entries: list[dict[str, float]] = []
    head = MLPHead(MLPConfig(**(SMALL | {"plateau": 1, "patience": 12, "lr": 0.05, "factor": 0.5})))
    head.fit(Features.from_arrays(vectors), labels, None, 1, entries.append)
    assert head.chosen.stop is not None
    assert head.chosen.falls
    last = len(entries) - max(place for place, entry in enumerate(entries) if entry["step"] == 1)
    assert last == 7 * head.chosen.stop  # 200 rows are 7 batches of 32
    assert entries[-1]["lr"] == pytest.approx(0.05 * 0.5 ** len(head.chosen.falls.split(",")))
    again = MLPHead(head.chosen)
    again.classes = labels.classes
    again._train(Bags.of(vectors), labels, None, 1, None)
    assert same_state(head, again)


def test_a_configuration_with_a_number_of_epochs_keeps_it() -> None:
    vectors, labels = overlapping()
    head = fit(vectors, labels, overlapping(60, seed=3), stop=2)
    assert head.chosen.stop == 2
    assert same_state(head, fit(vectors, labels, stop=2))


def test_another_pooling_is_taken_where_it_is_asked_for() -> None:
    vectors, labels = overlapping()
    x = Features.from_arrays({"mean": np.zeros_like(vectors), "max": vectors})
    head = MLPHead(MLPConfig(**(SMALL | {"epochs": 2, "pooling": "max"}))).fit(x, labels, seed=1)
    assert same_state(head, fit(vectors, labels, epochs=2))


# classes of very different size


@pytest.mark.parametrize(
    "knobs",
    [
        {"class_weights": "balanced"},
        {"class_weights": "effective-number"},
        {"sampling": "balanced"},
        {"loss": "logit-adjusted"},
    ],
    ids=lambda knobs: next(iter(knobs.values())),
)
def test_what_is_against_imbalance_turns_more_rows_to_the_rare_class(knobs: dict[str, Any]) -> None:
    vectors, labels = overlapping(300, spread=4)
    x = Features.from_arrays(vectors)
    plain, helped = (fit(vectors, labels, epochs=8, stop=8, **more).top_k(x, 1)[0] for more in ({}, knobs))
    assert (helped == 2).sum() > (plain == 2).sum() + 10


def test_the_cap_on_class_weights_says_how_many_classes_it_reached() -> None:
    labels = Labels(tuple("abcd"), np.repeat(np.arange(4), [60, 30, 20, 10]))  # 1 / n: median 1 / 24, limit 1 / 12
    x = Features.from_arrays(np.random.default_rng(0).normal(size=(120, 2)).astype(np.float32))
    entries: list[dict[str, float]] = []
    head = MLPHead(MLPConfig(**(SMALL | {"epochs": 1, "class_weights": "balanced", "weight_cap": 2.0})))
    head.fit(x, labels, (x, labels), 0, entries.append)
    assert entries[0] == {"classes": 4, "capped": 1}
    assert head.capped == 1


# memory and devices


def test_logits_are_never_held_for_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = overlapping()
    head = fit(vectors, labels, epochs=1)
    whole = head.predict_proba(Features.from_arrays(vectors))
    monkeypatch.setattr(mlp, "LOGITS", 30)
    blocks = [len(logits) for _, logits in head._logits(Bags.of(vectors))]
    assert blocks == [10] * 12
    np.testing.assert_allclose(head.predict_proba(Features.from_arrays(vectors)), whole, atol=1e-6)


@given(st.lists(st.integers(1, 5), max_size=12), st.integers(1, 7), st.randoms(use_true_random=False))
def test_packed_rows_are_those_asked_for_and_blocks_hold_each_once(counts: list[int], size: int, random: Any) -> None:
    bags = Bags.of(np.arange(sum(counts), dtype=np.float32)[:, None], np.array(counts, dtype=np.int64))
    parts = np.split(bags.vectors[:, 0], np.cumsum(counts)[:-1]) if counts else []
    rows = [random.randrange(len(counts)) for _ in range(6)] if counts else []
    vectors, taken = bags.take(np.array(rows, dtype=np.int64)).packed(np.arange(len(rows)))
    assert vectors[:, 0].tolist() == [value for row in rows for value in parts[row]]
    assert taken.tolist() == [counts[row] for row in rows]
    blocks = list(bags.blocks(size))
    assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(len(counts)))
    assert all(sum(counts[block]) <= size or block.stop - block.start == 1 for block in blocks)


@pytest.mark.gpu
def test_cuda_gives_what_the_cpu_gives_and_the_same_bits_twice() -> None:
    x, labels, _ = needles(300, seed=0)
    knobs = MLPConfig(**(SMALL | {"attention": True, "stop": 5}))
    cpu, *cuda = (MLPHead(knobs, device).fit(x, labels, seed=1) for device in ("cpu", "cuda", "cuda"))
    np.testing.assert_allclose(cuda[0].predict_proba(x), cpu.predict_proba(x), atol=1e-3)
    assert same_state(*cuda)
