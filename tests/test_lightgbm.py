"""The LightGBM head: candidates, their features and the ranker's loss by hand; the ranker keeps the heads' protocol."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, fields
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import pytest
import test_heads_protocol as protocol
import torch
from torch.nn import functional as F

from esmcls.cache.features import Features
from esmcls.heads import registry as heads
from esmcls.heads.trees.boosting import Trees, weigh
from esmcls.heads.trees.candidates import (
    FEATURES,
    Candidates,
    CandidateSources,
    LabelledRows,
    Neighbours,
    Recipe,
    assign_folds,
    choose_recipe,
    out_of_fold,
    ranked,
)
from esmcls.heads.trees.lightgbm import LightGBMConfig, LightGBMHead
from esmcls.heads.trees.ranker import Groups, Ranker
from esmcls.heads.trees.time_estimate import Size, Speed
from esmcls.labels.labels import Labels

Array = npt.NDArray[np.float32]
RECIPE = Recipe(shrinkage=0.01, penalty=0.1)


def clouds(n: int = 240, classes: int = 12, seed: int = 0, spread: float = 0.7) -> LabelledRows:
    """Rows around one centre a class, close enough that some are nearer to another."""
    codes = np.arange(n) % classes
    centres = np.random.default_rng(7).normal(size=(classes, 8))
    vectors = centres[codes] + spread * np.random.default_rng(seed).normal(size=(n, 8))
    names = tuple(f"c{code:02d}" for code in range(classes))
    return LabelledRows(vectors.astype(np.float32), Labels(names, codes), 100 + np.arange(n) % 7)


def features_of(rows: LabelledRows) -> Features:
    return Features.from_arrays(rows.vectors, ["A" * length for length in rows.lengths.tolist()])


def fit(rows: LabelledRows, held: LabelledRows | None = None, log: Any = None, **knobs: Any) -> LightGBMHead:
    config = LightGBMConfig(**{"direct_classes": 0, "most_rounds": 40, **knobs})
    validation = None if held is None else (features_of(held), held.labels)
    return LightGBMHead(config).fit(features_of(rows), rows.labels, validation, 0, log)


# the ranker keeps what every head promises


@dataclass(frozen=True)
class RankerConfig(LightGBMConfig):
    direct_classes: int = 0
    most_rounds: int = 60


class RankerHead(LightGBMHead):
    """Ranks candidates, however few classes there are."""

    Config = RankerConfig

    def __init__(self, config: RankerConfig | None = None, device: str = "cpu") -> None:
        super().__init__(config or RankerConfig(), device)


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> protocol.Case:
    entry = EntryPoint(name="ranker", value="test_lightgbm:RankerHead", group=heads.GROUP)
    monkeypatch.setattr(heads, "entry_points", lambda group: [*entry_points(group=group), entry])
    return protocol.Case(protocol.ONE_LABEL, "ranker")


@pytest.fixture
def one_label(case: protocol.Case) -> protocol.Case:
    return case


head = protocol.head
how = protocol.how
globals().update(
    (key, test)
    for key, test in vars(protocol).items()
    if key.startswith("test_") and {"head", "case", "one_label"} & set(inspect.signature(test).parameters)
)


# candidates and what is told of them


def column(found: Candidates, feature: str) -> Array:
    return found.features[:, :, FEATURES.index(feature)]


def test_a_candidate_is_told_by_its_hits_and_by_what_is_ahead_of_it() -> None:
    hits = Neighbours(np.array([[0.9, 0.8, 0.6, 0.2]]), np.array([[5, 3, 5, 8]]))
    best, second, mean, votes = hits.of(np.array([[3, 4, 5]]))
    np.testing.assert_allclose(best, [[0.8, np.nan, 0.9]])
    np.testing.assert_allclose(second, [[np.nan, np.nan, 0.6]])
    np.testing.assert_allclose(mean, [[0.8, np.nan, 0.75]])
    weights = np.exp(np.array([0.9, 0.8, 0.6, 0.2]) / 0.05)
    np.testing.assert_allclose(votes, [[weights[1], 0, weights[0] + weights[2]]] / weights.sum())
    assert hits.classes(2).tolist() == [[5, 3, -1, -1]]


def test_a_lone_candidate_is_ahead_of_nothing() -> None:
    for values in ([[0.4]], [[0.4, np.nan]]):
        ranks, ahead = ranked(np.array(values))
        assert ranks[0, 0] == 1
        assert np.isnan(ahead).all()


def test_both_sources_name_classes_and_every_feature_is_what_it_says() -> None:
    rows = clouds(48, spread=0.3)
    sources = CandidateSources.of(rows, Recipe(0.01, 0.1, each=2, neighbours=5))
    [(_, found)] = sources.candidates(rows.vectors[:6], rows.lengths[:6])
    unit = F.normalize(sources.whitening(torch.from_numpy(rows.vectors)), dim=1).numpy()
    outputs = unit[:6] @ sources.weight.numpy().T + sources.bias.numpy()
    nearest = np.argsort(-unit[:6] @ unit.T, axis=1)[:, :5]
    for row, codes in enumerate(found.codes):
        near = list(dict.fromkeys(rows.labels.codes[nearest[row]].tolist()))[:2]
        assert [code for code in codes if code >= 0] == sorted({*near, *np.argsort(-outputs[row])[:2].tolist()})
    row, place = np.nonzero(found.codes == rows.labels.codes[:6, None])
    own = {name: found.features[row, place, at] for at, name in enumerate(FEATURES)}
    means = np.stack([unit[rows.labels.codes == code].mean(0) for code in range(6)])
    lengths = np.linalg.norm(means, axis=1)
    np.testing.assert_allclose(own["best"], 1, atol=1e-6)  # a row of the training rows finds itself
    np.testing.assert_allclose(own["ridge"], outputs[row, row], atol=1e-5)
    np.testing.assert_allclose(own["centre"], (unit[:6] * means).sum(1) / lengths, atol=1e-5)
    np.testing.assert_allclose(own["spread"], lengths, atol=1e-5)
    np.testing.assert_allclose(own["size"], math.log(5), rtol=1e-6)
    logs = np.log1p(rows.lengths)
    np.testing.assert_allclose(own["length"], logs[:6], rtol=1e-6)
    np.testing.assert_allclose(own["longer"], logs[:6] - logs.reshape(4, 12).mean(0)[:6], atol=1e-6)
    np.testing.assert_array_equal(own["candidates"], (found.codes >= 0).sum(1))
    np.testing.assert_array_equal(own["agree"], rows.labels.codes[nearest[:, 0]] == outputs.argmax(1))


def test_a_row_has_the_same_bits_alone_and_among_others() -> None:
    rows = clouds()
    sources, queries = CandidateSources.of(rows, RECIPE), clouds(70, seed=1)
    [(_, every)] = sources.candidates(queries.vectors, queries.lengths)
    for row in range(70):
        [(_, alone)] = sources.candidates(queries.vectors[row : row + 1], queries.lengths[row : row + 1])
        there = every.codes[row] >= 0
        np.testing.assert_array_equal(alone.codes[0], every.codes[row][there])
        np.testing.assert_array_equal(alone.features[0], every.features[row][there])


def test_shrinkage_is_chosen_by_the_nearest_neighbour_and_the_penalty_by_the_regression() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(220, 6)) * [0.1, 0.1, 4, 4, 4, 4]  # the classes differ in the columns that vary least
    codes = np.append(np.arange(200) % 10, [0] * 20)  # a penalty without end leaves how frequent they are
    noise[:, :2] += np.stack((np.cos(codes), np.sin(codes)), 1)
    rows = LabelledRows(noise.astype(np.float32), Labels(tuple("abcdefghij"), codes), np.zeros(220, dtype=np.int64))
    held, fitted = rows.take(np.arange(100)), rows.take(np.arange(100, 220))
    assert choose_recipe(fitted, held, (1.0, 0.001), (1e6, 0.01)) == (0.001, 0.01)


# out of fold


def test_folds_are_even_and_never_hold_a_whole_class_of_two_or_more() -> None:
    codes = np.repeat(np.arange(60), np.arange(60) % 7 + 1)
    fold = assign_folds(codes, 5, seed=3)
    assert np.bincount(fold, minlength=5).min() > len(codes) / 5 * 0.8
    for code in np.flatnonzero(np.bincount(codes) > 1):
        assert len(set(fold[codes == code])) == min(5, (codes == code).sum())
    assert not np.array_equal(fold, assign_folds(codes, 5, seed=4))


def test_out_of_fold_a_row_finds_neither_itself_nor_the_size_that_it_adds_to() -> None:
    rows = clouds(60, classes=12)
    seen = []
    for asked, found in out_of_fold(rows, RECIPE, folds=5, most=1000, seed=0):
        seen += asked.tolist()
        own = found.codes == rows.labels.codes[asked][:, None]
        assert (column(found, "nearest") < 0.9999).all()
        np.testing.assert_allclose(column(found, "size")[own], math.log(5), rtol=1e-6)  # 4 of the 5 members
    assert sorted(seen) == list(range(60))


def test_out_of_fold_a_class_of_one_is_no_candidate() -> None:
    rows = clouds(61, classes=5)
    codes = np.append(rows.labels.codes[:60], 5)
    lone = LabelledRows(rows.vectors, Labels((*rows.labels.classes, "lone"), codes), rows.lengths)
    named = {}
    for asked, found in out_of_fold(lone, RECIPE, folds=5, most=1000, seed=0):
        named.update(zip(asked.tolist(), found.codes.tolist(), strict=True))
    assert 5 not in named[60]
    assert any(5 in codes for codes in named.values())


def test_the_ranker_learns_from_no_more_rows_than_asked_for() -> None:
    parts = [*out_of_fold(clouds(100, classes=10), RECIPE, folds=4, most=30, seed=1)]
    assert sum(len(asked) for asked, _ in parts) == 30


# the ranker


def groups(seed: int = 0) -> Groups:
    """Rows with 3, 2 and 4 candidates; a fourth row's class is not among them."""
    codes = np.array([[1, 4, 6, -1], [0, 2, -1, -1], [1, 2, 3, 4], [3, 5, -1, -1]])
    features = np.random.default_rng(seed).normal(size=(4, 4, 2)).astype(np.float32)
    return Groups.of([(np.array([9, 3, 5, 7]), Candidates(codes, features))], np.array([8, 8, 8, 2, 8, 1, 8, 0, 8, 4]))


