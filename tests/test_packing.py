"""Proteins in packed streams: what is trained on is pooled as prediction pools it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import CONFIG, sequences, tiny_model

from esmcls.encoders.alphabet import BOS, EOS, MASK
from esmcls.encoders.esm2 import ESM2Encoder
from esmcls.encoders.windows import parse_long
from esmcls.errors import UnknownNameError
from esmcls.finetuning.packing import Proteins

SEQUENCES = sequences(24)
ROWS = np.arange(len(SEQUENCES))
LONG = ["full", "start:30", "balanced:30", "ends:30", "chunk:30", "window:30:12"]


def letters(tokens: torch.Tensor) -> int:
    return int((tokens > 2).sum())


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("long", LONG)
def test_a_protein_is_pooled_as_the_encoder_pools_it(long: str, pooling: str) -> None:
    model = tiny_model()
    encoder = ESM2Encoder("tiny", CONFIG, model.state_dict(), layers=(1, 2), long=long, precision="fp32")
    expected = encoder.encode(SEQUENCES, (pooling,)).pooled[pooling]
    found = np.zeros_like(expected)
    for packed in Proteins(SEQUENCES, parse_long(long), pooling).packed(ROWS, 200):
        with torch.no_grad():
            states = model(packed.tokens, packed.offsets, (1, 2))
        found[packed.rows] = packed.pool(torch.cat([states[1], states[2]], dim=1)).numpy()
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("budget", [1, 100, 10_000])
def test_every_row_is_in_one_stream_and_none_but_a_single_protein_exceeds_the_budget(budget: int) -> None:
    streams = list(Proteins(SEQUENCES, parse_long("full")).packed(ROWS, budget))
    assert sorted(np.concatenate([one.rows for one in streams])) == ROWS.tolist()
    assert all(len(one.tokens) <= budget or len(one.rows) == 1 for one in streams)
    lengths = [len(SEQUENCES[row]) for one in streams for row in one.rows]
    assert lengths == sorted(lengths)


def test_a_crop_is_as_long_as_asked_and_lies_where_it_is_put() -> None:
    text = "ACDEFGHIKL"
    proteins = Proteins([text, "AC"], parse_long("full"), crop=4)
    for place, inner in ((0.0, "ACDE"), (0.999, "HIKL"), (0.5, "EFGH")):
        [packed] = proteins.packed(np.array([0]), 100, np.array([place]))
        [expected] = Proteins([inner], parse_long("full")).packed(np.array([0]), 100)
        assert torch.equal(packed.tokens, expected.tokens)
    [short] = proteins.packed(np.array([1]), 100, np.array([0.7]))
    assert letters(short.tokens) == 2
    [whole] = proteins.packed(np.array([0]), 100)
    assert letters(whole.tokens) == len(text)


def test_masks_hide_their_share_of_the_residues_never_an_end_and_others_each_time() -> None:
    (packed,) = Proteins(["A" * 500, "C" * 500], parse_long("full")).packed(np.arange(2), 10_000)
    once, again, other = (packed.masked(0.2, np.random.default_rng(seed)) for seed in (1, 1, 2))
    ends = (packed.tokens == BOS) | (packed.tokens == EOS)
    hidden = once.tokens == MASK
    assert not (hidden & ends).any()
    assert float(hidden[~ends].float().mean()) == pytest.approx(0.2, abs=0.05)
    assert torch.equal(once.tokens[~hidden], packed.tokens[~hidden])
    assert torch.equal(once.tokens, again.tokens)
    assert not torch.equal(once.tokens, other.tokens)
    assert packed.masked(0.0, np.random.default_rng(1)) is packed


def test_a_pooling_that_cannot_be_trained_through_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown pooling for fine-tuning 'max'"):
        Proteins(SEQUENCES, parse_long("full"), "max")
