"""The likeliest classes of proteins, as rows: with the nearest training protein, a status, and sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TextIO

import numpy as np

from esmcls.cache.features import Features
from esmcls.heads.base import Head
from esmcls.labels.hierarchy import Hierarchy
from esmcls.metrics.calibration import conformal_sets
from esmcls.reading.cautions import confidence
from esmcls.reading.records import Protein
from esmcls.reporting.rows import DESCRIPTION, Unanswered, Written, write_rows
from esmcls.tasks.answering import Answered
from esmcls.tasks.fitted import FittedModel, nearest_to
from esmcls.tasks.one_label.confidence import Confidence
from esmcls.tasks.one_label.findings import LabelFindings
from esmcls.tasks.one_label.levels.answers import LevelAnswers
from esmcls.types import Indices, Probabilities

ACCEPTED: Final = "accepted"
REJECTED: Final = "rejected"
"""Status by the threshold of a model that was fitted with families held out: of a known family, or a stranger."""
BETWEEN: Final = "|"
"""What stands between the classes of a set."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row of the answer: the class at one rank for one record.

    Parameters
    ----------
    id : str
        The record's, verbatim.
    rank : int or None
        1 for the likeliest class; None where the protein could not be classified.
    label : str or None
    probability : float or None
    distance : float or None
        To the nearest training protein: as the head has it, else 1 - cosine, where the workspace holds the training
        vectors; of a homology search, the E-value.
    nearest_id : str or None
        That training protein.
    status : str or None
        Why there is no label, where there is none; `accepted` or `rejected`, where the model has a threshold for it.
    set : str or None
        At rank 1, where a coverage is asked for: the classes that cannot be ruled out, likeliest first.
    note : str or None
        At rank 1: what makes the answer doubtful, such as residues that the encoder did not see.
    model : str or None
        Whose answer it is.
    confidence : str or None
        The probability in a word: high from .9 on, medium from .5 on, else low.
    nearest_label : str or None
        The class of the nearest training protein.
    description : str or None
        At rank 1: what the header of a FASTA file says behind the id. A column of a table only where there is any.
    ancestors : str or None
        Of a model whose classes have a hierarchy: what the class lies under, the nearest first, each with the
        probability of all that lies there, such as `3.40.50=0.93|3.40=0.97|3=0.99`.
    level, answer : str or None
        At rank 1, of such a model, where a coverage is asked for: the narrowest level that is sure enough, and the node
        there; `none` and nothing where none is.
    """

    id: str
    rank: int | None = None
    label: str | None = None
    probability: float | None = None
    distance: float | None = None
    nearest_id: str | None = None
    status: str | None = None
    set: str | None = None
    note: str | None = None
    model: str | None = None
    confidence: str | None = None
    nearest_label: str | None = None
    description: str | None = None
    ancestors: str | None = None
    level: str | None = None
    answer: str | None = None


OF_LEVELS: Final = ("ancestors", "level", "answer")
"""The columns that a table has only of a model whose classes have a hierarchy."""
COLUMNS: Final = tuple(
    field.name for field in dataclasses.fields(Prediction) if field.name not in (DESCRIPTION, *OF_LEVELS)
)
LabelAnswer = Sequence[dict[str, Any]]
"""The fields of a protein's rows, but for its id."""


