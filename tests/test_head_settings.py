"""Settings of heads and the ranges of their knobs, heads by name, rows held out for choices."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from esmcls.errors import MissingExtraError, PluginError, UnknownNameError, UsageError
from esmcls.heads import registry
from esmcls.heads.blocks import hold_out, hold_out_sets
from esmcls.heads.registry import GROUP, TERM_GROUP, AnyGroup, list_heads, load_head
from esmcls.heads.settings import ABOVE_0, AT_LEAST_1, FROM_0_TO_1, check_ranges, knobs_of, parse_settings
from esmcls.labels.labels import LabelSets


@dataclass(frozen=True)
class KnobsOfEveryKind:
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
    got = getattr(parse_settings(KnobsOfEveryKind, {name: value}), name)
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
        parse_settings(KnobsOfEveryKind, settings)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("group", "head", "settings"),
    [
        (GROUP, "linear", {"epochs": "-1"}),
        (GROUP, "linear", {"batch": "0"}),
        (GROUP, "linear", {"smoothing": "1"}),
        (GROUP, "linear", {"lr": "nan"}),
        (GROUP, "linear", {"ridge": "0"}),
        (GROUP, "linear", {"temperature": "0"}),
        (GROUP, "mlp", {"temperature": "-1"}),
        (GROUP, "knn", {"softness": "0"}),
        (GROUP, "mlp", {"hidden": "0"}),
        (GROUP, "mlp", {"dropout": "1"}),
        (GROUP, "mlp", {"beta": "1"}),
        (GROUP, "mlp", {"noise": "nan"}),
        (GROUP, "mlp", {"weight_cap": "0.5"}),
        (GROUP, "mlp", {"stop": "0"}),
        (GROUP, "mlp", {"falls": "3;7"}),
        (GROUP, "knn", {"k": "0"}),
        (GROUP, "knn", {"shrinkage": "1.5"}),
        (GROUP, "knn", {"temperature": "0"}),
        (GROUP, "homology", {"sensitivity": "8"}),
        (GROUP, "homology", {"evalue": "0"}),
        (GROUP, "homology", {"max_hits": "0"}),
        (GROUP, "homology", {"k": "0"}),
        (GROUP, "homology", {"temperature": "inf"}),
        (GROUP, "homology", {"k": "3", "vote": "top"}),
        (GROUP, "profile", {"max_members": "0"}),
        (GROUP, "profile", {"subfamily": "-1"}),
        (GROUP, "profile", {"evalue": "0"}),
        (GROUP, "profile", {"filters": "some"}),
        (GROUP, "profile", {"temperature": "nan"}),
        (GROUP, "lightgbm", {"candidates": "0"}),
        (GROUP, "lightgbm", {"folds": "1"}),
        (GROUP, "lightgbm", {"shrinkage": "1.5"}),
        (GROUP, "lightgbm", {"l2": "-1"}),
        (GROUP, "lightgbm", {"lr": "nan"}),
        (GROUP, "lightgbm", {"temperature": "inf"}),
        (GROUP, "ensemble", {"members": "linear,,knn"}),
        (GROUP, "ensemble", {"candidates": "0"}),
        (GROUP, "ensemble", {"temperature": "inf"}),
        (GROUP, "ensemble", {"weights": "1,1"}),
        (GROUP, "ensemble", {"weights": "1,-1", "method": "average"}),
        (GROUP, "ensemble", {"weights": "0,0", "method": "average"}),
        (GROUP, "ensemble", {"weights": "one,1", "method": "stack"}),
        (TERM_GROUP, "linear", {"epochs": "-1"}),
        (TERM_GROUP, "linear", {"batch": "0"}),
        (TERM_GROUP, "linear", {"lr": "nan"}),
        (TERM_GROUP, "linear", {"shrinkage": "1.5"}),
        (TERM_GROUP, "linear", {"alpha": "2"}),
        (TERM_GROUP, "linear", {"clip": "1"}),
        (TERM_GROUP, "linear", {"cap": "0.5"}),
        (TERM_GROUP, "linear", {"slope": "0"}),
        (TERM_GROUP, "linear", {"loss": "hinge"}),
        (TERM_GROUP, "mlp", {"hidden": "0"}),
        (TERM_GROUP, "mlp", {"dropout": "1"}),
        (TERM_GROUP, "mlp", {"stop": "-1"}),
        (TERM_GROUP, "multitask", {"shared": "0"}),
        (TERM_GROUP, "multitask", {"limit": "-1"}),
    ],
)
def test_a_setting_out_of_its_range_is_named(group: AnyGroup, head: str, settings: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"^setting {next(iter(settings))}: "):
        parse_settings(load_head(head, group).Config, settings)


@pytest.mark.parametrize(
    ("ends", "value", "message"),
    [
        ((0, 0.999), 1.5, "1.5 is not from 0 to 0.999"),
        (FROM_0_TO_1, float("nan"), "nan is not from 0 to 1"),
        (ABOVE_0, 0.0, "0.0 is not above 0"),
        (ABOVE_0, float("inf"), "inf is not above 0 and finite"),
        (AT_LEAST_1, 0, "0 is not at least 1"),
    ],
)
def test_a_range_is_said_in_words(ends: tuple[float, float], value: float, message: str) -> None:
    with pytest.raises(UsageError) as error:
        check_ranges(KnobsOfEveryKind(rate=value), {"depth": AT_LEAST_1, "rate": ends})
    assert str(error.value) == f"setting rate: {message}"


@dataclass(frozen=True)
class SharedKnobs:
    """Knobs that several heads have.

    Parameters
    ----------
    rate : float
        How fast. When to change: always.
    batch : int
        How many. When to change: never.
    """

    rate: float = 0.1
    batch: int = 4


@dataclass(frozen=True)
class OwnKnobs(SharedKnobs):
    """Knobs of one head.

    Parameters
    ----------
    depth : int
        How deep. When to change: now.
    batch : int
        How many, otherwise. When to change: later.
    """

    depth: int = 1


def test_knobs_that_a_head_documents_itself_come_before_those_that_it_shares() -> None:
    knobs = [(knob.name, knob.what, knob.default) for knob in knobs_of(OwnKnobs)]
    assert knobs == [("depth", "How deep.", 1), ("batch", "How many, otherwise.", 4), ("rate", "How fast.", 0.1)]


def test_an_unknown_head_is_an_error_with_a_hint() -> None:
    with pytest.raises(UnknownNameError, match="unknown head 'linaer'; did you mean 'linear'"):
        load_head("linaer")


def plugin(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    entry = EntryPoint(name="own", value=target, group=GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == GROUP else [])


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


# rows held out


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


def test_of_many_labels_a_tenth_is_held_out_unless_one_part_would_have_none() -> None:
    labels = LabelSets.from_names([["a"]] * 40)
    fit, held = hold_out_sets(labels, seed=1)
    assert len(held) == 4
    assert sorted([*fit, *held]) == list(range(40))
    np.testing.assert_array_equal(held, hold_out_sets(labels, seed=1)[1])
    for row in range(5):
        bare = LabelSets.from_names([["a"] if row == number else [] for number in range(5)])
        assert [rows.tolist() for rows in hold_out_sets(bare, seed=0)] == [[0, 1, 2, 3, 4], []]
