"""What a reference knows, and how near a protein is to what it knows: told with every answer.

A protein is near where it aligns with one of the reference (an E-value of .001 or less), or where its vector is nearer
to one of them than those of 95 % of shuffled proteins are. Of any other nothing near is known, and nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from esmcls.cache.features import Features
from esmcls.errors import ModelError
from esmcls.heads.base import BaseTermHead, FindsNearest, TellsRelatives, TermHead
from esmcls.heads.ensemble.members import TermMember
from esmcls.heads.ensemble.term_ensemble import TermEnsembleHead
from esmcls.labels.kinds import GO_TERMS
from esmcls.models.model import Model
from esmcls.plain_values import from_plain
from esmcls.tasks.go_terms.hierarchy import TermHierarchy
from esmcls.tasks.go_terms.task import GoTerms
from esmcls.tasks.label_sets.thresholds import TermFindings

SCOPE: Final = "reference"
"""The entry of a manifest's setup."""
ALIGNED: Final = "aligned"
SIMILAR: Final = "similar"
NOTHING_NEAR: Final = "nothing near is known"
"""Status of a protein by what is near it."""
AT_LEAST: Final = 0
"""Terms of an aspect that are told where none reaches its threshold."""
STRANGERS: Final = 0.05
"""Share of shuffled proteins whose vector is taken for similar."""


@dataclass(frozen=True)
class Scope:
    """What a reference knows.

    Parameters
    ----------
    source : str
        Where its proteins and their terms are from, and of when.
    proteins, terms : int
    distance : float
        1 - cosine of the nearest vector, from which on a protein is similar to none.
    shuffled : int
        Shuffled proteins that this was chosen on; 0 where it was not.
    near : float or None
        Share of the validation proteins that are near one of those fitted on by then.
    precision, recall : float or None
        Of the terms that are told of these, a mean over proteins and aspects.
    """

    source: str
    proteins: int
    terms: int
    distance: float
    shuffled: int = 0
    near: float | None = None
    precision: float | None = None
    recall: float | None = None

    def __str__(self) -> str:
        return f"{self.source}: {self.proteins:,} proteins, {self.terms:,} terms"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def of(cls, model: Model) -> Scope:
        """Read that of a reference.

        Raises
        ------
        ModelError
            If the model is none: it predicts no Gene Ontology terms, or says nothing of its scope.
        """
        manifest = model.manifest
        if manifest.kind != GO_TERMS or SCOPE not in manifest.setup:
            fix = "make one with esmcls reference build, or ask the model with esmcls predict --model"
            raise ModelError(model.folder, f"is a model ({model.head_name}), but no reference", fix)
        try:
            return from_plain(cls, manifest.setup[SCOPE])
        except ValueError as error:
            raise ModelError(model.folder, f"its scope is damaged ({error})", "build it again") from None

    def lines(self) -> list[str]:
        """Say what it knows and how well that is known to work."""
        sentences = [str(self)]
        if self.near is not None and self.precision is not None and self.recall is not None:
            sentences.append(
                f"of proteins of other clusters {100 * self.near:.0f} % were near one of it; of their terms "
                f"{100 * self.recall:.0f} % were told, and {100 * self.precision:.0f} % of what was told was right"
            )
        if self.shuffled:
            sentences.append(
                f"of {self.shuffled:,} shuffled proteins {100 * STRANGERS:.0f} % have a vector that seems near"
            )
        return sentences


@dataclass(frozen=True)
class Nearest:
    """The nearest protein of a reference.

    Parameters
    ----------
    id : str or None
    status : str
        `ALIGNED`, `SIMILAR` or `NOTHING_NEAR`.
    measure : str
        The E-value of the alignment, or the distance of the vectors.
    """

    id: str | None
    status: str
    measure: str

    @property
    def near(self) -> bool:
        """Whether anything is said of the protein."""
        return self.status != NOTHING_NEAR


def parts_of(model: Model) -> tuple[BaseTermHead, TermFindings, TermHierarchy]:
    """Return the head of a model of Gene Ontology terms, what validation tells of it, and its classes."""
    assert isinstance(model.task, GoTerms)
    assert isinstance(model.head, BaseTermHead)
    assert isinstance(model.findings, TermFindings)
    return model.head, model.findings, model.task.hierarchy(model.classes)


def find_nearest(head: TermHead, x: Features, distance: float) -> list[Nearest]:
    """Return the nearest protein of each row: one that aligns, else that of the nearest vector.

    Parameters
    ----------
    head : TermHead
        Of a reference.
    x : Features
    distance : float
        See `Scope`.
    """
    nearest: list[Nearest] = [Nearest(None, NOTHING_NEAR, "") for _ in range(len(x))]
    for kind, rows, ids, values in _asked(head, x, distance):
        for row, (name, value) in enumerate(zip(ids, values, strict=True)):
            if name is None or nearest[row].near:
                continue
            status = kind if rows[row] else NOTHING_NEAR
            measure = f"E-value {value:.2g}" if kind == ALIGNED else f"distance {value:.3f}"
            if rows[row] or kind == SIMILAR:
                nearest[row] = Nearest(name, status, measure)
    return nearest


def _asked(
    head: TermHead, x: Features, distance: float
) -> list[tuple[str, Sequence[bool], Sequence[str | None], Sequence[float]]]:
    """Ask the head, or its members, those that align first: kind, whether near, nearest id, and how near it is."""
    answers: list[tuple[str, Sequence[bool], Sequence[str | None], Sequence[float]]] = []
    for member in _members(head):
        if not isinstance(member.head, FindsNearest):
            continue
        view = member.view(x)
        values, ids = member.head.nearest(view)
        if isinstance(member.head, TellsRelatives):
            answers.insert(0, (ALIGNED, member.head.related(view).tolist(), ids, values.tolist()))
        else:
            answers.append((SIMILAR, (np.asarray(values) <= distance).tolist(), ids, values.tolist()))
    return answers


def _members(head: TermHead) -> tuple[TermMember, ...]:
    return head.members if isinstance(head, TermEnsembleHead) else (TermMember("", "", head),)


def vector_distances(head: TermHead, x: Features) -> list[float]:
    """Return the distance of the nearest vector of each row, where a member knows it; else nothing."""
    for member in _members(head):
        if isinstance(member.head, FindsNearest) and not isinstance(member.head, TellsRelatives):
            return [float(distance) for distance in member.head.nearest(member.view(x))[0]]
    return []
