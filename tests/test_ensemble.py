"""The ensemble: its arithmetic against dense sums, weights at their maximum, members of several encoders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from letter_encoder import embedded as embedded_letters
from relatives import relatives
from toy_encoder import ToyEncoder, letters

import esmcls.heads.ensemble.selection as selection
from esmcls.cache.embed import embed_into
from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.encoders.encoder import Embedded
from esmcls.errors import EncoderMismatchError, ModelError, UsageError
from esmcls.heads.ensemble.combining import FOLDS, RIDGE, Combination, Method, Slate, cross_validated
from esmcls.heads.ensemble.ensemble import EnsembleConfig, EnsembleHead
from esmcls.heads.ensemble.members import Member, Ranked, Scale
from esmcls.heads.ensemble.selection import needed
from esmcls.heads.registry import load_head, reads_vectors
from esmcls.heads.settings import parse_settings
from esmcls.labels.labels import Labels
from esmcls.models import model as model_module
from esmcls.models.folder import load_model, read_manifest, save_model
from esmcls.models.manifest import Manifest
from esmcls.models.model import features_for
from esmcls.types import Indices, Probabilities

METHODS: tuple[Method, ...] = ("average", "stack")
CLASSES, K = 12, 4


def softmax(scores: Any) -> Any:
    """Return probabilities, (n, classes)."""
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def guesses(truth: Indices, strength: float, seed: int, classes: int = CLASSES) -> Any:
    """Return probabilities, (n, classes), of one who knows the truth dimly."""
    scores = np.random.default_rng(seed).normal(size=(len(truth), classes))
    scores[np.arange(len(truth)), truth] += strength
    return softmax(scores)


def rank(table: Any, k: int = K, familiarity: Any = None) -> Ranked:
    """Return the k best of probabilities (n, classes)."""
    codes = np.argsort(-table, axis=1, kind="stable")[:, :k]
    known = np.linspace(0, 1, len(table)) if familiarity is None else familiarity
    return Ranked(codes, np.take_along_axis(table, codes, 1), known)


def spread(ranked: Ranked, classes: int = CLASSES) -> Any:
    """Return what a member gives to every class, (n, classes), by a loop."""
    out = np.zeros((len(ranked.codes), classes))
    for row, (codes, mass) in enumerate(zip(ranked.codes, ranked.mass, strict=True)):
        out[row] = (1 - mass.sum()) / (classes - len(codes))
        out[row, codes] = mass
    return out


TRUTH = np.random.default_rng(0).integers(0, CLASSES, 300)
HELD = [rank(guesses(TRUTH, strength, seed)) for seed, strength in enumerate((2.0, 3.0, 1.0))]
SLATE = Slate.of(HELD, CLASSES)


def dense(combination: Combination, held: Sequence[Ranked] = HELD) -> Any:
    """Return the log probabilities of all classes, from all of them."""
    mass, weights = np.stack([spread(one) for one in held], 2), np.array(combination.weights)
    if combination.method == "average":
        return np.log(softmax(np.log(mass @ weights) / combination.temperature))
    familiar = np.stack([one.familiarity for one in held], 1)[:, None, :]
    best = np.stack([one.codes[:, :1] == np.arange(CLASSES) for one in held], 2)
    columns = [np.log(mass), np.log(mass) * familiar, best, np.log(mass.mean(2, keepdims=True))]
    return np.log(softmax(np.concatenate(columns, 2) @ weights))


COMBINATIONS = [
    Combination("average", (0.2, 0.5, 0.3), 0.7),
    Combination("stack", (0.4, 0.0, 0.3, 0.5, 0.2, 0.0, 1.0, 0.0, 0.3, 0.6)),
]


@pytest.mark.parametrize("combination", COMBINATIONS, ids=METHODS)
def test_candidates_give_what_a_sum_over_all_classes_gives(combination: Combination) -> None:
    votes = combination.votes(SLATE, CLASSES)
    np.testing.assert_allclose(votes.dense(), np.exp(dense(combination)), rtol=1e-5)
    np.testing.assert_array_equal(combination.best(SLATE), dense(combination).argmax(1))
    np.testing.assert_allclose(votes.losses(TRUTH), -dense(combination)[np.arange(300), TRUTH], rtol=1e-6)


@pytest.mark.parametrize("combination", COMBINATIONS, ids=METHODS)
def test_classes_that_no_member_names_share_one_probability_and_come_last_by_code(combination: Combination) -> None:
    codes, mass = combination.votes(SLATE, CLASSES).top(CLASSES)
    assert (np.diff(mass, axis=1) <= 0).all()
    for row in range(300):
        unnamed = sorted(set(range(CLASSES)) - {code for one in HELD for code in one.codes[row].tolist()})
        if unnamed:
            assert codes[row, -len(unnamed) :].tolist() == unnamed
            assert len(set(mass[row, -len(unnamed) :].tolist())) == 1


def test_the_plain_combinations_are_the_mean_of_the_members() -> None:
    mean = np.mean([spread(one) for one in HELD], axis=0)
    for method in METHODS:
        np.testing.assert_allclose(Combination.plain(method, 3).votes(SLATE, CLASSES).dense(), mean, rtol=1e-5)


def test_the_weights_of_an_average_are_where_expectation_and_maximisation_stand_still() -> None:
    weights = np.array(Combination.fit("average", SLATE, TRUTH).weights)
    given = np.stack([spread(one)[np.arange(300), TRUTH] for one in HELD], 1) * weights
    shares = (given / given.sum(1, keepdims=True)).sum(0) + 1
    np.testing.assert_allclose(weights, shares / shares.sum(), atol=1e-4)
    assert weights[1] > weights[0] > weights[2]


def test_the_temperature_of_an_average_has_the_least_log_loss() -> None:
    found = Combination.fit("average", SLATE, TRUTH)

    def loss(factor: float) -> float:
        logs = dense(replace(found, temperature=found.temperature * factor))
        return float(-logs[np.arange(300), TRUTH].mean())

    assert loss(1.0) < min(loss(1.05), loss(0.95))
    assert Combination.fit("average", SLATE, TRUTH, temperature=2.0).temperature == 2.0


def test_the_weights_of_stacking_are_at_the_maximum_of_the_likelihood_less_the_ridge() -> None:
    found = Combination.fit("stack", SLATE, TRUTH)
    plain = np.array(Combination.plain("stack", 3).weights)

    def loss(weights: Any) -> float:
        logs = dense(replace(found, weights=tuple(weights)))
        return float(RIDGE * ((weights - plain) ** 2).sum() - logs[np.arange(300), TRUTH].sum())

    weights = np.array(found.weights)
    for place in range(len(weights)):
        for step in (0.02, -0.02):
            near = weights.copy()
            near[place] = max(0.0, near[place] + step)
            assert loss(near) >= loss(weights) - 1e-6
    assert (weights >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_no_class_do_not_count_and_without_others_members_count_alike(method: Method) -> None:
    truth = np.where(np.arange(300) < 200, TRUTH, -1)
    part = Combination.fit(method, SLATE.take(np.arange(200)), TRUTH[:200])
    assert Combination.fit(method, SLATE, truth) == part
    assert Combination.fit(method, SLATE, np.full(300, -1)) == Combination.plain(method, 3)


def test_few_rows_leave_the_members_nearly_alike() -> None:
    few = Combination.fit("stack", SLATE.take(slice(2)), TRUTH[:2])
    assert np.abs(np.array(few.weights) - Combination.plain("stack", 3).weights).max() < 0.7
    assert max(Combination.fit("average", SLATE.take(slice(2)), TRUTH[:2]).weights) < 0.6


@pytest.mark.parametrize("method", METHODS)
def test_a_cross_validated_answer_knows_nothing_of_its_own_label(method: Method) -> None:
    before, _ = cross_validated(method, SLATE, TRUTH, seed=1)
    fold = np.random.default_rng(1).permutation(np.arange(300) % FOLDS) == 2
    other = np.where(fold, np.roll(TRUTH, 1), TRUTH)
    after, _ = cross_validated(method, SLATE, other, seed=1)
    np.testing.assert_array_equal(before[fold], after[fold])
    rows = np.flatnonzero(~fold)
    weights = Combination.fit(method, SLATE.take(rows), TRUTH[rows])
    np.testing.assert_array_equal(before[fold], weights.best(SLATE.take(fold)))


def test_stacking_trusts_a_member_where_it_is_familiar() -> None:
    familiar = np.arange(300) % 2 == 0
    fickle = np.where(familiar[:, None], guesses(TRUTH, 5, 8), guesses(TRUTH, 0, 9))
    held = [rank(guesses(TRUTH, 2, 7)), rank(fickle, familiarity=familiar.astype(np.float64))]
    slate = Slate.of(held, CLASSES)
    right = {method: (cross_validated(method, slate, TRUTH)[0] == TRUTH).mean() for method in METHODS}
    assert right["stack"] > right["average"] + 0.02
    assert Combination.fit("stack", slate, TRUTH).familiar == (True, True)
    assert Combination.fit("average", slate, TRUTH).familiar == (False, False)


def test_a_share_is_that_of_validation_rows_that_were_less_familiar() -> None:
    scale = Scale.of(np.random.default_rng(0).exponential(size=5000))
    np.testing.assert_allclose(scale.shares(np.log([2.0, 4.0])), [0.5, 0.75], atol=0.03)
    even = Scale.of(np.linspace(-1, 1, 2001))
    np.testing.assert_allclose(even.standardised(np.array([0.0, 1.0])), [0, 3**0.5], atol=0.03)  # uniform
    assert Scale.of(np.ones(3)).standardised(np.array([3.0])).tolist() == [2.0]
    assert Scale.of(np.zeros(0)) == Scale()


# the head


class Told:
    """A head whose probabilities are a part of the vectors, or told by the first residue."""

    def __init__(
        self, part: slice = slice(None), reads: bool = True, classes: tuple[str, ...] = ("a", "b", "c")
    ) -> None:
        self.part, self.reads_vectors, self.classes = part, reads, classes
        self.chosen = self.config = SimpleNamespace()
        self.scores: dict[str, float] = {}

    def predict_proba(self, x: Features) -> Probabilities:
        """Return the part."""
        if not self.reads_vectors:
            return np.eye(3, dtype=np.float32)[["ACD".index(sequence[0]) for sequence in x.sequences]]
        return x.vectors()[:, self.part].astype(np.float32)

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the best."""
        ranked = rank(self.predict_proba(x), k)
        return ranked.codes, np.asarray(ranked.mass)

    def familiarity(self, x: Features) -> Any:
        """Return the length."""
        return x.lengths.astype(np.float64)


