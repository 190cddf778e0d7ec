"""What `benchmarks/rare_classes.py` groups and counts itself: groups of classes, near-identical ones, near misses."""

from __future__ import annotations

import importlib.util
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from esmcls.datasets.dataset import Dataset
from esmcls.labels.ontology import Ontology

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def rare() -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("rare_classes_benchmark", FOLDER / "rare_classes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    ours = sys.modules.pop("families", None)  # the tests have one of this name, too
    sys.path.insert(0, str(FOLDER))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
        sys.modules.pop("families", None)
        if ours is not None:
            sys.modules["families"] = ours
    return module


@pytest.fixture
def proteins() -> Dataset:
    """Six proteins of four classes; the last two are of the test part."""
    letters = "ACDEFG"
    return Dataset(
        ids=list("uvwxyz"),
        sequences=[letter * 30 for letter in letters],
        labels=["a", "b", "b", "c", "a", "d"],
        parts=["train", "train", "train", "train", "test", "test"],
    )


def test_classes_are_of_one_group_through_any_chain_of_clusters(rare: Any, proteins: Dataset) -> None:
    assert rare.groups(proteins, [[0, 1], [2, 3], [4], [5]]) == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_a_part_keeps_classes_with_those_they_are_taken_for(
    rare: Any, proteins: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rare, "clusters", lambda dataset, identity: [[0, 1], [2], [3], [4], [5]])
    counted = rare.part(proteins, Namespace(every=2, to=tmp_path))
    assert (counted["train"], counted["test"]) == (3, 2)
    assert [line.split(",")[0] for line in (tmp_path / "train.csv").read_text().split()[1:]] == ["u", "v", "w"]
    assert [line.split(",")[0] for line in (tmp_path / "test.csv").read_text().split()[1:]] == ["y", "z"]


def test_the_ceiling_counts_test_proteins_that_are_alone_with_other_classes(
    rare: Any, proteins: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rare, "clusters", lambda dataset, identity: [[0, 1, 4], [2, 3, 5]])
    table = rare.ceiling(proteins, Namespace(identities=[0.9]))["of them, %"]["90%"]
    assert table == {
        "near": 100,
        "alone with others": 50,
        "with its class and others": 50,
        "most are of its class": 50,
    }


@pytest.mark.parametrize(
    ("truth", "taken", "kind"),
    [
        ({1, 2}, {1, 2}, "the same terms"),
        ({1, 2}, {1, 2, 3}, "one term more or less"),
        ({1, 2, 3, 4}, {1, 2}, "one contains the other"),
        ({1, 2, 3}, {1, 2, 4}, "half of the terms or more in common"),
        ({1, 2, 3}, {1, 4, 5}, "less than half in common"),
    ],
)
def test_a_near_miss_is_named_by_the_terms_apart(rare: Any, truth: set[int], taken: set[int], kind: str) -> None:
    assert rare.kind_of_miss(frozenset(truth), frozenset(taken)) == kind


def test_terms_of_classes_come_with_all_that_contain_them(rare: Any, tmp_path: Path) -> None:
    tree = Ontology(("GO:1", "GO:2", "GO:3"), ("all", "some", "one"), "FFP", ((), (0,), ()))
    table = tmp_path / "classes.tsv"
    table.write_text(
        "family_accession\tmolecular_function\tbiological_process\na\tGO:2\tGO:3\nb\tGO:1\t\n", encoding="utf-8"
    )
    terms = rare.read_terms(table, tree)
    assert (len(terms["a"]), len(terms["b"])) == (3, 1)
    assert rare.kinship(terms["a"], terms["b"]) == pytest.approx(1 / 3)


def test_accuracy_is_told_by_the_size_of_the_true_class(rare: Any) -> None:
    table = rare.by_size(np.array([True, False, True]), np.array([1, 3, 20]))
    assert table["1-3"] == {"n": 2, "right %": 50}
    assert table["16+"] == {"n": 1, "right %": 100}


def test_a_protein_without_an_answer_is_an_error_that_shares_no_term(rare: Any) -> None:
    terms = {"a": frozenset({1, 2}), "b": frozenset({1, 2, 3})}
    told = rare.answers_in_words(["a", "a", "b", "b"], ["a", "b", "b", None], np.array([1, 1, 20, 20]), terms)
    assert told["of the errors, %"] == {"one term more or less": 50, "no answer": 50}
    assert told["terms in common, mean"] == pytest.approx((1 + 2 / 3 + 1 + 0) / 4, abs=1e-4)
    assert told["by class size"]["16+"] == {"n": 2, "right %": 50}


def test_a_layer_of_unit_weights_finds_the_directions_of_its_classes(rare: Any) -> None:
    rows = torch.eye(3)[[0, 0, 1, 1, 2, 2]]
    codes = torch.tensor([0, 0, 1, 1, 2, 2])
    layer = rare.cosine_layer(rows, codes, torch.eye(3), torch.zeros(3))
    assert (rows @ layer.T).argmax(1).tolist() == codes.tolist()
    assert layer.norm(dim=1).tolist() == pytest.approx([1, 1, 1])
