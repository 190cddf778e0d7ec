"""Calibration and rejection of a fitted model: by hand, in blocks, and through JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.labels.labels import Labels
from esmcls.metrics.calibration import conformal_threshold
from esmcls.tasks.one_label import confidence
from esmcls.tasks.one_label.confidence import Confidence, Rejection, known_score, reject, true_probabilities


class Given:
    """Its vectors are the probabilities; the largest is the familiarity."""

    classes = ("a", "b", "c")

    def predict_proba(self, x: Features) -> Any:
        return x.vectors()

    def familiarity(self, x: Features) -> Any:
        return x.vectors().max(1).astype(np.float64)

    def top_k(self, x: Features, k: int) -> Any:
        order = np.argsort(-x.vectors(), axis=1, kind="stable")[:, :k]
        return order, np.take_along_axis(x.vectors(), order, 1)


def rows(*largest: float) -> Features:
    return Features.from_arrays(np.array([[value, 0, 1 - value] for value in largest], dtype=np.float32).reshape(-1, 3))


@pytest.mark.parametrize("cells", [3, 1 << 26])
def test_true_probabilities_are_those_of_the_classes_whatever_the_blocks(
    monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    monkeypatch.setattr(confidence, "CELLS", cells)
    found = true_probabilities(Given(), rows(0.75, 0.5, 0.25), Labels(Given.classes, np.array([0, -1, 2])))
    assert found.tolist() == [0.75, 0.0, 0.75]


def test_the_threshold_is_set_on_some_families_and_measured_on_others() -> None:
    strangers, checks = rows(0.6, 0.7, 0.8, 0.9), rows(0.65, 0.85, 0.95, 0.55)
    known = {"familiarity": np.array([1.0, 0.9]), "probability": np.log([1.0, 0.9])}
    found = reject(Given(), known, strangers, checks, wanted=0.25)  # type: ignore[arg-type]
    assert found == Rejection("familiarity", pytest.approx(0.8), 0.25, 0.5, 0.875, 4, 4)


def test_the_score_is_the_one_that_tells_the_families_better_that_set_the_threshold() -> None:
    class Blind(Given):
        """Equally familiar with everything."""

        def familiarity(self, x: Features) -> Any:
            return np.zeros(len(x))

    known = {"familiarity": np.zeros(2), "probability": np.log([1.0, 0.9])}
    found = reject(Blind(), known, rows(0.6, 0.7), rows(0.65, 0.95), wanted=0.0)  # type: ignore[arg-type]
    assert (found.score, found.reached) == ("probability", 0.5)
    assert found.threshold == pytest.approx(np.log(0.7))
    assert known_score(Blind(), rows(0.5), "probability")[0] == pytest.approx(np.log(0.5))
    assert known_score(Blind(), rows(0.5), "familiarity").tolist() == [0.0]


def test_without_families_to_check_on_nothing_is_claimed() -> None:
    found = reject(Given(), {}, rows(0.6), rows(), wanted=0.0)
    assert (found.reached, found.auroc) == (None, None)


def test_the_threshold_of_sets_is_the_conformal_one_and_survives_json() -> None:
    probabilities = np.linspace(0.01, 1, 100)
    kept = Confidence(tuple(probabilities.tolist()), Rejection("familiarity", 0.1, 0.05, None, 0.9, 3, 0))
    assert kept.threshold(0.9) == conformal_threshold(probabilities, 0.9)
    assert Confidence.from_json(json.loads(json.dumps(kept.to_json()))) == kept


def test_sets_from_one_half_cover_the_other_as_often_as_stated() -> None:
    random = np.random.default_rng(3)
    kept = Confidence(tuple(random.beta(4, 1, 1000).tolist()))
    assert kept.held_half(0.9) == pytest.approx(0.9, abs=0.005)
    assert kept.held_half(0.9) == kept.held_half(0.9)
    ties = Confidence((0.0,) * 300 + (0.9,) * 700)  # a fifth may be missed, but three in ten have no probability
    assert ties.held_half(0.8) == 1.0


def test_a_coverage_without_the_rows_for_it_is_an_error_that_says_how_to_get_them() -> None:
    with pytest.raises(UsageError, match="no calibration rows for --coverage; fit it with --calibration 10%"):
        Confidence().threshold(0.9)
    with pytest.raises(UsageError, match=r"coverage 0.95 needs more than 10 calibration rows"):
        Confidence((0.5,) * 10).threshold(0.95)
    assert Confidence((0.5,) * 19).threshold(0.95) == 0.5
