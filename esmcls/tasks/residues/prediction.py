"""Answers for residues: a row a residue, a FASTA of labels, or a GFF3 of segments; all as the proteins come."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TextIO

import numpy as np

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.base import ResidueHead
from esmcls.labels.residue_labels import UNKNOWN, UNMEASURED
from esmcls.reading.records import Protein
from esmcls.reporting.gff3 import BEGIN, attribute, seqid
from esmcls.reporting.rows import Unanswered, Written, write_rows
from esmcls.tasks.answering import Answered
from esmcls.tasks.fitted import FittedModel, NoFindings
from esmcls.types import Probabilities

FASTA: Final = "fasta"
"""The format that has the labels of a protein where others have its sequence."""
GFF3: Final = "gff3"
"""The format of segments: residues next to each other with the same label."""
UNSEEN: Final = "unseen"
"""Status of a residue that no input of the encoder held."""
WIDTH: Final = 60
"""Signs of a line of FASTA."""


@dataclass(frozen=True, slots=True)
class ResiduePrediction:
    """One row of the answer: a residue.

    Parameters
    ----------
    id : str
        The record's, verbatim.
    position : int or None
        From 1; None where the protein could not be answered.
    residue : str or None
        Its letter.
    label : str or None
        The likeliest class; None of numbers.
    probability : float or None
        Of that class.
    value : float or None
        The number, where the model gives numbers.
    status : str or None
        Why there is no answer, where there is none.
    note : str or None
        At the first residue: what makes the answers doubtful.
    model : str or None
        Whose answer it is.
    """

    id: str
    position: int | None = None
    residue: str | None = None
    label: str | None = None
    probability: float | None = None
    value: float | None = None
    status: str | None = None
    note: str | None = None
    model: str | None = None

    @property
    def rank(self) -> int | None:
        """The position: the first row of a record is that by which it is counted."""
        return self.position

    @property
    def description(self) -> str | None:
        """Nothing: a row is of a residue."""
        return None


COLUMNS: Final = tuple(field.name for field in dataclasses.fields(ResiduePrediction))


@dataclass(frozen=True, eq=False)
class ResidueAnswering:
    """How a model's answers are asked for and written.

    Parameters
    ----------
    model : FittedModel
    format : {"tsv", "csv", "xlsx", "jsonl", "fasta", "gff3"}

    Raises
    ------
    UsageError
        If numbers are asked for as segments.
    """

    model: FittedModel[ResidueHead, NoFindings]
    format: str = "tsv"

    def __post_init__(self) -> None:
        if self.format == GFF3 and not self.model.classes:
            raise UsageError(f"--format gff3 is for labels; model {self.model.name} gives numbers: use tsv")

    def ask(self, x: Features) -> list[Probabilities]:
        """Return what is said of the residues of each protein, (residues, outputs)."""
        return list(self.model.head.per_protein(x))

    def rows(
        self, protein: Protein, answer: Probabilities | Unanswered, note: str | None = None
    ) -> Iterator[ResiduePrediction]:
        """Give a row a residue; a single row with a `status` where the protein has no answer."""
        whose = self.model.name
        if isinstance(answer, Unanswered):
            yield ResiduePrediction(protein.id, status=str(answer), note=note, model=whose)
            return
        for position, (letter, fields) in enumerate(zip(protein.sequence, self._fields(answer), strict=True), 1):
            beside = note if position == 1 else None
            yield ResiduePrediction(protein.id, position, letter, **fields, note=beside, model=whose)

    def _fields(self, answer: Probabilities) -> Iterator[dict[str, Any]]:
        """Give label and probability, or the number, of each residue."""
        seen = (~np.isnan(answer[:, 0])).tolist()
        if not self.model.classes:
            for value, there in zip(answer[:, 0].tolist(), seen, strict=True):
                yield {"value": value} if there else {"status": UNSEEN}
            return
        codes = answer.argmax(1)
        best = answer[np.arange(len(answer)), codes].tolist()
        for code, probability, there in zip(codes.tolist(), best, seen, strict=True):
            yield {"label": self.model.classes[code], "probability": probability} if there else {"status": UNSEEN}

    def write(self, answers: Iterable[Answered[Probabilities]], handle: TextIO, described: bool = False) -> Written:
        """Write the answers as they come, in the format asked for."""
        if self.format == FASTA:
            return self._write_fasta(answers, handle)
        if self.format == GFF3:
            return self._write_gff3(answers, handle)
        rows = (row for protein, answer, note in answers for row in self.rows(protein, answer, note))
        return write_rows(rows, handle, self.format, COLUMNS)

    def _write_fasta(self, answers: Iterable[Answered[Probabilities]], handle: TextIO) -> Written:
        """Write a sign a residue, `?` of one that was not seen; of numbers, these with blanks between."""
        written = Written()
        for protein, answer, note in answers:
            if _count(written, protein, answer, note) or isinstance(answer, Unanswered):
                continue
            rest = f" {protein.description}" if protein.description else ""
            handle.write(f">{protein.id}{rest}\n")
            fields = list(self._fields(answer))
            if self.model.classes:
                text = "".join(field.get("label", UNKNOWN) for field in fields)
                handle.writelines(f"{text[start : start + WIDTH]}\n" for start in range(0, len(text), WIDTH))
            else:
                handle.write(" ".join(_number(field.get("value")) for field in fields) + "\n")
        return written

    def _write_gff3(self, answers: Iterable[Answered[Probabilities]], handle: TextIO) -> Written:
        """Write a feature a segment; its score is the mean probability of its label."""
        written = Written()
        handle.write(BEGIN)
        for protein, answer, note in answers:
            if _count(written, protein, answer, note) or isinstance(answer, Unanswered):
                continue
            name = seqid(protein.id)
            handle.write(f"##sequence-region {name} 1 {len(answer)}\n")
            for start, stop, label, score in segments(list(self._fields(answer))):
                cells = (name, "esmcls", "region", start, stop, f"{score:.3f}", ".", ".", f"Name={attribute(label)}")
                handle.write("\t".join(map(str, cells)) + "\n")
        return written


def segments(fields: list[dict[str, Any]]) -> Iterator[tuple[int, int, str, float]]:
    """Give first and last residue (from 1), label and mean probability of residues with one label next to each other.

    Examples
    --------
    >>> list(segments([{"label": "C", "probability": 0.5}, {"label": "H", "probability": 1.0}, {"status": "unseen"}]))
    [(1, 1, 'C', 0.5), (2, 2, 'H', 1.0)]
    """
    start = 1
    for label, run in itertools.groupby(fields, key=lambda field: field.get("label")):
        residues = list(run)
        if label is not None:
            mean = sum(field["probability"] for field in residues) / len(residues)
            yield start, start + len(residues) - 1, label, mean
        start += len(residues)


def _count(written: Written, protein: Protein, answer: object, note: str | None) -> bool:
    """Count a record, and say whether it has no answer."""
    unanswered = isinstance(answer, Unanswered)
    written.count(not unanswered, note)
    if unanswered:
        written.left_out.append(protein.id)
        written.why.append(str(answer))
    return unanswered


def _number(value: float | None) -> str:
    return UNMEASURED if value is None else f"{value:.4g}"
