"""Measures of predicted structures: by hand, and as other programs have them."""

from __future__ import annotations

import numpy as np
import pytest
from traces import helix, hinged, wandering

from esmcls.metrics.structures.distances import between, contact_precision, lddt, lddt_of_distances
from esmcls.metrics.structures.superposition import gdt_ts, rmsd, superposed, tm_scale, tm_score
from esmcls.types import Coordinates

MOVED = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
"""A quarter turn."""
BY_OTHERS = {
    # residues, hinge, degrees: TM-score of biotite 1.6.0's tm_score after superimpose(..., atom_mask=the longer arm),
    # which the search may only surpass; lddt and rmsd of biotite 1.6.0. Traces of traces.py, 2026-11-29.
    (60, 40, 90): (0.703085, 0.940404, 9.777488),
    (100, 50, 60): (0.536578, 0.985380, 12.022925),
    (30, 10, 120): (0.371258, 0.922222, 6.302700),
}


@pytest.mark.parametrize("hinge", BY_OTHERS)
def test_measures_are_those_of_biotite(hinge: tuple[int, int, float]) -> None:
    """To the rounding of its float32; the search for the best TM-score finds one that is at least as good."""
    tm, of_distances, deviation = BY_OTHERS[hinge]
    predicted, true = hinged(*hinge), helix(hinge[0])
    assert lddt(predicted, true).mean == pytest.approx(of_distances, abs=2e-5)
    assert rmsd(predicted, true) == pytest.approx(deviation, abs=2e-5)
    assert tm_score(predicted, true) >= tm - 1e-6


def test_the_tm_score_is_that_of_the_formula_where_the_best_superposition_is_plain() -> None:
    """100 residues, of which one is 10 Å off along no axis of the others: 99 at 0 and one at 10, d0 = 3.652."""
    true = wandering(100)
    predicted = true.copy()
    predicted[30] += np.array([10, 0, 0], dtype=np.float32)
    assert tm_score(predicted, true) == pytest.approx((99 + 1 / (1 + (10 / 3.652) ** 2)) / 100, abs=2e-4)


@pytest.mark.parametrize(("length", "scale"), [(10, 0.5), (15, 0.5), (21, 0.5), (100, 3.652), (358, 6.88)])
def test_d0_is_that_of_zhang_and_skolnick(length: int, scale: float) -> None:
    """By hand: 343 is the cube of 7, so 358 residues have 1.24 · 7 - 1.8 Å."""
    assert tm_scale(length) == pytest.approx(scale, abs=1e-3)


def test_gdt_ts_is_the_mean_of_four_shares() -> None:
    """Ten of 40 residues are 20 Å off: .75 within each cutoff. Of a stretched line each cutoff has what lies near."""
    true = wandering(40)
    predicted = true.copy()
    predicted[::4] += np.array([20, 0, 0], dtype=np.float32)
    assert gdt_ts(predicted, true) == 0.75
    line = np.outer(np.arange(100), np.array([4, 0, 0])).astype(np.float32)
    longer = line * np.float32(1.25)  # residue k from the one that lies right is k Å off
    assert gdt_ts(longer, line) == pytest.approx((0.01 + 0.03 + 0.07 + 0.15) / 4, abs=0.011)


@pytest.mark.parametrize("trace", [helix(5), helix(60), wandering(40)], ids=["short", "helix", "coil"])
def test_a_turned_and_shifted_trace_is_perfect_and_its_mirror_image_is_not(trace: Coordinates) -> None:
    turned = trace @ MOVED.T + 50
    assert superposed(turned, trace) == pytest.approx((1.0, 1.0), abs=1e-4)
    assert rmsd(turned, trace) == pytest.approx(0.0, abs=1e-4)
    assert rmsd(trace * [1, 1, -1], trace) > 0.3
    assert lddt(trace * [1, 1, -1], trace).mean == 1.0  # distances know no hand


def test_what_is_not_resolved_is_left_out_and_what_is_not_predicted_counts_as_wrong() -> None:
    true, predicted = wandering(50), wandering(50)
    true[:10] = np.nan
    assert superposed(predicted, true) == pytest.approx((1.0, 1.0), abs=1e-4)
    score = lddt(predicted, true)
    assert score.mean == 1.0
    assert np.isnan(score.residues[:10]).all()
    predicted[10:20] = np.nan
    assert superposed(predicted, true) == pytest.approx((0.75, 0.75), abs=1e-4)
    score = lddt(predicted, true)
    assert (score.residues[10:20] == 0).all()
    assert score.mean < 1


def test_nothing_resolved_has_no_score_and_nothing_predicted_has_the_lowest() -> None:
    nothing = np.full((20, 3), np.nan, dtype=np.float32)
    assert np.isnan([*superposed(helix(20), nothing), lddt(helix(20), nothing).mean, rmsd(nothing, helix(20))]).all()
    assert superposed(nothing, helix(20)) == (0.0, 0.0)
    assert lddt(nothing, helix(20)).mean == 0.0


def test_lddt_looks_at_distances_below_15_angstrom_in_the_true_structure_alone() -> None:
    """Three residues in a line: 10, 14.9 and 24.9 Å. The far pair is not looked at, whatever is said of it."""
    true = np.array([[0.0, 10, 24.9], [10, 0, 14.9], [24.9, 14.9, 0]])
    predicted = np.array([[0.0, 10.6, 99], [10.6, 0, 18.8], [99, 18.8, 0]])
    score = lddt_of_distances(predicted, true)
    assert score.residues.tolist() == [0.75, 0.5, 0.25]
    assert score.mean == 0.5


def test_precision_takes_so_many_pairs_as_a_share_of_the_residues_and_no_near_ones() -> None:
    distances = between(hinged(60, 30, 155))
    truth = (distances < 8).astype(float)
    rows, columns = np.triu_indices(60, 24)
    contacts = int(truth[rows, columns].sum())
    assert 0 < contacts < 60
    assert contact_precision(truth, distances) == contacts / 60
    assert contact_precision(truth, distances, share=contacts / 60) == 1.0
    assert contact_precision(1 - truth, distances, share=0.1) == 0.0


def test_pairs_that_are_not_resolved_are_not_asked_for_and_those_not_predicted_come_last() -> None:
    distances = between(hinged(60, 30, 155))
    distances[:30] = distances[:, :30] = np.nan
    near = (distances < 8).astype(float)
    near[0, 59] = near[59, 0] = 2.0
    rows, columns = np.triu_indices(60, 24)
    left = distances[rows, columns]
    left = left[~np.isnan(left)]
    assert contact_precision(near, distances) == pytest.approx((left < 8).mean())  # 21 pairs are left, 30 are asked for
    assert np.isnan(contact_precision(near, distances[:, :] * np.nan))
    unseen = np.full((60, 60), np.nan)
    unseen[30, 59] = 0.1
    assert contact_precision(unseen, distances, share=1 / 30) == float(distances[30, 59] < 8)
