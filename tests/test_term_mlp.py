"""The MLP and multi-task heads for many labels: what linear cannot learn, chunks by attention, learned task weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from esmcls.cache.features import Features
from esmcls.errors import CacheError
from esmcls.heads.layers import trained
from esmcls.heads.layers.descent import Grouping
from esmcls.heads.layers.mlp import TermMLPConfig, TermMLPHead
from esmcls.heads.layers.term_linear import TermLinearConfig, TermLinearHead
from esmcls.heads.layers.term_multitask import TermMultitaskConfig, TermMultitaskHead
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import mean_fmax
from esmcls.training.loop import run

SMALL: dict[str, Any] = {"hidden": 16, "dropout": 0.0, "lr": 0.02, "batch": 32, "epochs": 15}
GROUPS = ("F", "F", "P", "P")


def xor(n: int, seed: int) -> tuple[Features, LabelSets]:
    """Corners of a square: F says whether both coordinates are the same, P which half the first is in."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, 2, size=(n, 2))
    codes = [[int(one ^ other), 2 + int(one)] for one, other in corners]
    vectors = (corners + random.normal(size=(n, 2)) * 0.1).astype(np.float32)
    return Features.from_arrays(vectors), LabelSets.from_codes("abcd", codes, GROUPS)


def needles(n: int, seed: int) -> tuple[Features, LabelSets]:
    """Proteins of 1 to 6 chunks; columns 0 and 1 are the class in the one that column 2 marks, and noise in others."""
    random = np.random.default_rng(seed)
    kinds, chunks = random.integers(0, 2, size=n), []
    for kind in kinds:
        vectors = random.normal(size=(int(random.integers(1, 7)), 3)) * [3, 3, 0.3]
        marked = [2 * kind - 1, 1 - 2 * kind, 3] + random.normal(size=3) * 0.3
        vectors[int(random.integers(len(vectors)))] = marked
        chunks.append(vectors.astype(np.float32))
    means = np.stack([part.mean(0) for part in chunks])
    labels = LabelSets.from_codes(("no", "yes"), [[int(kind)] for kind in kinds])
    return Features.from_arrays(means, chunks=chunks), labels


def mlp(x: Features, labels: LabelSets, validation: Any = None, **knobs: Any) -> TermMLPHead:
    return TermMLPHead(TermMLPConfig(**(SMALL | knobs))).fit(x, labels, validation, seed=1)


def multitask(x: Features, labels: LabelSets, validation: Any = None, **knobs: Any) -> TermMultitaskHead:
    config = TermMultitaskConfig(**(SMALL | {"shared": 8} | knobs))
    return TermMultitaskHead(config).fit(x, labels, validation, seed=1)


def fmax(head: Any, x: Features, labels: LabelSets) -> float:
    return mean_fmax(labels, [(slice(0, len(x)), head.predict_proba(x))])


@pytest.mark.parametrize("fit", [mlp, multitask])
def test_it_learns_terms_that_no_linear_head_can(fit: Any) -> None:
    test = xor(200, seed=1)
    assert fmax(fit(*xor(300, seed=0)), *test) > 0.98
    assert fmax(TermLinearHead(TermLinearConfig(epochs=10)).fit(*xor(300, seed=0)), *test) < 0.9


@pytest.mark.parametrize("loss", ["weighted", "focal", "asymmetric"])
def test_every_loss_learns_them(loss: str) -> None:
    assert fmax(mlp(*xor(300, seed=0), loss=loss), *xor(200, seed=1)) > 0.95


@pytest.mark.parametrize(
    "knobs", [{"depth": 2}, {"norm": "layer"}, {"norm": "batch"}, {"noise": 0.1}, {"whiten": False}]
)
def test_every_layout_learns_them(knobs: dict[str, Any]) -> None:
    assert fmax(mlp(*xor(300, seed=0), **knobs), *xor(200, seed=1)) > 0.95


@pytest.mark.parametrize("fit", [mlp, multitask])
def test_attention_finds_the_chunk_that_tells(fit: Any) -> None:
    test = needles(200, seed=1)
    weighed = fit(*needles(600, seed=0), attention=True, hidden=32)
    assert fmax(weighed, *test) > fmax(fit(*needles(600, seed=0), hidden=32), *test) + 0.05


def test_attention_without_chunks_is_an_error() -> None:
    with pytest.raises(CacheError, match="no vector of each encoder input was kept"):
        mlp(*xor(20, seed=0), attention=True)


def test_the_best_epoch_is_kept_and_repeated_by_a_refit(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def counted(task: Any, plan: Any, **others: Any) -> Any:
        history = run(task, plan, **others)
        steps.append(history.steps_done)
        return history

    monkeypatch.setattr(trained, "run", counted)
    x, labels = xor(64, seed=0)  # 16 steps an epoch
    head = mlp(x, labels, xor(40, seed=1), epochs=6, patience=2)
    head.refit(x, labels, seed=1)
    assert steps[1] == 16 * head.chosen.stop
    assert steps[0] <= 16 * 6


def test_outputs_begin_at_the_shares_of_the_classes() -> None:
    x, labels = xor(400, seed=0)
    head = mlp(x, labels, stop=0, slope=1.0, shift=0.0)
    np.testing.assert_allclose(torch.sigmoid(head.network.out.bias), labels.counts() / 400, rtol=1e-5)


# task weights


def task_weights(head: TermMultitaskHead) -> dict[str, float]:
    """Return the weight of each group's loss, exp(-s)."""
    names = Grouping.of(len(head.classes), head.groups).names
    weights = torch.exp(-head.network.tasks.log_variances.detach()).tolist()
    return dict(zip(names, weights, strict=True))


def test_task_weights_are_in_the_optimiser_and_move() -> None:
    head = multitask(*xor(300, seed=0))
    task = head._descent(head._bags(*xor_bags()), xor(300, seed=0)[1], 1, None)
    [others, own] = task.optimizers[0].param_groups
    assert own["params"] == [head.network.tasks.log_variances]
    assert own["weight_decay"] == 0
    assert len(others["params"]) + 1 == len(list(head.network.parameters()))
    assert (head.network.tasks.log_variances != 0).all()


def xor_bags() -> tuple[Features, int]:
    return xor(300, seed=0)[0], 2


def test_task_weights_are_clamped_after_each_step() -> None:
    head = multitask(*xor(300, seed=0), limit=0.01, lr=0.1, epochs=2)
    assert head.network.tasks.log_variances.abs().max() <= 0.01
    assert all(np.exp(-0.01) - 1e-6 <= weight <= np.exp(0.01) + 1e-6 for weight in task_weights(head).values())


def test_the_group_that_is_learned_better_comes_to_count_more() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(300, 2)).astype(np.float32)
    codes = [[int(row[0] > 0), 2 + int(random.integers(2))] for row in vectors]  # P is drawn by lot
    labels = LabelSets.from_codes("abcd", codes, GROUPS)
    weights = task_weights(multitask(Features.from_arrays(vectors), labels, stop=15))
    assert weights["F"] > 2 * weights["P"]


def test_without_groups_there_is_one_task() -> None:
    x, labels = xor(300, seed=0)
    head = multitask(x, LabelSets(labels.classes, labels.offsets, labels.codes))
    assert list(task_weights(head)) == [""]
    assert fmax(head, *xor(200, seed=1)) > 0.95
