"""int8: near fp32 on real proteins, the same sums on every processor, and never mixed with what 0.1.0 made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from command import done
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from esmcls.cache.features import encoder_of, was_int8
from esmcls.cache.spec import EmbeddingSpec
from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.processor import int8
from esmcls.errors import EncoderMismatchError
from esmcls.reading.readers import read_records
from esmcls.workspace.intake import demo_set
from esmcls.workspace.workspace import Workspace

SIXTEEN_BITS = 1 << 15


@pytest.fixture(scope="module")
def demo() -> list[str]:
    """Twenty-four proteins of the demo set, of all its families."""
    distinct = sorted({record.protein.sequence for record in read_records([demo_set()])})
    return distinct[:: len(distinct) // 24][:24]


def cosines(vectors: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    a, b = vectors.astype(np.float64), others.astype(np.float64)
    cosine: npt.NDArray[np.float64] = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return cosine


def test_the_bundled_encoder_points_the_same_way_on_proteins_of_the_demo(demo: list[str]) -> None:
    exact = load_encoder("bundled", precision="fp32").encode(demo, keep="residue")
    lower = load_encoder("bundled", precision="int8").encode(demo, keep="residue")
    assert 0.999 <= cosines(lower.pooled["mean"], exact.pooled["mean"]).min() < 1 - 1e-7
    pairs = zip(lower.residues or [], exact.residues or [], strict=True)
    assert min(cosines(residues, others).mean() for residues, others in pairs) >= 0.999


def test_a_norm_and_its_product_are_the_same_when_they_are_balanced() -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 16) * torch.tensor([50.0] + 15 * [1.0]) + 3
    norm = (torch.randn(16).abs(), torch.randn(16))
    norm[0][5] = 0  # a channel that the norm takes out
    product = (torch.randn(24, 16), torch.randn(24))
    exact = F.linear(F.layer_norm(x, (16,), *norm), *product)
    ranges = int8.ranges_of(x)
    new_norm, new_product = int8.balanced(norm, product, ranges)
    between = F.layer_norm(x, (16,), *new_norm)
    torch.testing.assert_close(F.linear(between, *new_product), exact, rtol=0, atol=2e-4)
    used = torch.arange(16) != 5
    torch.testing.assert_close(between.mean(0)[used], torch.zeros(15), rtol=0, atol=0.02)
    spread = new_product[0].square().mean(0).sqrt()
    torch.testing.assert_close(between.std(0, correction=0)[used], spread[used], rtol=0.02, atol=0)


def test_ranges_are_the_same_where_sums_are_in_another_order() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 64)
    order = torch.randperm(200)
    assert all(torch.equal(a, b) for a, b in zip(int8.ranges_of(x), int8.ranges_of(x[order]), strict=True))


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=24), st.integers(0, 2**16))
def test_no_pair_of_byte_products_goes_beyond_sixteen_bits(weights: list[float], seed: int) -> None:
    """What VPMADDUBSW adds up before it cuts off: bytes 1 to 255 by signed bytes, two and two."""
    levels = int8.levels_of(torch.tensor([weights]))[0]
    pairs = F.pad(levels, (0, levels.shape[1] % 2)).unflatten(1, (-1, 2))
    most = torch.where(pairs > 0, 255 * pairs, pairs).sum(2).max()
    least = torch.where(pairs < 0, 255 * pairs, pairs).sum(2).min()
    assert -SIXTEEN_BITS <= float(least) <= float(most) < SIXTEEN_BITS
    assert float(levels.abs().max()) <= 127


def test_levels_reach_as_far_as_a_pair_allows() -> None:
    levels, scale = int8.levels_of(torch.tensor([[1.0, 0.1, -0.5, 0.5], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    assert levels.tolist() == [[115, 12, -58, 58], [64, 64, 0, 0], [0, 0, 0, 0]]
    torch.testing.assert_close(levels[0] * scale[0], torch.tensor([1.0, 0.1, -0.5, 0.5]), rtol=0, atol=0.005)


def test_bytes_give_the_bits_that_fp32_gives_in_their_place() -> None:
    """The real thing, on a processor that adds up bytes; on others both are fp32's."""
    torch.manual_seed(3)
    for out, width, rows in ((48, 64, 1), (96, 320, 70), (33, 1280, 130)):
        weight, bias, x = torch.randn(out, width), torch.randn(out), 100 * torch.randn(rows, width)
        weight[0], x[0] = 1.0, 1.0  # the largest sums
        real = int8.int8_product(weight, bias, gelu=True, exact=int8.adds_up_bytes())
        emulated = int8.int8_product(weight, bias, gelu=True, exact=False)
        assert torch.equal(real(x), emulated(x))


