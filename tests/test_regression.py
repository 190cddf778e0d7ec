"""Measures of predicted numbers: cases computed by hand, ties and what has no spread, intervals, paired differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from esmcls.errors import UsageError
from esmcls.metrics.regression import (
    MEASURES,
    Ranked,
    half_width,
    number_intervals,
    rank_products,
    score_numbers,
    spearman,
    spearman_differences,
    summary,
)


def drawn(n: int, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.normal(size=n)
    return truth, truth + noise * random.normal(size=n)


def test_a_case_computed_by_hand() -> None:
    """Errors 0, 1, -1, 2: squares sum to 6, distances to 4; the truth's distances from its mean 2.5 have squares of 5.

    Ranks are 1 2 3 4 and 1 3 2 4: rho = 1 - 6 (0 + 1 + 1 + 0) / (4 · 15) = 0.8. The sum of products of deviations is
    (-1.5)(-2) + (-.5)(0) + (.5)(-1) + (1.5)(3) = 7, those of squares 5 and 4 + 0 + 1 + 9 = 14: r = 7 / sqrt(70).
    """
    truth, predicted = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 6.0])
    assert score_numbers(truth, predicted) == pytest.approx(
        {"spearman": 0.8, "pearson": 7 / math.sqrt(70), "r2": 1 - 6 / 5, "rmse": math.sqrt(6 / 4), "mae": 1.0}
    )


def test_equal_numbers_share_the_mean_of_their_ranks() -> None:
    """Ranks 1.5 1.5 3 and 1 2 3: deviations -.5 -.5 1 and -1 0 1, so rho = 1.5 / sqrt(1.5 · 2)."""
    assert spearman(np.array([5.0, 5.0, 9.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(1.5 / math.sqrt(3))


@pytest.mark.parametrize("seed", range(3))
def test_measures_are_those_of_scipy_and_scikit_learn(seed: int) -> None:
    truth, predicted = (values.round(1) for values in drawn(80, seed))  # with ties
    assert score_numbers(truth, predicted) == pytest.approx(
        {
            "spearman": stats.spearmanr(truth, predicted).statistic,
            "pearson": stats.pearsonr(truth, predicted).statistic,
            "r2": reference.r2_score(truth, predicted),
            "rmse": reference.root_mean_squared_error(truth, predicted),
            "mae": reference.mean_absolute_error(truth, predicted),
        }
    )


@pytest.mark.parametrize(
    ("truth", "predicted", "r2"),
    [
        ([1.0, 2.0, 3.0], [0.1, 0.1, 0.1], -(1.9**2) * 3 / 2),
        ([2.0, 2.0], [2.0, 2.0], 1.0),
        ([2.0, 2.0], [1.0, 2.0], 0.0),
    ],
)
def test_what_has_no_spread_correlates_with_nothing(truth: list[float], predicted: list[float], r2: float) -> None:
    scores = score_numbers(np.array(truth), np.array(predicted))
    assert (scores["spearman"], scores["pearson"]) == (0.0, 0.0)
    assert scores["r2"] == pytest.approx(r2)


def test_without_rows_all_measures_are_0() -> None:
    assert score_numbers(np.zeros(0), np.zeros(0)) == dict.fromkeys(MEASURES, 0.0)
    assert number_intervals(np.zeros(0), np.zeros(0))["spearman"].low == 0.0


def test_a_row_that_counts_twice_is_a_row_that_stands_there_twice() -> None:
    truth, predicted = drawn(20)
    weights = np.random.default_rng(1).integers(0, 3, 20)
    rows = np.repeat(np.arange(20), weights)
    assert summary(truth, predicted)(weights) == pytest.approx(score_numbers(truth[rows], predicted[rows]))
    ranks = stats.rankdata(truth[rows])
    np.testing.assert_allclose(Ranked(truth)(weights)[rows], ranks)


def test_an_interval_holds_its_value_and_stays_within_what_can_be() -> None:
    truth, predicted = drawn(60, noise=0.01)
    intervals = number_intervals(truth, predicted, folds=200)
    assert all(interval.low <= interval.value <= interval.high for interval in intervals.values())
    assert intervals["spearman"].high <= 1
    assert intervals["r2"].high <= 1
    assert intervals["rmse"].low >= 0
    assert number_intervals(truth, predicted, folds=200) == intervals


def test_intervals_of_95_percent_hold_the_truth_about_so_often() -> None:
    """Of normal pairs with a correlation of .6, rho is 6 / pi · asin(.3), in 80 draws of 60."""
    expected = 6 / math.pi * math.asin(0.3)
    held = 0
    for seed in range(80):
        first, noise = np.random.default_rng(seed).normal(size=(2, 60))
        interval = number_intervals(first, 0.6 * first + 0.8 * noise, folds=200, seed=seed)["spearman"]
        held += interval.low <= expected <= interval.high
    assert 70 <= held <= 80


def test_the_mean_of_what_rows_add_is_spearman() -> None:
    truth, predicted = drawn(30)
    assert rank_products(truth, predicted).mean() == pytest.approx(spearman(truth, predicted))


def test_a_model_that_is_clearly_behind_is_told_apart_and_its_like_is_not() -> None:
    truth, near = drawn(150, noise=0.2)
    far, like = truth + np.random.default_rng(5).normal(size=150) * 2, near + 1e-6
    behind, same = spearman_differences(truth, near, [far, like], draws=400)
    assert behind.value == pytest.approx(spearman(truth, far) - spearman(truth, near))
    assert behind.high < 0
    assert behind.p_holm < 0.05
    assert same.p_holm == 1.0


def test_the_width_of_an_interval_is_the_error_of_the_rank_that_coverage_asks_for() -> None:
    errors = np.arange(1.0, 10.0)  # 9 rows: the ceil(10 · .8) = 8th of them
    assert half_width(errors[::-1], 0.8) == 8.0
    assert half_width(errors, 0.9) == 9.0


def test_too_few_calibration_rows_are_an_error_that_says_how_many_it_takes() -> None:
    with pytest.raises(UsageError, match=r"8 calibration rows are too few for intervals of 90 %: it takes 9"):
        half_width(np.ones(8), 0.9)
    with pytest.raises(UsageError, match=r"coverage 1 is not between 0 and 1"):
        half_width(np.ones(8), 1)


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_intervals_hold_the_truth_as_often_as_they_say_on_exchangeable_data(coverage: float) -> None:
    """Over 2,000 draws of 40 calibration rows and a new one, whatever the errors' law: within 4 standard errors."""
    random = np.random.default_rng(3)
    errors = np.abs(random.standard_t(2, size=(2000, 41)))
    held = np.mean([row[40] <= half_width(row[:40], coverage) for row in errors])
    exact = math.ceil(41 * coverage) / 41
    assert abs(held - exact) < 4 * math.sqrt(exact * (1 - exact) / 2000)
