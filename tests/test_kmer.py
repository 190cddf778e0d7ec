"""The counting encoders: against plain loops, and as the plugins they are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmcls.encoders import kmer
from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.kmer import PAIR_GAPS, KmerEncoder, open_composition, open_kmer
from esmcls.errors import UsageError
from esmcls.reading.records import RESIDUES

SEQUENCES = st.lists(st.text(RESIDUES, max_size=40), max_size=6)


def by_hand(sequence: str, gaps: tuple[int, ...]) -> list[float]:
    """Count with the plainest loops there are."""
    standard = RESIDUES[:20]
    blocks = [(Counter(sequence), list(RESIDUES))]
    for gap in gaps:
        pairs = Counter(a + b for a, b in zip(sequence, sequence[gap + 1 :], strict=False))
        blocks.append((pairs, [a + b for a in standard for b in standard]))
    vector = []
    for counts, keys in blocks:
        total = sum(counts[key] for key in keys) or 1
        vector += [(counts[key] / total) ** 0.5 for key in keys]
    return vector


def vectors(encoder: KmerEncoder, *sequences: str) -> np.ndarray:
    return encoder.encode(sequences).pooled["mean"]


@settings(max_examples=60, deadline=None)
@given(SEQUENCES)
def test_a_vector_is_what_plain_loops_count(sequences: list[str]) -> None:
    encoder = open_kmer("kmer")
    found = vectors(encoder, *sequences)
    assert found.shape == (len(sequences), encoder.width)
    assert found.dtype == np.float32
    for sequence, vector in zip(sequences, found, strict=True):
        np.testing.assert_allclose(vector, by_hand(sequence, PAIR_GAPS), rtol=1e-6, atol=0)


@settings(max_examples=30, deadline=None)
@given(SEQUENCES)
def test_a_vector_does_not_depend_on_its_batch(sequences: list[str]) -> None:
    encoder = open_kmer("kmer")
    together = vectors(encoder, *sequences)
    for sequence, vector in zip(sequences, together, strict=True):
        np.testing.assert_array_equal(vectors(encoder, sequence)[0], vector)


def test_composition_is_the_first_block_of_kmer() -> None:
    sequence = "MKTAYIAKQRXBUZO"
    composition = vectors(open_composition("composition"), sequence)
    assert composition.shape == (1, 25)
    np.testing.assert_array_equal(vectors(open_kmer("kmer"), sequence)[:, :25], composition)
    np.testing.assert_allclose((composition**2).sum(), 1, rtol=1e-6)


def test_pairs_with_other_letters_are_not_counted() -> None:
    found = vectors(KmerEncoder("pairs", (0,)), "AXA", "AA")
    assert not found[0, 25:].any()
    assert found[1, 25:].tolist() == [1.0] + [0.0] * 399


def test_pairs_never_reach_into_the_next_sequence() -> None:
    assert not vectors(KmerEncoder("pairs", (0, 3)), *["A"] * 8)[:, 25:].any()


def test_a_rare_residue_keeps_its_vector_in_half_precision() -> None:
    vector = vectors(open_kmer("kmer"), "A" * 30_000 + "W")[0]
    halved = vector.astype(np.float16)
    assert np.count_nonzero(halved) == np.count_nonzero(vector)
    np.testing.assert_allclose(halved, vector, rtol=1e-3)


def test_every_residue_is_said_to_be_seen_in_one_input() -> None:
    embedded = open_kmer("kmer").encode(["MKT", "A" * 5000])
    assert embedded.seen.tolist() == [3, 5000]
    assert embedded.inputs.tolist() == [1, 1]
    assert embedded.chunks is None
    assert embedded.residues is None


def test_no_sequences_give_no_vectors() -> None:
    assert vectors(open_kmer("kmer")).shape == (0, 25 + 400 * len(PAIR_GAPS))


def test_batches_cover_the_input_in_order_and_are_bounded() -> None:
    lengths = [10] * 5000 + [kmer.BATCH_RESIDUES + 1] + [300] * 2000
    counts = list(open_kmer("kmer").batches(lengths))
    assert sum(counts) == len(lengths)
    assert max(counts) <= kmer.BATCH_RESIDUES // kmer.LEAST_RESIDUES
    start = 0
    for count in counts:
        assert count == 1 or sum(lengths[start : start + count]) <= kmer.BATCH_RESIDUES
        start += count


def test_other_poolings_are_refused() -> None:
    with pytest.raises(UsageError, match="encoder 'kmer' counts, so it has no pooling mean, cls; use mean"):
        open_kmer("kmer").encode(["MKT"], ("mean", "cls"))


@pytest.mark.parametrize("keep", ["chunk", "residue"])
def test_vectors_of_residues_are_refused(keep: str) -> None:
    with pytest.raises(UsageError, match=f"has no {keep} vectors; use an ESM-2 encoder"):
        open_kmer("kmer").encode(["MKT"], keep=keep)


def test_options_that_mean_nothing_here_are_refused() -> None:
    with pytest.raises(UsageError, match="has no layers"):
        open_kmer("kmer", layers=(6,))
    assert open_kmer("kmer", layers=()).layers == ()  # as a model's manifest has it
    with pytest.raises(UsageError, match="not in 'bf16'"):
        open_composition("composition", precision="bf16")


def test_the_digest_tells_definitions_and_versions_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {KmerEncoder("a", gaps).digest for gaps in [(), (0,), (1,), (0, 1)]}
    assert len(digests) == 4
    assert KmerEncoder("b", (0,)).digest in digests
    monkeypatch.setattr(kmer, "VERSION", kmer.VERSION + 1)
    assert KmerEncoder("a", (0,)).digest not in digests


@pytest.mark.parametrize("name", ["kmer", "composition"])
def test_it_is_found_like_any_plugin(name: str) -> None:
    encoder = load_encoder(name, long="window", device="cpu")
    assert (encoder.name, encoder.layers, encoder.long, encoder.precision) == (name, (), "full", "fp32")
    [embedded] = [encoder.encode(["MKT"]) for _ in encoder.batches([3])]
    assert embedded.pooled["mean"].shape == (1, encoder.width)
