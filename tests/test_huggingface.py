"""The encoder of models of `transformers`: every family against a plain forward pass of its own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import done
from numpy.typing import NDArray
from protein_models import KINDS, LETTERS, states_by_transformers, tokens_by_tokenizer, write_model

from esmcls.encoders import devices, pooling
from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.esm2 import ESM2Encoder
from esmcls.encoders.huggingface import encoder as encoder_module
from esmcls.encoders.huggingface.encoder import HuggingFaceEncoder, open_hf
from esmcls.errors import SequenceTooLargeError, UsageError

FAMILIES = sorted(KINDS)
LAYERS = (0, 1, 2)
POOLINGS = ("mean", "cls", "max")


def random_sequence(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list(LETTERS), length))


SEQUENCES = ["M", LETTERS, random_sequence(60, 1), "MKTAYIAKQR"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, torch.nn.Module]]:
    """A folder of each family, and the model that was saved there."""
    root = tmp_path_factory.mktemp("families")
    names = {name: root / name.replace(" ", "-") for name in FAMILIES}
    return {name: (folder, write_model(folder, name)) for name, folder in names.items()}


Folders = dict[str, tuple[Path, torch.nn.Module]]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(folders: Folders, family: str, **options: Any) -> HuggingFaceEncoder:
    return open_hf(str(folders[family][0]), **{"layers": LAYERS, "precision": "fp32", **options})


def expected(folders: Folders, family: str, sequence: str) -> NDArray[np.float32]:
    """All layers side by side by transformers with the family's tokenizer, special tokens among them."""
    folder, model = folders[family]
    return states_by_transformers(model, tokens_by_tokenizer(folder, family, sequence))


def of_residues(states: NDArray[np.float32], family: str) -> NDArray[np.float32]:
    before, after = KINDS[family].ends
    return states[before : len(states) - after]


def poolings_of(family: str) -> tuple[str, ...]:
    return POOLINGS if KINDS[family].cls else ("mean", "max")


def close(actual: NDArray[Any], wanted: NDArray[Any]) -> None:
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5)


def test_tokens_are_those_of_the_familys_own_tokenizer(folders: Folders, family: str) -> None:
    encoder = build(folders, family)
    for sequence in SEQUENCES:
        assert encoder.tokens_of(sequence).tolist() == tokens_by_tokenizer(folders[family][0], family, sequence)


def test_vectors_of_every_layer_are_those_of_a_plain_forward_pass(folders: Folders, family: str) -> None:
    embedded = build(folders, family).encode(SEQUENCES, poolings_of(family), keep="residue")
    assert embedded.residues is not None
    for row, sequence in enumerate(SEQUENCES):
        states = expected(folders, family, sequence)
        residues = of_residues(states, family)
        assert len(residues) == len(sequence)
        close(embedded.residues[row], residues)
        close(embedded.pooled["mean"][row], residues.mean(0))
        close(embedded.pooled["max"][row], residues.max(0))
        if KINDS[family].cls:
            close(embedded.pooled["cls"][row], states[0])
    assert embedded.seen.tolist() == [len(sequence) for sequence in SEQUENCES]


def test_a_mean_is_of_the_embeddings_of_residues_and_of_no_special_token(folders: Folders, family: str) -> None:
    table = folders[family][1].get_input_embeddings().weight.detach().numpy()  # type: ignore[operator]
    encoder = build(folders, family, layers=[0])
    sequence = "MKTAYW"
    tokens = tokens_by_tokenizer(folders[family][0], family, sequence)
    before, after = KINDS[family].ends
    assert encoder.ends == (before, after)
    if family in ("ESM-1b", "ESM-1v", "ProtBert"):  # which add positions to what the embedding says
        found = encoder.encode([sequence], keep="residue").residues
        assert found is not None
        assert len(found[0]) == len(sequence)
        return
    close(encoder.encode([sequence]).pooled["mean"][0], table[tokens[before : len(tokens) - after]].mean(0))


def test_a_vector_does_not_depend_on_its_batchmates(folders: Folders, family: str) -> None:
    encoder = build(folders, family)
    sequences = [random_sequence(length, length) for length in (7, 41, 1, 33, 41, 90, 2)]
    alone: dict[str, list[NDArray[Any]]] = {name: [] for name in poolings_of(family)}
    for sequence in sequences:
        for name, vectors in encoder.encode([sequence], poolings_of(family)).pooled.items():
            alone[name].append(vectors[0])
    for tokens in (1 << 10, 100, 1):
        encoder.stream_tokens = tokens
        for name, vectors in encoder.encode(sequences, poolings_of(family)).pooled.items():
            close(vectors, np.stack(alone[name]))


LONG = {
    "start:10": [(0, 10)],
    "balanced:10": [(0, 5, 18, 23)],
    "ends:10": [(0, 5), (18, 23)],
    "chunk:10": [(0, 7), (7, 15), (15, 23)],
    "window:10:5": [(0, 10), (5, 15), (10, 20), (13, 23)],
    "full": [(0, 23)],
}
LEARNED = ("ESM-1b", "ESM-1v")