def test_rows_whose_class_is_no_candidate_are_left_out() -> None:
    one = groups()
    assert len(one) == 3
    assert one.starts.tolist() == [0, 3, 5]
    assert np.flatnonzero(one.right).tolist() == [1, 4, 5]
    assert one.features.shape == (9, 2)


def test_the_loss_is_the_cross_entropy_of_each_rows_candidates_and_its_slopes_are_autograds() -> None:
    one, scores = groups(), torch.tensor(np.random.default_rng(1).normal(size=9), requires_grad=True)
    parts = [F.cross_entropy(scores[a:b], torch.tensor(right)) for a, b, right in ((0, 3, 1), (3, 5, 1), (5, 9, 0))]
    loss = torch.stack(parts).sum()
    plain = scores.detach().numpy()
    assert one.loss(plain, None)[1] == pytest.approx(loss.item() / 3)
    slopes, curves = one.slopes(plain, None)
    [expected] = torch.autograd.grad(loss, scores, create_graph=True)
    np.testing.assert_allclose(slopes, expected.detach(), atol=1e-12)
    second = [torch.autograd.grad(value, scores, retain_graph=True)[0][at] for at, value in enumerate(expected)]
    np.testing.assert_allclose(curves, torch.stack(second), atol=1e-12)


def test_what_vectors_cannot_tell_apart_the_ranker_tells_by_length() -> None:
    def twins(seed: int) -> LabelledRows:
        rows = clouds(400, classes=10, seed=seed, spread=0.2)
        codes = rows.labels.codes * 2 + np.arange(400) // 10 % 2  # each cloud is two classes, short and long
        return LabelledRows(
            rows.vectors, Labels(tuple(f"t{code:02d}" for code in range(20)), codes), 100 + 200 * (codes % 2)
        )

    rows, held = twins(0), twins(1)
    head = fit(rows, held)
    sources = head.model.sources if isinstance(head.model, Ranker) else None
    assert sources is not None
    [(_, found)] = sources.candidates(held.vectors, held.lengths)
    for feature in ("best", "ridge"):
        first = np.nanargmax(column(found, feature), 1)
        assert (found.codes[np.arange(400), first] == held.labels.codes).mean() < 0.65
    assert head.scores["accuracy"] > 0.95


