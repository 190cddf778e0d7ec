"""What `benchmarks/go.py` draws and joins itself: folds of whole clusters, counts of folds, verdicts on targets."""

from __future__ import annotations

import importlib.util
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esmcls.datasets.dataset import Dataset
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import count
from esmcls.tasks.label_sets.counts import join_counts


@pytest.fixture(scope="module")
def go() -> Any:
    """The script as a module."""
    path = Path(__file__).parents[1] / "benchmarks" / "go.py"
    spec = importlib.util.spec_from_file_location("go_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(name: str, fmax: float, low: float | None = None) -> dict[str, Any]:
    """Return a row of a report; `low` is the least difference from homology."""
    against = None if low is None else {"C": {"fmax": {"low": low}}}
    return {"name": name, "aspects": {"C": {"metrics": {"fmax": {"value": fmax}}}}, "versus_homology": against}


def test_folds_are_of_whole_clusters_and_of_like_size(go: Any, tmp_path: Path) -> None:
    table = tmp_path / "clusters.tsv"
    table.write_text("".join(f"c{number // 7}\tp{number}\n" for number in range(70)))
    names = [f"p{number}" for number in range(70)]
    proteins = Dataset(names, ["MA"] * 70, ["x"] * 70, ["train"] * 70)
    folds = go.cluster_folds(proteins, Namespace(clusters=table, folds=5))
    assert np.bincount(folds).tolist() == [14] * 5
    assert all(len(set(folds[first : first + 7].tolist())) == 1 for first in range(0, 70, 7))


def test_folds_that_are_measured_apart_are_the_whole() -> None:
    random = np.random.default_rng(0)
    labels = LabelSets.from_names([["a"], ["b"], ["a", "c"], ["c"], ["b"], ["a"]], ("a", "b", "c"), ("C", "F", "F"))
    scores, ia = random.random((6, 3)), np.array([1.0, 2.0, 3.0])
    order = np.array([4, 0, 2, 5, 1, 3])
    parts = [
        count(labels.take(order[start : start + 3]), [(slice(0, 3), scores[order[start : start + 3]])], ia)
        for start in (0, 3)
    ]
    whole = count(labels, [(slice(0, 6), scores)], ia)
    found = join_counts(parts).take(np.argsort(order))
    assert np.array_equal(found.plain.true, whole.plain.true)
    assert np.allclose(found.weighted.predicted, whole.weighted.predicted)


def test_a_missed_target_is_told_as_missed(go: Any) -> None:
    rows = [row("naive", 0.5), row("knn", 0.7), row("mlp", 0.5), row("ensemble", 0.8, low=-0.001)]
    assert go.verdicts(rows) == [
        "mlp does not beat naive in C",
        "the ensemble beats homology by more than the interval: {'C': False}",
    ]
    assert go.verdicts([row("naive", 0.5), row("knn", 0.7)]) == ["every head beats naive in every aspect"]
