"""Losses and samplers against scikit-learn, the papers' own numbers and closed forms."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from esmcls.errors import UnknownNameError, UsageError
from esmcls.training.losses import (
    BalancedSampler,
    Loss,
    Sampler,
    ShuffledSampler,
    class_weights,
    cross_entropy,
    focal_loss,
    log_prior,
    logit_adjusted,
    make_loss,
)

CODES = np.array([0] * 7 + [1] * 2 + [2])
LOGITS = torch.from_numpy(np.random.default_rng(0).normal(size=(10, 3)) * 2).requires_grad_()
ROWS = torch.from_numpy(CODES)


def own_probabilities() -> npt.NDArray[np.float64]:
    """Return the softmax probability of each row's own class, (10,)."""
    powers = np.exp(LOGITS.detach().numpy())
    return (powers / powers.sum(1, keepdims=True))[np.arange(10), CODES]


def slope(loss: Tensor) -> Tensor:
    [gradient] = torch.autograd.grad(loss, LOGITS)
    return gradient


# class weights


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=CODES)
    np.testing.assert_allclose(class_weights(np.bincount(CODES), "balanced").values, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("how", "ratios"),
    [
        ("none", [1, 1, 1]),
        ("sqrt", [1, 1 / 2, 1 / 4]),
        ("balanced", [1, 1 / 4, 1 / 16]),
        # (1 - 0.5) / (1 - 0.5^n) for n of 1, 4, 16
        ("effective-number", [1, 0.5 / (15 / 16), 0.5 / (65535 / 65536)]),
    ],
)
def test_weights_have_mean_one_over_the_rows_and_fall_as_they_say(how: str, ratios: list[float]) -> None:
    counts = np.array([1, 4, 16])
    weights = class_weights(counts, how, beta=0.5).values  # type: ignore[arg-type]
    assert weights.dtype == np.float32
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights / weights[0], ratios, rtol=1e-6)


def test_the_effective_number_goes_from_no_weights_to_balanced_ones() -> None:
    counts = np.array([1, 10, 500])
    for beta, how in ((0.0, "none"), (1 - 1e-9, "balanced")):
        weights = class_weights(counts, "effective-number", beta=beta).values
        np.testing.assert_allclose(weights, class_weights(counts, how).values, rtol=1e-5)  # type: ignore[arg-type]


def test_a_class_without_members_is_weighted_as_one_with_a_single_member() -> None:
    weights = class_weights(np.array([0, 1, 5]), "balanced").values
    assert weights[0] == weights[1] > weights[2]


def test_the_cap_bounds_the_ratio_to_the_median_weight_and_says_how_many_classes_it_reached() -> None:
    counts = np.array([1, 2, 100, 100, 10_000, 0])  # 1 / n: 1, .5, .01, .01, .0001; the median is .01
    weights = class_weights(counts, "balanced", cap=20)
    assert weights.capped == 2
    np.testing.assert_allclose(weights.values / weights.values[2], [20, 20, 1, 1, 0.01, 20], rtol=1e-6)
    assert (weights.values * counts).sum() / counts.sum() == pytest.approx(1)


def test_a_cap_that_is_not_reached_changes_nothing() -> None:
    counts = np.array([1, 2, 3])
    capped = class_weights(counts, "balanced", cap=2)
    assert capped.capped == 0
    np.testing.assert_array_equal(capped.values, class_weights(counts, "balanced").values)


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=30), st.floats(1, 100))
def test_no_more_than_half_of_the_classes_are_ever_capped(counts: list[int], cap: float) -> None:
    assert class_weights(np.array(counts), "balanced", cap=cap).capped <= len(counts) / 2


def test_one_huge_class_does_not_cap_all_others() -> None:
    counts = np.array([100_000, *range(5, 104)])
    assert class_weights(counts, "balanced", cap=10).capped <= 1


@pytest.mark.parametrize(
    ("how", "knobs", "message"),
    [
        ("balance", {}, "unknown class weighting 'balance'; did you mean 'balanced'?"),
        ("effective-number", {"beta": 1.0}, "beta 1.0 of class weights: not from 0 to below 1; choose one such as"),
        ("sqrt", {"cap": 0.5}, "cap 0.5 on class weights: not at least 1; give 0 for none"),
    ],
)
def test_weights_that_make_no_sense_are_one_line(how: str, knobs: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError) as error:
        class_weights(np.array([1, 2]), how, **knobs)  # type: ignore[arg-type]
    assert str(error.value).startswith(message)


