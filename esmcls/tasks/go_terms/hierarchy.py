"""The classes of a model of Gene Ontology terms: what they are called, which contain which."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from esmcls.labels.ontology import Ontology
from esmcls.tasks.label_sets.hierarchy import ClassHierarchy
from esmcls.types import Indices


@dataclass(frozen=True, eq=False)
class TermHierarchy(ClassHierarchy):
    """The ontology of a model and those of its terms that are classes; see `ClassHierarchy`.

    Parameters
    ----------
    ontology : Ontology
        All of it: labels of other proteins go up through terms that are no classes.
    classes : tuple of str

    Examples
    --------
    >>> tree = Ontology(("GO:1", "GO:2", "GO:3"), ("all", "some", "one"), "FFF", ((), (0,), (1,)))
    >>> terms = TermHierarchy(tree, ("GO:2", "GO:3"))
    >>> terms.groups, terms.names, terms.edges.tolist(), terms.depth.tolist()
    (('F', 'F'), ('some', 'one'), [[1, 0]], [0, 1])
    """

    ontology: Ontology
    classes: tuple[str, ...]

    @cached_property
    def _places(self) -> list[int]:
        return [self.ontology.place[term] for term in self.classes]

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The aspect of each class: C, F or P."""
        return self.ontology.groups_of(self.classes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What each class is called."""
        return tuple(self.ontology.names[place] for place in self._places)

    @cached_property
    def edges(self) -> npt.NDArray[np.int64]:
        """Pairs of codes (child, parent), (edges, 2); see `Ontology.edges`."""
        return self.ontology.edges(self.classes)

    @cached_property
    def depth(self) -> Indices:
        """The place of each class in an order in which parents stand before their children, (classes,)."""
        rank = {place: number for number, place in enumerate(self.ontology.order)}
        places = np.empty(len(self.classes), dtype=np.int64)
        places[np.argsort([rank[place] for place in self._places])] = np.arange(len(self.classes))
        return places
