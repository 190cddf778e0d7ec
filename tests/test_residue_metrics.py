"""Measures of residues against cases counted by hand, and their bootstrap over proteins."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef, roc_auc_score

from esmcls.metrics.residues import (
    confusion_of,
    intervals_over_proteins,
    label_measures,
    number_measures,
    scores_of_confusion,
)

ONE = np.ones(2, dtype=np.int64)


def test_measures_of_labels_are_those_counted_by_hand():
    # two proteins: CCH, EH; answered CHH, EC
    truth, answered = np.array([0, 0, 2, 1, 2]), np.array([0, 2, 2, 1, 0])
    probabilities = np.eye(3, dtype=np.float32)[answered]
    measured = label_measures(truth, probabilities, np.array([0, 0, 0, 1, 1]), 2, "CEH")(ONE)
    assert measured["accuracy"] == 3 / 5
    assert measured["f1_C"] == pytest.approx(2 * 1 / (2 + 2))  # one of two right, two named
    assert measured["f1_E"] == 1
    assert measured["f1_H"] == pytest.approx(1 / 2)
    assert measured["macro_f1"] == pytest.approx((0.5 + 1 + 0.5) / 3)
    # C: 2 x 3 pairs, above in 1 x 2, equal in 1 x 1 + 1 x 2; H alike; E is perfect
    assert measured["auroc"] == pytest.approx(((2 + 3 / 2) / 6 + 1 + (2 + 3 / 2) / 6) / 3)


def test_measures_of_labels_agree_with_scikit_learn():
    random = np.random.default_rng(0)
    truth, probabilities = random.integers(3, size=200), random.random((200, 3)).astype(np.float32)
    measured = label_measures(truth, probabilities, np.arange(200) // 50, 4, "abc")(np.ones(4, dtype=np.int64))
    answered = probabilities.argmax(1)
    assert measured["macro_f1"] == pytest.approx(f1_score(truth, answered, average="macro"))
    assert measured["mcc"] == pytest.approx(matthews_corrcoef(truth, answered))
    areas = [roc_auc_score(truth == code, probabilities[:, code]) for code in range(3)]
    assert measured["auroc"] == pytest.approx(np.mean(areas))


def test_a_protein_that_is_drawn_twice_counts_twice():
    truth, values = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 5])
    protein = np.array([0, 0, 1, 1])
    twice = number_measures(truth, values, protein, 2)(np.array([1, 2]))
    repeated = np.concatenate([truth, truth[2:]]), np.concatenate([values, values[2:]])
    assert twice["spearman"] == pytest.approx(spearmanr(*repeated).statistic)
    assert twice["pearson"] == pytest.approx(np.corrcoef(*repeated)[0, 1])
    assert twice["rmse"] == pytest.approx(np.sqrt(np.mean((repeated[0] - repeated[1]) ** 2)))


def test_a_constant_answer_has_no_correlation():
    measured = number_measures(np.array([1.0, 2, 3]), np.full(3, 0.3), np.array([0, 0, 1]), 2)(ONE)
    assert (measured["spearman"], measured["pearson"]) == (0, 0)


def test_mcc_of_one_class_alone_is_0():
    assert scores_of_confusion(confusion_of(np.array([0, 0]), np.array([0, 0]), 2))["mcc"] == 0


def test_intervals_draw_whole_proteins():
    # one protein is all right, the other all wrong: a resample is 0, a half or 1, never between
    truth, protein = np.zeros(200, dtype=np.int64), np.repeat([0, 1], 100)
    probabilities = np.eye(2, dtype=np.float32)[protein]
    intervals, drawn = intervals_over_proteins(label_measures(truth, probabilities, protein, 2, "ab"), 2, folds=50)
    assert set(drawn[:, 0]) == {0.0, 0.5, 1.0}
    assert (intervals["accuracy"].low, intervals["accuracy"].high) == (0, 1)
