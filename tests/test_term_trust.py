"""What an answer of terms is worth: the F expected of it, the line below which no term is known, and what is said."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ontologies import BINDING, GROWTH, ION, MEMBRANE, tiny_ontology

from esmcls.cache.features import Features
from esmcls.errors import ModelError
from esmcls.labels.labels import LabelSets
from esmcls.models.predict import write_answers
from esmcls.reading.records import Protein
from esmcls.tasks.go_terms.hierarchy import TermHierarchy
from esmcls.tasks.go_terms.task import GoTerms
from esmcls.tasks.label_sets.thresholds import TermFindings, Thresholds
from esmcls.tasks.label_sets.trust.expected import TRUST, Trust, expected_f, reached_f

CLASSES = tuple(sorted([BINDING, ION, MEMBRANE, GROWTH]))
TERMS = TermHierarchy(tiny_ontology(), CLASSES)
SURE, UNSURE = "A" * 40, "C" * 40


def test_what_is_expected_is_what_is_reached_where_probabilities_are_true() -> None:
    generator = np.random.default_rng(0)
    scores = generator.uniform(0.05, 0.95, (1, 60)).astype(np.float32)
    place = np.arange(60) % 2
    predicted = scores >= 0.5
    drawn = generator.random((4000, 60)) < scores
    reached = reached_f(drawn, np.broadcast_to(predicted, drawn.shape), place).mean()
    assert expected_f(scores, predicted, place)[0] == pytest.approx(reached, abs=0.01)


def test_terms_that_are_likely_and_not_predicted_lower_what_is_expected() -> None:
    scores = np.array([[0.9, 0.0, 0.0], [0.9, 0.4, 0.4]], dtype=np.float32)
    sure, unsure = expected_f(scores, scores >= 0.5, np.zeros(3, dtype=np.int64))
    assert sure > unsure + 0.2


def test_an_aspect_in_which_nothing_is_known_says_nothing_of_what_is_reached() -> None:
    truth = np.array([[True, False]])
    assert reached_f(truth, np.array([[True, True]]), np.array([0, 1])).tolist() == [1.0]
    assert reached_f(truth, np.array([[False, True]]), np.array([0, 1])).tolist() == [0.0]


def test_nineteen_of_twenty_good_answers_are_accepted_whatever_becomes_of_the_others() -> None:
    generator = np.random.default_rng(1)
    reached = generator.random(2000)
    expected = np.clip(0.5 * reached + generator.normal(0.2, 0.1, 2000), 0, 1)
    trust = Trust.of(expected, reached)
    assert trust is not None
    good = reached >= 0.5
    accepted = trust.worth(expected) >= trust.threshold
    assert accepted[good].mean() == pytest.approx(0.95, abs=0.002)
    assert (~accepted)[~good].mean() == pytest.approx(trust.told)
    assert trust.told > 0.5
    assert np.polyfit(trust.worth(expected), reached, 1)[0] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("good", [0, 19, 81, 100])
def test_no_line_is_drawn_on_fewer_than_twenty_of_either_side(good: int) -> None:
    reached = np.where(np.arange(100) < good, 0.9, 0.1)
    assert Trust.of(reached, reached) is None


def test_a_line_is_drawn_on_twenty_of_either_side() -> None:
    reached = np.where(np.arange(40) < 20, 0.9, 0.1)
    assert Trust.of(reached, reached) is not None


def test_no_line_is_drawn_where_the_sure_answers_are_the_wrong_ones() -> None:
    reached = np.linspace(0, 1, 100)
    assert Trust.of(1 - reached, reached) is None


class Unsure:
    """A head that is sure of proteins that begin with A alone."""

    classes = CLASSES

    def predict_proba(self, x: Features) -> Any:
        unlikely = {ION: 0.05}
        rows = [[0.9 if one[0] == "A" else unlikely.get(term, 0.2) for term in CLASSES] for one in x.sequences]
        return np.array(rows, dtype=np.float32)


def validation() -> tuple[Features, LabelSets]:
    """Proteins that have all terms, or one that the head does not think of."""
    sequences = [SURE if row % 2 else UNSURE for row in range(80)]
    labels = [CLASSES if row % 2 else (ION,) for row in range(80)]
    return Features.from_arrays(np.zeros((80, 0), np.float32), sequences), LabelSets.from_names(
        labels, CLASSES, TERMS.groups
    )


def test_a_validated_head_learns_what_its_answers_are_worth_and_keeps_it(tmp_path: Path) -> None:
    task = GoTerms(tiny_ontology())
    _, findings = task.validate(Unsure(), *validation())
    assert findings.trust is not None
    assert findings.trust.auroc == 1
    assert "no term known: rejected below an expected F of" in findings.lines()[1]
    findings.save(tmp_path)
    assert TermFindings.load(tmp_path, tiny_ontology(), CLASSES).trust == findings.trust
    assert findings.recoded(CLASSES, CLASSES[:2]).trust == findings.trust


def test_a_prediction_says_that_no_term_is_known_and_what_is_expected() -> None:
    task = GoTerms(tiny_ontology())
    _, findings = task.validate(Unsure(), *validation())
    model: Any = SimpleNamespace(
        name="unsure",
        neighbours=None,
        head=Unsure(),
        classes=CLASSES,
        task=task,
        findings=findings,
        features=lambda some: Features.from_arrays(np.zeros((len(some), 0), np.float32), some),
        manifest=SimpleNamespace(specs=[SimpleNamespace(encoder="toy", long="full")]),
    )
    handle = io.StringIO()
    written = write_answers(model, iter([Protein("s", SURE), Protein("u", UNSURE)]), handle, "jsonl")
    rows = [json.loads(line) for line in handle.getvalue().splitlines()]
    assert {(row["id"], row["status"]) for row in rows} == {("s", "accepted"), ("u", "rejected")}
    first = {row["id"]: row["expected_f"] for row in rows if row["rank"] == 1}
    assert first["s"] > findings.trust.threshold > first["u"]  # type: ignore[union-attr]
    assert all(row["expected_f"] is None for row in rows if row["rank"] > 1)
    assert "1 accepted, 1 rejected" in written.summary()


def test_a_model_without_validation_rows_says_nothing_of_its_worth() -> None:
    findings = TermFindings(tiny_ontology(), Thresholds.unknown(TERMS.groups))
    assert findings.trust is None
    assert len(findings.lines()) == 1


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / TRUST).write_text('{"slope": "steep"}')
    with pytest.raises(ModelError, match=r"trust\.json"):
        Trust.load(tmp_path)
