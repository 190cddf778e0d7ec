from __future__ import annotations

import itertools

import pytest
import torch
from fair import ALL_TOKENS, CONFIG, canonical, random_fair_esm, random_tokens, reference
from torch import Tensor
from torch.nn import functional as F

from esmcls.encoders import devices, inference
from esmcls.encoders.alphabet import BOS, EOS, MASK
from esmcls.encoders.devices import Precision
from esmcls.encoders.inference import PackedESM2
from esmcls.encoders.model import ModelConfig
from esmcls.errors import UsageError

CPU = torch.device("cpu")
LAYERS = [0, 1, 2]
LENGTHS = [7, 1, 30, 30, 12, 200]


def build(precision: Precision = "fp32", config: ModelConfig = CONFIG) -> tuple[PackedESM2, object]:
    fair = random_fair_esm(config)
    return PackedESM2(config, canonical(fair), precision, CPU), fair


def packed(model: PackedESM2, tokens: list[list[int]], layers: list[int] = LAYERS) -> list[dict[int, Tensor]]:
    lengths = [len(one) for one in tokens]
    stream = torch.tensor(list(itertools.chain(*tokens)), dtype=torch.uint8)
    found: list[dict[int, Tensor]] = [{} for _ in tokens]
    for layer, state in model.states(stream, lengths, layers):
        for one, part in zip(found, state.split(lengths), strict=True):
            one[layer] = part.clone()
    return found


def worst(ours: list[dict[int, Tensor]], theirs: list[dict[int, Tensor]]) -> float:
    return max(float((a[layer] - b[layer]).abs().max()) for a, b in zip(ours, theirs, strict=True) for layer in b)


def cosine(ours: list[dict[int, Tensor]], theirs: list[dict[int, Tensor]]) -> float:
    return min(
        float(F.cosine_similarity(a[layer].mean(0), b[layer].mean(0), dim=0))
        for a, b in zip(ours, theirs, strict=True)
        for layer in b
    )


@pytest.mark.parametrize("token_dropout", [True, False])
@pytest.mark.parametrize("length", [1, 2, 50, 1022, 1100])
def test_every_layer_of_a_single_sequence_is_fair_esms(length: int, token_dropout: bool) -> None:
    model, fair = build(config=ModelConfig(2, 32, 4, token_dropout))
    tokens = [random_tokens(length)]
    assert worst(packed(model, tokens), reference(fair, tokens, LAYERS)) <= 1e-5


def test_every_token_is_fair_esms_with_masks_too() -> None:
    model, fair = build()
    tokens = [[BOS, *ALL_TOKENS, EOS], [BOS, MASK, 5, MASK, EOS], [BOS, 4, 5, EOS]]
    assert worst(packed(model, tokens), reference(fair, tokens, LAYERS)) <= 1e-5


def test_a_packed_stream_is_fair_esms_padded_batch() -> None:
    model, fair = build()
    tokens = [random_tokens(length, seed) for seed, length in enumerate(LENGTHS)]
    assert worst(packed(model, tokens), reference(fair, tokens, LAYERS)) <= 1e-5


def test_the_shape_of_a_real_model_is_fair_esms_too() -> None:
    """Head width 16 and wider layers, as in the 8M model; the toy's head width is 8."""
    model, fair = build(config=ModelConfig(2, 320, 20))
    tokens = [random_tokens(length, seed) for seed, length in enumerate([40, 150])]
    assert worst(packed(model, tokens), reference(fair, tokens, LAYERS)) <= 2e-5  # states are 10 times larger here


def test_without_onednn_the_states_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [random_tokens(length, seed) for seed, length in enumerate(LENGTHS)]
    with_onednn = packed(build()[0], tokens)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert worst(packed(build()[0], tokens), with_onednn) <= 1e-5


