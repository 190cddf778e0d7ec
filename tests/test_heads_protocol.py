"""What every head promises, of one label, of many and of numbers, checked for all registered, fresh and reloaded."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from letter_encoder import proteins
from relatives import ancestors, relatives
from scripted_engine import SharedWords

from esmcls.cache.features import Features
from esmcls.errors import NonFiniteError, UsageError, WidthMismatchError
from esmcls.heads.alignment import finder
from esmcls.heads.alignment.align import AlignConfig, AlignHead
from esmcls.heads.base import FindsNearest, KnowsItsRows
from esmcls.heads.blocks import hold_out, hold_out_numbers, hold_out_sets
from esmcls.heads.ensemble.ensemble import EnsembleHead
from esmcls.heads.layers.linear import LinearHead
from esmcls.heads.registry import GROUP, NUMBER_GROUP, TERM_GROUP, AnyGroup, list_heads, load_head, reads_vectors
from esmcls.heads.settings import parse_settings
from esmcls.labels.labels import Labels, LabelSets
from esmcls.labels.numbers import Numbers
from esmcls.metrics.cafa import mean_fmax
from esmcls.metrics.calibration import auroc
from esmcls.metrics.regression import score_numbers

CENTRES, WIDTH = 6, 8
CLASSES = tuple(f"PF{code:05d}" for code in range(CENTRES))
TERMS = tuple(sorted([f"F{kind}" for kind in range(CENTRES)] + ["C0", "C1", "P0", "P1", "P2", "P9"]))
ASPECTS = tuple(name[0] for name in TERMS)
BLIND = ("naive", "mean")
"""Heads that say the same of every protein."""


def blobs(n: int, seed: int, dtype: Any = np.float32, centres: int = CENTRES) -> Features:
    """Rows around some centres, all in turn; the sequences of rows around one centre are relatives."""
    places = np.arange(n) % centres
    means = np.random.default_rng(99).normal(size=(centres, WIDTH)) * 3
    vectors = means[places] + np.random.default_rng(seed).normal(size=(n, WIDTH)) * 0.5
    return proteins(vectors.astype(dtype), relatives(places, seed), [f"row {row}" for row in range(n)])


def classes_of(n: int, centres: int = CENTRES) -> Labels:
    """Each row is of the class of its centre."""
    return Labels(CLASSES[:centres], np.arange(n) % centres)


def terms_of(n: int) -> LabelSets:
    """Each row has F for its centre, P for two centres and above them for four, and C, which a fifth of rows lacks."""
    names = [
        [f"F{centre}", f"P{centre // 2}"] + ["P9"] * (centre < 4) + [f"C{centre % 2}"] * (row % 5 > 0)
        for row, centre in enumerate((np.arange(n) % CENTRES).tolist())
    ]
    return LabelSets.from_names(names, TERMS, ASPECTS)


def numbers_of(n: int) -> Numbers:
    """Each row has a number near that of its centre, 10 apart from the next."""
    return Numbers(10.0 * (np.arange(n) % CENTRES) + np.arange(n) % 7 / 10)


def accuracy(head: Any, x: Features, labels: Any) -> float:
    return float((head.top_k(x, 1)[0][:, 0] == labels.codes).mean())


def fmax(head: Any, x: Features, labels: Any) -> float:
    return mean_fmax(labels, [(slice(0, len(x)), head.predict_proba(x))])


def r_squared(head: Any, x: Features, labels: Any) -> float:
    return score_numbers(labels.values, head.predict(x))["r2"]


def probabilities(head: Any, x: Features) -> Any:
    return head.predict_proba(x)


def values(head: Any, x: Features) -> Any:
    return head.predict(x)


@dataclass(frozen=True)
class Kind:
    """A kind of labels: how toy labels are made, held out, and how well a head finds them."""

    group: AnyGroup
    n_classes: int
    labels_of: Callable[[int], Any]
    hold_out: Callable[[Any, int], Any]
    measured: Callable[[Any, Features, Any], float]
    enough: float
    """Of that measure, on rows as far apart as these."""
    single: Any = field(repr=False)
    """The labels of a single row."""
    nothing: str = ""
    """Word of the error where there is nothing to fit on."""
    measure: str = ""
    """Which of a head's scores that measure is."""
    answers: Callable[[Any, Features], Any] = probabilities
    """What a head says of rows, (n, …)."""


