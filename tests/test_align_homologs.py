"""The align heads with homologs: hits of a sequence search are aligned, too, and the engine is part of the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import done, run
from hypothesis import given
from hypothesis import strategies as st
from letter_encoder import proteins
from relatives import relatives
from scripted_engine import Scripted
from tiny import write_encoder, write_set

from esmcls.cache.features import Features
from esmcls.errors import EngineError, EngineMismatchError, MissingExtraError, UsageError
from esmcls.evaluation.plan import ComparisonPlan, ensembles_of, plan_models
from esmcls.heads.alignment import finder as sequence_finder
from esmcls.heads.alignment import search
from esmcls.heads.alignment.align import AlignConfig, AlignHead
from esmcls.heads.alignment.residues.aligner import DECOYS
from esmcls.heads.alignment.residues.candidates import union
from esmcls.heads.alignment.term_align import TermAlignConfig, TermAlignHead
from esmcls.labels.labels import Labels, LabelSets
from esmcls.tasks.kinds import task_of
from esmcls.workspace.workspace import Workspace

FAMILY = [row % 2 for row in range(20)]
TRAIN = relatives(FAMILY, seed=1)
QUERY = relatives([0], seed=2)[0]
KNOBS: dict[str, Any] = {"candidates": 3, "k": 1}


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Put an engine where engines are found, which finds the first two of family 0 for the query, best the second."""
    engine = Scripted({QUERY: {TRAIN[0]: 40.0, TRAIN[2]: 50.0}})
    monkeypatch.setattr(sequence_finder, "open_engine", lambda name: engine)
    monkeypatch.setattr(sequence_finder, "installed", lambda name: engine)
    return engine


def rows(sequences: list[str], families: list[int]) -> Features:
    """Return proteins of a family's sequences, with mean vectors near those of the families that are named."""
    centres = np.repeat(np.eye(2, dtype=np.float32), 4, axis=1)
    noise = np.random.default_rng(len(sequences)).normal(size=(len(sequences), 8)) * 0.01
    return proteins((centres[families] + noise).astype(np.float32), sequences)


X = rows(TRAIN, FAMILY)
LABELS = Labels.from_names(["a", "b"] * 10)
ASKED = rows([QUERY], [1])
"""A relative of family a whose mean vector is among those of family b."""


def test_a_near_sequence_whose_mean_vector_is_far_gives_its_class(scripted: Scripted) -> None:
    without = AlignHead(AlignConfig(**KNOBS)).refit(X, LABELS)
    aligned = AlignHead(AlignConfig(homologs=2, **KNOBS)).refit(X, LABELS)
    assert (without.top_k(ASKED, 1)[0].tolist(), aligned.top_k(ASKED, 1)[0].tolist()) == ([[1]], [[0]])
    assert aligned.nearest(ASKED)[1][0] in ("0", "2")
    assert aligned.segments(ASKED)[0][0].nearest_id in ("0", "2")


def test_a_near_sequence_whose_mean_vector_is_far_gives_its_terms(scripted: Scripted) -> None:
    labels = LabelSets.from_names([["a"], ["b"]] * 10)
    without = TermAlignHead(TermAlignConfig(**KNOBS)).refit(X, labels)
    aligned = TermAlignHead(TermAlignConfig(homologs=2, **KNOBS)).refit(X, labels)
    probable = [head.predict_proba(ASKED).argmax(1).tolist() for head in (without, aligned)]
    assert probable == [[1], [0]]


def test_hits_are_aligned_besides_as_many_nearest_means_as_without_them(scripted: Scripted) -> None:
    without = AlignHead(AlignConfig(**KNOBS)).refit(X, LABELS).finder.aligned(ASKED)[1]
    aligned = AlignHead(AlignConfig(homologs=2, **KNOBS)).refit(X, LABELS).finder.aligned(ASKED)[1]
    assert aligned.tolist() == [[2, 0, *without[0].tolist()]]


def test_where_nothing_is_found_more_of_the_nearest_means_are_aligned(scripted: Scripted) -> None:
    scripted.script = {}
    more = AlignHead(AlignConfig(candidates=5, k=1)).refit(X, LABELS)
    aligned = AlignHead(AlignConfig(homologs=2, **KNOBS)).refit(X, LABELS)
    np.testing.assert_array_equal(aligned.finder.aligned(ASKED)[1], more.finder.aligned(ASKED)[1])


def test_of_few_training_proteins_no_more_are_aligned_than_there_are(scripted: Scripted) -> None:
    head = AlignHead(AlignConfig(homologs=10**12, **KNOBS)).refit(X, LABELS)
    assert sorted(head.finder.aligned(ASKED)[1][0].tolist()) == list(range(20))


@given(st.data())
def test_fewer_candidates_are_the_first_of_more_and_none_is_there_twice(data: st.DataObject) -> None:
    nearest = np.array([data.draw(st.permutations(range(12)))])
    found = data.draw(st.lists(st.integers(0, 11), unique=True, max_size=4))
    hits = np.array([found + [-1] * (4 - len(found))])
    whole = union(hits, nearest, 12)
    assert sorted(whole[0].tolist()) == list(range(12))
    for candidates in range(9):
        some = union(hits, nearest[:, : candidates + 4], candidates + 4)
        np.testing.assert_array_equal(some, whole[:, : candidates + 4])
        assert {*found, *nearest[0, :candidates].tolist()} <= {*some[0].tolist()}


