"""CAFA's measures against cases worked out by hand, and against the cafaeval package on the same files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cafaeval.evaluation import cafa_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import ASPECTS, ROOTS, Ontology, raise_parents
from esmcls.metrics.cafa import THRESHOLDS, Counts, count, fmax_by_group, mean_fmax
from esmcls.metrics.cafa_curves import curves, draw, peaks, resample

# Two proteins, three terms of information accretion 1, 2, 3:
#
#             a    b    c
#   first    .9*  .4*  .6       * what it has
#   second   .5*  .7   0
LABELS = LabelSets.from_names([["a", "b"], ["a"]], ["a", "b", "c"])
SCORES = np.array([[0.9, 0.4, 0.6], [0.5, 0.7, 0.0]], np.float32)
IA = np.array([1.0, 2.0, 3.0])


def in_blocks(scores: np.ndarray, size: int = 7) -> Iterator[tuple[slice, np.ndarray]]:
    """Give scores in blocks, each in the place of the one before."""
    buffer = np.empty((size, scores.shape[1]), scores.dtype)
    for first in range(0, len(scores), size):
        rows = slice(first, min(first + size, len(scores)))
        buffer[:] = np.nan
        buffer[: rows.stop - first] = scores[rows]
        yield rows, buffer[: rows.stop - first]


def random_case(seed: int, n: int = 30, terms: int = 24) -> tuple[LabelSets, np.ndarray, np.ndarray]:
    """Return labels in three groups, scores on a coarse grid, and information accretion, here and there 0."""
    random = np.random.default_rng(seed)
    groups = [str(one) for one in random.choice(list("CFP"), terms)]
    rows = [np.flatnonzero(random.random(terms) < 0.15).tolist() for _ in range(n)]
    labels = LabelSets.from_codes([f"t{i:02}" for i in range(terms)], rows, groups)
    scores = (random.random((n, terms)) * (0.3 + labels.dense())).clip(0, 1).round(2).astype(np.float32)
    return labels, scores, np.where(random.random(terms) < 0.2, 0.0, random.random(terms) * 5)


# Worked out by hand


def test_a_case_of_two_proteins_has_the_measures_worked_out_by_hand() -> None:
    # up to .4: precision (2/3 + 1/2) / 2 = 7/12, recall (2/2 + 1/1) / 2 = 1, F 14/19: the best, first at .01
    #           weighted precision (3/6 + 1/3) / 2 = 5/12, recall 1, F 10/17: the best, too
    #           weighted sums: right 3 + 1, wrong 3 + 2, missed 0: micro F 8/13, the best, too
    #           S: nothing missed, (3 + 2) / 2 of it wrong: 2.5
    # above .7: the first has a, the second nothing: recall (1/2 + 0) / 2, S: (2 + 1) / 2 missed, none wrong: 1.5
    found = peaks(count(LABELS, in_blocks(SCORES), IA), 0)
    assert found["fmax"] == (pytest.approx(14 / 19), 0.01)
    assert found["wfmax"] == (pytest.approx(10 / 17), 0.01)
    assert found["f_micro_w"] == (pytest.approx(8 / 13), 0.01)
    assert found["smin"] == (pytest.approx(1.5), 0.71)


def test_precision_is_over_proteins_with_a_prediction_and_recall_over_all() -> None:
    curve = curves(count(LABELS, in_blocks(SCORES), IA), 0)
    for threshold, precision, recall, coverage in (
        (0.4, 7 / 12, 1.0, 1.0),
        (0.5, 1 / 2, 3 / 4, 1.0),
        (0.6, 1 / 4, 1 / 4, 1.0),
        (0.65, 1 / 2, 1 / 4, 1.0),
        (0.9, 1.0, 1 / 4, 1 / 2),
        (0.91, 0.0, 0.0, 0.0),
    ):
        place = round(100 * threshold) - 1
        reached = curve.precision[0, place], curve.recall[0, place], curve.coverage[0, place]
        assert reached == pytest.approx((precision, recall, coverage)), threshold


def test_the_semantic_distance_of_each_threshold_is_that_worked_out_by_hand() -> None:
    found = curves(count(LABELS, in_blocks(SCORES), IA), 0).at_thresholds()["smin"][0]
    by_hand = {0.4: (0, 2.5), 0.5: (1, 2.5), 0.6: (1.5, 2.5), 0.7: (1.5, 1), 0.9: (1.5, 0)}
    for threshold, (missed, wrong) in by_hand.items():
        assert found[round(100 * threshold) - 1] == pytest.approx(np.hypot(missed, wrong)), threshold
    assert np.isinf(found[-9:]).all()  # nobody has a prediction there, which is no answer


def test_who_predicts_nothing_at_all_misses_everything() -> None:
    found = peaks(count(LABELS, in_blocks(np.zeros((2, 3))), IA), 0)
    values = {name: value for name, (value, _) in found.items()}
    assert values == {"fmax": 0.0, "wfmax": 0.0, "f_micro_w": 0.0, "smin": (3 + 1) / 2}


def test_without_information_accretion_there_is_fmax_alone() -> None:
    counts = count(LABELS, in_blocks(SCORES))
    assert counts.measures == ("fmax",)
    assert list(peaks(counts, 0)) == ["fmax"] == list(resample(counts, 0, draw(2, 3, 0)))


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_score_counts_at_the_threshold_that_it_is_written_as(kind: type) -> None:
    labels = LabelSets.from_names([["a"]] * 99)
    for score in np.arange(1, 100) / 100 if kind is np.float32 else (0.25, 0.5, 0.75):
        curve = curves(count(labels, [(slice(0, 99), np.full((99, 1), score, kind))]), 0)
        assert round(curve.recall[0].sum()) == round(100 * score), score


def test_classes_beyond_the_columns_of_a_block_were_never_predicted() -> None:
    labels = LabelSets.from_names([["a", "z"]], ["a", "z"])
    assert mean_fmax(labels, [(slice(0, 1), np.array([[0.5]]))]) == pytest.approx(2 * 0.5 / 1.5)


def test_a_protein_without_a_term_of_an_aspect_is_not_measured_in_it() -> None:
    labels = LabelSets.from_names([["a"], ["b"]], ["a", "b"], "CF")
    counts = count(labels, [(slice(0, 2), np.array([[0.9, 0.0], [0.8, 0.7]]))])  # the second's false a counts nowhere
    assert counts.measured.tolist() == [1, 1]
    assert [peaks(counts, group)["fmax"][0] for group in (0, 1)] == [1.0, 1.0]


# The mean over groups


def test_the_mean_is_over_groups_that_a_protein_has_a_class_of() -> None:
    labels = LabelSets.from_names([["a"], ["b"]], ["a", "b", "c"], "CFP")
    scores = np.array([[0.9, 0.0, 0.9], [0.0, 0.0, 0.9]])
    assert fmax_by_group(labels, in_blocks(scores)) == {"C": 1.0, "F": 0.0}
    assert mean_fmax(labels, in_blocks(scores)) == 0.5


def test_without_any_label_or_row_the_mean_is_0() -> None:
    assert mean_fmax(LabelSets.from_names([[]], ["a"]), [(slice(0, 1), np.ones((1, 1)))]) == 0.0
    assert mean_fmax(LabelSets.from_names([], ["a"]), []) == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_is_that_of_what_is_counted_for_each_protein(seed: int) -> None:
    labels, scores, _ = random_case(seed)
    counts = count(labels, in_blocks(scores))
    assert mean_fmax(labels, in_blocks(scores, 11)) == pytest.approx(
        np.mean([peaks(counts, group)["fmax"][0] for group in range(3)])
    )


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([(slice(0, 1), SCORES[:1])], "scores of 1 of 2 rows, each wanted once"),
        ([(slice(0, 2), SCORES), (slice(0, 1), SCORES[:1])], "scores of 1 of 2 rows, each wanted once"),
        ([(slice(0, 2), SCORES[:1])], r"scores \(1, 3\) of 2 rows and 3 classes"),
        ([(slice(0, 2), np.ones((2, 4)))], r"scores \(2, 4\) of 2 rows and 3 classes"),
        ([(slice(0, 2), SCORES * np.nan)], "scores of rows 0 to 2 are not all numbers"),
    ],
)
def test_scores_that_are_not_of_the_proteins_are_refused(blocks: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_fmax(LABELS, blocks)


def test_information_accretion_of_other_terms_is_refused() -> None:
    with pytest.raises(ValueError, match="information accretion of 2 terms for 3 classes"):
        count(LABELS, in_blocks(SCORES), IA[:2])


# What always holds


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(0, 10_000), st.floats(0, 1))
def test_raising_the_score_of_a_true_term_never_lowers_recall(seed: int, pick: int, more: float) -> None:
    labels, scores, ia = random_case(seed, 12, 9)
    if not len(labels.codes):
        return
    pick %= len(labels.codes)
    higher, at = scores.copy(), (np.searchsorted(labels.offsets, pick, side="right") - 1, labels.codes[pick])
    higher[at] += (1 - higher[at]) * np.float32(more)
    before, after = (count(labels, in_blocks(one), ia) for one in (scores, higher))
    for group in range(len(before.groups)):
        low, high = curves(before, group), curves(after, group)
        assert (high.recall >= low.recall - 1e-12).all()
        assert (high.weighted_recall >= low.weighted_recall - 1e-12).all()
        assert (high.uncertainty <= low.uncertainty + 1e-12).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 40), st.randoms(use_true_random=False))
def test_neither_blocks_nor_the_order_of_proteins_change_a_measure(seed: int, size: int, random: object) -> None:
    labels, scores, ia = random_case(seed)
    order = list(range(len(labels)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one, other = count(labels, in_blocks(scores), ia), count(labels.take(order), in_blocks(scores[order], size), ia)
    for group in range(3):
        for name, (value, _) in peaks(one, group).items():
            assert peaks(other, group)[name][0] == pytest.approx(value)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000))
def test_only_scores_that_part_true_from_false_terms_reach_1(seed: int) -> None:
    labels, scores, ia = random_case(seed)
    perfect = count(labels, in_blocks(labels.dense().astype(np.float32)), ia)
    for group in np.flatnonzero(perfect.measured).tolist():
        found = peaks(perfect, group)
        assert (found["fmax"][0], found["smin"][0]) == (1.0, pytest.approx(0.0))
        some = peaks(count(labels, in_blocks(scores), ia), group)
        assert 0 <= some["fmax"][0] <= 1
        assert some["smin"][0] >= 0


# Resamples


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_has_the_measures_of_its_proteins_written_out(seed: int) -> None:
    labels, scores, ia = random_case(seed)
    counts, draws = count(labels, in_blocks(scores), ia), draw(len(labels), 130, seed)
    for group in range(3):
        found = resample(counts, group, draws)
        for fold in (0, 99, 100, 129):
            rows = np.repeat(np.arange(len(labels)), draws[fold])
            written = peaks(count(labels.take(rows), in_blocks(scores[rows]), ia), group)
            assert {name: values[fold] for name, values in found.items()} == pytest.approx(
                {name: value for name, (value, _) in written.items()}
            )


def test_proteins_are_drawn_as_for_other_intervals() -> None:
    random = np.random.default_rng(5)
    expected = [np.bincount(random.integers(6, size=6), minlength=6).tolist() for _ in range(4)]
    assert draw(6, 4, 5).tolist() == expected


def test_counts_of_some_proteins_are_those_counted_of_them() -> None:
    labels, scores, ia = random_case(0)
    some = np.arange(len(labels)) % 3 == 0
    taken = count(labels, in_blocks(scores), ia).take(some)
    alone = count(labels.take(some), in_blocks(scores[some]), ia)
    assert len(taken) == len(alone) == some.sum()
    for one, other in ((taken.plain, alone.plain), (taken.weighted, alone.weighted)):
        for name in ("true", "predicted", "members"):
            assert np.array_equal(getattr(one, name), getattr(other, name))


# cafaeval


def random_ontology(random: np.random.Generator, each: int = 25) -> Ontology:
    """Return three aspects of several levels, where a term has one to three parents."""
    terms, aspects, parents = list[str](), list[str](), list[list[str]]()
    for letter, root in ROOTS.items():
        own = [root, *(f"GO:{100 * 'CFP'.index(letter) + number:07}" for number in range(1, each))]
        for number, term in enumerate(own):
            above = random.choice(number, size=min(number, random.integers(1, 4)), replace=False) if number else []
            terms, aspects, parents = [*terms, term], [*aspects, letter], [*parents, [own[one] for one in above]]
    order = sorted(range(len(terms)), key=terms.__getitem__)
    names = [terms[one] for one in order]
    places = tuple(tuple(sorted(names.index(above) for above in parents[one])) for one in order)
    return Ontology(tuple(names), tuple(names), "".join(aspects[one] for one in order), places)


def write_obo(tree: Ontology, path: Path) -> None:
    """Write a file where every second parent is told by part_of, and some terms are part of one of another aspect."""
    text = ["format-version: 1.2", ""]
    for place, term in enumerate(tree.terms):
        text += ["[Term]", f"id: {term}", f"name: {term}", f"namespace: {ASPECTS[tree.aspects[place]]}"]
        lines = [f"is_a: {tree.terms[above]} ! x" for above in tree.parents[place][::2]]
        lines += [f"relationship: part_of {tree.terms[above]} ! x" for above in tree.parents[place][1::2]]
        foreign = [other for other in tree.terms[:3] if tree.aspects[tree.place[other]] != tree.aspects[place]]
        lines += [f"relationship: part_of {other} ! of another aspect" for other in foreign if term not in tree.roots]
        text += [*lines, ""]
    path.write_text("\n".join(text) + "\n")


class Case:
    """Files of a random ontology, of truth, predictions and information accretion, and what is in them."""

    def __init__(self, folder: Path, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.folder, tree = folder, random_ontology(random)
        own = [term for term in tree.terms if term not in tree.roots]
        kept = ["".join(random.choice(["CF", "CFP", "P", "FP"])) for _ in range(40)]  # aspects of each protein
        direct = [
            [one for one in random.choice(own, 6).tolist() if tree.aspects[tree.place[one]] in aspects]
            for aspects in kept
        ]
        groups = [tree.aspects[tree.place[term]] for term in own]
        self.labels = LabelSets.from_names(tree.propagate(direct).names(), own, groups)
        self.ia = np.where(random.random(len(own)) < 0.15, 0.0, random.random(len(own)) * 6)
        # of which some are exactly a threshold, some nothing; a little better than chance
        raw = random.random((40, len(own))) ** 3 * (1 + self.labels.dense()) / 2
        raw = np.where(random.random(raw.shape) < 0.4, 0.0, np.where(random.random(raw.shape) < 0.3, raw.round(2), raw))
        written = np.vectorize(lambda score: f"{score:.3g}")(raw)
        self.scores = written.astype(np.float64)
        raise_parents(self.scores, tree.edges(own))
        write_obo(tree, folder / "go.obo")
        (folder / "truth.tsv").write_text("".join(f"p{i}\t{t}\n" for i, row in enumerate(direct) for t in row))
        (folder / "ia.tsv").write_text("".join(f"{t}\t{v!r}\n" for t, v in zip(own, self.ia.tolist(), strict=True)))
        (folder / "ones.tsv").write_text("".join(f"{term}\t1\n" for term in own))
        (folder / "predictions").mkdir()
        rows = [(i, own[j]) for i, j in np.argwhere(raw > 0).tolist()]
        lines = [f"p{i}\t{term}\t{written[i, own.index(term)]}\n" for i, term in rows]
        (folder / "predictions" / "ours.tsv").write_text("".join(lines))

    def oracle(self, ia: str) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
        """Return what cafaeval 1.3.0 says: proteins weigh the same, parents get the greatest score, roots are left out.

        `no_orphans` leaves out terms without parents: in each aspect its root.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas tells cafaeval of its deprecations
            return cafa_eval(
                str(self.folder / "go.obo"),
                str(self.folder / "predictions"),
                str(self.folder / "truth.tsv"),
                ia=str(self.folder / ia),
                no_orphans=True,
                norm="cafa",
                prop="max",
                max_terms=None,
                th_step=0.01,
                n_cpu=1,
            )

    def count(self, ia: np.ndarray) -> Counts:
        return count(self.labels, in_blocks(self.scores), ia)