def member(x: Features, name: str = "told", spec: Any = None, **options: Any) -> Member:
    head: Any = Told(**options)
    seen = x.of(spec) if head.reads_vectors else x
    return Member(name, "told", head, spec, Ranked.of(head, seen, 3))


THREE = Labels(("a", "b", "c"), np.arange(60) % 3)
SEQUENCES = ["ACD"[code] * (row + 1) for row, code in enumerate(THREE.codes)]


def told(strength: float, seed: int, spec: Any = None) -> Features:
    table = guesses(THREE.codes, strength, seed, 3).astype(np.float32)
    return Features.from_arrays(table, SEQUENCES, spec=spec)


ONE = EmbeddingSpec("one", "1" * 64, (6,), "balanced", "fp32", "float32", ("mean",), 3)
TWO = replace(ONE, encoder="two", digest="2" * 64)
NOISE = replace(ONE, encoder="noise", digest="3" * 64)


def test_members_of_two_encoders_are_each_given_their_own_vectors() -> None:
    x = replace(told(2, 1, ONE), others=(told(3, 2, TWO),))
    members = [member(x, "first", ONE), member(x, "second", TWO), member(x, "third", ONE, reads=False)]
    head = EnsembleHead.of(members, THREE, EnsembleConfig(method="average", weights="0.5,0.5,0"))
    assert head.chosen.members == "first,second,third"
    both = (x.of(ONE).vectors() + x.of(TWO).vectors()) / 2
    np.testing.assert_allclose(head.predict_proba(x), both, atol=1e-6)
    np.testing.assert_allclose(head.predict_proba(x.take([3, 1])), both[[3, 1]], atol=1e-6)
    assert head.scores["accuracy"] == pytest.approx((both.argmax(1) == THREE.codes).mean())
    assert head.specs == (ONE, TWO)
    assert head.reads_vectors
    swapped = replace(x.others[0], others=(x.of(ONE),))
    np.testing.assert_array_equal(head.predict_proba(swapped), head.predict_proba(x))