def test_candidates_are_chosen_with_hits_and_each_protein_is_searched_for_once(scripted: Scripted) -> None:
    held = rows([QUERY, relatives([1], seed=5)[0]], [1, 0])
    told: list[Any] = []
    head = AlignHead(AlignConfig(homologs=2, **KNOBS))
    head.fit(X, LABELS, (held, Labels.from_names("ab", LABELS.classes)), log=told.append)
    assert next(entry["accuracy"] for entry in told if "accuracy" in entry) >= 0.5
    head.top_k(held, 1)
    assert [len(queries) for queries, *_ in scripted.searches] == [DECOYS, 2]


def test_without_homologs_no_engine_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unexpected(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(sequence_finder, "open_engine", unexpected)
    monkeypatch.setattr(sequence_finder, "installed", unexpected)
    head = AlignHead(AlignConfig(**KNOBS)).refit(X, LABELS)
    head.save(tmp_path)
    again = AlignHead.load(tmp_path, head.chosen, head.classes)
    assert again.top_k(ASKED, 1)[0].tolist() == [[1]]
    assert (head.chosen.engine, head.chosen.version) == ("auto", "")


@pytest.mark.parametrize("kind", ["label", "terms"])
def test_a_model_needs_the_engine_of_its_fit_and_says_so_when_it_is_loaded(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    head: Any = AlignHead(AlignConfig(homologs=2, **KNOBS))
    labels: Any = LABELS
    if kind == "terms":
        head, labels = TermAlignHead(TermAlignConfig(homologs=2, **KNOBS)), LabelSets.from_names([["a"], ["b"]] * 10)
    head.refit(X, labels)
    assert (head.chosen.engine, head.chosen.version) == ("mmseqs", "1")
    head.save(tmp_path)

    def loaded(**knobs: Any) -> Any:
        groups = (head.groups,) if kind == "terms" else ()
        return type(head).load(tmp_path, replace(head.chosen, **knobs), head.classes, *groups)

    np.testing.assert_array_equal(loaded().predict_proba(ASKED), head.predict_proba(ASKED))
    scripted.version = "2"
    with pytest.raises(EngineMismatchError, match="of search engine mmseqs 1, but here is mmseqs 2"):
        loaded()
    np.testing.assert_array_equal(loaded(any_version=True).predict_proba(ASKED), head.predict_proba(ASKED))
    monkeypatch.setattr(sequence_finder, "installed", lambda name: None)
    with pytest.raises(EngineMismatchError, match="of search engine mmseqs 1, but here is none"):
        loaded()


def test_a_fit_without_an_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_mmseqs", lambda: None)
    monkeypatch.setattr(search, "_phmmer", lambda: None)
    with pytest.raises(MissingExtraError, match=r"head align with homologs needs the package pyhmmer; run: pip"):
        AlignHead(AlignConfig(homologs=2)).refit(X, LABELS)
    monkeypatch.setattr(search, "_phmmer", lambda: Scripted({}, name="phmmer"))
    with pytest.raises(EngineError, match="engine mmseqs: no such program on the PATH; install MMseqs2"):
        AlignHead(AlignConfig(homologs=2, engine="mmseqs")).refit(X, LABELS)


def test_vectors_without_sequences_have_no_homologs(scripted: Scripted) -> None:
    bare = Features.from_arrays(X.vectors(), residues=list(X.residues()))
    with pytest.raises(UsageError, match="head align reads sequences, but 20 of 20 rows are vectors"):
        AlignHead(AlignConfig(homologs=2, **KNOBS)).refit(bare, LABELS)


def test_a_number_of_homologs_below_0_is_refused() -> None:
    with pytest.raises(UsageError, match="setting homologs: -1 is not at least 0"):
        AlignConfig(homologs=-1)


@pytest.fixture
def place(tmp_path: Path, scripted: Scripted) -> Path:
    """A workspace on an encoder of random weights, with an align model that needs the engine."""
    encoder = write_encoder(tmp_path / "tiny.safetensors")
    done("embed", write_set(tmp_path / "set.csv"), "-w", tmp_path / "w", "--encoder", encoder, "--quiet")
    done("fit", "--head", "align", "--set", "homologs", "2", "-w", tmp_path / "w", "--quiet")
    return tmp_path / "w"


def test_predict_without_the_engine_is_one_line_before_anything_is_embedded(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert done("predict", place.parent / "set.csv", "-w", place, "--quiet").out.count("\n") > 50
    monkeypatch.setattr(sequence_finder, "installed", lambda name: None)
    monkeypatch.setattr("esmcls.models.predict.answer_stream", None)
    ran = run("predict", place.parent / "set.csv", "-w", place)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "esmcls: model align, the only one here\n"
        "esmcls: error: the model is of search engine mmseqs 1, but here is none: its scores may differ; install the "
        "one it is of, or fit again (with --set any_version true, where only versions may differ)\n"
    )


def test_align_with_homologs_is_in_no_ensemble_of_those_on_embeddings_alone(place: Path) -> None:
    workspace = Workspace.open(place)

    def ensembles(homologs: int) -> dict[str, list[str]]:
        plan = ComparisonPlan(heads=("linear", "knn", "align", "ensemble"), settings={"align": {"homologs": homologs}})
        plans, _ = plan_models(plan, task_of(workspace), workspace.caches, None, lambda line: None)
        members = dict(ensembles_of(plans, plan))
        return {name: [model.head for model in models if not model.baseline] for name, models in members.items()}

    assert ensembles(0) == {"ensemble": ["linear", "knn", "align"]}
    assert ensembles(5) == {"ensemble": ["linear", "knn", "align"], "ensemble-embeddings": ["linear", "knn"]}
