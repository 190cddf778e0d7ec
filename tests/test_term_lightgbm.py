"""The LightGBM head for many labels: which terms have trees, what is refused, what is read again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logit

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.trees.term_lightgbm import TermLightGBMConfig, TermLightGBMHead
from esmcls.heads.trees.time_estimate import Speed
from esmcls.labels.labels import LabelSets

NAMES = [["c"] * (row < 30) + ["f"] * (row % 2) + ["g"] * (row % 20 == 1) for row in range(60)]
LABELS = LabelSets.from_names(NAMES, ["c", "f", "g"], "CFF")
X = Features.from_arrays(np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32) + np.arange(60)[:, None] / 10)


def fit(**knobs: float) -> TermLightGBMHead:
    return TermLightGBMHead(replace(TermLightGBMConfig(rounds=3), **knobs)).refit(X, LABELS)


def test_terms_without_trees_have_their_share_of_rows_with_any_of_the_aspect() -> None:
    head = fit(least_rows=100)
    assert head.trees == {}
    np.testing.assert_allclose(head.predict_proba(X)[0], [1, 1, 0.1], rtol=1e-6)


@pytest.mark.parametrize(("most", "least", "codes"), [(2, 1, [0, 1]), (9, 5, [0, 1]), (9, 1, [0, 1, 2])])
def test_the_most_frequent_terms_have_trees(most: int, least: int, codes: list[int]) -> None:
    assert TermLightGBMHead(TermLightGBMConfig(most_terms=most, least_rows=least))._frequent(LABELS) == codes


def test_a_term_that_all_rows_of_the_aspect_have_needs_no_trees() -> None:
    assert 0 not in fit(least_rows=1).trees


def test_fewer_rounds_are_the_first_trees() -> None:
    labels = LabelSets.from_names([["a"] if row < 30 else ["b"] for row in range(60)])
    three, six = (TermLightGBMHead(TermLightGBMConfig(rounds=rounds)).refit(X, labels) for rounds in (3, 6))
    six.chosen = replace(six.chosen, rounds=3)
    np.testing.assert_array_equal(six.predict_proba(X), three.predict_proba(X))


def test_a_probability_is_the_sigmoid_of_the_sum_of_leaves() -> None:
    labels = LabelSets.from_names([["a"] if row < 30 else ["b"] for row in range(60)])
    head = TermLightGBMHead(TermLightGBMConfig(rounds=3)).refit(X, labels)
    scores = head.trees[0].scores(head._seen(X.vectors()))
    np.testing.assert_allclose(logit(head.predict_proba(X)[:, 0].astype(float)), scores, atol=1e-5)


def test_what_takes_too_long_is_refused_with_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Speed, "measure", classmethod(lambda cls, leaves: cls(1.0, 1.0)))
    told: list[dict[str, float]] = []
    with pytest.raises(UsageError) as error:
        TermLightGBMHead(TermLightGBMConfig(rounds=100, least_rows=1, minutes=30_000)).fit(
            X, LABELS, None, 0, told.append
        )
    line = "head lightgbm would take about 85 days: 3 terms x 100 rounds on 60 rows x 3 features; "
    assert str(error.value) == line + "set most_terms to about 1, or minutes higher"
    assert told == [{"estimated_seconds": 2 * 3 * 100 * 3 * 4060.0, "terms": 3}]


def test_all_models_are_read_again_from_one_text(tmp_path: Path) -> None:
    labels = LabelSets.from_names([["a"] if row < 30 else ["b"] for row in range(60)])
    head = TermLightGBMHead(TermLightGBMConfig(rounds=3)).refit(X, labels)
    head.save(tmp_path)
    again = TermLightGBMHead.load(tmp_path, head.chosen, head.classes, head.groups)
    assert sorted(again.trees) == sorted(head.trees) == [0, 1]
    np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))


@pytest.mark.parametrize(
    ("knob", "value"), [("most_terms", 0), ("leaves", 1), ("lr", 0), ("minutes", 0), ("rounds", 0)]
)
def test_a_knob_out_of_its_range_is_named(knob: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"^setting {knob}: {value} is not "):
        TermLightGBMConfig(**{knob: value})
