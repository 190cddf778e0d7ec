from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from fair import ALPHABET, CONFIG, SEQUENCES, canonical, random_fair_esm, reference
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from esmcls.encoders import devices, pooling
from esmcls.encoders.encoder import Embedded, load_encoder
from esmcls.encoders.esm2 import ESM2Encoder, open_esm2
from esmcls.encoders.weights import save_state
from esmcls.errors import NonFiniteError, SequenceTooLargeError, UsageError, WeightsError

FAIR = random_fair_esm()
STATE = canonical(FAIR)
LAYERS = [0, 1, 2]
LETTERS = "ACDEFGHIKLMNPQRSTVWYXBUZO"
POOLINGS = ("mean", "cls", "max")


def build(**options: object) -> ESM2Encoder:
    return ESM2Encoder("toy", CONFIG, STATE, **{"precision": "fp32", "layers": LAYERS, **options})  # type: ignore[arg-type]


def random_sequence(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list(LETTERS), length))


def fair_states(inputs: Sequence[str]) -> list[np.ndarray]:
    """Layers side by side by fair-esm with its own tokeniser, (residues + 2, 3 x width) for each input."""
    tokens = [[ALPHABET.cls_idx, *ALPHABET.encode(one), ALPHABET.eos_idx] for one in inputs]
    states = reference(FAIR, tokens, LAYERS)
    return [torch.cat([one[layer] for layer in LAYERS], dim=1).numpy() for one in states]


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_mean_cls_and_max_of_all_layers_are_those_of_fair_esms_states() -> None:
    embedded = build().encode(SEQUENCES, POOLINGS)
    for row, state in enumerate(fair_states(SEQUENCES)):
        close(embedded.pooled["mean"][row], state[1:-1].mean(0))
        close(embedded.pooled["max"][row], state[1:-1].max(0))
        close(embedded.pooled["cls"][row], state[0])
    assert embedded.seen.tolist() == [len(sequence) for sequence in SEQUENCES]
    assert embedded.inputs.tolist() == [1] * len(SEQUENCES)
    assert (embedded.chunks, embedded.residues) == (None, None)


def test_residue_vectors_are_fair_esms_without_bos_and_eos() -> None:
    residues = build().encode(SEQUENCES, keep="residue").residues
    assert residues is not None
    for ours, state in zip(residues, fair_states(SEQUENCES), strict=True):
        close(ours, state[1:-1])


def test_a_sequence_cut_into_windows_pools_each_residue_once() -> None:
    sequence = random_sequence(23)
    embedded = build(long="window:10:5").encode(["MKT", sequence], POOLINGS, keep="residue")
    starts = [0, 5, 10, 13]
    states = fair_states([sequence[start : start + 10] for start in starts])
    total, times = np.zeros((23, 96), np.float32), np.zeros((23, 1), np.float32)
    for start, state in zip(starts, states, strict=True):
        total[start : start + 10] += state[1:-1]
        times[start : start + 10] += 1
    assert embedded.residues is not None
    close(embedded.residues[1], total / times)
    close(embedded.pooled["mean"][1], (total / times).mean(0))
    close(embedded.pooled["max"][1], (total / times).max(0))
    close(embedded.pooled["cls"][1], np.mean([state[0] for state in states], axis=0))
    assert embedded.inputs.tolist() == [1, 4]
    assert embedded.seen.tolist() == [3, 23]


