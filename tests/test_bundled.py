"""The encoder that comes with the package: small enough, of ESM-2's layout, and the one that its page describes."""

from __future__ import annotations

from pathlib import Path

import esm
import pytest
from safetensors import safe_open

from esmcls.encoders.model import ModelConfig
from esmcls.encoders.sources.places import bundled_path
from esmcls.encoders.weights import default_layers, load_state, state_digest

PAGE = Path(__file__).parents[1] / "docs" / "bundled-encoder.md"


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return load_state(bundled_path())[0]


def test_it_has_at_most_six_million_parameters_and_twelve_megabytes_in_fp16(config: ModelConfig) -> None:
    with safe_open(bundled_path(), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {str(value.dtype) for name, value in tensors.items() if "inv_freq" not in name} == {"torch.float16"}
    assert sum(value.numel() for value in tensors.values()) <= 6_000_000
    assert bundled_path().stat().st_size <= 12_000_000
    assert config.width // config.heads >= 32


def test_fair_esm_takes_it_with_the_language_model_and_contact_heads_alone_missing(config: ModelConfig) -> None:
    model = esm.ESM2(num_layers=config.layers, embed_dim=config.width, attention_heads=config.heads)
    missing, unexpected = model.load_state_dict(load_state(bundled_path())[1], strict=False)
    assert unexpected == []
    assert missing
    assert all(name.startswith(("lm_head", "contact_head")) for name in missing)


def test_its_default_layers_are_among_its_own(config: ModelConfig) -> None:
    layers = default_layers(bundled_path())
    assert layers
    assert set(layers) <= set(range(1, config.layers + 1))


@pytest.mark.skipif(not PAGE.exists(), reason="an installed wheel has no docs")
def test_its_page_is_about_this_file() -> None:
    assert state_digest(load_state(bundled_path())[1]) in PAGE.read_text(encoding="utf-8")