@pytest.mark.parametrize(
    ("family", "long"), [(name, long) for name in FAMILIES for long in LONG if long != "full" or name not in LEARNED]
)
def test_a_long_sequence_is_cut_and_joined_as_its_strategy_says(folders: Folders, family: str, long: str) -> None:
    sequence = random_sequence(23)
    total = np.zeros((23, 96))
    times = np.zeros((23, 1))
    first = []
    for bounds in LONG[long]:
        places = np.concatenate([np.arange(a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=True)])
        states = expected(folders, family, "".join(sequence[place] for place in places))
        total[places] += of_residues(states, family)
        times[places] += 1
        first.append(states[0])
    seen = times[:, 0] > 0
    residues = total[seen] / times[seen]
    embedded = build(folders, family, long=long).encode(["MK", sequence], poolings_of(family), keep="residue")
    assert embedded.residues is not None
    close(embedded.residues[1], residues)
    close(embedded.pooled["mean"][1], residues.mean(0))
    close(embedded.pooled["max"][1], residues.max(0))
    if KINDS[family].cls:
        close(embedded.pooled["cls"][1], np.mean(first, axis=0))
    assert (embedded.inputs[1], embedded.seen[1]) == (len(LONG[long]), seen.sum())


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in LEARNED])
def test_full_sees_what_lies_beyond_the_context(folders: Folders, family: str) -> None:
    sequence = random_sequence(1050)
    embedded = build(folders, family, long="full", layers=[2]).encode([sequence])
    states = of_residues(expected(folders, family, sequence), family)[:, 64:]
    close(embedded.pooled["mean"][0], states.mean(0))
    assert embedded.seen.tolist() == [1050]


def test_a_sequence_of_the_whole_context_fits_learned_positions(folders: Folders) -> None:
    sequence = random_sequence(1022)
    embedded = build(folders, "ESM-1b", layers=[2]).encode([sequence])
    close(embedded.pooled["mean"][0], of_residues(expected(folders, "ESM-1b", sequence), "ESM-1b")[:, 64:].mean(0))


def test_full_is_refused_where_positions_are_learned_and_end_at_the_context(folders: Folders) -> None:
    told = "learned positions for 1,022 residues, so that --long full cannot be; choose --long balanced:1022 or window"
    with pytest.raises(UsageError, match=told):
        build(folders, "ESM-1b", long="full")


def test_inputs_beyond_fewer_positions_are_refused_before_anything_runs(tmp_path: Path) -> None:
    write_model(tmp_path, "ESM-1b", max_position_embeddings=54)
    with pytest.raises(UsageError, match="positions for 50 residues, so that --long balanced cannot be"):
        open_hf(str(tmp_path))
    encoder = open_hf(str(tmp_path), long="window:50", precision="fp32")
    assert encoder.encode([random_sequence(120)]).seen.tolist() == [120]


def test_one_sequence_beyond_many_positions_is_too_large_and_the_others_are_embedded(folders: Folders) -> None:
    encoder = build(folders, "ProtBert", long="full")
    assert encoder.encode([random_sequence(1098)]).seen.tolist() == [1098]
    with pytest.raises(SequenceTooLargeError, match=r"sequence number 2 \(1099 residues\)"):
        encoder.encode(["MKT", random_sequence(1099)])


def test_layers_asked_for_are_those_of_all_and_nothing_beyond_them_is_kept(folders: Folders, family: str) -> None:
    every = build(folders, family).encode(SEQUENCES).pooled["mean"]
    for layers in ([0], [1], [2], [0, 1], [0, 2]):
        encoder = build(folders, family, layers=layers)
        blocks = encoder.model.get_submodule(encoder.opened.family.blocks)
        assert len(list(blocks.children())) == layers[-1]
        close(
            encoder.encode(SEQUENCES).pooled["mean"],
            np.concatenate([every[:, 32 * layer : 32 * layer + 32] for layer in layers], axis=1),
        )
    last = build(folders, family, layers=None)
    assert (last.layers, last.width, last.depth) == ((2,), 32, 2)


def test_a_family_without_a_token_of_the_whole_sequence_has_no_cls(folders: Folders) -> None:
    with pytest.raises(UsageError, match="ProtT5 has no token of a whole sequence; choose mean or max"):
        build(folders, "ProtT5").encode(["MKT"], ("cls",))


def test_no_family_pools_by_attention(folders: Folders, family: str) -> None:
    with pytest.raises(UsageError, match="not trained to pool by attention; choose mean or max"):
        build(folders, family).encode(["MKT"], ("mean", "attention"))


