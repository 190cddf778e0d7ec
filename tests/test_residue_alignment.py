"""Alignment of residue vectors: the kernel against one written out, what is kept of residues, E-values, the heads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import done, run
from letter_encoder import LetterEncoder, embedded
from relatives import RESIDUES, relatives
from safetensors.numpy import save_file
from scipy.stats import gumbel_r
from tiny import sequences, write_encoder, write_set

import esmcls
import esmcls.heads.alignment.residues.scoring as scoring
from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.errors import CacheError, EncoderMismatchError, ModelError
from esmcls.evaluation.plan import ComparisonPlan, plan_models
from esmcls.heads.alignment.align import PRIOR, AlignConfig, AlignHead, background_of
from esmcls.heads.alignment.residues.aligner import Aligner, ResidueConfig, seconds_of_fit
from esmcls.heads.alignment.residues.batched import batched_scores
from esmcls.heads.alignment.residues.reduction import Reduction
from esmcls.heads.alignment.residues.scoring import Scheme, align, scores, similarities
from esmcls.heads.alignment.residues.segments import positions_seen
from esmcls.heads.alignment.residues.significance import Significance
from esmcls.heads.alignment.residues.store import CODES, ResiduePool, Residues
from esmcls.heads.alignment.term_align import TermAlignConfig, TermAlignHead
from esmcls.heads.neighbours.knn import KNNHead
from esmcls.heads.neighbours.term_votes import Choice
from esmcls.labels.labels import Labels, LabelSets
from esmcls.tasks.kinds import task_of
from esmcls.workspace.workspace import Workspace

SCHEME = Scheme(offset=0.5, opening=1.5, extension=0.25)


def codes_of(length: int, seed: int, components: int = 6) -> Any:
    return np.random.default_rng(seed).integers(-127, 128, size=(length, components)).astype(np.int8)


def stacked(proteins: list[Any]) -> Residues:
    lengths = np.array([len(protein) for protein in proteins], dtype=np.int64)
    return Residues(np.concatenate(proteins), np.cumsum(lengths) - lengths, lengths)


def written_out(similar: Any, scheme: Scheme) -> float:
    """The best local alignment, each gap tried at every length: no recursion for gaps, as the kernel has one."""
    [rows, columns] = similar.shape
    ending = np.zeros((rows + 1, columns + 1))
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            gaps = [ending[i - n, j] - scheme.opening - (n - 1) * scheme.extension for n in range(1, i + 1)]
            gaps += [ending[i, j - n] - scheme.opening - (n - 1) * scheme.extension for n in range(1, j + 1)]
            ending[i, j] = max(0, ending[i - 1, j - 1] + similar[i - 1, j - 1], *gaps)
    return float(ending.max())


# the kernel


def test_the_score_is_that_of_an_alignment_written_out() -> None:
    query = codes_of(17, 0)
    targets = [codes_of(length, 1 + length) for length in (1, 2, 5, 17, 23, 40)]
    targets.append(np.concatenate([query[:8], codes_of(3, 9), query[8:]]))  # the query with an insertion
    rows = np.arange(len(targets))
    expected = [written_out(similarities(query, target, SCHEME.offset), SCHEME) for target in targets]
    np.testing.assert_allclose(scores(query, stacked(targets), rows, SCHEME), expected, rtol=1e-4, atol=1e-4)


def test_a_target_scores_the_same_alone_and_among_longer_ones() -> None:
    query = codes_of(30, 0)
    targets = stacked([codes_of(5 + 3 * number, number) for number in range(70)])
    together = scores(query, targets, np.arange(70), SCHEME)
    alone = [scores(query, targets, np.array([row]), SCHEME)[0] for row in range(70)]
    np.testing.assert_array_equal(together, np.array(alone))


def test_rows_are_answered_in_the_order_in_which_they_are_asked_for() -> None:
    targets = stacked([codes_of(5 + number, number) for number in range(40)])
    order = np.random.default_rng(0).permutation(40)
    asked = scores(codes_of(30, 0), targets, order, SCHEME)
    np.testing.assert_array_equal(asked, scores(codes_of(30, 0), targets, np.arange(40), SCHEME)[order])


def test_a_protein_of_which_no_residue_was_seen_scores_nothing() -> None:
    targets = stacked([codes_of(4, 0), codes_of(0, 1)])
    assert scores(codes_of(0, 2), targets, np.arange(2), SCHEME).tolist() == [0, 0]
    assert scores(codes_of(3, 2), targets, np.array([1]), SCHEME).tolist() == [0]


def test_products_in_float_are_those_in_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    query = codes_of(33, 0, components=128)
    targets = stacked([codes_of(40, number, components=128) for number in range(3)])
    answers = []
    for exact in (True, False):
        monkeypatch.setattr(scoring, "multiplies_int8_exactly", lambda exact=exact: exact)
        answers.append(scores(query, targets, np.arange(3), SCHEME))
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("cells", [1, 3000, 1 << 28])
def test_many_pairs_at_once_score_as_each_does_alone(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmcls.heads.alignment.residues.batched.CELLS", cells)
    queries = [codes_of(length, length) for length in (1, 30, 0, 17)]
    targets = stacked([codes_of(5 + 3 * number, 50 + number) for number in range(20)] + [codes_of(0, 1)])
    rows = np.stack([np.random.default_rng(row).permutation(21)[:9] for row in range(4)])
    together = batched_scores(queries, targets, rows, SCHEME, "cpu")
    alone = [scores(query, targets, picked, SCHEME) for query, picked in zip(queries, rows, strict=True)]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-4, atol=1e-4)


def test_an_alignment_names_its_pairs_and_their_gains_add_up_to_the_score() -> None:
    query = codes_of(20, 0)
    target = np.concatenate([codes_of(4, 1), query[2:9], codes_of(2, 2), query[9:18], codes_of(3, 3)])
    found = align(query, target, SCHEME)
    pairs = list(zip(found.query.tolist(), found.target.tolist(), strict=True))
    assert {(i, i + 2) for i in range(2, 9)} | {(i, i + 4) for i in range(9, 18)} <= set(pairs)
    steps = np.diff(pairs, axis=0) - 1
    gaps = steps[steps > 0]
    cost = (SCHEME.opening + (gaps - 1) * SCHEME.extension).sum()
    assert found.score == pytest.approx(float(found.gains.sum() - cost), rel=1e-5)
    one = stacked([target])
    assert found.score == pytest.approx(scores(query, one, np.array([0]), SCHEME)[0], rel=1e-5)


# residues, reduced


def test_reduced_residues_are_white_and_the_same_at_every_fit() -> None:
    residues = np.random.default_rng(0).normal(size=(500, 6)) @ np.random.default_rng(1).normal(size=(6, 6))
    reduction = Reduction.of(residues.astype(np.float32), 4)
    reduced = (residues - reduction.mean) @ reduction.matrix
    np.testing.assert_allclose(reduced.T @ reduced / 500, np.eye(4), atol=1e-3)
    again = Reduction.of(residues.astype(np.float32), 4)
    np.testing.assert_array_equal(reduction.matrix, again.matrix)


def test_a_component_without_spread_is_left_at_nothing() -> None:
    residues = np.zeros((10, 3), dtype=np.float32)
    residues[:, 0] = np.arange(10)
    codes = Reduction.of(residues, 3).codes(residues)
    assert np.abs(codes).max(0).tolist() == [127, 0, 0]
    assert not Reduction.of(np.ones((4, 3), dtype=np.float32), 3).codes(np.ones((4, 3), dtype=np.float32)).any()


def test_residues_are_read_back_as_they_were_saved(tmp_path: Path) -> None:
    residues = stacked([codes_of(length, length) for length in (3, 0, 7)])
    chosen = Residues(residues.codes, residues.starts[[2, 0]], residues.lengths[[2, 0]])
    chosen.save(tmp_path)
    again = Residues.load(tmp_path, chosen.lengths, 6)
    for row in range(2):
        np.testing.assert_array_equal(again.of(row), chosen.of(row))


def test_more_residues_than_fit_into_memory_are_aligned_with(tmp_path: Path) -> None:
    """Of a sparse file, which takes no room."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lengths = np.array([4 * memory // 6, 9], dtype=np.int64)
    written = np.lib.format.open_memmap(tmp_path / CODES, "w+", np.int8, (int(lengths.sum()), 6))
    written[-9:] = codes_of(9, 1)
    residues = Residues.load(tmp_path, lengths, 6)
    alone = scores(codes_of(5, 2), stacked([codes_of(9, 1)]), np.array([0]), SCHEME)
    assert scores(codes_of(5, 2), residues, np.array([1]), SCHEME) == alone
    assert align(codes_of(5, 2), residues.of(1), SCHEME).score == pytest.approx(float(alone[0]), rel=1e-5)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "is damaged"),
        (lambda path: path.write_bytes(b"\x93NUMPY"), "is damaged"),
        (lambda path: np.save(path, np.zeros((10, 5), dtype=np.int8)), r"holds int8 \(10, 5\), not int8 \(10, 6\)"),
        (lambda path: np.save(path, np.zeros((10, 6))), r"holds float64 \(10, 6\)"),
        (lambda path: np.save(path, np.array([{}]), allow_pickle=True), "is damaged"),
    ],
)
def test_a_damaged_file_of_residues_is_an_error_that_names_it(tmp_path: Path, damage: Any, problem: str) -> None:
    residues = stacked([codes_of(3, 0), codes_of(7, 1)])
    residues.save(tmp_path)
    damage(tmp_path / CODES)
    with pytest.raises(ModelError, match=f"{CODES}.*{problem}"):
        Residues.load(tmp_path, residues.lengths, 6)


