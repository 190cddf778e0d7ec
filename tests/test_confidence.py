"""Calibration and rejection of a fitted model: by hand, in blocks, and through JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from esmcls.cache.features import Features
from esmcls.datasets.held_out import Shares
from esmcls.errors import UsageError
from esmcls.labels.labels import Labels
from esmcls.metrics.calibration import conformal_threshold
from esmcls.metrics.open_set import Rate
from esmcls.tasks.one_label import confidence
from esmcls.tasks.one_label.confidence import Confidence, Rejection, reject, signals, true_probabilities
from esmcls.tasks.one_label.validation_answers import FoldAnswers


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


def answered(known: Any, strangers: Any, familiarity: Any = None) -> FoldAnswers:
    """Return rows of five folds whose likeliest class has these probabilities, each of a family of its own."""
    first = np.r_[known, strangers].astype(np.float32)
    n = len(first)
    return FoldAnswers(
        codes=np.tile([0, 1], (n, 1)),
        probabilities=np.column_stack((first, 1 - first)),
        familiarity=first.astype(np.float64) if familiarity is None else np.asarray(familiarity, dtype=np.float64),
        families=np.arange(n),
        folds=np.arange(n) % 5,
        strangers=np.arange(n) >= len(known),
    )


def random_rows(seed: int = 0, blind: str = "") -> FoldAnswers:
    """Return 400 known proteins and 400 strangers, by scores that tell them apart but for one that is blind."""
    random = np.random.default_rng(seed)
    probability = np.r_[random.beta(6, 2, 400), random.beta(3, 3, 400)]
    familiarity = np.r_[random.normal(2, 1, 400), random.normal(0, 1, 400)]
    if blind == "familiarity":
        familiarity = random.normal(0, 1, 800)
    if blind == "probability":
        probability = np.full(800, 0.5)
    return answered(probability[:400], probability[400:], familiarity)


def test_a_few_strangers_set_the_threshold_by_the_naive_cut() -> None:
    found = reject(answered([0.9, 0.95], [0.5, 0.6, 0.7, 0.8]), Shares(1.0, false_acceptance=0.25), 4)
    assert (found.score, found.point, found.wanted, found.families) == ("probability", "false_acceptance", 0.25, 4)
    assert found.threshold == pytest.approx(np.log(0.7))
    assert found.auroc == 1.0


@pytest.mark.parametrize(("blind", "score"), [("familiarity", "probability"), ("probability", "familiarity")])
def test_a_score_that_tells_nothing_is_not_relied_on(blind: str, score: str) -> None:
    rows = random_rows(blind=blind)
    found = reject(rows, Shares(1.0), 400)
    assert found.known is not None
    alone = signals(rows.probabilities, rows.familiarity)[:, ["probability", "familiarity"].index(score)]
    naive = np.mean(alone[:400] > np.sort(alone[400:])[-21])
    assert found.score in (score, "combined")
    assert found.known.share >= naive - 0.02


def test_scores_that_each_tell_something_are_combined_and_accept_more() -> None:
    rows = random_rows()
    found = reject(rows, Shares(1.0), 400)
    assert found.score == "combined"
    assert found.known is not None
    for column in signals(rows.probabilities, rows.familiarity)[:, :2].T:
        assert found.known.share > np.mean(column[:400] > np.sort(column[400:])[-21])


def test_what_is_told_of_strangers_and_known_holds_for_new_ones() -> None:
    found, new = reject(random_rows(), Shares(1.0), 400), random_rows(1)
    accepted = found.scores(new.probabilities, new.familiarity) > found.threshold
    assert found.known is not None
    assert found.strangers is not None
    assert found.known.low < accepted[:400].mean() < found.known.high
    assert found.strangers.low < accepted[400:].mean() < found.strangers.high
    assert found.strangers.share == pytest.approx(0.05, abs=0.02)


def test_the_line_can_be_drawn_by_the_share_of_known_proteins() -> None:
    rows = random_rows()
    found = reject(rows, Shares(1.0, accept_known=0.9), 400)
    assert (found.point, found.wanted) == ("accept_known", 0.9)
    accepted = found.scores(rows.probabilities, rows.familiarity) > found.threshold
    assert accepted[:400].mean() == pytest.approx(0.9)
    assert found.known is not None
    assert found.known.share == pytest.approx(0.9, abs=0.02)
    with pytest.raises(UsageError, match="--accept-known needs proteins of known families beside"):
        reject(answered([], [0.5, 0.6]), Shares(1.0, accept_known=0.9), 2)


def test_without_known_proteins_nothing_is_claimed_of_them() -> None:
    found = reject(answered([], [0.5, 0.6]), Shares(1.0, false_acceptance=0.0), 2)
    assert (found.known, found.auroc) == (None, None)
    assert found.threshold == pytest.approx(np.log(0.6))


def test_a_head_is_asked_for_what_the_score_needs() -> None:
    assert Rejection("familiarity", 0.5, 0.05).of(Given(), rows(0.75)).tolist() == [0.75]
    assert Rejection("probability", 0.5, 0.05).of(Given(), rows(0.75)).tolist() == [np.log(0.75)]
    both = Rejection("combined", 0.5, 0.05, weights=(1.0, 2.0, 3.0, 4.0)).of(Given(), rows(0.75))
    assert both[0] == pytest.approx(np.log(0.75) + 2 * 0.75 + 3 * np.log(3) + 4)


def test_a_threshold_of_esmcls_0_1_0_is_read() -> None:
    written = {"score": "familiarity", "threshold": 0.1, "wanted": 0.05, "reached": 0.25}
    written |= {"auroc": 0.9, "strangers": 3, "checks": 8}
    found = Confidence.from_json({"format": 1, "true_probabilities": [], "rejection": written}).rejection
    assert found is not None
    assert (found.score, found.threshold, found.point, found.folds) == ("familiarity", 0.1, "false_acceptance", 0)
    assert found.strangers is not None
    assert (found.strangers.share, found.strangers.n, found.known) == (0.25, 8, None)
    assert found.strangers.low < 0.25 < found.strangers.high


def test_the_threshold_of_sets_is_the_conformal_one_and_survives_json() -> None:
    probabilities = np.linspace(0.01, 1, 100)
    rejection = Rejection("combined", 0.1, 0.05, known=Rate(0.9, 0.8, 0.95, 30), folds=5, weights=(1.0, 2.0, 3.0, 4.0))
    kept = Confidence(tuple(probabilities.tolist()), rejection)
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
