"""What only a CUDA device can show of the encoder: its kernels' numbers, its compiler, its queue."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from fair import canonical, random_fair_esm, random_tokens, reference
from torch import Tensor
from torch.nn import functional as F

from esmcls.encoders import devices
from esmcls.encoders.devices import Precision
from esmcls.encoders.esm2 import ESM2Encoder
from esmcls.encoders.gpu import fp8, fused, graphs
from esmcls.encoders.gpu.attention import attend_efficiently, attend_flash
from esmcls.encoders.gpu.packed import ESM2OnGPU
from esmcls.encoders.model import ModelConfig

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")
CONFIG = ModelConfig(2, 64, 4)
LAYERS = [0, 1, 2]
LENGTHS = [7, 1, 30, 30, 12, 200]


@pytest.mark.parametrize("emulated", [False, True])
@pytest.mark.parametrize("compiles", ["0", "1"])
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.2), ("fp16", 0.05), ("int8", 0.4), ("fp8", 0.4)]
)
def test_a_gpu_gives_the_states_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch, precision: Precision, tolerance: float, emulated: bool, compiles: str
) -> None:
    monkeypatch.setenv(fused.SWITCH, compiles)
    if emulated:
        monkeypatch.setattr(devices, "hardware_precisions", lambda device: {"fp32"})
    fair = random_fair_esm(CONFIG)
    tokens = [random_tokens(length, seed) for seed, length in enumerate(LENGTHS)]
    model = ESM2OnGPU(CONFIG, canonical(fair), precision, CUDA)
    lengths = [len(one) for one in tokens]
    stream = torch.tensor(list(itertools.chain(*tokens)), dtype=torch.uint8)
    states = {layer: state.cpu().split(lengths) for layer, state in model.states(stream, lengths, LAYERS)}
    for row, theirs in enumerate(reference(fair, tokens, LAYERS)):
        for layer in LAYERS:
            assert float((states[layer][row] - theirs[layer]).abs().max()) <= tolerance


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_vectors_are_pooled_on_the_gpu_as_on_the_cpu(precision: str) -> None:
    draw = np.random.default_rng(0)
    sequences = ["".join(draw.choice(list("LAGVSERTIDPKQN"), length)) for length in (3, 40, 1, 300, 1500)]
    state = canonical(random_fair_esm(CONFIG))

    def encode(device: str, asked: str) -> Any:
        return ESM2Encoder("random", CONFIG, state, precision=asked, device=device, digest="0").encode(
            sequences, ("mean", "cls", "max"), "residue"
        )

    ours, theirs = encode("cuda", precision), encode("cpu", "fp32")
    tolerance = 1e-4 if precision == "fp32" else 0.2
    for pooling, vectors in theirs.pooled.items():
        np.testing.assert_allclose(ours.pooled[pooling], vectors, atol=tolerance, rtol=tolerance)
    for residues, others in zip(ours.residues, theirs.residues, strict=True):
        np.testing.assert_allclose(residues, others, atol=tolerance, rtol=tolerance)


def each(query: Tensor, key: Tensor, value: Tensor, lengths: list[int]) -> Tensor:
    """Attend in double precision, one sequence at a time; (total, heads, head width) in and out."""
    parts = zip(*(tensor.double().split(lengths) for tensor in (query, key, value)), strict=True)
    attended = [F.scaled_dot_product_attention(*(part.transpose(0, 1)[None] for part in one))[0] for one in parts]
    return torch.cat([part.transpose(0, 1) for part in attended])


@pytest.mark.parametrize("head_width", [16, 24, 32, 64])
@pytest.mark.parametrize(
    ("attend", "dtype", "tolerance"),
    [
        (attend_efficiently, torch.float32, 1e-5),
        (attend_efficiently, torch.float16, 5e-3),
        (attend_flash, torch.float16, 5e-3),
        (attend_flash, torch.bfloat16, 3e-2),
    ],
)
def test_attention_in_one_call_is_that_of_each_sequence_with_its_gradients(
    attend: Any, dtype: torch.dtype, tolerance: float, head_width: int
) -> None:
    if attend is attend_flash and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("flash attention is for newer devices")
    torch.manual_seed(0)
    lengths = [5, 300, 1, 64, 17]
    offsets = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=CUDA)
    inputs = [torch.randn(sum(lengths), 4, head_width, device=CUDA, dtype=dtype).requires_grad_() for _ in range(3)]
    weights = torch.randn(sum(lengths), 4, head_width, device=CUDA)
    ours, theirs = attend(*inputs, offsets, max(lengths)), each(*inputs, lengths)
    torch.testing.assert_close(ours.double(), theirs, atol=tolerance, rtol=tolerance)
    gradients = [torch.autograd.grad((result * weights).sum(), inputs) for result in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=4 * tolerance, rtol=4 * tolerance)


def test_a_product_of_fp8_rows_is_the_emulated_one() -> None:
    if "fp8" not in devices.hardware_precisions(CUDA):
        pytest.skip("fp8 is for newer devices")
    torch.manual_seed(0)
    x, weight, bias = torch.randn(70, 320, device=CUDA), torch.randn(48, 320, device=CUDA), torch.randn(48, device=CUDA)
    values, scales = fp8.round_rows(weight)
    exact = fp8.emulated(lambda rows: rows @ values.float().t(), scales, bias)(*fp8.round_rows(x))
    ours = fp8.by_the_device(values, scales, bias)(*fp8.round_rows(x))
    torch.testing.assert_close(ours, exact, atol=0.1, rtol=0.01)


def test_each_of_the_two_pieces_is_compiled_to_one_kernel() -> None:
    from torch._inductor import metrics

    x, change = torch.randn(96, 320, device=CUDA), torch.randn(96, 320, device=CUDA).half()
    weight, bias = torch.randn(320, device=CUDA), torch.randn(320, device=CUDA)
    mixed = torch.randn(96, 3, 20, 8, 2, device=CUDA).half()
    cosines, sines = torch.randn(128, 8, 1, device=CUDA), torch.randn(128, 8, 2, device=CUDA)
    positions = torch.arange(96, dtype=torch.int32, device=CUDA)
    calls: list[tuple[Any, tuple[Any, ...]]] = [
        (fused.add_and_norm, (x, change, weight, bias, torch.float16)),
        (fused.turn_pairs, (mixed, cosines, sines, positions, torch.float16)),
    ]
    for function, given in calls:
        metrics.reset()
        with torch.inference_mode():
            torch.testing.assert_close(
                torch.compile(function, dynamic=True, fullgraph=True)(*given), function(*given), atol=2e-3, rtol=2e-3
            )
        assert metrics.generated_kernel_count == 1


@pytest.mark.parametrize("compiles", ["0", "1"])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("auto", 0.05)])
def test_a_graph_gives_the_vectors_of_the_plain_way_for_other_streams_of_its_key(
    monkeypatch: pytest.MonkeyPatch, precision: str, tolerance: float, compiles: str
) -> None:
    monkeypatch.setenv(fused.SWITCH, compiles)
    state = canonical(random_fair_esm(CONFIG))
    draw = np.random.default_rng(0)
    batches = [
        ["".join(draw.choice(list("LAGVSERTIDPKQN"), length)) for length in lengths]
        for lengths in ([100, 20, 50], [90, 33, 3, 1], [126, 126], [1000, 3], [1, 900], [900, 100], [100, 20, 51])
    ]
    monkeypatch.setenv(graphs.SWITCH, "0")
    plain = ESM2Encoder("random", CONFIG, state, precision=precision, device="cuda", digest="0")
    monkeypatch.setenv(graphs.SWITCH, "1")
    captured = ESM2Encoder("random", CONFIG, state, precision=precision, device="cuda", digest="0")
    for batch in batches:
        expected = plain.encode(batch).pooled["mean"]
        np.testing.assert_allclose(captured.encode(batch).pooled["mean"], expected, atol=tolerance, rtol=tolerance)
    assert isinstance(captured.model, ESM2OnGPU)
    assert captured.model.graphs is not None
    assert (len(captured.model.graphs.graphs), captured.model.graphs.fails) == (2, False)


def test_nothing_waits_for_the_gpu_while_a_batch_is_launched() -> None:
    encoder = ESM2Encoder("random", CONFIG, canonical(random_fair_esm(CONFIG)), device="cuda", digest="0")
    encoder.encode(["MKTAYIAKQR"] * 50)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        finish = encoder.launch(["MKTAYIAKQR"] * 50)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.isfinite(finish().pooled["mean"]).all()
