"""The ensemble for many labels: weights and calibrations that can be known beforehand, models fitted elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.ensemble.members import TermMember
from esmcls.heads.ensemble.term_ensemble import TermEnsembleConfig, TermEnsembleHead, find_related
from esmcls.heads.ensemble.term_mixing import Mix, Pairs
from esmcls.heads.neighbours.term_knn import TermKNNConfig, TermKNNHead
from esmcls.heads.term_naive import NaiveHead
from esmcls.labels.labels import LabelSets

CLASSES, GROUPS = ("c", "d", "f", "g"), tuple("CCFF")


def drawn(n: int, seed: int = 0) -> tuple[LabelSets, Any, Any]:
    """Labels and what two members say: the first knows C and guesses F, the second the other way round."""
    random = np.random.default_rng(seed)
    truth = random.random((n, 4)) < 0.5
    known, guessed = np.where(truth, 0.9, 0.1), random.uniform(0.05, 0.95, (n, 4))
    first = np.hstack((known[:, :2], guessed[:, 2:])).astype(np.float32)
    second = np.hstack((guessed[:, :2], known[:, 2:])).astype(np.float32)
    names = [[name for name, one in zip(CLASSES, row, strict=True) if one] for row in truth]
    return LabelSets.from_names(names, CLASSES, GROUPS), first, second


def blocks(*given: Any) -> Iterator[Any]:
    for start in range(0, len(given[0]), 50):
        rows = slice(start, min(start + 50, len(given[0])))
        yield rows, [one[rows] for one in given]


class Fixed:
    """A head that was fitted elsewhere."""

    classes = CLASSES
    chosen = TermKNNConfig()


def test_each_aspect_trusts_the_member_that_knows_it() -> None:
    truth, first, second = drawn(400)
    members = [TermMember("one", "knn", Fixed()), TermMember("two", "knn", Fixed())]
    head = TermEnsembleHead.of(members, truth, lambda: blocks(first, second))
    ((of_c, of_f),) = head.mixes
    assert of_c.weights[0] > 0.9
    assert of_f.weights[1] > 0.9
    assert head.scores["fmax"] > 0.95
    assert head.chosen.members == "one,two"


def test_a_member_that_makes_nothing_better_is_left_out() -> None:
    truth, first, second = drawn(400)
    noise = np.random.default_rng(3).uniform(0.05, 0.95, (400, 4)).astype(np.float32)
    members = [TermMember(name, "knn", Fixed()) for name in ("one", "noise", "two")]
    head = TermEnsembleHead.of(members, truth, lambda: blocks(first, noise, second))
    assert head.chosen.members == "one,two"
    assert [one.name for one in head.members] == ["one", "two"]


class Teller(Fixed):
    """A head that knows relatives."""

    def related(self, x: Any) -> Any:
        return np.asarray(x)


def test_proteins_with_relatives_are_weighed_apart_from_those_without() -> None:
    truth, first, second = drawn(400)
    right, wrong = np.hstack((first[:, :2], second[:, 2:])), np.hstack((second[:, :2], first[:, 2:]))
    related = np.arange(400) % 3 == 0
    teller, other = np.where(related[:, None], right, wrong), np.where(related[:, None], wrong, right)
    members = [TermMember("other", "knn", Fixed()), TermMember("teller", "homology", Teller())]
    head = TermEnsembleHead.of(members, truth, lambda: blocks(other, teller), related)
    without, having = head.mixes
    assert all(mix.weights[0] > 0.9 for mix in without)
    assert all(mix.weights[1] > 0.9 for mix in having)
    assert head.scores["fmax"] > 0.95
    plain = TermEnsembleHead.of(members, truth, lambda: blocks(other, teller))
    assert plain.scores["fmax"] < head.scores["fmax"]
    assert len(plain.mixes) == 1


class Says(Fixed):
    """A head that says of all rows whether they have a relative."""

    def __init__(self, related: bool, reads_residues: bool) -> None:
        self.says = related
        self.reads_residues = reads_residues

    def related(self, x: Features) -> Any:
        return np.full(len(x), self.says)


def test_sequences_tell_relatives_before_residue_vectors_do() -> None:
    by_sequence = TermMember("homology", "homology", Says(True, reads_residues=False))
    by_residues = TermMember("align", "align", Says(False, reads_residues=True))
    x = Features.from_arrays(np.zeros((2, 1), np.float32))
    for members, expected in (
        ([by_residues, by_sequence], [True, True]),
        ([by_sequence, by_residues], [True, True]),
        ([by_residues], [False, False]),
    ):
        related = find_related(members, x)
        assert related is not None
        assert related.tolist() == expected
    assert find_related([TermMember("knn", "knn", Fixed())], x) is None


def test_weights_are_at_least_0_and_sum_to_1() -> None:
    truth, first, second = drawn(60, 2)
    mix = Mix.fit(Pairs.of(truth, blocks(first, second), 2))
    assert min(mix.weights) > 0
    assert sum(mix.weights) == pytest.approx(1, abs=1e-5)


def test_calibration_finds_what_logistic_regression_does() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(4000, 1))
    right = random.random(4000) < expit(2 * logits[:, 0] - 1)
    pairs = Pairs(np.zeros(4000, dtype=np.int64), expit(logits).astype(np.float32), right, 400_000)
    mix, oracle = Mix.fit(pairs), LogisticRegression(C=1e6).fit(logits, right)
    assert mix.slopes[0] == pytest.approx(oracle.coef_[0, 0], rel=0.01)
    assert mix.shifts[0] == pytest.approx(oracle.intercept_[0], rel=0.02)


def test_a_single_held_row_hardly_moves_the_mean() -> None:
    truth, first, second = drawn(1)
    mix = Mix.fit(Pairs.of(truth, blocks(first, second), 2))
    assert max(abs(weight - 0.5) for weight in mix.weights) < 0.2
    assert Mix.fit(Pairs.of(truth, blocks(first[:0], second[:0]), 2)) == Mix.plain(2)


def test_pairs_are_those_to_which_any_member_gives_a_hundredth() -> None:
    truth = LabelSets.from_names([["c"], ["g"]], CLASSES, GROUPS)
    one = np.array([[0.5, 0, 0, 0], [0, 0, 0.009, 0]], dtype=np.float32)
    other = np.array([[0, 0.01, 0, 0], [0, 0, 0, 0.3]], dtype=np.float32)
    pairs = Pairs.of(truth, [(slice(0, 2), [one, other])], 2)
    assert pairs.groups.tolist() == [0, 0, 1]
    assert pairs.right.tolist() == [True, False, True]
    np.testing.assert_allclose(pairs.given, [[0.5, 0], [0, 0.01], [0, 0.3]])


def test_the_mix_is_the_weighed_mean_of_calibrated_probabilities() -> None:
    mix = Mix((2.0, 1.0), (0.5, 0.0), (0.25, 0.75))
    found = mix([np.array([0.8]), np.array([0.3])])
    assert found == pytest.approx(0.25 * expit(2 * logit(0.8) + 0.5) + 0.75 * 0.3)


def proteins(n: int, seed: int) -> tuple[Features, LabelSets]:
    kinds = np.arange(n) % 2
    vectors = np.random.default_rng(seed).normal(size=(n, 3)) + 4 * kinds[:, None]
    names = [["c", "f"] if kind else ["d", "g"] for kind in kinds]
    return Features.from_arrays(vectors.astype(np.float32)), LabelSets.from_names(names, CLASSES, GROUPS)


def test_heads_that_see_more_outweigh_the_naive_one(tmp_path: Path) -> None:
    head = TermEnsembleHead(TermEnsembleConfig("naive,knn,knn")).fit(*proteins(60, 0), proteins(40, 1))
    assert "naive" not in head.chosen.members
    assert head.reads_vectors
    head.save(tmp_path)
    again = TermEnsembleHead.load(tmp_path, head.chosen, head.classes, head.groups)
    assert again.mixes == head.mixes


def test_fitted_heads_are_combined_as_they_are() -> None:
    (x, labels), (held, truth) = proteins(60, 0), proteins(40, 1)
    members = [
        TermMember("a", "naive", NaiveHead().fit(x, labels)),
        TermMember("b", "knn", TermKNNHead().fit(x, labels)),
    ]
    said = [one.head.predict_proba(held) for one in members]
    combined = TermEnsembleHead.of(members, truth, lambda: blocks(*said))
    both = combined.predict_proba(held)
    assert combined.top_k(held, 1)[0].shape == (40, 1)
    assert ((both > 0.5) == truth.dense()).all()


def test_members_of_other_classes_are_refused() -> None:
    truth = LabelSets.from_names([["c"]])
    with pytest.raises(UsageError, match="member one was fitted on 4 classes, not the 1 of the validation labels"):
        TermEnsembleHead.of([TermMember("one", "knn", Fixed())], truth, lambda: [])
    with pytest.raises(UsageError, match="no members"):
        TermEnsembleHead.of([], truth, lambda: [])


def test_by_default_align_is_a_member_where_vectors_are_of_residues() -> None:
    named = TermEnsembleConfig().named(of_residues=True).names
    assert named == [*TermEnsembleConfig().names, "align"]
    assert TermEnsembleConfig().named(of_residues=False).names == TermEnsembleConfig().names
    assert TermEnsembleConfig("knn,naive").named(of_residues=True).names == ["knn", "naive"]


def test_by_default_homology_is_a_member_where_there_is_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine, names in ((object(), ["linear", "knn", "homology"]), (None, ["linear", "knn"])):
        monkeypatch.setattr("esmcls.heads.ensemble.term_ensemble.installed", lambda engine=engine: engine)
        assert TermEnsembleConfig().names == names
    with pytest.raises(UsageError, match=r"^setting members: "):
        TermEnsembleConfig("knn,,naive")
