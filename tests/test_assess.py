"""A model measured on the test part of a workspace or on other proteins, of whatever kind of task."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import KINDS, ONE_LABEL, TERMS, Kind, with_parts
from ontologies import BINDING, ION, LABELS, ZINC

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import Shares, set_aside
from esmcls.errors import UsageError, WorkspaceError
from esmcls.evaluation.assess import Assessment, assess
from esmcls.models.fit import fit_head
from esmcls.models.folder import load_model
from esmcls.models.model import Model, features_for
from esmcls.tasks.label_sets.evaluation import TermEvaluation
from esmcls.tasks.one_label.evaluation import Evaluation
from esmcls.tasks.one_label.task import Strangers
from esmcls.workspace.workspace import Workspace


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def workspace(kind: Kind, tmp_path: Path) -> Workspace:
    return kind.workspace(tmp_path / "w")


def fitted(workspace: Workspace, **options: Any) -> Model:
    return load_model(fit_head(workspace, "knn", {"k": "3"}, **options).folder)


def read(assessment: Assessment) -> Any:
    assert assessment.file is not None
    return json.loads(assessment.file.read_text())


def test_the_test_part_is_measured_and_the_metrics_lie_in_the_workspace(kind: Kind, workspace: Workspace) -> None:
    assessment = assess(fitted(workspace), workspace)
    assert isinstance(assessment.evaluation, Evaluation if kind is ONE_LABEL else TermEvaluation)
    assert assessment.evaluation.n == 6
    assert assessment.same_split
    assert assessment.file == workspace.reports / "evaluate-knn" / "metrics.json"
    written = read(assessment)
    assert (written["model"], written["head"], written["encoder"]) == ("knn", "knn", "composition")
    assert written["on"] == "test part"
    body = json.loads(json.dumps(assessment.evaluation.to_json()))
    assert {name: written[name] for name in body} == body
    assert assessment.lines()[0].startswith("6 proteins")
    assert assessment._repr_html_().startswith("<pre>6 proteins")


def test_other_proteins_are_measured_and_lie_beside(kind: Kind, workspace: Workspace) -> None:
    given = with_parts(workspace.dataset.part("validation"), {"validation": "test"})
    assessment = assess(fitted(workspace), workspace, given, source="mine")
    assert assessment.file == workspace.reports / "evaluate-knn-mine" / "metrics.json"
    assert read(assessment)["on"] == "mine"
    alone = assess(fitted(workspace), None, given)
    assert alone.file is None
    if kind is ONE_LABEL:
        assert alone.evaluation.to_json() == assessment.evaluation.to_json()
    else:  # weighed measures need the training terms
        aspects = [one.evaluation.to_json()["aspects"]["F"]["metrics"] for one in (alone, assessment)]
        assert (set(aspects[0]), set(aspects[1])) == ({"fmax"}, {"fmax", "wfmax", "f_micro_w", "smin"})
        assert aspects[0]["fmax"] == aspects[1]["fmax"]


def test_a_model_of_another_split_may_know_the_test_part_and_that_is_told(
    kind: Kind, workspace: Workspace, tmp_path: Path
) -> None:
    turned = replace(workspace.dataset, parts=workspace.dataset.parts[::-1])
    model = fitted(kind.workspace(tmp_path / "other", turned))
    assert not assess(model, workspace).same_split


def test_without_a_test_part_or_a_workspace_proteins_must_be_given(kind: Kind, tmp_path: Path) -> None:
    workspace = kind.workspace(tmp_path / "w", with_parts(kind.dataset(), {"test": "train"}))
    model = fitted(workspace)
    with pytest.raises(WorkspaceError, match="its split has no test part; give INPUT and --labels"):
        assess(model, workspace)
    with pytest.raises(WorkspaceError, match="knn: no test part to measure this model on; give INPUT and --labels"):
        assess(model, None)


def test_a_workspace_of_another_kind_of_task_has_no_test_part_for_a_model(tmp_path: Path) -> None:
    places = [kind.workspace(tmp_path / str(number)) for number, kind in enumerate(KINDS)]
    for own, other in (places, places[::-1]):
        with pytest.raises(WorkspaceError, match="no test part to measure this model on; give INPUT and --labels"):
            assess(fitted(own), other)


def test_a_table_of_information_accretion_is_for_terms(tmp_path: Path) -> None:
    workspace = ONE_LABEL.workspace(tmp_path)
    with pytest.raises(UsageError, match=r"^--ia is not for model knn, which gives one label a protein"):
        assess(fitted(workspace), workspace, ia=tmp_path / "IA.tsv")


def test_proteins_of_families_held_out_count_in_nothing_but_in_what_becomes_of_them(tmp_path: Path) -> None:
    dataset = ONE_LABEL.dataset()
    labels = [f"{label} {row % 2}" for row, label in enumerate(dataset.labels)]
    workspace = ONE_LABEL.workspace(tmp_path, replace(dataset, labels=labels))
    shares = Shares(0.34, folds=0)
    model = fitted(workspace, shares=shares, seed=1)
    apart = set_aside(workspace.dataset, shares, 1)
    assessment = assess(model, workspace)
    known, unseen = apart.kept.part("test"), apart.unseen
    assert assessment.evaluation.to_json()["n"] == len(known) < 6
    [strangers] = assessment.beside
    assert isinstance(strangers, Strangers)
    assert (strangers.known, strangers.unknown) == (len(known), len(unseen))
    rejection = model.findings.confidence.rejection
    far = rejection.of(model.head, features_for(model, unseen, workspace))
    assert strangers.false_accepted == pytest.approx(np.mean(far > rejection.threshold))
    assert read(assessment)["strangers"] == strangers.to_json()["strangers"]
    assert assessment.lines()[-2].startswith(f"{len(unseen)} strangers: ")
    [others] = assess(model, workspace, workspace.dataset.part("test")).beside
    assert isinstance(others, Strangers)  # of proteins that are given, those of other labels are strangers
    assert (others.known, others.unknown) == (len(known), 6 - len(known))


def test_a_model_that_knows_all_families_is_measured_on_known_proteins_and_tells_what_folds_told(
    tmp_path: Path,
) -> None:
    dataset = ONE_LABEL.dataset()
    labels = [f"{label} {row % 2}" for row, label in enumerate(dataset.labels)]
    workspace = ONE_LABEL.workspace(tmp_path, replace(dataset, labels=labels))
    model = fitted(workspace, shares=Shares(1.0))
    assessment = assess(model, workspace)
    [strangers] = assessment.beside
    assert isinstance(strangers, Strangers)
    assert (strangers.known, strangers.unknown) == (6, 0)
    assert strangers.false_accepted == model.findings.confidence.rejection.strangers.share
    assert assessment.lines()[-2].startswith("strangers, when the model was fitted: ")


def test_terms_that_contain_a_given_one_are_true_of_the_protein_too(tmp_path: Path) -> None:
    workspace = TERMS.workspace(tmp_path)
    place = workspace.dataset.labels.index(LABELS["A"])
    given = Dataset(["x"], [workspace.dataset.sequences[place]], [ZINC], ["test"])
    evaluation: Any = assess(fitted(workspace), workspace, given).evaluation
    assert evaluation.n_terms == len({BINDING, ION, ZINC})
