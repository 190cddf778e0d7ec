"""Paired differences of models of many labels: their sign, their intervals, and what is corrected."""

from __future__ import annotations

import numpy as np
import pytest
from test_term_metrics import in_blocks, random_case

from esmcls.metrics.cafa import Counts, count
from esmcls.metrics.cafa_curves import draw, peaks, resample
from esmcls.metrics.paired import holm
from esmcls.tasks.go_terms.comparison import compare_terms

MEASURES = ["fmax", "wfmax", "f_micro_w", "smin"]


def models(n: int = 150, seed: int = 0) -> tuple[Counts, Counts, Counts]:
    """Return a model, one whose scores of true terms are higher, and one that differs from the first by noise alone."""
    labels, scores, ia = random_case(4 + seed, n)
    random = np.random.default_rng(seed)
    one, noisy = (scores + random.normal(0, 0.02, scores.shape).astype(np.float32) for _ in range(2))
    better = one + (0.3 * labels.dense()).astype(np.float32)
    found = [count(labels, in_blocks(some.clip(0, 1)), ia) for some in (one, better, noisy)]
    return found[0], found[1], found[2]


def test_a_model_does_not_differ_from_itself() -> None:
    one, *_ = models()
    [found] = compare_terms(one, [one], folds=99)
    assert list(found) == ["C", "F", "P"]
    for measures in found.values():
        for difference in measures.values():
            assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)
            assert difference.p == difference.p_holm == 1.0


def test_a_better_model_has_a_higher_fmax_and_a_lower_smin_and_least_p() -> None:
    one, better, _ = models()
    [found] = compare_terms(one, [better], folds=199)
    for group, measures in enumerate(found.values()):
        assert list(measures) == MEASURES
        for name, difference in measures.items():
            assert difference.value == peaks(better, group)[name][0] - peaks(one, group)[name][0]
            assert difference.low < difference.value < difference.high
            assert (difference.high < 0) if name == "smin" else (difference.low > 0)
            assert difference.p == 2 / 200


def test_of_differences_by_noise_about_one_in_twenty_has_a_p_of_at_most_5_percent() -> None:
    p = list[float]()
    for seed in range(20):
        one, _, noisy = models(80, seed)
        [found] = compare_terms(one, [noisy], folds=99)
        p += [difference.p for measures in found.values() for difference in measures.values()]
    assert len(p) == 240
    assert np.mean(np.array(p) <= 0.05) < 0.1
    assert np.mean(np.array(p) <= 0.5) > 0.3  # nor is it the other way round


def test_both_models_answer_for_the_same_draw_so_that_the_interval_is_narrower_than_that_of_either() -> None:
    one, _, noisy = models()
    [found] = compare_terms(one, [noisy], folds=199)
    alone = resample(one, 0, draw(len(one), 199, 0))["fmax"]
    low, high = np.percentile(alone, [2.5, 97.5])
    assert found["C"]["fmax"].high - found["C"]["fmax"].low < 0.5 * (high - low)


def test_p_is_corrected_over_models_and_aspects_within_a_measure() -> None:
    one, better, noisy = models()
    found = compare_terms(one, [better, noisy], folds=199)
    for name in MEASURES:
        differences = [measures[name] for model in found for measures in model.values()]
        assert len(differences) == 6
        assert [d.p_holm for d in differences] == holm(np.array([d.p for d in differences])).tolist()
    assert found[0]["C"]["fmax"].p_holm == pytest.approx(6 * 2 / 200)


def test_turning_the_models_round_turns_the_differences_round() -> None:
    one, better, _ = models()
    [there], [back] = compare_terms(one, [better], folds=99), compare_terms(better, [one], folds=99)
    for aspect, measures in there.items():
        for name, difference in measures.items():
            other = back[aspect][name]
            assert (-other.value, -other.high, -other.low) == pytest.approx(
                (difference.value, difference.low, difference.high)
            )
            assert other.p == difference.p


def test_the_same_seed_gives_the_same_numbers() -> None:
    one, _, noisy = models()
    assert compare_terms(one, [noisy], folds=50) == compare_terms(one, [noisy], folds=50)
    assert compare_terms(one, [noisy], folds=50) != compare_terms(one, [noisy], folds=50, seed=1)


def test_measures_that_not_all_have_are_left_out() -> None:
    one, better, _ = models()
    plain = Counts(better.groups, better.plain)
    [found] = compare_terms(one, [plain], folds=20)
    assert all(list(measures) == ["fmax"] for measures in found.values())
    [found] = compare_terms(plain, [one], folds=20)
    assert all(list(measures) == ["fmax"] for measures in found.values())


def test_without_others_there_is_nothing_to_tell() -> None:
    assert compare_terms(models()[0], []) == []


def test_models_that_answered_for_other_proteins_are_refused() -> None:
    one, *_ = models()
    with pytest.raises(ValueError, match=r"^the models answered for other proteins or terms$"):
        compare_terms(one, [one.take(np.arange(len(one))[::-1])])
    with pytest.raises(ValueError, match=r"^the models answered for other proteins or terms$"):
        compare_terms(one, [one.take(np.arange(10))])
