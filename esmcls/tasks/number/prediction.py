"""The numbers of proteins, as rows: with an interval of stated coverage and the nearest training protein."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TextIO, TypeAlias

from esmcls.cache.features import Features
from esmcls.heads.base import NumberHead
from esmcls.reading.records import Protein
from esmcls.reporting.rows import DESCRIPTION, Unanswered, Written, write_rows
from esmcls.tasks.answering import Answered
from esmcls.tasks.fitted import FittedModel, nearest_to
from esmcls.tasks.number.findings import NumberFindings


@dataclass(frozen=True, slots=True)
class NumberPrediction:
    """The answer for one record.

    Parameters
    ----------
    id : str
        The record's, verbatim.
    value : float or None
        None where the protein could not be answered.
    low, high : float or None
        Ends of the interval, where a coverage is asked for.
    distance : float or None
        To the nearest training protein: as the head has it, else 1 - cosine, where the workspace holds the training
        vectors.
    nearest_id : str or None
        That training protein.
    nearest_value : float or None
        Its number.
    status : str or None
        Why there is no value, where there is none.
    note : str or None
        What makes the answer doubtful, such as residues that the encoder did not see.
    model : str or None
        Whose answer it is.
    description : str or None
        What the header of a FASTA file says behind the id. A column of a table only where there is any.
    """

    id: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    distance: float | None = None
    nearest_id: str | None = None
    nearest_value: float | None = None
    status: str | None = None
    note: str | None = None
    model: str | None = None
    description: str | None = None

    @property
    def rank(self) -> int | None:
        """There is one answer a protein, and no rank."""
        return None


COLUMNS: Final = tuple(field.name for field in dataclasses.fields(NumberPrediction) if field.name != DESCRIPTION)
NumberAnswer: TypeAlias = dict[str, Any]
"""The fields of a protein's row, but for its id."""


@dataclass(frozen=True, eq=False)
class NumberAnswering:
    """How a model's answers are asked for and written.

    Parameters
    ----------
    model : FittedModel
    coverage : float, optional
        Fill `low` and `high` so that they hold the truth with this probability, for proteins like the calibration rows.
    format : {"tsv", "csv", "xlsx", "jsonl"}

    Raises
    ------
    UsageError
        If the model has too few calibration rows for the coverage.
    """

    model: FittedModel[NumberHead, NumberFindings]
    coverage: float | None = None
    format: str = "tsv"

    def __post_init__(self) -> None:
        if self.coverage is not None:
            self.model.findings.half_width(self.coverage)

    def ask(self, x: Features) -> list[NumberAnswer]:
        """Return the fields of each protein's row, without the id."""
        half = None if self.coverage is None else self.model.findings.half_width(self.coverage)
        answers = list[NumberAnswer]()
        for value, nearest in zip(self.model.head.predict(x).tolist(), nearest_to(self.model, x), strict=True):
            near = {name: field for name, field in nearest.items() if name != "nearest_label"}
            known = nearest.get("nearest_label")
            near |= {} if known is None else {"nearest_value": float(known)}
            ends = {} if half is None else {"low": value - half, "high": value + half}
            answers.append({"value": value, **ends, **near})
        return answers

    def rows(
        self, protein: Protein, answer: NumberAnswer | Unanswered, note: str | None = None
    ) -> Iterator[NumberPrediction]:
        """Give the row of a record; with a `status` alone where the protein has no answer."""
        fields = {"status": str(answer)} if isinstance(answer, Unanswered) else answer
        beside: dict[str, Any] = {"note": note, "description": protein.description or None}
        yield NumberPrediction(protein.id, **fields, **beside, model=self.model.name)

    def write(self, answers: Iterable[Answered[NumberAnswer]], handle: TextIO, described: bool = False) -> Written:
        """Write the rows of records as they come."""
        rows = (row for protein, answer, note in answers for row in self.rows(protein, answer, note))
        return write_rows(rows, handle, self.format, (*COLUMNS, DESCRIPTION) if described else COLUMNS)