def test_an_encoder_without_vectors_is_named() -> None:
    x = replace(told(2, 1, ONE), others=(told(3, 2, TWO),))
    head = EnsembleHead.of([member(x, "first", ONE), member(x, "second", TWO)], THREE)
    with pytest.raises(UsageError, match=r"^there are no vectors of encoder two .*, but of encoder one .*; embed with"):
        head.predict_proba(told(2, 1, ONE))


def test_an_ensemble_of_heads_that_read_no_vectors_reads_none() -> None:
    head = EnsembleHead.of([member(told(1, 1), reads=False)], THREE)
    assert not reads_vectors(head)
    assert head.specs == ()
    bare = Features.from_arrays(np.zeros((60, 0), dtype=np.float32), SEQUENCES)
    assert (head.top_k(bare, 1)[0][:, 0] == THREE.codes).all()


def test_the_better_method_is_taken_and_its_scores_are_cross_validated() -> None:
    x = replace(told(1.5, 1, ONE), others=(told(1.5, 2, TWO),))
    members, logged = [member(x, "first", ONE), member(x, "second", TWO)], list[dict[str, float]]()
    head = EnsembleHead.of(members, THREE, seed=4, log=logged.append)
    best = max(logged, key=lambda one: one["macro_f1"])
    assert [one["stack"] for one in logged] == [0, 1]
    assert head.chosen.method == METHODS[int(best["stack"])]
    assert head.scores == {name: best[name] for name in ("accuracy", "macro_f1")}
    held = [
        replace(one.held, familiarity=Scale.of(one.held.familiarity).shares(one.held.familiarity))
        for one in members
        if one.held
    ]
    for method, one in zip(METHODS, logged, strict=True):
        found, loss = cross_validated(method, Slate.of(held, 3), THREE.codes, seed=4)
        assert (one["accuracy"], one["log_loss"]) == ((found == THREE.codes).mean(), loss)


