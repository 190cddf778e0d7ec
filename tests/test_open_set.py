"""Lines between known proteins and strangers, and shares with intervals: by hand, against scikit-learn and by draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from esmcls.metrics.open_set import Rate, fit_logistic, known_threshold, threshold_for, wilson, without


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.floats(0.01, 1))
def test_at_least_the_wanted_share_of_known_proteins_is_accepted(scores: list[float], share: float) -> None:
    known = np.array(scores)
    threshold = known_threshold(known, share)
    assert np.mean(known > threshold) >= share - 1e-9
    assert np.mean(known > known[known > threshold].min()) < share  # and no higher line does


def test_the_line_is_drawn_by_strangers_unless_a_share_of_known_is_given() -> None:
    known, strangers = np.linspace(0.5, 1, 11), np.linspace(0, 0.9, 10)
    assert threshold_for(known, strangers, 0.1, None) == pytest.approx(0.8)
    assert np.mean(known > threshold_for(known, strangers, 0.1, 1.0)) == 1.0


def test_weights_are_those_of_logistic_regression_where_none_is_negative() -> None:
    random = np.random.default_rng(0)
    known = np.arange(3000) < 500
    columns = random.normal(np.where(known, 1.0, 0.0)[:, None], [1.0, 2.0], (3000, 2))
    theirs = LogisticRegression(class_weight="balanced", C=1e6).fit(columns, known)
    ours = fit_logistic(columns, known)
    np.testing.assert_allclose(ours, [*theirs.coef_[0], theirs.intercept_[0]], rtol=0.02, atol=0.02)
    backwards = fit_logistic(columns * [1, -1], known)
    assert backwards[1] == 0.0


def test_an_interval_holds_the_true_share_as_often_as_it_says_when_families_go_together() -> None:
    random, held = np.random.default_rng(0), 0
    for _ in range(300):
        rates = random.beta(2, 6, 60)  # a share of its own for each of 60 families of 10
        yes = random.random((60, 10)) < rates[:, None]
        rate = Rate.of(yes.ravel(), np.repeat(np.arange(60), 10))
        held += rate.low <= 0.25 <= rate.high
    assert 0.92 <= held / 300 <= 0.985


def test_an_interval_of_none_or_all_is_as_wide_as_families_are_few() -> None:
    none = Rate.of(np.zeros(100, dtype=bool), np.repeat(np.arange(10), 10))
    assert (none.share, none.low, none.high) == (0.0, 0.0, pytest.approx(wilson(0, 10)[1]))
    assert Rate.of(np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64)) == Rate(0.0, 0.0, 1.0, 0)
    one_family = Rate.of(np.arange(10) < 5, np.zeros(10, dtype=np.int64))
    assert one_family.high - one_family.low > 0.8


def test_folds_are_given_with_all_the_others() -> None:
    [[own, others], *_] = list(without(np.array([0, 1, 0, 2])))
    assert own.tolist() == [True, False, True, False]
    assert others.tolist() == [False, True, False, True]
