from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from fair import CONFIG, canonical, random_fair_esm
from hypothesis import given
from hypothesis import strategies as st

from esmcls.encoders import encoder as module
from esmcls.encoders.encoder import (
    BatchPlan,
    Embedded,
    Encoder,
    describe_encoders,
    encoder_names,
    load_encoder,
    resolve_device,
)
from esmcls.encoders.esm2 import ESM2Encoder
from esmcls.errors import PluginError, UnknownNameError, UsageError

LENGTHS = st.lists(st.integers(1, 60), max_size=30)


class Toy:
    """An encoder whose vector can be computed by eye: length, and number of M."""

    name, digest, layers, width, long, precision = "toy", "0" * 64, (1,), 2, "full", "fp32"

    def batches(self, lengths: Iterable[int]) -> Iterator[int]:
        return BatchPlan(20).counts(lengths)

    def encode(self, sequences: Sequence[str], poolings: Sequence[str] = ("mean",), keep: str = "") -> Embedded:
        vectors = np.array([[len(one), one.count("M")] for one in sequences], np.float32).reshape(-1, 2)
        lengths = np.array([len(one) for one in sequences], np.int64)
        return Embedded(dict.fromkeys(poolings, vectors), np.ones_like(lengths), lengths)


def open_toy(name: str, **options: object) -> Encoder:
    return Toy()


@pytest.fixture(params=["toy", "esm2", "kmer"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    if request.param == "toy":
        return Toy()
    if request.param == "kmer":
        return load_encoder("kmer")
    return ESM2Encoder("esm2", CONFIG, canonical(random_fair_esm()), precision="fp32")


SEQUENCES = ["MKTAYIAKQR", "M", "MMKX", "GQGQGQ", "MKTAYIAKQR"]


def test_every_encoder_gives_one_float32_row_a_sequence_in_order(encoder: Encoder) -> None:
    embedded = encoder.encode(SEQUENCES)
    assert embedded.pooled["mean"].shape == (5, encoder.width)
    assert embedded.pooled["mean"].dtype == np.float32
    assert embedded.seen.tolist() == [len(sequence) for sequence in SEQUENCES]
    np.testing.assert_allclose(embedded.pooled["mean"][0], embedded.pooled["mean"][4], atol=1e-5)
    np.testing.assert_allclose(
        encoder.encode(SEQUENCES[::-1]).pooled["mean"][::-1], embedded.pooled["mean"], rtol=0, atol=1e-5
    )


def test_every_encoder_takes_no_sequences(encoder: Encoder) -> None:
    embedded = encoder.encode([])
    assert embedded.pooled["mean"].shape == (0, encoder.width)
    assert list(encoder.batches([])) == []


def test_every_encoder_batches_all_sequences(encoder: Encoder) -> None:
    lengths = [7, 2000, 1, 300, 900, 40] * 30
    counts = list(encoder.batches(lengths))
    assert sum(counts) == len(lengths)
    assert min(counts) > 0


def test_every_encoder_tells_what_decides_its_vectors(encoder: Encoder) -> None:
    assert len(encoder.digest) == 64
    assert encoder.precision != "auto"
    assert isinstance(encoder.layers, tuple)
    assert encoder.long


@given(LENGTHS, st.integers(1, 100))
def test_batches_hold_the_budget_keep_the_order_and_leave_nothing_out(sizes: list[int], budget: int) -> None:
    counts = list(BatchPlan(budget).counts(sizes))
    assert sum(counts) == len(sizes), "the last batch must be there too"
    start = 0
    for count in counts:
        batch = sizes[start : start + count]
        assert count == 1 or sum(batch) <= budget
        start += count
        if start < len(sizes):
            assert sum(batch) + sizes[start] > budget, "a batch was closed too early"


@given(LENGTHS.filter(bool), st.integers(1, 100))
def test_a_run_resumed_at_a_batch_plans_the_same_batches(sizes: list[int], budget: int) -> None:
    first, *rest = BatchPlan(budget).counts(sizes)
    assert list(BatchPlan(budget).counts(sizes[first:])) == rest


def test_a_batch_is_given_before_the_next_ones_are_read() -> None:
    def lengths() -> Iterator[int]:
        yield from (6, 6)
        raise AssertionError("read too far ahead")

    assert next(BatchPlan(10).counts(lengths())) == 1


@pytest.mark.parametrize(("name", "near"), [("kmers", "kmer"), ("esm2_t12_35M", "esm2_t12_35M_UR50D")])
def test_an_unknown_name_is_told_with_the_nearest_one(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean '{near}'"):
        load_encoder(name)


def plugin(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setattr(module, "entry_points", lambda group: [EntryPoint("mine", value, group)])


def test_an_installed_plugin_is_opened_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(monkeypatch, f"{__name__}:open_toy")
    assert load_encoder("mine").encode(["MKM"]).pooled["mean"].tolist() == [[3.0, 2.0]]


def test_a_broken_plugin_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(monkeypatch, "no_such_package.encoders:open_it")
    with pytest.raises(PluginError, match=r"'mine' .*no_such_package\.encoders:open_it.* No module named"):
        load_encoder("mine")


def test_cards_tell_shape_size_and_whether_the_weights_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("ESMCLS_WEIGHTS", str(tmp_path))
    (tmp_path / "esm2_t6_8M_UR50D.pt").write_bytes(b"12345")
    cards = {card.name: card for card in describe_encoders()}
    here, absent = cards["esm2_t6_8M_UR50D"], cards["esm2_t12_35M_UR50D"]
    assert (here.layers, here.width, here.parameters, here.bytes, here.present) == (6, 320, 7_408_960, 5, True)
    assert here.source == str(tmp_path / "esm2_t6_8M_UR50D.pt")
    assert (absent.layers, absent.width, absent.present, absent.bytes) == (12, 480, False, 4 * absent.parameters)
    assert absent.source.startswith("https://")
    assert (cards["kmer"].parameters, cards["kmer"].present) == (0, True)
    assert set(cards) < set(encoder_names())
    assert next(iter(cards)) == "bundled"


def test_devices_that_are_here_are_accepted_and_others_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: [])
    assert resolve_device("auto") == "cuda"
    assert resolve_device("cuda:0, cuda:1") == "cuda:0,cuda:1"
    for wrong in ("cuda:2", "cuda:x", "tpu", "cuda:0,cuda:2"):
        with pytest.raises(UsageError, match=r"there is no device .* here; choose one of: auto, cuda"):
            resolve_device(wrong)


def test_auto_is_the_first_gpu_that_torch_was_built_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: [(6, 0), (8, 6)][number])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: ["Tesla P100", "RTX A5000"][number])
    assert resolve_device("auto") == "cuda:1"
    assert "device cuda:0 is passed over" in caplog.text
    with pytest.raises(UsageError, match=r"'cuda:0': .* Tesla P100 \(sm_60\), only for .*whl/cu126"):
        resolve_device("cuda:1,cuda:0")


def test_importing_the_contract_does_not_load_torch() -> None:
    code = "import sys, esmcls.encoders.encoder; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
