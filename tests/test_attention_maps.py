"""Attention maps of ESM-2: as transformers computes them, symmetrised, of sequences in several inputs, and read."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from origins import randomised
from test_pair_heads import SMALL, proteins

from esmcls.cache.features import Features
from esmcls.encoders.encoder import GivesAttention, load_encoder
from esmcls.encoders.esm2 import ESM2Encoder, symmetrised
from esmcls.encoders.weights import load_state
from esmcls.errors import UsageError, WidthMismatchError
from esmcls.heads.pairs.head import PairsHead

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """The architecture of ESM-2 8M with random weights, by transformers, and the folder it was saved in."""
    import transformers  # takes seconds

    config = transformers.EsmConfig(
        vocab_size=33, hidden_size=320, num_hidden_layers=6, num_attention_heads=20, intermediate_size=1280,
        pad_token_id=1, layer_norm_eps=1e-5, mask_token_id=32, position_embedding_type="rotary",
        token_dropout=True, emb_layer_norm_before=False, attn_implementation="eager",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("esm2")
    model = randomised(transformers.EsmForMaskedLM(config)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight *= 0.1 if "query" in name or "key" in name else 1.0  # else it attends to one residue alone
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture
def ours(theirs):
    def open_with(**options):
        config, state = load_state(theirs[1])
        return ESM2Encoder("random", config, state, precision="fp32", **options)

    return open_with


def test_the_attention_of_all_layers_and_heads_is_that_of_transformers(theirs, ours):
    encoder = ours()
    tokens = torch.from_numpy(encoder.tokens_of(SEQUENCE))
    with torch.no_grad():
        expected = theirs[0](tokens[None].long(), output_attentions=True).attentions
    layers = list(encoder.model.attentions(tokens))
    assert len(layers) == len(expected) == 6
    for layer, other in zip(layers, expected, strict=True):
        assert layer.shape == (20, 35, 35)
        assert (layer - other[0]).abs().max() < 1e-5


def test_maps_are_of_residues_alone_symmetric_and_less_the_average_product(ours):
    encoder = ours()
    assert isinstance(encoder, GivesAttention)
    assert encoder.attention_heads == 120
    attention = next(encoder.model.attentions(torch.from_numpy(encoder.tokens_of(SEQUENCE))))
    layer = next(encoder.attention_maps(SEQUENCE))
    both = attention[3, 1:-1, 1:-1] + attention[3, 1:-1, 1:-1].T
    by_hand = both - torch.outer(both.sum(0), both.sum(1)) / both.sum()
    assert torch.allclose(layer[3], by_hand, atol=1e-6)
    assert torch.allclose(layer, layer.transpose(1, 2), atol=1e-6)
    assert layer.sum((1, 2)).abs().max() < 1e-3


def test_of_a_sequence_in_several_inputs_shared_pairs_have_the_mean_and_unseen_ones_nothing(ours):
    whole = next(ours(long="window:20:10").attention_maps(SEQUENCE))
    parts = [next(ours().attention_maps(part)) for part in (SEQUENCE[:20], SEQUENCE[10:30], SEQUENCE[13:])]
    assert whole.shape == (20, 33, 33)
    assert torch.allclose(whole[:, :10, :10], parts[0][:, :10, :10], atol=1e-5)
    mean = (parts[0][:, 10:13, 10:13] + parts[1][:, :3, :3]) / 2
    assert torch.allclose(whole[:, 10:13, 10:13], mean, atol=1e-5)
    assert (whole[:, 0, 25] == 0).all()


def test_the_average_product_of_a_map_of_two_residues_by_hand():
    assert symmetrised(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])).tolist() == [[[-1.0, 1.0], [1.0, -1.0]]]


def with_encoder(x, encoder):
    return Features.from_arrays(x.vectors(), x.sequences, x.ids, residues=list(x.residues()), encoder=lambda: encoder)


def test_a_head_reads_maps_and_answers_the_same_to_the_bit_when_reloaded(ours, tmp_path):
    encoder = ours()
    x, labels = proteins(range(8))
    x = with_encoder(x, encoder)
    config = dataclasses.replace(SMALL, attention=True, epochs=1, batch=2)
    head = PairsHead(config).fit(x, labels, (x, labels))
    assert head.network.map_scale.shape == (120,)
    assert not torch.equal(head.network.map_scale, torch.ones(120))
    plain = PairsHead(dataclasses.replace(config, attention=False)).fit(x, labels, (x, labels))
    assert head.scores != plain.scores
    head.save(tmp_path)
    loaded = PairsHead.load(tmp_path, head.chosen, ())
    [answer], [other] = head.per_protein(x.take([3])), loaded.per_protein(x.take([3]))
    assert np.array_equal(answer.distogram, other.distogram)


def test_an_encoder_without_attention_is_told():
    x, labels = proteins(range(3))
    x = with_encoder(x, load_encoder("kmer"))
    with pytest.raises(UsageError, match=r"encoder .* gives no attention maps; take an ESM-2, or --set attention fal"):
        PairsHead(dataclasses.replace(SMALL, attention=True)).fit(x, labels, (x, labels))


def test_maps_of_another_encoder_than_the_head_was_trained_with_are_refused(theirs, ours):
    config, state = load_state(theirs[1])
    less = ESM2Encoder(
        "less", dataclasses.replace(config, layers=3), {k: v for k, v in state.items() if "layers.5" not in k},
        precision="fp32",
    )  # fmt: skip
    x, labels = proteins(range(4))
    head = PairsHead(dataclasses.replace(SMALL, attention=True, epochs=1)).fit(
        with_encoder(x, less), labels, (with_encoder(x, less), labels)
    )
    with pytest.raises(WidthMismatchError):
        next(head.per_protein(with_encoder(x, ours())))
