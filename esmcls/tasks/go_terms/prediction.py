"""Gene Ontology terms of proteins, as rows of a table or of a CAFA submission."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TextIO

from esmcls.errors import UsageError
from esmcls.heads.base import TermHead
from esmcls.labels.ontology import ASPECTS
from esmcls.reading.ids import accession, first_word
from esmcls.reading.records import Protein
from esmcls.reporting.rows import DESCRIPTION, Unanswered, Written, write_rows
from esmcls.tasks.answering import Answered
from esmcls.tasks.fitted import FittedModel
from esmcls.tasks.go_terms.hierarchy import TermHierarchy
from esmcls.tasks.label_sets.prediction import IN_SET, LabelSetAnswering, TermAnswer, Wanted
from esmcls.tasks.label_sets.thresholds import TermFindings

CAFA: Final = "cafa"
"""The format of a CAFA submission: `id<TAB>term<TAB>score`, without a header."""
MOST: Final = 1500
"""Terms a protein that a CAFA submission may hold, over all aspects."""
CAFA_LEAST: Final = 0.01
"""The lowest probability that is written by default: CAFA's measures begin there."""
ALL: Final = "".join(ASPECTS)
"""The letters of all aspects."""
_ALL_WANTED: Final = Wanted(ALL)
NO_TERM: Final = "no_term"
"""Status of a protein without a term to write."""


def cafa_wanted(aspects: str = ALL, min_score: float = CAFA_LEAST, most: int | None = None) -> Wanted:
    """Return what a CAFA submission holds: 1,500 terms at most, whatever their thresholds."""
    return Wanted(aspects, min_score, min(MOST, most or MOST), decided=False, named=False)


@dataclass(frozen=True, slots=True)
class TermPrediction:
    """One row of the table: a term of a protein.

    Parameters
    ----------
    id : str
        The record's, verbatim.
    rank : int or None
        1 for the most probable term of all aspects; None where there is none.
    term, name, aspect : str or None
        Its id, what it is called, and C, F or P.
    probability : float or None
    predicted : bool or None
        Whether the probability reaches the term's threshold, or that of a term that it contains; or it is the most
        probable one of an aspect in which none does.
    nearest_id : str or None
        The nearest training protein, where the head knows one.
    status : str or None
        Why there is no term, where there is none; `accepted` or `rejected`, where the model has a threshold for it.
    note : str or None
        At rank 1: what makes the answer doubtful, such as residues that the encoder did not see.
    model : str or None
        Whose answer it is.
    expected_f : float or None
        At rank 1: the F that what is predicted of the protein is expected to reach, a mean over aspects.
    in_set : bool or None
        Whether it is in the set of the coverage that is asked for. A column of a table only where one is.
    description : str or None
        At rank 1: what the header of a FASTA file says behind the id. A column of a table only where there is any.
    """

    id: str
    rank: int | None = None
    term: str | None = None
    name: str | None = None
    aspect: str | None = None
    probability: float | None = None
    predicted: bool | None = None
    nearest_id: str | None = None
    status: str | None = None
    note: str | None = None
    model: str | None = None
    expected_f: float | None = None
    in_set: bool | None = None
    description: str | None = None


COLUMNS: Final = tuple(
    field.name for field in dataclasses.fields(TermPrediction) if field.name not in (IN_SET, DESCRIPTION)
)


