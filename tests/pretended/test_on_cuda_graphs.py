"""Short streams by CUDA graphs, on a pretended device: the plain way's values, one launch, and few graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from captured_graphs import Captured, give_graphs
from fused_kernels import fuse
from pretended_device import Pretended, pretended
from test_on_cuda_encoder import CONFIG, encoder, proteins, random_state
from torch import Tensor

from esmcls.encoders.esm2 import ESM2Encoder
from esmcls.encoders.gpu import fused, graphs
from esmcls.encoders.gpu.graphs import few_shapes
from esmcls.encoders.gpu.packed import ESM2OnGPU
from esmcls.encoders.model import ModelConfig

STATE = random_state()
BATCHES = [[100, 20, 50], [90, 33, 3, 1], [126, 126], [7] * 30]
"""Residues of sequences; all but the last are of one key."""


@contextmanager
def with_graphs(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] = (9, 0), fuses: bool = False
) -> Iterator[tuple[Pretended, list[Captured]]]:
    with pretended(capability) as device, monkeypatch.context() as patch:
        patch.setenv(graphs.SWITCH, "1")
        patch.setenv(fused.SWITCH, str(int(fuses)))
        if fuses:
            fuse(device, patch)
        yield device, give_graphs(device, patch)


def model_of(encoder: ESM2Encoder) -> ESM2OnGPU:
    assert isinstance(encoder.model, ESM2OnGPU)
    return encoder.model


@pytest.mark.parametrize(
    ("capability", "precision", "tolerance"),
    [
        ((9, 0), "bf16", 0.05),
        ((9, 0), "fp8", 0.3),
        ((8, 0), "fp32", 1e-5),
        ((7, 5), "fp16", 0.01),
        ((7, 5), "bf16", 0.05),  # emulated
        ((6, 0), "fp32", 1e-5),
    ],
)
@pytest.mark.parametrize("fuses", [False, True])
def test_streams_of_one_key_have_the_vectors_of_the_plain_way_by_one_graph(
    capability: tuple[int, int], precision: str, tolerance: float, fuses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"precision": precision, "layers": (0, 1, 2)}
    batches = [proteins(lengths, seed) for seed, lengths in enumerate([*BATCHES, BATCHES[0]])]
    with pretended(capability):
        plain = encoder("cuda", STATE, **options)
        expected = [plain.encode(batch, ("mean", "max", "cls"), "residue") for batch in batches]
    with with_graphs(monkeypatch, capability, fuses) as (_, captured):
        ours = encoder("cuda", STATE, **options)
        found = [ours.encode(batch, ("mean", "max", "cls"), "residue") for batch in batches]
    assert len(captured) == 1
    for one, other in zip(found, expected, strict=True):
        for pooling in ("mean", "max", "cls"):
            np.testing.assert_allclose(one.pooled[pooling], other.pooled[pooling], atol=tolerance, rtol=tolerance)
        np.testing.assert_allclose(
            np.concatenate(one.residues or []), np.concatenate(other.residues or []), atol=tolerance, rtol=tolerance
        )


def test_a_replayed_batch_is_one_launch_beside_copies_and_pooling_and_the_host_waits_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with with_graphs(monkeypatch, fuses=True) as (device, _):
        config = ModelConfig(3, 32, 4)
        ours = encoder("cuda", random_state(config), config, precision="bf16")
        for lengths in BATCHES[:2]:
            ours.encode(proteins(lengths))
        device.kernels.clear()
        device.waits.clear()
        ours.encode(proteins(BATCHES[2]))
        assert device.kernels["graph"] == 1
        others = {name: count for name, count in device.kernels.items() if name != "graph"}
        assert set(others) == {"_to_copy", "copy_", "clone", "segment_reduce", "cat"}
        assert sum(others.values()) == 6  # offsets there, numbers there, the state out, pooled, joined, vectors back
        assert sum(device.waits.values()) == 1


def test_two_streams_of_one_key_in_a_batch_do_not_overwrite_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = proteins([100] * 8)
    with pretended():
        plain = encoder("cuda", STATE, precision="fp32").encode(sequences, keep="residue")
    with with_graphs(monkeypatch) as (_, captured):
        ours = encoder("cuda", STATE, precision="fp32")
        ours.stream_tokens = 204
        found = ours.encode(sequences, keep="residue")
        assert len(captured) == 1
    np.testing.assert_allclose(found.pooled["mean"], plain.pooled["mean"], atol=1e-5)
    np.testing.assert_allclose(np.array(found.residues), np.array(plain.residues), atol=1e-5)


def test_a_graph_reads_its_turns_after_a_longer_sequence_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = proteins([100, 20])
    for fuses in (False, True):
        with with_graphs(monkeypatch, fuses=fuses) as (_, captured):
            ours = encoder("cuda", STATE, precision="fp32", long="full")
            before = [ours.encode(sequences).pooled["mean"] for _ in range(3)]
            ours.encode(proteins([1500]))
            np.testing.assert_array_equal(ours.encode(sequences).pooled["mean"], before[-1])
            assert len(captured) == 1


def test_graphs_are_bounded_in_number_and_share_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST", 2)
    with with_graphs(monkeypatch) as (_, captured):
        ours = encoder("cuda", STATE, precision="fp32")
        for lengths in ([5], [5], [300], [300], [600], [600], [600]):
            ours.encode(proteins(lengths))
        assert len(captured) == len(model_of(ours).graphs.graphs) == 2  # type: ignore[union-attr]
        assert captured[0].pool() is captured[1].pool()
        assert captured[0].stream is captured[1].stream is not None  # of the device that the model is on


@pytest.mark.parametrize("lengths", [[1100], [400, 300, 400]])
def test_long_sequences_and_large_streams_run_kernel_by_kernel(
    lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "LARGEST", 1024 * CONFIG.width)
    with pretended():
        plain = encoder("cuda", STATE, precision="fp32", long="full").encode(proteins(lengths)).pooled["mean"]
    with with_graphs(monkeypatch) as (_, captured):
        ours = encoder("cuda", STATE, precision="fp32", long="full")
        for _ in range(2):
            np.testing.assert_array_equal(ours.encode(proteins(lengths)).pooled["mean"], plain)
        assert captured == []


def test_masked_tokens_run_kernel_by_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = torch.tensor([0, 5, 32, 6, 2, 0, 7, 2], dtype=torch.uint8)

    def states(model: ESM2OnGPU) -> list[Tensor]:
        return [part.cpu() for _, part in model.states(tokens, [5, 3], [0, 2])]

    with pretended():
        plain = states(ESM2OnGPU(CONFIG, STATE, "fp32", torch.device("cuda")))
    with with_graphs(monkeypatch) as (_, captured):
        model = ESM2OnGPU(CONFIG, STATE, "fp32", torch.device("cuda"))
        for _ in range(2):
            torch.testing.assert_close(states(model), plain)
        assert captured == []


def test_nothing_is_captured_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(graphs.SWITCH, raising=False)
    with pretended() as device:
        captured = give_graphs(device, monkeypatch)
        ours = encoder("cuda", STATE, precision="fp32")
        for _ in range(3):
            ours.encode(proteins([20]))
    assert captured == []


def test_where_capturing_fails_a_line_says_so_and_streams_run_kernel_by_kernel(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What fails is a copy from the host within the region, as it would be on a device."""
    sequences = proteins([20, 30])
    monkeypatch.setenv(fused.SWITCH, "0")
    with pretended():
        plain = encoder("cuda", STATE, precision="fp32").encode(sequences).pooled["mean"]
    with with_graphs(monkeypatch) as (_, captured), caplog.at_level(logging.WARNING, "esmcls"):
        ours = encoder("cuda", STATE, precision="fp32")
        model = model_of(ours)
        begin = model.embed
        host = torch.zeros(1, CONFIG.width)
        model.embed = lambda tokens, stream: begin(tokens, stream) + host.to("cuda")  # type: ignore[method-assign]
        for _ in range(4):
            np.testing.assert_allclose(ours.encode(sequences).pooled["mean"], plain, atol=1e-6)
        assert captured == []
    [line] = caplog.messages
    assert line.startswith("CUDA graphs fail here (RuntimeError: operation not permitted when stream is capturing")
    assert line.endswith("): streams run kernel by kernel")


