"""The classes of a model of Gene Ontology terms: what they are called, which contain which, how probable they are.

No term is ever less probable than one that it contains, whatever the head says: all scores come from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.heads.base import AnswersInBlocks, AnswersOutOfFold, TermHead
from esmcls.labels.ontology import Ontology, raise_parents
from esmcls.types import Indices, Probabilities

BLOCK: Final = 512
"""Proteins scored at a time: what bounds the memory."""


@dataclass(frozen=True, eq=False)
class TermHierarchy:
    """The ontology of a model and those of its terms that are classes.

    Parameters
    ----------
    ontology : Ontology
        All of it: labels of other proteins go up through terms that are no classes.
    classes : tuple of str
        In the order of a head's columns.

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
        return tuple(self.ontology.aspects[place] for place in self._places)

    @cached_property
    def place(self) -> Indices:
        """The place of each class's aspect among those that there are, (classes,)."""
        return np.unique(np.array(self.groups, dtype=str), return_inverse=True)[1].astype(np.int64)

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
        found = np.empty(len(self.classes), dtype=np.int64)
        found[np.argsort([rank[place] for place in self._places])] = np.arange(len(self.classes))
        return found

    def members(self, aspects: str) -> npt.NDArray[np.bool_]:
        """Return which classes are of some aspects, such as "CF", (classes,)."""
        return np.array([group in aspects for group in self.groups], dtype=bool)

    def scores(self, head: TermHead, x: Features) -> Probabilities:
        """Return the probability of each class, float32 (n, classes): as the head says, or as that of a child.

        It is stored column by column. For blocks of rows, never for a whole set.
        """
        return self.raised(head.predict_proba(x))

    def raised(self, probabilities: Probabilities) -> Probabilities:
        """Return what a head says with each parent as probable as its children; see `scores`."""
        scores = np.array(probabilities, dtype=np.float32, order="F")
        raise_parents(scores, self.edges)
        return scores

    def blocks(self, head: TermHead, x: Features) -> Iterator[tuple[slice, Probabilities]]:
        """Give the scores of many proteins, block by block: a head's own blocks if it tells any, of one search."""
        if isinstance(head, AnswersInBlocks):
            for rows, probabilities in head.blocks(x):
                yield rows, self.raised(probabilities)
            return
        for start in range(0, len(x), BLOCK):
            rows = slice(start, min(start + BLOCK, len(x)))
            yield rows, self.scores(head, x.take(rows))

    def held_blocks(self, head: TermHead, x: Features) -> Iterator[tuple[slice, Probabilities]]:
        """Give the scores of the validation rows that a head was fitted with, out of fold if it can."""
        if not isinstance(head, AnswersOutOfFold):
            yield from self.blocks(head, x)
            return
        for rows, probabilities in head.held_blocks(x):
            yield rows, self.raised(probabilities)

    def predict_proba(self, head: TermHead, x: Features) -> Probabilities:
        """Return the scores of all proteins at once, float32 (n, classes): memory for every one of them."""
        out = np.zeros((len(x), len(self.classes)), dtype=np.float32)
        for rows, scores in self.blocks(head, x):
            out[rows] = scores
        return out

    def top_k(self, head: TermHead, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k most probable classes a protein and their scores, both (n, min(k, classes)).

        Of equals, as a child and its parent often are, the parent comes first.
        """
        k = min(k, len(self.classes))
        codes = np.zeros((len(x), k), dtype=np.int64)
        best = np.zeros((len(x), k), dtype=np.float32)
        for rows, scores in self.blocks(head, x):
            order = np.lexsort((np.broadcast_to(self.depth, scores.shape), -scores), axis=1)[:, :k]
            codes[rows] = order
            best[rows] = np.take_along_axis(scores, order, axis=1)
        return codes, best
