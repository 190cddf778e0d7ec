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
NUMBER: Final = "number"
"""An amount, such as a melting temperature."""
RESIDUE_LABEL: Final = "residue-label"
"""A letter for each residue."""
RESIDUE_NUMBER: Final = "residue-number"
"""A value for each residue."""
STRUCTURE: Final = "structure"
"""The place of the CA atom of each residue."""
OF_RESIDUES: Final = (RESIDUE_LABEL, RESIDUE_NUMBER, STRUCTURE)
"""Kinds whose labels say something of each residue, not of the protein."""
KINDS: Final = (
    ONE_LABEL,
    GO_TERMS,
    MANY_LABELS,
    NUMBER,
    RESIDUE_LABEL,
    RESIDUE_NUMBER,
    STRUCTURE,
)
CLASSES_OF: Final = {
    GO_TERMS: "Gene Ontology terms",
    MANY_LABELS: "labels",
    RESIDUE_LABEL: "classes of residues",
}
"""What the classes of a kind are called, where they are not called classes."""
NAMED: Final = (
    ONE_LABEL,
    MANY_LABELS,
    NUMBER,
    RESIDUE_LABEL,
    RESIDUE_NUMBER,
    STRUCTURE,
)
"""Those that a user may name (`--task`); terms are known by their ontology."""
WITHOUT_CLASSES: Final = {
    NUMBER: "a number each",
    RESIDUE_NUMBER: "a number for each residue",
    STRUCTURE: "a structure each",
}
"""Kinds whose labels are no classes, and what proteins have instead."""


def classes_in_words(kind: str, classes: int, noun: str = "classes") -> str:
    """Say how many classes there are; of a kind without any, what proteins have instead.

    Examples
    --------
    >>> classes_in_words(ONE_LABEL, 1200), classes_in_words(NUMBER, 0)
    ('1,200 classes', 'a number each')
    """
    return WITHOUT_CLASSES.get(kind) or f"{classes:,} {noun}"