@pytest.mark.parametrize(
    ("family", "precision", "message"),
    [
        ("ProtT5", "fp16", "ProtT5 overflows in fp16; choose fp32, bf16 or auto"),
        ("ProstT5", "fp16", "ProstT5 overflows in fp16"),
        ("Ankh", "fp16", "Ankh overflows in fp16"),
        ("ProtBert", "int8", "ProtBert has no int8; choose fp32, bf16, fp16 or auto"),
        ("ESM-1b", "half", "unknown precision 'half'"),
    ],
)
def test_precisions_that_a_family_does_not_bear_are_refused(
    folders: Folders, family: str, precision: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build(folders, family, precision=precision)


@pytest.mark.parametrize(
    ("family", "precision", "most"),
    [
        *((family, "bf16", 0.1) for family in FAMILIES),
        *((family, "fp16", 0.01) for family in FAMILIES if KINDS[family].model != "T5EncoderModel"),
    ],
)
def test_lower_precisions_round_products_and_nothing_else(
    folders: Folders, family: str, precision: str, most: float
) -> None:
    exact = build(folders, family).encode(SEQUENCES).pooled["mean"]
    found = build(folders, family, precision=precision).encode(SEQUENCES).pooled["mean"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, :32], exact[:, :32])  # the embedding is no product
    difference = np.abs(found - exact).max()
    assert 0 < difference < most


def test_auto_is_bf16_where_the_hardware_has_it(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)  # whose bf16 may not be there
    for there, chosen in (({"fp32", "bf16"}, "bf16"), ({"fp32"}, "fp32")):
        monkeypatch.setattr(devices, "hardware_precisions", lambda device, there=there: there)
        assert build(folders, "ProtT5", precision="auto").precision == chosen


def test_auto_is_fp32_where_the_device_is_fastest_in_what_the_family_overflows_in(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "choose_precision", lambda precision, device: "fp16")  # as on a T4
    assert build(folders, "ProtT5", precision="auto").precision == "fp32"
    with pytest.raises(UsageError, match="overflows in fp16"):
        build(folders, "ProtT5", precision="fp16")


def test_out_of_memory_halves_the_batch_and_loses_nothing(folders: Folders) -> None:
    sequences = [random_sequence(length, length) for length in (20, 5, 18, 1, 9, 28, 3, 14)]
    wanted = build(folders, "ProstT5").encode(sequences).pooled["mean"]
    encoder = build(folders, "ProstT5")
    sizes: list[int] = []
    forward = encoder.model.forward

    def short(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        sizes.append(input_ids.numel())
        if input_ids.numel() > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, attention_mask=attention_mask)

    encoder.model.forward = short  # type: ignore[method-assign]
    close(encoder.encode(sequences).pooled["mean"], wanted)
    assert max(sizes) > 60


def test_batches_count_special_tokens(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pooling.BATCH_TOKENS, "cpu", 48)
    assert list(build(folders, "ProstT5", long="start:10").batches([1000] * 9)) == [4, 4, 1]  # 12 tokens each
    assert list(build(folders, "ProtT5", long="start:10").batches([1000] * 9)) == [4, 4, 1]  # 11


def test_a_folder_is_opened_by_its_path_with_what_its_configuration_says(folders: Folders, family: str) -> None:
    encoder = load_encoder(str(folders[family][0]), precision="fp32")
    assert isinstance(encoder, HuggingFaceEncoder)
    assert encoder.opened.family.name.startswith(family[:5])
    assert encoder.long == "balanced"


def test_esm2_in_a_folder_of_transformers_takes_our_own_model(tmp_path: Path) -> None:
    write_model(tmp_path, "ESM-1v", position_embedding_type="rotary", intermediate_size=128)
    assert isinstance(load_encoder(str(tmp_path), precision="fp32"), ESM2Encoder)


def test_commands_embed_fit_and_predict_with_a_folder(folders: Folders, tmp_path: Path) -> None:
    rows = [f"p{n},{random_sequence(20 + n, n)},{'AB'[n % 2]},{'train' if n < 12 else 'validation'}" for n in range(16)]
    (tmp_path / "set.csv").write_text("\n".join(["id,sequence,label,split", *rows]) + "\n")
    work = ["-w", str(tmp_path / "work"), "--quiet"]
    encoder = ["--encoder", str(folders["ProstT5"][0])]
    told = done("embed", str(tmp_path / "set.csv"), *encoder, *work).out
    assert told.startswith("16 sequences, 16 distinct: 16 embedded, 0 were cached")
    assert "16 were cached" in done("embed", str(tmp_path / "set.csv"), *encoder, *work).out
    done("fit", "--head", "knn", *work)
    (tmp_path / "asked.fasta").write_text(f">p1\n{random_sequence(21, 1)}\n")
    lines = done("predict", str(tmp_path / "asked.fasta"), "--top-k", "1", *work).out.splitlines()
    assert lines[1].split("\t")[:3] == ["p1", "1", "B"]


def test_one_file_of_weights_stands_for_its_folder(folders: Folders) -> None:
    folder = folders["ProtT5"][0]
    encoder = load_encoder(str(folder / "model.safetensors"), precision="fp32")
    assert encoder.digest == build(folders, "ProtT5").digest
