"""What every head promises, checked once for all that are registered, fresh and reloaded."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from relatives import ancestors, relatives

from esmcls.cache.features import Features
from esmcls.errors import (
    MissingExtraError,
    NonFiniteError,
    PluginError,
    UnknownNameError,
    UsageError,
    WidthMismatchError,
)
from esmcls.heads import registry as heads
from esmcls.heads.blocks import hold_out
from esmcls.heads.layers.linear import LinearHead
from esmcls.heads.registry import Head, list_heads, load_head, parse_settings, reads_vectors
from esmcls.labels.labels import Labels
from esmcls.metrics.calibration import auroc

CLASSES, WIDTH = 6, 8


def blobs(n: int, seed: int, dtype: Any = np.float32, classes: int = CLASSES) -> tuple[Features, Labels]:
    """Rows around one centre a class, all classes filled in turn; the sequences are relatives."""
    codes = np.arange(n) % classes
    centres = np.random.default_rng(99).normal(size=(classes, WIDTH)) * 3
    vectors = centres[codes] + np.random.default_rng(seed).normal(size=(n, WIDTH)) * 0.5
    names = tuple(f"PF{code:05d}" for code in range(classes))
    ids = [f"row {i}" for i in range(n)]
    return Features.from_arrays(vectors.astype(dtype), relatives(codes, seed), ids), Labels(names, codes)


@pytest.fixture(params=list_heads())
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "homology":
        pytest.importorskip("pyhmmer", reason="no engine: pyhmmer is not installed")
    return str(request.param)


@pytest.fixture(params=["fresh", "reloaded"])
def head(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Head:
    """A head fitted with its defaults, as it is or saved and loaded."""
    return reloaded(fitted_once(name), tmp_path) if request.param == "reloaded" else fitted_once(name)


@cache
def fitted_once(name: str) -> Head:
    return load_head(name)().fit(*blobs(120, 0), blobs(30, 1), seed=3)


def reloaded(head: Head, folder: Path) -> Head:
    head.save(folder)
    return type(head).load(folder, head.chosen, head.classes)


def skip_without_vectors(head: Head | type[Head]) -> None:
    if not reads_vectors(head):
        pytest.skip("this head reads sequences, not vectors")


def test_unseen_rows_of_separated_classes_are_named_right(head: Head) -> None:
    x, labels = blobs(60, 2)
    codes, probabilities = head.top_k(x, 1)
    assert (codes[:, 0] == labels.codes).all()
    assert codes.dtype == np.int64
    assert probabilities.dtype == np.float32


def test_probabilities_are_float32_rows_that_sum_to_one(head: Head) -> None:
    probabilities = head.predict_proba(blobs(20, 2)[0])
    assert probabilities.shape == (20, CLASSES)
    assert probabilities.dtype == np.float32
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, CLASSES])
def test_top_k_is_the_head_of_the_sorted_probabilities(head: Head, k: int) -> None:
    x = blobs(20, 2)[0]
    codes, probabilities = head.top_k(x, k)
    every = head.predict_proba(x)
    assert codes.shape == probabilities.shape == (20, k)
    assert all(len(set(row)) == k for row in codes.tolist())
    np.testing.assert_array_equal(probabilities, -np.sort(-every, axis=1)[:, :k])
    np.testing.assert_array_equal(np.take_along_axis(every, codes, 1), probabilities)


def test_more_classes_than_there_are_gives_all_of_them(head: Head) -> None:
    codes, _ = head.top_k(blobs(5, 2)[0], 50)
    assert np.sort(codes, axis=1).tolist() == [list(range(CLASSES))] * 5


def test_no_rows_give_no_predictions(head: Head) -> None:
    nothing = blobs(12, 0)[0].take([])
    assert head.predict_proba(nothing).shape == (0, CLASSES)
    codes, probabilities = head.top_k(nothing, 2)
    assert codes.shape == probabilities.shape == (0, 2)


def test_another_width_is_an_error_that_names_both(head: Head) -> None:
    skip_without_vectors(head)
    wide = Features.from_arrays(np.zeros((2, 9), dtype=np.float32))
    for predict in (head.predict_proba, lambda x: head.top_k(x, 1)):
        with pytest.raises(WidthMismatchError, match="of width 8, but these have width 9"):
            predict(wide)


def test_a_vector_that_is_not_finite_is_never_classified(head: Head) -> None:
    skip_without_vectors(head)
    bad = Features.from_arrays(np.array([[0] * 7 + [np.nan]], dtype=np.float32))
    with pytest.raises(NonFiniteError):
        head.predict_proba(bad)


def test_a_row_is_answered_the_same_alone_and_among_others(head: Head) -> None:
    x = blobs(40, 2)[0]
    alone = np.concatenate([head.predict_proba(x.take([row])) for row in range(40)])
    np.testing.assert_allclose(alone, head.predict_proba(x), atol=1e-6)


def test_reloading_changes_no_bit(name: str, tmp_path: Path) -> None:
    fitted = fitted_once(name)
    again = reloaded(fitted, tmp_path)
    x = blobs(50, 2)[0]
    np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))
    assert again.classes == fitted.classes


def test_the_same_seed_gives_the_same_bits_and_leaves_the_callers_generator_alone(name: str) -> None:
    x = blobs(50, 2)[0]
    torch.manual_seed(5)
    first = load_head(name)().fit(*blobs(120, 0), blobs(30, 1), seed=3).predict_proba(x)
    drawn = torch.rand(1)
    torch.manual_seed(6)
    second = load_head(name)().fit(*blobs(120, 0), blobs(30, 1), seed=3).predict_proba(x)
    np.testing.assert_array_equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_fitting_leaves_the_number_of_threads_alone(name: str) -> None:
    before = torch.get_num_threads()
    load_head(name)().fit(*blobs(30, 0))
    assert torch.get_num_threads() == before


def test_half_precision_vectors_are_taken_as_they_are_stored(name: str) -> None:
    x, labels = blobs(120, 0, np.float16)
    fitted = load_head(name)().fit(x, labels, blobs(30, 1, np.float16), seed=3)
    wide = load_head(name)().fit(
        Features.from_arrays(x.vectors().astype(np.float32), x.sequences), labels, blobs(30, 1, np.float16), seed=3
    )
    np.testing.assert_array_equal(fitted.predict_proba(x), wide.predict_proba(x))


def test_without_validation_choices_are_made_on_rows_held_out_and_then_all_are_fitted(name: str) -> None:
    fitted = load_head(name)().fit(*blobs(120, 0), None, seed=3)
    assert fitted.scores["macro_f1"] > 0.8
    assert all(getattr(fitted.chosen, field.name) is not None for field in fields(fitted.chosen))
    x, labels = blobs(60, 2)
    assert (fitted.top_k(x, 1)[0][:, 0] == labels.codes).all()


def test_a_refit_fits_all_rows_with_what_was_chosen_and_keeps_the_scores(name: str) -> None:
    x, labels = blobs(120, 0)
    rows, held = hold_out(labels.codes, seed=3)
    by_hand = load_head(name)().fit(x.take(rows), labels.take(rows), (x.take(held), labels.take(held)), seed=3)
    chosen, scores = by_hand.chosen, dict(by_hand.scores)
    by_hand.refit(x, labels, seed=3)
    assert by_hand.chosen == chosen
    assert by_hand.scores == scores
    test = blobs(50, 2)[0]
    whole = load_head(name)().fit(x, labels, None, seed=3)
    np.testing.assert_array_equal(by_hand.predict_proba(test), whole.predict_proba(test))


def test_rows_of_known_classes_are_more_familiar_than_others(head: Head) -> None:
    known = blobs(60, 2)[0]
    vectors = np.random.default_rng(7).normal(size=(60, WIDTH)).astype(np.float32)
    strangers = Features.from_arrays(vectors, relatives(np.arange(60) % 5 + 50, 7))
    near, far = head.familiarity(known), head.familiarity(strangers)
    assert near.shape == far.shape == (60,)
    assert near.dtype == np.float64
    assert auroc(near, far) > (0.6 if isinstance(head, LinearHead) else 0.85)  # a linear score knows no distance
    assert head.familiarity(known.take([])).shape == (0,)


def test_scores_are_those_on_the_validation_part(name: str) -> None:
    valid, fitted = blobs(30, 1), fitted_once(name)
    right = fitted.top_k(valid[0], 1)[0][:, 0] == valid[1].codes
    assert fitted.scores["accuracy"] == pytest.approx(right.mean())


def test_validation_rows_of_classes_that_train_lacks_count_as_errors(name: str) -> None:
    x, labels = blobs(30, 1)
    half = Labels(labels.classes, np.where(np.arange(30) < 15, labels.codes, -1))
    fitted = load_head(name)().fit(*blobs(120, 0), (x, half), seed=3)
    assert fitted.scores["accuracy"] == pytest.approx(0.5)


def test_a_single_class_is_certain(name: str, tmp_path: Path) -> None:
    fitted = load_head(name)().fit(*blobs(10, 0, classes=1))
    again = reloaded(fitted, tmp_path)
    np.testing.assert_array_equal(again.predict_proba(blobs(4, 1)[0]), np.ones((4, 1), dtype=np.float32))


def test_a_single_row_can_be_fitted(name: str) -> None:
    [one, other] = ancestors(2)
    row = Features.from_arrays(np.ones((1, 4), dtype=np.float32), [one])
    fitted = load_head(name)().fit(row, Labels.from_names(["a"]))
    assert fitted.predict_proba(Features.from_arrays(np.zeros((1, 4), dtype=np.float32), [other])).tolist() == [[1.0]]


def test_a_class_with_one_member_is_found_at_that_member(name: str) -> None:
    x, labels = blobs(61, 0)
    lone = Features.from_arrays(np.full((1, WIDTH), 25, dtype=np.float32), ancestors(CLASSES + 1)[CLASSES:])
    both = Features.from_arrays(np.concatenate((x.vectors(), lone.vectors())), x.sequences + lone.sequences)
    codes = Labels((*labels.classes, "lone"), np.append(labels.codes, CLASSES))
    fitted = load_head(name)().fit(both, codes, blobs(30, 1), seed=3)
    assert fitted.top_k(lone, 1)[0].tolist() == [[CLASSES]]


def test_only_classes_with_one_member_can_be_fitted(name: str) -> None:
    rows = Features.from_arrays(np.eye(5, dtype=np.float32), ancestors(5))
    fitted = load_head(name)().fit(rows, Labels.from_names("abcde"))
    assert fitted.top_k(rows, 1)[0].ravel().tolist() == list(range(5))


def test_a_class_without_rows_keeps_its_column(name: str) -> None:
    x, labels = blobs(30, 0)
    fitted = load_head(name)().fit(x, Labels((*labels.classes, "absent"), labels.codes))
    assert fitted.predict_proba(x).shape == (30, CLASSES + 1)
    assert CLASSES not in fitted.top_k(x, 1)[0]


def test_a_constant_column_does_no_harm(name: str) -> None:
    def with_constant(x: Features, value: float) -> Features:
        column = np.full((len(x), 1), value, dtype=np.float32)
        return Features.from_arrays(np.hstack((x.vectors(), column)), x.sequences)

    x, labels = blobs(120, 0)
    valid, valid_labels = blobs(30, 1)
    fitted = load_head(name)().fit(with_constant(x, 7), labels, (with_constant(valid, 7), valid_labels), seed=3)
    test, truth = blobs(60, 2)
    assert (fitted.top_k(with_constant(test, 7), 1)[0][:, 0] == truth.codes).all()
    assert np.isfinite(fitted.predict_proba(with_constant(test, 7.01))).all()


def test_nothing_to_fit_on_and_labels_of_no_class_are_errors(name: str) -> None:
    x, labels = blobs(12, 0)
    with pytest.raises(UsageError, match="0 vectors and 0 labels to fit on"):
        load_head(name)().fit(x.take([]), labels.take([]))
    with pytest.raises(UsageError, match="12 vectors and 11 labels"):
        load_head(name)().fit(x, labels.take(slice(11)))
    with pytest.raises(UsageError, match="1 of 12 rows to fit on are of none of the classes"):
        load_head(name)().fit(x, Labels(labels.classes, np.append(labels.codes[:11], -1)))


def test_a_validation_part_of_another_width_is_an_error(name: str) -> None:
    skip_without_vectors(load_head(name))
    x, labels = blobs(12, 0)
    with pytest.raises(WidthMismatchError):
        load_head(name)().fit(x, labels, (Features.from_arrays(np.zeros((1, 3), dtype=np.float32)), labels.take([0])))


def test_a_saved_head_holds_no_pickle_and_nothing_to_run(name: str, tmp_path: Path) -> None:
    load_head(name)().fit(*blobs(30, 0)).save(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert files
    assert {path.suffix for path in files} <= {".safetensors", ".faiss", ".json", ".txt"}
    assert not any(path.read_bytes().startswith((b"\x80", b"PK\x03\x04")) for path in files)


def test_every_knob_is_documented_and_survives_json(name: str) -> None:
    config = load_head(name).Config
    assert is_dataclass(config)
    for field in fields(config):
        assert field.name in (config.__doc__ or ""), field.name
    chosen = load_head(name)().fit(*blobs(30, 0)).chosen
    flat = json.loads(json.dumps({field.name: getattr(chosen, field.name) for field in fields(chosen)}))
    assert parse_settings(config, flat) == chosen


# settings and registration


@dataclass(frozen=True)
class Knobs:
    """Knobs of every kind."""

    rate: float = 0.1
    rounds: int = 3
    fast: bool = False
    kind: Literal["none", "plain"] = "plain"
    note: str = ""
    depth: int | None = None


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("rate", "1e-3", 0.001),
        ("rate", 2, 2.0),
        ("rounds", "7", 7),
        ("fast", "true", True),
        ("fast", False, False),
        ("kind", "none", "none"),
        ("note", "text", "text"),
        ("depth", "auto", None),
        ("depth", "none", None),
        ("depth", None, None),
        ("depth", "4", 4),
    ],
)
def test_a_setting_becomes_a_value_of_its_type(name: str, value: Any, parsed: Any) -> None:
    got = getattr(parse_settings(Knobs, {name: value}), name)
    assert got == parsed
    assert type(got) is type(parsed)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rat": "1"}, "unknown setting 'rat'; did you mean 'rate'? (known: depth, fast, kind, note, rate, rounds)"),
        ({"rounds": "x"}, "setting rounds: 'x' is not a whole number; give --set rounds VALUE"),
        ({"rounds": 1.5}, "setting rounds: 1.5 is not a whole number; give --set rounds VALUE"),
        ({"rate": "fast"}, "setting rate: 'fast' is not a number; give --set rate VALUE"),
        ({"fast": "maybe"}, "setting fast: 'maybe' is not true or false; give --set fast VALUE"),
        ({"kind": "odd"}, "setting kind: 'odd' is not 'none' or 'plain'; give --set kind VALUE"),
        ({"depth": "deep"}, "setting depth: 'deep' is not a whole number or auto; give --set depth VALUE"),
        ({"rounds": None}, "setting rounds: None is not a whole number; give --set rounds VALUE"),
    ],
)
def test_a_setting_that_is_unknown_or_of_another_type_is_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_settings(Knobs, settings)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("head", "settings"),
    [
        ("linear", {"epochs": "-1"}),
        ("linear", {"batch": "0"}),
        ("linear", {"smoothing": "1"}),
        ("linear", {"lr": "nan"}),
        ("linear", {"ridge": "0"}),
        ("linear", {"temperature": "0"}),
        ("mlp", {"temperature": "-1"}),
        ("knn", {"softness": "0"}),
        ("mlp", {"hidden": "0"}),
        ("mlp", {"dropout": "1"}),
        ("mlp", {"beta": "1"}),
        ("mlp", {"noise": "nan"}),
        ("mlp", {"weight_cap": "0.5"}),
        ("mlp", {"stop": "0"}),
        ("mlp", {"falls": "3;7"}),
        ("knn", {"k": "0"}),
        ("knn", {"shrinkage": "1.5"}),
        ("knn", {"temperature": "0"}),
        ("homology", {"sensitivity": "8"}),
        ("homology", {"evalue": "0"}),
        ("homology", {"max_hits": "0"}),
        ("homology", {"k": "0"}),
        ("homology", {"temperature": "inf"}),
        ("homology", {"k": "3", "vote": "top"}),
        ("lightgbm", {"candidates": "0"}),
        ("lightgbm", {"folds": "1"}),
        ("lightgbm", {"shrinkage": "1.5"}),
        ("lightgbm", {"l2": "-1"}),
        ("lightgbm", {"lr": "nan"}),
        ("lightgbm", {"temperature": "inf"}),
        ("ensemble", {"members": "linear,,knn"}),
        ("ensemble", {"candidates": "0"}),
        ("ensemble", {"temperature": "inf"}),
        ("ensemble", {"weights": "1,1"}),
        ("ensemble", {"weights": "1,-1", "method": "average"}),
        ("ensemble", {"weights": "0,0", "method": "average"}),
        ("ensemble", {"weights": "one,1", "method": "stack"}),
    ],
)
def test_a_setting_out_of_its_range_is_named(head: str, settings: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"^setting {next(iter(settings))}: "):
        parse_settings(load_head(head).Config, settings)


def test_an_unknown_head_is_an_error_with_a_hint() -> None:
    with pytest.raises(UnknownNameError, match="unknown head 'linaer'; did you mean 'linear'"):
        load_head("linaer")


def plugin(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    entry = EntryPoint(name="own", value=target, group=heads.GROUP)
    monkeypatch.setattr(heads, "entry_points", lambda group: [entry] if group == heads.GROUP else [])


def test_a_plugin_of_another_package_is_a_head_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(monkeypatch, "types:SimpleNamespace")
    assert list_heads() == ["own"]
    found: object = load_head("own")
    assert found is SimpleNamespace


@pytest.mark.parametrize("target", ["no_such_module_anywhere:Head", "types:NoSuchName", "tests_broken_plugin:Head"])
def test_a_broken_plugin_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, target: str
) -> None:
    (tmp_path / "tests_broken_plugin.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    plugin(monkeypatch, target)
    with pytest.raises(PluginError, match=rf"plugin 'own' of esmcls.heads \({target}\) does not load"):
        load_head("own")


def test_a_head_whose_extra_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tests_needy_plugin.py").write_text("raise ModuleNotFoundError('no', name='pyhmmer.easel')")
    monkeypatch.syspath_prepend(tmp_path)
    plugin(monkeypatch, "tests_needy_plugin:Head")
    with pytest.raises(MissingExtraError, match=r"pip install 'esmcls\[homology\]'"):
        load_head("own")


# what the heads share


def test_rows_are_held_out_at_random_but_one_of_each_class_stays() -> None:
    codes = np.repeat(np.arange(40), 3)
    fit, held = hold_out(codes, seed=1)
    assert len(held) == 12
    assert sorted([*fit, *held]) == list(range(120))
    assert set(codes[fit]) == set(range(40))
    assert not np.array_equal(held, hold_out(codes, seed=2)[1])
    np.testing.assert_array_equal(held, hold_out(codes, seed=1)[1])


def test_nothing_is_held_out_where_every_class_has_one_member() -> None:
    fit, held = hold_out(np.arange(5), seed=0)
    assert fit.tolist() == list(range(5))
    assert held.tolist() == []
