"""The encoder on a pretended CUDA device: the CPU's values, by few kernels, and the host waits once a batch."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fused_kernels import fuse
from pretended_device import pretended, without_kernel
from torch import Tensor

from esmcls.cache.embed import embed_into
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.encoders.encoder import resolve_device
from esmcls.encoders.esm2 import ESM2Encoder
from esmcls.encoders.gpu import fused
from esmcls.encoders.gpu.packed import ESM2OnGPU
from esmcls.encoders.inference import PackedESM2
from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.errors import UsageError

CONFIG = ModelConfig(layers=2, width=32, heads=4)
POOLINGS = ("mean", "cls", "max", "attention")
LENGTHS = [12, 3, 1, 40, 700, 12]


@pytest.fixture(autouse=True)
def _same_weights() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def proteins(lengths: list[int], seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return ["".join(draw.choice(list("LAGVSERTIDPKQNFYMHWC"), length)) for length in lengths]


def encoder(device: str, state: dict[str, Tensor], config: ModelConfig = CONFIG, **options: Any) -> ESM2Encoder:
    weights = {**state, "attention.weight": torch.linspace(-1, 1, config.width)[None]}
    return ESM2Encoder("random", config, weights, device=device, digest="0", **options)


def random_state(config: ModelConfig = CONFIG) -> dict[str, Tensor]:
    """Return weights; those of LayerNorm too are random, and scores far from equal."""
    return {name: value + 0.3 * torch.randn_like(value) for name, value in ESM2(config).state_dict().items()}


@pytest.mark.parametrize(
    ("capability", "kernels", "precision", "kernel", "tolerance"),
    [
        ((9, 0), ("flash", "efficient"), "bf16", "flash", 0.3),
        ((8, 0), ("flash", "efficient"), "fp16", "flash", 0.03),
        ((8, 0), ("efficient",), "fp16", "efficient", 0.03),
        ((9, 0), ("flash", "efficient"), "fp32", "efficient", 5e-5),
        ((7, 5), ("flash", "efficient"), "fp16", "efficient", 0.03),
        ((7, 5), ("flash", "efficient"), "bf16", "efficient", 0.3),
        ((7, 5), (), "fp32", "each", 5e-5),
        ((9, 0), ("flash", "efficient"), "int8", "efficient", 0.6),
        ((9, 0), ("flash", "efficient"), "fp8", "flash", 0.9),
        ((8, 0), ("flash", "efficient"), "fp8", "efficient", 0.9),
    ],
)
@pytest.mark.parametrize("fuses", [False, True])
def test_vectors_are_those_of_the_cpu_by_the_kernel_that_the_device_has(
    capability: tuple[int, int],
    kernels: tuple[str, ...],
    precision: str,
    kernel: str,
    tolerance: float,
    fuses: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = random_state()
    sequences = [*proteins(LENGTHS), *proteins([1500])]  # the last is cut into two inputs
    expected = encoder("cpu", state, layers=(0, 1, 2), precision="fp32")
    expected.attention = torch.linspace(-1, 1, expected.width)
    theirs = expected.encode(sequences, POOLINGS, "residue")
    with pretended(capability, kernels=kernels) as device:
        if fuses:
            fuse(device, monkeypatch)
        ours = encoder("cuda", state, layers=(0, 1, 2), precision=precision)
        ours.attention = expected.attention.to("cuda")
        assert isinstance(ours.model, ESM2OnGPU)
        assert ours.model.kernel == kernel
        embedded = ours.encode(sequences, POOLINGS, "residue")
        assert without_kernel(device.overloads) == set()
    for pooling in POOLINGS:
        np.testing.assert_allclose(embedded.pooled[pooling], theirs.pooled[pooling], atol=tolerance, rtol=tolerance)
    assert embedded.residues is not None
    assert theirs.residues is not None
    for residues, others in zip(embedded.residues, theirs.residues, strict=True):
        np.testing.assert_allclose(residues, others, atol=tolerance, rtol=tolerance)


def test_masked_tokens_are_those_of_the_cpu() -> None:
    state = random_state()
    tokens = torch.tensor([0, 5, 32, 6, 2, 0, 7, 2], dtype=torch.uint8)
    theirs = [part for _, part in PackedESM2(CONFIG, state, "fp32", torch.device("cpu")).states(tokens, [5, 3], [0, 2])]
    with pretended():
        model = ESM2OnGPU(CONFIG, state, "fp32", torch.device("cuda"))
        ours = [part.cpu() for _, part in model.states(tokens, [5, 3], [0, 2])]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_heads_that_flash_attention_does_not_take_are_attended_one_sequence_at_a_time() -> None:
    config = ModelConfig(layers=1, width=24, heads=2)  # head width 12
    state = random_state(config)
    theirs = encoder("cpu", state, config, precision="fp32").encode(proteins(LENGTHS)).pooled["mean"]
    with pretended((9, 0)) as device:
        ours = encoder("cuda", state, config, precision="bf16")
        assert isinstance(ours.model, ESM2OnGPU)
        assert ours.model.kernel == "each"
        np.testing.assert_allclose(ours.encode(proteins(LENGTHS)).pooled["mean"], theirs, atol=0.3, rtol=0.3)
        assert device.kernels["varlen_attn"] == 0


@pytest.mark.parametrize(
    ("capability", "precision", "kernels"),
    [
        ((9, 0), "bf16", 9),
        ((9, 0), "fp32", 9),
        ((9, 0), "fp8", 9),
        ((8, 9), "fp8", 9),
        ((8, 0), "bf16", 9),
        ((8, 0), "fp32", 9),
        ((7, 5), "fp16", 9),
        ((7, 5), "fp32", 9),
        ((6, 0), "fp32", 11),  # Triton compiles nothing for it: two sums and two norms
    ],
)
def test_a_layer_is_nine_kernels_where_it_is_compiled_and_the_host_waits_once_a_batch(
    capability: tuple[int, int], precision: str, kernels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches = []
    for layers in (1, 3):
        config = ModelConfig(layers, 32, 4)
        with pretended(capability) as device:
            fuse(device, monkeypatch)
            open_encoder = encoder("cuda", random_state(config), config, precision=precision)
            device.kernels.clear()
            device.waits.clear()
            open_encoder.encode(proteins([20] * 30), ("mean", "max", "cls"))
            assert Counter(place.partition(" ")[0] for place in device.waits.elements()) == {"event": 1}
            launches.append(sum(device.kernels.values()))
    assert launches[1] - launches[0] == 2 * kernels


@pytest.mark.parametrize("fuses", [False, True])
@pytest.mark.parametrize(
    ("capability", "precision"), [((9, 0), "bf16"), ((8, 0), "fp32"), ((7, 5), "fp16"), ((6, 0), "fp32")]
)
def test_turns_are_gathered_and_states_pooled_on_the_device(
    capability: tuple[int, int], precision: str, fuses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens, positions and offsets are all that goes there with a batch, and pooled vectors all that comes back."""
    with pretended(capability) as device:
        if fuses:
            fuse(device, monkeypatch)
        ours = encoder("cuda", random_state(), precision=precision)
        ours.encode(proteins([20] * 30))  # the table of turns is there now
        device.to_device.clear()
        device.to_host.clear()
        ours.encode(proteins([20] * 30), ("mean", "max"))
        filling = -(-(1024 - 30 * 22) // 22)  # sequences of padding
        numbers = 2 * 1024 + 30 + filling + 1
        assert sum(device.to_device.values()) == 4 * (numbers + 3 * 30 + 1)
        assert sum(device.to_host.values()) == 4 * 2 * 30 * CONFIG.width


def test_products_in_fp8_are_the_devices_own_and_give_what_is_emulated_elsewhere() -> None:
    state = random_state()
    vectors = {"cpu": encoder("cpu", state, precision="fp8").encode(proteins(LENGTHS)).pooled["mean"]}
    for capability, products in (((9, 0), 4), ((8, 9), 4), ((8, 0), 0), ((7, 5), 0)):
        with pretended(capability) as device:
            ours = encoder("cuda", state, precision="fp8")
            vectors[str(capability)] = ours.encode(proteins(LENGTHS)).pooled["mean"]
            assert device.kernels["_scaled_mm"] == products  # two of each layer
    exact = encoder("cpu", state, precision="fp32").encode(proteins(LENGTHS)).pooled["mean"]
    rounding = np.abs(vectors.pop("cpu") - exact).max()
    for found in vectors.values():
        assert np.abs(found - vectors["(9, 0)"]).max() < rounding


def test_the_next_batch_is_begun_before_the_host_waits_for_the_one_before(tmp_path: Path) -> None:
    events: list[str] = []

    def noting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            events.append(name)
            return call(*args)

        return noted

    with pretended():
        ahead = encoder("cuda", random_state(), precision="fp32")
        ahead.batches = lambda lengths: (1 for _ in lengths)  # type: ignore[method-assign]
        begin = ahead.launch
        ahead.launch = lambda *asked: noting("fetch", noting("begin", begin)(*asked))  # type: ignore[method-assign]
        spec = EmbeddingSpec.of(ahead)
        with EmbeddingCache.open(tmp_path / "cache", spec) as cache:
            sequences = proteins([5, 6, 7])
            assert embed_into(cache, ahead, sequences).embedded == 3
            vectors = cache.read(sequences, "mean")
        together = ahead.encode(sequences).pooled["mean"]
    assert events[:6] == ["begin", "begin", "fetch", "begin", "fetch", "fetch"]
    np.testing.assert_allclose(vectors, together, atol=2e-3, rtol=2e-3)  # the cache is in fp16


def test_out_of_memory_halves_the_streams_and_changes_no_vector() -> None:
    state = random_state()
    sequences = proteins([100] * 40)
    with pretended() as device:
        whole = encoder("cuda", state, precision="fp32").encode(sequences).pooled["mean"]
        peak = device.peak
    with pretended(limit=peak // 2) as device:
        halving = encoder("cuda", state, precision="fp32")
        np.testing.assert_allclose(halving.encode(sequences).pooled["mean"], whole, atol=1e-6)
        assert halving.stream_tokens < 40 * 102


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((7, 0), "fp16"), ((6, 0), "fp32")],
)
def test_auto_is_the_fastest_precision_of_the_device(
    capability: tuple[int, int], precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pretended(capability, built=[f"sm_{capability[0]}{capability[1]}"]):
        assert encoder("cuda", random_state()).precision == precision
    assert "lacks" not in caplog.text


def test_bf16_on_a_device_that_lacks_it_is_emulated_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with pretended((7, 5)), caplog.at_level(logging.WARNING, "esmcls"):
        assert encoder("cuda", random_state(), precision="bf16").precision == "bf16"
    assert "this GPU lacks bf16: emulated in fp32" in caplog.text


@pytest.mark.parametrize(
    ("capability", "built", "fits"),
    [
        ((7, 5), ["sm_75", "sm_80", "sm_90"], True),
        ((8, 9), ["sm_75", "sm_80", "sm_90"], True),  # instructions of its generation
        ((9, 0), ["sm_75", "sm_80"], False),
        ((9, 0), ["sm_75", "compute_80"], True),  # code that the driver compiles
        ((10, 3), ["sm_90a", "sm_100f"], True),
        ((9, 0), ["sm_80", "sm_90a"], True),
        ((12, 0), ["sm_90a", "sm_100"], False),
        ((6, 0), ["sm_75", "sm_80", "compute_80"], False),
        ((7, 0), ["sm_75", "sm_80"], False),
        ((9, 4), ["gfx942"], True),  # ROCm says other names
    ],
)
def test_a_gpu_that_torch_was_not_built_for_is_passed_over_or_refused(
    capability: tuple[int, int], built: list[str], fits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with pretended(capability, built=built), caplog.at_level(logging.WARNING, "esmcls"):
        assert resolve_device("auto") == ("cuda" if fits else "cpu")
        if fits:
            assert resolve_device("cuda:0") == "cuda:0"
            assert not caplog.records
            return
        number = f"sm_{capability[0]}{capability[1]}"
        assert f"cuda:0 is passed over: the torch that is installed has no instructions for Pretended ({number})" in (
            caplog.text
        )
        install = "whl/cu126" if capability < (7, 5) else "install a newer torch"
        with pytest.raises(UsageError, match=rf"device 'cuda': .*{number}.*{install}"):
            resolve_device("cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("capability", [(7, 5), (9, 0)])
def test_training_attends_in_one_call_with_the_gradients_of_the_cpu(
    capability: tuple[int, int], dtype: torch.dtype
) -> None:
    model = ESM2(CONFIG)
    tokens = torch.randint(4, 24, (60,))
    offsets = torch.tensor([0, 20, 23, 60])

    def step(trained: ESM2, device: str) -> dict[str, Tensor]:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            states = trained(tokens.to(device), offsets.to(device), [2])[2]
        states.float().square().mean().backward()
        return {name: value.grad.cpu() for name, value in trained.named_parameters() if value.grad is not None}

    expected = step(model, "cpu") if dtype == torch.float32 else None
    model.zero_grad(set_to_none=True)
    if expected is None:
        states = model(tokens, offsets, [2])[2]
        states.square().mean().backward()
        expected = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    with pretended(capability) as device:
        gradients = step(ESM2.of(CONFIG, model.state_dict()).to("cuda"), "cuda")
        flash = capability >= (8, 0) and dtype == torch.float16
        assert device.kernels["varlen_attn" if flash else "efficient_attention"] == 2
        assert device.kernels["varlen_attn_backward" if flash else "efficient_attention_backward"] == 2
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name].float(), gradient, atol=tolerance, rtol=tolerance, msg=name)


def test_a_compiler_that_fails_is_a_line_and_the_layer_runs_without_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(fused, "find_spec", lambda name: name)
    state = random_state()
    theirs = encoder("cpu", state, precision="fp32").encode(proteins(LENGTHS)).pooled["mean"]
    with pretended(), caplog.at_level(logging.WARNING, "esmcls"):
        ours = encoder("cuda", state, precision="fp32").encode(proteins(LENGTHS)).pooled["mean"]
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)
    [first, second] = [record.getMessage() for record in caplog.records]
    assert (
        first
        == second
        == ("torch.compile fails here (RuntimeError: Failed to find C compiler.): layers run in more kernels")
    )


@pytest.mark.parametrize(
    ("switch", "triton", "capability", "compiles", "line"),
    [
        ("1", True, (9, 0), True, ""),
        ("0", True, (9, 0), False, ""),
        ("1", True, (6, 0), False, ""),
        ("1", False, (9, 0), False, "torch.compile needs triton, which is not installed"),
    ],
)
def test_layers_are_compiled_where_they_can_be_and_are_not_to_be_left(
    switch: str,
    triton: bool,
    capability: tuple[int, int],
    compiles: bool,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(fused.SWITCH, switch)
    monkeypatch.setattr(fused, "find_spec", lambda name: triton or None)
    with pretended(capability), caplog.at_level(logging.WARNING, "esmcls"):
        assert fused.may_compile(torch.device("cuda")) == compiles
    assert line in caplog.text
    assert bool(caplog.records) == bool(line)