ONE_LABEL = Kind(
    GROUP,
    CENTRES,
    classes_of,
    lambda labels, seed: hold_out(labels.codes, seed),
    accuracy,
    1.0,
    Labels.from_names(["a"]),
    "labels",
    "accuracy",
)
MANY_LABELS = Kind(
    TERM_GROUP,
    len(TERMS),
    terms_of,
    hold_out_sets,
    fmax,
    0.95,
    LabelSets.from_names([["a"]], ["a", "b"]),
    "label sets",
    "fmax",
)
NUMBER = Kind(
    NUMBER_GROUP,
    0,
    numbers_of,
    lambda labels, seed: hold_out_numbers(len(labels), seed),
    r_squared,
    0.6,  # a plane through the centres reaches .65
    Numbers(np.array([4.5])),
    "numbers",
    "r2",
    values,
)


@dataclass(frozen=True)
class WithHomologs(AlignConfig):
    __doc__ = AlignConfig.__doc__

    homologs: int = 3


class AlignWithHomologs(AlignHead):
    """The head align as it may be set: with hits of a sequence search among what is aligned."""

    Config = WithHomologs


VARIANTS = {"align-homologs": AlignWithHomologs}


@dataclass(frozen=True)
class Case:
    """A registered head, or one of `VARIANTS`."""

    kind: Kind
    name: str

    @property
    def head(self) -> Any:
        """Its class."""
        return VARIANTS.get(self.name) or load_head(self.name, self.kind.group)

    def rows(self, n: int, seed: int, dtype: Any = np.float32) -> tuple[Features, Any]:
        """Return toy rows and their labels."""
        return blobs(n, seed, dtype), self.kind.labels_of(n)

    def good(self, head: Any, x: Features, labels: Any) -> bool:
        """Whether a head finds most labels, if it looks at proteins at all."""
        return self.name in BLIND or self.kind.measured(head, x, labels) >= self.kind.enough


@cache
def fitted_once(case: Case) -> Any:
    return case.head().fit(*case.rows(120, 0), case.rows(30, 1), seed=3)


def reloaded(head: Any, folder: Path) -> Any:
    """Save a head and load it."""
    head.save(folder)
    if hasattr(head, "predict"):
        return type(head).load(folder, head.chosen)
    groups = (head.groups,) if hasattr(head, "groups") else ()
    return type(head).load(folder, head.chosen, head.classes, *groups)


def cases(*kinds: Kind) -> list[Any]:
    """Return every head of some kinds as a parameter."""
    return [
        pytest.param(Case(kind, name), id=f"{kind.group.removeprefix('esmcls.')}-{name}")
        for kind in kinds
        for name in (*list_heads(kind.group), *(VARIANTS if kind is ONE_LABEL else ()))
    ]


@pytest.fixture(params=cases(ONE_LABEL, MANY_LABELS, NUMBER))
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    return with_engine(request.param, monkeypatch)


@pytest.fixture(params=cases(ONE_LABEL, MANY_LABELS))
def of_classes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    return with_engine(request.param, monkeypatch)


@pytest.fixture(params=cases(NUMBER))
def of_numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    return with_engine(request.param, monkeypatch)


