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
KINDS: Final = (
    ONE_LABEL,
    GO_TERMS,
    MANY_LABELS,
)
CLASSES_OF: Final = {
    GO_TERMS: "Gene Ontology terms",
    MANY_LABELS: "labels",
}
"""What the classes of a kind are called, where they are not called classes."""
NAMED: Final = (
    ONE_LABEL,
    MANY_LABELS,
)
"""Those that a user may name (`--task`); terms are known by their ontology."""
