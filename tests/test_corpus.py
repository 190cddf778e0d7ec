"""What an encoder is trained on: crops, pairs of one family, masked residues."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from esmcls.encoders.alphabet import BOS, EOS, MASK, TOKENS, tokenize
from esmcls.errors import UsageError
from esmcls.pretraining.corpus import Batch, Corpus

SIZES = {"tokens": 128, "shortest": 8, "longest": 32}


@pytest.fixture(scope="module")
def sequences() -> list[str]:
    random = np.random.default_rng(0)
    return ["".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), size=size)) for size in random.integers(5, 60, 40)]


def crops_of(batch: Batch) -> list[str]:
    bounds = pairwise(batch.offsets.tolist())
    return ["".join(TOKENS[token] for token in batch.tokens[start + 1 : end - 1]) for start, end in bounds]


def test_crops_are_pieces_of_the_corpus_between_bos_and_eos(sequences: list[str]) -> None:
    batch = Corpus(sequences, **SIZES).batch(3)
    assert len(batch.tokens) <= 128
    assert set(batch.tokens[batch.offsets[:-1]].tolist()) == {BOS}
    assert set(batch.tokens[batch.offsets[1:] - 1].tolist()) == {EOS}
    for crop, source in zip(crops_of(batch), batch.families.tolist(), strict=True):
        assert crop in sequences[source]


def test_a_batch_is_a_function_of_seed_and_step_alone(sequences: list[str]) -> None:
    first, second = (Corpus(sequences, **SIZES) for _ in range(2))
    second.batch(0)
    assert torch.equal(first.batch(5).tokens, second.batch(5).tokens)
    other = Corpus(sequences, **SIZES, seed=1)
    assert not torch.equal(first.batch(5).tokens[:40], other.batch(5).tokens[:40])


def test_replicas_of_a_step_see_other_crops_and_as_many(sequences: list[str]) -> None:
    corpus = Corpus(sequences, **SIZES)
    for step in range(20):
        first, second = corpus.batch(step), corpus.batch(step, replica=1)
        assert len(first.offsets) == len(second.offsets)
        assert not torch.equal(first.tokens, second.tokens)


def test_with_families_half_of_the_crops_have_a_relative_where_they_can(sequences: list[str]) -> None:
    families = [number // 2 for number in range(len(sequences))]
    for step in range(20):
        found = Corpus(sequences, families, **SIZES).batch(step).families
        related = (found[:, None] == found).sum(1) > 1
        assert int(related.sum()) >= len(found) // 2 * 2


def test_a_partner_is_every_other_member_of_the_family_and_never_the_sequence_itself(sequences: list[str]) -> None:
    families = [0, 1, 0, 2, 0, *range(3, 38)]
    partners = Corpus(sequences, families, **SIZES).partners
    assert partners is not None
    drawn = partners.draw(np.full(200, 2), np.full(200, 9), np.random.default_rng(0))
    assert set(drawn.tolist()) == {0, 4}
    assert partners.draw(np.array([3]), np.array([9]), np.random.default_rng(0)).tolist() == [9]  # alone: another one


def test_a_corpus_without_relatives_is_refused(sequences: list[str]) -> None:
    with pytest.raises(UsageError, match="no cluster has two members"):
        Corpus(sequences, range(len(sequences)), **SIZES)


def test_an_empty_corpus_is_refused() -> None:
    with pytest.raises(UsageError, match="no sequences to train on"):
        Corpus([])


def test_fifteen_percent_of_residues_are_asked_for_and_shown_as_mask_another_or_themselves() -> None:
    corpus = Corpus(["LAGVSERTIDPKQNFYMHWC" * 20] * 200, tokens=60_000, shortest=300, longest=300)
    batch = corpus.batch(0)
    hidden, chosen = corpus.masked(batch, 0)
    inner = (batch.tokens != BOS) & (batch.tokens != EOS)
    assert not chosen[~inner].any()
    assert torch.equal(hidden.tokens[~chosen], batch.tokens[~chosen])
    assert chosen.sum() / inner.sum() == pytest.approx(0.15, abs=0.01)
    shown, truth = hidden.tokens[chosen], batch.tokens[chosen]
    assert (shown == MASK).float().mean() == pytest.approx(0.8, abs=0.02)
    assert (shown == truth).float().mean() == pytest.approx(0.1 + 0.1 / 20, abs=0.02)
    assert set(shown.tolist()) <= {MASK, *tokenize("ACDEFGHIKLMNPQRSTVWY").tolist()}


def test_masks_are_a_function_of_seed_step_and_replica(sequences: list[str]) -> None:
    corpus = Corpus(sequences, **SIZES)
    batch = corpus.batch(0)
    chosen = [corpus.masked(batch, *key)[1] for key in ((0, 0), (0, 0), (1, 0), (0, 1))]
    assert torch.equal(chosen[0], chosen[1])
    assert not torch.equal(chosen[0], chosen[2])
    assert not torch.equal(chosen[0], chosen[3])
