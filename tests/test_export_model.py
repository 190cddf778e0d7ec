"""A model for other programs: transformers, PEFT and ONNX Runtime give what it gives; what cannot go is one line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from command import done, run
from ontologies import write_cafa, write_obo
from tiny import write_encoder, write_set

from esmcls.cache.features import Features
from esmcls.encoders import devices
from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.weights import load_state, state_digest
from esmcls.errors import FolderError, ModelError, UnknownNameError, UsageError
from esmcls.models.folder import load_model, read_manifest
from esmcls.models.model import Model
from esmcls.models.sharing.export_model import export_model, weights_of

Floats = npt.NDArray[np.float32]
SHORT = ("--epochs", "1", "--batch", "16", "--start", "zero", "--device", "cpu", "--precision", "fp32")
SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQ", "MVUBZOX", "GGGGGGGWWWWWWWWWWWWWWWWWWWWWWWWKKKKKK"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with an encoder tuned as a whole, and adapters of one; the encoder they begin with beside it."""
    folder = tmp_path_factory.mktemp("place")
    encoder = write_encoder(folder / "tiny.safetensors")
    done("embed", write_set(folder / "set.csv"), "--encoder", encoder, "-w", folder / "w", "--device", "cpu")
    tune = ("finetune", "-w", folder / "w", "--encoder", encoder, *SHORT)
    done(*tune, "--method", "full", "--name", "full", "--lr", "1e-3")
    done(*tune, "--method", "lora", "--adapters-only", "--name", "adapters", "--lr", "1e-2", "--epochs", "3")
    done("fit", "--head", "knn", "-w", folder / "w")
    return folder


@pytest.fixture
def _quiet() -> Iterator[None]:
    """Transformers warns of layers that a bare model has and a file has not, and of its own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def model_of(place: Path, name: str) -> Model:
    return load_model(place / "w" / "models" / name)


def by_transformers(model: Any, folder: Path, sequences: list[str], layers: tuple[int, ...]) -> Floats:
    """Return the mean over residues of hidden states side by side, one sequence at a time."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for sequence in sequences:
        with torch.no_grad():
            states = model(**tokenizer(sequence, return_tensors="pt"), output_hidden_states=True).hidden_states
        rows.append(torch.cat([states[layer][0, 1:-1].mean(0) for layer in layers]).numpy())
    return np.stack(rows)


# transformers


def test_an_encoder_of_int8_vectors_is_exported_by_its_weights(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "why_slow", lambda *_: None)
    words = ("--encoder", place / "tiny.safetensors", "--precision", "int8", "--device", "cpu")
    done("embed", place / "set.csv", "-w", tmp_path / "w", *words)
    done("fit", "--head", "knn", "-w", tmp_path / "w")
    model = load_model(tmp_path / "w" / "models" / "knn")
    exported = weights_of(model)
    assert exported.digest != model.spec.digest
    assert exported.digest == load_encoder(str(place / "tiny.safetensors"), precision="fp32").digest