def on(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    """Let the processor be of another generation, as torch names it."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)


def test_the_states_of_a_processor_with_avx2_alone_are_those_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [random_tokens(length, seed) for seed, length in enumerate(LENGTHS)]
    states = {}
    for capability in ("AVX512", "AVX2", "DEFAULT"):
        on(monkeypatch, capability)
        states[capability] = packed(build()[0], tokens)
    assert worst(states["AVX2"], states["AVX512"]) <= 1e-5
    assert worst(states["DEFAULT"], states["AVX512"]) <= 1e-5


@pytest.mark.parametrize(
    ("capability", "precision", "onednn"),
    [("AVX512", "fp32", True), ("AVX2", "fp32", False), ("AVX2", "bf16", True), ("DEFAULT", "fp32", True)],
)
def test_the_processors_capability_decides_who_multiplies(
    monkeypatch: pytest.MonkeyPatch, capability: str, precision: Precision, onednn: bool
) -> None:
    asked: list[bool] = []

    def recorder(*_: object) -> inference.Product:
        asked.append(True)
        return lambda x: x

    on(monkeypatch, capability)
    monkeypatch.setattr(devices, "hardware_precisions", lambda device: {"fp32", "bf16"})
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(inference, "_onednn_product", recorder)
    inference.prepare(torch.zeros(3, 3), torch.zeros(3), precision, CPU, gelu=True)
    assert bool(asked) is onednn


@pytest.mark.parametrize(
    ("capability", "length", "way"),
    [
        ("AVX512", 127, inference.attend_in_cache),
        ("AVX512", 128, inference.attend_exactly),
        ("AVX2", 20, inference.attend_side_by_side),
        ("AVX2", 1000, inference.attend_side_by_side),
        ("DEFAULT", 20, inference.attend_exactly),
    ],
)
def test_capability_and_length_decide_how_a_sequence_attends(
    monkeypatch: pytest.MonkeyPatch, capability: str, length: int, way: inference.Attention
) -> None:
    on(monkeypatch, capability)
    assert inference.way_to_attend(length, CPU) is way
    assert inference.way_to_attend(length, torch.device("cuda")) is inference.attend_exactly


@pytest.mark.parametrize("way", [inference.attend_exactly, inference.attend_in_cache, inference.attend_side_by_side])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_way_to_attend_gives_softmax_of_scores_times_values(way: inference.Attention, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    query, key, value = (torch.randn(37, 3, 8).transpose(0, 1) for _ in range(3))
    value = value.to(dtype)
    out = torch.empty(37, 3, 8).transpose(0, 1)
    way(query, key, value, out)
    exact = torch.softmax(query @ key.transpose(1, 2), -1) @ value.float()
    torch.testing.assert_close(out, exact, rtol=0, atol=1e-5)


def test_layers_come_in_ascending_order_and_nothing_runs_beyond_the_last() -> None:
    model, _ = build()

    def refuse(*_: object) -> Tensor:
        raise AssertionError("a layer that nobody asked for has run")

    model.layers[1] = refuse  # type: ignore[call-overload]
    tokens = torch.tensor(random_tokens(5), dtype=torch.uint8)
    assert [layer for layer, _ in model.states(tokens, [7], [1, 0])] == [0, 1]


def test_the_final_norm_is_applied_to_the_last_layer_alone() -> None:
    model, _ = build()
    tokens = [random_tokens(20)]
    plain = packed(model, tokens)[0]
    model.norm_after = lambda x: x * 0  # type: ignore[assignment]
    changed = packed(model, tokens)[0]
    assert torch.equal(plain[1], changed[1])
    assert not changed[2].any()


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.999), ("int8", 0.99), ("fp8", 0.99)])
def test_lower_precisions_point_the_same_way_on_random_weights(precision: Precision, least: float) -> None:
    """Loose: random weights are no measure of precision; `test_esm2` judges it on trained ones."""
    tokens = [random_tokens(length, seed) for seed, length in enumerate(LENGTHS)]
    model, fair = build(precision)
    states = packed(model, tokens)
    assert all(state.dtype == torch.float32 for one in states for state in one.values())
    assert cosine(states, reference(fair, tokens, LAYERS)) >= least
    assert worst(states, reference(fair, tokens, LAYERS)) > 1e-5, "it ran in fp32"


@pytest.mark.parametrize("scores", [1, 300, 9_000, 1 << 18])
def test_attention_in_blocks_is_attention(monkeypatch: pytest.MonkeyPatch, scores: int) -> None:
    monkeypatch.setattr(inference, "SCORES_IN_CACHE", scores)
    torch.manual_seed(1)
    query, key, value = (torch.randn(3, 37, 8) for _ in range(3))
    out = torch.empty(3, 37, 8)
    inference.attend_in_cache(query, key, value, out)
    exact = torch.softmax(query @ key.transpose(1, 2), -1) @ value
    torch.testing.assert_close(out, exact, rtol=0, atol=1e-5)


def test_products_are_given_few_numbers_of_rows_and_give_back_those_asked_for() -> None:
    given: list[int] = []

    def doubled(x: torch.Tensor) -> torch.Tensor:
        given.append(len(x))
        return 2 * x

    product, rows = inference.in_few_shapes(doubled), torch.randn(200, 3)
    assert all(torch.equal(product(rows[:n]), 2 * rows[:n]) for n in range(1, 201))
    assert sorted(set(given)) == [64, 128, 192, 256]


@pytest.mark.parametrize(("precision", "rows"), [("fp32", 70), ("bf16", 128)])
def test_rows_are_padded_below_fp32_alone(monkeypatch: pytest.MonkeyPatch, precision: Precision, rows: int) -> None:
    given: list[int] = []

    def recorder(*_: object) -> inference.Product:
        return lambda x: (given.append(len(x)), x)[1]

    on(monkeypatch, "AVX512")
    monkeypatch.setattr(devices, "hardware_precisions", lambda device: {"fp32", "bf16"})
    monkeypatch.setattr(inference, "_onednn_product", recorder)
    inference.prepare(torch.zeros(3, 3), torch.zeros(3), precision, CPU)(torch.zeros(70, 3))
    assert given == [rows]


def test_int8_products_are_within_a_hundredth_of_the_exact_ones() -> None:
    torch.manual_seed(2)
    weight, bias, x = torch.randn(64, 48), torch.randn(64), torch.randn(20, 48)
    x[3] *= 1000  # one outlying token must not cost the others their precision
    x[4] = 0
    product = inference.prepare(weight, bias, "int8", CPU)(x)
    exact = F.linear(x, weight, bias)
    error = (product - exact).norm(dim=1) / exact.norm(dim=1)
    assert float(error.max()) < 0.012
    torch.testing.assert_close(product[4], bias)


def test_an_empty_stream_yields_nothing_but_empty_states() -> None:
    model, _ = build()
    states = list(model.states(torch.empty(0, dtype=torch.uint8), [], [1]))
    assert [(layer, tuple(state.shape)) for layer, state in states] == [(1, (0, 32))]


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown precision 'fp4'; choose from auto, fp32, bf16, fp16, int8, fp8"):
        PackedESM2(CONFIG, {}, "fp4", CPU)  # type: ignore[arg-type]
