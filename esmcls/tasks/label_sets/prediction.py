"""The classes of proteins that may have any number of them: which a model predicts, and what that is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.base import TermHead
from esmcls.tasks.fitted import FittedModel, nearest_to
from esmcls.tasks.label_sets.hierarchy import ClassHierarchy
from esmcls.tasks.label_sets.thresholds import TermFindings
from esmcls.tasks.label_sets.trust.expected import expected_f
from esmcls.tasks.label_sets.trust.sets import least_in_set
from esmcls.types import Indices, Probabilities

TABLE_LEAST: Final = 0.1
"""The lowest probability that a table holds by default: no threshold is lower."""
ACCEPTED: Final = "accepted"
REJECTED: Final = "rejected"
"""Status by what the answer is expected to be worth: no class of a protein that is rejected is known."""
IN_SET: Final = "in_set"
"""The column that a table has only where sets of a coverage are asked for."""


@dataclass(frozen=True)
class Wanted:
    """Which classes of a protein are wanted.

    Parameters
    ----------
    min_score : float
        Least probability, more than 0.
    groups : str
        Of the classes; of Gene Ontology terms the letters of the aspects.
    most : int, optional
        So many of the most probable ones.
    at_least : int
        Classes predicted in a group in which none reaches its threshold.
    decided : bool
        Whether classes that are predicted are wanted whatever their probability, and it is said which they are.
    named : bool
        Whether the nearest training protein is to be looked for.
    coverage : float, optional
        Whether classes of a set of this coverage are wanted whatever their probability, and it is said which they are.
    """

    groups: str
    min_score: float = TABLE_LEAST
    most: int | None = None
    at_least: int = 1
    decided: bool = True
    named: bool = True
    coverage: float | None = None


class TermAnswer(NamedTuple):
    """The classes of a protein, the most probable first, a parent before its children.

    Parameters
    ----------
    codes : int64 array, (m,)
        Places among the model's classes.
    probabilities : float32 array, (m,)
    predicted : bool array, (m,)
        Whether each reaches its threshold, or contains one that does.
    nearest_id : str or None
        The nearest training protein, where it is known.
    worth : float or None
        The F that what is predicted is expected to reach, where the model can tell.
    in_set : bool array (m,) or None
        Whether each is in the set of the coverage that is asked for, if one is.
    """

    codes: Indices
    probabilities: Probabilities
    predicted: npt.NDArray[np.bool_]
    nearest_id: str | None = None
    worth: float | None = None
    in_set: npt.NDArray[np.bool_] | None = None

    def within(self) -> list[bool | None]:
        """Return `in_set` as a list, (m,)."""
        return [None] * len(self.codes) if self.in_set is None else self.in_set.tolist()


def _ranked(scores: Probabilities, shown: npt.NDArray[np.bool_], depth: Indices, most: int | None) -> Iterator[Indices]:
    """Give the codes of each row in the order of their probabilities; of equals, the parent comes first."""
    for values, wanted in zip(np.ascontiguousarray(scores), np.ascontiguousarray(shown), strict=True):
        codes = np.flatnonzero(wanted)
        yield codes[np.lexsort((depth[codes], -values[codes]))][:most]


@dataclass(frozen=True, eq=False)
class LabelSetAnswering:
    """How a model's answers are asked for.

    Parameters
    ----------
    model : FittedModel
    hierarchy : ClassHierarchy
        Of its classes.
    wanted : Wanted
    format : str

    Raises
    ------
    UsageError
        If the model cannot promise the coverage that is asked for, or a limit would cut a set.
    """

    model: FittedModel[TermHead, TermFindings]
    hierarchy: ClassHierarchy
    wanted: Wanted
    format: str = "tsv"

    def __post_init__(self) -> None:
        if self.wanted.coverage is not None and self.wanted.most is not None:
            raise UsageError("--top-k would cut the sets of --coverage; leave out one of them")
        self.least_in_set  # noqa: B018 (what cannot be promised is told before anything is embedded)

    @cached_property
    def least_in_set(self) -> npt.NDArray[np.float32] | None:
        """From what probability on each class is in a set, (classes,); None where no coverage is asked for."""
        if self.wanted.coverage is None:
            return None
        thresholds = self.model.findings.sets_of(self.wanted.coverage, self.wanted.groups)
        return least_in_set(thresholds, self.hierarchy.groups)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a table that are there only for what is asked."""
        return () if self.wanted.coverage is None else (IN_SET,)

    def ask(self, x: Features) -> list[TermAnswer]:
        """Return the classes of each protein."""
        return self.of_scores(self.hierarchy.scores(self.model.head, x), self.nearest(x))

    def nearest(self, x: Features) -> list[str | None]:
        """Return the nearest training protein of each, where it is wanted."""
        if not self.wanted.named:
            return [None] * len(x)
        return [fields.get("nearest_id") for fields in nearest_to(self.model, x)]

    def of_scores(self, scores: Probabilities, nearest: Sequence[str | None]) -> list[TermAnswer]:
        """Return the classes of proteins by the probabilities of all, (n, classes)."""
        shown = scores >= np.float32(self.wanted.min_score)
        predicted = np.zeros(scores.shape, bool)
        if self.wanted.decided:
            predicted = self.model.findings.thresholds.decide(scores, self.hierarchy, self.wanted.at_least)
            shown |= predicted
        within = None if self.least_in_set is None else scores >= self.least_in_set
        if within is not None:
            shown |= within
        shown &= self.hierarchy.members(self.wanted.groups)
        worth = self._worth(scores, predicted)
        ranked = _ranked(scores, shown, self.hierarchy.depth, self.wanted.most)
        return [
            TermAnswer(
                codes,
                scores[row, codes],
                predicted[row, codes],
                nearest[row],
                worth[row],
                None if within is None else within[row, codes],
            )
            for row, codes in enumerate(ranked)
        ]

    def _worth(self, scores: Probabilities, predicted: npt.NDArray[np.bool_]) -> Sequence[float | None]:
        """Return the F that each answer is expected to reach, where classes are decided and the model can tell."""
        trust = self.model.findings.trust
        if trust is None or not self.wanted.decided:
            return [None] * len(scores)
        worth: list[float | None] = trust.worth(expected_f(scores, predicted, self.hierarchy.place)).tolist()
        return worth

    def status(self, worth: float | None) -> dict[str, Any]:
        """Return `status` by what an answer is worth, where that is known."""
        trust = self.model.findings.trust
        if trust is None or worth is None:
            return {}
        return {"status": ACCEPTED if worth >= trust.threshold else REJECTED}
