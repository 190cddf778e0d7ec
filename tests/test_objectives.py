"""The objectives of pretraining, against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.pretraining.corpus import Batch
from esmcls.pretraining.objectives import (
    AlignedResidues,
    Distillation,
    FamilyContrast,
    MaskedLanguage,
    Profile,
    ResidueStructure,
    View,
    crop_means,
)


def view_of(states: Tensor, families: Tensor, *, chosen: Tensor | None = None, tokens: Tensor | None = None) -> View:
    """Crops of one residue each: BOS, residue, EOS."""
    crops = len(families)
    if tokens is None:
        tokens = torch.tensor([0, 5, 2] * crops)
    batch = Batch(tokens, torch.arange(0, 3 * crops + 1, 3), families)
    torch.manual_seed(0)
    student = ESM2(ModelConfig(1, states.shape[1], 1))
    return View(student, states, batch, torch.zeros(3 * crops, dtype=torch.bool) if chosen is None else chosen, _same)


def _same(rows: Tensor) -> Tensor:
    return rows


def spread(means: Tensor) -> Tensor:
    """States of crops of one residue: rubbish at BOS and EOS."""
    return torch.stack([torch.full_like(means, 7.0), means, torch.full_like(means, -9.0)], dim=1).flatten(0, 1)


def test_the_mean_of_a_crop_leaves_bos_and_eos_out() -> None:
    states = torch.tensor([[9.0], [1.0], [3.0], [9.0], [9.0], [5.0], [9.0]])
    assert crop_means(states, torch.tensor([0, 4, 7])).tolist() == [[2.0], [5.0]]


def test_predicting_the_teachers_mean_costs_one_in_both_errors() -> None:
    torch.manual_seed(1)
    target = 3 + 5 * torch.randn(3 * 500, 2)
    view = view_of(torch.zeros(3 * 500, 2), torch.arange(500))
    objective = Distillation(2, lambda _: target, 0.5, [view.batch])
    torch.nn.init.zeros_(objective.projection.weight)
    torch.nn.init.zeros_(objective.projection.bias)
    loss, parts = objective(view)
    assert parts["residue"].item() == pytest.approx(1, abs=1e-4)
    assert parts["pooled"].item() == pytest.approx(1, abs=0.02)
    assert loss.item() == pytest.approx(parts["residue"].item() + 0.5 * parts["pooled"].item())


def test_a_linear_image_of_the_teacher_costs_nothing() -> None:
    torch.manual_seed(1)
    target = torch.randn(30, 4)
    view = view_of(target.clone(), torch.arange(10))
    objective = Distillation(4, lambda _: target, 0.5, [view.batch])
    with torch.no_grad():
        objective.projection.weight.copy_(torch.diag(1 / objective.scale))
        objective.projection.bias.copy_(-objective.mean / objective.scale)
        assert objective(view)[0].item() < 1e-8


def test_a_uniform_guess_of_masked_residues_costs_the_logarithm_of_the_alphabet() -> None:
    objective = MaskedLanguage(4, 33)
    view = view_of(torch.randn(9, 4), torch.arange(3), chosen=torch.tensor([False, True, False] * 3))
    with torch.no_grad():
        view.student.embed_tokens.weight.zero_()
    assert objective(view)[0].item() == pytest.approx(math.log(33))


def test_masked_residues_alone_are_asked_for() -> None:
    objective = MaskedLanguage(4, 33)
    states = torch.randn(9, 4, requires_grad=True)
    chosen = torch.tensor([False, True, False] + 6 * [False])
    objective(view_of(states, torch.arange(3), chosen=chosen))[0].backward()
    assert states.grad is not None
    assert states.grad.abs().sum(1).nonzero().flatten().tolist() == [1]


def test_without_a_masked_residue_the_loss_is_nought() -> None:
    states = torch.randn(9, 4)
    assert MaskedLanguage(4, 33)(view_of(states, torch.arange(3)))[0].item() == 0


def contrast_by_hand(vectors: Tensor, families: list[int], kept: Tensor, kept_families: list[int]) -> float:
    """Khosla et al. 2020, eq. 2, one anchor after the other."""
    losses = []
    for anchor, family in enumerate(families):
        positives = [row for row in range(len(families)) if row != anchor and families[row] == family]
        others = [row for row in range(len(families)) if row != anchor]
        queue = [row for row, other in enumerate(kept_families) if other not in (family, -1)]
        scores = torch.cat([vectors[others] @ vectors[anchor], kept[queue] @ vectors[anchor]]) / 0.1
        if positives:
            each = [(vectors[row] @ vectors[anchor] / 0.1 - scores.logsumexp(0)).item() for row in positives]
            losses.append(-sum(each) / len(each))
    return sum(losses) / len(losses)


def test_the_contrast_equals_its_definition_with_relatives_in_the_queue_left_out() -> None:
    torch.manual_seed(2)
    objective = FamilyContrast(6, width=3, queue=5)
    families, before = [4, 1, 4, 2, 1, 1], [7, 1, 4]
    objective(view_of(spread(torch.randn(3, 6)), torch.tensor(before)))
    kept, kept_families = objective.kept.clone(), objective.kept_families.tolist()
    assert kept_families == [*before, -1, -1]
    means = torch.randn(6, 6)
    vectors = F.normalize(objective.projection(means), dim=-1).detach()
    loss = objective(view_of(spread(means), torch.tensor(families)))[0].item()
    assert loss == pytest.approx(contrast_by_hand(vectors, families, kept, kept_families), rel=1e-5)


def test_the_queue_keeps_the_latest_crops_and_lets_the_oldest_go() -> None:
    objective = FamilyContrast(2, width=2, queue=4)
    for families in ([1, 1, 2], [3, 4, 4]):
        objective(view_of(spread(torch.randn(3, 2)), torch.tensor(families)))
    assert objective.kept_families.tolist() == [3, 4, 4, 1]
    assert objective.kept.norm(dim=1).tolist() == pytest.approx([1.0] * 4)
    assert "kept" in objective.state_dict()


def test_crops_without_a_relative_cost_nothing_and_have_a_gradient_of_nought() -> None:
    objective = FamilyContrast(2, width=2, queue=4)
    states = spread(torch.randn(3, 2)).requires_grad_()
    loss, _ = objective(view_of(states, torch.tensor([0, 1, 2])))
    loss.backward()
    assert loss.item() == 0
    assert states.grad is not None
    assert not states.grad.any()


def test_the_contrast_draws_relatives_together() -> None:
    torch.manual_seed(3)
    objective = FamilyContrast(4, width=4, queue=8)
    states = spread(torch.randn(6, 4)).requires_grad_()
    families = torch.tensor([0, 0, 1, 1, 2, 2])

    @torch.no_grad()
    def nearness() -> float:
        vectors = F.normalize(objective.projection(crop_means(states, torch.arange(0, 19, 3))), dim=-1)
        return float((vectors[::2] * vectors[1::2]).sum(1).mean())

    before, optimizer = nearness(), torch.optim.Adam([states], lr=0.05)
    for _ in range(30):
        optimizer.zero_grad()
        objective(view_of(states, families))[0].backward()
        optimizer.step()
    assert nearness() > max(before + 0.1, 0.8)


def annotated(states: Tensor, /, **targets: Tensor) -> View:
    """One crop whose residues have targets; BOS and EOS have none."""
    batch = Batch(torch.tensor([0, *[5] * (len(states) - 2), 2]), torch.tensor([0, len(states)]), torch.tensor([0]))
    torch.manual_seed(0)
    student = ESM2(ModelConfig(1, states.shape[1], 1))
    return View(student, states, replace(batch, **targets), torch.zeros(len(states), dtype=torch.bool), _same)


def zeroed(layer: torch.nn.Linear) -> torch.nn.Linear:
    """Make a layer tell 0 whatever it sees."""
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    return layer


NAN = float("nan")
STRUCTURE = {"states": torch.tensor([-1, 2, -1, 7, -1]), "accessibility": torch.tensor([NAN, 0.2, 0.6, NAN, NAN])}


def test_a_uniform_guess_of_the_state_costs_ln_8_and_the_mean_accessibility_one() -> None:
    objective = ResidueStructure(2, torch.tensor([0.2, NAN, 0.6]))
    zeroed(objective.states)
    zeroed(objective.accessibility)
    loss, parts = objective(annotated(torch.randn(5, 2), **STRUCTURE))
    assert parts["states"].item() == pytest.approx(math.log(8))
    assert parts["accessibility"].item() == pytest.approx(1)  # mean 0.4, deviation 0.2: both are one away
    assert loss.item() == pytest.approx(math.log(8) + 1)


def test_states_and_accessibility_cost_what_is_told_of_them() -> None:
    objective = ResidueStructure(2, torch.tensor([0.2, 0.6]))
    with torch.no_grad():
        zeroed(objective.states).bias[2] = math.log(3)  # 3 of 10 parts for state 2, 1 for state 7
        zeroed(objective.accessibility).bias.fill_(1.0)  # 0.6
    _, parts = objective(annotated(torch.randn(5, 2), **STRUCTURE))
    assert parts["states"].item() == pytest.approx((math.log(10 / 3) + math.log(10)) / 2)
    assert parts["accessibility"].item() == pytest.approx((2**2 + 0) / 2)


def test_residues_whose_structure_is_not_known_do_not_count() -> None:
    states = torch.randn(5, 2, requires_grad=True)
    ResidueStructure(2, torch.tensor([0.2, 0.6]))(annotated(states, **STRUCTURE))[0].backward()
    assert states.grad is not None
    assert states.grad.abs().sum(1).nonzero().flatten().tolist() == [1, 2, 3]


def test_the_profile_costs_its_cross_entropy_and_rows_of_zeros_do_not_count() -> None:
    profile = torch.zeros(4, 20)
    profile[1, 0], profile[1, 4] = 0.75, 0.25
    states = torch.randn(4, 2, requires_grad=True)
    objective = Profile(2)
    with torch.no_grad():
        zeroed(objective.shares).bias[0] = math.log(5)  # 5 of 24 parts for A, 1 for every other
    loss, _ = objective(annotated(states, profile=profile))
    assert loss.item() == pytest.approx(0.75 * math.log(24 / 5) + 0.25 * math.log(24))
    torch.nn.init.ones_(objective.shares.weight[:1])
    objective(annotated(states, profile=profile))[0].backward()
    assert states.grad is not None
    assert states.grad.abs().sum(1).nonzero().flatten().tolist() == [1]


def test_without_a_residue_of_known_targets_the_losses_are_nought() -> None:
    nothing = {"states": torch.full((4,), -1), "accessibility": torch.full((4,), NAN), "profile": torch.zeros(4, 20)}
    view = annotated(torch.randn(4, 2), **nothing)
    objectives = (ResidueStructure(2, torch.tensor([NAN])), Profile(2))
    assert [objective(view)[0].item() for objective in objectives] == [0, 0]


def test_aligned_residues_cost_the_cross_entropy_of_their_partners_both_ways() -> None:
    objective = AlignedResidues(2, width=2, temperature=0.5)
    torch.nn.init.eye_(objective.projection.weight)
    states = torch.tensor([[9.0, 9.0], [2.0, 0.0], [0.0, 3.0], [9.0, 9.0], [1.0, 0.0], [5.0, 0.0], [9.0, 9.0]])
    pairs = torch.tensor([[1, 4], [2, 5]])  # cosines: [[1, 1], [0, 0]]
    loss, _ = objective(annotated(states, pairs=pairs))
    rows = [math.log(2), math.log(2)]
    columns = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))]
    assert loss.item() == pytest.approx(sum(rows + columns) / 4)


def test_pairs_beyond_the_most_are_thinned_evenly_and_none_cost_nothing() -> None:
    objective = AlignedResidues(2, most=2)
    states = torch.randn(10, 2, requires_grad=True)
    pairs = torch.tensor([[1, 5], [2, 6], [3, 7], [4, 8]])
    objective(annotated(states, pairs=pairs))[0].backward()
    assert states.grad is not None
    assert states.grad.abs().sum(1).nonzero().flatten().tolist() == [1, 3, 5, 7]
    assert objective(annotated(states, pairs=pairs[:0]))[0].item() == 0
