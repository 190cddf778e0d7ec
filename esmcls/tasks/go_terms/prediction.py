"""Gene Ontology terms for a stream of proteins, in input order and bounded memory: a CAFA submission or a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, TextIO, cast

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.term_heads import TermHead
from esmcls.labels.ontology import ASPECTS
from esmcls.models.model import Model
from esmcls.models.predict import BLOCK, TOO_LARGE, Written, answer_stream, nearest, write_rows
from esmcls.reading.records import Protein
from esmcls.reading.tables import accession
from esmcls.types import Indices, Probabilities

CAFA: Final = "cafa"
"""The format of a CAFA submission: `id<TAB>term<TAB>score`, without a header."""
MOST: Final = 1500
"""Terms a protein that a CAFA submission may hold, over all aspects."""
CAFA_LEAST: Final = 0.01
"""The lowest probability that is written by default: CAFA's measures begin there."""
TABLE_LEAST: Final = 0.1
"""That of a table: no threshold is lower."""
NO_TERM: Final = "no_term"
"""Status of a protein without a term to write."""


@dataclass(frozen=True)
class Wanted:
    """Which terms of a protein are wanted.

    Parameters
    ----------
    min_score : float
        Least probability, more than 0.
    aspects : str
        Letters of the aspects.
    most : int, optional
        So many of the most probable terms.
    at_least : int
        Terms predicted in an aspect in which none reaches its threshold.
    decided : bool
        Whether terms that are predicted are wanted whatever their probability, and it is said which they are.
    """

    min_score: float = TABLE_LEAST
    aspects: str = "".join(ASPECTS)
    most: int | None = None
    at_least: int = 1
    decided: bool = True

    @classmethod
    def cafa(cls, min_score: float = CAFA_LEAST, aspects: str = "".join(ASPECTS), most: int | None = None) -> Wanted:
        """Return what a CAFA submission holds: 1,500 terms at most, whatever their thresholds."""
        return cls(min_score, aspects, min(MOST, most or MOST), decided=False)


class TermAnswer(NamedTuple):
    """The terms of a protein, the most probable first, a parent before its children.

    Parameters
    ----------
    codes : int64 array, (m,)
        Places among the model's classes.
    probabilities : float32 array, (m,)
    predicted : bool array, (m,)
        Whether each reaches its threshold, or contains one that does.
    nearest_id : str or None
        The nearest training protein, where the head knows one.
    """

    codes: Indices
    probabilities: Probabilities
    predicted: npt.NDArray[np.bool_]
    nearest_id: str | None = None


def answer_terms(
    model: Model, proteins: Iterable[Protein], wanted: Wanted | None = None, *, block: int = BLOCK
) -> Iterator[tuple[Protein, TermAnswer | None]]:
    """Find the terms of proteins as they come; see `esmcls.models.predict.answer_stream`.

    Raises
    ------
    UsageError
        If the model is not one of many labels.
    """
    if model.terms is None:
        raise UsageError(f"model {model.folder.name} gives one label a protein, no Gene Ontology terms")
    return answer_stream(model, proteins, partial(_answers, model, wanted or Wanted()), block=block)


def _answers(model: Model, wanted: Wanted, x: Features) -> list[TermAnswer]:
    assert model.terms is not None
    scores = model.terms.scores(cast(TermHead, model.head), x)
    shown, predicted = scores >= np.float32(wanted.min_score), np.zeros(scores.shape, bool)
    if wanted.decided:
        predicted = model.thresholds.decide(scores, model.terms, wanted.at_least)
        shown |= predicted
    shown &= model.terms.members(wanted.aspects)
    near = [one.get("nearest_id") for one in nearest(model, x)]
    return [
        TermAnswer(codes, scores[row, codes], predicted[row, codes], near[row])
        for row, codes in enumerate(_ranked(scores, shown, model.terms.depth, wanted.most))
    ]


def _ranked(scores: Probabilities, shown: npt.NDArray[np.bool_], depth: Indices, most: int | None) -> Iterator[Indices]:
    """Give the codes of each row in the order of their probabilities; of equals, the parent comes first."""
    for values, some in zip(np.ascontiguousarray(scores), np.ascontiguousarray(shown), strict=True):
        codes = np.flatnonzero(some)
        yield codes[np.lexsort((depth[codes], -values[codes]))][:most]


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
        Why there is no term, where there is none.
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


COLUMNS: Final = tuple(field.name for field in dataclasses.fields(TermPrediction))


def predict_terms(
    model: Model, proteins: Iterable[Protein], wanted: Wanted | None = None, *, block: int = BLOCK
) -> Iterator[TermPrediction]:
    """Give the terms of proteins row by row; each protein has at least a row, with a `status` where it has no term.

    Parameters
    ----------
    model : Model
        Of many labels.
    proteins : iterable of Protein
        Of any length: it is read `block` proteins at a time.
    wanted : Wanted, optional
        By default all terms from the lowest threshold on, and all that are predicted.

    Raises
    ------
    UsageError
        If the model is not one of many labels.
    """
    for protein, answer in answer_terms(model, proteins, wanted, block=block):
        if answer is None or not len(answer.codes):
            yield TermPrediction(protein.id, status=TOO_LARGE if answer is None else NO_TERM)
        else:
            yield from _rows(model, protein.id, answer)


def _rows(model: Model, name: str, answer: TermAnswer) -> Iterator[TermPrediction]:
    assert model.terms is not None
    found = zip(answer.codes.tolist(), answer.probabilities.tolist(), answer.predicted.tolist(), strict=True)
    for rank, (code, value, predicted) in enumerate(found, 1):
        about = model.classes[code], model.terms.names[code], model.terms.groups[code]
        yield TermPrediction(name, rank, *about, min(value, 1.0), predicted, answer.nearest_id)


def write_terms(rows: Iterable[TermPrediction], handle: TextIO, format: str = "tsv") -> Written:
    """Write rows as they come, as `esmcls.models.predict.write_predictions` does.

    Examples
    --------
    >>> import sys
    >>> row = TermPrediction("a", 1, "GO:0005515", "protein binding", "F", 0.75, True)
    >>> write_terms([row], sys.stdout, "jsonl").records  # doctest: +ELLIPSIS
    {"id": "a", "rank": 1, "term": "GO:0005515", ... "predicted": true, "nearest_id": null, "status": null}
    1
    """
    return write_rows(rows, handle, format, COLUMNS)


def write_cafa(answers: Iterable[tuple[Protein, TermAnswer | None]], classes: Sequence[str], handle: TextIO) -> Written:
    """Write a CAFA submission as the answers come: `id<TAB>term<TAB>score` with three significant digits.

    The id is what CAFA joins by: of UniProt's (`sp|P69905|HBA_HUMAN`) the accession, any other as it is.

    Returns
    -------
    Written
        What does not fit into memory is left out; a protein without a term has no line.
    """
    written = Written()
    for protein, answer in answers:
        written.records += 1
        if answer is None:
            written.left_out.append(protein.id)
            continue
        name = accession(protein.id)
        pairs = zip(answer.codes.tolist(), answer.probabilities.tolist(), strict=True)
        handle.writelines(f"{name}\t{classes[code]}\t{min(value, 1.0):.3g}\n" for code, value in pairs)
    return written
