"""Average precision is scikit-learn's, however scores are stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from test_term_metrics import in_blocks, random_case

from esmcls.labels.labels import LabelSets
from esmcls.metrics import average_precision as term_ranking
from esmcls.metrics.average_precision import AveragePrecision, ScoreStore, average_precisions


def cells_of(labels: LabelSets) -> LabelSets:
    """Part each group in three."""
    return replace(labels, groups=tuple(f"{group} {place % 3}" for place, group in enumerate(labels.groups)))


def expected(labels: LabelSets, scores: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> AveragePrecision:
    """Return what scikit-learn says of some terms, over some proteins."""
    truth, scores = labels.dense()[np.ix_(rows, columns)], scores[np.ix_(rows, columns)]
    there = truth.any(axis=0)
    macro = [average_precision_score(truth[:, i], scores[:, i]) for i in np.flatnonzero(there)]
    return AveragePrecision(average_precision_score(truth.ravel(), scores.ravel()), np.mean(macro), there.sum())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("columns", [1, 3, 512])
def test_each_group_and_each_cell_has_the_average_precision_of_scikit_learn(
    seed: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(term_ranking, "_COLUMNS", columns)
    labels, scores, _ = random_case(seed)  # on a grid of .01, so that many scores are equal
    cells = cells_of(labels)
    with ScoreStore(cells, in_blocks(scores)) as store:
        found, parts = average_precisions(labels, cells, store)
    groups, names = np.array(labels.groups), np.array(cells.groups)
    assert list(found) == ["C", "F", "P"]
    for group, value in found.items():
        measured = labels.dense()[:, groups == group].any(axis=1)
        assert vars(value) == pytest.approx(vars(expected(labels, scores, groups == group, measured)))
        for cell in sorted({name for name in cells.groups if name.startswith(group)}):
            there = labels.dense()[:, names == cell].any()
            assert (cell in parts) == there
            if there:
                assert vars(parts[cell]) == pytest.approx(vars(expected(labels, scores, names == cell, measured)))


def test_three_proteins_have_the_average_precision_worked_out_by_hand() -> None:
    # term a: .9* .8 .1*   at .9 1 of 1, at .1 2 of 3: (1 + 2/3) / 2 = 5/6
    # term b: .7  .7* .2   at .7 1 of 2: 1/2
    # all:    .9* is 1 of 1; .7* 2 of 4 (.9 .8 .7 .7); .1* 3 of 6: (1 + 1/2 + 1/2) / 3 = 2/3
    labels = LabelSets.from_names([["a"], ["b"], ["a"]])
    scores = np.array([[0.9, 0.7], [0.8, 0.7], [0.1, 0.2]])
    with ScoreStore(labels, [(slice(0, 3), scores)]) as store:
        [found] = average_precisions(labels, labels, store)[0].values()
    assert vars(found) == pytest.approx({"micro": 2 / 3, "macro": (5 / 6 + 1 / 2) / 2, "terms": 2})


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("in_memory", [1, 2**20])
def test_a_store_gives_back_what_it_was_given_from_memory_and_from_disk(
    kind: type, in_memory: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(term_ranking, "_IN_MEMORY", in_memory)
    monkeypatch.setattr(term_ranking, "_COLUMNS", 5)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    labels, scores, _ = random_case(1)
    scores = scores.astype(kind)
    with ScoreStore(labels, in_blocks(scores, 4)) as store:
        for _ in range(2):
            back = np.concatenate([block for _, block in store])
            assert back.dtype == kind
            assert np.array_equal(back, scores)
        for part, codes in enumerate(store.parts):
            assert np.array_equal(store.columns(part), scores[:, codes])
            assert len({labels.groups[code] for code in codes}) == 1
        rows = np.repeat(np.arange(len(labels)), labels.sizes())
        assert np.array_equal(store.positives, scores[rows, labels.codes])
    assert not list(tmp_path.iterdir())


def test_blocks_may_come_in_any_order() -> None:
    labels, scores, _ = random_case(2)
    blocks = [(slice(20, 30), scores[20:]), (slice(0, 20), scores[:20])]
    with ScoreStore(labels, blocks) as one, ScoreStore(labels, in_blocks(scores)) as other:
        assert average_precisions(labels, labels, one) == average_precisions(labels, labels, other)


def test_a_class_beyond_the_columns_has_the_precision_of_chance() -> None:
    labels = LabelSets.from_names([["a"], ["a", "z"], ["a"], ["a"]], ["a", "z"], "CF")
    cells = labels
    with ScoreStore(cells, [(slice(0, 4), np.full((4, 1), 0.5))]) as store:
        found, _ = average_precisions(labels, cells, store)
    assert found["F"] == AveragePrecision(1.0, 1.0, 1)  # one protein is measured in F, and has it
    assert found["C"].terms == 1