def test_a_device_that_attends_one_sequence_at_a_time_has_no_graphs_and_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = ModelConfig(layers=1, width=24, heads=2)  # head width 12
    with with_graphs(monkeypatch) as (_, captured), caplog.at_level(logging.WARNING, "esmcls"):
        ours = encoder("cuda", random_state(config), config, precision="bf16")
        for _ in range(3):
            ours.encode(proteins([20]))
        assert captured == []
    assert caplog.messages == [
        "ESMCLS_GRAPHS=1 needs attention of a stream in one call, which there is none of here: no CUDA graphs"
    ]


def test_streams_are_padded_to_few_shapes_that_hold_them() -> None:
    draw = np.random.default_rng(0)
    shapes = set()
    for _ in range(3000):
        lengths = draw.integers(3, draw.integers(4, 1025), draw.integers(1, draw.integers(2, 40))).tolist()
        shape = few_shapes(lengths, 320)
        if shape is None:
            assert sum(lengths) > 1536
            continue
        shapes.add(shape)
        missing = shape.tokens - sum(lengths)
        assert 0 <= missing < max(128, shape.tokens / 3 + 1)
        assert max(lengths) <= shape.longest <= 1024
        assert len(lengths) + -(-missing // shape.longest) <= shape.sequences
    assert len(shapes) <= 40


@pytest.mark.parametrize(
    "refused",
    [
        lambda x: x.sum().item(),
        lambda x: x.nonzero(),
        lambda x: x.cpu(),
        lambda x: x + torch.ones(3).to("cuda"),
        lambda x: x[x > 0],
    ],
)
def test_the_stand_in_refuses_what_a_device_would_while_it_captures(
    refused: Callable[[Tensor], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pretended() as device:
        give_graphs(device, monkeypatch)
        x = torch.ones(3, device="cuda")
        with (
            pytest.raises(RuntimeError, match="not permitted when stream is capturing"),
            torch.cuda.graph(torch.cuda.CUDAGraph(), capture_error_mode="thread_local"),
        ):
            refused(x)


def test_the_stand_in_computes_when_it_replays_alone_on_what_is_there_then(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended() as device:
        give_graphs(device, monkeypatch)
        x = torch.ones(3, device="cuda")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            y = x * 2
        assert np.isnan(y.tolist()).all()
        x.copy_(torch.tensor([1.0, 2.0, 3.0]))
        graph.replay()
        assert y.tolist() == [2.0, 4.0, 6.0]
        del x
        with pytest.raises(RuntimeError, match="illegal memory access"):
            graph.replay()