def test_a_member_without_which_the_others_do_no_worse_is_left_out_and_named() -> None:
    x = replace(told(1.5, 1, ONE), others=(told(1.5, 2, TWO), told(0, 3, NOISE)))
    members = [member(x, "first", ONE), member(x, "noise", NOISE), member(x, "second", TWO)]
    head = EnsembleHead.of(members, THREE)
    assert [one.name for one in head.members] == ["first", "second"]
    assert (head.chosen.members, head.kept, head.specs) == ("first,second", (0, 2), (ONE, TWO))
    assert head.explanation == (
        "of first, noise, second it takes first, second; on validation it is as good without noise"
    )
    without = EnsembleHead.of(members[::2], THREE)
    assert (without.chosen, without.explanation) == (head.chosen, "")
    np.testing.assert_array_equal(without.predict_proba(x), head.predict_proba(x))


def test_where_all_are_right_a_member_that_makes_the_others_surer_stays() -> None:
    truth = np.arange(600) % CLASSES
    rng = np.random.default_rng(0)
    unsure = [np.where(np.arange(600) % 60 == place, 0.55, 0.999) for place in rng.integers(0, 60, 2)]
    ranked = [
        Ranked(
            np.stack([truth, (truth + 1) % CLASSES], 1), np.stack([sure, 1 - sure], 1) - 1e-6, np.linspace(0, 1, 600)
        )
        for sure in unsure
    ]
    labels = Labels(tuple(map(str, range(CLASSES))), truth)
    losses = [cross_validated("average", Slate.of(some, CLASSES), truth, 1.0)[1] for some in (ranked, ranked[:1])]
    assert losses[1] - losses[0] < 0.01 < losses[1] / losses[0] - 1, "little in sum, much of what there is"
    assert needed(ranked, labels, ("average",), 1.0) == [0, 1]


