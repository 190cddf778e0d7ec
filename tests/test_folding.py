"""From distograms to traces: the right hand, the same bits twice, and every residue that was seen in its place."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from distograms import hairpin, helix, sharp
from hypothesis import given, settings
from hypothesis import strategies as st

from esmcls.structures.distogram import BINS, PairAnswer
from esmcls.structures.folding.fold import fold
from esmcls.structures.folding.handedness import expected_volumes
from esmcls.structures.folding.restraints import Restraints
from esmcls.structures.folding.scaling import classical, start_places, stress_least
from esmcls.structures.superposition import superpose
from esmcls.types import Coordinates

MIRROR = np.array([1, 1, -1], dtype=np.float32)


def volumes(trace: Coordinates) -> list[float]:
    bonds = np.diff(trace, axis=0)
    return [float(np.linalg.det(bonds[start : start + 3])) for start in range(len(bonds) - 2)]


@pytest.mark.parametrize("trace", [helix(20), hairpin(16)], ids=["helix", "hairpin"])
def test_a_trace_is_folded_from_its_distances_with_the_right_hand(trace: Coordinates) -> None:
    folded = fold(sharp(trace), starts=1)
    assert superpose(folded.trace, trace).rmsd < 0.6
    assert superpose(folded.trace * MIRROR, trace).rmsd > 1.5
    assert folded.mirror_loss > folded.loss


def test_bonds_are_as_long_as_between_residues_and_no_two_residues_are_in_one_place() -> None:
    trace = fold(sharp(hairpin(16)), starts=1).trace
    lengths = np.linalg.norm(np.diff(trace, axis=0), axis=1)
    assert np.abs(lengths[:14] - 3.8).max() < 0.15
    assert np.abs(lengths[22:] - 3.8).max() < 0.15
    apart = np.linalg.norm(trace[:, None] - trace[None], axis=2) + 100 * np.tri(len(trace), k=2)
    assert apart.min() > 3.5


def test_the_same_seed_folds_to_the_same_bits_and_another_to_another_trace() -> None:
    answer = sharp(helix(9))
    first, again = (fold(answer, starts=2, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.trace, again.trace)
    assert first.loss == again.loss
    starts = [start_places(answer, np.random.default_rng(seed)) for seed in (5, 6)]
    assert np.abs(starts[0] - starts[1]).max() > 0.01


def test_more_starts_are_never_worse() -> None:
    answer = flat(8)
    losses = [fold(answer, starts=starts).loss for starts in (1, 3)]
    assert losses[1] <= losses[0]


def flat(residues: int) -> PairAnswer:
    """Return what a head says that knows nothing at all."""
    distogram = np.full((residues, residues, BINS), 1 / BINS, dtype=np.float32)
    return PairAnswer(np.arange(residues), distogram, np.full(residues, 0.1, dtype=np.float32), residues)


def test_residues_that_were_not_seen_have_no_place_and_no_confidence() -> None:
    trace = helix(24)
    whole = sharp(trace)
    seen = np.array([*range(2, 10), *range(14, 24)])
    answer = PairAnswer(seen, whole.distogram[np.ix_(seen, seen)], whole.confidence[seen], 26)
    folded = fold(answer, starts=1)
    assert folded.trace.shape == (26, 3)
    assert np.flatnonzero(np.isnan(folded.trace).any(1)).tolist() == [0, 1, 10, 11, 12, 13, 24, 25]
    np.testing.assert_array_equal(folded.confidence[seen], whole.confidence[seen])
    assert np.isnan(folded.confidence[[0, 25]]).all()
    assert superpose(folded.trace[:24], trace).rmsd < 0.6


@pytest.mark.parametrize("residues", [0, 1, 2, 3, 4])
def test_a_protein_of_hardly_any_residues_is_folded(residues: int) -> None:
    folded = fold(sharp(helix(residues), length=residues + 1))
    assert np.isnan(folded.trace).any(1).tolist() == [False] * residues + [True]
    assert np.isfinite(folded.loss)


def test_nothing_known_of_distances_gives_a_chain_all_the_same() -> None:
    trace = fold(flat(12), starts=1).trace
    assert np.abs(np.linalg.norm(np.diff(trace, axis=0), axis=1) - 3.8).max() < 0.4


def test_no_start_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="0 starts"):
        fold(sharp(helix(5)), starts=0)


def test_the_answer_that_is_folded_stays_as_it_was() -> None:
    answer = sharp(helix(12))
    before = answer.distogram.copy()
    fold(answer, starts=2)
    np.testing.assert_array_equal(answer.distogram, before)


def test_four_neighbours_of_a_helix_are_expected_to_turn_as_they_do() -> None:
    starts, means, variances = expected_volumes(sharp(helix(12)))
    assert starts.tolist() == list(range(9))
    np.testing.assert_allclose(means, volumes(helix(12)), atol=8)
    assert (variances < 150).all()


def test_a_strand_is_expected_to_twist_and_a_flat_one_is_not_helical() -> None:
    zigzag = np.array([[3.3 * number, 0.95 * (-1) ** number, 0] for number in range(12)], dtype=np.float32)
    _, means, _ = expected_volumes(sharp(zigzag))
    assert (means < 0).all()


def test_a_pair_is_restrained_once_and_neighbours_by_their_bond() -> None:
    restraints = Restraints.of(sharp(helix(6)))
    pairs = set(zip(restraints.first.tolist(), restraints.second.tolist(), strict=True))
    assert pairs == {(one, other) for one in range(6) for other in range(one + 2, 6)}
    assert restraints.bonded.tolist() == [0, 1, 2, 3, 4]
    assert restraints.potentials.min(1).tolist() == [0.0] * len(pairs)


def test_the_places_of_known_distances_are_found_but_for_turning_and_mirroring() -> None:
    trace = hairpin(8).astype(np.float64)
    apart = np.linalg.norm(trace[:, None] - trace[None], axis=2)
    places = classical(apart)
    np.testing.assert_allclose(np.linalg.norm(places[:, None] - places[None], axis=2), apart, atol=1e-6)


def test_majorisation_never_adds_stress() -> None:
    rng = np.random.default_rng(0)
    apart = np.abs(rng.normal(10, 3, (15, 15)))
    apart = np.triu(apart, 1) + np.triu(apart, 1).T
    weights = 1.0 - np.eye(15)
    places = rng.normal(size=(15, 3))

    def stress(places: np.ndarray) -> float:
        return float((weights * np.square(np.linalg.norm(places[:, None] - places[None], axis=2) - apart)).sum())

    stresses = [stress(stress_least(places, apart, weights, rounds)) for rounds in (0, 1, 5, 30)]
    assert stresses == sorted(stresses, reverse=True)


@given(st.integers(0, 2**32 - 1), st.integers(3, 30))
@settings(max_examples=25, deadline=None)
def test_a_moved_trace_is_laid_back_exactly(seed: int, residues: int) -> None:
    rng = np.random.default_rng(seed)
    fixed = rng.normal(0, 10, (residues, 3)).astype(np.float32)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.linalg.det(rotation)
    superposition = superpose((fixed @ rotation + rng.normal(size=3)).astype(np.float32), fixed)
    assert superposition.rmsd < 1e-3
    np.testing.assert_allclose(np.linalg.det(superposition.rotation), 1, atol=1e-9)


def test_a_mirror_image_is_not_laid_on_its_trace() -> None:
    superposition = superpose(helix(12) * MIRROR, helix(12))
    assert superposition.rmsd > 1
    np.testing.assert_allclose(np.linalg.det(superposition.rotation), 1, atol=1e-9)


def test_a_residue_counts_by_its_weight_and_not_at_all_where_one_trace_lacks_it() -> None:
    fixed = helix(10)
    mobile = fixed.copy()
    mobile[3] += 50
    assert superpose(mobile, fixed, np.array([1.0] * 3 + [0.0] + [1.0] * 6)).rmsd < 1e-3
    mobile[3] = np.nan
    assert superpose(mobile, fixed).rmsd < 1e-3


@pytest.mark.parametrize(
    ("mobile", "message"),
    [(helix(4), "traces of 4 and 5 residues"), (np.full((5, 3), np.nan, np.float32), "no residue in common")],
)
def test_traces_that_cannot_be_laid_one_on_the_other_are_refused(mobile: Coordinates, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        superpose(mobile, helix(5))


def test_an_answer_with_less_certain_distances_is_folded_with_more_loss() -> None:
    answer = sharp(helix(16))
    contrary = answer.distogram.copy()
    contrary[2, 12] = contrary[12, 2] = np.eye(BINS, dtype=np.float32)[10]
    assert fold(dataclasses.replace(answer, distogram=contrary), starts=1).loss > fold(answer, starts=1).loss
