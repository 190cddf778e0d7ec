"""A precision that the hardware lacks is emulated: same spec, same cache, vectors that differ by rounding, one line.

What the hardware has is faked, so that a processor of any age runs all of it. The reference is then torch's own
products of rounded numbers, which every processor has, if slowly; `benchmarks/precision_parity.py` takes the real ones.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command import done, run
from tiny import CONFIG, sequences, tiny_model, write_encoder, write_set
from torch import Tensor

import esmcls
from esmcls.encoders import devices
from esmcls.encoders.devices import (
    PRECISIONS,
    Precision,
    choose_precision,
    device_name,
    exact_products,
    hardware_precisions,
    note_fp32_training,
)
from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.esm2 import ESM2Encoder
from esmcls.encoders.processor import int8
from esmcls.models.folder import load_model
from esmcls.pretraining.corpus import Batch
from esmcls.pretraining.run import hidden_states

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LOWER: list[Precision] = ["bf16", "fp16", "int8", "fp8"]
NOTE = "this processor lacks {}: emulated in fp32, with vectors that differ by rounding alone"
TRAINING_NOTE = "this processor lacks bf16: training computes in fp32"


class Hardware:
    """The abilities of the processor, as a test wants them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def has(self, *precisions: Precision) -> None:
        """Fake them, and take products that any processor can make."""
        self.monkeypatch.setattr(devices, "hardware_precisions", lambda device: frozenset({"fp32", *precisions}))
        self.monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: not precisions)
        self.monkeypatch.setattr(int8, "_bytes_product", whole_product)
        self.monkeypatch.setattr(torch, "_scaled_mm", scaled_product)


def whole_product(levels: torch.Tensor, channel: torch.Tensor) -> int8.Product:
    """Multiply whole numbers as int8 does, on any processor."""
    return lambda x: (x.long() @ levels.long().T).float() * channel


def scaled_product(
    a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, bias: Tensor, out_dtype: torch.dtype
) -> Tensor:
    """Stand in for what processors do not have: sums of exact products in float64."""
    assert {a.dtype, b.dtype} == {torch.float8_e4m3fn}
    return (a.double() @ b.double() * scale_a * scale_b + bias).to(out_dtype)


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> Hardware:
    return Hardware(monkeypatch)


def toy(precision: str) -> ESM2Encoder:
    return ESM2Encoder("toy", CONFIG, tiny_model().state_dict(), layers=(1, 2), precision=precision)


def proteins() -> list[str]:
    """Ubiquitin and insulin (UniProt P0CG48, P01308), and a repeat longer than a block of attention's rows."""
    return [
        "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG",
        "MALWMRLLPLLALLALWGPDPAAAFVNQHLCGSHLVEALYLVCGERGFFYTPKTRREAEDLQVGQVELGGGPGAGSLQPLALEGSLQKRGIVEQCCTSICSLYQLENYCN",
        "MSKGQ" * 90,
    ]


@pytest.mark.parametrize(
    ("precision", "least"), [("bf16", 0.99999), ("fp16", 0.9999999), ("int8", 0.999999), ("fp8", 0.99999)]
)
def test_emulated_vectors_are_those_of_hardware_that_has_the_precision(
    hardware: Hardware, precision: Precision, least: float
) -> None:
    hardware.has(precision)
    real = load_encoder("bundled", precision=precision).encode(proteins()).pooled["mean"].astype(np.float64)
    hardware.has()
    emulated = load_encoder("bundled", precision=precision).encode(proteins()).pooled["mean"].astype(np.float64)
    exact = load_encoder("bundled", precision="fp32").encode(proteins()).pooled["mean"].astype(np.float64)
    cosine = (emulated * real).sum(1) / np.linalg.norm(emulated, axis=1) / np.linalg.norm(real, axis=1)
    assert cosine.min() >= least
    assert np.abs(emulated - real).max() < np.abs(real - exact).max(), "nearer to fp32 than to what it stands for"


@pytest.mark.parametrize("precision", LOWER)
def test_any_precision_can_be_asked_of_any_processor_and_stays_the_one_of_the_spec(
    hardware: Hardware, precision: Precision
) -> None:
    hardware.has()
    encoder = toy(precision)
    assert encoder.precision == precision
    assert np.isfinite(encoder.encode(sequences(3), keep="residue").pooled["mean"]).all()


