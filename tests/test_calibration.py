"""Temperature, reliability, conformal sets, rejection: against closed forms, scikit-learn and simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.metrics import roc_auc_score

from esmcls.errors import UsageError
from esmcls.metrics.calibration import (
    auroc,
    conformal_sets,
    conformal_threshold,
    fit_temperature,
    rejection_threshold,
    reliability,
)


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Return true probabilities (n, 5) and codes drawn from them."""
    random = np.random.default_rng(0)
    probabilities = softmax(2 * random.normal(size=(20_000, 5)), axis=1)
    codes = (probabilities.cumsum(1) < random.random((20_000, 1))).sum(1)
    return probabilities.astype(np.float32), codes


@pytest.mark.parametrize("sharpened", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_sharpening_whatever_the_blocks(
    drawn: tuple[np.ndarray, np.ndarray], sharpened: float
) -> None:
    probabilities, codes = drawn
    too_sure = torch.from_numpy(np.log(probabilities) * sharpened)
    whole = fit_temperature(lambda: [(too_sure, codes)])
    parts = fit_temperature(lambda: zip(too_sure.tensor_split(7), np.array_split(codes, 7), strict=True))
    assert whole == pytest.approx(sharpened, rel=0.05)
    assert parts == pytest.approx(whole, rel=1e-3)


def test_rows_of_unknown_classes_do_not_move_the_temperature(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, codes = drawn
    logits = torch.from_numpy(np.log(probabilities))
    alone = fit_temperature(lambda: [(logits[1::2], codes[1::2])])
    with_all = fit_temperature(lambda: [(logits, codes)])
    found = fit_temperature(lambda: [(logits, np.where(np.arange(len(codes)) % 2, codes, -1))])
    assert found == pytest.approx(alone, rel=1e-3)
    assert alone != with_all


def test_a_temperature_without_a_known_row_is_refused() -> None:
    with pytest.raises(UsageError, match="no validation row is of a known class"):
        fit_temperature(lambda: [(torch.zeros(2, 3), np.array([-1, -1]))])


def test_reliability_is_the_table_by_hand() -> None:
    confidence = np.array([0.1, 0.5, 0.55, 0.95, 1.0])
    found = reliability(confidence, np.array([False, True, False, True, True]), bins=2)
    assert found.counts.tolist() == [2, 3]
    assert found.confidence == pytest.approx([0.3, 2.5 / 3])
    assert found.accuracy == pytest.approx([0.5, 2 / 3])
    assert found.expected_error == pytest.approx((2 * 0.2 + 3 * (2.5 / 3 - 2 / 3)) / 5)


def test_true_probabilities_have_next_to_no_calibration_error(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, codes = drawn
    found = reliability(probabilities.max(1), probabilities.argmax(1) == codes)
    assert found.expected_error < 0.015
    sharpened = np.exp(log_softmax(np.log(probabilities) / 0.3, axis=1))
    assert reliability(sharpened.max(1), sharpened.argmax(1) == codes).expected_error > 0.1


def test_an_empty_bin_is_nan_and_counts_for_nothing() -> None:
    found = reliability(np.array([0.9]), np.array([True]), bins=10)
    assert np.isnan(found.accuracy[:8]).all()
    assert found.expected_error == pytest.approx(0.1)


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_sets_hold_the_true_class_as_often_as_stated(drawn: tuple[np.ndarray, np.ndarray], coverage: float) -> None:
    probabilities, codes = drawn
    first, rest = slice(0, 2_000), slice(2_000, None)
    true = probabilities[np.arange(len(codes)), codes]
    threshold = conformal_threshold(true[first], coverage)
    sets = conformal_sets(probabilities[rest], threshold)
    held = np.mean([code in found for code, found in zip(codes[rest], sets, strict=True)])
    assert held == pytest.approx(coverage, abs=0.02)


def test_too_few_calibration_rows_let_all_classes_in() -> None:
    assert conformal_threshold(np.array([0.9, 0.8]), 0.95) == 0.0
    assert [len(found) for found in conformal_sets(np.array([[0.5, 0.5, 0.0]]), 0.0)] == [3]


def test_a_set_is_never_empty_and_begins_with_the_most_probable_class() -> None:
    assert [found.tolist() for found in conformal_sets(np.array([[0.2, 0.5, 0.3]]), 0.9)] == [[1]]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.floats(0, 0.99))
def test_no_more_strangers_are_accepted_than_asked_for(scores: list[float], share: float) -> None:
    threshold = rejection_threshold(np.array(scores), share)
    assert np.mean(np.array(scores) > threshold) <= share + 1e-12


def test_the_threshold_of_rejection_is_the_lowest_that_keeps_the_promise() -> None:
    scores = np.linspace(0, 1, 101)
    assert np.mean(scores > rejection_threshold(scores, 0.1)) == pytest.approx(10 / 101)


@pytest.mark.parametrize(("strangers", "share"), [([], 0.1), ([0.5], 1.0), ([0.5], -0.1)])
def test_a_rejection_that_cannot_be_set_is_refused(strangers: list[float], share: float) -> None:
    with pytest.raises(UsageError):
        rejection_threshold(np.array(strangers), share)


@pytest.mark.parametrize("coverage", [0.0, 1.0, 95.0])
def test_a_coverage_that_cannot_be_is_refused(coverage: float) -> None:
    with pytest.raises(UsageError, match="is not between 0 and 1"):
        conformal_threshold(np.array([0.5]), coverage)


def test_auroc_is_scikit_learns_with_ties() -> None:
    random = np.random.default_rng(1)
    known, strangers = random.integers(3, 10, 200) / 10, random.integers(0, 7, 300) / 10
    truth = np.r_[np.ones(200), np.zeros(300)]
    assert auroc(known, strangers) == pytest.approx(roc_auc_score(truth, np.r_[known, strangers]))