def test_members_whose_weights_are_given_are_not_left_out() -> None:
    x = replace(told(1.5, 1, ONE), others=(told(0, 3, NOISE),))
    members = [member(x, "first", ONE), member(x, "noise", NOISE)]
    head = EnsembleHead.of(members, THREE, EnsembleConfig(method="average", weights="0.5,0.5"))
    assert (head.chosen.members, head.explanation) == ("first,noise", "")


def test_of_many_validation_rows_some_are_drawn_to_tell_which_members_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = list[int]()

    def counted(method: Method, slate: Slate, truth: Indices, *options: Any) -> tuple[Indices, float]:
        asked.append(len(truth))
        return cross_validated(method, slate, truth, *options)

    monkeypatch.setattr(selection, "cross_validated", counted)
    monkeypatch.setattr(selection, "MOST_ROWS", 50)
    assert needed(HELD[:2], Labels(tuple(map(str, range(CLASSES))), TRUTH), METHODS)
    assert set(asked) == {50}


def test_without_a_word_on_members_those_that_align_are_among_them_where_there_are_residues() -> None:
    labels = Labels.from_names(["a", "b"] * 12)
    texts = relatives(labels.codes, seed=1)
    x = embedded_letters(texts)
    assert EnsembleHead().fit(x, labels).tried == ("linear", "knn", "align")
    assert EnsembleHead().fit(Features.from_arrays(x.vectors(), texts), labels).tried == ("linear", "knn")


def test_members_that_do_not_fit_together_are_named() -> None:
    x = told(2, 1)
    with pytest.raises(UsageError, match="an ensemble of no members; name at least one"):
        EnsembleHead.of([], THREE)
    other = member(x, "other", classes=("a", "b", "c", "d"))
    with pytest.raises(
        UsageError, match=r"^member other was fitted on 4 classes, not the 3 of the validation labels; "
    ):
        EnsembleHead.of([member(x), other], THREE)
    bare = replace(member(x), held=None)
    with pytest.raises(UsageError, match=r"^member told: nothing ranked on validation; rank 3 classes of 60 rows"):
        EnsembleHead.of([bare], THREE)
    short = replace(member(x), held=rank(x.vectors(), 2).take(slice(50)))
    with pytest.raises(
        UsageError, match=r"^member told: 2 classes of 50 rows ranked on validation; rank 3 classes of 60"
    ):
        EnsembleHead.of([short], THREE)


@pytest.mark.parametrize(("method", "wanted"), [("average", 2), ("stack", 7)])
def test_weights_of_another_number_of_members_are_refused(method: Method, wanted: int) -> None:
    head, message = EnsembleHead(EnsembleConfig(method=method, weights="1,0,1")), f"weights: 3 for 2 .* has {wanted}; "
    with pytest.raises(UsageError, match=message):
        head.fit(told(1, 1), THREE)
    with pytest.raises(UsageError, match=message):
        EnsembleHead.of([member(told(1, 1))] * 2, THREE, head.config)


def blobs(n: int, seed: int, classes: int = 30) -> tuple[Features, Labels]:
    codes = np.arange(n) % classes
    centres = np.random.default_rng(99).normal(size=(classes, 6))
    vectors = centres[codes] + np.random.default_rng(seed).normal(size=(n, 6)) * 0.7
    return Features.from_arrays(vectors.astype(np.float32)), Labels(tuple(map(str, range(classes))), codes)