@pytest.mark.parametrize(
    ("long", "inputs", "seen"),
    [
        ("start:10", [(0, 10)], 10),
        ("balanced:10", [(0, 5, 18, 23)], 10),
        ("ends:10", [(0, 5), (18, 23)], 10),
        ("chunk:10", [(0, 7), (7, 15), (15, 23)], 23),
        ("full", [(0, 23)], 23),
    ],
)
def test_the_mean_of_a_cut_sequence_is_over_the_residues_seen(
    long: str, inputs: list[tuple[int, ...]], seen: int
) -> None:
    sequence = random_sequence(23)
    glued = ["".join(sequence[a:b] for a, b in zip(one[::2], one[1::2], strict=True)) for one in inputs]
    states = fair_states(glued)
    embedded = build(long=long).encode([sequence], POOLINGS, keep="chunk")
    residues = np.concatenate([state[1:-1] for state in states])
    close(embedded.pooled["mean"][0], residues.mean(0))
    close(embedded.pooled["max"][0], residues.max(0))
    close(embedded.pooled["cls"][0], np.mean([state[0] for state in states], axis=0))
    assert embedded.chunks is not None
    close(embedded.chunks[0], np.stack([state[1:-1].mean(0) for state in states]))
    assert (embedded.seen[0], embedded.inputs[0]) == (seen, len(inputs))


@pytest.mark.parametrize("long", ["start", "balanced", "ends", "window", "chunk", "full"])
def test_a_sequence_of_the_whole_context_is_the_same_under_every_strategy(long: str) -> None:
    sequence = random_sequence(1022)
    embedded = build(long=long).encode([sequence])
    close(embedded.pooled["mean"][0], fair_states([sequence])[0][1:-1].mean(0))
    assert embedded.inputs.tolist() == [1]


def test_full_sees_what_lies_beyond_the_context() -> None:
    sequence = random_sequence(1100)
    embedded = build(long="full").encode([sequence])
    close(embedded.pooled["mean"][0], fair_states([sequence])[0][1:-1].mean(0))
    assert embedded.seen.tolist() == [1100]


ENCODER = build()


@settings(max_examples=8, deadline=None)
@given(st.lists(st.text(LETTERS, min_size=1, max_size=50), min_size=1, max_size=6), st.integers(1, 100))
def test_a_vector_does_not_depend_on_its_batch(sequences: list[str], stream_tokens: int) -> None:
    encoder = ENCODER
    alone = np.concatenate([encoder.encode([sequence]).pooled["mean"] for sequence in sequences])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "stream_tokens", stream_tokens)
        close(encoder.encode(sequences).pooled["mean"], alone)


def test_the_same_batch_gives_the_same_bits() -> None:
    first, second = (build().encode(SEQUENCES, POOLINGS).pooled for _ in range(2))
    assert all(np.array_equal(first[pooling], second[pooling]) for pooling in POOLINGS)


def test_no_sequences_give_empty_arrays_of_the_right_width() -> None:
    embedded = build().encode([], POOLINGS, keep="residue")
    assert {pooling: vectors.shape for pooling, vectors in embedded.pooled.items()} == dict.fromkeys(POOLINGS, (0, 96))
    assert (embedded.residues, embedded.seen.shape, embedded.inputs.shape) == ([], (0,), (0,))


def test_batches_count_the_tokens_of_cut_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pooling.BATCH_TOKENS, "cpu", 50)
    assert list(build(long="start:10").batches([1000] * 9)) == [4, 4, 1]  # 12 tokens each
    assert list(build(long="full").batches([8, 38, 39, 1000, 3])) == [2, 1, 1, 1]
    assert list(build().batches(iter(()))) == []


