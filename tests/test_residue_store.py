"""Vectors of residues in int8: what is lost, what lies on disk, and that all who read them read the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import residues
from command import done
from hypothesis import given
from hypothesis import strategies as st
from letter_encoder import LetterEncoder

from esmcls.cache.embed import embed_into, plan_run
from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec, quantised, restored
from esmcls.cache.store import EmbeddingCache
from esmcls.encoders.encoder import Embedded, Encoder
from esmcls.errors import CacheError, NonFiniteError, UsageError
from esmcls.models.folder import load_model
from esmcls.models.model import features_for
from esmcls.workspace.workspace import Workspace

INT8 = ("mean", "residue_int8")
SEQUENCES = residues.sequences()


def spec_of(width: int = 64) -> EmbeddingSpec:
    return EmbeddingSpec.of(LetterEncoder(width=width), poolings=INT8)


@given(st.integers(0, 2**32 - 1), st.floats(-4, 2))
def test_no_number_is_off_by_more_than_a_254th_of_the_largest_of_its_32(seed: int, power: float) -> None:
    random = np.random.default_rng(seed)
    vectors = (10**power * random.normal(size=(3, 64)) ** 3).astype(np.float16)
    largest = np.abs(vectors.astype(np.float32)).reshape(3, 2, 32).max(2).repeat(32, axis=1)
    off = np.abs(restored(quantised(vectors), spec_of()).astype(np.float32) - vectors.astype(np.float32))
    # float16 rounds the scale by a 2,048th, and what is given back by as much
    assert (off <= largest * (1 / 254 + 2 / 2048) + 1e-7 * 127).all()


def test_one_large_number_blurs_the_31_beside_it_alone() -> None:
    vectors = np.full((1, 64), 0.01, dtype=np.float16)
    vectors[0, 0] = 1000
    [row] = restored(quantised(vectors), spec_of())
    assert row[0] == pytest.approx(1000, rel=1e-3)
    assert not row[1:32].any()
    np.testing.assert_allclose(row[32:], 0.01, rtol=2e-3)


def test_zeros_stay_zeros() -> None:
    assert not restored(quantised(np.zeros((2, 64), dtype=np.float16)), spec_of()).any()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[EmbeddingCache]:
    """A cache in int8 of several segments."""
    with EmbeddingCache.open(tmp_path / "cache", spec_of()) as cache:
        for start in range(0, len(SEQUENCES), 8):
            embed_into(cache, LetterEncoder(width=64), SEQUENCES[start : start + 8])
        assert len(cache._segments) == 3
        yield cache


def expected(spec: EmbeddingSpec) -> list[np.ndarray]:
    embedded = LetterEncoder(width=64).encode(SEQUENCES, ("mean",), "residue")
    return [spec.rounded(one) for one in embedded.residues]


def test_they_are_read_as_the_spec_rounds_them_before_and_after_compaction(cache: EmbeddingCache) -> None:
    for _ in range(2):
        for read, wanted in zip(cache.read_residues(SEQUENCES), expected(cache.spec), strict=True):
            assert read.dtype == np.float16
            np.testing.assert_array_equal(read, wanted)
        cache.compact()
    assert len(cache._segments) == 1
    cache.verify()


def test_they_take_little_more_than_half_of_the_bytes_as_planned(tmp_path: Path) -> None:
    encoder = LetterEncoder(width=64)
    planned = {}
    for poolings in (INT8, ("mean", "residue")):
        with EmbeddingCache.open(tmp_path / poolings[1], EmbeddingSpec.of(encoder, poolings=poolings)) as cache:
            planned[poolings] = plan_run(cache, encoder, SEQUENCES).nbytes
    n, count = sum(map(len, SEQUENCES)), len(SEQUENCES)
    assert planned[INT8] == count * (56 + 128) + n * (64 + 4)
    assert planned["mean", "residue"] == count * (56 + 128) + n * 128


def test_features_made_without_the_cache_are_those_of_the_cache(cache: EmbeddingCache) -> None:
    encoder: Encoder = LetterEncoder(width=64)
    means = encoder.encode(SEQUENCES).pooled["mean"]
    again = Features.from_arrays(means, SEQUENCES, spec=cache.spec, encoder=lambda: encoder)
    for made in (again, again.embedded(SEQUENCES)):
        for one, wanted in zip(made.residues(), cache.read_residues(SEQUENCES), strict=True):
            np.testing.assert_array_equal(one, wanted)


def test_what_is_not_finite_is_refused_as_ever(tmp_path: Path) -> None:
    encoder = LetterEncoder(width=64)
    encoder.table[ord("K"), 5] = np.inf
    with EmbeddingCache.open(tmp_path, spec_of()) as cache, pytest.raises(NonFiniteError):
        embed_into(cache, encoder, ["AK"])


def test_what_no_scale_can_hold_is_refused_and_not_stored_as_infinity(tmp_path: Path) -> None:
    encoder = LetterEncoder(width=64)
    spec = EmbeddingSpec.of(encoder, "float32", INT8)
    with EmbeddingCache.open(tmp_path / "cache", spec) as cache:
        embedded = encoder.encode(["MKT"], ("mean",), "residue")
        large = Embedded(embedded.pooled, embedded.inputs, embedded.seen, residues=[np.full((3, 64), 1e7, np.float32)])
        with pytest.raises(NonFiniteError, match="too large for int8 with float16 scales"):
            cache.append(["MKT"], large)
        assert not len(cache)


def test_a_cache_of_means_takes_residues_from_one_beside_it_that_keeps_them_as_int8(tmp_path: Path) -> None:
    encoder = LetterEncoder(width=64)
    for poolings in (("mean",), INT8):
        spec = EmbeddingSpec.of(encoder, poolings=poolings)
        with EmbeddingCache.open(tmp_path / spec.key(), spec) as cache:
            embed_into(cache, encoder, SEQUENCES[:3])
    with EmbeddingCache.open(tmp_path / EmbeddingSpec.of(encoder, poolings=("mean",)).key()) as cache:
        beside = cache.with_residues()
        assert beside is not None
        with beside:
            assert beside.spec.poolings == INT8


def test_a_damaged_scale_is_told_and_gives_no_vectors(cache: EmbeddingCache) -> None:
    path = cache._segments[0].path
    cache.close()
    with h5py.File(path, "r+") as file:
        file["residue_int8"][3, 64:] = 0xFF  # NaN
    with EmbeddingCache.open(cache.folder) as again, pytest.raises(CacheError, match="a number that is not finite"):
        again.read_residues(SEQUENCES)


def test_a_width_that_does_not_go_into_blocks_is_refused() -> None:
    with pytest.raises(UsageError, match="vectors of 40 numbers do not go into int8, which takes 32 at a time"):
        spec_of(40)


def test_nothing_is_taken_out_of_vectors_that_share_scales() -> None:
    wide = EmbeddingSpec("e", "c0", (1, 2), "full", "fp32", "float16", INT8, 128)
    narrow = EmbeddingSpec("e", "c0", (2,), "full", "fp32", "float16", INT8, 64)
    assert narrow.columns_in(wide) is None
    pooled = EmbeddingSpec("e", "c0", (2,), "full", "fp32", "float16", ("mean",), 64)
    assert pooled.columns_in(wide) is not None


def test_a_model_is_fitted_on_them_and_answers_alike_from_the_cache_and_from_sequences(tmp_path: Path) -> None:
    work, where = tmp_path / "work", ("-w", tmp_path / "work")
    done("embed", residues.fasta(tmp_path / "set.fasta"), *where, "--residue-dtype", "int8", "--device", "cpu")
    [entry] = Workspace.open(work).caches
    assert entry.spec.poolings == INT8
    done("fit", *where, "--head", "linear", "--set", "epochs", "2")
    model = load_model(work / "models" / "linear")
    assert model.spec.poolings == INT8
    part = Workspace.open(work).dataset.part("test")
    kept = features_for(model, part, Workspace.open(work))
    fresh = model.features(part.sequences)
    for one, other in zip(kept.residues(), fresh.residues(), strict=True):
        np.testing.assert_allclose(one.astype(np.float32), other.astype(np.float32), atol=0.05, rtol=0.05)
    np.testing.assert_allclose(model.head.predict_proba(kept), model.head.predict_proba(fresh), atol=0.02)
    assert "macro F1" in done("evaluate", *where).out
