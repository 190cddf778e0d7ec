"""The kNN head: whitening, votes and distances by hand; both search engines give the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from esmcls.cache.features import Features
from esmcls.heads import whitening
from esmcls.heads.neighbours import knn, search
from esmcls.heads.neighbours.finder import Finder
from esmcls.heads.neighbours.int8_bounds import has_int8_units
from esmcls.heads.neighbours.knn import KNNConfig, KNNHead
from esmcls.heads.neighbours.search import Search
from esmcls.heads.neighbours.votes import Tally
from esmcls.heads.whitening import WithinClass
from esmcls.labels.labels import Labels

Array = npt.NDArray[np.float32]


def clouds(n: int = 200, classes: int = 10, width: int = 6, seed: int = 0) -> tuple[Array, Labels]:
    """Classes that lie apart in the first two columns and spread widely, together, in the others."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    angle = 2 * np.pi * codes / classes
    vectors = rng.normal(size=(n, width)) * ([0.1, 0.1] + [2.0] * (width - 2))
    vectors[:, :2] += np.stack((np.cos(angle), np.sin(angle)), 1)
    return vectors.astype(np.float32), Labels(tuple("abcdefghijklmnopqrst"[:classes]), codes)


def fit(vectors: Array, labels: Labels, **knobs: Any) -> KNNHead:
    return KNNHead(KNNConfig(**knobs)).fit(Features.from_arrays(vectors), labels, None, seed=0)


# whitening


def test_whitened_rows_have_the_identity_as_their_within_class_covariance() -> None:
    vectors, labels = clouds()
    white = WithinClass.of(vectors, labels.codes, 10)(0.0)(torch.from_numpy(vectors)).numpy()
    centred = white - np.stack([white[labels.codes == code].mean(0) for code in labels.codes])
    np.testing.assert_allclose(centred.T @ centred / (200 - 10), np.eye(6), atol=1e-4)


def test_full_shrinkage_is_a_plain_scale_and_no_shrinkage_trusts_the_covariance() -> None:
    vectors, labels = clouds()
    within = WithinClass.of(vectors, labels.codes, 10)
    plain = within(1.0).matrix
    torch.testing.assert_close(plain @ plain.T, torch.eye(6) / within.values.mean().float(), rtol=1e-4, atol=1e-7)
    assert float(within(0.0).matrix.norm()) > 10 * float(plain.norm())


def test_the_whitened_distance_between_class_means_is_that_of_discriminant_analysis() -> None:
    vectors, labels = clouds(60, classes=2)
    white = WithinClass.of(vectors, labels.codes, 2)(0.0)(torch.from_numpy(vectors)).numpy()
    oracle = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(vectors, labels.codes)
    apart = oracle.means_[0] - oracle.means_[1]
    covariance = oracle.covariance_ * 60 / 58  # scikit-learn divides by n, not by n - classes
    expected = apart @ np.linalg.solve(covariance, apart)
    got = np.square(white[labels.codes == 0].mean(0) - white[labels.codes == 1].mean(0)).sum()
    assert got == pytest.approx(expected, rel=1e-3)


def test_classes_with_one_member_do_not_count_towards_the_spread() -> None:
    vectors, labels = clouds()
    lone = np.concatenate((vectors, np.full((3, 6), 1e3, dtype=np.float32)))
    codes = np.append(labels.codes, [10, 11, 12])
    torch.testing.assert_close(
        WithinClass.of(lone, codes, 13).values, WithinClass.of(vectors, labels.codes, 10).values, rtol=1e-4, atol=1e-7
    )


def test_with_single_members_only_the_spread_around_the_mean_stands_in() -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32) * [1, 2, 3]
    values = WithinClass.of(vectors.astype(np.float32), np.arange(30), 30).values
    np.testing.assert_allclose(values, np.linalg.eigvalsh(np.cov(vectors.T)), rtol=1e-4)


def test_a_constant_column_is_not_blown_up() -> None:
    vectors, labels = clouds()
    vectors[:, 3] = 5
    within = WithinClass.of(vectors, labels.codes, 10)
    white = within(0.0)
    assert float(white.matrix.abs().max()) <= (whitening.FLOOR * float(within.values.mean())) ** -0.5 * 1.01
    assert torch.isfinite(white(torch.from_numpy(vectors))).all()


