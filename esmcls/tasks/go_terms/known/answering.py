"""Answers to proteins of which terms are known: these are no news, and what is denied is never said.

Sequences are asked about once, but proteins of one sequence may be known differently: so each protein's answer is
made of its sequence's, where the model's answer lies whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TextIO

import numpy as np

from esmcls.cache.features import Features
from esmcls.reading.records import Protein
from esmcls.reporting.rows import Unanswered, Written
from esmcls.tasks.answering import Answered
from esmcls.tasks.go_terms.known.known_terms import KnownTerms, known_codes, places_to_codes
from esmcls.tasks.go_terms.known.taxon_terms import TaxonTerms
from esmcls.tasks.go_terms.prediction import (
    CAFA,
    TermAnswering,
    TermPrediction,
    write_cafa,
    write_terms,
)
from esmcls.tasks.label_sets.prediction import TermAnswer
from esmcls.types import Indices, Probabilities


@dataclass(frozen=True, eq=False)
class AnswerBeside:
    """What a model says of a sequence, and its head's probabilities, where a protein may have a denied term."""

    said: TermAnswer
    raw: Probabilities | None


@dataclass(frozen=True, eq=False)
class KnowingAnswering:
    """How a model that is told what is known answers.

    Parameters
    ----------
    plain : TermAnswering
        How it answers without.
    known : KnownTerms
    taxa : TaxonTerms, optional
        What the organism of each protein cannot have.
    """

    plain: TermAnswering
    known: KnownTerms
    taxa: TaxonTerms | None = None
    _codes: Indices = field(init=False, repr=False)
    _whole: TermAnswering = field(init=False, repr=False)
    """Without a limit on the number of terms, which is kept to when what is known has gone."""

    def __post_init__(self) -> None:
        codes = places_to_codes(self.plain.hierarchy.ontology, self.plain.hierarchy.classes)
        object.__setattr__(self, "_codes", codes)
        object.__setattr__(self, "_whole", replace(self.plain, wanted=replace(self.plain.wanted, most=None)))

    def ask(self, x: Features) -> list[AnswerBeside]:
        """Return what the model says of each sequence."""
        raw = self.plain.model.head.predict_proba(x)
        said = self._whole.of_scores(self.plain.hierarchy.raised(raw), self.plain.nearest(x))
        needed = bool(self.known.lacks) or self.taxa is not None
        return [AnswerBeside(answer, row if needed else None) for answer, row in zip(said, raw, strict=True)]

    def of_protein(self, protein: Protein, answer: AnswerBeside) -> tuple[TermAnswer, str | None]:
        """Return the answer to a protein, and what to note of it."""
        has, lacks = (known_codes(self._codes, places) for places in self.known.of(protein.id))
        said = answer.said
        denied = int(np.isin(said.codes, lacks).sum())
        barred = self._barred(protein, np.concatenate([has, lacks]))
        of_taxon = int(np.isin(said.codes, barred).sum())
        if self.taxa is not None:
            self.taxa.leave_out(of_taxon)
        lacks = np.concatenate([lacks, barred])
        if len(lacks) and answer.raw is not None:
            raw = answer.raw.copy()
            raw[lacks] = 0  # before parents are raised: none is likely for the sake of a child that is not there
            [said] = self._whole.of_scores(self.plain.hierarchy.raised(raw[None]), [said.nearest_id])
        news = ~np.isin(said.codes, has)
        chosen = np.flatnonzero(news)[: self.plain.wanted.most]
        codes, probabilities, predicted = said.codes[chosen], said.probabilities[chosen], said.predicted[chosen]
        in_set = None if said.in_set is None else said.in_set[chosen]
        left_out = {"known term": int((~news).sum()), "denied term": denied, "term of other taxa": of_taxon}
        parts = [f"{_several(count, what)} left out" for what, count in left_out.items() if count]
        left = said._replace(codes=codes, probabilities=probabilities, predicted=predicted, in_set=in_set)
        return left, "; ".join(parts) or None

    def _barred(self, protein: Protein, known: Indices) -> Indices:
        """Return the codes of what the organism of a protein cannot have, but for those that are told of it."""
        if self.taxa is None:
            return np.zeros(0, np.int64)
        return np.setdiff1d(known_codes(self._codes, self.taxa.barred(protein)), known)

    def rows(
        self, protein: Protein, answer: AnswerBeside | Unanswered, note: str | None = None
    ) -> Iterator[TermPrediction]:
        """Give a row a term that is news; see `TermAnswering.rows`."""
        if isinstance(answer, Unanswered):
            return self._whole.rows(protein, answer, note)
        said, left_out = self.of_protein(protein, answer)
        return self._whole.rows(protein, said, "; ".join(filter(None, (note, left_out))) or None)

    def write(self, answers: Iterable[Answered[AnswerBeside]], handle: TextIO, described: bool = False) -> Written:
        """Write a table, or a CAFA submission, as the answers come."""
        if self.plain.format == CAFA:
            return write_cafa(map(self._news, answers), self.plain.hierarchy.classes, handle)
        rows = (row for protein, answer, note in answers for row in self.rows(protein, answer, note))
        return write_terms(rows, handle, self.plain.format, described, self.plain.columns)

    def _news(self, answered: Answered[AnswerBeside]) -> Answered[TermAnswer]:
        protein, answer, note = answered
        if isinstance(answer, Unanswered):
            return Answered(protein, answer, note)
        return Answered(protein, self.of_protein(protein, answer)[0], note)


def _several(number: int, what: str) -> str:
    """Say how many terms there are of a kind."""
    return f"{number} {what}" if number == 1 else f"{number} {what.replace('term', 'terms', 1)}"
