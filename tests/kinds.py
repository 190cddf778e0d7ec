"""A workspace of each kind of task, of proteins whose labels can be told by eye: what the flow promises, both keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import families
import ontologies

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.split import SplitReport
from esmcls.labels.kinds import MANY_LABELS
from esmcls.labels.kinds import ONE_LABEL as ONE_LABEL_TASK
from esmcls.labels.ontology import Ontology
from esmcls.workspace.embed_in_workspace import EmbeddingRecipe, embed_in_workspace
from esmcls.workspace.intake import Intake
from esmcls.workspace.workspace import Workspace


@dataclass(frozen=True)
class Kind:
    """A kind of task with a data set of it: 18 proteins to train on, 6 for validation, 6 to test.

    Parameters
    ----------
    name : str
    label, another : str
        Of a third of the proteins each.
    ontology : callable
    read : callable
        Return id, sequence, label and part of each protein.
    task : str
        As a workspace remembers it, where there is no ontology.
    """

    name: str
    label: str
    another: str
    ontology: Callable[[], Ontology | None]
    read: Callable[[], list[tuple[str, str, str, str]]]
    task: str = ONE_LABEL_TASK

    def __str__(self) -> str:
        return self.name

    def dataset(self) -> Dataset:
        """Return the proteins."""
        return Dataset(*(list(column) for column in zip(*self.read(), strict=True)))

    def set_up(
        self, folder: Path, dataset: Dataset | None = None, *, report: SplitReport | None = None, propagate: bool = True
    ) -> Workspace:
        """Make a workspace of the proteins, or of others, without vectors."""
        workspace = Workspace.open(folder, create=True)
        data = self.dataset() if dataset is None else dataset
        workspace.set_dataset(data, report or SplitReport("given"), (), self.ontology(), propagate, self.task)
        return workspace

    def workspace(
        self, folder: Path, dataset: Dataset | None = None, *, report: SplitReport | None = None
    ) -> Workspace:
        """Make a workspace of the proteins, or of others, with the shares of residues as their vectors."""
        workspace = self.set_up(folder, dataset, report=report)
        embed_in_workspace(workspace, Intake(workspace.dataset), EmbeddingRecipe("composition"))
        return workspace


def many_rows() -> list[tuple[str, str, str, str]]:
    """Return the families' proteins, those rich in alanine with a second label."""
    second = {"alanine-rich": "alanine-rich;long"}
    return [(name, sequence, second.get(label, label), part) for name, sequence, label, part in families.rows()]


ONE_LABEL = Kind("one label", "alanine-rich", "glycine-rich", lambda: None, families.rows)
TERMS = Kind("terms", ontologies.LABELS["A"], ontologies.LABELS["G"], ontologies.tiny_ontology, ontologies.rows)
MANY = Kind("many labels", "alanine-rich;long", "glycine-rich", lambda: None, many_rows, MANY_LABELS)
KINDS = (ONE_LABEL, TERMS)


def with_parts(dataset: Dataset, names: dict[str, str]) -> Dataset:
    """Return a data set with other names for some of its parts."""
    return replace(dataset, parts=[names.get(part, part) for part in dataset.parts])


def without_part(dataset: Dataset, part: str) -> Dataset:
    """Return a data set without one of its parts."""
    return dataset.take([row for row, name in enumerate(dataset.parts) if name != part])


def relabelled(dataset: Dataset, part: str, label: str) -> Dataset:
    """Return a data set in which all proteins of a part have one label."""
    pairs = zip(dataset.labels, dataset.parts, strict=True)
    return replace(dataset, labels=[label if name == part else before for before, name in pairs])