@pytest.mark.parametrize("method", METHODS)
def test_few_candidates_of_many_classes_keep_every_promise(method: Method, tmp_path: Path) -> None:
    head = EnsembleHead(EnsembleConfig(method=method, candidates=3)).fit(*blobs(240, 0), blobs(120, 1))
    x = blobs(90, 2)[0]
    every = head.predict_proba(x)
    np.testing.assert_allclose(every.sum(1), 1, atol=1e-6)
    codes, probabilities = head.top_k(x, 12)
    np.testing.assert_array_equal(probabilities, -np.sort(-every, axis=1)[:, :12])
    np.testing.assert_array_equal(np.take_along_axis(every, codes, 1), probabilities)
    alone = np.concatenate([head.predict_proba(x.take([row])) for row in range(90)])
    np.testing.assert_allclose(alone, every, atol=1e-6)
    head.save(tmp_path)
    again = EnsembleHead.load(
        tmp_path, parse_settings(EnsembleConfig, json.loads(json.dumps(vars(head.chosen)))), head.classes
    )
    np.testing.assert_array_equal(again.predict_proba(x), every)
    np.testing.assert_array_equal(again.familiarity(x), head.familiarity(x))


def test_a_head_named_twice_is_fitted_with_two_seeds() -> None:
    x, labels = blobs(60, 0, classes=4)
    valid, alone = blobs(40, 1, classes=4), load_head("mlp")()
    config = EnsembleConfig("mlp, mlp", "average", weights="1,0")
    for seed, weights in ((5, "1,0"), (6, "0,1")):
        head = EnsembleHead(replace(config, weights=weights)).fit(x, labels, valid, seed=5)
        wanted = alone.fit(x, labels, valid, seed=seed).predict_proba(x)
        np.testing.assert_allclose(head.predict_proba(x), wanted, atol=1e-5)
    first, second = (one.head.predict_proba(x) for one in head.members)
    assert not np.allclose(first, second)


def test_embedding_and_homology_together_beat_both(tmp_path: Path) -> None:
    """Vectors tell pairs of families from other pairs, alignment all families, but of near proteins alone."""
    pytest.importorskip("pyhmmer", reason="no engine: pyhmmer is not installed")

    def proteins(n: int, seed: int) -> tuple[Features, Labels]:
        codes, rng = np.arange(n) % 6, np.random.default_rng(seed)
        far = rng.random(n) < 0.5
        texts = np.where(far, relatives(codes, seed, 0.97), relatives(codes, seed, 0.3)).tolist()
        vectors = np.stack((codes % 3, codes % 3 == 1), 1) + rng.normal(size=(n, 2)) * 0.1
        return Features.from_arrays(vectors.astype(np.float32), texts), Labels(tuple("abcdef"), codes)

    head = EnsembleHead(EnsembleConfig("knn,homology")).fit(*proteins(120, 0), proteins(60, 1))
    x, labels = proteins(90, 2)
    right = [(one.top_k(x, 1)[0][:, 0] == labels.codes).mean() for one in (head, *(one.head for one in head.members))]
    assert right[0] > max(right[1:]) + 0.05
    head.save(tmp_path)
    again = EnsembleHead.load(tmp_path, head.chosen, head.classes)
    np.testing.assert_array_equal(again.predict_proba(x), head.predict_proba(x))


# model folders


class Doubled(ToyEncoder):
    """Another encoder: twice the toy's vectors."""

    def encode(self, sequences: Sequence[str], poolings: Sequence[str] = ("mean",), keep: str = "") -> Embedded:
        """Double what the toy gives."""
        found = super().encode(sequences, poolings, keep)
        found.pooled = {name: 2 * table for name, table in found.pooled.items()}
        return found


TOY, DOUBLED = ToyEncoder(), Doubled(name="doubled", digest="71")
SPECS = (EmbeddingSpec.of(TOY), EmbeddingSpec.of(DOUBLED, poolings=("mean", "max")))
TEXTS = [letters(number) for number in range(60)]
LENGTHS = Labels.from_names([f"length {len(text)}" for text in TEXTS])


