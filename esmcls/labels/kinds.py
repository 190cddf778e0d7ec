"""The kinds of task by name: what the labels of a data set are, as a workspace and a model remember it.

What each of them does stands in `esmcls.tasks`.
"""

from __future__ import annotations

from typing import Final

ONE_LABEL: Final = "one-label"
"""A class for each protein."""
GO_TERMS: Final = "go-terms"
"""Any number of the terms of an ontology."""
MANY_LABELS: Final = "many-labels"
"""Any number of labels, which no ontology orders."""
RESIDUE_LABEL: Final = "residue-label"
"""A letter for each residue."""
RESIDUE_NUMBER: Final = "residue-number"
"""A value for each residue."""
OF_RESIDUES: Final = (RESIDUE_LABEL, RESIDUE_NUMBER)
"""Kinds whose labels say something of each residue, not of the protein."""
KINDS: Final = (
    ONE_LABEL,
    GO_TERMS,
    MANY_LABELS,
    RESIDUE_LABEL,
    RESIDUE_NUMBER,
)
CLASSES_OF: Final = {
    GO_TERMS: "Gene Ontology terms",
    MANY_LABELS: "labels",
    RESIDUE_LABEL: "classes of residues",
    RESIDUE_NUMBER: "classes (numbers of residues)",
}
"""What the classes of a kind are called, where they are not called classes."""
NAMED: Final = (
    ONE_LABEL,
    MANY_LABELS,
    RESIDUE_LABEL,
    RESIDUE_NUMBER,
)
"""Those that a user may name (`--task`); terms are known by their ontology."""