def test_a_pool_reads_each_distinct_sequence_once() -> None:
    encoder = LetterEncoder()
    x = embedded(["ACDE", "WW", "ACDE"], encoder)
    pool = ResiduePool(Reduction.of(encoder.residues("ACDEW"), 4))
    pool.add(pool.missing(x.sequences), map(encoder.residues, ("ACDE", "WW")))
    assert pool.missing(x.sequences) == []
    assert pool.of(x.sequences).lengths.tolist() == [4, 2, 4]
    assert pool.of(["WW"]).of(0).tolist() == pool.reduction.codes(encoder.residues("WW")).tolist()


def test_features_read_residues_from_the_cache_or_have_them_made(tmp_path: Path) -> None:
    encoder = LetterEncoder()
    texts = ["ACDEF", "WWYV", "KLMN"]
    answers = []
    for ragged in ((), ("residue",)):
        spec = EmbeddingSpec.of(encoder, "float32", ("mean", *ragged))
        with EmbeddingCache.open(tmp_path / str(len(ragged)), spec) as cache:
            cache.append(texts, encoder.encode(texts, keep="residue"))
        cache = EmbeddingCache.open(tmp_path / str(len(ragged)))
        x = Features.from_cache(cache, Dataset(["a", "b", "c"], texts, ["x"] * 3, ["train"] * 3))
        x.store.opened = encoder  # type: ignore[attr-defined]
        answers.append([vectors.tolist() for vectors in x.take([2, 0]).residues()])
    assert answers[0] == answers[1] == [encoder.residues(one).tolist() for one in ("KLMN", "ACDEF")]


