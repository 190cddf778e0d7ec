"""What a model says of proteins, in the codes of the whole data set, kept under a key of what made it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.tasks.one_label.answers import DEPTH, Answers, Questions
from esmcls.tasks.one_label.confidence import Confidence, Rejection
from esmcls.tasks.one_label.findings import LabelFindings


class Given:
    """Its vectors are the probabilities of two of the classes."""

    classes = ("b", "d")

    def predict_proba(self, x: Features) -> Any:
        return x.vectors()

    def top_k(self, x: Features, k: int) -> Any:
        order = np.argsort(-x.vectors(), axis=1, kind="stable")[:, :k]
        return order, np.take_along_axis(x.vectors(), order, 1)

    def familiarity(self, x: Features) -> Any:
        return x.vectors().max(1).astype(np.float64)


def rows(*first: float) -> Features:
    vectors = np.array([[value, 1 - value] for value in first], dtype=np.float32).reshape(-1, 2)
    return Features.from_arrays(vectors, ["M" * (n + 5) for n in range(len(first))])


@pytest.fixture
def questions() -> Questions:
    known = Dataset(["1", "2", "3"], ["MMMMM", "MMMMMM", "MMMMMMM"], ["b", "d", "a"], ["test"] * 3)
    unseen = Dataset(["4", "5"], ["MA", "MC"], ["c", "c"], ["test"] * 2)
    return Questions(known, unseen, ("a", "b", "c", "d"), 0.8)


ABOUT: dict[str, Any] = {"validation": {"accuracy": 0.5, "macro_f1": 0.25, "n": 4}, "megabytes": 2.0}


def model(confidence: Confidence | None = None) -> Any:
    """Return a model of that head with 3 training members of b and 4 of d."""
    return SimpleNamespace(
        head=Given(), classes=Given.classes, class_counts=(3, 4), findings=LabelFindings(confidence=confidence)
    )


def test_codes_are_those_of_the_whole_data_set_and_members_those_of_training(questions: Questions) -> None:
    found = questions.ask(model(), rows(0.75, 0.625, 0.25), rows(0.5, 0.5), 1.5, ABOUT)
    assert found.truth.tolist() == [1, 3, 0]
    assert found.ranked[:, :3].tolist() == [[1, 3, -1], [1, 3, -1], [3, 1, -1]]
    assert found.ranked.shape == (3, DEPTH)
    assert found.right.tolist() == [True, False, False]
    assert found.probability.tolist() == [0.75, 0.625, 0.75]
    assert found.members.tolist() == [3, 4, 0]
    assert found.lengths.tolist() == [5, 6, 7]
    assert found.seconds[0, 0] == 1.5
    assert found.about["validation"] == {"accuracy": 0.5, "macro_f1": 0.25}
    assert not len(found.familiar) and not len(found.sizes)  # noqa: PT018


def test_rejection_and_sets_are_measured_where_rows_were_set_aside(questions: Questions) -> None:
    doubts = Confidence((0.6,) * 20, Rejection("familiarity", 0.7, 0.05))
    found = questions.ask(model(doubts), rows(0.75, 0.625, 0.25), rows(0.5, 0.9), 1.5, ABOUT)
    assert found.accepted.tolist() == [True, False, True]
    assert found.wrongly.tolist() == [False, True]
    assert found.sizes.tolist() == [1, 1, 1]
    assert found.covered.tolist() == [True, False, False]  # 0.625 is d's rival, and a is no class of the model
    assert found.about["held_half"] == 1.0
    assert found.about["calibration_rows"] == 20


def test_the_majority_answers_everyone_alike(questions: Questions) -> None:
    found = questions.majority({"b": 3, "d": 5, "a": 2})
    assert found.ranked[:, :4].tolist() == [[3, 1, 0, -1]] * 3
    assert found.probability.tolist() == [0.5] * 3
    assert found.right.tolist() == [False, True, False]


def test_answers_are_found_again_under_their_key_alone(questions: Questions, tmp_path: Path) -> None:
    found, path = questions.majority({"b": 3}), tmp_path / "one.safetensors"
    assert Answers.load(path, "key") is None
    found.save(path, "key")
    again = Answers.load(path, "key")
    assert again is not None
    assert again.about == found.about
    np.testing.assert_array_equal(again.ranked, found.ranked)
    assert Answers.load(path, "another") is None
    path.write_bytes(path.read_bytes()[:40])
    assert Answers.load(path, "key") is None