def test_where_no_row_has_a_class_in_common_the_nearest_mean_is_the_best() -> None:
    rows = LabelledRows(np.eye(6, dtype=np.float32), Labels.from_names("abcdef"), np.zeros(6, dtype=np.int64))
    head = fit(rows)
    assert isinstance(head.model, Ranker)
    assert head.model.trees is None
    assert head.top_k(features_of(rows), 1)[0][:, 0].tolist() == list(range(6))


# probabilities


def test_scores_become_a_softmax_of_candidates_and_the_rest_is_shared_by_all_classes() -> None:
    codes, scores = np.array([[1, 2, 4], [0, 3, -1]]), np.array([[2.0, 2.0, 0.0], [1.0, 5.0, 9.0]])
    votes = weigh(codes, scores, 5, temperature=2.0, rest=0.1)
    first = np.exp([1, 1, 0]) / np.exp([1, 1, 0]).sum() * 0.9 + 0.02
    second = np.exp([0.5, 2.5]) / np.exp([0.5, 2.5]).sum() * 0.9 + 0.02
    expected = [[0.02, *first[:2], 0.02, first[2]], [second[0], 0.02, 0.02, second[1], 0.02]]
    np.testing.assert_allclose(votes.dense(), expected, rtol=1e-6)
    assert votes.top(5)[0].tolist() == [[1, 2, 4, 0, 3], [3, 0, 1, 2, 4]]  # of equals the lowest code