@dataclass(frozen=True, eq=False)
class TermAnswering(LabelSetAnswering):
    """How a model's answers are asked for and written.

    Parameters
    ----------
    model : FittedModel
    hierarchy : TermHierarchy
        Of its classes.
    wanted : Wanted
    format : {"tsv", "jsonl", "cafa"}
    """

    hierarchy: TermHierarchy
    wanted: Wanted = _ALL_WANTED

    @classmethod
    def of(
        cls,
        model: FittedModel[TermHead, TermFindings],
        hierarchy: TermHierarchy,
        *,
        k: int | None = None,
        min_score: float | None = None,
        aspects: Sequence[str] = (),
        at_least: int | None = None,
        coverage: float | None = None,
        format: str = "tsv",
    ) -> TermAnswering:
        """Take what a user asks for; None or nothing is the default of the format.

        Raises
        ------
        UsageError
            If an option is not for the format.
        """
        given = {"min_score": min_score, "most": k}
        chosen = "".join(aspects) or ALL
        known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if format == CAFA and at_least is not None:
            raise UsageError("--at-least is for tables: --format cafa holds all terms of at least --min-score")
        if format == CAFA and coverage is not None:
            raise UsageError("--coverage is for tables: --format cafa has no room for which terms are in a set")
        if format == CAFA:
            return cls(model, hierarchy, cafa_wanted(chosen, **known), format)
        known |= {"at_least": 1 if at_least is None else at_least, "coverage": coverage}
        return cls(model, hierarchy, Wanted(chosen, **known), format)

    def rows(
        self, protein: Protein, answer: TermAnswer | Unanswered, note: str | None = None
    ) -> Iterator[TermPrediction]:
        """Give a row a term; a single row with a `status` where the protein has none, or no answer."""
        whose, name = self.model.name, protein.id
        first: dict[str, Any] = {"note": note, "description": protein.description or None}
        if isinstance(answer, Unanswered):
            yield TermPrediction(name, status=str(answer), model=whose, **first)
            return
        if answer.worth is not None:
            first["expected_f"] = round(answer.worth, 3)
        if not len(answer.codes):
            yield TermPrediction(name, status=NO_TERM, model=whose, **first)
            return
        columns = answer.codes.tolist(), answer.probabilities.tolist(), answer.predicted.tolist(), answer.within()
        status = self.status(answer.worth)
        for rank, (code, probability, predicted, within) in enumerate(zip(*columns, strict=True), 1):
            about = self.hierarchy.classes[code], self.hierarchy.names[code], self.hierarchy.groups[code]
            beside = {"nearest_id": answer.nearest_id, "model": whose, **status} | (first if rank == 1 else {})
            yield TermPrediction(name, rank, *about, min(probability, 1.0), predicted, **beside, in_set=within)

    def write(self, answers: Iterable[Answered[TermAnswer]], handle: TextIO, described: bool = False) -> Written:
        """Write a table, or a CAFA submission, as the answers come."""
        if self.format == CAFA:
            return write_cafa(answers, self.hierarchy.classes, handle)
        rows = (row for protein, answer, note in answers for row in self.rows(protein, answer, note))
        return write_terms(rows, handle, self.format, described, self.columns)


def write_terms(
    rows: Iterable[TermPrediction],
    handle: TextIO,
    format: str = "tsv",
    described: bool = False,
    more: Sequence[str] = (),
) -> Written:
    """Write rows as they come, as `reporting.rows.write_rows` does, with more columns where they are asked for.

    Examples
    --------
    >>> import sys
    >>> row = TermPrediction("a", 1, "GO:0005515", "protein binding", "F", 0.75, True)
    >>> write_terms([row], sys.stdout, "jsonl").records  # doctest: +ELLIPSIS
    {"id": "a", "rank": 1, "term": "GO:0005515", ... "nearest_id": null, "status": null, ...}
    1
    """
    return write_rows(rows, handle, format, (*COLUMNS, *more, *([DESCRIPTION] if described else [])))


class Submission:
    """A submission to CAFA as it is written: `id<TAB>term<TAB>score` with three significant digits.

    The id is what CAFA joins by: of UniProt's (`sp|P69905|HBA_HUMAN`) the accession, any other up to its first blank.
    A protein and term stand there once: of several records of one id the first is written.

    Parameters
    ----------
    classes : sequence of str
        What the codes of answers stand for.
    handle : text file
    """

    def __init__(self, classes: Sequence[str], handle: TextIO) -> None:
        self.classes = classes
        self.handle = handle
        self.ids: set[str] = set()

    def is_new(self, protein: Protein) -> bool:
        """Return whether no earlier record had this one's id, and remember it."""
        name = _cafa_id(protein)
        if name in self.ids:
            return False
        self.ids.add(name)
        return True

    def write(self, protein: Protein, answer: TermAnswer) -> None:
        """Write the lines of a protein."""
        name = _cafa_id(protein)
        pairs = zip(answer.codes.tolist(), answer.probabilities.tolist(), strict=True)
        self.handle.writelines(f"{name}\t{self.classes[code]}\t{min(value, 1.0):.3g}\n" for code, value in pairs)


def _cafa_id(protein: Protein) -> str:
    return accession(first_word(protein.id))


def write_cafa(answers: Iterable[Answered[TermAnswer]], classes: Sequence[str], handle: TextIO) -> Written:
    """Write a CAFA submission as the answers come; see `Submission`.

    Returns
    -------
    Written
        What has no answer is left out; a protein without a term has no line.
    """
    written = Written()
    submission = Submission(classes, handle)
    for protein, answer, note in answers:
        written.count(not isinstance(answer, Unanswered), note)
        if isinstance(answer, Unanswered):
            written.left_out.append(protein.id)
            written.why.append(str(answer))
        elif submission.is_new(protein):
            submission.write(protein, answer)
        else:
            written.repeated.append(protein.id)
    return written
