"""The homology head for many labels: bits by hand, the prior without a hit, one search for all blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from relatives import ancestors, relatives

from esmcls.cache.features import Features
from esmcls.errors import EngineMismatchError, UsageError
from esmcls.heads import blocks
from esmcls.heads.alignment import term_homology as homology
from esmcls.heads.alignment.search import Hits
from esmcls.heads.alignment.term_homology import TermHomologyConfig, TermHomologyHead
from esmcls.heads.neighbours.term_votes import Known
from esmcls.labels.labels import LabelSets

pytest.importorskip("pyhmmer", reason="pyhmmer is not installed")

LABELS = LabelSets.from_names([["a"], ["a", "b"], ["b"], ["c"]])


def bare(sequences: list[str]) -> Features:
    return Features.from_arrays(np.zeros((len(sequences), 0), dtype=np.float32), sequences)


def carried(rows: list[list[int]], bits: list[list[float]], **knobs: Any) -> Any:
    hits = Hits(np.array(rows), np.zeros(np.shape(rows)), np.array(bits))
    carried_blocks = homology._carried(Known(LABELS), TermHomologyConfig(**knobs), hits)
    return np.concatenate([block for _, block in carried_blocks])


def test_a_term_has_the_share_of_bits_of_the_hits_that_have_it() -> None:
    found = carried([[0, 1, 2]], [[60.0, 30.0, 10.0]], k=3, power=1.0, background=0.0)
    np.testing.assert_allclose(found, [[0.9, 0.4, 0.0]], rtol=1e-6)


def test_only_the_best_k_hits_count_and_a_power_favours_the_strong() -> None:
    found = carried([[0, 1, 2]], [[60.0, 30.0, 10.0]], k=2, power=2.0, background=0.0)
    np.testing.assert_allclose(found, [[1.0, 900 / 4500, 0.0]], rtol=1e-6)


def test_the_background_is_one_hit_more_that_has_each_term_by_its_share() -> None:
    found = carried([[0, -1]], [[60.0, 0.0]], k=2, power=1.0, background=20.0)
    np.testing.assert_allclose(found, [[(60 + 20 / 2) / 80, 20 / 2 / 80, 20 / 4 / 80]], rtol=1e-6)


@pytest.mark.parametrize("background", [0.0, 20.0])
def test_without_a_hit_there_are_the_shares_alone(background: float) -> None:
    found = carried([[-1, -1]], [[0.0, 0.0]], k=2, power=1.0, background=background)
    np.testing.assert_allclose(found, [[0.5, 0.5, 0.25]])


def test_an_equal_training_sequence_is_a_hit_like_any_other() -> None:
    sequences = ancestors(2)
    labels = LabelSets.from_names([["a"], ["b"]])
    config = TermHomologyConfig(engine="phmmer", k=1, power=1.0, background=0.0)
    found = TermHomologyHead(config).refit(bare(sequences), labels).predict_proba(bare(sequences))
    assert found.tolist() == [[1, 0], [0, 1]]


def test_a_relative_is_a_hit_with_an_evalue_of_a_thousandth_or_less(monkeypatch: pytest.MonkeyPatch) -> None:
    head = TermHomologyHead(TermHomologyConfig(engine="phmmer", k=1)).refit(bare(ancestors(2)), LABELS.take([0, 1]))
    assert head.related(bare([*ancestors(2), "MKVLWYCF"])).tolist() == [True, True, False]
    evalues = np.array([[1e-3], [1.1e-3], [np.inf]])
    monkeypatch.setattr(head.finder, "hits", lambda x, best: Hits(np.zeros((3, 1), int), evalues, np.ones((3, 1))))
    assert head.related(bare(["MA"] * 3)).tolist() == [True, False, False]


def test_all_blocks_are_of_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "TERM_ROWS", 2)
    kinds = [0, 1, 2] * 4
    labels = LabelSets.from_names([["abc"[kind]] for kind in kinds])
    head = TermHomologyHead().refit(bare(relatives(kinds, 1)), labels)
    searches, found = [], head.finder._open().search
    monkeypatch.setattr(head.finder._open(), "search", lambda *given: (searches.append(1), found(*given))[1])
    x = bare(relatives([0, 1, 2, 0, 1], 2))
    assert head.top_k(x, 1)[0][:, 0].tolist() == [0, 1, 2, 0, 1]
    assert len(list(head.blocks(x))) == 3
    assert len(searches) == 1


def test_another_version_of_the_engine_is_refused(tmp_path: Path) -> None:
    head = TermHomologyHead().refit(bare(ancestors(2)), LabelSets.from_names([["a"], ["b"]]))
    head.save(tmp_path)
    config = TermHomologyConfig(engine="phmmer", version="0.0", k=1, power=1.0, background=1.0)
    other = TermHomologyHead.load(tmp_path, config, head.classes, head.groups)
    with pytest.raises(EngineMismatchError, match=r"phmmer 0\.0"):
        other.predict_proba(bare(ancestors(1)))


def test_vectors_without_sequences_are_an_error() -> None:
    with pytest.raises(UsageError, match="2 of 2 rows are vectors without a sequence"):
        TermHomologyHead().refit(Features.from_arrays(np.zeros((2, 3), dtype=np.float32)), LABELS.take([0, 1]))


@pytest.mark.parametrize(
    ("knob", "value"), [("k", 0), ("power", -1), ("background", -1), ("max_hits", 0), ("evalue", 0)]
)
def test_a_knob_out_of_its_range_is_named(knob: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"^setting {knob}: {value} is not "):
        TermHomologyConfig(**{knob: value})
