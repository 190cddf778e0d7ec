"""The linear head for many labels: its minimum, its start in closed form, what a protein leaves open, calibration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression, Ridge

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.layers import trained
from esmcls.heads.layers.descent import Grouping, calibrate
from esmcls.heads.layers.ridge import TermRidge
from esmcls.heads.layers.term_linear import TermLinearConfig, TermLinearHead
from esmcls.labels.labels import LabelSets
from esmcls.training.term_losses import binary_cross_entropy

Array = npt.NDArray[np.float32]
GROUPS = ("F", "P", "P")


def overlapping(n: int = 200, seed: int = 0) -> tuple[Features, LabelSets]:
    """Three classes that overlap and that a row may have together; a class is had where its own column says so."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(n, 4)) * [1, 3, 0.5, 2] + 5
    scores = (vectors - 5) @ np.random.default_rng(7).normal(size=(4, 3)) + random.logistic(size=(n, 3)) - 0.5
    codes = [np.flatnonzero(row > 0).tolist() for row in scores]
    return Features.from_arrays(vectors.astype(np.float32)), LabelSets.from_codes("abc", codes, GROUPS)


def fit(x: Features, labels: LabelSets, validation: Any = None, **knobs: Any) -> TermLinearHead:
    return TermLinearHead(TermLinearConfig(**knobs)).fit(x, labels, validation, seed=1)


FIXED: dict[str, Any] = {"slope": 1.0, "shift": 0.0, "stop": 200, "epochs": 200, "scale": 1.0}


@pytest.mark.parametrize("warm_start", [True, False])
def test_it_reaches_the_minimum_that_scikit_learn_finds(warm_start: bool) -> None:
    x, labels = overlapping()
    knobs: dict[str, Any] = {"whiten": False, "unannotated": "negative", "weight_decay": 0.0, "lr": 0.02}
    head = fit(x, labels, warm_start=warm_start, **(FIXED | knobs))
    rows = (x.vectors() - x.vectors().mean(0)) / x.vectors().std(0)
    truth = labels.dense()
    oracle = [LogisticRegression(C=1e6, max_iter=5000).fit(rows, truth[:, code]) for code in range(3)]
    expected = np.stack([one.predict_proba(rows)[:, 1] for one in oracle], axis=1)
    np.testing.assert_allclose(head.predict_proba(x), expected, atol=0.01)


def test_a_row_without_a_class_of_a_group_says_nothing_of_it() -> None:
    x, labels = overlapping()
    some = (labels.dense()[:, 1:].sum(1) > 0).nonzero()[0]  # rows with a class of P
    head = fit(x, labels, **FIXED, warm_start=False, whiten=False, weight_decay=0.0, lr=0.02)
    rows = (x.vectors() - x.vectors().mean(0)) / x.vectors().std(0)
    oracle = LogisticRegression(C=1e6, max_iter=5000).fit(rows[some], labels.dense()[some, 1])
    np.testing.assert_allclose(head.predict_proba(x)[:, 1], oracle.predict_proba(rows)[:, 1], atol=0.02)
    assert (head.predict_proba(x)[:, 0] > 0.99).all()  # of F there is one class: who says something has it


def test_the_ridge_regression_is_that_of_scikit_learn_on_the_rows_of_each_group() -> None:
    x, labels = overlapping()
    grouping = Grouping.of(3, GROUPS)
    known, places = grouping.known(labels), torch.from_numpy(grouping.places)
    ridge = TermRidge.of(x.vectors(), labels, known, places, lambda block: block)
    weight, bias = ridge.solve(0.5)
    for group, codes in ((0, [0]), (1, [1, 2])):
        own = known[:, group].numpy() > 0
        rows = x.vectors()[own].astype(np.float64)
        level = ((rows - rows.mean(0)) ** 2).sum() / rows.shape[1]
        oracle = Ridge(alpha=0.5 * level).fit(rows, labels.dense()[own][:, codes])
        np.testing.assert_allclose(weight[codes], oracle.coef_.reshape(len(codes), -1), atol=1e-5)
        centred = rows.astype(np.float32) @ weight[codes].numpy().T + bias[codes].numpy()
        np.testing.assert_allclose(centred.mean(0), 0, atol=1e-4)