# losses


@pytest.mark.parametrize("how", ["none", "sqrt", "balanced"])
def test_cross_entropy_is_that_of_scikit_learn_divided_by_the_rows(how: str) -> None:
    weights = class_weights(np.bincount(CODES), how).values  # type: ignore[arg-type]
    probabilities = LOGITS.detach().softmax(1).numpy()
    expected = log_loss(CODES, probabilities, sample_weight=weights[CODES], normalize=False) / 10
    assert cross_entropy(LOGITS, ROWS, torch.from_numpy(weights)).item() == pytest.approx(expected)


def test_a_row_counts_the_same_in_every_batch() -> None:
    weights = torch.tensor([0.1, 1.0, 10.0])
    halves = [cross_entropy(LOGITS[rows], ROWS[rows], weights) for rows in (slice(5), slice(5, 10))]
    assert (sum(halves) / 2).item() == pytest.approx(cross_entropy(LOGITS, ROWS, weights).item())


def test_smoothing_spreads_a_share_of_the_label_over_all_classes() -> None:
    logits, codes = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
    total = math.log(math.exp(2) + 2)
    plain, everywhere = total - 2, total - 2 / 3  # the label alone; the mean over the classes
    assert cross_entropy(logits, codes, smoothing=0.3).item() == pytest.approx(0.7 * plain + 0.3 * everywhere)


def test_focal_loss_with_gamma_zero_is_cross_entropy_to_the_bit() -> None:
    weights = torch.tensor([0.5, 2.0, 3.0])
    focal, plain = focal_loss(LOGITS, ROWS, weights, gamma=0), cross_entropy(LOGITS, ROWS, weights)
    assert focal.item() == plain.item()
    assert torch.equal(slope(focal), slope(plain))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_its_formula(gamma: float) -> None:
    p, weights = own_probabilities(), np.array([0.5, 2.0, 3.0])
    expected = (-weights[CODES] * (1 - p) ** gamma * np.log(p)).mean()
    assert focal_loss(LOGITS, ROWS, torch.from_numpy(weights), gamma).item() == pytest.approx(expected)


@pytest.mark.parametrize(("p", "lower"), [(0.9, 100), (0.968, 1000), (0.5, 4)])
def test_focal_loss_is_lower_for_easy_rows_by_what_the_paper_says(p: float, lower: float) -> None:
    # Lin et al. 2017, section 3.2: with gamma 2, 100 x at .9, 1000 x at about .968, at most 4 x up to .5
    logits, codes = torch.tensor([[p, 1 - p]], dtype=torch.float64).log(), torch.tensor([0])
    ratio = cross_entropy(logits, codes) / focal_loss(logits, codes, gamma=2)
    assert ratio.item() == pytest.approx(lower, rel=0.03)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_slope_of_focal_loss_is_finite_where_a_row_is_certain(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([0, 0]), gamma=gamma).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_the_log_prior_is_each_class_s_share_and_never_infinite() -> None:
    np.testing.assert_allclose(log_prior(np.array([7, 2, 1])).exp(), [0.7, 0.2, 0.1], rtol=1e-6)
    np.testing.assert_allclose(log_prior(np.array([3, 0])).exp(), [0.75, 0.25], rtol=1e-6)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjustment_is_the_pairwise_form_of_its_paper(tau: float) -> None:
    # Menon et al. 2021, equation 10: log(1 + sum over y' of (prior of y' / prior of y)^tau exp(f_y' - f_y))
    counts, f = np.bincount(CODES), LOGITS.detach().numpy()
    ratio = (counts[None, :] / counts[CODES][:, None]) ** tau * np.exp(f - f[np.arange(10), CODES][:, None])
    expected = np.log(ratio.sum(1)).mean()  # the own class's term is the 1
    assert logit_adjusted(LOGITS, ROWS, log_prior(counts), tau=tau).item() == pytest.approx(expected, rel=1e-6)


def test_logit_adjustment_without_tau_or_with_classes_of_one_size_is_cross_entropy() -> None:
    plain = cross_entropy(LOGITS, ROWS).item()
    assert logit_adjusted(LOGITS, ROWS, log_prior(np.array([7, 2, 1])), tau=0).item() == pytest.approx(plain)
    assert logit_adjusted(LOGITS, ROWS, log_prior(np.array([4, 4, 4])), tau=1).item() == pytest.approx(plain)


