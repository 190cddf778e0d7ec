"""What every head for many labels promises, checked once for all that are registered, fresh and reloaded."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from relatives import ancestors, relatives

from esmcls.cache.features import Features
from esmcls.errors import NonFiniteError, UsageError, WidthMismatchError
from esmcls.heads.registry import list_heads, load_head, parse_settings, reads_vectors
from esmcls.heads.term_common import hold_out
from esmcls.heads.term_heads import GROUP, TermHead
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import mean_fmax

KINDS, WIDTH = 6, 8
CLASSES = tuple(sorted([f"F{kind}" for kind in range(KINDS)] + ["C0", "C1", "P0", "P1", "P2", "P9"]))
GROUPS = tuple(name[0] for name in CLASSES)
BLIND = ("naive",)
"""Heads that say the same of every protein."""


def terms(kind: int, row: int) -> list[str]:
    """Return the terms of a row: F for its kind, P for two kinds and above them for four, C for most rows."""
    found = [f"F{kind}", f"P{kind // 2}"] + ["P9"] * (kind < 4)
    return found + [f"C{kind % 2}"] * (row % 5 > 0)


def blobs(n: int, seed: int, dtype: Any = np.float32) -> tuple[Features, LabelSets]:
    """Rows around one centre a kind, all kinds in turn; the sequences of a kind are relatives."""
    kinds = np.arange(n) % KINDS
    centres = np.random.default_rng(99).normal(size=(KINDS, WIDTH)) * 3
    vectors = centres[kinds] + np.random.default_rng(seed).normal(size=(n, WIDTH)) * 0.5
    x = Features.from_arrays(vectors.astype(dtype), relatives(kinds, seed), [f"row {i}" for i in range(n)])
    return x, LabelSets.from_names([terms(int(kind), row) for row, kind in enumerate(kinds)], CLASSES, GROUPS)


@pytest.fixture(params=list_heads(GROUP))
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "homology":
        pytest.importorskip("pyhmmer", reason="no engine: pyhmmer is not installed")
    return str(request.param)


@pytest.fixture(params=["fresh", "reloaded"])
def head(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> TermHead:
    """A head fitted with its defaults, as it is or saved and loaded."""
    return reloaded(fitted_once(name), tmp_path) if request.param == "reloaded" else fitted_once(name)


def load(name: str) -> type[TermHead]:
    found: Any = load_head(name, GROUP)
    return found


@cache
def fitted_once(name: str) -> TermHead:
    return load(name)().fit(*blobs(120, 0), blobs(30, 1), seed=3)


def reloaded(head: TermHead, folder: Path) -> TermHead:
    head.save(folder)
    return type(head).load(folder, head.chosen, head.classes, head.groups)


def skip_without_vectors(head: Any) -> None:
    if not reads_vectors(head):
        pytest.skip("this head reads no vectors")


def fmax(head: TermHead, x: Features, labels: LabelSets) -> float:
    return mean_fmax(labels, [(slice(0, len(x)), head.predict_proba(x))])


def test_unseen_rows_get_the_terms_of_their_kind(head: TermHead, name: str) -> None:
    if name in BLIND:
        pytest.skip("this head says the same of every protein")
    assert fmax(head, *blobs(60, 2)) > 0.95


def test_probabilities_are_float32_and_each_for_itself(head: TermHead) -> None:
    probabilities = head.predict_proba(blobs(20, 2)[0])
    assert probabilities.shape == (20, len(CLASSES))
    assert probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (probabilities.sum(1) > 1).any()


def test_probabilities_are_near_the_shares_that_they_promise(head: TermHead) -> None:
    x, labels = blobs(120, 2)
    annotated = np.arange(120) % 5 > 0  # what says nothing of C is not asked of it
    found, truth = head.predict_proba(x)[annotated], labels.dense()[annotated]
    np.testing.assert_allclose(found.mean(0), truth.mean(0), atol=0.1)


@pytest.mark.parametrize("k", [1, 3, len(CLASSES)])
def test_top_k_is_the_head_of_the_sorted_probabilities(head: TermHead, k: int) -> None:
    x = blobs(20, 2)[0]
    codes, probabilities = head.top_k(x, k)
    every = head.predict_proba(x)
    assert codes.shape == probabilities.shape == (20, k)
    assert (codes.dtype, probabilities.dtype) == (np.int64, np.float32)
    assert all(len(set(row)) == k for row in codes.tolist())
    np.testing.assert_array_equal(probabilities, -np.sort(-every, axis=1)[:, :k])
    np.testing.assert_array_equal(np.take_along_axis(every, codes, 1), probabilities)


def test_more_classes_than_there_are_gives_all_of_them(head: TermHead) -> None:
    codes, _ = head.top_k(blobs(5, 2)[0], 50)
    assert np.sort(codes, axis=1).tolist() == [list(range(len(CLASSES)))] * 5


def test_no_rows_give_no_predictions(head: TermHead) -> None:
    nothing = blobs(12, 0)[0].take([])
    assert head.predict_proba(nothing).shape == (0, len(CLASSES))
    codes, probabilities = head.top_k(nothing, 2)
    assert codes.shape == probabilities.shape == (0, 2)


def test_another_width_is_an_error_that_names_both(head: TermHead) -> None:
    skip_without_vectors(head)
    wide = Features.from_arrays(np.zeros((2, 9), dtype=np.float32))
    for predict in (head.predict_proba, lambda x: head.top_k(x, 1)):
        with pytest.raises(WidthMismatchError, match="of width 8, but these have width 9"):
            predict(wide)


def test_a_vector_that_is_not_finite_gets_no_terms(head: TermHead) -> None:
    skip_without_vectors(head)
    bad = Features.from_arrays(np.array([[0] * 7 + [np.nan]], dtype=np.float32))
    with pytest.raises(NonFiniteError):
        head.predict_proba(bad)


def test_a_row_is_answered_the_same_alone_and_among_others(head: TermHead) -> None:
    x = blobs(20, 2)[0]
    alone = np.concatenate([head.predict_proba(x.take([row])) for row in range(20)])
    np.testing.assert_allclose(alone, head.predict_proba(x), atol=1e-6)


def test_reloading_changes_no_bit(name: str, tmp_path: Path) -> None:
    fitted = fitted_once(name)
    again = reloaded(fitted, tmp_path)
    x = blobs(50, 2)[0]
    np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))
    assert (again.classes, again.groups) == (fitted.classes, fitted.groups) == (CLASSES, GROUPS)


def test_the_same_seed_gives_the_same_bits_and_leaves_the_callers_generator_alone(name: str) -> None:
    x = blobs(50, 2)[0]
    torch.manual_seed(5)
    first = load(name)().fit(*blobs(120, 0), blobs(30, 1), seed=3).predict_proba(x)
    drawn = torch.rand(1)
    np.testing.assert_array_equal(first, fitted_once(name).predict_proba(x))
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_fitting_leaves_the_number_of_threads_alone(name: str) -> None:
    before = torch.get_num_threads()
    load(name)().fit(*blobs(30, 0))
    assert torch.get_num_threads() == before


def test_half_precision_vectors_are_taken_as_they_are_stored(name: str) -> None:
    skip_without_vectors(load(name))
    x, labels = blobs(120, 0, np.float16)
    fitted = load(name)().fit(x, labels, blobs(30, 1, np.float16), seed=3)
    wide = Features.from_arrays(x.vectors().astype(np.float32), x.sequences, x.ids)
    again = load(name)().fit(wide, labels, blobs(30, 1, np.float16), seed=3)
    np.testing.assert_array_equal(fitted.predict_proba(x), again.predict_proba(wide))


def test_without_validation_choices_are_made_on_rows_held_out_and_then_all_are_fitted(name: str) -> None:
    x, labels = blobs(120, 0)
    whole = load(name)().fit(x, labels, None, seed=3)
    assert all(getattr(whole.chosen, field.name) is not None for field in fields(whole.chosen))
    rows, held = hold_out(len(labels), seed=3)
    by_hand = load(name)().fit(x.take(rows), labels.take(rows), (x.take(held), labels.take(held)), seed=3)
    chosen, scores = by_hand.chosen, dict(by_hand.scores)
    by_hand.refit(x, labels, seed=3)
    assert by_hand.chosen == chosen == whole.chosen
    assert by_hand.scores == scores == whole.scores
    test = blobs(50, 2)[0]
    np.testing.assert_array_equal(by_hand.predict_proba(test), whole.predict_proba(test))


def test_the_score_is_the_mean_fmax_on_the_validation_part(name: str) -> None:
    fitted = fitted_once(name)
    assert fitted.scores["fmax"] == pytest.approx(fmax(fitted, *blobs(30, 1)))


def test_classes_without_groups_are_measured_as_one(name: str) -> None:
    def plain(n: int, seed: int) -> tuple[Features, LabelSets]:
        x, labels = blobs(n, seed)
        return x, LabelSets(labels.classes, labels.offsets, labels.codes)

    fitted = load(name)().fit(*plain(120, 0), plain(30, 1), seed=3)
    assert fitted.groups == ()
    assert fitted.scores["fmax"] == pytest.approx(fmax(fitted, *plain(30, 1)))


def test_a_validation_part_without_labels_is_no_error(name: str) -> None:
    x, labels = blobs(30, 1)
    nothing = LabelSets.from_names([[]] * 30, labels.classes, labels.groups)
    fitted = load(name)().fit(*blobs(120, 0), (x, nothing), seed=3)
    assert fitted.scores["fmax"] == 0
    assert np.isfinite(fitted.predict_proba(x)).all()


def test_a_single_row_can_be_fitted(name: str) -> None:
    [one, other] = ancestors(2)
    row = Features.from_arrays(np.ones((1, 4), dtype=np.float32), [one])
    fitted = load(name)().fit(row, LabelSets.from_names([["a"]], ["a", "b"]))
    [found] = fitted.predict_proba(Features.from_arrays(np.zeros((1, 4), dtype=np.float32), [other])).tolist()
    assert found[0] > found[1]


def test_rows_without_labels_are_fitted_among_others(name: str) -> None:
    x, labels = blobs(120, 0)
    some = LabelSets.from_names(
        [() if row % 7 == 0 else names for row, names in enumerate(labels.names())], CLASSES, GROUPS
    )
    assert np.isfinite(load(name)().fit(x, some, blobs(30, 1)).predict_proba(x)).all()


def test_a_class_without_rows_keeps_its_column_and_is_improbable(name: str) -> None:
    x, labels = blobs(120, 0)
    more = LabelSets((*CLASSES, "absent"), labels.offsets, labels.codes, (*GROUPS, "C"))
    found = load(name)().fit(x, more).predict_proba(x)
    assert found.shape == (120, len(CLASSES) + 1)
    assert found[:, -1].max() < 0.1


def test_a_constant_column_does_no_harm(name: str) -> None:
    skip_without_vectors(load(name))

    def with_constant(x: Features, value: float) -> Features:
        column = np.full((len(x), 1), value, dtype=np.float32)
        return Features.from_arrays(np.hstack((x.vectors(), column)), x.sequences)

    x, labels = blobs(120, 0)
    valid, valid_labels = blobs(30, 1)
    fitted = load(name)().fit(with_constant(x, 7), labels, (with_constant(valid, 7), valid_labels), seed=3)
    test, truth = blobs(60, 2)
    assert name in BLIND or fmax(fitted, with_constant(test, 7), truth) > 0.95
    assert np.isfinite(fitted.predict_proba(with_constant(test, 7.01))).all()


def test_nothing_to_fit_on_is_an_error(name: str) -> None:
    x, labels = blobs(12, 0)
    with pytest.raises(UsageError, match="0 vectors and 0 label sets to fit on"):
        load(name)().fit(x.take([]), labels.take([]))
    with pytest.raises(UsageError, match="12 vectors and 11 label sets"):
        load(name)().fit(x, labels.take(slice(11)))
    with pytest.raises(UsageError, match="none of 12 rows to fit on has a label"):
        load(name)().fit(x, LabelSets.from_names([[]] * 12, CLASSES, GROUPS))


def test_a_validation_part_of_another_width_is_an_error(name: str) -> None:
    skip_without_vectors(load(name))
    x, labels = blobs(12, 0)
    with pytest.raises(WidthMismatchError):
        load(name)().fit(x, labels, (Features.from_arrays(np.zeros((1, 3), dtype=np.float32)), labels.take([0])))


def test_a_saved_head_holds_no_pickle_and_nothing_to_run(name: str, tmp_path: Path) -> None:
    fitted_once(name).save(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert files
    assert {path.suffix for path in files} <= {".safetensors", ".faiss", ".json", ".txt"}
    assert not any(path.read_bytes().startswith((b"\x80", b"PK\x03\x04")) for path in files)


def test_every_knob_is_documented_and_survives_json(name: str) -> None:
    config = load(name).Config
    assert is_dataclass(config)
    documented = " ".join(one.__doc__ or "" for one in config.__mro__)
    for field in fields(config):
        assert field.name in documented, field.name
    chosen = fitted_once(name).chosen
    flat = json.loads(json.dumps({field.name: getattr(chosen, field.name) for field in fields(chosen)}))
    assert parse_settings(config, flat) == chosen


@pytest.mark.parametrize(
    ("head", "settings"),
    [
        ("linear", {"epochs": "-1"}),
        ("linear", {"batch": "0"}),
        ("linear", {"lr": "nan"}),
        ("linear", {"shrinkage": "1.5"}),
        ("linear", {"alpha": "2"}),
        ("linear", {"clip": "1"}),
        ("linear", {"cap": "0.5"}),
        ("linear", {"slope": "0"}),
        ("linear", {"loss": "hinge"}),
        ("mlp", {"hidden": "0"}),
        ("mlp", {"dropout": "1"}),
        ("mlp", {"stop": "-1"}),
        ("multitask", {"shared": "0"}),
        ("multitask", {"limit": "-1"}),
    ],
)
def test_a_setting_out_of_its_range_is_named(head: str, settings: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"^setting {next(iter(settings))}: "):
        parse_settings(load(head).Config, settings)