def test_features_read_residues_from_the_cache_beside_that_keeps_them(tmp_path: Path) -> None:
    encoder = LetterEncoder()
    texts = ["ACDEF", "WWYV", "KLMN"]
    for poolings, kept in ((("mean",), texts), (("mean", "residue"), texts[:2])):
        spec = EmbeddingSpec.of(encoder, "float32", poolings)
        with EmbeddingCache.open(tmp_path / spec.key(), spec) as cache:
            cache.append(kept, encoder.encode(kept, keep="residue"))
    before = encoder.encoded
    cache = EmbeddingCache.open(tmp_path / EmbeddingSpec.of(encoder, "float32").key())
    x = Features.from_cache(cache, Dataset(["a", "b", "c"], texts, ["x"] * 3, ["train"] * 3))
    x.store.opened = encoder  # type: ignore[attr-defined]
    read = [vectors.tolist() for vectors in x.take([1, 0]).residues()]
    assert (read, encoder.encoded) == ([encoder.residues(one).tolist() for one in ("WWYV", "ACDEF")], before)
    assert len(list(x.residues())) == 3  # one of them is not there
    assert encoder.encoded == before + 3


def test_vectors_alone_have_no_residues() -> None:
    with pytest.raises(CacheError, match="vectors alone, without the encoder"):
        Features.from_arrays(np.eye(2, dtype=np.float32), ["AC", "DE"]).residues()


