"""Evaluation of a model on a part: the numbers, the table, and what is refused."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn import metrics as oracle

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.errors import UsageError
from esmcls.tasks.one_label.evaluation import evaluate


class FakeHead:
    """A head whose ranking of each row is written down; it refuses to make one array of all classes."""

    def __init__(self, classes: tuple[str, ...], ranked: np.ndarray) -> None:
        self.classes, self.ranked, self.asked = classes, ranked, []

    def top_k(self, x, k):
        self.asked.append(k)
        ranked = self.ranked[:, :k]
        return ranked, np.full(ranked.shape, 0.5, np.float32)

    def predict_proba(self, x):
        raise AssertionError("an array of all classes was asked for")


def model(classes, ranked, counts):
    return SimpleNamespace(head=FakeHead(tuple(classes), np.array(ranked)), class_counts=counts)


def part(labels: list[str]) -> tuple[Dataset, Features]:
    n = len(labels)
    dataset = Dataset([str(row) for row in range(n)], ["M" * (row + 1) for row in range(n)], labels, ["test"] * n)
    return dataset, Features.from_arrays(np.zeros((n, 2), np.float32), dataset.sequences, dataset.ids)


def three_classes():
    """Return truth a a a b b c, predicted a a b b c c, and the second choices."""
    ranked = [[0, 1, 2], [0, 1, 2], [1, 0, 2], [1, 0, 2], [2, 0, 1], [2, 1, 0]]
    return model("abc", ranked, [4, 100, 30]), *part(list("aaabbc"))


def test_three_classes_have_the_values_worked_out_by_hand():
    found = evaluate(*three_classes())
    values = {name: interval.value for name, interval in found.metrics.items()}
    assert values == pytest.approx(
        {
            "accuracy": 4 / 6,
            "top_3": 1.0,
            "top_5": 1.0,
            "top_10": 1.0,
            "macro_precision": (1 + 1 / 2 + 1 / 2) / 3,
            "macro_recall": (2 / 3 + 1 / 2 + 1) / 3,
            "macro_f1": (4 / 5 + 1 / 2 + 2 / 3) / 3,
            "weighted_precision": (3 + 2 / 2 + 1 / 2) / 6,
            "weighted_recall": 4 / 6,
            "weighted_f1": (3 * 4 / 5 + 2 / 2 + 2 / 3) / 6,
        }
    )
    assert [(tier.n, tier.accuracy) for tier in found.tiers] == [(3, 2 / 3), (0, None), (1, 1.0), (2, 0.5)]
    assert (found.n, found.n_classes, found.unseen, found.unseen_classes) == (6, 3, 0, 0)


def test_the_table_is_as_documented():
    lines = evaluate(*three_classes()).lines()
    assert lines[:4] == [
        "6 proteins of 3 classes",
        "",
        "                      percent  95 % interval",
        "accuracy                66.67  33.33 – 100.00",
    ]
    assert [line.split("  ")[0] for line in lines[3:13]] == [
        "accuracy",
        "top-3 accuracy",
        "top-5 accuracy",
        "top-10 accuracy",
        "macro precision",
        "macro recall",
        "macro F1",
        "weighted precision",
        "weighted recall",
        "weighted F1",
    ]
    assert lines[13:] == [
        "",
        "training members      percent  proteins",
        "<5                      66.67         3",
        "5-19                        –         0",
        "20-99                  100.00         1",
        "≥100                    50.00         2",
    ]


def test_proteins_of_unseen_classes_count_as_wrong_in_every_average():
    dataset, features = part(["a", "new", "a", "newer", "new"])
    found = evaluate(model("ab", [[0], [0], [0], [1], [0]], [20, 20]), dataset, features)
    predicted = ["a", "a", "a", "b", "a"]
    labels = sorted(set(dataset.labels))
    for average in ("macro", "weighted"):
        expected = oracle.precision_recall_fscore_support(
            dataset.labels, predicted, labels=labels, average=average, zero_division=0.0
        )[:3]
        values = [found.metrics[f"{average}_{name}"].value for name in ("precision", "recall", "f1")]
        assert values == pytest.approx(expected)
    assert found.metrics["accuracy"].value == 0.4
    assert [(tier.n, tier.accuracy) for tier in found.tiers][:3] == [(3, 0.0), (0, None), (2, 1.0)]
    assert found.lines()[:2] == [
        "5 proteins of 3 classes",
        "3 proteins of 2 classes without training members (counted as wrong)",
    ]


def test_a_model_of_a_single_class_is_asked_for_one_rank():
    dataset, features = part(["a"])
    single = model("a", [[0]], [7])
    assert evaluate(single, dataset, features).metrics["top_10"].value == 1.0
    assert single.head.asked == [1]


def test_thousands_of_classes_are_evaluated_from_ten_ranks_each():
    rng = np.random.default_rng(0)
    classes = [f"PF{number:05}" for number in range(17_929)]
    truth = rng.integers(17_929, size=3000)
    ranked = rng.integers(17_929, size=(3000, 10))
    ranked[np.arange(3000), rng.integers(10, size=3000)] = truth
    big = model(classes, ranked, rng.integers(1, 200, size=17_929).tolist())
    dataset, features = part([classes[code] for code in truth])
    found = evaluate(big, dataset, features, folds=20)
    assert big.head.asked == [10]
    assert found.metrics["top_10"].value == 1.0
    assert found.metrics["top_3"].value == pytest.approx(0.3, abs=0.03)
    assert sum(tier.n * (tier.accuracy or 0) for tier in found.tiers) / 3000 == pytest.approx(
        found.metrics["accuracy"].value
    )


def test_an_evaluation_is_plain_json_and_the_same_twice():
    first, again = (json.dumps(evaluate(*three_classes()).to_json(), sort_keys=True) for _ in range(2))
    assert first == again
    value = json.loads(first)
    assert value["format"] == 1
    assert value["tiers"][1] == {"name": "5-19", "n": 0, "accuracy": None}
    assert set(value["metrics"]["macro_f1"]) == {"value", "low", "high"}
    assert (value["folds"], value["seed"]) == (1000, 0)


def test_another_seed_moves_the_intervals_alone():
    first, other = evaluate(*three_classes()), evaluate(*three_classes(), seed=1)
    assert {name: one.value for name, one in first.metrics.items()} == {
        name: one.value for name, one in other.metrics.items()
    }
    assert first.metrics != other.metrics


def test_a_part_without_proteins_is_refused():
    with pytest.raises(UsageError, match="no proteins to evaluate on: give INPUT with --labels, or a dataset with"):
        evaluate(model("a", np.empty((0, 1), int), [1]), *part([]))


def test_features_in_another_order_than_the_labels_are_refused():
    one, dataset, features = three_classes()
    with pytest.raises(ValueError, match="not of the same proteins in the same order"):
        evaluate(one, dataset, features.take([1, 0, 2, 3, 4, 5]))
    with pytest.raises(ValueError, match="not of the same proteins in the same order"):
        evaluate(one, dataset, Features.from_arrays(np.zeros((5, 2))))