def test_rows_that_tell_nothing_leave_adjusted_logits_equal_and_plain_ones_at_the_prior() -> None:
    same, counts = torch.zeros(10, 3, requires_grad=True), np.bincount(CODES)
    [adjusted] = torch.autograd.grad(logit_adjusted(same, ROWS, log_prior(counts)), same)
    [plain] = torch.autograd.grad(cross_entropy(same, ROWS), same)
    assert adjusted.sum(0).abs().max() < 1e-6
    assert plain.sum(0).abs().max() > 0.1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ce", lambda weights: cross_entropy(LOGITS, ROWS, weights)),
        ("focal", lambda weights: focal_loss(LOGITS, ROWS, weights, gamma=3)),
        ("logit-adjusted", lambda weights: logit_adjusted(LOGITS, ROWS, log_prior(np.bincount(CODES)), weights, tau=2)),
    ],
)
def test_a_loss_is_made_by_its_name(kind: str, expected: Loss) -> None:
    weights = np.array([0.5, 2.0, 3.0], dtype=np.float32)
    loss = make_loss(kind, np.bincount(CODES), weights, gamma=3, tau=2)  # type: ignore[arg-type]
    assert loss(LOGITS, ROWS).item() == expected(torch.from_numpy(weights)).item()  # type: ignore[call-arg]


def test_an_unknown_loss_is_an_error_with_a_hint() -> None:
    with pytest.raises(UnknownNameError, match="unknown loss 'focall'; did you mean 'focal'"):
        make_loss("focall", np.array([1, 2]))  # type: ignore[arg-type]


# samplers

SIZES = np.array([97, 2, 1, 0, 20])
MANY = np.random.default_rng(3).permutation(np.repeat(np.arange(5), SIZES))


@pytest.mark.parametrize(
    "sampler", [ShuffledSampler(120, 16, seed=4), BalancedSampler(MANY, 16, seed=4)], ids=["shuffled", "balanced"]
)
def test_the_rows_of_a_step_are_a_function_of_seed_and_step_alone(sampler: Sampler) -> None:
    in_order = [sampler.rows(step).tolist() for step in range(20)]
    assert [sampler.rows(step).tolist() for step in reversed(range(20))] == in_order[::-1]
    kind = type(sampler)
    for seed, same in ((4, True), (5, False)):
        again = ShuffledSampler(120, 16, seed) if kind is ShuffledSampler else BalancedSampler(MANY, 16, seed)
        assert ([again.rows(step).tolist() for step in (11, 3)] == [in_order[11], in_order[3]]) is same


def test_shuffled_rows_come_once_an_epoch_in_an_order_of_its_own() -> None:
    shuffled = ShuffledSampler(50, batch=8, seed=4)
    assert shuffled.steps_an_epoch == 7
    epochs = [[row for step in range(7 * e, 7 * e + 7) for row in shuffled.rows(step).tolist()] for e in (0, 1)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(50))] * 2
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("batch", [1, 3, 4, 16, 500])
def test_balanced_rows_come_from_every_class_equally_often(batch: int) -> None:
    sampler = BalancedSampler(MANY, batch, seed=0)
    assert sampler.steps_an_epoch == -(-120 // batch)
    drawn = np.concatenate([sampler.rows(step) for step in range(40)])
    assert len(drawn) == 40 * batch
    counts = np.bincount(MANY[drawn], minlength=5)
    assert counts[3] == 0
    largest, least = counts[[0, 1, 2, 4]].max(), counts[[0, 1, 2, 4]].min()
    assert largest - least <= max(1, batch // 4 + 1)  # a round that is under way


@pytest.mark.parametrize("batch", [3, 16, 500])
def test_each_member_of_a_class_comes_once_before_any_comes_again(batch: int) -> None:
    sampler = BalancedSampler(MANY, batch, seed=0)
    drawn = np.concatenate([sampler.rows(step) for step in range(-(-500 // batch))])
    for code, size in enumerate(SIZES):
        own = drawn[MANY[drawn] == code]
        for start in range(0, len(own) - size + 1, max(1, size)):
            assert sorted(own[start : start + size]) == [row for row in range(120) if MANY[row] == code]


def test_the_order_of_classes_is_another_in_each_round() -> None:
    sampler = BalancedSampler(np.arange(40), batch=40, seed=0)
    assert sampler.rows(0).tolist() != sampler.rows(1).tolist()
    assert sorted(sampler.rows(0)) == sorted(sampler.rows(1)) == list(range(40))