def embedded() -> Features:
    """Return the vectors of both encoders, in memory."""
    first, second = (
        Features.from_arrays(
            {name: table.astype(np.float16) for name, table in encoder.encode(TEXTS, spec.pooled).pooled.items()},
            TEXTS,
            spec=spec,
        )
        for encoder, spec in zip((TOY, DOUBLED), SPECS, strict=True)
    )
    return replace(first, others=(second,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model across both encoders, one of its members on another pooling."""
    x, members = embedded(), []
    for name, spec, settings in (("knn", SPECS[0], {}), ("linear", SPECS[1], {"pooling": "max"})):
        kind = load_head(name)
        fitted = kind(parse_settings(kind.Config, settings)).fit(x.of(spec), LENGTHS, (x.of(spec), LENGTHS))
        members.append(Member(f"my {name}", name, fitted, spec, Ranked.of(fitted, x.of(spec), 20)))
    head = EnsembleHead.of(members, LENGTHS, EnsembleConfig(method="average", weights="0.5,0.5"))
    about = Manifest(
        "ensemble",
        vars(head.chosen),
        head.classes,
        (1,) * len(head.classes),
        head.specs[0],
        "mean",
        "d",
        "s",
        0,
        {},
        60,
        others=head.specs[1:],
    )
    return save_model(tmp_path / "model", head, about)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was opened, one name after the other."""
    names: list[str] = []

    def opener(name: str, **options: Any) -> ToyEncoder:
        names.append(name)
        return {"toy": TOY, "doubled": DOUBLED, "/elsewhere": DOUBLED, "/foreign": ToyEncoder(digest="72")}[name]

    monkeypatch.setattr(model_module, "load_encoder", opener)
    monkeypatch.setattr("esmcls.cache.features.load_encoder", opener)
    return names


def test_a_model_across_encoders_embeds_once_a_spec(folder: Path, opened: list[str]) -> None:
    model, before = load_model(folder), len(TOY.batches_seen)
    assert model.manifest.others == SPECS[1:]
    assert [one.name for one in model.head.members] == ["my knn", "my linear"]
    np.testing.assert_array_equal(model.predict_proba(TEXTS), model.head.predict_proba(embedded()))
    model.predict(["ACD"])
    assert opened == ["toy", "doubled"]
    assert TOY.batches_seen[-1] == ["ACD"]
    assert len(TOY.batches_seen) == before + 20 + 1 + 1  # the model's, `embedded`'s one, and the last


@pytest.mark.parametrize("given", ["/elsewhere", DOUBLED])
def test_an_encoder_that_is_given_is_that_of_its_digest(folder: Path, opened: list[str], given: Any) -> None:
    model = load_model(folder, encoder=given)
    np.testing.assert_array_equal(model.predict_proba(TEXTS), model.head.predict_proba(embedded()))
    assert [name for name in opened if name != "/elsewhere"] == ["toy"]


def test_an_encoder_of_none_of_the_digests_is_refused(folder: Path, opened: list[str]) -> None:
    with pytest.raises(EncoderMismatchError, match="fitted on encoder digest 70, but toy has 72"):
        load_model(folder, encoder="/foreign").predict(["ACD"])


def test_vectors_come_from_the_cache_of_each_spec_or_are_made(folder: Path, opened: list[str], tmp_path: Path) -> None:
    dataset = Dataset([str(row) for row in range(60)], TEXTS, ["x"] * 60, ["test"] * 60)
    cache = EmbeddingCache.open(tmp_path / "cache", SPECS[1])
    embed_into(cache, DOUBLED, TEXTS)
    workspace: Any = SimpleNamespace(caches=[SimpleNamespace(folder=tmp_path / "cache", spec=SPECS[1])])
    model = load_model(folder)
    x = features_for(model, dataset, workspace)
    assert opened == ["toy"]
    np.testing.assert_array_equal(model.head.predict_proba(x), model.head.predict_proba(embedded()))
    imported = replace(model.manifest, others=(replace(SPECS[1], encoder="imported"),))
    model.manifest = imported
    assert features_for(model, dataset, workspace).of(SPECS[1]).width == 4
    with pytest.raises(ModelError, match="fitted on imported vectors"):
        features_for(model, dataset)


def test_a_manifest_of_before_ensembles_has_no_other_specs(folder: Path) -> None:
    flat = json.loads((folder / "manifest.json").read_text())
    assert flat["format"] == 1
    del flat["others"]
    (folder / "manifest.json").write_text(json.dumps(flat))
    assert read_manifest(folder).others == ()