def test_another_encoder_of_the_same_name_makes_no_residues(tmp_path: Path) -> None:
    spec = replace(EmbeddingSpec.of(LetterEncoder(), "float32"), encoder="composition", long="full", layers=())
    with EmbeddingCache.open(tmp_path / "cache", spec) as cache:
        cache.append(["ACDEF"], LetterEncoder().encode(["ACDEF"]))
    cache = EmbeddingCache.open(tmp_path / "cache")
    x = Features.from_cache(cache, Dataset(["a"], ["ACDEF"], ["x"], ["train"]))
    with pytest.raises(EncoderMismatchError):
        next(x.residues())


# E-values


def test_evalues_of_decoys_are_what_they_say() -> None:
    """Drawn from a distribution, of which 300 are fitted: of others so many are below each E-value as it says."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(40, 400, size=4300)
    best = gumbel_r.rvs(1.6 - 0.1 * np.log(lengths), 0.12, random_state=generator)
    fitted = Significance.of(best[:300], lengths[:300])
    evalues = fitted.evalues(best[300:], lengths[300:])
    for level in (0.01, 0.1):
        assert (evalues < level).mean() == pytest.approx(-np.expm1(-level), rel=0.4)


def test_decoys_that_all_score_the_same_are_no_error() -> None:
    few, many = Significance.of(np.full(5, 0.7), np.full(5, 30)).evalues(np.array([0.8, 0.6]), np.array([30, 30]))
    assert few < 1e-30
    assert 1e30 < many < np.inf


def test_shuffled_proteins_are_as_significant_as_chance_lets_them() -> None:
    x = embedded(relatives(np.arange(60) % 6, 0))
    head = AlignHead(AlignConfig(candidates=30)).fit(x, Labels.from_names([f"c{row % 6}" for row in range(60)]))
    generator = np.random.default_rng(99)
    shuffled = ["".join(generator.permutation(list(generator.choice(x.sequences)))) for _ in range(400)]
    evalues, _ = head.nearest(embedded(shuffled))
    assert (evalues < 0.01).mean() <= 0.03
    assert 0.04 <= (evalues < 0.1).mean() <= 0.17
    assert (head.nearest(embedded(relatives(np.arange(30) % 6, 1)))[0] < 1e-3).mean() > 0.9


# the heads


def twins(n: int, seed: int) -> tuple[Features, Labels]:
    """Two families of one composition: the order of their residues alone tells them apart."""
    generator = np.random.default_rng(0)
    first = generator.choice(RESIDUES, 60)
    ancestors = [first, generator.permutation(first)]
    generator = np.random.default_rng(seed)
    texts = []
    for row in range(n):
        swapped = ancestors[row % 2].copy()
        for i, j in generator.integers(0, 60, size=(8, 2)):  # swaps keep the composition
            swapped[[i, j]] = swapped[[j, i]]
        texts.append("".join(swapped))
    return embedded(texts), Labels.from_names([f"family {row % 2}" for row in range(n)])


def test_families_of_one_composition_are_told_apart_by_the_order_of_residues() -> None:
    x, labels = twins(60, 1)
    test, truth = twins(40, 2)
    aligned = AlignHead().fit(x, labels).top_k(test, 1)[0][:, 0]
    by_means = KNNHead().fit(x, labels).top_k(test, 1)[0][:, 0]
    assert (aligned == truth.codes).mean() == 1
    assert (by_means == truth.codes).mean() < 0.9


def test_the_nearest_protein_is_the_one_that_aligns_best() -> None:
    x, labels = twins(20, 1)
    head = AlignHead().fit(x, labels)
    evalues, ids = head.nearest(x.take([3, 8]))
    assert ids == ["3", "8"]
    assert (evalues < 1e-3).all()
    [[segment, *_]] = head.segments(x.take([3]))
    assert (segment.nearest_id, segment.cigar, segment.identical) == ("3", "60M", 60)
    assert (segment.query_start, segment.query_end, segment.query_coverage) == (1, 60, 1)


def test_a_training_protein_that_aligns_well_with_unrelated_ones_counts_for_less() -> None:
    nearness, rows = np.array([[0.9, 0.5, 0.4], [0.8, 0.6, 0.4]]), np.array([[0, 1, 2], [0, 1, 2]])
    background, own = background_of(nearness, rows, codes=np.array([0, 1, 2]), truth=np.array([1, 2]))
    mean = (0.9 + 0.4 + 0.8 + 0.6) / 4
    above = [0.9 + 0.8 - 2 * mean, 0.6 - mean, 0.4 - mean]
    np.testing.assert_allclose(background, np.array(above) / (PRIOR + np.array([2, 1, 1])), rtol=1e-6)
    np.testing.assert_allclose(
        own[0], [(0.8 - mean) / (PRIOR + 1), (0.6 - mean) / (PRIOR + 1), 0], rtol=1e-6, atol=1e-9
    )
    x, labels = twins(20, 1)
    head = AlignHead(AlignConfig(k=1)).fit(x, labels)
    assert head.top_k(x.take([3]), 1)[0].tolist() == [[1]]
    head.background[labels.codes == 1] = 100
    assert head.top_k(x.take([3]), 1)[0].tolist() == [[0]]


def test_what_was_learned_of_training_proteins_is_kept_when_more_are_fitted(tmp_path: Path) -> None:
    x, labels = twins(40, 1)
    head = AlignHead().fit(
        x.take(slice(30)), labels.take(slice(30)), (x.take(slice(30, 40)), labels.take(slice(30, 40)))
    )
    before = head.background
    assert before.any()
    head.refit(x, labels)
    np.testing.assert_array_equal(head.background, [*before, *[0] * 10])
    head.save(tmp_path)
    save_file({"background": before}, tmp_path / "background.safetensors")
    with pytest.raises(ModelError, match=r"background.safetensors: "):
        AlignHead.load(tmp_path, head.chosen, head.classes)


def test_segments_say_where_both_proteins_align_and_do_not_overlap() -> None:
    x, labels = twins(40, 1)
    linker = "".join(np.random.default_rng(8).choice(RESIDUES, 30))
    chain = x.sequences[0] + linker + x.sequences[1][:40]
    head = AlignHead(AlignConfig(offset=1.5)).fit(x, labels)
    for answers in (head, reloaded(head)):
        [segments] = answers.segments(embedded([chain]))
        assert len(segments) >= 2
        first, second = sorted(segments[:2], key=lambda segment: segment.query_start)
        assert first.query_end <= 66
        assert second.query_start >= 84
        assert {first.nearest_id, second.nearest_id} == {"0", "1"}
        assert second.target_coverage < 0.75 < first.target_coverage
        assert first.query_coverage == pytest.approx(60 / 130)
        assert len(first.carried_by.split(",")) == 10
        assert all(chain[int(name[1:]) - 1] == name[0] for name in first.carried_by.split(","))


def reloaded(head: AlignHead) -> AlignHead:
    with tempfile.TemporaryDirectory() as folder:
        head.save(Path(folder))
        return AlignHead.load(Path(folder), head.chosen, head.classes)


def test_residues_that_were_not_seen_are_counted_where_they_lie() -> None:
    spec = EmbeddingSpec("letters", "1e77e5", (0,), "ends:4", "fp32", "float32", ("mean",), 8)
    assert positions_seen(spec, 9, 4).tolist() == [0, 1, 7, 8]
    assert positions_seen(spec, 4, 4).tolist() == positions_seen(None, 9, 4).tolist() == [0, 1, 2, 3]


def test_terms_are_carried_over_from_the_proteins_that_align() -> None:
    x, labels = twins(60, 1)
    test, truth = twins(20, 2)
    head = TermAlignHead().fit(x, LabelSets.from_names([[name] for name in ("a", "b") * 30]))
    assert (head.predict_proba(test).argmax(1) == truth.codes).all()
    assert head.related(test).all()
    assert len(labels) == 60


def test_for_terms_no_more_than_200_candidates_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmcls.heads.alignment.residues.aligner.CANDIDATES", (10, 20, 201))
    monkeypatch.setattr("esmcls.heads.alignment.residues.aligner.DECOYS", 8)
    x, _ = twins(250, 1)
    told: list[dict[str, float]] = []
    TermAlignHead().fit(x, LabelSets.from_names([["a"], ["b"]] * 125), log=told.append)
    assert [trial["candidates"] for trial in told if "candidates" in trial] == [10, 20]


@pytest.mark.parametrize(("trifle", "chosen"), [(0.0, 200), (0.06, 100), (0.7, 50)])
def test_the_first_value_within_a_trifle_of_the_best_is_taken(trifle: float, chosen: int) -> None:
    right = {50: 7, 100: 19, 200: 20}
    truth = LabelSets.from_names([["a"]] * 20, ("a", "b"), ("F", "F"))

    def blocks(config: TermAlignConfig) -> Iterator[Any]:
        said = np.arange(20) < right[config.candidates or 0]
        yield slice(0, 20), np.stack([said, ~said], 1).astype(np.float32)

    choice = Choice(TermAlignConfig(candidates=1), truth, blocks)
    choice.fewest(trifle, candidates=(50, 100, 200))
    assert choice.best.candidates == chosen
    assert choice.fmax == pytest.approx(right[chosen] / 20)


def test_heads_that_are_fitted_again_read_no_residue_twice() -> None:
    encoder = LetterEncoder()
    x = embedded(twins(40, 1)[0].sequences, encoder)
    labels = Labels.from_names([f"family {row % 2}" for row in range(40)])
    head = AlignHead().fit(
        x.take(slice(30)), labels.take(slice(30)), (x.take(slice(30, 40)), labels.take(slice(30, 40)))
    )
    read = encoder.kept
    head.refit(x, labels)
    head.refit(x.take(slice(20)), labels.take(slice(20)))
    assert encoder.kept == read


def test_a_device_finds_the_same_nearness(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = twins(30, 1)
    head = AlignHead().fit(x, labels)
    expected = head.finder.aligned(x)[0]
    head.finder._searched.clear()
    asked: list[str] = []

    def on_cpu(*arguments: Any) -> Any:
        asked.append(arguments[-1])
        return batched_scores(*arguments[:-1], "cpu")

    monkeypatch.setattr("esmcls.heads.alignment.residues.finder.batched_scores", on_cpu)
    head.finder.nearest_means.__dict__["device"] = "cuda"
    vectors = "esmcls.heads.alignment.residues.finder.Finder.whole"
    rows = head.finder.residues.lengths * 0 + np.arange(30)
    monkeypatch.setattr(vectors, lambda finder, given, k: (None, np.tile(rows[:k], (len(given), 1))))
    by_row = head.finder.aligned(x)[0]
    assert asked == ["cuda"]
    np.testing.assert_allclose(np.sort(by_row), np.sort(expected), rtol=1e-4)


def test_more_candidates_are_taken_only_for_a_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmcls.heads.alignment.residues.aligner.CANDIDATES", (10, 20))
    x, labels = twins(60, 1)
    assert AlignHead(AlignConfig(candidates=7)).fit(x, labels).chosen.candidates == 7
    assert AlignHead().fit(x, labels).chosen.candidates == 10


def test_where_there_are_few_training_proteins_all_of_them_are_aligned() -> None:
    x, labels = twins(60, 1)
    head = AlignHead().fit(x, labels)
    assert head.finder(x)[1].shape == (60, 60)
    assert TermAlignHead().fit(x, LabelSets.from_names([["a"], ["b"]] * 30)).finder(x)[1].shape == (60, 60)


def test_a_fit_says_how_long_it_takes_before_it_embeds_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmcls.heads.alignment.residues.aligner.SAMPLED_RESIDUES", 100)
    encoder = LetterEncoder()
    x = embedded(twins(40, 1)[0].sequences, encoder)
    labels = Labels.from_names([f"family {row % 2}" for row in range(40)])
    told = list[tuple[int, dict[str, float]]]()
    AlignHead().fit(x, labels, log=lambda entry: told.append((encoder.kept, entry)))
    [(read, entry)] = [said for said in told if "estimated_seconds" in said[1]]
    assert read == 2
    assert entry["estimated_seconds"] > 0


def test_the_time_of_a_fit_grows_with_residues_and_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmcls.heads.alignment.residues.aligner.DECOYS", 0)
    monkeypatch.setattr("esmcls.heads.alignment.residues.aligner.CELLS_A_SECOND", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    x = embedded(["M" * 20, "K" * 40], LetterEncoder())
    held = embedded(["V" * 5], LetterEncoder())
    assert seconds_of_fit(AlignConfig(), 0.5, x, None) == 0.5 * 60
    assert seconds_of_fit(AlignConfig(), 0.5, x, held) == 0.5 * 65 + 5 * 2 * 30 / 1000
    assert seconds_of_fit(AlignConfig(candidates=1), 0.5, x, held) == 0.5 * 65 + 5 * 1 * 30 / 1000


def test_the_reduction_is_fitted_on_whole_proteins_up_to_a_number_of_residues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmcls.heads.alignment.residues.aligner.SAMPLED_RESIDUES", 100)
    encoder = LetterEncoder()
    x = embedded(twins(40, 1)[0].sequences, encoder)
    Aligner(AlignConfig(), x, seed=0)
    assert encoder.kept == 2


# commands


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace on an encoder of random weights, with an align and a knn model."""
    folder = tmp_path_factory.mktemp("aligned")
    encoder = write_encoder(folder / "tiny.safetensors")
    done("embed", write_set(folder / "set.csv"), "-w", folder / "w", "--encoder", encoder, "--quiet")
    assert "esmcls: align: about " in done("fit", "--head", "align", "-w", folder / "w").err
    done("fit", "--head", "knn", "-w", folder / "w", "--quiet")
    return folder


