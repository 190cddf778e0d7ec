"""Answers to new proteins, with what their classes lie under, and the narrowest level that is sure enough."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from esmcls.labels.hierarchy import NONE, ClassTree, Hierarchy
from esmcls.metrics.tree_answers import answered_levels, node_masses, path_masses
from esmcls.types import Floats, Indices, Probabilities

BETWEEN: Final = "|"
"""What stands between a class's ancestors."""


@dataclass(frozen=True, eq=False)
class LevelAnswers:
    """Answers to new proteins, with what their classes lie under.

    Parameters
    ----------
    hierarchy : Hierarchy
    classes : tuple of str
        Of the head.
    """

    hierarchy: Hierarchy
    classes: tuple[str, ...]

    @cached_property
    def tree(self) -> ClassTree:
        """Where the classes lie."""
        return ClassTree.of(self.hierarchy, self.classes)

    def ancestors(self, probabilities: Probabilities, codes: Indices) -> list[list[str]]:
        """Return what each class of each row lies under, the nearest first, with the probability of all that is there.

        Parameters
        ----------
        probabilities : float32 array, (n, classes)
        codes : int64 array, (n, k)
        """
        rows = zip(codes.tolist(), node_masses(probabilities, self.tree), strict=True)
        return [[self._way(code, masses) for code in ranked] for ranked, masses in rows]

    def _way(self, code: int, masses: Floats) -> str:
        way = [node for node in self.tree.paths[code].tolist() if node >= 0][:-1]
        return BETWEEN.join(f"{self.tree.nodes[node]}={min(masses[node], 1.0):.4g}" for node in reversed(way))

    def answered(self, probabilities: Probabilities, threshold: float) -> list[dict[str, str | None]]:
        """Return `level` and `answer` of each row: the narrowest node of a mass above a threshold.

        At the class's own level the answer is the class as it is written, and the level is the last where nothing is
        left open below; where no node has such a mass, the level is `none` and there is no answer.
        """
        likeliest, masses = path_masses(probabilities, self.tree)
        levels = answered_levels(masses, threshold)
        shown = self.tree.shown_level(likeliest, levels)
        answers = zip(likeliest.tolist(), levels.tolist(), shown.tolist(), strict=True)
        return [self._answer(*answer) for answer in answers]

    def _answer(self, code: int, level: int, shown: int) -> dict[str, str | None]:
        if not level:
            return {"level": NONE, "answer": None}
        is_class = level == self.tree.depths[code]
        node = self.classes[code] if is_class else self.tree.nodes[self.tree.paths[code, level - 1]]
        return {"level": self.hierarchy.levels[shown - 1], "answer": node}
