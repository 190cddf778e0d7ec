"""What an encoder is trained on: crops, pairs of one family, masked residues."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from esmcls.encoders.alphabet import BOS, EOS, MASK, TOKENS, tokenize
from esmcls.errors import MissingExtraError, UsageError
from esmcls.pretraining.aligned_pairs import Aligner
from esmcls.pretraining.corpus import Batch, Corpus
from esmcls.pretraining.residue_targets import ResidueTargets

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


@pytest.fixture(scope="module")
def targets() -> ResidueTargets:
    """Every residue's targets say which one it is."""
    random = np.random.default_rng(1)
    texts = ["".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), size=size)) for size in (30, 9, 50)]
    total = sum(map(len, texts))
    profile = np.zeros((total, 20), np.float16)
    profile[np.arange(total), ["ACDEFGHIKLMNPQRSTVWY".index(letter) for letter in "".join(texts)]] = 1
    accessibility = np.arange(total, dtype=np.float32)
    return ResidueTargets(["a", "b", "c"], texts, (np.arange(total) % 8).astype(np.int8), accessibility, profile)


def test_half_of_the_crops_have_residue_targets_and_each_residue_has_its_own(
    sequences: list[str], targets: ResidueTargets
) -> None:
    everything = "".join(targets.sequences)
    batch = Corpus(sequences, targets=targets, **SIZES).batch(4)
    assert batch.states is not None
    assert batch.accessibility is not None
    assert batch.profile is not None
    known = batch.accessibility.isfinite()
    residues = "".join(TOKENS[token] for token in batch.tokens[known])
    places = batch.accessibility[known].int().tolist()
    assert residues == "".join(everything[place] for place in places)
    assert batch.states[known].tolist() == [place % 8 for place in places]
    assert "".join("ACDEFGHIKLMNPQRSTVWY"[row] for row in batch.profile[known].argmax(1)) == residues
    assert not (known & ((batch.tokens == BOS) | (batch.tokens == EOS))).any()
    annotated = [bool(known[start + 1]) for start in batch.offsets[:-1]]
    assert sum(annotated) == round(len(annotated) / 2)


def test_residues_of_plain_sequences_have_no_targets(sequences: list[str], targets: ResidueTargets) -> None:
    batch = Corpus(sequences, targets=targets, **SIZES).batch(4)
    assert batch.states is not None
    assert batch.accessibility is not None
    assert batch.profile is not None
    unknown = batch.accessibility.isnan()
    assert set(batch.states[unknown].tolist()) == {-1}
    assert not batch.profile[unknown].any()


def test_the_share_of_crops_with_targets_is_as_asked(sequences: list[str], targets: ResidueTargets) -> None:
    sizes = SIZES | {"shortest": 10, "longest": 10}
    batch = Corpus(sequences, targets=targets, targets_share=0.2, **sizes).batch(0)
    assert int((batch.families >= len(sequences)).sum()) == 2  # of 128 // 12 = 10


def test_sequences_with_targets_are_families_of_their_own(sequences: list[str], targets: ResidueTargets) -> None:
    families = [number // 2 for number in range(len(sequences))]
    corpus = Corpus(sequences, families, targets=targets, **SIZES)
    assert corpus.families[len(sequences) :].tolist() == [20, 21, 22]


@pytest.fixture(scope="module")
def relatives() -> list[str]:
    """Twins whose second member has a tail before and after it."""
    random = np.random.default_rng(2)
    texts = ["".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), size=40)) for _ in range(10)]
    return [text for one in texts for text in (one, "GSGSG" + one[:20] + "W" + one[20:] + "GSG")]


def test_aligned_pairs_are_the_same_residue_of_two_relatives(relatives: list[str]) -> None:
    corpus = Corpus(relatives, [row // 2 for row in range(20)], aligned=True, tokens=256, shortest=20, longest=30)
    for step in range(5):
        batch = corpus.batch(step)
        assert batch.pairs is not None
        assert len(batch.pairs) >= 10
        first, second = batch.tokens[batch.pairs].T
        assert float((first == second).float().mean()) > 0.95
        crops = torch.bucketize(batch.pairs, batch.offsets, right=True) - 1
        assert torch.equal(*batch.families[crops].T)
        assert not (crops[:, 0] == crops[:, 1]).any()
        assert set(batch.tokens[batch.pairs].flatten().tolist()).isdisjoint({BOS, EOS})


def test_aligned_batches_are_a_function_of_seed_and_step_alone(relatives: list[str]) -> None:
    families = [row // 2 for row in range(20)]
    first, second = (Corpus(relatives, families, aligned=True, tokens=256, shortest=20, longest=30) for _ in range(2))
    second.batch(0)
    for name in ("tokens", "pairs"):
        assert torch.equal(getattr(first.batch(3), name), getattr(second.batch(3), name))


def test_an_alignment_gives_the_columns_that_hold_both_residues() -> None:
    columns = Aligner().columns("MKTAYIAKQRQISFVK", "TAYIAKWWQRQISFVK")
    letters = [("MKTAYIAKQRQISFVK"[one], "TAYIAKWWQRQISFVK"[other]) for one, other in columns.tolist()]
    assert [one for one, other in letters] == list("TAYIAKQRQISFVK") == [other for _, other in letters]


def test_an_alignment_takes_every_letter_of_a_residue() -> None:
    columns = Aligner().columns("MKTAYIAUQRQISFVKXBZOJ", "MKTAYIAUQRQISFVKXBZOJ")
    assert columns.tolist() == [[place, place] for place in range(21)]


def test_aligned_pairs_name_the_package_that_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyfamsa", None)
    with pytest.raises(MissingExtraError, match="needs the package pyfamsa; run: pip install"):
        Aligner()
