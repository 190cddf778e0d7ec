"""What rows that a head was not fitted on tell of it lies beside the head, and comes back as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ontologies import BINDING, ION, MEMBRANE, ZINC, tiny_ontology

from esmcls.errors import ModelError
from esmcls.metrics.open_set import Rate
from esmcls.tasks.label_sets.thresholds import TermFindings, Thresholds
from esmcls.tasks.one_label.confidence import Confidence, Rejection
from esmcls.tasks.one_label.findings import LabelFindings
from esmcls.tasks.one_label.validation_answers import FoldAnswers, Held

ARRAYS = ("codes", "probabilities", "familiarity", "truth")


def held() -> Held:
    """Return answers on three rows of two classes, the third of another class."""
    return Held(
        codes=np.array([[0, 1], [1, 0], [0, 1]]),
        probabilities=np.array([[0.75, 0.25], [0.5, 0.5], [1, 0]], np.float32),
        familiarity=np.array([0.5, -1, 2]),
        truth=np.array([0, 1, -1]),
        digest="of the rows",
    )


CONFIDENCE = Confidence(
    (0.25, 0.5, 0.75, 0.9),
    Rejection(
        "familiarity",
        0.5,
        0.05,
        known=Rate(0.9, 0.8, 0.95, 30),
        strangers=Rate(0.04, 0, 0.1, 8),
        auroc=0.9,
        folds=5,
        families=7,
    ),
)


@pytest.mark.parametrize("answers", [held(), None], ids=["held", "nothing held"])
@pytest.mark.parametrize("confidence", [CONFIDENCE, Confidence((0.5, 0.6)), None], ids=["all", "no threshold", "none"])
def test_findings_of_one_label_come_back_as_they_were(
    answers: Held | None, confidence: Confidence | None, tmp_path: Path
) -> None:
    LabelFindings(answers, confidence).save(tmp_path)
    names = {"confidence.json"} if confidence is not None else set()
    assert {path.name for path in tmp_path.iterdir()} == names | (
        {"held.safetensors"} if answers is not None else set()
    )
    again = LabelFindings.load(tmp_path)
    assert again.confidence == confidence
    assert (again.held is None) == (answers is None)
    if again.held is not None and answers is not None:
        assert again.held.digest == answers.digest
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(again.held, name), getattr(answers, name))


def asked() -> FoldAnswers:
    """Return what heads of two folds said of a known protein and of a stranger."""
    return FoldAnswers(
        codes=np.array([[0, 1], [1, 0]]),
        probabilities=np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
        familiarity=np.array([0.5, -1]),
        families=np.array([3, 4]),
        folds=np.array([0, 1]),
        strangers=np.array([False, True]),
        digest="of the rows",
    )


def test_what_was_said_of_strangers_comes_back_as_it_was_and_follows_the_classes(tmp_path: Path) -> None:
    LabelFindings(folds=asked()).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["strangers.safetensors"]
    again = LabelFindings.load(tmp_path).folds
    assert again is not None
    for name in vars(asked()):
        np.testing.assert_array_equal(getattr(again, name), getattr(asked(), name))
    after = LabelFindings(folds=again).recoded(["b", "d"], ["a", "b", "c", "d"]).folds
    assert after is not None
    assert after.codes.tolist() == [[1, 3], [3, 1]]


@pytest.mark.parametrize(
    "change",
    [
        {"codes": np.array([0, 1])},
        {"probabilities": np.ones((2, 3), np.float32)},
        {"familiarity": np.zeros(3)},
        {"folds": np.array([0.5, 1.0])},
        {"strangers": np.array([0, 1])},
    ],
    ids=lambda change: next(iter(change)),
)
def test_answers_on_strangers_that_do_not_fit_one_another_are_damaged(change: dict[str, Any], tmp_path: Path) -> None:
    replace(asked(), **change).save(tmp_path / "strangers.safetensors")
    with pytest.raises(ModelError, match=r"strangers.safetensors: is damaged \(its arrays .*\); fit again"):
        LabelFindings.load(tmp_path)


def test_a_cut_file_of_strangers_is_damaged(tmp_path: Path) -> None:
    LabelFindings(folds=asked()).save(tmp_path)
    path = tmp_path / "strangers.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ModelError, match=r"strangers.safetensors: is damaged \(.*\); fit again"):
        LabelFindings.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"threshold": "high"}, r"threshold: 'high' instead of a number"),
        ({"score": "luck"}, r"score: 'luck' instead of"),
        ({"point": None}, r"point: None instead of"),
        ({"known": {"share": 0.5}}, r"known: lacks 'low'"),
        ({"weights": [1.0, 2.0]}, r"weights: 2 of them"),
        ({"checks": 0, "reached": 0.5}, r"reached: no share"),
        ({"checks": "8", "reached": 0.5}, r"checks: '8' instead of a whole number"),
    ],
)
def test_damaged_rejection_says_what_is_wrong(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    flat = CONFIDENCE.to_json()
    flat["rejection"] |= change
    (tmp_path / "confidence.json").write_text(json.dumps(flat))
    with pytest.raises(ModelError, match=rf"confidence.json: is damaged \({told}.*\); fit again"):
        LabelFindings.load(tmp_path)


def test_codes_follow_the_classes_that_a_refit_added() -> None:
    after = LabelFindings(held(), CONFIDENCE).recoded(["b", "d"], ["a", "b", "c", "d"])
    assert after.held is not None
    assert after.held.codes.tolist() == [[1, 3], [3, 1], [1, 3]]
    assert after.held.truth.tolist() == [1, 3, -1]
    assert after.confidence == CONFIDENCE
    assert LabelFindings().recoded(["b"], ["a", "b"]) == LabelFindings()


def test_findings_of_one_label_are_told_in_lines() -> None:
    first, second, third, fourth = LabelFindings(confidence=CONFIDENCE).lines()
    assert first.startswith("4 calibration rows; sets of 95 % from half of them hold ")
    assert second == (
        "7 families strangers once each, in 5 folds: at most 5 % of strangers accepted, by the head's familiarity"
    )
    assert third == "known accepted: 90.0 % (80.0 to 95.0 %, n = 30)"
    assert fourth == "strangers accepted: 4.0 % (0.0 to 10.0 %, n = 8); AUROC 0.900"
    assert LabelFindings().lines() == LabelFindings(held()).lines() == []


@pytest.mark.parametrize("text", ["{}", "not JSON", '{"format": 1}'])
def test_a_damaged_file_of_confidence_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "confidence.json").write_text(text)
    with pytest.raises(ModelError, match=r"confidence.json: is damaged \(.*\); fit again"):
        LabelFindings.load(tmp_path)


CLASSES = (BINDING, ZINC)
THRESHOLDS = Thresholds(np.array([0.25, 0.5], np.float32), {"F": 0.375}, 10.0, 9)


def test_findings_of_terms_come_back_as_they_were(tmp_path: Path) -> None:
    TermFindings(tiny_ontology(), THRESHOLDS).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thresholds.json"]
    again = TermFindings.load(tmp_path, tiny_ontology(), CLASSES).thresholds
    np.testing.assert_array_equal(again.values, THRESHOLDS.values)
    assert (again.pooled, again.prior, again.n) == ({"F": 0.375}, 10.0, 9)


def test_terms_that_a_refit_added_have_the_threshold_of_their_aspect() -> None:
    after = TermFindings(tiny_ontology(), THRESHOLDS).recoded(CLASSES, (BINDING, MEMBRANE, ION, ZINC)).thresholds
    assert after.values.tolist() == [0.25, 0.5, 0.375, 0.5]  # of a component nothing is known: a half


def test_without_a_file_of_thresholds_all_are_a_half(tmp_path: Path) -> None:
    findings = TermFindings.load(tmp_path, tiny_ontology(), CLASSES)
    assert findings.thresholds.values.tolist() == [0.5, 0.5]
    assert findings.lines() == ["thresholds: 0.5 for every term, for want of validation proteins"]


def test_a_damaged_file_of_thresholds_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "thresholds.json").write_text("{}")
    with pytest.raises(ModelError, match=r"thresholds.json: is damaged \(lacks 'values'\); fit again"):
        TermFindings.load(tmp_path, tiny_ontology(), CLASSES)