@pytest.fixture(params=cases(ONE_LABEL))
def one_label(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    return with_engine(request.param, monkeypatch)


@pytest.fixture(params=cases(MANY_LABELS))
def many_labels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    return with_engine(request.param, monkeypatch)


def with_engine(case: Case, monkeypatch: pytest.MonkeyPatch) -> Case:
    if case.name in VARIANTS:
        monkeypatch.setattr(finder, "open_engine", lambda name: SharedWords())
        monkeypatch.setattr(finder, "installed", lambda name: SharedWords())
    for package in {"homology": ("pyhmmer",), "profile": ("pyfamsa", "pyhmmer")}.get(case.name, ()):
        pytest.importorskip(package, reason=f"no engine: {package} is not installed")
    return case


@pytest.fixture(params=["fresh", "reloaded"])
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def head(case: Case, how: str, tmp_path: Path) -> Any:
    """A head fitted with its defaults, as it is or saved and loaded."""
    return reloaded(fitted_once(case), tmp_path) if how == "reloaded" else fitted_once(case)


@pytest.fixture
def classifier(of_classes: Case, how: str, tmp_path: Path) -> Any:
    """A head for classes, fitted with its defaults, as it is or saved and loaded."""
    return reloaded(fitted_once(of_classes), tmp_path) if how == "reloaded" else fitted_once(of_classes)


def skip_without_vectors(head: Any) -> None:
    if not reads_vectors(head):
        pytest.skip("this head reads no vectors")


# what all promise


def test_unseen_rows_get_the_labels_of_their_kin(head: Any, case: Case) -> None:
    if case.name in BLIND:
        pytest.skip("this head says the same of every protein")
    assert case.good(head, *case.rows(60, 2))


def test_probabilities_are_float32_from_0_to_1(classifier: Any, of_classes: Case) -> None:
    probabilities = classifier.predict_proba(blobs(20, 2))
    assert probabilities.shape == (20, of_classes.kind.n_classes)
    assert probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


@pytest.mark.parametrize("k", [1, 3, None])
def test_top_k_is_the_head_of_the_sorted_probabilities(classifier: Any, of_classes: Case, k: int | None) -> None:
    x, k = blobs(20, 2), k or of_classes.kind.n_classes
    codes, probabilities = classifier.top_k(x, k)
    every = classifier.predict_proba(x)
    assert codes.shape == probabilities.shape == (20, k)
    assert (codes.dtype, probabilities.dtype) == (np.int64, np.float32)
    assert all(len(set(row)) == k for row in codes.tolist())
    np.testing.assert_array_equal(probabilities, -np.sort(-every, axis=1)[:, :k])
    np.testing.assert_array_equal(np.take_along_axis(every, codes, 1), probabilities)


def test_more_classes_than_there_are_gives_all_of_them(classifier: Any, of_classes: Case) -> None:
    codes, _ = classifier.top_k(blobs(5, 2), 50)
    assert np.sort(codes, axis=1).tolist() == [list(range(of_classes.kind.n_classes))] * 5


def test_no_rows_give_no_predictions(head: Any, case: Case) -> None:
    nothing = blobs(12, 0).take([])
    assert case.kind.answers(head, nothing).shape == ((0, case.kind.n_classes) if case.kind.n_classes else (0,))
    if case.kind is not NUMBER:
        codes, probabilities = head.top_k(nothing, 2)
        assert codes.shape == probabilities.shape == (0, 2)


def test_another_width_is_an_error_that_names_both(head: Any, case: Case) -> None:
    skip_without_vectors(head)
    wide = proteins(np.zeros((2, 9), dtype=np.float32))
    ranked = [] if case.kind is NUMBER else [lambda x: head.top_k(x, 1)]
    for predict in (lambda x: case.kind.answers(head, x), *ranked):
        with pytest.raises(WidthMismatchError, match="of width 8, but these have width 9"):
            predict(wide)


def test_a_vector_that_is_not_finite_is_never_answered(head: Any, case: Case) -> None:
    skip_without_vectors(head)
    bad = proteins(np.array([[0] * 7 + [np.nan]], dtype=np.float32))
    with pytest.raises(NonFiniteError):
        case.kind.answers(head, bad)


def test_a_row_is_answered_the_same_alone_and_among_others(head: Any, case: Case) -> None:
    n = 40 if case.kind is ONE_LABEL else 20
    x = blobs(n, 2)
    alone = np.concatenate([case.kind.answers(head, x.take([row])) for row in range(n)])
    np.testing.assert_allclose(alone, case.kind.answers(head, x), atol=1e-6 if case.kind is not NUMBER else 1e-4)


def test_reloading_changes_no_bit(case: Case, tmp_path: Path) -> None:
    fitted = fitted_once(case)
    again = reloaded(fitted, tmp_path)
    x = blobs(50, 2)
    np.testing.assert_array_equal(case.kind.answers(again, x), case.kind.answers(fitted, x))
    assert again.classes == fitted.classes == case.kind.labels_of(1).classes
    assert getattr(again, "groups", ()) == getattr(case.kind.labels_of(1), "groups", ())


def test_the_same_seed_gives_the_same_bits_and_leaves_the_callers_generator_alone(case: Case) -> None:
    x = blobs(50, 2)
    torch.manual_seed(5)
    first = case.kind.answers(case.head().fit(*case.rows(120, 0), case.rows(30, 1), seed=3), x)
    drawn = torch.rand(1)
    np.testing.assert_array_equal(first, case.kind.answers(fitted_once(case), x))
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_fitting_leaves_the_number_of_threads_alone(case: Case) -> None:
    before = torch.get_num_threads()
    case.head().fit(*case.rows(30, 0))
    assert torch.get_num_threads() == before


def test_half_precision_vectors_are_taken_as_they_are_stored(case: Case) -> None:
    x, labels = case.rows(120, 0, np.float16)
    held = case.rows(30, 1, np.float16)
    fitted = case.head().fit(x, labels, held, seed=3)
    wide = proteins(x.vectors().astype(np.float32), x.sequences, x.ids)
    again = case.head().fit(wide, labels, held, seed=3)
    answers = case.kind.answers
    np.testing.assert_array_equal(answers(fitted, x), answers(again, x))
    np.testing.assert_array_equal(answers(fitted, x), answers(again, wide))


def test_without_validation_choices_are_made_on_rows_held_out_and_then_all_are_fitted(case: Case) -> None:
    """By hand: fit on the rows that are not held out, then refit on all, which keeps what was chosen and the scores."""
    x, labels = case.rows(120, 0)
    whole = case.head().fit(x, labels, None, seed=3)
    assert all(getattr(whole.chosen, knob.name) is not None for knob in fields(whole.chosen))
    rows, held = case.kind.hold_out(labels, 3)
    by_hand = case.head().fit(x.take(rows), labels.take(rows), (x.take(held), labels.take(held)), seed=3)
    chosen, scores = by_hand.chosen, dict(by_hand.scores)
    by_hand.refit(x, labels, seed=3)
    assert by_hand.chosen == chosen == whole.chosen
    assert by_hand.scores == scores == whole.scores
    test, truth = case.rows(60, 2)
    np.testing.assert_array_equal(case.kind.answers(by_hand, test), case.kind.answers(whole, test))
    assert case.good(whole, test, truth)


def test_a_copy_is_fitted_again_and_the_head_stays_what_it_was(case: Case) -> None:
    """So heads are asked about families that they were fitted without, and the model is none the different."""
    fitted, test = fitted_once(case), blobs(20, 2)
    before, chosen = case.kind.answers(fitted, test), fitted.chosen
    x, labels = case.rows(120, 0)
    again = copy.copy(fitted)
    again.refit(x.take(slice(40)), labels.take(slice(40)), seed=4)
    assert again.chosen == fitted.chosen == chosen
    np.testing.assert_array_equal(case.kind.answers(fitted, test), before)


def test_scores_are_those_on_the_validation_part(case: Case) -> None:
    fitted = fitted_once(case)
    if case.kind is NUMBER and case.name == "ensemble":
        pytest.skip("its weights are fitted on the validation part: it scores them on folds of it")
    assert fitted.scores[case.kind.measure] == pytest.approx(case.kind.measured(fitted, *case.rows(30, 1)))


def test_a_single_row_can_be_fitted(case: Case) -> None:
    [seen, unseen] = ancestors(2)
    row = proteins(np.ones((1, 4), dtype=np.float32), [seen])
    fitted = case.head().fit(row, case.kind.single)
    [answer] = case.kind.answers(fitted, proteins(np.zeros((1, 4), dtype=np.float32), [unseen])).tolist()
    expected = {
        GROUP: lambda: answer == [1.0],
        TERM_GROUP: lambda: answer[0] > answer[1],
        NUMBER_GROUP: lambda: answer == 4.5,
    }
    assert expected[case.kind.group]()


def test_a_constant_column_does_no_harm(case: Case) -> None:
    def with_constant(x: Features, value: float) -> Features:
        column = np.full((len(x), 1), value, dtype=np.float32)
        return proteins(np.hstack((x.vectors(), column)), x.sequences)

    x, labels = case.rows(120, 0)
    valid, valid_labels = case.rows(30, 1)
    fitted = case.head().fit(with_constant(x, 7), labels, (with_constant(valid, 7), valid_labels), seed=3)
    test, truth = case.rows(60, 2)
    assert case.good(fitted, with_constant(test, 7), truth)
    assert np.isfinite(case.kind.answers(fitted, with_constant(test, 7.01))).all()


def test_nothing_to_fit_on_is_an_error(case: Case) -> None:
    x, labels = case.rows(12, 0)
    word = case.kind.nothing
    for fit in (case.head().fit, case.head().refit):
        with pytest.raises(UsageError, match=f"0 vectors and 0 {word} to fit on"):
            fit(x.take([]), labels.take([]))
        with pytest.raises(UsageError, match=f"12 vectors and 11 {word}"):
            fit(x, labels.take(slice(11)))


def test_a_validation_part_of_another_width_is_an_error(case: Case) -> None:
    skip_without_vectors(case.head)
    x, labels = case.rows(12, 0)
    with pytest.raises(WidthMismatchError):
        case.head().fit(x, labels, (proteins(np.zeros((1, 3), dtype=np.float32)), labels.take([0])))


def test_a_saved_head_holds_no_pickle_and_nothing_to_run(case: Case, tmp_path: Path) -> None:
    fitted_once(case).save(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert files
    assert {path.suffix for path in files} <= {".safetensors", ".faiss", ".json", ".txt", ".npy"}
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".safetensors":  # a length of eight bytes, whichever, and JSON
            assert content[8:9] == b"{"
        elif path.suffix == ".npy":  # of numbers, not of objects
            assert content.startswith(b"\x93NUMPY\x01\x00")
            assert b"'descr': '|i1'" in content[:128]
        else:
            assert not content.startswith((b"\x80", b"PK\x03\x04"))


def test_every_knob_is_documented_and_survives_json(case: Case) -> None:
    config = case.head.Config
    assert is_dataclass(config)
    documented = " ".join(base.__doc__ or "" for base in config.__mro__)
    for knob in fields(config):
        assert knob.name in documented, knob.name
    chosen = fitted_once(case).chosen
    flat = json.loads(json.dumps({knob.name: getattr(chosen, knob.name) for knob in fields(chosen)}))
    assert parse_settings(config, flat) == chosen


# what those of one label promise


def test_the_probabilities_of_a_row_sum_to_one(one_label: Case, how: str, tmp_path: Path) -> None:
    fitted = reloaded(fitted_once(one_label), tmp_path) if how == "reloaded" else fitted_once(one_label)
    np.testing.assert_allclose(fitted.predict_proba(blobs(20, 2)).sum(1), 1, atol=1e-6)


def test_rows_of_known_classes_are_more_familiar_than_others(one_label: Case, how: str, tmp_path: Path) -> None:
    fitted = reloaded(fitted_once(one_label), tmp_path) if how == "reloaded" else fitted_once(one_label)
    known = blobs(60, 2)
    vectors = np.random.default_rng(7).normal(size=(60, WIDTH)).astype(np.float32)
    strangers = proteins(vectors, relatives(np.arange(60) % 5 + 50, 7))
    near, far = fitted.familiarity(known), fitted.familiarity(strangers)
    assert near.shape == far.shape == (60,)
    assert near.dtype == np.float64
    asked = [member.head for member in fitted.members] if isinstance(fitted, EnsembleHead) else [fitted]
    knows_no_distance = all(isinstance(head, LinearHead) for head in asked)  # nor an ensemble that takes it alone
    assert auroc(near, far) > (0.6 if knows_no_distance else 0.85)
    assert fitted.familiarity(known.take([])).shape == (0,)


def test_a_head_that_names_the_nearest_row_knows_its_label(one_label: Case, how: str, tmp_path: Path) -> None:
    fitted = reloaded(fitted_once(one_label), tmp_path) if how == "reloaded" else fitted_once(one_label)
    if not isinstance(fitted, FindsNearest):
        pytest.skip("this head names no nearest row")
    x, labels = one_label.rows(120, 0)
    names = [labels.classes[code] for code in labels.codes]
    assert isinstance(fitted, KnowsItsRows)
    assert fitted.label_of_row == dict(zip(x.ids, names, strict=True))


def test_validation_rows_of_classes_that_train_lacks_count_as_errors(one_label: Case) -> None:
    x, labels = one_label.rows(30, 1)
    half = Labels(labels.classes, np.where(np.arange(30) < 15, labels.codes, -1))
    fitted = one_label.head().fit(*one_label.rows(120, 0), (x, half), seed=3)
    assert fitted.scores["accuracy"] == pytest.approx(0.5)


def test_a_single_class_is_certain(one_label: Case, tmp_path: Path) -> None:
    fitted = one_label.head().fit(blobs(10, 0, centres=1), classes_of(10, 1))
    again = reloaded(fitted, tmp_path)
    np.testing.assert_array_equal(again.predict_proba(blobs(4, 1)), np.ones((4, 1), dtype=np.float32))


def test_a_class_with_one_member_is_found_at_that_member(one_label: Case) -> None:
    x, labels = one_label.rows(61, 0)
    lone = proteins(np.full((1, WIDTH), 25, dtype=np.float32), ancestors(CENTRES + 1)[CENTRES:])
    both = proteins(np.concatenate((x.vectors(), lone.vectors())), x.sequences + lone.sequences)
    codes = Labels((*labels.classes, "lone"), np.append(labels.codes, CENTRES))
    fitted = one_label.head().fit(both, codes, one_label.rows(30, 1), seed=3)
    assert fitted.top_k(lone, 1)[0].tolist() == [[CENTRES]]


def test_only_classes_with_one_member_can_be_fitted(one_label: Case) -> None:
    rows = proteins(np.eye(5, dtype=np.float32), ancestors(5))
    fitted = one_label.head().fit(rows, Labels.from_names("abcde"))
    assert fitted.top_k(rows, 1)[0].ravel().tolist() == list(range(5))


def test_a_class_without_rows_keeps_its_column_and_is_never_named(one_label: Case) -> None:
    x, labels = one_label.rows(30, 0)
    fitted = one_label.head().fit(x, Labels((*labels.classes, "absent"), labels.codes))
    assert fitted.predict_proba(x).shape == (30, CENTRES + 1)
    assert CENTRES not in fitted.top_k(x, 1)[0]


def test_labels_of_no_class_are_an_error(one_label: Case) -> None:
    x, labels = one_label.rows(12, 0)
    with pytest.raises(UsageError, match="1 of 12 rows to fit on are of none of the classes"):
        one_label.head().fit(x, Labels(labels.classes, np.append(labels.codes[:11], -1)))


# what those of many labels promise


def test_each_probability_is_for_itself(many_labels: Case, how: str, tmp_path: Path) -> None:
    fitted = reloaded(fitted_once(many_labels), tmp_path) if how == "reloaded" else fitted_once(many_labels)
    assert (fitted.predict_proba(blobs(20, 2)).sum(1) > 1).any()


def test_probabilities_are_near_the_shares_that_they_promise(many_labels: Case, how: str, tmp_path: Path) -> None:
    fitted = reloaded(fitted_once(many_labels), tmp_path) if how == "reloaded" else fitted_once(many_labels)
    x, labels = many_labels.rows(120, 2)
    annotated = np.arange(120) % 5 > 0  # a row that says nothing of C is not asked of it
    answers, truth = fitted.predict_proba(x)[annotated], labels.dense()[annotated]
    np.testing.assert_allclose(answers.mean(0), truth.mean(0), atol=0.1)


def test_classes_without_groups_are_measured_as_one(many_labels: Case) -> None:
    def plain(n: int, seed: int) -> tuple[Features, LabelSets]:
        labels = terms_of(n)
        return blobs(n, seed), LabelSets(labels.classes, labels.offsets, labels.codes)

    fitted = many_labels.head().fit(*plain(120, 0), plain(30, 1), seed=3)
    assert fitted.groups == ()
    assert fitted.scores["fmax"] == pytest.approx(fmax(fitted, *plain(30, 1)))


def test_a_validation_part_without_labels_is_no_error(many_labels: Case) -> None:
    x, labels = many_labels.rows(30, 1)
    nothing = LabelSets.from_names([[]] * 30, labels.classes, labels.groups)
    fitted = many_labels.head().fit(*many_labels.rows(120, 0), (x, nothing), seed=3)
    assert fitted.scores["fmax"] == 0
    assert np.isfinite(fitted.predict_proba(x)).all()


def test_rows_without_labels_are_fitted_among_others(many_labels: Case) -> None:
    x, labels = many_labels.rows(120, 0)
    names = [() if row % 7 == 0 else names for row, names in enumerate(labels.names())]
    some = LabelSets.from_names(names, TERMS, ASPECTS)
    assert np.isfinite(many_labels.head().fit(x, some, many_labels.rows(30, 1)).predict_proba(x)).all()


def test_a_class_without_rows_keeps_its_column_and_is_improbable(many_labels: Case) -> None:
    x, labels = many_labels.rows(120, 0)
    more = LabelSets((*TERMS, "absent"), labels.offsets, labels.codes, (*ASPECTS, "C"))
    answers = many_labels.head().fit(x, more).predict_proba(x)
    assert answers.shape == (120, len(TERMS) + 1)
    assert answers[:, -1].max() < 0.1


def test_rows_without_any_label_are_nothing_to_fit_on(many_labels: Case) -> None:
    with pytest.raises(UsageError, match="none of 12 rows to fit on has a label"):
        many_labels.head().fit(blobs(12, 0), LabelSets.from_names([[]] * 12, TERMS, ASPECTS))


# what those of numbers promise


def test_numbers_are_float64_one_a_row(of_numbers: Case, how: str, tmp_path: Path) -> None:
    fitted = reloaded(fitted_once(of_numbers), tmp_path) if how == "reloaded" else fitted_once(of_numbers)
    answers = fitted.predict(blobs(20, 2))
    assert (answers.shape, answers.dtype) == ((20,), np.float64)
    assert fitted.classes == ()


def test_numbers_of_another_unit_are_predicted_in_it(of_numbers: Case) -> None:
    """A shift and a factor of all numbers are those of the answers: nothing depends on the unit."""
    x, labels = of_numbers.rows(120, 0)
    held, truth = of_numbers.rows(30, 1)
    kelvin = Numbers(1000 * labels.values + 273), (held, Numbers(1000 * truth.values + 273))
    fitted = of_numbers.head().fit(x, *kelvin, seed=3)
    test = blobs(20, 2)
    expected = 1000 * fitted_once(of_numbers).predict(test) + 273
    np.testing.assert_allclose(fitted.predict(test), expected, rtol=0.02, atol=300)


def test_equal_numbers_are_all_that_is_answered(of_numbers: Case, tmp_path: Path) -> None:
    fitted = of_numbers.head().fit(blobs(30, 0), Numbers(np.full(30, 7.5)), (blobs(9, 1), Numbers(np.full(9, 7.5))))
    np.testing.assert_allclose(reloaded(fitted, tmp_path).predict(blobs(5, 2)), 7.5, atol=0.2)


def test_a_head_of_numbers_that_names_the_nearest_row_knows_its_number(of_numbers: Case) -> None:
    fitted = fitted_once(of_numbers)
    if not isinstance(fitted, FindsNearest):
        pytest.skip("this head names no nearest row")
    x, labels = of_numbers.rows(120, 0)
    assert isinstance(fitted, KnowsItsRows)
    assert fitted.label_of_row == dict(zip(x.ids, (f"{value:.6g}" for value in labels.values), strict=True))
