"""The kNN and naive heads for many labels: weights by hand, whitening by all rows, aspects for themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.neighbours.term_knn import TermKNNConfig, TermKNNHead
from esmcls.heads.neighbours.term_votes import Known
from esmcls.heads.term_naive import NaiveHead
from esmcls.labels.labels import LabelSets

PLANE = np.array([[1, 0], [0.8, 0.6], [-1, 0], [-0.8, -0.6]], dtype=np.float32)
"""Unit vectors around 0: neither subtracting the mean nor scaling alters a cosine."""


def rows(vectors: Any) -> Features:
    return Features.from_arrays(np.asarray(vectors, dtype=np.float32))


def test_a_probability_is_the_weight_of_neighbours_that_have_the_term_and_of_the_prior() -> None:
    labels = LabelSets.from_names([["a"], ["a", "b"], ["b"], ["b"]])
    config = TermKNNConfig(whiten=False, k=2, temperature=0.5, background=0.2)
    found = TermKNNHead(config).refit(rows(PLANE), labels).predict_proba(rows([[2, 0]]))
    near, far, prior = np.exp(np.array([1.0, 0.8, 0.2]) / 0.5)
    expected = np.array([near + far + prior * 2 / 4, far + prior * 3 / 4]) / (near + far + prior)
    np.testing.assert_allclose(found, [expected], atol=1e-6)


def test_a_neighbour_without_a_term_of_an_aspect_says_nothing_of_it() -> None:
    labels = LabelSets.from_names([["c"], ["f"], ["c", "f"]], ["c", "d", "f"], "CCF")
    found = Known(labels).carried(np.array([[0, 1]]), np.array([[3.0, 1.0]]), np.array([0.0]))
    assert found.tolist() == [[1.0, 0.0, 1.0]]


def test_a_term_that_no_neighbour_has_is_as_probable_as_its_frequency_lets_it_be() -> None:
    labels = LabelSets.from_names([["a"], ["a"], ["b"], ["b", "c"]])
    head = TermKNNHead(TermKNNConfig(whiten=False, k=1, temperature=0.1, background=0.8)).refit(rows(PLANE), labels)
    found = head.predict_proba(rows(PLANE[:1]))[0]
    assert found[1] == pytest.approx(2 * found[2])
    assert 0 < found[2] < found[1] < found[0]


def test_weights_too_far_apart_for_floats_leave_the_nearest_alone() -> None:
    labels = LabelSets.from_names([["a"], ["b"], ["c"], ["c"]])
    config = TermKNNConfig(whiten=False, k=4, temperature=1e-4, background=-1.0)
    found = TermKNNHead(config).refit(rows(PLANE), labels).predict_proba(rows(PLANE))
    np.testing.assert_allclose(found, labels.dense().astype(float), atol=1e-6)


def test_whitening_is_by_the_covariance_of_all_rows() -> None:
    vectors = np.random.default_rng(0).normal(size=(400, 3)) @ [[3, 0, 0], [1, 1, 0], [0, 2, 0.1]]
    labels = LabelSets.from_names([["a"]] * 400)
    head = TermKNNHead(TermKNNConfig(shrinkage=0.0)).refit(rows(vectors), labels)
    matrix = head.finder.whitening.matrix.double().numpy()
    np.testing.assert_allclose(matrix.T @ np.cov(vectors.T) @ matrix, np.eye(3), atol=1e-3)


def test_the_nearest_training_row_is_told_with_its_distance(tmp_path: Path) -> None:
    labels = LabelSets.from_names([["a"]] * 4)
    x = Features.from_arrays(PLANE, ids=["p", "q", "r", "s"])
    head = TermKNNHead(TermKNNConfig(whiten=False)).refit(x, labels)
    head.save(tmp_path)
    for one in (head, TermKNNHead.load(tmp_path, head.chosen, head.classes, head.groups)):
        distance, ids = one.nearest(rows([[0, 1]]))
        assert ids == ["q"]
        assert distance == pytest.approx([0.4], abs=1e-6)


def test_what_is_set_stays_and_the_rest_is_the_best_of_the_trials() -> None:
    random = np.random.default_rng(3)
    vectors, codes = random.normal(size=(80, 4)), random.integers(0, 3, 80)
    vectors[:, 0] += 3 * codes
    labels = LabelSets.from_names([["abc"[code]] for code in codes])
    told: list[dict[str, float]] = []
    head = TermKNNHead(TermKNNConfig(k=7, background=0.3))
    head.fit(
        rows(vectors[:60]), labels.take(slice(60)), (rows(vectors[60:]), labels.take(slice(60, 80))), 0, told.append
    )
    assert (head.chosen.k, head.chosen.background) == (7, 0.3)
    assert head.scores["fmax"] == max(one["fmax"] for one in told)


@pytest.mark.parametrize(("knob", "value"), [("k", 0), ("shrinkage", 2), ("temperature", 0), ("background", 1.5)])
def test_a_knob_out_of_its_range_is_named(knob: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"^setting {knob}: {value} is not "):
        TermKNNConfig(**{knob: value})


def test_the_naive_head_gives_each_term_its_share_of_rows_with_any_of_its_aspect() -> None:
    labels = LabelSets.from_names([["c"], ["c", "f"], ["f"], ["g"], []], ["c", "f", "g"], "CFF")
    found = NaiveHead().refit(rows(np.zeros((5, 0))), labels).predict_proba(rows(np.zeros((2, 0))))
    np.testing.assert_allclose(found, [[1, 2 / 3, 1 / 3]] * 2)
