"""Weights of every origin give one canonical state; whatever is not ESM-2 is refused in one line."""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import esm
import pytest
import torch
from origins import hugging_face_name, randomised, save_fair_esm, save_hugging_face, shard
from safetensors.torch import load_file, save_file
from torch import Tensor

from esmcls.encoders import weights
from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.encoders.weights import (
    default_layers,
    load_state,
    save_state,
    state_digest,
    state_shapes,
)
from esmcls.errors import WeightsError

SHAPE = ModelConfig(layers=2, width=32, heads=4)
HEADS = ("lm_head.", "contact_head.")


@pytest.fixture(scope="module")
def fair_esm() -> dict[str, Tensor]:
    """Return the state of a random fair-esm model, heads included, its frequencies rounded as in published files."""
    state = randomised(esm.ESM2(num_layers=2, embed_dim=32, attention_heads=4)).state_dict()
    return {name: tensor.half().float() if name.endswith("inv_freq") else tensor for name, tensor in state.items()}


@pytest.fixture(scope="module")
def canonical(fair_esm: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what every loader must make of them."""
    return {name: fair_esm[name].clone() for name in fair_esm if not name.startswith(HEADS)}


def save_own(path: Path, state: dict[str, Tensor]) -> Path:
    save_state(path, SHAPE, state)
    return path


ORIGINS: dict[str, Callable[[Path, dict[str, Tensor]], Path]] = {
    "fair-esm": lambda folder, state: save_fair_esm(folder / "a.pt", state),
    "hugging face safetensors": lambda folder, state: save_hugging_face(folder / "hf", state),
    "hugging face bin": lambda folder, state: save_hugging_face(folder / "hf", state, "pytorch_model.bin"),
    "hugging face shards": lambda folder, state: shard(save_hugging_face(folder / "hf", state)),
    "own": lambda folder, state: save_own(folder / "a.safetensors", state),
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_every_origin_gives_the_same_state_shape_and_digest(
    origin: str, tmp_path: Path, canonical: dict[str, Tensor]
) -> None:
    config, state = load_state(ORIGINS[origin](tmp_path, canonical))
    assert config == SHAPE
    assert list(state) == sorted(canonical)
    for name, tensor in state.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, canonical[name]), name
    assert state_digest(state) == state_digest(canonical)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod.", "base_model.model."])
def test_what_wraps_a_model_leaves_no_trace(wrapper: str, tmp_path: Path, canonical: dict[str, Tensor]) -> None:
    folder = save_hugging_face(tmp_path / "hf", canonical)
    tensors = load_file(folder / "model.safetensors")
    save_file({f"{wrapper}{name}": tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    assert state_digest(load_state(folder)[1]) == state_digest(canonical)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_the_weights_of_a_folder_may_be_given_directly(name: str, tmp_path: Path, canonical: dict[str, Tensor]) -> None:
    file = save_hugging_face(tmp_path / "hf", canonical, name) / name
    assert state_digest(load_state(file)[1]) == state_digest(canonical)
    assert default_layers(file) == ()


def test_an_index_of_shards_may_be_given_directly_and_a_missing_shard_is_named(
    tmp_path: Path, canonical: dict[str, Tensor]
) -> None:
    folder = shard(save_hugging_face(tmp_path / "hf", canonical))
    index = folder / "model.safetensors.index.json"
    assert state_digest(load_state(index)[1]) == state_digest(canonical)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"1 of 2 files of weights missing: model-00002-of-00002\.safet"):
        load_state(folder)


@pytest.mark.parametrize("content", ["{}", "[]", '{"weight_map": {"a": "../b.safetensors"}}', '{"weight_map": 1}', "{"])
def test_an_index_that_is_none_is_one_line(content: str, tmp_path: Path, canonical: dict[str, Tensor]) -> None:
    folder = shard(save_hugging_face(tmp_path / "hf", canonical))
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(WeightsError, match="no index of sharded weights"):
        load_state(folder)


def test_a_folder_without_weights_says_what_it_lacks(tmp_path: Path, canonical: dict[str, Tensor]) -> None:
    folder = save_hugging_face(tmp_path / "hf", canonical)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"it lacks weights \(model\.safetensors, model\.safetensors\.index"):
        load_state(folder)
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"it lacks config\.json"):
        load_state(folder)


def test_frequencies_that_a_file_does_not_store_are_the_exact_ones(
    tmp_path: Path, canonical: dict[str, Tensor]
) -> None:
    without = {name: tensor for name, tensor in canonical.items() if not name.endswith("inv_freq")}
    _, state = load_state(save_hugging_face(tmp_path / "hf", without))
    exact = torch.tensor([1.0, 0.1, 0.01, 0.001])
    for layer in range(2):
        assert torch.equal(state[f"layers.{layer}.self_attn.rot_emb.inv_freq"], exact)


def test_frequencies_that_differ_between_layers_are_refused(tmp_path: Path, canonical: dict[str, Tensor]) -> None:
    odd = canonical | {"layers.1.self_attn.rot_emb.inv_freq": torch.ones(4)}
    with pytest.raises(WeightsError, match=r"rotary frequencies unlike the first layer's: layers\.1\.self_attn"):
        load_state(save_own(tmp_path / "a.safetensors", odd))


def test_fair_esms_heads_are_left_out(
    tmp_path: Path, fair_esm: dict[str, Tensor], canonical: dict[str, Tensor]
) -> None:
    assert len(fair_esm) > len(canonical) + 6
    _, state = load_state(save_fair_esm(tmp_path / "a.pt", fair_esm))
    assert set(state) == set(canonical)


def test_a_loaded_state_runs_as_fair_esm_does(tmp_path: Path, fair_esm: dict[str, Tensor]) -> None:
    reference = esm.ESM2(num_layers=2, embed_dim=32, attention_heads=4).eval()
    reference.load_state_dict(fair_esm)
    config, state = load_state(save_fair_esm(tmp_path / "a.pt", fair_esm))
    ours = ESM2(config).eval()
    ours.load_state_dict(state)
    tokens = torch.tensor([0, *range(4, 33), 2])
    with torch.no_grad():
        expected = reference(tokens[None], repr_layers=[0, 1, 2])["representations"]
        found = ours(tokens, torch.tensor([0, len(tokens)]), [0, 1, 2])
    for layer in range(3):
        scale = expected[layer].abs().max()
        assert (found[layer] - expected[layer][0]).abs().max() / scale < 1e-5


def test_a_folder_that_transformers_wrote_is_read(tmp_path: Path) -> None:
    import transformers  # takes seconds

    config = transformers.EsmConfig(
        vocab_size=33, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        pad_token_id=1, layer_norm_eps=1e-5, mask_token_id=32, position_embedding_type="rotary",
        token_dropout=True, emb_layer_norm_before=False,
    )  # fmt: skip
    model = randomised(transformers.EsmForMaskedLM(config))
    model.save_pretrained(tmp_path / "hf")
    found, state = load_state(tmp_path / "hf")
    assert found == SHAPE
    theirs = model.state_dict()
    for name in (name for name in state if not name.endswith("inv_freq")):  # it keeps one for all layers
        assert torch.equal(state[name], theirs[hugging_face_name(name)]), name


MERGE = r"merge them: model\.merge_and_unload\(\)\.save_pretrained\(FOLDER\) of peft, and give that folder"


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft's use of transformers
def test_adapters_that_are_not_merged_are_named_and_merged_ones_are_read(
    tmp_path: Path,
) -> None:
    import transformers  # takes seconds
    from peft import LoraConfig, get_peft_model

    config = transformers.EsmConfig(
        vocab_size=33, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        position_embedding_type="rotary", emb_layer_norm_before=False, token_dropout=True, pad_token_id=1,
        mask_token_id=32, layer_norm_eps=1e-5, name_or_path="facebook/esm2_tiny",
    )  # fmt: skip
    model = get_peft_model(transformers.EsmModel(config, add_pooling_layer=False), LoraConfig(target_modules=["query"]))
    model.save_pretrained(tmp_path / "adapters", save_embedding_layers=False)  # else it asks the network
    alone = r"adapters of PEFT \(LoRA\) of facebook/esm2_tiny, without the encoder that they change; " + MERGE
    for place in (tmp_path / "adapters", tmp_path / "adapters" / "adapter_model.safetensors"):
        with pytest.raises(WeightsError, match=alone):
            load_state(place)
    (tmp_path / "beside").mkdir()
    config.save_pretrained(tmp_path / "beside")
    save_file(dict(model.state_dict()), tmp_path / "beside" / "model.safetensors")
    torch.save(model.state_dict(), tmp_path / "state.pt")
    save_file(dict(model.state_dict()), tmp_path / "state.safetensors")
    for name in ("beside", "state.pt", "state.safetensors"):
        with pytest.raises(WeightsError, match=r"adapters of PEFT \(LoRA\) that are not merged into the .*; " + MERGE):
            load_state(tmp_path / name)
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    assert load_state(tmp_path / "merged")[0].layers == 2


def test_the_real_checkpoint_is_read(shared: Path | None) -> None:
    if shared is None:
        return  # the folder is no part of the project; the written ones above hold the same names
    config, state = load_state(shared / "weights/esm2_t6_8M_hemolysis")
    assert config == ModelConfig(6, 320, 20)
    assert (
        sum(tensor.numel() for tensor in state.values()) == 7_408_960 + 6 * 8
    )  # parameters, and six layers' rotary frequencies


def test_half_precision_files_have_the_digest_of_their_values(tmp_path: Path, canonical: dict[str, Tensor]) -> None:
    save_state(tmp_path / "half.safetensors", SHAPE, canonical, torch.float16)
    _, state = load_state(tmp_path / "half.safetensors")
    halved = {name: tensor.half() for name, tensor in canonical.items()}
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * sum(4 * t.numel() for t in canonical.values())
    assert state_digest(state) == state_digest(halved) != state_digest(canonical)
    assert state_digest(load_state(save_fair_esm(tmp_path / "half.pt", halved))[1]) == state_digest(halved)


@pytest.mark.parametrize("change", ["one bit", "name", "shape"])
def test_the_digest_changes_with_every_value_name_and_shape(change: str, canonical: dict[str, Tensor]) -> None:
    changed = {name: tensor.clone() for name, tensor in canonical.items()}
    bias = changed["emb_layer_norm_after.bias"]
    if change == "one bit":
        bias.view(torch.int32)[3] ^= 1
    elif change == "name":
        changed["emb_layer_norm_after.bias2"] = changed.pop("emb_layer_norm_after.bias")
    else:
        changed["emb_layer_norm_after.bias"] = bias[None]
    assert state_digest(changed) != state_digest(canonical)


def test_the_digest_does_not_depend_on_order_or_memory_layout(canonical: dict[str, Tensor]) -> None:
    turned = {name: tensor.t().contiguous().t() if tensor.ndim == 2 else tensor for name, tensor in canonical.items()}
    assert state_digest(dict(reversed(turned.items()))) == state_digest(canonical)


def test_the_token_dropout_of_the_checkpoint_is_kept(tmp_path: Path, canonical: dict[str, Tensor]) -> None:
    assert not load_state(save_fair_esm(tmp_path / "a.pt", canonical, token_dropout=False))[0].token_dropout
    assert not load_state(save_hugging_face(tmp_path / "hf", canonical, token_dropout=False))[0].token_dropout
    save_state(tmp_path / "a.safetensors", ModelConfig(2, 32, 4, token_dropout=False), canonical)
    assert not load_state(tmp_path / "a.safetensors")[0].token_dropout


def test_our_files_name_their_default_layers(tmp_path: Path, canonical: dict[str, Tensor]) -> None:
    save_state(tmp_path / "a.safetensors", SHAPE, canonical, layers=(1, 2))
    assert default_layers(tmp_path / "a.safetensors") == (1, 2)
    assert default_layers(save_own(tmp_path / "b.safetensors", canonical)) == ()
    assert default_layers(tmp_path / "c.pt") == ()


def test_a_folder_with_our_file_is_read(tmp_path: Path, canonical: dict[str, Tensor]) -> None:
    save_own(tmp_path / "encoder.safetensors", canonical)
    assert state_digest(load_state(tmp_path)[1]) == state_digest(canonical)


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_missing_unknown_and_misshapen_parameters_are_errors(
    origin: str, change: str, tmp_path: Path, canonical: dict[str, Tensor]
) -> None:
    state = dict(canonical)
    name = "layers.1.fc1.weight"
    if change == "missing":
        del state[name]
        expected = rf"parameters missing: {name} \(1 in all\)"
    elif change == "shape":
        state[name] = state[name][:, :-1].contiguous()
        expected = rf"other shapes: {name} \(1 in all\)"
    else:
        state["layers.2.fc1.weight"] = state[name].clone()
        expected = r"unknown parameters: layers\.2\.fc1\.weight \(1 in all\)"
    with pytest.raises(WeightsError, match=expected) as caught:
        load_state(ORIGINS[origin](tmp_path, state))
    assert "\n" not in str(caught.value)


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"cfg": Malicious(), "model": {}}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Malicious()))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(
            WeightsError, match=r"more than tensors is pickled in it.*; give its weights as safetens"
        ) as caught:
            load_state(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_one_line(origin: str, kept: float, tmp_path: Path, canonical: dict[str, Tensor]) -> None:
    path = ORIGINS[origin](tmp_path, canonical)
    file = path if path.is_file() else next(f for f in path.iterdir() if f.suffix != ".json")
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.raises(WeightsError, match=r"cannot be read \(") as caught:
        load_state(path)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"model": {}, "args": argparse.Namespace(arch="roberta_large")}, "no ESM-2 checkpoint of fair-esm"),
        ({"cfg": {"model": argparse.Namespace(encoder_layers=2)}, "model": {}}, "lacks 'encoder_embed_dim'"),
        ({"weight": torch.zeros(2)}, "no ESM-2 checkpoint of fair-esm"),
        (torch.zeros(2), "no ESM-2 checkpoint of fair-esm"),
    ],
)
def test_a_checkpoint_of_another_model_is_named_as_such(content: object, expected: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=expected):
        load_state(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_type": "bert"}, "another kind than ESM-2"),
        ({"position_embedding_type": "absolute"}, "another kind than ESM-2"),
        ({"emb_layer_norm_before": True}, "LayerNorm before the first layer"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps 1e-12 instead of 1e-05"),
        ({"hidden_size": None}, "no configuration of an ESM-2 model"),
        ({"hidden_size": 33}, "no configuration of an ESM-2 model"),
    ],
)
def test_a_configuration_of_another_model_is_refused(
    changes: dict[str, object], expected: str, tmp_path: Path, canonical: dict[str, Tensor]
) -> None:
    with pytest.raises(WeightsError, match=expected):
        load_state(save_hugging_face(tmp_path / "hf", canonical, **changes))


def test_a_folder_without_weights_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"needs config\.json and its weights"):
        load_state(tmp_path)


def test_a_path_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file or folder; check the path"):
        load_state(tmp_path / "nothing.pt")


def test_a_safetensors_file_of_someone_else_is_refused(tmp_path: Path, canonical: dict[str, Tensor]) -> None:
    save_file(canonical, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="format None instead of 'esmcls-encoder-1'"):
        load_state(tmp_path / "a.safetensors")


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, canonical: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_own(tmp_path / "a.safetensors", canonical)
    before = path.read_bytes()

    def fail(tensors: object, filename: Path, metadata: object) -> None:
        Path(filename).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save_file", fail)
    with pytest.raises(OSError, match="No space"):
        save_state(path, SHAPE, canonical)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_reading_weights_warns_of_nothing(tmp_path: Path, fair_esm: dict[str, Tensor]) -> None:
    path = save_fair_esm(tmp_path / "a.pt", fair_esm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_state(path)


def test_fair_esm_itself_is_not_needed_to_read_its_files(tmp_path: Path, fair_esm: dict[str, Tensor]) -> None:
    path = save_fair_esm(tmp_path / "a.pt", fair_esm)
    code = (
        "import sys; sys.modules['esm'] = sys.modules['transformers'] = None\n"
        "from esmcls.encoders.weights import load_state\n"
        "import sys; print(load_state(sys.argv[1])[0].layers)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"


@pytest.mark.parametrize("shape", [ModelConfig(2, 32, 4), ModelConfig(5, 256, 8)])
def test_the_shapes_asked_of_a_file_are_those_of_the_model(shape: ModelConfig) -> None:
    assert state_shapes(shape) == {name: tuple(tensor.shape) for name, tensor in ESM2(shape).state_dict().items()}
