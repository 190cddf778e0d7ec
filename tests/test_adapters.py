"""LoRA: attached as peft does it, merged, kept alone and opened again."""

from __future__ import annotations

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
    hold_frozen,
    merge_adapters,
    save_adapters,
    without_adapters,
)
from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.esm2 import with_ends
from esmcls.encoders.model import ESM2
from esmcls.encoders.weights import load_state, state_digest
from esmcls.errors import UnknownNameError, UsageError, WeightsError
from esmcls.training.products import Adapted, joint_product

TOKENS = torch.from_numpy(with_ends("MKTAYIAKQRQISFV").astype("int64"))
OFFSETS = torch.tensor([0, len(TOKENS)])
SOME = LoRA(rank=3, alpha=6, targets=("q_proj", "fc1"))


def adapted(lora: LoRA = SOME) -> ESM2:
    """Return a model whose adapters change something."""
    model = tiny_model()
    torch.manual_seed(1)
    attach(model, lora, CONFIG.layers)
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
    merged.load_state_dict(merge_adapters(without_adapters(model), adapters_of(model), lora))
    assert torch.allclose(last_state(merged), last_state(model), atol=1e-5)
    assert not torch.allclose(last_state(merged), last_state(tiny_model()), atol=1e-2)


@pytest.mark.parametrize("lora", [SOME, LoRA(rank=4, alpha=4)], ids=["some products", "all of them"])
def test_states_and_gradients_are_pefts(lora: LoRA) -> None:
    peft = pytest.importorskip("peft")
    own, theirs = adapted(lora), tiny_model()
    config = peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets))
    peft.inject_adapter_in_model(config, theirs)
    adapters = {f"{name[:-2]}.lora_{name[-1]}.default.weight": value for name, value in adapters_of(own).items()}
    assert not theirs.load_state_dict(adapters, strict=False).unexpected_keys
    state = own(TOKENS, OFFSETS, (CONFIG.layers,))[CONFIG.layers]
    state.sin().sum().backward()
    pefts_state = theirs(TOKENS, OFFSETS, (CONFIG.layers,))[CONFIG.layers]
    pefts_state.sin().sum().backward()
    assert torch.allclose(state, pefts_state, atol=1e-5)
    expected = {name: value.grad for name, value in theirs.named_parameters() if value.requires_grad}
    assert len(expected) == 2 * CONFIG.layers * len(lora.targets)
    for name, value in own.named_parameters():
        if value.requires_grad:
            torch.testing.assert_close(value.grad, expected[f"{name}.default.weight"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("adapted_ones", [(), (0, 2), (0, 1, 2)], ids=str)
def test_one_product_of_several_layers_has_the_values_and_gradients_of_each(adapted_ones: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(8, 6) for _ in range(3)]
    for number in adapted_ones:
        layers[number] = Adapted(layers[number], rank=2, scale=3.0)
        torch.nn.init.normal_(layers[number].lora_B, std=0.1)
    states, gradients = [], []
    for product in (joint_product, lambda x, layers: torch.cat([layer(x) for layer in layers], dim=1)):
        x = torch.linspace(-1, 1, 40).view(5, 8).requires_grad_()
        states.append(product(x, layers))
        adapters = [part for number in adapted_ones for part in (layers[number].lora_A, layers[number].lora_B)]
        weights = adapters or [value for layer in layers for value in layer.parameters()]
        gradients.append(torch.autograd.grad(states[-1].sin().sum(), [x, *weights]))
    torch.testing.assert_close(states[0], states[1], atol=1e-6, rtol=1e-6)
    for one, each in zip(*gradients, strict=True):
        torch.testing.assert_close(one, each, atol=1e-6, rtol=1e-6)


def test_adapters_have_the_same_gradients_where_nobody_wants_that_of_what_goes_in() -> None:
    torch.manual_seed(0)
    layer = Adapted(torch.nn.Linear(8, 6).requires_grad_(False), rank=2, scale=3.0)
    torch.nn.init.normal_(layer.lora_B, std=0.1)
    of_adapters = []
    for wanted in (True, False):
        x = torch.linspace(-1, 1, 40).view(5, 8).requires_grad_(wanted)
        of_adapters.append(torch.autograd.grad(layer(x).sin().sum(), [layer.lora_A, layer.lora_B]))
    torch.testing.assert_close(*of_adapters, atol=0, rtol=0)


def test_fresh_adapters_are_drawn_as_pefts_are() -> None:
    model = tiny_model()
    torch.manual_seed(2)
    attach(model, LoRA(rank=64), CONFIG.layers)
    drawn = adapters_of(model)
    assert not any(value.any() for name, value in drawn.items() if name.endswith(".B"))
    bound = CONFIG.width**-0.5  # kaiming_uniform_(a=sqrt(5))
    assert 0.98 * bound < float(drawn["layers.0.fc1.A"].abs().max()) <= bound


@pytest.mark.parametrize("lora", [SOME, LoRA()], ids=["some products", "all of them"])
def test_products_that_stay_are_held_in_bf16_and_give_what_autocast_makes_of_them(lora: LoRA) -> None:
    def trained(held: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
        model = adapted(lora)
        if held:
            hold_frozen(model, torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16):
            state = model(TOKENS, OFFSETS, (CONFIG.layers,))[CONFIG.layers]
        state.sin().sum().backward()
        return state.detach(), [value.grad for value in model.parameters() if value.grad is not None]

    (expected, gradients), (state, same_gradients) = trained(False), trained(True)
    assert torch.equal(state, expected)
    assert all(torch.equal(*pair) for pair in zip(gradients, same_gradients, strict=True))


def test_only_the_layers_asked_for_get_adapters() -> None:
    model = tiny_model()
    attach(model, SOME, 1)
    assert {name.split(".")[1] for name in adapters_of(model)} == {"0"}


def test_the_state_below_the_adapters_is_canonical_and_as_it_was() -> None:
    state, plain = without_adapters(adapted()), tiny_model().state_dict()
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


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="LoRA of rank 0"):
        LoRA(rank=0)
    with pytest.raises(UnknownNameError, match="unknown LoRA target 'query'"):
        LoRA(targets=("query",))
    assert LoRA().targets == TARGETS
