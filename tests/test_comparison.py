"""Answers of models side by side: by hand, and the same bytes from the same answers."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from esmcls.evaluation.compare import timing
from esmcls.metrics.calibration import auroc
from esmcls.metrics.open_set import Rate
from esmcls.metrics.paired import Difference, accuracy_differences
from esmcls.reporting.results import Cost
from esmcls.tasks.comparing import Entrant
from esmcls.tasks.one_label.answers import DEPTH, Answers
from esmcls.tasks.one_label.comparison import (
    by_length,
    compare_answers,
    confusions,
    open_set,
    retained,
    sets,
)
from esmcls.tasks.one_label.results import ConformalSets, Confusion

CLASSES = ("a", "b", "c")


def answers(truth: list[int], said: list[int], probability: list[float] | None = None, **more: Any) -> Answers:
    n = len(truth)
    ranked = np.full((n, DEPTH), -1, dtype=np.int64)
    ranked[:, 0] = said
    nothing = np.zeros(0)
    plain = Answers(
        truth=np.array(truth),
        ranked=ranked,
        probability=np.linspace(0.2, 0.9, n) if probability is None else np.array(probability),
        lengths=np.full(n, 150),
        members=np.full(n, 7),
        familiar=nothing,
        unfamiliar=nothing,
        accepted=nothing.astype(bool),
        wrongly=nothing.astype(bool),
        covered=nothing.astype(bool),
        sizes=nothing.astype(np.int64),
        seconds=np.array([[2.0, 0.5]]),
        about={"validation": {"accuracy": 0.5, "macro_f1": 0.4}, "megabytes": 1.5, "held_half": None},
    )
    return replace(plain, **more)


def entrants() -> list[Entrant[Answers]]:
    random = np.random.default_rng(0)
    truth = random.integers(3, size=300)
    made = []
    for name, share, baseline in (("poor", 0.4, False), ("good", 0.9, False), ("dull", 0.1, True)):
        said = np.where(random.random(300) < share, truth, (truth + 1) % 3)
        made.append(Entrant(name, "linear", "toy", baseline, answers(truth.tolist(), said.tolist())))
    return made


def test_rows_come_best_first_each_with_its_difference_to_the_best() -> None:
    rows = compare_answers(entrants(), CLASSES)
    assert [row.name for row in rows] == ["good", "poor", "dull"]
    assert rows[0].versus_best is None
    for row in rows[1:]:
        found = row.versus_best
        gap = row.metrics["accuracy"].value - rows[0].metrics["accuracy"].value
        assert found is not None
        assert found.difference.value == pytest.approx(gap)
        assert found.difference.low < gap < found.difference.high
        assert found.p <= found.p_holm <= 2 * found.p
        assert found.p_holm < 0.01


def test_the_same_answers_give_the_same_bytes_and_timing_stands_apart() -> None:
    once, again = entrants(), entrants()
    slow = [replace(one, answers=replace(one.answers, seconds=one.answers.seconds * 9)) for one in again]
    rows = compare_answers(once, CLASSES)
    first, second = (json.dumps([asdict(row) for row in compare_answers(some, CLASSES)]) for some in (once, slow))
    assert first == second
    report: Any = SimpleNamespace(rows=rows)
    assert timing(once, report).rows[0] == Cost("good", fit_seconds=2.0, proteins_per_second=600)
    assert timing(slow, report).rows[0] == Cost("good", fit_seconds=18.0, proteins_per_second=67)


def test_models_that_answered_for_other_proteins_are_not_compared() -> None:
    one, other, _ = entrants()
    with pytest.raises(ValueError, match="other proteins"):
        compare_answers([one, replace(other, answers=answers([0], [0]))], CLASSES)


def test_a_model_that_errs_where_the_best_does_is_not_told_from_it() -> None:
    best = answers([0, 1, 2] * 30, [0, 1, 1] * 30)
    other = answers([0, 1, 2] * 30, [0, 1, 0] * 30)  # as often right, on the same proteins
    [found] = accuracy_differences(best.right, [other.right])
    assert found == Difference(0.0, low=0.0, high=0.0, p=1.0, p_holm=1.0)


def test_pairing_sees_a_small_difference_that_two_intervals_would_hide() -> None:
    truth = [0] * 500
    best = answers(truth, [0] * 300 + [1] * 200)
    other = answers(truth, [0] * 288 + [1] * 212)  # wrong wherever the best is, and 12 times more
    [found] = accuracy_differences(best.right, [other.right])
    assert found.p < 0.01
    assert -0.04 < found.low < found.high < 0


def test_no_p_is_below_what_the_number_of_draws_can_tell() -> None:
    always, never = np.ones(50, dtype=bool), np.zeros(50, dtype=bool)
    [found] = accuracy_differences(always, [never], draws=199)
    assert (found.value, found.low, found.high, found.p) == (-1.0, -1.0, -1.0, 2 / 200)


def test_without_others_there_is_no_difference() -> None:
    assert accuracy_differences(np.ones(5, dtype=bool), []) == []


def test_accuracy_by_length_is_told_in_bins_of_as_many_proteins() -> None:
    lengths = np.array([1023, 99, 100, 1022, 57, 400, 58, 401, 59, 402])
    predicted = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    found = by_length(answers([0] * 10, predicted, lengths=lengths))
    assert [(one.name, one.n, one.accuracy) for one in found] == [
        ("57–58", 2, 1.0),
        ("59–99", 2, 1.0),
        ("100–400", 2, 0.5),
        ("401–402", 2, 1.0),
        ("1022–1023", 2, 1.0),
    ]


def test_family_sizes_have_the_bins_of_the_data_and_all_models_have_the_same() -> None:
    made = entrants()
    sized = replace(made[0], answers=replace(made[0].answers, members=np.arange(300) // 3))
    by_model = [row.tiers for row in compare_answers([sized, made[1]], CLASSES)]
    names = ["0–19", "20–39", "40–59", "60–79", "80–99"]
    assert [[(part.name, part.n) for part in tiers] for tiers in by_model] == [[(name, 60) for name in names]] * 2


def test_reliability_is_told_in_bins_of_as_many_proteins_with_intervals() -> None:
    [row] = compare_answers(entrants()[:1], CLASSES)
    bins = row.reliability
    assert sum(bins.counts) == 300
    for low, share, high in zip(bins.low, bins.accuracy, bins.high, strict=True):
        assert low is not None
        assert share is not None
        assert high is not None
        assert low <= share <= high


def test_accuracy_among_the_most_confident_begins_with_them_and_ends_with_all() -> None:
    found = retained(answers([0] * 4, [0, 1, 0, 0], [0.1, 0.2, 0.9, 0.8]))
    at = dict(zip(found.coverage, found.accuracy, strict=True))
    assert (at[0.0], at[0.25], at[0.5], at[0.75], at[1.0]) == (None, 1.0, 1.0, pytest.approx(2 / 3), 0.75)
    assert len(found.coverage) == 101


def test_pairs_that_are_confused_most_come_first_with_how_many_there_are() -> None:
    found = confusions(answers([0, 0, 0, 1, 2, 2], [1, 1, 0, 1, 0, 1]), CLASSES)
    assert found == [Confusion("a", "b", n=2, of=3), Confusion("c", "a", n=1, of=2), Confusion("c", "b", n=1, of=2)]


def test_rejection_is_measured_at_the_threshold_and_over_all_of_them() -> None:
    random = np.random.default_rng(1)
    near, far = random.normal(1, 1, 400), random.normal(0, 1, 300)
    truth, families = [n // 40 for n in range(400)], np.arange(300) // 3
    told = {"validation": None, "megabytes": 0, "told": {"reached": 0.05, "accepted": None}}
    one = answers(truth, truth, familiar=near, unfamiliar=far, accepted=near > 1, wrongly=far > 1, about=told)
    one = replace(one, families=families)
    found = open_set(one, 0.05)
    assert found is not None
    assert found.auroc == auroc(near, far)
    assert found.reached == pytest.approx((far > 1).mean())
    assert found.accepted == pytest.approx((near > 1).mean())
    assert (found.known, found.strangers, found.wanted) == (400, 300, 0.05)
    strangers, known = Rate.of(far > 1, families), Rate.of(near > 1, np.array(truth))
    assert (found.reached_low, found.reached_high) == (strangers.low, strangers.high)
    assert (found.accepted_low, found.accepted_high) == (known.low, known.high)
    assert (found.told_reached, found.told_accepted) == (0.05, None)
    x, y = (np.array(rates) for rates in (found.roc.false_acceptance, found.roc.acceptance))
    assert len(x) == len(y) <= 200
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(found.auroc, abs=0.01)
    assert open_set(answers([0], [0]), 0.05) is None


def test_sets_are_told_with_what_they_cover_and_how_large_they_are() -> None:
    about = {"validation": None, "megabytes": 0, "held_half": 0.94, "calibration_rows": 80}
    covered, sizes = np.array([True, True, False, True]), np.array([1, 1, 2, 8])
    found = sets(answers([0] * 4, [0] * 4, covered=covered, sizes=sizes, about=about), 0.95)
    assert found == ConformalSets(
        coverage=0.95, held_half=0.94, test=0.75, mean_size=3.0, median_size=1.5, calibration_rows=80
    )
    assert sets(answers([0], [0]), 0.95) is None


def test_folds_are_told_one_by_one_and_their_answers_put_together() -> None:
    folds = (answers([0, 1], [0, 0]), answers([2], [2]))
    joined = Answers.joined(folds)
    [row] = compare_answers([Entrant("one", "knn", "toy", False, joined, folds)], CLASSES)
    assert [fold.accuracy for fold in row.folds] == [0.5, 1.0]
    assert row.metrics["accuracy"].value == pytest.approx(2 / 3)
    assert joined.about == folds[0].about
    report: Any = SimpleNamespace(rows=[row])
    assert timing([Entrant("one", "knn", "toy", False, joined)], report).rows[0].fit_seconds == 4.0