def test_a_dry_run_says_what_residues_take_in_a_model(place: Path) -> None:
    def planned(*options: object) -> list[str]:
        return done("embed", place / "set.csv", "--dry-run", "-q", *options).out.splitlines()

    read = int(planned("--encoder", "composition", "-w", place / "none")[1].split(" residues")[0].replace(",", ""))
    line = f"a model of the head align keeps {ResidueConfig.components} bytes a residue: "
    nbytes = f"{read * ResidueConfig.components / 1e3:.1f} kB of all these"
    assert line + nbytes in planned("--encoder", place / "tiny.safetensors", "-w", place / "none")
    assert not [text for text in planned("--encoder", "composition", "-w", place / "none") if "align" in text]
    assert len(planned("--encoder", place / "tiny.safetensors", "-w", place / "w")) == 3


def test_vectors_are_taken_from_the_cache_that_keeps_those_of_residues_too(place: Path, tmp_path: Path) -> None:
    options = ("-w", tmp_path / "w", "--encoder", place / "tiny.safetensors")
    whole = done("embed", place / "set.csv", "--residues", *options).out
    again = done("embed", place / "set.csv", *options).out
    assert (" 0 embedded" in whole, " 0 embedded" in again) == (False, True)
    assert [entry.spec.ragged for entry in Workspace.open(tmp_path / "w").caches] == [("residue",), ()]