def test_classes_that_no_source_names_share_what_validation_says_is_missed() -> None:
    rows, held = clouds(spread=1.2), clouds(120, seed=1, spread=1.2)
    head = fit(rows, held, candidates=1)
    assert isinstance(head.model, Ranker)
    [(_, found)] = head.model.sources.candidates(held.vectors, held.lengths)
    named = (found.codes == held.labels.codes[:, None]).any(1).mean()
    assert head.chosen.recall == pytest.approx(named)
    assert 0.3 < named < 0.95
    every = head.predict_proba(features_of(held))
    others = np.ones_like(every, dtype=bool)
    row, place = np.nonzero(found.codes >= 0)
    others[row, found.codes[row, place]] = False
    np.testing.assert_allclose(every[others], (1 - named) / 12, rtol=1e-6)


def test_the_order_of_candidates_stays_where_validation_finds_none_of_its_classes() -> None:
    rows = clouds()
    head, plain = (fit(rows, rounds=5, recall=recall) for recall in (0.0, 1.0))
    np.testing.assert_array_equal(head.top_k(features_of(rows), 1)[0], plain.top_k(features_of(rows), 1)[0])


@pytest.mark.parametrize("direct", [0, 100])
def test_the_temperature_has_the_least_log_loss_on_validation(direct: int) -> None:
    rows, held = clouds(spread=1.0), clouds(120, seed=1, spread=1.0)
    head = fit(rows, held, direct_classes=direct)
    assert head.chosen.temperature is not None

    def loss(temperature: float) -> float:
        one = fit(rows, held, **{**vars(head.chosen), "temperature": temperature})
        return float(-np.log(one.predict_proba(features_of(held))[np.arange(120), held.labels.codes]).mean())

    least = loss(head.chosen.temperature)
    assert least < min(loss(head.chosen.temperature * factor) for factor in (0.8, 1.25))


# choices


@pytest.mark.parametrize("direct", [0, 100])
def test_the_rounds_are_those_before_validation_stops_improving_or_as_many_as_given(direct: int) -> None:
    rows, held = clouds(spread=1.0), clouds(120, seed=1, spread=1.0)

    def trees(head: LightGBMHead) -> int:
        assert head.model.trees is not None
        return lightgbm.Booster(model_str=head.model.trees.text).num_trees() // (12 if direct else 1)

    chosen = fit(rows, held, direct_classes=direct, most_rounds=400, patience=5)
    assert trees(chosen) == chosen.chosen.rounds
    assert 1 < trees(chosen) < 395
    assert trees(fit(rows, held, direct_classes=direct, rounds=3)) == 3
    assert trees(fit(rows, None, direct_classes=direct, rounds=3)) == 3


@pytest.mark.parametrize("direct", [0, 100])
def test_a_refit_keeps_choices_and_scores_and_takes_the_new_rows(direct: int) -> None:
    rows, held, more = clouds(), clouds(60, seed=1), clouds(480, seed=2)
    head = fit(rows, held, direct_classes=direct)
    chosen, scores = head.chosen, dict(head.scores)
    again = head.refit(features_of(more), more.labels)
    assert again is head
    assert (head.chosen, head.scores) == (chosen, scores)
    whitening = head.model.sources.whitening if isinstance(head.model, Ranker) else head.model.whitening
    assert whitening.mean.numpy() == pytest.approx(more.vectors.mean(0), abs=1e-5)


def test_a_fit_without_anything_to_choose_on_still_settles_every_knob() -> None:
    rows = LabelledRows(np.eye(6, dtype=np.float32), Labels.from_names("abcdef"), np.zeros(6, dtype=np.int64))
    for direct in (0, 100):
        chosen = fit(rows, direct_classes=direct).chosen
        assert all(getattr(chosen, field.name) is not None for field in fields(chosen))