class OutOfMemory:
    """Stands before a model and has room for so many tokens only."""

    def __init__(self, model: object, room: int, error: Exception) -> None:
        self.model, self.room, self.error, self.asked = model, room, error, []

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def states(self, tokens: Tensor, lengths: Sequence[int], layers: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        self.asked.append(len(tokens))
        for number, found in enumerate(self.model.states(tokens, lengths, layers)):  # type: ignore[attr-defined]
            if number and len(tokens) > self.room:
                raise self.error
            yield found


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
    RuntimeError("MPS backend out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: out of memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__} {error}"[:30])
def test_out_of_memory_halves_the_stream_and_loses_nothing(error: Exception) -> None:
    sequences = [random_sequence(length, seed) for seed, length in enumerate([20, 5, 18, 1, 9, 28, 3, 14])]
    expected = build().encode(sequences, POOLINGS, keep="residue")
    encoder = build()
    encoder.model = short = OutOfMemory(encoder.model, 30, error)  # type: ignore[assignment]
    found = encoder.encode(sequences, POOLINGS, keep="residue")
    for name in POOLINGS:
        close(found.pooled[name], expected.pooled[name])
    assert [len(one) for one in found.residues or []] == [len(sequence) for sequence in sequences]
    assert short.asked[0] == sum(map(len, sequences)) + 2 * len(sequences)
    before = len(short.asked)
    encoder.encode(sequences)
    assert max(short.asked[before:]) <= 60, "the smaller streams must stay"


def test_a_sequence_that_does_not_fit_alone_is_named_by_its_place() -> None:
    encoder = build()
    encoder.model = OutOfMemory(encoder.model, 30, MemoryError())  # type: ignore[assignment]
    with pytest.raises(SequenceTooLargeError, match=r"sequence number 3 \(29 residues\)") as caught:
        encoder.encode([random_sequence(5), random_sequence(28), random_sequence(29), random_sequence(4)])
    assert (caught.value.index, caught.value.length) == (2, 29)


def test_any_other_error_of_the_model_is_not_taken_for_a_lack_of_memory() -> None:
    encoder = build()
    encoder.model = OutOfMemory(encoder.model, 0, RuntimeError("shape mismatch"))  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="shape mismatch"):
        encoder.encode(["MKT", "MK"])


def test_full_refuses_a_sequence_beyond_the_free_memory_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build(long="full")
    short = encoder.model = OutOfMemory(encoder.model, 1 << 30, MemoryError())  # type: ignore[assignment]
    monkeypatch.setattr(pooling, "free_memory", lambda device: 3_000_000)
    assert encoder.encode([random_sequence(1100)]).seen.tolist() == [1100]
    with pytest.raises(SequenceTooLargeError, match="sequence number 2"):
        encoder.encode(["MKT", random_sequence(5000)])
    assert max(short.asked) < 5000  # type: ignore[attr-defined]


def test_free_memory_of_this_machine_is_told_in_bytes() -> None:
    assert 1 << 20 < devices.free_memory(torch.device("cpu")) < 1 << 50