def test_predict_writes_how_each_sequence_aligns(place: Path, tmp_path: Path) -> None:
    fasta, table = tmp_path / "new.fasta", tmp_path / "segments.tsv"
    fasta.write_text(f">one\n{sequences(1)[0]}\n>two\n{sequences(8)[7]}\n>again\n{sequences(1)[0]}\n", encoding="utf-8")
    answers = done("predict", fasta, "-w", place / "w", "--model", "align", "--alignments", table).out
    [header, *lines] = table.read_text(encoding="utf-8").splitlines()
    assert header.split("\t")[:4] == ["id", "nearest_id", "evalue", "score"]
    rows = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    best = {row["id"]: row for row in reversed(rows)}
    assert list(dict.fromkeys(row["id"] for row in rows)) == ["one", "two", "again"]
    assert best["one"]["nearest_id"] == best["again"]["nearest_id"] == "p0"
    assert best["one"]["identical"] == best["one"]["aligned"] == str(len(sequences(1)[0]))
    told = [dict(zip(*pair, strict=True)) for pair in _pairs(answers)]
    assert [row["nearest_id"] for row in told] == [best[row["id"]]["nearest_id"] for row in told]


def _pairs(answers: str) -> list[tuple[list[str], list[str]]]:
    [header, *lines] = [line.split("\t") for line in answers.splitlines()]
    return [(header, line) for line in lines]


