from __future__ import annotations

import pytest
import torch
from fair import ALL_TOKENS, CONFIG, canonical, random_fair_esm, random_tokens, reference

from esmcls.encoders.alphabet import BOS, EOS, MASK
from esmcls.encoders.model import ESM2, ModelConfig, SelfAttention, attend, equal_length_groups

LAYERS = [0, 1, 2]


def trainable(config: ModelConfig = CONFIG) -> tuple[ESM2, object]:
    fair = random_fair_esm(config)
    model = ESM2(config)
    model.load_state_dict(canonical(fair))
    return model.eval(), fair


def packed(model: ESM2, tokens: list[list[int]], layers: list[int] = LAYERS) -> list[dict[int, torch.Tensor]]:
    lengths = torch.tensor([len(one) for one in tokens])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    with torch.no_grad():
        states = model(torch.tensor([token for one in tokens for token in one]), offsets, layers)
    return [
        {layer: state[start:stop] for layer, state in states.items()}
        for start, stop in zip(offsets.tolist(), offsets.tolist()[1:], strict=False)
    ]


def worst(ours: list[dict[int, torch.Tensor]], theirs: list[dict[int, torch.Tensor]]) -> float:
    return max(float((a[layer] - b[layer]).abs().max()) for a, b in zip(ours, theirs, strict=True) for layer in b)


@pytest.mark.parametrize("token_dropout", [True, False])
@pytest.mark.parametrize("length", [1, 2, 50, 1022, 1100])
def test_every_layer_of_a_single_sequence_is_fair_esms(length: int, token_dropout: bool) -> None:
    model, fair = trainable(ModelConfig(2, 32, 4, token_dropout))
    tokens = [random_tokens(length)]
    assert worst(packed(model, tokens), reference(fair, tokens, LAYERS)) <= 1e-5


def test_every_token_is_fair_esms_with_masks_too() -> None:
    model, fair = trainable()
    tokens = [[BOS, *ALL_TOKENS, EOS], [BOS, MASK, 5, MASK, EOS], [BOS, 4, 5, EOS]]
    assert worst(packed(model, tokens), reference(fair, tokens, LAYERS)) <= 1e-5


def test_a_packed_batch_is_fair_esms_padded_batch() -> None:
    model, fair = trainable()
    tokens = [random_tokens(length, seed) for seed, length in enumerate([7, 1, 30, 30, 12, 200])]
    assert worst(packed(model, tokens), reference(fair, tokens, LAYERS)) <= 1e-5


def test_only_layers_asked_for_are_returned_and_wrong_ones_refused() -> None:
    model, _ = trainable()
    assert set(packed(model, [random_tokens(4)], [1])[0]) == {1}
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match="layers are 0 to 2"):
            packed(model, [random_tokens(4)], [wrong])


def test_every_parameter_that_layer_two_needs_gets_a_gradient() -> None:
    model, _ = trainable()
    tokens = torch.tensor(random_tokens(9))
    model(tokens, torch.tensor([0, len(tokens)]), [2])[2].square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_a_cpu_attends_in_fp32_to_what_autocast_made_bf16() -> None:
    torch.manual_seed(0)
    q, k, v = (4 * torch.randn(1, 50, 2, 8).bfloat16() for _ in range(3))  # scores that bf16 would round by .1 and more
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(q, k, v)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, attend(q.float(), k.float(), v.float()).bfloat16())


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="width 30 must be a multiple of twice the number of heads"):
        ModelConfig(2, 30, 4)


def test_only_neighbours_of_equal_length_are_grouped() -> None:
    assert equal_length_groups([3, 3, 4, 3]) == [(2, 3), (1, 4), (1, 3)]
    assert equal_length_groups([]) == []


@pytest.mark.parametrize("tokens", [0, 7])
def test_query_key_and_value_are_the_same_of_one_product_and_of_three(tokens: int) -> None:
    torch.manual_seed(0)
    attention = SelfAttention(16, 2)
    x = torch.randn(tokens, 16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        joint = attention.query_key_value(x)
        attention.apart = True
        apart = attention.query_key_value(x)
    assert [part.shape for part in joint] == [(tokens, 16)] * 3
    torch.testing.assert_close(joint, apart, atol=1e-2, rtol=1e-2)
