"""The labels of a model, none of which contains another: all are one group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from esmcls.tasks.label_sets.hierarchy import ClassHierarchy
from esmcls.tasks.label_sets.thresholds import TermFindings
from esmcls.types import Indices

ALL: Final = "all labels"
"""The name of the one group."""


@dataclass(frozen=True, eq=False)
class FlatClasses(ClassHierarchy):
    """Labels side by side; see `ClassHierarchy`.

    Examples
    --------
    >>> labels = FlatClasses(("Cell membrane", "Nucleus"))
    >>> labels.groups, labels.edges.shape, labels.depth.tolist()
    (('all labels', 'all labels'), (0, 2), [0, 1])
    """

    classes: tuple[str, ...]

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The one group, for each label."""
        return OneGroup().groups_of(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels: they have no other name."""
        return self.classes

    @cached_property
    def edges(self) -> npt.NDArray[np.int64]:
        """None: (0, 2)."""
        return np.zeros((0, 2), dtype=np.int64)

    @cached_property
    def depth(self) -> Indices:
        """The order of the labels, (classes,)."""
        return np.arange(len(self.classes), dtype=np.int64)


class OneGroup:
    """What knows that every label is of the one group; see `esmcls.tasks.label_sets.thresholds.Grouped`."""

    def groups_of(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Return the group of each class."""
        return (ALL,) * len(classes)


class LabelSetFindings(TermFindings):
    """What validation rows tell of a head of many labels; see `TermFindings`."""

    noun: ClassVar[str] = "label"
