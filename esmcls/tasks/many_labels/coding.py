"""From the labels of a data set's rows to sets of them."""

from __future__ import annotations

from collections.abc import Sequence

from esmcls.labels.label_lists import labels_in
from esmcls.labels.labels import LabelSets
from esmcls.tasks.many_labels.classes import OneGroup


def label_sets(texts: Sequence[str], classes: Sequence[str] | None = None) -> LabelSets:
    """Return the labels that each text lists, by those that occur or by those given; others are left out.

    Examples
    --------
    >>> labels = label_sets(["b;a", "a|c"])
    >>> labels.classes, labels.names()
    (('a', 'b', 'c'), [('a', 'b'), ('a', 'c')])
    """
    names = [labels_in(text) for text in texts]
    known = tuple(sorted({label for row in names for label in row}) if classes is None else classes)
    return LabelSets.from_names(names, known, OneGroup().groups_of(known))
