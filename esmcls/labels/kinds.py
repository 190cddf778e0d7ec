"""The kinds of task by name: what the labels of a data set are, as a workspace and a model remember it.

What each of them does stands in `esmcls.tasks`.
"""

from __future__ import annotations

from typing import Final

ONE_LABEL: Final = "one-label"
"""A class for each protein."""
GO_TERMS: Final = "go-terms"
"""Any number of the terms of an ontology."""
NUMBER: Final = "number"
"""An amount, such as a melting temperature."""
KINDS: Final = (
    ONE_LABEL,
    GO_TERMS,
    NUMBER,
)
CLASSES_OF: Final = {GO_TERMS: "Gene Ontology terms"}
"""What the classes of a kind are called, where they are not called classes."""
NAMED: Final = (
    ONE_LABEL,
    NUMBER,
)
"""Those that a user may name (`--task`); terms are known by their ontology."""
WITHOUT_CLASSES: Final = {NUMBER: "a number each"}
"""Kinds whose labels are no classes, and what proteins have instead."""


def classes_in_words(kind: str, classes: int, noun: str = "classes") -> str:
    """Say how many classes there are; of a kind without any, what proteins have instead.

    Examples
    --------
    >>> classes_in_words(ONE_LABEL, 1200), classes_in_words(NUMBER, 0)
    ('1,200 classes', 'a number each')
    """
    return WITHOUT_CLASSES.get(kind) or f"{classes:,} {noun}"