# how far to trust it, and what it says of itself


def test_familiarity_is_the_cosine_of_the_nearest_row_or_the_log_of_the_largest_probability() -> None:
    rows = clouds(spread=0.3)
    far = LabelledRows(-3 * rows.vectors[:20], rows.labels.take(slice(20)), rows.lengths[:20])
    ranker, direct = fit(rows, rounds=5), fit(rows, rounds=5, direct_classes=100)
    np.testing.assert_allclose(ranker.familiarity(features_of(rows)), 1, atol=1e-6)
    assert ranker.familiarity(features_of(far)).max() < 0.99
    near = direct.familiarity(features_of(rows))
    np.testing.assert_allclose(np.exp(near), direct.predict_proba(features_of(rows)).max(1), rtol=1e-6)
    assert near.dtype == np.float64
    assert ranker.familiarity(features_of(rows).take([])).shape == (0,)


def test_it_says_which_of_the_two_it_is_and_why_and_how_long_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Speed, "measure", classmethod(lambda cls, leaves: cls(1e-9, 1e-6)))
    told: list[dict[str, float]] = []
    rows, held = clouds(), clouds(60, seed=1)
    ranker, direct = fit(rows, held, told.append, candidates=2), fit(rows, held, direct_classes=12)
    size = Size(rows=240, held=60, asked=240, width=8, classes=12)
    assert told[0] == {"estimated_seconds": Speed(1e-9, 1e-6).ranker(size, 40, 5, 3, 4, 50)}
    assert set(told[-1]) == {"rounds", "recall", "temperature", "accuracy", "macro_f1"}
    found = f"{ranker.chosen.recall:.1%} of rows have their class among the candidates"
    assert ranker.explanation == (
        f"ranks up to 4 candidates of 12 classes (about 4 s); one tree a class and round (about 50 s) is for up to "
        f"0 classes; {found}"
    )
    assert direct.explanation == "one tree a class and round (about 50 s): 12 classes are not over 12"
    ranker.save(tmp_path)
    again = LightGBMHead.load(tmp_path, ranker.chosen, ranker.classes)
    assert again.explanation == (
        f"ranks up to 4 candidates of 12 classes; one tree a class and round is for up to 0 classes; {found}"
    )


def test_the_estimate_counts_operations() -> None:
    speed = Speed(product=1e-9, cell=1e-6)
    size = Size(rows=6000, held=0, asked=6000, width=10, classes=100)
    assert speed.multiclass(size, rounds=10) == pytest.approx(1e-6 * 10 * 100 * 200 * 10_000)
    sources = 6 * 10 * 10 * (3 * 6000 + 4 * 100 + 50 * 10)
    asked = 6000 * 10 * (6000 + 2 * 100 + 2 * 10 + 150 * 50)
    trees = 10 * (6000 * 15 + 4000) * 20
    assert speed.ranker(size, 10, 5, 0, 15, 50) == pytest.approx(1e-9 * (sources + asked) + 1e-6 * trees)


def test_the_speed_is_measured() -> None:
    speed = Speed.measure(leaves=15)
    assert 0 < speed.product < 1e-6
    assert 0 < speed.cell < 1e-3


def test_a_slow_machine_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clouds()
    before = fit(rows, rounds=5).predict_proba(features_of(rows))
    monkeypatch.setattr(Speed, "measure", classmethod(lambda cls, leaves: cls(1.0, 1.0)))
    np.testing.assert_array_equal(fit(rows, rounds=5).predict_proba(features_of(rows)), before)


# trees


def test_too_few_rows_for_a_split_are_no_model() -> None:
    data = lightgbm.Dataset(np.zeros((4, 2), dtype=np.float32), np.array([0, 1, 0, 1]))
    trees, _ = Trees.train(data, None, LightGBMConfig(rounds=3), 0, {"objective": "binary"})
    assert trees is None


@pytest.mark.parametrize("direct", [0, 100])
def test_the_saved_model_is_lightgbms_own_text(direct: int, tmp_path: Path) -> None:
    rows = clouds()
    head = fit(rows, rounds=4, direct_classes=direct)
    head.save(tmp_path)
    booster = lightgbm.Booster(model_file=tmp_path / "lightgbm.txt")
    assert booster.num_trees() == 4 * (12 if direct else 1)
    assert booster.num_feature() == (24 if direct else len(FEATURES))