def test_a_vector_with_nan_is_an_error_that_holds_the_sequence() -> None:
    state = {name: tensor.clone() for name, tensor in STATE.items()}
    state["embed_tokens.weight"][ALPHABET.get_idx("W")] = float("nan")
    encoder = ESM2Encoder("toy", CONFIG, state, precision="fp32")
    encoder.encode(["MKT"])
    with pytest.raises(NonFiniteError, match=r"sequence MWK \(3 residues\): its cls vector") as caught:
        encoder.encode(["MKT", "MWK"], ("cls",))
    assert caught.value.sequence == "MWK"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [-1]}, "encoder toy has no layer -1; choose from 0, the embedding, to 2, the last"),
        ({"layers": [1, 33]}, "encoder toy has no layer 33"),
        ({"precision": "half"}, "unknown precision 'half'"),
        ({"device": "gpu"}, "there is no device 'gpu' here"),
        ({"device": "cpu:1"}, "there is no device 'cpu:1' here"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(**options)


@pytest.mark.parametrize(
    ("sequences", "poolings", "keep", "message"),
    [
        (["MKT", ""], ("mean",), "", "sequence number 2 has no residues"),
        (["MKT"], ("mean", "median"), "", "unknown pooling median; choose from mean, cls, max"),
        (["MKT"], ("mean",), "residues", "unknown vectors to keep: 'residues'; choose from chunk, residue"),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    sequences: list[str], poolings: tuple[str, ...], keep: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build().encode(sequences, poolings, keep)


def test_layers_are_a_set_and_the_last_one_is_the_default() -> None:
    assert build(layers=[2, 0, 2]).layers == (0, 2)
    assert build(layers=[2, 0]).width == 64
    last = build(layers=None)
    assert last.layers == (2,)
    close(last.encode(["MKTA"]).pooled["mean"], build().encode(["MKTA"]).pooled["mean"][:, 64:])


def test_a_shortcut_allowed_elsewhere_does_not_touch_fp32_and_stays_allowed() -> None:
    before = build().encode(SEQUENCES).pooled["mean"]
    try:
        torch.set_float32_matmul_precision("medium")
        np.testing.assert_array_equal(build().encode(SEQUENCES).pooled["mean"], before)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_auto_precision_is_bf16_where_there_are_instructions_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for present, expected in ((True, "bf16"), (False, "fp32")):
        there = {"fp32", "bf16"} if present else {"fp32"}
        monkeypatch.setattr(devices, "hardware_precisions", lambda device, there=there: there)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)  # whose bf16 may not be there
        assert build(precision="auto").precision == expected


def test_an_encoder_is_opened_from_its_file_with_the_layers_of_its_card(tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    save_state(path, CONFIG, STATE, layers=(1, 2))
    opened = load_encoder(str(path), precision="fp32", long="window:100")
    assert (opened.layers, opened.width, opened.long, opened.precision) == ((1, 2), 64, "window:100:50", "fp32")
    assert opened.digest == build().digest
    assert open_esm2(str(path), layers=()).layers == (1, 2)
    assert open_esm2(str(path), layers=[0]).layers == (0,)
    close(opened.encode(SEQUENCES).pooled["mean"], build().encode(SEQUENCES).pooled["mean"][:, 32:])


def test_weights_that_cannot_be_had_are_an_error_and_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("ESMCLS_WEIGHTS_URL", "http://127.0.0.1:9/")
    with pytest.raises(WeightsError, match=str(tmp_path / "none.pt")):
        open_esm2(str(tmp_path / "none.pt"))


@pytest.fixture(scope="module")
def trained(shared: Path | None) -> tuple[str, Embedded]:
    """Trained weights, and what they give in fp32: the real 8M backbone, or the bundled encoder where it is absent."""
    name = str(shared / "weights" / "esm2_t6_8M_hemolysis") if shared else "bundled"
    layers = None if shared is None else range(7)
    return name, load_encoder(name, layers=layers, precision="fp32").encode(proteins())  # type: ignore[arg-type]


def proteins() -> list[str]:
    """Ubiquitin, insulin, haemoglobin's beta chain (UniProt P0CG48, P01308, P68871), and a made-up repeat."""
    return [
        "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG",
        "MALWMRLLPLLALLALWGPDPAAAFVNQHLCGSHLVEALYLVCGERGFFYTPKTRREAEDLQVGQVELGGGPGAGSLQPLALEGSLQKRGIVEQCCTSICSLYQLENYCN",
        "MVHLTPEEKSAVTALWGKVNVDEVGGEALGRLLVVYPWTQRFFESFGDLSTPDAVMGNPKVKAHGKKVLGAFSDGLAHLDNLKGTFATLSELHCDKLHVDPENFRLLGNVLVCVLAHHFGKEFTPPVQAAYQKVVAGVANALAHKYH",
        "MS" + "GQ" * 40 + "SSSS",
    ]


@pytest.mark.parametrize(
    ("precision", "least"), [("bf16", 0.9999), ("int8", 0.999), ("fp16", 0.999999), ("fp8", 0.998)]
)
def test_lower_precisions_point_the_same_way_on_trained_weights(
    trained: tuple[str, Embedded], precision: str, least: float
) -> None:
    name, exact = trained
    width = exact.pooled["mean"].shape[1]
    encoder = load_encoder(name, layers=range(7) if width > 2000 else None, precision=precision)  # type: ignore[arg-type]
    vectors, wanted = encoder.encode(proteins()).pooled["mean"], exact.pooled["mean"]
    cosine = (vectors * wanted).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(wanted, axis=1)
    assert cosine.min() >= least
    assert cosine.min() < 1 - 1e-10, "it ran in fp32"
