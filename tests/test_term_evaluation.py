"""Evaluation of a model of many labels: the numbers, the tables, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from test_term_metrics import IA, LABELS, SCORES, in_blocks, random_case

from esmcls.errors import UsageError
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import THRESHOLDS, count, mean_fmax
from esmcls.metrics.cafa_curves import peaks
from esmcls.metrics.classification import equal_bins
from esmcls.tasks.label_sets.evaluation import BUCKETS, TermEvaluation, by_frequency, evaluate_terms, with_unseen


def small(**options: object) -> TermEvaluation:
    """Evaluate the two proteins of which the measures are worked out in the tests of `term_metrics`."""
    truth = LabelSets(LABELS.classes, LABELS.offsets, LABELS.codes, ("F", "F", "F"))
    return evaluate_terms(truth, in_blocks(SCORES), np.array([600, 3]), IA, folds=50, **options)


def test_two_proteins_have_the_measures_worked_out_by_hand() -> None:
    found = small()
    assert (found.n, found.n_terms, found.unseen_terms, found.unseen) == (2, 2, 0, 0)
    [scores] = found.aspects.values()
    values = {name: interval.value for name, interval in scores.metrics.items()}
    assert values == pytest.approx({"fmax": 14 / 19, "wfmax": 10 / 17, "f_micro_w": 8 / 13, "smin": 1.5})
    assert scores.thresholds == {"fmax": 0.01, "wfmax": 0.01, "f_micro_w": 0.01, "smin": 0.71}
    assert (scores.precision[0], scores.recall[0]) == (pytest.approx(7 / 12), 1.0)
    assert (scores.precision[-1], scores.recall[-1]) == (None, 0.0)
    # >500 holds a alone, .9* .5*; 1-5 b alone, .4* .7: at .4 precision 1/2 over the one protein with b, 1; AP 1/2
    buckets = {one.name: (one.terms, one.fmax, one.micro, one.macro) for one in scores.buckets}
    assert buckets[">500"] == (1, 1.0, 1.0, 1.0)
    assert buckets["1-5"] == (1, 1.0, 0.5, 0.5)
    assert [name for name, (terms, *_) in buckets.items() if not terms] == ["0", "6-10", "11-50", "51-500"]
    assert buckets["0"] == (0, None, None, None)


def test_the_tables_are_as_documented() -> None:
    lines = small(lengths=np.array([90, 2000])).lines()
    assert lines[:4] == [
        "2 proteins with 2 terms",
        "",
        "molecular function: 2 proteins with 2 terms",
        "                      value  95 % interval    threshold",
    ]
    assert lines[4].startswith("  Fmax                0.737  ")
    assert lines[4].endswith("  0.01")
    assert [line.split("  ")[1] for line in lines[4:10]] == [
        "Fmax",
        "weighted Fmax",
        "weighted micro F",
        "Smin",
        "AUPR, micro",
        "AUPR, macro",
    ]
    assert lines[10:17] == [
        "  training proteins    Fmax  AUPR, micro  AUPR, macro   terms",
        "  0                       –            –            –       0",
        "  1-5                 1.000        0.500        0.500       1",
        "  6-10                    –            –            –       0",
        "  11-50                   –            –            –       0",
        "  51-500                  –            –            –       0",
        "  >500                1.000        1.000        1.000       1",
    ]
    assert lines[17:] == [
        "  residues             Fmax  proteins",
        "  90                  0.800         1",  # a and b of three at .4
        "  2000                0.667         1",  # a of two at .5
    ]


@pytest.mark.parametrize("seed", range(3))
def test_an_evaluation_holds_what_its_parts_say(seed: int) -> None:
    labels, scores, ia = random_case(seed, 60)
    train = np.random.default_rng(seed).integers(0, 30, labels.n_classes)
    found = evaluate_terms(labels, in_blocks(scores), train, ia, seed, folds=30)
    counts, dense = count(labels, in_blocks(scores), ia), labels.dense()
    assert np.mean([one.metrics["fmax"].value for one in found.aspects.values()]) == pytest.approx(
        mean_fmax(labels, in_blocks(scores))
    )
    for group, (aspect, one) in enumerate(found.aspects.items()):
        assert {name: (one.metrics[name].value, one.thresholds[name]) for name in one.metrics} == peaks(counts, group)
        for interval in one.metrics.values():
            assert interval.low <= interval.high
        columns = np.array(labels.groups) == aspect
        rows = dense[:, columns].any(axis=1)
        assert one.proteins == rows.sum()
        for bucket, (name, first, end) in zip(one.buckets, BUCKETS, strict=True):
            some = columns & (train >= first) & (train < (end or 10**9))
            assert (bucket.name, bucket.terms) == (name, dense[:, some].any(axis=0).sum())
            if bucket.terms:
                micro = average_precision_score(dense[np.ix_(rows, some)].ravel(), scores[np.ix_(rows, some)].ravel())
                assert bucket.micro == pytest.approx(micro)


def test_intervals_hold_the_value_and_are_narrower_with_more_proteins() -> None:
    widths = []
    for n in (50, 800):
        labels, scores, ia = random_case(3, n)
        found = evaluate_terms(labels, in_blocks(scores, 100), np.ones(24, np.int64), ia, folds=200)
        for scores_of in found.aspects.values():
            for interval in scores_of.metrics.values():
                assert interval.low < interval.value < interval.high
        widths.append([one.metrics["fmax"].high - one.metrics["fmax"].low for one in found.aspects.values()])
    assert (np.array(widths[1]) < 0.5 * np.array(widths[0])).all()


def test_an_interval_of_smin_may_lie_above_1() -> None:
    labels, scores, ia = random_case(0, 60)
    found = evaluate_terms(labels, in_blocks(scores), np.ones(24, np.int64), 20 * ia + 20, folds=50)
    assert all(one.metrics["smin"].low > 1 for one in found.aspects.values())


def test_the_same_seed_gives_the_same_bytes_and_another_other_intervals() -> None:
    labels, scores, ia = random_case(1)
    one, same, other = (
        json.dumps(evaluate_terms(labels, in_blocks(scores), np.ones(24, np.int64), ia, seed, folds=20).to_json())
        for seed in (0, 0, 1)
    )
    assert one == same != other
    assert '"counts"' not in one
    assert json.loads(one)["format"] == 1
    assert "NaN" not in one


def test_without_information_accretion_there_is_fmax_and_aupr_alone() -> None:
    labels, scores, _ = random_case(1)
    found = evaluate_terms(labels, in_blocks(scores), np.ones(24, np.int64), folds=5)
    assert all(list(one.metrics) == ["fmax"] == list(one.thresholds) for one in found.aspects.values())
    assert not any("Smin" in line for line in found.lines())


def test_terms_without_training_proteins_are_told_apart_and_count_against_recall() -> None:
    truth = LabelSets.from_names([["a", "new"], ["a"]], groups="CC", classes=["a", "new"])
    coded = with_unseen(truth, ["a", "b"], "CF")
    assert (coded.classes, coded.groups) == (("a", "b", "new"), ("C", "F", "C"))
    assert coded.names() == truth.names()
    found = evaluate_terms(coded, [(slice(0, 2), np.full((2, 2), 0.9))], np.array([7, 8]), folds=5)
    assert (found.n_terms, found.unseen_terms, found.unseen) == (2, 1, 1)
    assert found.lines()[1] == "1 label of 1 term without training proteins (counted as missed)"
    assert list(found.aspects) == ["C"]  # nobody has a term of F
    scores = found.aspects["C"]
    assert scores.metrics["fmax"].value == pytest.approx(2 * 0.75 / 1.75)  # recall 1/2 and 1, precision 1
    assert [one.fmax for one in scores.buckets] == [0.0, None, 1.0, None, None, None]


def test_a_model_term_that_no_protein_has_is_wrong_where_it_is_predicted() -> None:
    truth = with_unseen(LabelSets.from_names([["a"]], groups="C"), ["a", "b"], "CC")
    found = evaluate_terms(truth, [(slice(0, 1), np.full((1, 2), 0.9))], np.array([1, 1]), folds=5)
    assert found.aspects["C"].metrics["fmax"].value == pytest.approx(2 * 0.5 / 1.5)


@pytest.mark.parametrize(
    ("count_", "name"),
    [(0, "0"), (1, "1-5"), (5, "1-5"), (6, "6-10"), (11, "11-50"), (51, "51-500"), (500, "51-500"), (501, ">500")],
)
def test_the_buckets_have_the_bounds_of_their_names(count_: int, name: str) -> None:
    assert by_frequency(LabelSets.from_names([["a"]], groups="P"), np.array([count_])).groups == (f"P {name}",)


def test_the_length_classes_hold_about_as_many_proteins_each_and_all_of_them() -> None:
    labels, scores, _ = random_case(1)
    lengths = np.random.default_rng(0).integers(10, 3000, len(labels))
    found = evaluate_terms(labels, in_blocks(scores), np.ones(24, np.int64), folds=5, lengths=lengths)
    for one in found.aspects.values():
        assert [part.name for part in one.lengths] == equal_bins(lengths)[0]
        assert sum(part.n for part in one.lengths) == one.proteins


def test_each_term_has_its_fmax_by_hand_and_the_average_precision_of_scikit_learn() -> None:
    labels, scores, _ = random_case(1)
    found = evaluate_terms(labels, in_blocks(scores), np.ones(24, np.int64), folds=5, each_term=True).terms
    assert found is not None
    has, groups = labels.dense(), np.array(labels.groups)
    for code in range(labels.n_classes):
        measured = has[:, groups == groups[code]].any(axis=1)
        truth, said = has[measured, code], scores[measured, code]
        assert found.proteins[code] == truth.sum()
        if not truth.any():
            assert np.isnan(found.fmax[code])
            continue
        assert found.average_precision[code] == pytest.approx(average_precision_score(truth, said))
        predicted = said[:, None] >= THRESHOLDS.astype(np.float32)
        f1 = 2 * (predicted & truth[:, None]).sum(axis=0) / (predicted.sum(axis=0) + truth.sum())
        assert found.fmax[code] == pytest.approx(f1.max())
        assert found.threshold[code] == pytest.approx(THRESHOLDS[f1.argmax()])


def test_proteins_without_any_term_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^no protein with a term to evaluate on: give INPUT with --labels, or a"):
        evaluate_terms(LabelSets.from_names([[]], ["a"], "C"), [(slice(0, 1), np.ones((1, 1)))], np.array([1]))


def test_training_counts_of_more_terms_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="training counts of 4 terms for 3 classes"):
        evaluate_terms(LABELS, in_blocks(SCORES), np.ones(4, np.int64))
