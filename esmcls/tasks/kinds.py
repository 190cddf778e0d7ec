"""The kinds of task, and which one a workspace or a model folder holds: the one place that tells them apart.

Each is imported when it is met: who has families loads nothing of terms.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from esmcls.errors import ModelError
from esmcls.files import HIERARCHY
from esmcls.labels.hierarchy import Hierarchy
from esmcls.labels.kinds import GO_TERMS, MANY_LABELS, NUMBER, ONE_LABEL, RESIDUE_LABEL, RESIDUE_NUMBER, STRUCTURE
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
    if ontology is not None:
        return go_terms(ontology, workspace.propagate)
    return one_label(workspace.hierarchy) if workspace.task == ONE_LABEL else _PLAIN[workspace.task]()


def task_of_model(folder: Path, kind: str) -> AnyTask:
    """Return the task of a model folder, where `kind` is what its manifest says.

    Raises
    ------
    ModelError
        If a newer esmcls made it of a kind that is not known here.
    """
    if kind == GO_TERMS:
        return go_terms(Ontology.load(folder / "terms.json"))
    if kind == ONE_LABEL and (folder / HIERARCHY).is_file():
        return one_label(Hierarchy.load(folder / HIERARCHY))
    if kind not in _PLAIN:
        raise ModelError(folder, f"a model of a kind of task {kind[:40]!r}, not known here", "update esmcls")
    return _PLAIN[kind]()


def one_label(hierarchy: Hierarchy | None = None) -> AnyTask:
    """Return the task of one label a protein, whose classes may have a hierarchy."""
    from esmcls.tasks.one_label.task import OneLabel

    return OneLabel(hierarchy)


def go_terms(ontology: Ontology, propagate: bool = True) -> AnyTask:
    """Return the task of Gene Ontology terms."""
    from esmcls.tasks.go_terms.task import GoTerms

    return GoTerms(ontology, propagate)


def many_labels() -> AnyTask:
    """Return the task of any number of labels a protein."""
    from esmcls.tasks.many_labels.task import ManyLabels

    return ManyLabels()


def residue_label() -> AnyTask:
    """Return the task of a label a residue."""
    from esmcls.tasks.residues.task import ResidueLabelTask

    return ResidueLabelTask()


def residue_number() -> AnyTask:
    """Return the task of a number a residue."""
    from esmcls.tasks.residues.task import ResidueNumberTask

    return ResidueNumberTask()


def number() -> AnyTask:
    """Return the task of a number a protein."""
    from esmcls.tasks.number.task import Number

    return Number()


def structure() -> AnyTask:
    """Return the task of a structure a protein."""
    from esmcls.tasks.structure.task import StructureTask

    return StructureTask()


_PLAIN: Final[dict[str, Callable[[], AnyTask]]] = {
    ONE_LABEL: one_label,
    MANY_LABELS: many_labels,
    RESIDUE_LABEL: residue_label,
    RESIDUE_NUMBER: residue_number,
    NUMBER: number,
    STRUCTURE: structure,
}
"""Those that need nothing but the labels."""
