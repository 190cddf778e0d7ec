"""Metrics against hand-computed cases and scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from esmcls.metrics.classification import (
    TIERS,
    Interval,
    accuracy,
    bootstrap_interval,
    macro_f1,
    precision_recall_f1,
    summary,
    tier_accuracy,
)

# truth 0 0 0 1 1 2, predicted 0 0 1 1 2 2:            predicted 0  1  2
#                                               truth 0            2  1  0
#                                                     1            0  1  1
#                                                     2            0  0  1
TRUTH = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 2, 2])


def random_case(rng: np.random.Generator, n: int = 400, classes: int = 30) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.integers(classes - 5, size=n)  # five classes occur in no truth, some only in predictions
    predicted = np.where(rng.random(n) < 0.6, truth, rng.integers(classes, size=n))
    return truth, predicted


def test_three_classes_have_the_scores_worked_out_by_hand():
    scores = precision_recall_f1(TRUTH, PREDICTED, 3)
    assert scores.precision.tolist() == [1.0, 1 / 2, 1 / 2]
    assert scores.recall.tolist() == [2 / 3, 1 / 2, 1.0]
    assert scores.f1 == pytest.approx([4 / 5, 1 / 2, 2 / 3])
    assert scores.support.tolist() == [3, 2, 1]
    assert accuracy(TRUTH, PREDICTED) == 4 / 6
    assert scores.macro()["f1"] == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert scores.weighted()["precision"] == pytest.approx((3 * 1 + 2 / 2 + 1 / 2) / 6)
    assert scores.weighted()["recall"] == pytest.approx(4 / 6)
    assert macro_f1(TRUTH, PREDICTED, 3) == scores.macro()["f1"]


@pytest.mark.parametrize("average", ["macro", "weighted"])
@pytest.mark.parametrize("seed", range(3))
def test_averages_are_those_of_scikit_learn_over_the_classes_of_the_truth(average, seed):
    truth, predicted = random_case(np.random.default_rng(seed))
    ours = getattr(precision_recall_f1(truth, predicted, 30), average)()
    labels = np.unique(truth)
    expected = oracle.precision_recall_fscore_support(
        truth, predicted, labels=labels, average=average, zero_division=0.0
    )
    assert [ours[name] for name in ("precision", "recall", "f1")] == pytest.approx(expected[:3], abs=1e-12)


def test_scores_of_each_class_are_those_of_scikit_learn():
    truth, predicted = random_case(np.random.default_rng(9))
    ours = precision_recall_f1(truth, predicted, 30)
    expected = oracle.precision_recall_fscore_support(truth, predicted, labels=range(30), zero_division=0.0)
    for mine, theirs in zip((ours.precision, ours.recall, ours.f1, ours.support), expected, strict=True):
        assert mine == pytest.approx(theirs)


def test_weights_are_the_same_as_repeated_rows():
    truth, predicted = random_case(np.random.default_rng(1))
    weights = np.random.default_rng(2).integers(4, size=len(truth))
    ranked = predicted[:, None]
    repeated = summary(np.repeat(truth, weights), np.repeat(ranked, weights, axis=0), 30)
    assert summary(truth, ranked, 30)(weights) == pytest.approx(repeated(np.ones(weights.sum(), np.int64)))


def test_a_class_that_is_only_predicted_is_no_summand_of_the_macro_average():
    scores = precision_recall_f1(np.array([0, 0]), np.array([0, 1]), 2)
    assert scores.macro() == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}


def test_a_row_of_an_unseen_class_is_wrong_a_false_prediction_and_part_of_the_weights():
    truth, predicted = np.array([0, 0, -1, -1]), np.array([0, 0, 0, 1])
    scores = precision_recall_f1(truth, predicted, 2)
    assert accuracy(truth, predicted) == 0.5
    assert scores.precision.tolist() == [2 / 3, 0.0]
    assert scores.recall.tolist() == [1.0, 0.0]
    assert scores.weighted()["recall"] == 0.5
    assert scores.macro()["recall"] == 1.0


def test_an_unseen_class_is_wrong_even_where_a_prediction_is_minus_one():
    assert accuracy(np.array([-1]), np.array([-1])) == 0.0
    assert summary(np.array([-1]), np.array([[0, -1]]), 1)(np.ones(1, np.int64))["top_3"] == 0.0


def test_a_code_beyond_the_classes_is_refused():
    with pytest.raises(ValueError, match="code 3 with 3 classes"):
        precision_recall_f1(np.array([0, 3]), np.array([0, 0]), 3)


def test_top_k_looks_at_the_first_k_ranks_of_which_there_may_be_fewer():
    truth = np.array([0, 1, 2, 3, -1])
    ranked = np.array([[0, 1, 2, 3], [2, 1, 0, 3], [0, 1, 3, 2], [3, 0, 1, 2], [0, 1, 2, 3]])
    scores = summary(truth, ranked, 4)(np.ones(5, np.int64))
    assert [scores[name] for name in ("accuracy", "top_3", "top_5", "top_10")] == [0.4, 0.6, 0.8, 0.8]


def test_top_k_is_that_of_scikit_learn():
    rng = np.random.default_rng(3)
    truth, scores = rng.integers(12, size=200), rng.random((200, 12))
    found = summary(truth, np.argsort(-scores, axis=1), 12)(np.ones(200, np.int64))
    for k in (3, 5, 10):
        expected = oracle.top_k_accuracy_score(truth, scores, k=k, labels=range(12))
        assert found[f"top_{k}"] == pytest.approx(expected)


def test_no_rows_give_zero_and_no_warning():
    none = np.empty(0, np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert accuracy(none, none) == 0.0
        intervals = bootstrap_interval(summary(none, none.reshape(0, 1), 3), 0)
    assert set(intervals.values()) == {Interval(0.0, 0.0, 0.0)}


def test_the_interval_of_an_accuracy_is_about_the_binomial_one():
    truth = np.zeros(1000, np.int64)
    ranked = np.where(np.arange(1000) < 700, 0, 1)[:, None]
    interval = bootstrap_interval(summary(truth, ranked, 2), 1000)["accuracy"]
    # 1.96 sqrt(.7 x .3 / 1000) = .0284; 1,000 folds know the percentiles to about .002
    assert interval.value == 0.7
    assert interval.low == pytest.approx(0.7 - 0.0284, abs=0.004)
    assert interval.high == pytest.approx(0.7 + 0.0284, abs=0.004)


def test_every_value_lies_within_its_interval_even_with_tiny_classes():
    rng = np.random.default_rng(0)
    truth = rng.integers(500, size=1300)
    ranked = np.where(rng.random(1300) < 0.7, truth, rng.integers(500, size=1300))[:, None]
    for name, interval in bootstrap_interval(summary(truth, ranked, 500), 1300).items():
        assert 0 <= interval.low < interval.value < interval.high <= 1, name


def test_the_interval_of_an_accuracy_is_the_plain_percentiles_of_its_resamples():
    truth, predicted = random_case(np.random.default_rng(6))
    random, right = np.random.default_rng(8), truth == predicted
    drawn = [right[random.integers(400, size=400)].mean() for _ in range(1000)]
    interval = bootstrap_interval(summary(truth, predicted[:, None], 30), 400, seed=8)["accuracy"]
    assert [interval.low, interval.high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]))


def test_intervals_depend_on_the_seed_alone():
    truth, predicted = random_case(np.random.default_rng(4))
    statistic = summary(truth, predicted[:, None], 30)
    first, again, other = (bootstrap_interval(statistic, 400, folds=50, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_a_perfect_prediction_has_a_point_as_interval():
    truth = np.arange(20) % 7
    assert set(bootstrap_interval(summary(truth, truth[:, None], 7), 20).values()) == {Interval(1.0, 1.0, 1.0)}


def test_tiers_are_by_training_members_with_their_borders():
    counts = np.array([0, 4, 5, 19, 20, 99, 100, 1000])
    codes = np.array([0, 1, 2, 3, 4, 5, 6, 7, -1, 8])  # 8: a class beyond those trained on
    correct = np.array([False, True, True, True, False, True, True, True, False, False])
    tiers = tier_accuracy(codes, correct, counts)
    assert [tier.name for tier in tiers] == ["<5", "5-19", "20-99", "≥100"] == [name for name, _, _ in TIERS]
    assert [tier.n for tier in tiers] == [4, 2, 2, 2]
    assert [tier.accuracy for tier in tiers] == [0.25, 1.0, 0.5, 1.0]


def test_a_tier_without_rows_has_no_accuracy():
    tiers = tier_accuracy(np.array([0]), np.array([True]), np.array([50]))
    assert [(tier.n, tier.accuracy) for tier in tiers] == [(0, None), (0, None), (1, 1.0), (0, None)]


@given(st.lists(st.tuples(st.integers(-1, 5), st.booleans())), st.lists(st.integers(0, 200), min_size=6, max_size=6))
def test_tiers_add_up_to_all_rows_and_all_hits(rows, counts):
    codes = np.array([code for code, _ in rows], np.int64)
    correct = np.array([hit for _, hit in rows], bool)
    tiers = tier_accuracy(codes, correct, np.array(counts))
    assert sum(tier.n for tier in tiers) == len(rows)
    assert sum(tier.n * (tier.accuracy or 0) for tier in tiers) == pytest.approx(correct.sum())
