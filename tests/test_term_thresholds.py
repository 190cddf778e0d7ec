"""Each term has a threshold of its own, the nearer to its aspect's the rarer it is; parents follow their children."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import f1_score

from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import Ontology
from esmcls.tasks.go_terms.hierarchy import TermHierarchy
from esmcls.tasks.label_sets.thresholds import GRID, Counts, Thresholds
from esmcls.types import Probabilities

TREE = Ontology(
    ("GO:0", "GO:1", "GO:2", "GO:3", "GO:4"),
    ("all", "some", "one", "all else", "other"),
    "FFFCC",
    ((), (0,), (1,), (), (3,)),
)
"""GO:0 contains GO:1, that GO:2; GO:3 contains GO:4."""
TERMS = TermHierarchy(TREE, ("GO:1", "GO:2", "GO:4"))


def drawn(n: int = 300, seed: int = 0) -> tuple[LabelSets, Probabilities]:
    """Return labels of four terms in two groups, one of them rare, and scores that know something of them."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, 4)) < [0.5, 0.2, 0.02, 0.3]
    scores = np.clip(0.3 * truth + 0.7 * rng.random((n, 4)) ** 2, 0, 1).astype(np.float32)
    return LabelSets.from_codes("abcd", [np.flatnonzero(row).tolist() for row in truth], "CCCF"), scores


def choose(labels: LabelSets, scores: Probabilities, prior: float, block: int = 64) -> Thresholds:
    counts = Counts(labels)
    for start, stop in pairwise([*range(0, len(labels), block), len(labels)]):
        counts.add(slice(start, stop), scores[start:stop])
    return counts.choose(prior)


def f1(truth: np.ndarray, scores: np.ndarray) -> list[float]:
    """Return F1 at each threshold of the grid, by scikit-learn."""
    return [f1_score(truth.ravel(), (scores >= value).ravel(), zero_division=0) for value in GRID]


def test_without_shrinkage_no_threshold_of_the_grid_has_a_better_f1() -> None:
    labels, scores = drawn()
    found, truth = choose(labels, scores, prior=0), labels.dense()
    for term in range(4):
        curve = f1(truth[:, term], scores[:, term])
        assert curve[GRID.tolist().index(found.values[term])] == pytest.approx(max(curve))


def test_the_threshold_of_an_aspect_is_that_of_all_its_decisions() -> None:
    labels, scores = drawn()
    pooled, truth = choose(labels, scores, prior=0).pooled, labels.dense()
    for aspect, columns in (("C", slice(0, 3)), ("F", slice(3, 4))):
        assert pooled[aspect] == pytest.approx(GRID[np.argmax(f1(truth[:, columns], scores[:, columns]))], abs=1e-4)


@pytest.mark.parametrize("prior", [1, 10, 200])
def test_a_threshold_lies_between_the_terms_own_and_its_aspects_by_the_number_of_positives(prior: float) -> None:
    labels, scores = drawn()
    own, found = choose(labels, scores, prior=0), choose(labels, scores, prior)
    n, pooled = labels.counts(), np.array([own.pooled[group] for group in labels.groups])
    np.testing.assert_allclose(found.values, (n * own.values + prior * pooled) / (n + prior), atol=1e-4)


@pytest.mark.parametrize("prior", [0, 10])
def test_a_term_without_a_positive_has_the_threshold_of_its_aspect(prior: float) -> None:
    labels, scores = drawn()
    without = LabelSets.from_names([set(names) - {"c"} for names in labels.names()], "abcd", "CCCF")
    found = choose(without, scores, prior=prior)
    assert found.values[2] == pytest.approx(found.pooled["C"], abs=1e-4)


def test_of_equally_good_thresholds_the_nearest_to_the_aspects_is_taken() -> None:
    """Ten proteins fix the aspect's threshold at .5; for `b` all from .15 to .8 are as good."""
    labels = LabelSets.from_names([["a"]] * 10 + [["b"]] + [[]] * 10, "ab", "FF")
    scores = np.zeros((21, 2), np.float32)
    scores[:10, 0], scores[11:, 0], scores[10, 1], scores[11, 1] = 0.5, 0.45, 0.8, 0.1
    found = choose(labels, scores, prior=0)
    assert found.pooled == {"F": pytest.approx(0.5)}
    np.testing.assert_allclose(found.values, [0.5, 0.5])


def test_blocks_do_not_change_what_is_chosen() -> None:
    labels, scores = drawn()
    np.testing.assert_array_equal(choose(labels, scores, 10, 7).values, choose(labels, scores, 10, 300).values)


def test_with_a_term_all_are_predicted_that_contain_it() -> None:
    found = Thresholds(np.array([0.9, 0.2, 0.5], np.float32), {})
    scores = np.array([[0.4, 0.3, 0.6], [0.4, 0.1, 0.6]], np.float32)
    assert found.decide(scores, TERMS, at_least=0).tolist() == [[True, True, True], [False, False, True]]


def test_where_no_term_of_an_aspect_reaches_its_threshold_the_most_probable_ones_are_predicted() -> None:
    found = Thresholds(np.full(3, 0.5, np.float32), {})
    scores = np.array([[0.2, 0.2, 0.9], [0.6, 0.1, 0.0]], np.float32)
    assert found.decide(scores, TERMS, at_least=0).tolist() == [[False, False, True], [True, False, False]]
    assert found.decide(scores, TERMS, at_least=1).tolist() == [[True, False, True], [True, False, False]]
    assert found.decide(scores, TERMS, at_least=5).tolist() == [[True, True, True], [True, False, False]]


def test_new_classes_have_their_aspects_threshold_and_known_ones_keep_theirs() -> None:
    found = Thresholds(np.array([0.3, 0.7], np.float32), {"F": 0.4, "C": 0.6}, n=9)
    again = found.recoded(("b", "d"), ("a", "b", "c", "d"), "FFCC")
    np.testing.assert_allclose(again.values, [0.4, 0.3, 0.6, 0.7])
    assert (again.pooled, again.n) == (found.pooled, 9)


def test_thresholds_come_back_from_json() -> None:
    found = choose(*drawn(), prior=10)
    again = Thresholds.from_json(json.loads(json.dumps(found.to_json())))
    np.testing.assert_allclose(again.values, found.values, atol=1e-4)
    assert (again.pooled, again.prior, again.n) == (found.pooled, 10, 300)


def test_what_was_chosen_is_said_and_also_that_nothing_was() -> None:
    assert choose(*drawn(), prior=10).line().startswith("thresholds from 300 validation proteins")
    assert Thresholds.unknown("CF").line() == "thresholds: 0.5 for every term, for want of validation proteins"