def test_auto_is_what_the_hardware_has_and_never_eight_bits(hardware: Hardware) -> None:
    hardware.has("fp16", "int8", "fp8")
    assert choose_precision("auto", CPU) == "fp32"
    hardware.has("bf16")
    assert choose_precision("auto", CPU) == "bf16"


@pytest.mark.parametrize(
    ("instructions", "onednn", "whole", "expected"),
    [
        ((True, False), True, True, {"fp32", "bf16", "int8"}),
        ((False, True), True, True, {"fp32", "bf16", "int8"}),
        ((False, False), True, False, {"fp32"}),
        ((True, True), False, False, {"fp32"}),  # oneDNN was told not to use them
    ],
)
def test_a_processor_has_what_its_instructions_are_used_for(
    monkeypatch: pytest.MonkeyPatch,
    instructions: tuple[bool, bool],
    onednn: bool,
    whole: bool,
    expected: set[Precision],
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions[0])
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: instructions[1])
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    monkeypatch.setattr(devices, "adds_up_bytes", lambda: whole)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert hardware_precisions(CPU) == expected
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert hardware_precisions(CPU) == {"fp32"}


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((7, 5), {"fp32", "fp16"}),
        ((8, 0), {"fp32", "fp16", "bf16"}),
        ((8, 9), {"fp32", "fp16", "bf16", "fp8"}),
        ((9, 0), {"fp32", "fp16", "bf16", "fp8"}),
    ],
)
def test_a_gpu_has_fp16_and_the_newer_ones_bf16_and_fp8(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: set[Precision]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: capability >= (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert hardware_precisions(CUDA) == expected
    monkeypatch.setattr(devices.sys, "platform", "win32")
    assert hardware_precisions(CUDA) == expected - {"fp8"}
    assert hardware_precisions(torch.device("mps")) == {"fp32"}


def test_sums_of_eight_bit_products_that_are_cut_off_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What processors without VNNI do: pairs are summed in 16 bits."""
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.long() @ b.long()).int())
    assert devices.multiplies_int8_exactly.__wrapped__()
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: torch.full((len(a), b.shape[1]), 32 * (2**15 - 1)))
    assert not devices.multiplies_int8_exactly.__wrapped__()


def test_products_of_eight_bits_are_asked_of_processors_with_vnni_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it torch's product is right, and takes twenty times as long as in fp32."""
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.long() @ b.long()).int())
    assert not devices.multiplies_int8_exactly.__wrapped__()


@pytest.mark.parametrize(("precision", "needed"), [("int8", "AVX2"), ("fp8", "GPUs from L4 and H100 on")])
def test_eight_bits_are_refused_in_one_line_where_they_are_slower_unless_such_vectors_are_there(
    tmp_path: Path, hardware: Hardware, precision: Precision, needed: str
) -> None:
    encoder = write_encoder(tmp_path / "tiny.safetensors")
    (tmp_path / "a.fasta").write_text(">a\nMKTAYIAKQRQISFVKSHFSRQ\n")
    (tmp_path / "b.fasta").write_text(">b\nMKTAYIAKQRQ\n")
    words = ("--encoder", encoder, "-w", tmp_path / "w", "--device", "cpu", "--precision", precision)
    hardware.has()
    ran = run("embed", tmp_path / "a.fasta", *words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1] == (
        f"esmcls: error: --precision {precision}: this processor has no fast products of {precision} ({needed}), so "
        "that it takes longer than fp32; leave --precision out"
    )
    hardware.has(precision)
    done("embed", tmp_path / "a.fasta", *words)
    hardware.has()
    assert NOTE.format(precision) in done("embed", tmp_path / "b.fasta", *words).err
    (tmp_path / "c.fasta").write_text(">c\nMKTAYIAK\n")
    assert NOTE.format(precision) in done("embed", tmp_path / "c.fasta", *words[:-2]).err  # which is auto


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_library_logs_what_it_emulates_and_prints_nothing(
    hardware: Hardware, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], precision: Precision
) -> None:
    hardware.has()
    with caplog.at_level(logging.WARNING, logger="esmcls"):
        toy(precision)
    assert caplog.messages == ([] if precision == "fp32" else [NOTE.format(precision)])
    assert capfd.readouterr() == ("", "")