def test_a_model_that_aligns_nothing_has_no_alignments_and_no_file_is_left(place: Path, tmp_path: Path) -> None:
    table = tmp_path / "segments.tsv"
    ran = run("predict", place / "set.csv", "-w", place / "w", "--model", "knn", "--alignments", table)
    assert ran.code == 2
    assert "error: model knn aligns nothing (head knn); --alignments is for the head align" in ran.err
    assert not list(tmp_path.iterdir())


def test_a_comparison_on_vectors_that_are_not_of_residues_says_that_it_leaves_align_out(tmp_path: Path) -> None:
    done("embed", write_set(tmp_path / "set.csv"), "-w", tmp_path / "w", "--encoder", "composition", "--quiet")
    workspace = Workspace.open(tmp_path / "w")
    said: list[str] = []
    plans, not_run = plan_models(ComparisonPlan(), task_of(workspace), workspace.caches, None, said.append)
    assert "align: left out, since composition vectors are not made of those of residues" in said
    assert "profile: left out, since it takes long; name it in --heads" in said
    assert not {"align", "profile"} & {plan.head for plan in plans}
    assert not not_run
    named = plan_models(ComparisonPlan(heads=("align",)), task_of(workspace), workspace.caches, None, said.append)
    assert "align" in [plan.head for plan in named[0]]  # who names it is told why it cannot be fitted


def test_new_sequences_are_embedded_once_for_both_vectors(place: Path) -> None:
    model = esmcls.load_model(place / "w" / "models" / "align")
    encoder = Counting(model.encoder)
    counted = replace(model, source=encoder)
    assert counted.predict(sequences(5)) == model.predict(sequences(5))
    assert encoder.sequences == 5


class Counting:
    """An encoder that counts what it is given."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        self.sequences = 0

    def encode(self, sequences: Any, *options: Any) -> Any:
        self.sequences += len(sequences)
        return self.encoder.encode(sequences, *options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)