@dataclass(frozen=True, eq=False)
class LabelAnswering:
    """How a model's answers are asked for and written.

    Parameters
    ----------
    model : FittedModel
    k : int
        Classes a protein, likeliest first; all there are, if fewer.
    coverage : float, optional
        Fill `set` so that it holds the true class with this probability, for proteins like the calibration rows.
    format : {"tsv", "csv", "xlsx", "jsonl"}
    hierarchy : Hierarchy, optional
        Of the model's classes: with a coverage, fill `level` and `answer`, too, with the same promise.

    Raises
    ------
    UsageError
        If the model has too few calibration rows for the coverage.
    """

    model: FittedModel[Head, LabelFindings]
    k: int = 1
    coverage: float | None = None
    format: str = "tsv"
    hierarchy: Hierarchy | None = None

    def __post_init__(self) -> None:
        if self.coverage is not None:
            self._confidence.threshold(self.coverage)

    @cached_property
    def _levels(self) -> LevelAnswers | None:
        return None if self.hierarchy is None else LevelAnswers(self.hierarchy, self.model.head.classes)

    @property
    def _confidence(self) -> Confidence:
        return self.model.findings.confidence or Confidence()

    def ask(self, x: Features) -> list[LabelAnswer]:
        """Return the rows of each protein, without the id."""
        head, k = self.model.head, max(self.k, 2)  # the second may tell a stranger
        whole = None if self._levels is None else head.predict_proba(x)
        codes, probabilities = head.top_k(x, k) if whole is None else _ranked(whole, k)
        beside = zip(nearest_to(self.model, x), self._statuses(x, probabilities), strict=True)
        codes, probabilities = codes[:, : self.k], probabilities[:, : self.k]
        answers = [
            [
                {"rank": rank, "label": head.classes[code], "probability": probability, **near, **status}
                for rank, (code, probability) in enumerate(zip(*ranked, strict=True), 1)
            ]
            for *ranked, (near, status) in zip(codes.tolist(), probabilities.tolist(), beside, strict=True)
        ]
        if self.coverage is not None:
            whole = head.predict_proba(x) if whole is None else whole
            sets = conformal_sets(whole, self._confidence.threshold(self.coverage))
            for rows, members in zip(answers, sets, strict=True):
                rows[0]["set"] = BETWEEN.join(head.classes[code] for code in members)
        if self._levels is not None and whole is not None:
            self._add_levels(answers, whole, codes, self._levels)
        return list(answers)

    def _add_levels(
        self, answers: Sequence[LabelAnswer], whole: Probabilities, codes: Indices, levels: LevelAnswers
    ) -> None:
        """Add to rows what their classes lie under and, with a coverage, the narrowest level that is sure enough."""
        for rows, of_rows in zip(answers, levels.ancestors(whole, codes), strict=True):
            for row, ancestors in zip(rows, of_rows, strict=True):
                row["ancestors"] = ancestors
        if self.coverage is None or not self._confidence.answers_in(levels.hierarchy):
            return
        answered = levels.answered(whole, self._confidence.tree_threshold(self.coverage))
        for rows, answer in zip(answers, answered, strict=True):
            rows[0].update(answer)

    def _statuses(self, x: Features, likeliest: Probabilities) -> Sequence[dict[str, str]]:
        """Return whether each protein is accepted as of a known family, where the model has a threshold for it."""
        rejection = self._confidence.rejection
        if rejection is None:
            return [{}] * len(x)
        familiarity = None if rejection.score == "probability" else self.model.head.familiarity(x)
        scores = rejection.scores(likeliest, familiarity)
        return [{"status": ACCEPTED if accepted else REJECTED} for accepted in (scores > rejection.threshold).tolist()]

    def rows(self, protein: Protein, answer: LabelAnswer | Unanswered, note: str | None = None) -> Iterator[Prediction]:
        """Give k rows, ranks ascending; a single row with a `status` where the protein has no answer."""
        whose = self.model.name
        given: LabelAnswer = [{"status": str(answer)}] if isinstance(answer, Unanswered) else answer
        for fields in given:
            first = fields.get("rank", 1) == 1
            word = confidence(fields.get("probability"))
            beside: dict[str, Any] = {"note": note, "description": protein.description or None} if first else {}
            yield Prediction(protein.id, **fields, **beside, model=whose, confidence=word)

    def write(self, answers: Iterable[Answered[LabelAnswer]], handle: TextIO, described: bool = False) -> Written:
        """Write the rows of records as they come."""
        rows = (row for protein, answer, note in answers for row in self.rows(protein, answer, note))
        return write_predictions(rows, handle, self.format, described, of_levels=self.hierarchy is not None)


def _ranked(probabilities: Probabilities, k: int) -> tuple[Indices, Probabilities]:
    """Return the k likeliest classes of rows, as codes and probabilities, both (n, min(k, classes))."""
    codes = np.argsort(-probabilities, axis=1, kind="stable")[:, :k].astype(np.int64)
    return codes, np.take_along_axis(probabilities, codes, axis=1)


def write_predictions(
    rows: Iterable[Prediction],
    handle: TextIO,
    format: str = "tsv",
    described: bool = False,
    of_levels: bool = False,
) -> Written:
    """Write predictions as they come.

    Parameters
    ----------
    rows : iterable of Prediction
    handle : text file
    format : {"tsv", "csv", "xlsx", "jsonl"}
        See `esmcls.reporting.rows.write_rows`.
    described : bool
        With the column `description`, the last.
    of_levels : bool
        With the columns `ancestors`, `level` and `answer`, before that.

    Returns
    -------
    Written

    Raises
    ------
    UnknownNameError
        If there is no such format.

    Examples
    --------
    >>> import sys
    >>> _ = write_predictions([Prediction("a", 1, "kinase", 0.75)], sys.stdout, "jsonl")  # doctest: +ELLIPSIS
    {"id": "a", "rank": 1, "label": "kinase", "probability": 0.75, "distance": null, ...}
    """
    columns = (*COLUMNS, *OF_LEVELS) if of_levels else COLUMNS
    return write_rows(rows, handle, format, (*columns, DESCRIPTION) if described else columns)