def test_the_covariance_is_summed_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = clouds()
    whole = WithinClass.of(vectors, labels.codes, 10)
    monkeypatch.setattr(whitening.row_blocks, "__defaults__", ("cpu", 13))
    blocked = WithinClass.of(vectors, labels.codes, 10)
    torch.testing.assert_close(blocked.values, whole.values, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(blocked.mean, whole.mean)


# votes


def test_whitening_finds_the_class_where_the_plain_cosine_does_not() -> None:
    test, truth = clouds(100, seed=1)
    reached = {
        whiten: (fit(*clouds(), whiten=whiten).top_k(Features.from_arrays(test), 1)[0][:, 0] == truth.codes).mean()
        for whiten in (True, False)
    }
    assert reached[True] > 0.9
    assert reached[False] < 0.5


def test_a_vote_is_the_sum_over_neighbours_of_exp_nearness_over_temperature() -> None:
    vectors = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [-1, 0]], dtype=np.float32)
    head = fit(vectors, Labels.from_names("abba"), whiten=False, k=3, temperature=0.5, softness=0.5)
    bare = whitening.Whitening(torch.zeros(2), torch.eye(2))
    head.finder = Finder.of(vectors, ["p", "q", "r", "s"], bare, "cosine", "auto")
    near = np.exp(np.array([1.0, 0.8, 0.6]) / 0.5)  # softness as temperature: a vote weighs what it counts
    expected = [near[0] / near.sum(), near[1:].sum() / near.sum()]
    got = head.predict_proba(Features.from_arrays(np.array([[2, 0]], dtype=np.float32)))
    np.testing.assert_allclose(got, [expected], atol=1e-6)


def test_classes_without_a_vote_weigh_together_as_one_neighbour_at_the_far_end() -> None:
    codes, nearness = np.array([[2, 0]]), np.array([[0.9, 0.7, 0.4]])
    votes = Tally.soft(codes, nearness, 0.01).weigh(np.full(4, 0.25), temperature=0.1)
    weights = np.array([np.exp(3), 0.25, np.exp(5), 0.25])  # (0.7 - 0.4) / 0.1, a prior, (0.9 - 0.4) / 0.1
    np.testing.assert_allclose(votes.dense()[0], weights / weights.sum(), rtol=1e-6)
    assert votes.top(4)[0].tolist() == [[2, 0, 1, 3]]


def test_one_neighbour_can_be_doubted_and_more_neighbours_than_rows_are_all_of_them() -> None:
    vectors, labels = clouds()
    x = Features.from_arrays(clouds(20, seed=1)[0])
    sure = fit(vectors, labels, k=1).predict_proba(x).max(1)
    assert len(set(sure.tolist())) == 20
    assert (fit(vectors, labels, k=500, temperature=1.0).predict_proba(x) > 0).all()


def test_of_equal_votes_the_class_of_the_nearest_neighbour_stands_first() -> None:
    tally = Tally.soft(np.array([[9, 2, 2, 9]]), np.zeros((1, 4)), temperature=0.1)
    assert tally.codes.tolist() == [[9, 2, -1, -1]]
    np.testing.assert_allclose(tally.bits, [[0.1 * np.log(2)] * 2 + [0, 0]])