def test_of_processes_that_train_together_the_first_says_it(
    hardware: Hardware, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardware.has()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for rank in (0, 1):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        note_fp32_training("bf16", CPU)
    assert caplog.messages == [TRAINING_NOTE]


@pytest.fixture
def place(tmp_path: Path, hardware: Hardware) -> Path:
    """A workspace with vectors and a model of a machine with bf16, which is then gone."""
    hardware.has("bf16")
    encoder = write_encoder(tmp_path / "tiny.safetensors")
    done("embed", write_set(tmp_path / "set.csv"), "--encoder", encoder, "-w", tmp_path / "w", "--device", "cpu")
    done("fit", "-w", tmp_path / "w", "--head", "linear")
    hardware.has()
    lines = [f">new{number}\n{sequence}" for number, sequence in enumerate(sequences(140)[120:])]
    (tmp_path / "new.fasta").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_model_of_a_machine_with_bf16_answers_on_one_without(place: Path, hardware: Hardware) -> None:
    command = ("predict", place / "new.fasta", "-w", place / "w", "--model", "linear", "--device", "cpu")
    ran = done(*command)
    assert ran.err.startswith(f"esmcls: {NOTE.format('bf16')}\nesmcls: ")
    assert f"esmcls: on {device_name(CPU)}: bf16\n" in ran.err
    assert (ran.err.count("lacks"), ran.err.count("on cpu")) == (1, 1)
    assert done(*command, "--quiet").err == ""
    model = load_model(place / "w" / "models" / "linear")
    assert model.manifest.spec.precision == "bf16"
    answers = model.predict_proba(sequences(140)[120:])
    hardware.has("bf16")
    there = load_model(place / "w" / "models" / "linear").predict_proba(sequences(140)[120:])
    np.testing.assert_allclose(answers, there, atol=0.05)  # weights are random: nothing is sure


def test_a_cache_of_a_machine_with_bf16_grows_on_one_without(place: Path, hardware: Hardware) -> None:
    [folder] = (place / "w" / "cache").iterdir()
    ran = done(
        "embed", place / "new.fasta", "--encoder", place / "tiny.safetensors", "-w", place / "w", "--device", "cpu"
    )
    assert ran.out == "20 sequences, 20 distinct: 20 embedded, 0 were cached\n"
    assert ran.err.count(NOTE.format("bf16")) == 1
    assert list((place / "w" / "cache").iterdir()) == [folder]
    hardware.has("bf16")  # and back again
    checked = done("cache", "verify", "-w", place / "w")
    assert (checked.err, "sound; " in checked.out) == (f"esmcls: on {device_name(CPU)}: bf16\n", True), checked.out


def test_what_nobody_asked_for_in_bf16_is_fp32_where_bf16_is_not(tmp_path: Path, hardware: Hardware) -> None:
    hardware.has()
    encoder = write_encoder(tmp_path / "tiny.safetensors")
    ran = done("embed", write_set(tmp_path / "set.csv"), "--encoder", encoder, "-w", tmp_path / "w", "--device", "cpu")
    assert "lacks" not in ran.err
    assert "fp32" in done("cache", "info", "-w", tmp_path / "w").out


def test_fine_tuning_in_bf16_is_fp32_where_bf16_is_not_and_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtypes = set()
    monkeypatch.setattr(torch.nn.functional, "gelu", lambda x: dtypes.add(x.dtype) or torch.relu(x))
    short = ("--method", "full", "--max-steps", "2", "--batch", "16", "--device", "cpu", "--precision", "bf16")
    ran = done("finetune", "-w", place / "w", "--encoder", place / "tiny.safetensors", *short)
    assert [line for line in ran.err.splitlines() if "lacks" in line] == [
        f"esmcls: {TRAINING_NOTE}",
        f"esmcls: {NOTE.format('bf16')}",
    ]
    assert [line for line in ran.err.splitlines() if " on cpu " in line] == [f"esmcls: on {device_name(CPU)}: bf16"]
    assert torch.float32 in dtypes
    assert torch.bfloat16 not in dtypes
    assert load_model(place / "w" / "models" / "finetuned").manifest.spec.precision == "bf16"


def test_pretraining_is_in_bf16_where_the_hardware_has_it(hardware: Hardware) -> None:
    tokens = torch.tensor([0, 20, 15, 11, 2])
    batch = Batch(tokens, torch.tensor([0, 5]), torch.tensor([0]))
    model = tiny_model().eval()
    exact = model(batch.tokens, batch.offsets, [2])[2]
    hardware.has()
    assert torch.equal(hidden_states(model, batch, [2]), exact)
    hardware.has("bf16")
    assert not torch.equal(hidden_states(model, batch, [2]), exact)


def test_where_onednn_refuses_bf16_there_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    """The real thing, on a processor with AVX-512 as on one without: oneDNN is told to do with AVX2."""
    (tmp_path / "a.fasta").write_text(">a\nMKTAYIAKQRQISFVKSHFSRQ\n")
    encoder = write_encoder(tmp_path / "tiny.safetensors")
    words = ["embed", "a.fasta", "--encoder", str(encoder), "--device", "cpu", "--precision", "bf16"]
    ran = subprocess.run(
        [sys.executable, "-m", "esmcls_cli.main", *words],
        cwd=tmp_path,
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stdout) == (0, "1 sequence, 1 distinct: 1 embedded, 0 were cached\n")
    emulated, named, read, unlabelled = ran.stderr.splitlines()
    assert (emulated, read) == (f"esmcls: {NOTE.format('bf16')}", "esmcls: 1 record read")
    assert re.fullmatch(r"esmcls: on cpu \(.+\): bf16", named)
    assert unlabelled.startswith("esmcls: no labels in a.fasta")


def test_embedding_in_a_precision_that_is_not_there_is_one_call(hardware: Hardware) -> None:
    hardware.has()
    vectors = [esmcls.embed(["MKTAYIAKQR"], precision=precision) for precision in LOWER]
    exact = esmcls.embed(["MKTAYIAKQR"], precision="fp32")
    for found in vectors:
        assert 0 < np.abs(found - exact).max() < 0.1


def float32_settings() -> list[str]:
    """Return what torch says by its newer and its older API, which refuses to say some things."""
    matmul = torch.backends.cuda.matmul
    said = [matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision]
    for ask in (torch.get_float32_matmul_precision, lambda: str(matmul.allow_tf32)):
        try:
            said.append(ask())
        except RuntimeError:
            said.append("refused")
    return said


def by_newer_api(cuda: str, processor: str = "none") -> None:
    torch.backends.cuda.matmul.fp32_precision = cuda
    torch.backends.mkldnn.matmul.fp32_precision = processor


def forget_shortcuts() -> None:
    """Bring both of torch's APIs back to where they are when it is imported."""
    by_newer_api("ieee", "ieee")
    torch.set_float32_matmul_precision("highest")
    by_newer_api("none")


@pytest.mark.parametrize(
    ("allow", "expected"),
    [
        (lambda: None, ["none", "none", "highest", "False"]),
        (lambda: by_newer_api("tf32"), ["tf32", "none", "refused", "refused"]),
        (lambda: by_newer_api("tf32", "bf16"), ["tf32", "bf16", "refused", "refused"]),
        (lambda: by_newer_api("ieee"), ["ieee", "none", "highest", "False"]),
        (lambda: torch.set_float32_matmul_precision("high"), ["tf32", "tf32", "high", "True"]),
        (lambda: torch.set_float32_matmul_precision("medium"), ["tf32", "bf16", "medium", "True"]),
    ],
)
def test_products_are_exact_whichever_api_allowed_shortcuts_and_these_are_as_they_were(
    allow: Callable[[], None], expected: list[str]
) -> None:
    forget_shortcuts()
    try:
        allow()
        assert float32_settings() == expected
        with exact_products():
            assert float32_settings() == ["ieee", "ieee", "highest", "False"]
        assert float32_settings() == expected
        assert esmcls.embed(["MKTAYIAKQR"], precision="fp32").shape[0] == 1
    finally:
        forget_shortcuts()
