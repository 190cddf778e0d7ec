"""Labels of proteins that may have any number of them, as rows of a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TextIO

from esmcls.heads.base import TermHead
from esmcls.reading.records import Protein
from esmcls.reporting.rows import DESCRIPTION, Unanswered, Written, write_rows
from esmcls.tasks.answering import Answered
from esmcls.tasks.fitted import FittedModel
from esmcls.tasks.label_sets.prediction import IN_SET, LabelSetAnswering, TermAnswer, Wanted
from esmcls.tasks.label_sets.thresholds import TermFindings
from esmcls.tasks.many_labels.classes import ALL, FlatClasses

NO_LABEL: Final = "no_label"
"""Status of a protein without a label to write."""


@dataclass(frozen=True, slots=True)
class LabelPrediction:
    """One row of the table: a label of a protein.

    Parameters
    ----------
    id : str
        The record's, verbatim.
    rank : int or None
        1 for the most probable label; None where there is none.
    label : str or None
    probability : float or None
    threshold : float or None
        From which on the label is predicted; validation chose it.
    predicted : bool or None
        Whether the probability reaches it; or it is the most probable label where none does.
    nearest_id : str or None
        The nearest training protein, where the head knows one.
    status : str or None
        Why there is no label, where there is none; `accepted` or `rejected`, where the model has a threshold for it.
    note : str or None
        At rank 1: what makes the answer doubtful, such as residues that the encoder did not see.
    model : str or None
        Whose answer it is.
    expected_f : float or None
        At rank 1: the F that what is predicted of the protein is expected to reach.
    in_set : bool or None
        Whether it is in the set of the coverage that is asked for. A column of a table only where one is.
    description : str or None
        At rank 1: what the header of a FASTA file says behind the id. A column of a table only where there is any.
    """

    id: str
    rank: int | None = None
    label: str | None = None
    probability: float | None = None
    threshold: float | None = None
    predicted: bool | None = None
    nearest_id: str | None = None
    status: str | None = None
    note: str | None = None
    model: str | None = None
    expected_f: float | None = None
    in_set: bool | None = None
    description: str | None = None


COLUMNS: Final = tuple(
    field.name for field in dataclasses.fields(LabelPrediction) if field.name not in (IN_SET, DESCRIPTION)
)


class LabelAnswering(LabelSetAnswering):
    """How a model's answers are asked for and written; see `LabelSetAnswering`."""

    @classmethod
    def of(
        cls,
        model: FittedModel[TermHead, TermFindings],
        *,
        k: int | None = None,
        min_score: float | None = None,
        at_least: int | None = None,
        coverage: float | None = None,
        format: str = "tsv",
    ) -> LabelAnswering:
        """Take what a user asks for; None is the default."""
        given = {"min_score": min_score, "most": k, "at_least": at_least, "coverage": coverage}
        known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return cls(model, FlatClasses(model.classes), Wanted(ALL, **known), format)

    def rows(
        self, protein: Protein, answer: TermAnswer | Unanswered, note: str | None = None
    ) -> Iterator[LabelPrediction]:
        """Give a row a label; a single row with a `status` where the protein has none, or no answer."""
        whose, name = self.model.name, protein.id
        first: dict[str, Any] = {"note": note, "description": protein.description or None}
        if isinstance(answer, Unanswered):
            yield LabelPrediction(name, status=str(answer), model=whose, **first)
            return
        if answer.worth is not None:
            first["expected_f"] = round(answer.worth, 3)
        if not len(answer.codes):
            yield LabelPrediction(name, status=NO_LABEL, model=whose, **first)
            return
        thresholds = self.model.findings.thresholds.values[answer.codes].tolist()
        columns = answer.codes.tolist(), answer.probabilities.tolist(), thresholds, answer.predicted.tolist()
        labels = zip(*columns, answer.within(), strict=True)
        beside = {"nearest_id": answer.nearest_id, "model": whose, **self.status(answer.worth)}
        for rank, (code, probability, threshold, predicted, within) in enumerate(labels, 1):
            more = beside | {"in_set": within} | (first if rank == 1 else {})
            yield LabelPrediction(
                name, rank, self.hierarchy.classes[code], min(probability, 1.0), threshold, predicted, **more
            )

    def write(self, answers: Iterable[Answered[TermAnswer]], handle: TextIO, described: bool = False) -> Written:
        """Write a table as the answers come."""
        rows = (row for protein, answer, note in answers for row in self.rows(protein, answer, note))
        columns = (*COLUMNS, *self.columns, *([DESCRIPTION] if described else []))
        return write_rows(rows, handle, self.format, columns)