def test_without_training_it_is_the_ridge_regression_added_to_the_shares() -> None:
    x, labels = overlapping()
    head = fit(x, labels, epochs=0, slope=1.0, shift=0.0, scale=0.0, unannotated="negative")
    np.testing.assert_allclose(head.predict_proba(x), np.tile(labels.counts() / 200, (200, 1)), rtol=1e-4)


def test_the_start_is_kept_where_no_epoch_is_better() -> None:
    x, labels = overlapping()
    head = fit(x, labels, (x, labels), lr=1e-12, epochs=2)
    start = fit(x, labels, (x, labels), epochs=0)
    assert head.chosen.stop == 0 or head.chosen.scale == start.chosen.scale
    np.testing.assert_allclose(head.predict_proba(x), start.predict_proba(x), atol=1e-3)


def test_slope_and_shift_are_those_of_logistic_regression_on_the_logits() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(300, 2)) * 4
    targets = random.random((300, 2)) < 1 / (1 + np.exp(-(0.5 * logits - 1)))
    oracle = LogisticRegression(C=1e9).fit(logits.reshape(-1, 1), targets.ravel())
    known, members = torch.ones(300, 1), torch.ones(2, 1)
    blocks = [
        (torch.from_numpy(logits[part]).float(), torch.from_numpy(targets[part]), known[part])
        for part in (slice(100), slice(100, 300))
    ]
    slope, shift = calibrate(blocks, members)
    assert slope == pytest.approx(oracle.coef_[0, 0], rel=1e-3)
    assert shift == pytest.approx(oracle.intercept_[0], rel=1e-3)


@pytest.mark.parametrize("loss", ["bce", "weighted", "focal", "asymmetric"])
def test_probabilities_are_calibrated_whatever_the_loss(loss: str) -> None:
    x, labels = overlapping(600)
    test, truth = overlapping(600, seed=5)
    plain = fit(x, labels, (test, truth), loss=loss, slope=1.0, shift=0.0, epochs=10)
    calibrated = fit(x, labels, (test, truth), loss=loss, epochs=10)
    known = Grouping.of(3, GROUPS).known(truth).numpy()[:, [0, 1, 1]] > 0

    def surprise(head: TermLinearHead) -> float:
        logits = torch.logit(torch.from_numpy(head.predict_proba(test)), eps=1e-6)
        return float(binary_cross_entropy(logits, torch.from_numpy(truth.dense()))[torch.from_numpy(known)].mean())

    assert surprise(calibrated) <= surprise(plain) + 1e-4
    assert loss == "bce" or surprise(calibrated) < surprise(plain) - 1e-3


def test_weighted_losses_say_first_how_many_weights_are_capped() -> None:
    x, labels = overlapping()
    told: list[dict[str, float]] = []
    config = TermLinearConfig(loss="weighted", cap=1.0, epochs=1, stop=1, unannotated="negative")
    head = TermLinearHead(config).refit(x, labels, log=told.append)
    rare = int((labels.counts() + 1 < 200 - labels.counts()).sum())
    assert told[0] == {"classes": 3, "capped": rare}
    assert head.capped == rare > 0


def test_half_precision_and_more_rows_than_a_block_give_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = overlapping()
    head = fit(x, labels, epochs=2)
    whole = head.predict_proba(x)
    monkeypatch.setattr(trained, "row_slices", lambda n, _: (slice(one, min(one + 7, n)) for one in range(0, n, 7)))
    np.testing.assert_allclose(head.predict_proba(x), whole, atol=1e-6)


def test_a_validation_part_of_other_classes_is_refused() -> None:
    x, labels = overlapping()
    others = replace(labels, classes=("a", "b", "d"))
    with pytest.raises(UsageError, match="validation part has other classes than the rows to fit on; code it by"):
        fit(x, labels, (x, others))


def test_probabilities_are_what_the_saved_numbers_say(tmp_path: Path) -> None:
    x, labels = overlapping()
    head = fit(x, labels, epochs=2, whiten=False)
    head.save(tmp_path)
    state = load_file(tmp_path / "linear.safetensors")
    logits = ((x.vectors() - state["mean"]) / state["scale"]) @ state["out.weight"].T + state["out.bias"]
    expected = 1 / (1 + np.exp(-(head.chosen.slope * logits + head.chosen.shift)))
    np.testing.assert_allclose(head.predict_proba(x), expected, atol=1e-5)
