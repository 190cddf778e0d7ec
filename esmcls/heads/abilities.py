"""What a head can do besides what all must: protocols that whoever wants it asks for by `isinstance`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.types import Indices, Probabilities

if TYPE_CHECKING:
    from esmcls.cache.spec import EmbeddingSpec


@runtime_checkable
class FindsNearest(Protocol):
    """A head that names the training row that each row is nearest to."""

    def nearest(self, x: Features) -> tuple[npt.NDArray[np.floating[Any]], list[str | None]]:
        """Return a distance (n,) and the id of the nearest training row; infinity and None where there is none."""
        ...


@runtime_checkable
class KnowsItsRows(Protocol):
    """A head that keeps the labels of its training rows."""

    @property
    def label_of_row(self) -> Mapping[str, str]:
        """The label of each training row by its id; ids of rows with different labels are not there."""
        ...


@runtime_checkable
class KeepsCheckpoints(Protocol):
    """A head whose training takes long: where it was interrupted, the same fit goes on from its last checkpoint."""

    checkpoints: Path | None
    """The folder of checkpoints, made if need be; None for none. Who names it removes it when the fit is done."""


def labels_by_id(ids: Sequence[str], codes: Indices, classes: Sequence[str]) -> dict[str, str]:
    """Return the label of each id, but of those that stand for rows of different classes.

    Examples
    --------
    >>> labels_by_id(["a", "b", "b", "c", "c"], np.array([0, 1, 1, 0, 1]), ["x", "y"])
    {'a': 'x', 'b': 'y'}
    """
    codes_of: dict[str, set[int]] = {}
    for name, code in zip(ids, codes.tolist(), strict=True):
        codes_of.setdefault(name, set()).add(code)
    return {name: classes[known.pop()] for name, known in codes_of.items() if len(known) == 1}


@dataclass(frozen=True)
class AlignedSegment:
    """A part of a protein that aligns with a training protein.

    Parameters
    ----------
    nearest_id : str
        Of the training protein.
    evalue, score : float
    query_start, query_end, target_start, target_end : int
        First and last residue of the segment in both, counted from 1.
    aligned, identical : int
        Pairs of residues, and those of one letter.
    query_coverage, target_coverage : float
        Share of each protein's residues that lie in the segment.
    cigar : str
        The alignment as SAM writes it: M a pair, I a residue of the query alone, D one of the target alone.
    carried_by : str
        The residues of the query whose pairs score highest, such as `W34,G56`.
    """

    nearest_id: str
    evalue: float
    score: float
    query_start: int
    query_end: int
    target_start: int
    target_end: int
    aligned: int
    identical: int
    query_coverage: float
    target_coverage: float
    cigar: str
    carried_by: str


@runtime_checkable
class ShowsAlignments(Protocol):
    """A head that says which residues align with those of training proteins."""

    def segments(self, x: Features) -> list[list[AlignedSegment]]:
        """Return the segments of each row, the best first; those after it overlap none before them."""
        ...


@runtime_checkable
class TellsRelatives(Protocol):
    """A head that knows which rows have a relative among those of training."""

    def related(self, x: Features) -> npt.NDArray[np.bool_]:
        """Return whether each row has a relative, bool (n,)."""
        ...


@runtime_checkable
class AnswersInBlocks(Protocol):
    """A head for many labels that need not hold the probabilities of all rows and classes at once."""

    def blocks(self, x: Features) -> Iterator[tuple[slice, Probabilities]]:
        """Give slices of rows and their probabilities, float32 (rows, classes)."""
        ...


@runtime_checkable
class AnswersOutOfFold(Protocol):
    """A head for many labels that learnt more of its validation rows than a few choices."""

    def held_blocks(self, x: Features) -> Iterator[tuple[slice, Probabilities]]:
        """Give the blocks of the validation rows of the last `fit`, so that none is by what was learnt of it."""
        ...


@runtime_checkable
class ReadsSpecs(Protocol):
    """A head of several, each of which reads the vectors of an encoder of its own."""

    @property
    def specs(self) -> tuple[EmbeddingSpec, ...]:
        """The specs of these vectors, each once; none where features are read as they are given."""
        ...


@runtime_checkable
class ExplainsItself(Protocol):
    """A head that says in a line which way of fitting it took, and why."""

    @property
    def explanation(self) -> str:
        """The line."""
        ...