def test_votes_that_are_too_small_to_add_up_still_rank_by_nearness() -> None:
    tally = Tally.soft(np.array([[3, 1, 0]]), np.array([[1.0, 0.2, 0.1]]), temperature=0.0005)
    assert tally.codes.tolist() == [[3, 1, 0]]
    np.testing.assert_allclose(tally.bits, [[0.9, 0.1, 0.0]], atol=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_nearest_training_row_is_told_with_its_distance(metric: Any, tmp_path: Path) -> None:
    vectors, labels = clouds()
    x = Features.from_arrays(vectors, ids=[f"protein {row}" for row in range(200)])
    head = KNNHead(KNNConfig(metric=metric)).fit(x, labels)
    head.save(tmp_path)
    for one in (head, KNNHead.load(tmp_path, head.chosen, head.classes)):
        distance, ids = one.nearest(x.take([5, 17]))
        assert ids == ["protein 5", "protein 17"]
        assert distance.dtype == np.float32
        np.testing.assert_allclose(distance, 0, atol=1e-3)
        far, _ = one.nearest(Features.from_arrays(vectors[:1] + 300))
        assert far[0] > 0.005
        assert one.nearest(x.take([]))[1] == []


def test_distances_are_those_of_their_definition() -> None:
    vectors, labels = clouds()
    query = clouds(1, seed=9)[0]
    for metric in ("cosine", "l2"):
        head = fit(vectors, labels, metric=metric, shrinkage=0.1, k=1)
        a, b = (head.finder.whitening(torch.from_numpy(rows)).numpy() for rows in (query, vectors))
        cosines = (b @ a[0]) / np.linalg.norm(a) / np.linalg.norm(b, axis=1)
        expected = 1 - cosines.max() if metric == "cosine" else np.sqrt(np.square(b - a).mean(1)).min()
        assert head.nearest(Features.from_arrays(query))[0][0] == pytest.approx(expected, abs=1e-5)


def test_choices_are_the_best_on_validation_and_what_is_set_stays() -> None:
    vectors, labels = clouds()
    held = clouds(60, seed=4)
    entries: list[dict[str, float]] = []
    head = KNNHead(KNNConfig(k=3)).fit(
        Features.from_arrays(vectors), labels, (Features.from_arrays(held[0]), held[1]), 0, entries.append
    )
    assert head.chosen.k == 3
    assert len(entries) == len(whitening.SHRINKAGES) * len(knn.TEMPERATURES)
    assert head.scores["macro_f1"] == max(entry["macro_f1"] for entry in entries)
    assert head.chosen.shrinkage in whitening.SHRINKAGES


# search

WAYS = {"bounds": {"FEW": -1}, "crowded": {"FEW": -1, "MOST": 0}, "float32": {"FEW": 10**9}}
"""The ways that matrix products may take: by bounds, by bounds that leave too many rows, without bounds."""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    take(request.param, monkeypatch)
    return str(request.param)


def take(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MOST": 1024, **WAYS[way]}.items():
        monkeypatch.setattr(search, name, value)
    if not has_int8_units():
        monkeypatch.setattr(search, "has_int8_units", lambda: True)
        monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.double() @ b.double()).to(torch.int32))


def indexed(base: torch.Tensor, metric: Any, engine: Any = "torch") -> Search:
    index = Search.empty(base.shape[1], metric, engine)
    index.add(base)
    return index


def drawn(n: int, width: int, metric: str = "cosine", seed: int = 0) -> torch.Tensor:
    rows = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32))
    return rows / rows.norm(dim=1, keepdim=True) if metric == "cosine" else rows


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize(("rows", "k"), [(1, 10), (5, 10), (3000, 10), (3000, 700)])
def test_matrix_products_find_what_faiss_finds(
    monkeypatch: pytest.MonkeyPatch, way: str, metric: Any, rows: int, k: int
) -> None:
    monkeypatch.setattr(search, "ROWS", 700)
    monkeypatch.setattr(search, "QUERIES", 33)
    base, queries = drawn(rows, 24, metric), drawn(100, 24, metric, seed=1)
    ours, theirs = (indexed(base, metric, engine)(queries, k) for engine in ("torch", "faiss"))
    np.testing.assert_allclose(ours[0], theirs[0], atol=2e-5)
    np.testing.assert_array_equal(ours[1][:, :10], theirs[1][:, :10])  # beyond, float32 may swap two of equal scores


def test_rows_that_eight_bits_cannot_tell_apart_are_still_found_exactly(way: str) -> None:
    base = torch.ones(500, 8) + drawn(500, 8) * 1e-4
    base = base / base.norm(dim=1, keepdim=True)
    scores, rows = indexed(base, "cosine")(base[:50], 1)
    exact = (base.double() @ base[:50].double().T).max(0).values.numpy()
    np.testing.assert_allclose(scores[:, 0], exact, atol=3e-7)
    np.testing.assert_allclose((base[rows[:, 0]].double() * base[:50].double()).sum(1), exact, atol=1.2e-7)


def test_of_equal_rows_the_lowest_are_the_nearest(way: str) -> None:
    base = drawn(20, 8).repeat(100, 1)  # row r equals r + 20
    _, rows = indexed(base, "cosine")(base[:20], 3)
    np.testing.assert_array_equal(rows, np.arange(20)[:, None] + [0, 20, 40])


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_query_is_answered_to_the_bit_alone_as_among_others_and_in_every_way(
    monkeypatch: pytest.MonkeyPatch, metric: Any
) -> None:
    base, queries = drawn(2000, 24, metric), drawn(40, 24, metric, seed=1)
    answers = []
    for name in WAYS:
        take(name, monkeypatch)
        index = indexed(base, metric)
        alone = [index(queries[row : row + 1], 7) for row in range(40)]
        answers += [index(queries, 7), tuple(np.concatenate(part) for part in zip(*alone, strict=True))]
    for scores, rows in answers[1:]:
        np.testing.assert_array_equal(scores, answers[0][0])
        np.testing.assert_array_equal(rows, answers[0][1])