@pytest.fixture(scope="module", params=range(3))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("go"), request.param)


def test_fmax_weighted_fmax_weighted_micro_f_and_their_thresholds_are_those_of_cafaeval(case: Case) -> None:
    counts, (_, best) = case.count(case.ia), case.oracle("ia.tsv")
    for group, aspect in enumerate(counts.groups):
        found = peaks(counts, group)
        for name, column in (("fmax", "f"), ("wfmax", "f_w"), ("f_micro_w", "f_micro_w")):
            row = best[column].xs(ASPECTS[aspect], level="ns").reset_index("tau").iloc[0]
            assert found[name] == (pytest.approx(row[column], abs=1e-12), pytest.approx(row["tau"])), (aspect, name)
            assert 0.1 < found[name][0] < 0.9


def test_smin_is_that_of_cafaeval(case: Case) -> None:
    counts, (table, _) = case.count(case.ia), case.oracle("ia.tsv")
    for group, aspect in enumerate(counts.groups):
        expected = table.xs(ASPECTS[aspect], level="ns")["s_w"]
        assert peaks(counts, group)["smin"][0] == pytest.approx(expected.min(), abs=1e-12)


def test_where_every_term_weighs_the_same_smin_is_the_s_that_cafaeval_calls_best(case: Case) -> None:
    counts, (_, best) = case.count(np.ones(case.labels.n_classes)), case.oracle("ones.tsv")
    for group, aspect in enumerate(counts.groups):
        found, expected = peaks(counts, group), best["s"].xs(ASPECTS[aspect], level="ns")["s"].iloc[0]
        assert found["smin"][0] == pytest.approx(expected, abs=1e-12)
        assert found["wfmax"] == found["fmax"]


def test_every_point_of_the_curves_is_that_of_cafaeval(case: Case) -> None:
    counts, (table, _) = case.count(case.ia), case.oracle("ia.tsv")
    for group, aspect in enumerate(counts.groups):
        curve, expected = curves(counts, group), table.xs(ASPECTS[aspect], level="ns").reset_index("tau")
        assert np.array_equal(expected["tau"], THRESHOLDS[: len(expected)])  # it leaves out where nothing is predicted
        for column, values in {
            "pr": curve.precision,
            "rc": curve.recall,
            "cov": curve.coverage,
            "pr_w": curve.weighted_precision,
            "rc_w": curve.weighted_recall,
            "ru_w": curve.uncertainty,
            "mi_w": curve.misinformation,
            "f_micro_w": curve.at_thresholds()["f_micro_w"],
            "s_w": curve.at_thresholds()["smin"],
        }.items():
            assert np.allclose(values[0, : len(expected)], expected[column], rtol=0, atol=1e-12), column
