"""The classes of a model of many labels a protein: what they are called, which contain which, how probable they are.

No class is ever less probable than one that it contains, whatever the head says: all scores come from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.heads.base import AnswersInBlocks, AnswersOutOfFold, TermHead
from esmcls.labels.ontology import raise_parents
from esmcls.types import Indices, Probabilities

BLOCK: Final = 512
"""Proteins scored at a time: what bounds the memory."""


class ClassHierarchy(ABC):
    """The classes of a model and which contains which; a subclass is a frozen dataclass that has them."""

    classes: tuple[str, ...]
    """In the order of a head's columns."""

    @property
    @abstractmethod
    def groups(self) -> tuple[str, ...]:
        """The group of each class, in which it is measured: of GO terms the aspect."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """What each class is called."""

    @property
    @abstractmethod
    def edges(self) -> npt.NDArray[np.int64]:
        """Pairs of codes (child, parent), (edges, 2)."""

    @property
    @abstractmethod
    def depth(self) -> Indices:
        """The place of each class in an order in which parents stand before their children, (classes,)."""

    @cached_property
    def place(self) -> Indices:
        """The place of each class's group among those that there are, (classes,)."""
        return np.unique(np.array(self.groups, dtype=str), return_inverse=True)[1].astype(np.int64)

    def members(self, groups: str) -> npt.NDArray[np.bool_]:
        """Return which classes are of some groups, such as the aspects "CF", (classes,)."""
        return np.array([group in groups for group in self.groups], dtype=bool)

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
