"""Bounds of scores: never below a score, near enough to be of use, whatever the vectors are like."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from esmcls.heads.neighbours import int8_bounds as bounds
from esmcls.heads.neighbours.int8_bounds import LANES, Bounds, has_int8_units

KINDS = ("even", "one column", "many lengths", "zeros", "tiny")


@pytest.fixture(autouse=True)
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors without the units may round eight-bit products; there they are made in float64."""
    if not has_int8_units():
        monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.double() @ b.double()).to(torch.int32))


def vectors(kind: str, n: int, width: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, width))
    if kind == "one column":
        rows[:, 3] *= 100
    elif kind == "many lengths":
        rows *= 10 ** rng.normal(size=(n, 1))
    elif kind == "zeros":
        rows[: n // 2] = 0
    elif kind == "tiny":
        rows *= 1e-12
    return torch.from_numpy(rows.astype(np.float32))


def made(rows: Tensor, metric: Any) -> Bounds:
    return Bounds(rows, rows.norm(dim=1), metric)


def called(made_of: Bounds, queries: Tensor) -> npt.NDArray[np.float64]:
    limits, unit = made_of(queries)
    return np.asarray((limits.double() * unit.double()).numpy())


def scores(rows: Tensor, queries: Tensor, metric: str) -> npt.NDArray[np.float64]:
    x, q = rows.double().numpy(), queries.double().numpy()
    return q @ x.T if metric == "cosine" else -0.5 * np.square(q[:, None] - x).sum(2)


@pytest.mark.parametrize("large", [1, 10**9])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_row_scores_above_the_bound_of_its_group(
    monkeypatch: pytest.MonkeyPatch, kind: str, metric: str, large: int
) -> None:
    monkeypatch.setattr(bounds, "LARGE_BASE", large)
    monkeypatch.setattr(bounds, "MULTIPLIED_ROWS", 64)
    rows, queries = vectors(kind, 1001, 24, 0), torch.cat((vectors(kind, 40, 24, 1), torch.zeros(1, 24)))
    made_of = made(rows, metric)
    limits, exact = called(made_of, queries).T, scores(rows, queries, metric)
    for group, members in enumerate(made_of.groups.numpy()):
        of_group = exact[:, members[members >= 0]]
        assert (of_group <= limits[:, group, None]).all()
    assert limits.shape == (41, len(made_of.groups))


@pytest.mark.parametrize("n", [1, 127, 128, 129, 3000])
def test_every_row_is_in_one_group_and_the_number_of_groups_is_one_of_whole_lanes(n: int) -> None:
    groups = made(vectors("even", n, 8, 0), "cosine").groups.numpy()
    assert sorted(groups[groups >= 0]) == list(range(n))
    assert len(groups) % LANES == 0


def test_the_bound_of_an_empty_group_is_below_everything() -> None:
    made_of = made(vectors("even", 9, 8, 0), "cosine")
    limits = called(made_of, vectors("even", 2, 8, 1))
    assert np.isfinite(limits).sum(0).tolist() == [2, 2]
    assert limits.min() == -np.inf


@pytest.mark.parametrize("kind", ["even", "one column"])
def test_a_bound_of_unit_vectors_is_near_the_best_score_even_where_one_column_is_all(kind: str) -> None:
    rows, queries = (torch.nn.functional.normalize(vectors(kind, n, 480, n)) for n in (2000, 30))
    made_of = made(rows, "cosine")
    full = made_of.groups.numpy()[: 2000 // 8]
    best = scores(rows, queries, "cosine")[:, full].max(2)
    # a step of eight bits over the root of 12, for query and row, of values up to five deviations: 0.0227
    assert (called(made_of, queries)[: len(full)].T - best).max() < 0.023


def test_rows_of_like_length_share_a_group_where_distance_counts() -> None:
    rows = vectors("many lengths", 800, 8, 0)
    lengths = rows.norm(dim=1)[made(rows, "l2").groups[: 800 // 8]]
    assert (lengths[:-1].amax(1) <= lengths[1:].amin(1)).all()


@pytest.mark.parametrize(
    ("flags", "exact", "fit"),
    [
        ({"avx512_vnni": True}, True, True),
        ({"amx_int8": True}, True, True),
        ({"avx512_vnni": True}, False, False),
        ({"avx512_bf16": True, "amx_int8": False}, True, False),
        ({}, True, False),
    ],
)
def test_eight_bit_products_are_for_processors_that_make_them_without_rounding(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], exact: bool, fit: bool
) -> None:
    monkeypatch.setattr(bounds, "multiplies_int8_exactly", lambda: exact)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    assert has_int8_units() is fit
