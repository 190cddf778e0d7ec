"""Losses of many labels against closed forms, torch and finite differences."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from esmcls.errors import UnknownNameError, UsageError
from esmcls.training.term_losses import (
    TaskWeights,
    TermLoss,
    asymmetric_loss,
    binary_cross_entropy,
    binary_focal_loss,
    group_losses,
    make_term_loss,
    positive_weights,
)

LOGITS = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 4)) * 3)
TARGETS = torch.from_numpy(np.random.default_rng(1).random((5, 4)) < 0.4)
P = LOGITS.sigmoid()
LOSSES: list[TermLoss] = [
    binary_cross_entropy,
    partial(binary_cross_entropy, weights=torch.tensor([1.0, 20.0, 3.0, 0.5])),
    partial(binary_focal_loss, alpha=0.25, gamma=2.0),
    partial(binary_focal_loss, gamma=0.5),
    asymmetric_loss,
    partial(asymmetric_loss, gamma_positive=1.0, gamma_negative=0.5, clip=0.0),
    partial(asymmetric_loss, gamma_negative=0.5, clip=0.05),
]


def knobs(loss: str, **others: float) -> Any:
    plain = {"cap": 0.0, "alpha": 0.25, "gamma": 2.0, "gamma_positive": 1.0, "gamma_negative": 4.0, "clip": 0.05}
    return SimpleNamespace(loss=loss, **(plain | others))


def test_the_cross_entropy_is_that_of_torch_for_targets_of_either_type() -> None:
    expected = F.binary_cross_entropy(P, TARGETS.double(), reduction="none")
    torch.testing.assert_close(binary_cross_entropy(LOGITS, TARGETS), expected)
    torch.testing.assert_close(binary_cross_entropy(LOGITS, TARGETS.double()), expected)


def test_the_weights_of_positives_weigh_positives_alone() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0, 10.0], dtype=torch.float64)
    expected = torch.where(TARGETS, -weights * P.log(), -(1 - P).log())
    torch.testing.assert_close(binary_cross_entropy(LOGITS, TARGETS, weights), expected)


def test_a_positive_weighs_as_much_as_there_are_negatives_to_a_positive_and_one_more() -> None:
    weights = positive_weights(np.array([0, 1, 9, 99]), 99)
    np.testing.assert_allclose(weights.values, [99, 98 / 2, 90 / 10, 0])
    assert weights.values.dtype == np.float32
    assert weights.capped == 0


def test_the_cap_bounds_the_weights_and_says_how_many_it_lowered() -> None:
    weights = positive_weights(np.array([0, 1, 9, 99]), 99, cap=49)  # 99, 49, 9, 0: one is above
    np.testing.assert_allclose(weights.values, [49, 49, 9, 0])
    assert weights.capped == 1


def test_classes_may_have_different_numbers_of_rows_that_tell_of_them() -> None:
    np.testing.assert_allclose(positive_weights(np.array([1, 1]), np.array([5, 11])).values, [2, 5])


def test_a_cap_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match=r"cap 0\.5 on the weights of positives: not at least 1; give 0 for none"):
        positive_weights(np.array([1]), 5, cap=0.5)


def test_the_focal_loss_without_focus_is_half_the_cross_entropy() -> None:
    half = binary_cross_entropy(LOGITS, TARGETS) / 2
    torch.testing.assert_close(binary_focal_loss(LOGITS, TARGETS, alpha=0.5, gamma=0.0), half)


def test_the_focal_loss_is_its_closed_form() -> None:
    expected = torch.where(TARGETS, -0.25 * (1 - P) ** 2 * P.log(), -0.75 * P**2 * (1 - P).log())
    torch.testing.assert_close(binary_focal_loss(LOGITS, TARGETS, alpha=0.25, gamma=2.0), expected)


def test_the_asymmetric_loss_without_its_knobs_is_the_cross_entropy() -> None:
    torch.testing.assert_close(asymmetric_loss(LOGITS, TARGETS, 0.0, 0.0, 0.0), binary_cross_entropy(LOGITS, TARGETS))


def test_the_asymmetric_loss_of_equal_gammas_is_twice_the_even_focal_loss() -> None:
    focal = binary_focal_loss(LOGITS, TARGETS, alpha=0.5, gamma=3.0)
    torch.testing.assert_close(asymmetric_loss(LOGITS, TARGETS, 3.0, 3.0, 0.0), 2 * focal)


def test_the_asymmetric_loss_is_its_closed_form() -> None:
    logits, targets = torch.tensor([[0.3, 0.3, 0.04]]).logit(), torch.tensor([[True, False, False]])
    found = asymmetric_loss(logits, targets, gamma_positive=1.0, gamma_negative=4.0, clip=0.05)
    expected = [-0.7 * math.log(0.3), -(0.25**4) * math.log(0.75), 0.0]  # below the clip a negative is forgotten
    torch.testing.assert_close(found, torch.tensor([expected]))


@pytest.mark.parametrize("loss", LOSSES)
@given(st.floats(-200, 200), st.booleans())
def test_neither_losses_nor_slopes_overflow(loss: TermLoss, logit: float, target: bool) -> None:
    logits = torch.full((1, 4), logit, requires_grad=True)
    found = loss(logits, torch.full((1, 4), target))
    [slope] = torch.autograd.grad(found.sum(), logits)
    assert torch.isfinite(found).all()
    assert torch.isfinite(slope).all()
    assert (found >= 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_slopes_are_those_of_finite_differences(loss: TermLoss) -> None:
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: loss(rows, TARGETS), logits)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bce", binary_cross_entropy(LOGITS, TARGETS)),
        ("weighted", binary_cross_entropy(LOGITS, TARGETS, torch.tensor([4.0, 3.0, 4.0, 0.0]))),
        ("focal", binary_focal_loss(LOGITS, TARGETS, 0.25, 2.0)),
        ("asymmetric", asymmetric_loss(LOGITS, TARGETS, 1.0, 4.0, 0.05)),
    ],
)
def test_a_loss_is_made_by_its_name(name: str, expected: torch.Tensor) -> None:
    loss, weights = make_term_loss(knobs(name, cap=4.0), np.array([0, 1, 0, 9]), np.array([9, 7, 9, 9]))
    torch.testing.assert_close(loss(LOGITS, TARGETS), expected)
    assert (weights.capped if weights else None) == (2 if name == "weighted" else None)


def test_an_unknown_loss_is_an_error_with_a_hint() -> None:
    with pytest.raises(UnknownNameError, match="unknown loss 'focall'; did you mean 'focal'"):
        make_term_loss(knobs("focall"), np.array([1]), 2)


def test_a_group_adds_the_mean_over_rows_of_the_sum_over_its_classes() -> None:
    members = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    losses = binary_cross_entropy(LOGITS, TARGETS)
    expected = torch.stack([losses[:, [0, 2, 3]].sum(1).mean(), losses[:, 1].mean()])
    torch.testing.assert_close(group_losses(losses, members, torch.ones(5, 2, dtype=torch.float64)), expected)


def test_a_row_that_says_nothing_of_a_group_adds_nothing_to_it() -> None:
    members, known = torch.ones(4, 1, dtype=torch.float64), torch.ones(5, 1, dtype=torch.float64)
    known[2] = 0
    losses = binary_cross_entropy(LOGITS, TARGETS)
    expected = losses[[0, 1, 3, 4]].sum() / 5
    torch.testing.assert_close(group_losses(losses, members, known), expected[None])


def test_task_weights_come_to_be_what_the_losses_are_worth() -> None:
    # exp(-s) L + s / 2 is least where exp(-s) = 1 / (2 L)
    weights, losses = TaskWeights(3), torch.tensor([0.5, 2.0, 50.0])
    descent = torch.optim.LBFGS(weights.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        descent.zero_grad()
        total: torch.Tensor = weights(losses)
        total.backward()
        return total

    for _ in range(5):
        descent.step(closure)
    torch.testing.assert_close(torch.exp(-weights.log_variances.detach()), 1 / (2 * losses), rtol=1e-3, atol=0)


def test_clamped_task_weights_stay_in_their_limits_and_can_leave_them_again() -> None:
    weights = TaskWeights(3, limit=2.0)
    with torch.no_grad():
        weights.log_variances.copy_(torch.tensor([-5.0, 1.0, 9.0]))
    weights.clamp()
    assert weights.log_variances.tolist() == [-2.0, 1.0, 2.0]
    [slope] = torch.autograd.grad(weights(torch.tensor([1.0, 1.0, 1.0])), weights.log_variances)
    assert (slope != 0).all()
