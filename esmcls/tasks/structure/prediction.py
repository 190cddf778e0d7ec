"""Answers for structures: the contacts of each protein, a row a pair of residues; `esmcls fold` gives the trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TextIO

import numpy as np

from esmcls.cache.features import Features
from esmcls.heads.base import PairHead
from esmcls.reading.records import Protein
from esmcls.reporting.rows import Unanswered, Written, write_rows
from esmcls.structures.distogram import PairAnswer, contact_probabilities, expected_distances
from esmcls.tasks.answering import Answered
from esmcls.tasks.fitted import FittedModel, NoFindings
from esmcls.types import Floats, Indices, Probabilities

LEAST_PROBABILITY: Final = 0.1
"""Of a contact that is told, where no other is asked for."""
LEAST_SEPARATION: Final = 6
"""Residues along the sequence: nearer pairs are in contact in every helix and turn (CASP asks for none of them)."""
NO_CONTACT: Final = "no_contact"
"""Status of a protein none of whose pairs is probable enough."""


@dataclass(frozen=True, slots=True)
class ContactPrediction:
    """One row of the answer: a pair of residues.

    Parameters
    ----------
    id : str
        The record's, verbatim.
    i, j : int or None
        Positions from 1, i before j; None where the protein has no answer, or no contact.
    residue_i, residue_j : str or None
        Their letters.
    probability : float or None
        That their CA atoms are nearer than 8 Å.
    distance : float or None
        Expected, in Å.
    status : str or None
        Why there is no pair, where there is none.
    note : str or None
        At the first pair: what makes the answer doubtful, and whether there are more pairs.
    model : str or None
        Whose answer it is.
    rank : int or None
        From 1, the likeliest pair of a protein first. Not a column.
    """

    id: str
    i: int | None = None
    j: int | None = None
    residue_i: str | None = None
    residue_j: str | None = None
    probability: float | None = None
    distance: float | None = None
    status: str | None = None
    note: str | None = None
    model: str | None = None
    rank: int | None = None

    @property
    def description(self) -> str | None:
        """Nothing: a row is of a pair."""
        return None


COLUMNS: Final = tuple(field.name for field in dataclasses.fields(ContactPrediction) if field.name != "rank")


class Contacts(NamedTuple):
    """The likeliest pairs of a protein, (pairs,) each: positions from 0, probabilities and expected distances in Å.

    `more` says how many are as probable as was asked for and were left out.
    """

    i: Indices
    j: Indices
    probability: Probabilities
    distance: Floats
    more: int


def contacts_of(answer: PairAnswer, least: float, bounded: bool) -> Contacts:
    """Return the pairs that are probable contacts, the likeliest first.

    Parameters
    ----------
    answer : PairAnswer
    least : float
        The least probability.
    bounded : bool
        Whether to return as many pairs as the protein has residues at most.
    """
    probabilities = contact_probabilities(answer.distogram)
    first, second = np.triu_indices(len(answer.positions), 1)
    apart = answer.positions[second] - answer.positions[first] >= LEAST_SEPARATION
    first, second = first[apart], second[apart]
    probability = probabilities[first, second]
    there = np.flatnonzero(probability >= least)
    order = there[np.argsort(-probability[there], kind="stable")]
    chosen = order[: answer.length] if bounded else order
    pairs = first[chosen], second[chosen]
    expected = expected_distances(answer.distogram[pairs][None])[0]
    i, j = (answer.positions[places] for places in pairs)
    return Contacts(i, j, probability[chosen], expected.astype(np.float64), len(order) - len(chosen))


@dataclass(frozen=True, eq=False)
class StructureAnswering:
    """How a model's answers are asked for and written.

    Parameters
    ----------
    model : FittedModel
    min_score : float, optional
        The least probability of a contact; all as probable are told. By default .1, and of a protein's pairs as many
        as it has residues.
    format : {"tsv", "csv", "xlsx", "jsonl"}
    """

    model: FittedModel[PairHead, NoFindings]
    min_score: float | None = None
    format: str = "tsv"

    def ask(self, x: Features) -> list[Contacts]:
        """Return the contacts of each protein; one distogram is in memory at a time."""
        least = LEAST_PROBABILITY if self.min_score is None else self.min_score
        return [contacts_of(answer, least, self.min_score is None) for answer in self.model.head.per_protein(x)]

    def rows(
        self, protein: Protein, answer: Contacts | Unanswered, note: str | None = None
    ) -> Iterator[ContactPrediction]:
        """Give a row a pair; a single row with a `status` where the protein has no answer, or no contact."""
        whose = self.model.name
        if isinstance(answer, Unanswered) or not len(answer.i):
            status = str(answer) if isinstance(answer, Unanswered) else NO_CONTACT
            yield ContactPrediction(protein.id, status=status, note=note, model=whose)
            return
        left_out = f"{answer.more:,} more pairs are as probable as .1 (--min-score .1)" if answer.more else None
        notes = "; ".join(text for text in (note, left_out) if text) or None
        columns = (column.tolist() for column in answer[:4])
        for rank, (i, j, probability, distance) in enumerate(zip(*columns, strict=True), 1):
            letters = protein.sequence[i], protein.sequence[j]
            beside = notes if rank == 1 else None
            yield ContactPrediction(
                protein.id, i + 1, j + 1, *letters, probability, distance, note=beside, model=whose, rank=rank
            )

    def write(self, answers: Iterable[Answered[Contacts]], handle: TextIO, described: bool = False) -> Written:
        """Write the rows of records as they come."""
        rows = (row for protein, answer, note in answers for row in self.rows(protein, answer, note))
        return write_rows(rows, handle, self.format, COLUMNS)
