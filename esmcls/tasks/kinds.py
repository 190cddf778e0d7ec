"""The kinds of task, and which one a workspace or a model folder holds: the one place that tells them apart.

Each is imported when it is met: who has families loads nothing of terms.
"""

from __future__ import annotations

from pathlib import Path

from esmcls.labels.ontology import Ontology
from esmcls.tasks.task import AnyTask
from esmcls.workspace.workspace import Workspace


def task_of(workspace: Workspace) -> AnyTask:
    """Return the task of a workspace's data set.

    Raises
    ------
    WorkspaceError
        If its ontology is not the one that workspace.json describes.
    """
    ontology = workspace.ontology
    return one_label() if ontology is None else go_terms(ontology, workspace.propagate)


def task_of_model(folder: Path, many: bool) -> AnyTask:
    """Return the task of a model folder, where `many` is what its manifest says."""
    return go_terms(Ontology.load(folder / "terms.json")) if many else one_label()


def one_label() -> AnyTask:
    """Return the task of one label a protein."""
    from esmcls.tasks.one_label.task import OneLabel

    return OneLabel()


def go_terms(ontology: Ontology, propagate: bool = True) -> AnyTask:
    """Return the task of Gene Ontology terms."""
    from esmcls.tasks.go_terms.task import GoTerms

    return GoTerms(ontology, propagate)