def whole(levels: Tensor, channel: Tensor) -> int8.Product:
    """Multiply bytes as where all sums are whole."""
    return lambda x: F.linear(x, levels) * channel


def cut_off(levels: Tensor, channel: Tensor) -> int8.Product:
    """Multiply bytes as where sums of two are cut off too early, at 2^14."""

    def product(x: Tensor) -> Tensor:
        parts = (x + int8.ZERO)[:, None] * levels[None]  # (rows, out, in)
        sums = parts.unflatten(2, (-1, 2)).sum(3).clamp(-(1 << 14), (1 << 14) - 1).sum(2)
        return (sums - int8.ZERO * levels.sum(1)) * channel

    return product


@pytest.mark.parametrize(
    ("capability", "right", "expected"),
    [("AVX2", True, True), ("AVX512", True, True), ("DEFAULT", True, False), ("AVX2", False, False)],
)
def test_bytes_are_multiplied_where_there_is_avx2_and_sums_are_right(
    monkeypatch: pytest.MonkeyPatch, capability: str, right: bool, expected: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(int8, "_bytes_product", whole if right else cut_off)
    assert int8.adds_up_bytes.__wrapped__() is expected


def test_vectors_that_older_versions_made_in_int8_are_not_mixed_with_new_ones() -> None:
    weights = load_encoder("bundled", precision="fp32").digest
    spec = EmbeddingSpec.of(load_encoder("bundled", precision="int8"))
    assert encoder_of(spec).digest == spec.digest != weights
    older = replace(spec, digest=weights)
    assert older.key() != spec.key()
    assert was_int8(older, spec.digest)
    assert not was_int8(replace(older, precision="bf16"), spec.digest)
    with pytest.raises(EncoderMismatchError, match="embed --precision int8 again, then fit again"):
        encoder_of(older)


def test_verify_reads_what_older_versions_made_in_int8_and_says_that_none_can_be_embedded_again(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("sequence,label\nMKTAYIAKQRQISFVKSHFSRQ,x\nMLEKVIKEIEGKVEEVK,y\n")
    done("embed", tmp_path / "set.csv", "--encoder", "composition", "-w", tmp_path / "w")
    encoder, workspace = load_encoder("bundled", precision="int8"), Workspace.open(tmp_path / "w")
    older = replace(EmbeddingSpec.of(encoder), digest=load_encoder("bundled", precision="fp32").digest)
    sequences = workspace.dataset.sequences
    with workspace.cache_for(older) as cache:
        cache.append(sequences, encoder.encode(sequences))
    ran = done("cache", "verify", "-w", tmp_path / "w", "--device", "cpu")
    assert f"{older.key()}: sound; 2 sequences" in ran.out
    assert f"{older.key()}: int8 as 0.1.0 rounded it, which no encoder makes now" in ran.err


def test_a_stream_of_nothing_is_nothing_in_int8() -> None:
    model = load_encoder("bundled", precision="int8").model  # type: ignore[attr-defined]
    assert [state.shape for _, state in model.states(torch.empty(0, dtype=torch.uint8), [], [1])] == [(0, 256)]


def test_shortcuts_that_a_program_allows_itself_change_no_int8_vector() -> None:
    sequence = ["MKTAYIAKQRQISFVKSHFSRQ"]
    exact = load_encoder("bundled", precision="int8").encode(sequence).pooled["mean"]
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        allowed = load_encoder("bundled", precision="int8").encode(sequence).pooled["mean"]
    finally:
        matmul.fp32_precision = before
    np.testing.assert_array_equal(allowed, exact)
