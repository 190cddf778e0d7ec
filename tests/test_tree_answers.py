"""Answers at a level of a tree: as narrow as can be, and right as often as was promised."""

from __future__ import annotations

import numpy as np
import pytest

from esmcls.errors import UsageError
from esmcls.labels.hierarchy import ClassTree, Hierarchy
from esmcls.metrics.tree_answers import (
    answered_levels,
    least_thresholds,
    node_masses,
    path_masses,
    tree_threshold,
)
from esmcls.types import Floats, Indices, Probabilities

CLASSES = [f"{a}.{b}.{c}" for a in (1, 2) for b in (1, 2, 3) for c in (1, 2, 3, 4)] + ["1.1.-", "2.-.-"]
TREE = ClassTree.of(Hierarchy.of_dots(CLASSES), CLASSES)


def drawn(rows: int, seed: int, overconfident: float = 3.0) -> tuple[Probabilities, Indices]:
    """Return probabilities that a model gives, and true classes: it is too sure of itself, and leans to neighbours."""
    random = np.random.default_rng(seed)
    truth = random.integers(len(CLASSES), size=rows)
    near = (TREE.paths[truth][:, None, :] == TREE.paths[None]).sum(axis=2)
    logits = overconfident * (0.7 * near + (np.arange(len(CLASSES))[None] == truth[:, None]))
    logits = logits + random.normal(0, 2.5, (rows, len(CLASSES)))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), truth


def asked(probabilities: Probabilities, truth: Indices) -> tuple[Floats, Indices, Floats]:
    """Return the masses of rows, down to which level they are right, and their scores."""
    likeliest, masses = path_masses(probabilities, TREE)
    agreement = TREE.agreement(truth, likeliest)
    return masses, agreement, least_thresholds(masses, agreement, TREE.depths[likeliest])


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_answers_hold_the_true_class_as_often_as_promised_whatever_the_model(coverage: float) -> None:
    """Over 300 draws of calibration and new rows from one source; four standard errors of their mean are allowed."""
    n, reached = 99, []
    for draw in range(300):
        probabilities, truth = drawn(n + 50, seed=draw)
        masses, agreement, scores = asked(probabilities, truth)
        levels = answered_levels(masses[n:], tree_threshold(scores[:n], coverage))
        reached.append(float((levels <= agreement[n:]).mean()))
    error = float(np.std(reached)) / len(reached) ** 0.5
    assert coverage - 4 * error < np.mean(reached) < coverage + 1 / (n + 1) + 4 * error + 0.01


def test_a_calibration_row_is_held_by_every_threshold_from_its_score_on_and_by_none_below() -> None:
    masses, agreement, scores = asked(*drawn(200, seed=1))
    for row in range(200):
        at = answered_levels(masses[[row]], float(scores[row]))
        assert at[0] <= agreement[row]
        if scores[row] > 0:
            below = answered_levels(masses[[row]], float(np.nextafter(scores[row], 0)))
            assert below[0] > agreement[row]


def test_a_higher_threshold_never_gives_a_narrower_answer() -> None:
    masses, _, _ = asked(*drawn(100, seed=2))
    levels = np.stack([answered_levels(masses, threshold) for threshold in np.linspace(0, 1, 21)])
    assert (np.diff(levels, axis=0) <= 0).all()
    assert levels.min() == 0
    assert levels.max() == 3


def test_the_mass_of_a_node_is_that_of_all_classes_at_or_under_it() -> None:
    probabilities, _ = drawn(7, seed=3)
    masses = node_masses(probabilities, TREE)
    for place, node in enumerate(TREE.nodes):
        under = [code for code, label in enumerate(CLASSES) if f"{label.rstrip('-.')}.".startswith(f"{node}.")]
        np.testing.assert_allclose(masses[:, place], probabilities[:, under].sum(axis=1), rtol=1e-5)


def test_a_partial_code_that_is_likeliest_is_answered_at_its_own_level_and_no_lower() -> None:
    probabilities = np.full((1, len(CLASSES)), 1e-4, np.float32)
    probabilities[0, CLASSES.index("1.1.-")] = 0.9
    likeliest, masses = path_masses(probabilities, TREE)
    assert TREE.depths[likeliest].tolist() == [2]
    assert answered_levels(masses, 0.5).tolist() == [2]
    assert least_thresholds(masses, TREE.agreement(np.array([0]), likeliest), TREE.depths[likeliest]).tolist() == [0.0]


def test_a_class_that_the_model_does_not_know_is_held_by_the_node_above_it() -> None:
    tree = ClassTree.of(TREE.hierarchy, [*CLASSES, "1.1.9"])
    probabilities = np.zeros((1, len(CLASSES)), np.float32)
    probabilities[0, CLASSES.index("1.1.1")] = 0.75
    probabilities[0, CLASSES.index("1.2.1")] = 0.25
    likeliest, masses = path_masses(probabilities, tree)
    agreement = tree.agreement(np.array([len(CLASSES)]), likeliest)
    assert agreement.tolist() == [2]
    assert least_thresholds(masses, agreement, tree.depths[likeliest]).tolist() == [0.75]


def test_too_few_calibration_rows_give_no_answer_at_all() -> None:
    threshold = tree_threshold(np.array([0.1, 0.2]), 0.9)
    assert answered_levels(np.array([[1.0, 1.0, 1.0]]), threshold).tolist() == [0]


def test_a_coverage_out_of_range_is_refused() -> None:
    with pytest.raises(UsageError, match="is not between 0 and 1"):
        tree_threshold(np.array([0.1]), 1.0)
