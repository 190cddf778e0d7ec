"""LoRA: attached through peft, merged without it, kept alone and opened again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, tiny_model, write_encoder

from esmcls.encoders.adapters import (
    FILE,
    TARGETS,
    Base,
    LoRA,
    adapted_digest,
    adapters_of,
    attach,
    base_of,
    merge_adapters,
    save_adapters,
)
from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.esm2 import with_ends
from esmcls.encoders.model import ESM2
from esmcls.encoders.weights import load_state, state_digest
from esmcls.errors import MissingExtraError, UnknownNameError, UsageError, WeightsError

TOKENS = torch.from_numpy(with_ends("MKTAYIAKQRQISFV").astype("int64"))
OFFSETS = torch.tensor([0, len(TOKENS)])
SOME = LoRA(rank=3, alpha=6, targets=("q_proj", "fc1"))


def adapted(lora: LoRA = SOME) -> ESM2:
    """Return a model whose adapters change something."""
    model = tiny_model()
    attach(model, lora, CONFIG.layers)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.3)
    return model


def last_state(model: ESM2) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS, OFFSETS, (CONFIG.layers,))[CONFIG.layers]


def test_fresh_adapters_change_nothing_and_are_all_that_is_trained() -> None:
    plain, model = tiny_model(), tiny_model()
    attach(model, SOME, CONFIG.layers)
    assert torch.equal(last_state(model), last_state(plain))
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    assert len(trained) == CONFIG.layers * 2 * len(SOME.targets)
    assert all(".lora_" in name for name in trained)


@pytest.mark.parametrize("lora", [SOME, LoRA()], ids=["some products", "all of them"])
def test_merged_is_what_it_was_when_attached(lora: LoRA) -> None:
    model, merged = adapted(lora), tiny_model()
    merged.load_state_dict(merge_adapters(base_of(model), adapters_of(model), lora))
    assert torch.allclose(last_state(merged), last_state(model), atol=1e-5)
    assert not torch.allclose(last_state(merged), last_state(tiny_model()), atol=1e-2)


def test_merging_adds_what_peft_says_the_change_is() -> None:
    model = adapted()
    merged = merge_adapters(base_of(model), adapters_of(model), SOME)
    layer = model.layers[1].fc1
    delta = merged["layers.1.fc1.weight"] - layer.base_layer.weight
    assert torch.allclose(delta, layer.get_delta_weight("default"), atol=1e-6)


def test_only_the_layers_asked_for_get_adapters() -> None:
    model = tiny_model()
    attach(model, SOME, 1)
    assert {name.split(".")[1] for name in adapters_of(model)} == {"0"}


def test_the_state_below_the_adapters_is_canonical_and_as_it_was() -> None:
    state, plain = base_of(adapted()), tiny_model().state_dict()
    assert state.keys() == plain.keys()
    assert all(torch.equal(state[name], plain[name]) for name in plain)


def test_adapters_kept_alone_open_as_the_encoder_they_make(tmp_path: Path) -> None:
    model, base = adapted(), write_encoder(tmp_path / "base.safetensors")
    origin = Base(str(base), state_digest(load_state(base)[1]))
    (tmp_path / "model").mkdir()
    save_adapters(tmp_path / "model" / FILE, adapters_of(model), SOME, origin, layers=[1, 2])
    opened = load_encoder(str(tmp_path / "model"), precision="fp32")
    assert (opened.layers, opened.width) == ((1, 2), 2 * CONFIG.width)
    assert opened.digest == adapted_digest(origin, adapters_of(model), SOME)
    with torch.no_grad():
        states = model(TOKENS, OFFSETS, (1, 2))
    expected = torch.cat([states[1], states[2]], dim=1)[1:-1].mean(0)
    assert torch.allclose(torch.from_numpy(opened.encode(["MKTAYIAKQRQISFV"]).pooled["mean"][0]), expected, atol=1e-4)


def test_adapters_of_another_encoder_are_refused(tmp_path: Path) -> None:
    model, base = adapted(), write_encoder(tmp_path / "base.safetensors", seed=5)
    save_adapters(tmp_path / FILE, adapters_of(model), SOME, Base(str(base), "c0ffee"), layers=[2])
    with pytest.raises(WeightsError, match=r"adapters of an encoder of digest c0ffee, but .*base.safetensors has"):
        load_encoder(str(tmp_path))


def test_the_digest_tells_adapters_scales_and_bases_apart() -> None:
    adapters, base = adapters_of(adapted()), Base("any", "00")
    other = {name: value + 1 for name, value in adapters.items()}
    digests = [
        adapted_digest(base, adapters, SOME),
        adapted_digest(base, other, SOME),
        adapted_digest(base, adapters, LoRA(rank=3, alpha=3)),
        adapted_digest(Base("any", "01"), adapters, SOME),
    ]
    assert len(set(digests)) == 4
    assert adapted_digest(Base("elsewhere", "00"), adapters, SOME) == digests[0]


@pytest.mark.parametrize("content", [b"no adapters", b""])
def test_a_damaged_file_of_adapters_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(WeightsError, match=r"adapters.safetensors: cannot be read"):
        load_encoder(str(tmp_path))


def test_without_peft_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"LoRA needs the package peft; run: pip install 'esmcls\[finetune\]'"):
        attach(tiny_model(), SOME, 2)


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="LoRA of rank 0"):
        LoRA(rank=0)
    with pytest.raises(UnknownNameError, match="unknown LoRA target 'query'"):
        LoRA(targets=("query",))
    assert LoRA().targets == TARGETS