@pytest.mark.usefixtures("_quiet")
def test_transformers_opens_a_tuned_encoder_and_makes_our_vectors(place: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    model = model_of(place, "full")
    export_model(model, tmp_path / "hf", format="hf")
    theirs = AutoModel.from_pretrained(tmp_path / "hf").eval()
    found = by_transformers(theirs, tmp_path / "hf", SEQUENCES, model.spec.layers)
    expected = model.encoder.encode(SEQUENCES).pooled["mean"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_exported_encoder_is_the_same_encoder(place: Path, tmp_path: Path) -> None:
    model = model_of(place, "full")
    ran = done("export", "--model", "full", "--format", "hf", "-o", tmp_path / "hf", "-w", place / "w")
    assert ran.out == f"{tmp_path / 'hf'}: the encoder, for transformers, of model full\n"
    opened = load_encoder(str(tmp_path / "hf"), layers=model.spec.layers, device="cpu")
    assert opened.digest == model.spec.digest
    assert sorted(file.name for file in (tmp_path / "hf").iterdir()) == [
        *("README.md", "config.json", "model.safetensors"),
        *("special_tokens_map.json", "tokenizer_config.json", "vocab.txt"),
    ]


def test_rounded_frequencies_go_out_as_they_are(place: Path, tmp_path: Path) -> None:
    from esmcls.encoders.huggingface.esm2_folder import save_hugging_face

    config, state = load_state(place / "tiny.safetensors")
    rounded = {name: tensor.half().float() for name, tensor in state.items()}
    (tmp_path / "hf").mkdir()
    save_hugging_face(tmp_path / "hf", config, rounded)
    assert state_digest(load_state(tmp_path / "hf")[1]) == state_digest(rounded) != state_digest(state)


# PEFT


@pytest.mark.usefixtures("_quiet")
def test_peft_takes_the_adapters_and_merged_they_make_our_vectors(place: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    model = model_of(place, "adapters")
    export_model(model, tmp_path / "peft", format="peft")
    base = tmp_path / "peft" / "base"
    adapted = PeftModel.from_pretrained(AutoModel.from_pretrained(base), tmp_path / "peft").eval()
    expected = model.encoder.encode(SEQUENCES).pooled["mean"]
    alike: dict[str, Any] = {"layers": model.spec.layers, "precision": "fp32", "device": "cpu"}
    plain = load_encoder(str(base), **alike).encode(SEQUENCES).pooled["mean"]
    assert np.abs(plain - expected).max() > 1e-4  # the adapters change something
    np.testing.assert_allclose(by_transformers(adapted, base, SEQUENCES, model.spec.layers), expected, atol=1e-5)
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = load_encoder(str(tmp_path / "merged"), **alike)
    np.testing.assert_allclose(merged.encode(SEQUENCES).pooled["mean"], expected, atol=1e-5)


def test_adapters_of_a_published_encoder_name_it_as_the_hub_does(place: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from esmcls.encoders.adapters import FILE, Base, LoRA, save_adapters
    from esmcls.models.sharing.peft_folder import write_peft_folder

    (tmp_path / "peft").mkdir()
    tensors = load_file(place / "w" / "models" / "adapters" / FILE)
    save_adapters(tmp_path / FILE, tensors, LoRA(), Base("esm2_t6_8M_UR50D", "0"), layers=[2])
    write_peft_folder(tmp_path / "peft", tmp_path)
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "facebook/esm2_t6_8M_UR50D"
    assert not (tmp_path / "peft" / "base").exists()


def test_a_model_without_adapters_says_how_to_have_some(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no adapters of its own; train some: esmcls finetune --method lora"):
        export_model(model_of(place, "full"), tmp_path / "peft", format="peft")
    assert list(tmp_path.iterdir()) == []


# ONNX


def by_onnxruntime(path: Path, vectors: Floats) -> Floats:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [found] = session.run(["probabilities"], {"vectors": vectors.astype(np.float32)})
    return np.asarray(found)


HEADS = {
    "linear": ("linear",),
    "standardised": ("linear", "--set", "whiten", "false"),
    "mlp": ("mlp", "--set", "epochs", "20"),
    "deep": ("mlp", "--set", "epochs", "20", "--set", "depth", "2", "--set", "norm", "layer", "--set", "hidden", "8"),
    "batch": ("mlp", "--set", "epochs", "20", "--set", "norm", "batch", "--set", "whiten", "false"),
}


@pytest.mark.parametrize("name", HEADS)
def test_onnxruntime_gives_the_probabilities_of_the_model(name: str, place: Path, tmp_path: Path) -> None:
    done("fit", "--head", *HEADS[name], "--name", name, "-w", place / "w")
    model = model_of(place, name)
    export_model(model, tmp_path / "model.onnx", format="onnx")
    vectors = np.random.default_rng(0).normal(size=(50, model.spec.width)).astype(np.float32)
    vectors[0] = 0.0
    expected = model.probabilities(Features.from_arrays(vectors.astype(model.spec.dtype)))
    found = by_onnxruntime(tmp_path / "model.onnx", vectors)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0.01  # not all alike


def test_a_file_of_onnx_says_what_its_columns_are_and_whose_vectors_it_takes(place: Path, tmp_path: Path) -> None:
    import onnxruntime

    path = tmp_path / "model.onnx"
    ran = done("export", "--model", "full", "--format", "onnx", "-o", path, "-w", place / "w")
    assert ran.out == f"{path}: the head, of model full\n"
    manifest = read_manifest(place / "w" / "models" / "full")
    about = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert tuple(json.loads(about["classes"])) == manifest.classes
    assert about["encoder_digest"] == manifest.spec.digest
    assert (json.loads(about["layers"]), about["pooling"]) == ([1, 2], "mean")


@pytest.mark.parametrize("head", ["linear", "mlp", "multitask"])
def test_onnxruntime_raises_terms_as_the_model_does(head: str, tmp_path: Path) -> None:
    train, _, table = write_cafa(tmp_path)
    obo = write_obo(tmp_path / "go.obo")
    done("embed", train, "--labels", table, "--obo", obo, "--encoder", "composition", "-w", tmp_path / "w")
    done("fit", "--head", head, "--set", "epochs", "2", "-w", tmp_path / "w")
    model = model_of(tmp_path, head)
    layer = model.head.network.out  # of which the head contradicts the ontology
    layer.bias.zero_()
    layer.weight.copy_(torch.from_numpy(np.random.default_rng(0).normal(scale=0.1, size=layer.weight.shape)))
    export_model(model, tmp_path / "model.onnx", format="onnx")
    vectors = np.random.default_rng(1).normal(size=(40, model.spec.width)).astype(np.float32)
    x = Features.from_arrays(vectors.astype(model.spec.dtype))
    expected = model.probabilities(x)
    assert (expected != model.head.predict_proba(x)).any()  # some were raised
    np.testing.assert_allclose(by_onnxruntime(tmp_path / "model.onnx", vectors), expected, atol=1e-5)


def test_a_head_without_a_form_in_onnx_says_which_have_one(place: Path, tmp_path: Path) -> None:
    problem = r"model knn: its head, knn, has no form in ONNX; fit linear, mlp or multitask"
    with pytest.raises(UsageError, match=problem):
        export_model(model_of(place, "knn"), tmp_path / "model.onnx", format="onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_head_that_weighs_chunks_has_no_form_in_onnx(place: Path, tmp_path: Path) -> None:
    encoder = place / "tiny.safetensors"
    done("embed", place / "set.csv", "--encoder", encoder, "--chunks", "-w", tmp_path / "w", "--device", "cpu")
    done("fit", "--head", "mlp", "--set", "attention", "true", "--set", "epochs", "1", "-w", tmp_path / "w")
    with pytest.raises(UsageError, match="its head weighs the chunks of a protein, where ONNX is given one vector"):
        export_model(model_of(tmp_path, "mlp"), tmp_path / "model.onnx", format="onnx")


# what cannot go out


def test_an_encoder_that_is_no_esm2_is_one_line(tmp_path: Path) -> None:
    done("embed", write_set(tmp_path / "set.csv"), "--encoder", "composition", "-w", tmp_path / "w")
    done("fit", "--head", "knn", "-w", tmp_path / "w")
    with pytest.raises(UsageError, match=r"model knn: its encoder composition is no ESM-2 that is here"):
        export_model(model_of(tmp_path, "knn"), tmp_path / "hf", format="hf")
    assert not (tmp_path / "hf").exists()


def test_nothing_that_is_there_is_replaced(place: Path, tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "mine").write_text("mine")
    with pytest.raises(FolderError, match="is there already; name a new folder"):
        export_model(model_of(place, "full"), tmp_path / "hf", format="hf")
    with pytest.raises(FolderError, match="its folder does not exist; make the folder, or write elsewhere"):
        export_model(model_of(place, "full"), tmp_path / "no" / "hf", format="hf")
    assert [path.name for path in tmp_path.rglob("*")] == ["hf", "mine"]


def test_a_failed_export_leaves_nothing(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path, *_: object) -> None:
        (folder / "half").write_text("written")
        raise RuntimeError("broken")

    monkeypatch.setattr("esmcls.models.sharing.export_model.save_hugging_face", broken)
    with pytest.raises(RuntimeError, match="broken"):
        export_model(model_of(place, "full"), tmp_path / "hf", format="hf")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_gets_a_suggestion(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'onnx'"):
        export_model(model_of(place, "full"), tmp_path / "a", format="onx")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--format", "hf"), "--format hf writes a model; name it with --model (vectors: npz, h5, parquet)"),
        (("--format", "npz", "--model", "full"), "--format npz is of vectors; a model is written as hf, peft, onnx"),
        (("--format", "hf", "--model", "full", "--pool", "max"), "--pool says nothing of a model; leave it out"),
        (("in.fasta", "--format", "hf", "--model", "full"), "INPUT says nothing of a model; leave it out"),
    ],
)
def test_options_that_do_not_fit_together_are_one_line(options: tuple[str, ...], problem: str, place: Path) -> None:
    ran = run("export", *options, "-o", place / "out", "-w", place / "w")
    assert (ran.code, ran.err) == (2, f"esmcls: error: {problem}\n")