def test_bounds_are_made_once_there_are_queries_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    take("bounds", monkeypatch)
    monkeypatch.setattr(search, "FEW", 5)
    index = indexed(drawn(200, 8), "cosine")
    made = []
    for queries in (3, 2, 1, 50):
        index(drawn(queries, 8), 1)
        assert index._base is not None
        made.append(index._base.bounds)
    assert made[:2] == [None, None]
    assert made[2] is not None
    assert made[3] is made[2]


def test_a_head_answers_the_same_with_both_engines() -> None:
    vectors, labels = clouds(400)
    x = Features.from_arrays(clouds(50, seed=2)[0])
    ours, theirs = (
        fit(vectors, labels, engine=engine, k=5, temperature=0.1, shrinkage=0.1) for engine in ("torch", "faiss")
    )
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-4)


def test_large_bases_go_to_the_matrix_products_where_the_hardware_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Search.empty(2, "l2")
    index.add(torch.zeros(20, 2))
    monkeypatch.setattr(search, "LARGE", 20)
    for units in (True, False):
        monkeypatch.setattr(search, "has_int8_units", lambda units=units: units)
        assert index._use_torch() is units
    monkeypatch.setattr(search, "LARGE", 21)
    assert not index._use_torch()
    assert Search.empty(2, "l2", device="cuda")._use_torch()


def test_a_cuda_device_has_the_index_of_faiss_where_faiss_reports_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[tuple[int, int]] = []

    def to_gpu(resources: object, gpu: int, index: Any) -> Any:
        copied.append((gpu, index.ntotal))
        return search.faiss.clone_index(index)

    monkeypatch.setattr(search.faiss, "get_num_gpus", lambda: 2)
    monkeypatch.setattr(search.faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(search.faiss, "index_cpu_to_gpu", to_gpu, raising=False)
    base, queries = drawn(300, 8, "l2"), drawn(20, 8, "l2", seed=1)
    of_cpu = indexed(base, "l2", "faiss")
    for engine in ("auto", "faiss"):
        copied.clear()
        of_gpu = Search.empty(8, "l2", engine, device="cuda:1")  # type: ignore[arg-type]
        of_gpu.add(base[:200])
        of_gpu(queries, 3)
        of_gpu.add(base[200:])
        for k in (3, 5):
            for ours, theirs in zip(of_gpu(queries, k), of_cpu(queries, k), strict=True):
                np.testing.assert_array_equal(ours, theirs)
        assert copied == [(1, 200), (1, 300)]
    copied.clear()
    assert Search.empty(8, "l2", device="cuda:2")._use_torch()  # which FAISS does not report
    assert Search.empty(8, "l2", device="cuda:1")._use_torch(k=search.MOST_OF_GPU + 1)
    assert Search.empty(8, "l2", "torch", device="cuda:1")._use_torch()
    assert not of_cpu._use_torch()
    assert of_cpu(queries, 3)[0].shape == (20, 3)
    assert copied == []


def test_rows_are_a_view_of_the_index_also_after_loading(tmp_path: Path) -> None:
    index = Search.empty(3, "l2")
    index.add(torch.arange(12, dtype=torch.float32).reshape(4, 3))
    index.save(tmp_path / "index")
    again = Search.load(tmp_path / "index", "l2")
    assert len(again) == 4
    np.testing.assert_array_equal(again.rows(), np.arange(12, dtype=np.float32).reshape(4, 3))


@pytest.mark.gpu
def test_cuda_finds_what_faiss_finds() -> None:
    rng = np.random.default_rng(0)
    base, queries = (torch.from_numpy(rng.normal(size=(n, 64)).astype(np.float32)) for n in (20_000, 500))
    by_faiss = indexed(base, "l2", "faiss")(queries, 5)[1]
    for engine in ("torch", "auto"):  # the latter is FAISS's index on the GPU, where faiss-gpu is installed
        cuda = Search.empty(64, "l2", engine, device="cuda")  # type: ignore[arg-type]
        cuda.add(base)
        np.testing.assert_array_equal(cuda(queries, 5)[1], by_faiss)
