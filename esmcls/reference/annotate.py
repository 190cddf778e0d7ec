"""Gene Ontology terms of proteins, with no labels of one's own: what a reference tells, and how far it reaches."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple, TextIO

import numpy as np

from esmcls.cache.features import Features
from esmcls.encoders.windows import parse_long, residues_seen
from esmcls.errors import UnknownNameError, UsageError
from esmcls.files import temporary_folder
from esmcls.models.folder import load_model
from esmcls.models.model import Model
from esmcls.models.predict import answer_stream
from esmcls.reading.cautions import cautions
from esmcls.reading.ids import accession, first_word, is_accession
from esmcls.reading.records import Protein
from esmcls.reference.packed import unpack
from esmcls.reference.scope import NOTHING_NEAR, Nearest, Scope, find_nearest, parts_of
from esmcls.reporting.rows import Unanswered, Written, write_rows
from esmcls.tasks.go_terms.prediction import CAFA_LEAST, Submission, TermAnswering
from esmcls.tasks.label_sets.prediction import REJECTED, TermAnswer
from esmcls.types import Indices

SHIPPED: Final = "reference.safetensors"
FORMATS: Final = ("tsv", "csv", "jsonl", "gaf", "cafa")
UNIDENTIFIED: Final = 32644
"""NCBI's taxon of an organism that is not known: GAF has no row without one."""
RELATIONS: Final = {"C": "located_in", "F": "enables", "P": "involved_in"}
"""What a protein has to do with a term, by its aspect, as GAF 2.2 puts it."""
NO_TERM: Final = "no term is sure enough"


@dataclass(frozen=True, slots=True)
class Annotation:
    """One row: a term of a protein, or that nothing near it is known.

    Parameters
    ----------
    id : str
        The record's, verbatim.
    rank : int or None
        1 for the most probable term; None where there is none.
    term, name, aspect : str or None
        Its id, what it is called, and C, F or P.
    probability : float or None
    status : str
        `aligned` or `similar`, by what is near it; `nothing near is known`; or why there is no answer.
    nearest_id : str or None
        The nearest protein of the reference.
    nearest : str or None
        How near: the E-value of the alignment, or the distance of the vectors.
    expected_f : float or None
        At rank 1: the F that what is told is expected to reach.
    note : str or None
        At rank 1: what makes the answer doubtful.
    reference : str
        What was asked: its source, proteins and terms.
    """

    id: str
    rank: int | None = None
    term: str | None = None
    name: str | None = None
    aspect: str | None = None
    probability: float | None = None
    status: str = NOTHING_NEAR
    nearest_id: str | None = None
    nearest: str | None = None
    expected_f: float | None = None
    note: str | None = None
    reference: str = ""


COLUMNS: Final = tuple(Annotation.__dataclass_fields__)


class Told(NamedTuple):
    """What is known of a protein: its terms, those that are most specific among them, and what is nearest."""

    answer: TermAnswer
    specific: Indices
    nearest: Nearest


@dataclass(frozen=True, eq=False)
class Reference:
    """A model that says what it knows, to be asked.

    Parameters
    ----------
    model : Model
    scope : Scope
    answering : TermAnswering
        Of all terms that a format may hold.
    """

    model: Model
    scope: Scope
    answering: TermAnswering

    @classmethod
    def of(cls, model: Model, aspects: Sequence[str] = ()) -> Reference:
        """Ask a model about some aspects, or all.

        Raises
        ------
        ModelError
            If it is no reference.
        """
        scope = Scope.of(model)
        quiet = replace(model, search=False)
        options = {"min_score": CAFA_LEAST, "aspects": tuple(aspects)}
        answering = quiet.task.answering(quiet, **options)
        assert isinstance(answering, TermAnswering)
        return cls(quiet, scope, answering)

    def ask(self, x: Features) -> list[Told]:
        """Return what is known of each protein."""
        nearest = find_nearest(parts_of(self.model)[0], x, self.scope.distance)
        answers = map(self._sure, self.answering.ask(x))
        return [Told(answer, self._specific(answer), near) for answer, near in zip(answers, nearest, strict=True)]

    def _sure(self, answer: TermAnswer) -> TermAnswer:
        """Return an answer without what is predicted in an aspect where nothing reaches its threshold.

        What the whole is worth was learnt with the most probable term of each aspect, and is told so.
        """
        _, findings, hierarchy = parts_of(self.model)
        aspect = hierarchy.place[answer.codes]
        reached = answer.probabilities >= findings.thresholds.values[answer.codes]
        return answer._replace(predicted=answer.predicted & np.isin(aspect, aspect[reached]))

    def _specific(self, answer: TermAnswer) -> Indices:
        """Return places of the predicted terms of an answer that contain no other of them."""
        hierarchy = self.answering.hierarchy
        predicted = np.zeros(len(hierarchy.classes), dtype=bool)
        predicted[answer.codes[answer.predicted]] = True
        child, parent = hierarchy.edges.T
        predicted[parent[predicted[child]]] = False
        return np.flatnonzero(predicted[answer.codes])

    def answers(self, proteins: Iterable[Protein]) -> Iterator[tuple[Protein, Told | Unanswered]]:
        """Give what is known of proteins as they come."""
        return answer_stream(self.model, proteins, self.ask)


@contextlib.contextmanager
def open_reference(place: Path | None = None, device: str = "cpu", aspects: Sequence[str] = ()) -> Iterator[Reference]:
    """Open the reference that ships with the package, or another one: a model folder, or a packed file.

    Raises
    ------
    ModelError
        If it is none, or damaged.
    """
    if place is not None and not place.is_file():
        yield Reference.of(load_model(place, device), aspects)
        return
    with temporary_folder("reference") as folder:
        yield Reference.of(load_model(unpack(place or shipped(), folder), device), aspects)


def shipped() -> Path:
    """Return the packed reference that comes with the package."""
    import esmcls_data

    return Path(esmcls_data.__file__).with_name(SHIPPED)


def annotate(reference: Reference, proteins: Iterable[Protein], *, whole: bool = False) -> Iterator[Annotation]:
    """Give rows of proteins as they come, one a protein at least.

    Parameters
    ----------
    reference : Reference
    proteins : iterable of Protein
    whole : bool
        Whether to tell the terms that contain a term that is told, too.
    """
    for protein, answer in reference.answers(proteins):
        yield from _rows(reference, protein, answer, whole)


def _rows(reference: Reference, protein: Protein, answer: Told | Unanswered, whole: bool) -> Iterator[Annotation]:
    bare = Annotation(protein.id, reference=str(reference.scope))
    if isinstance(answer, Unanswered):
        yield replace(bare, status=str(answer))
        return
    near = answer.nearest
    bare = replace(bare, status=near.status, nearest_id=near.id, nearest=near.measure or None)
    note = _note(reference, protein, answer)
    places: list[int] = []
    if near.near:
        places = (np.flatnonzero(answer.answer.predicted) if whole else answer.specific).tolist()
    if not places:
        yield replace(bare, note="; ".join(filter(None, [NO_TERM if near.near else "", note])) or None)
        return
    hierarchy, worth = reference.answering.hierarchy, answer.answer.worth
    for rank, place in enumerate(places, 1):
        code = int(answer.answer.codes[place])
        yield replace(
            bare,
            rank=rank,
            term=hierarchy.classes[code],
            name=hierarchy.names[code],
            aspect=hierarchy.groups[code],
            probability=min(float(answer.answer.probabilities[place]), 1.0),
            note=note if rank == 1 else None,
            expected_f=round(worth, 3) if rank == 1 and worth is not None else None,
        )


def _note(reference: Reference, protein: Protein, answer: Told) -> str | None:
    """Return what makes an answer doubtful: that little of it is expected to be right, or something of the sequence."""
    length = len(protein.sequence)
    cut = [length - residues_seen(parse_long(spec.long), length) for spec in reference.model.manifest.specs]
    status = reference.answering.status(answer.answer.worth).get("status")
    unsure = "unsure: little of this is expected to be right" if status == REJECTED and answer.nearest.near else ""
    return "; ".join(filter(None, [unsure, cautions(protein.sequence, max(cut, default=0))])) or None


def write_annotations(
    reference: Reference,
    proteins: Iterable[Protein],
    handle: TextIO,
    format: str = "tsv",
    *,
    whole: bool = False,
    taxon: int = UNIDENTIFIED,
) -> Written:
    """Write what is known of proteins as they come.

    Parameters
    ----------
    reference, proteins, whole
        As in `annotate`.
    handle : text file
    format : {"tsv", "csv", "jsonl", "gaf", "cafa"}
        gaf is a GAF 2.2 with what is not known in its remarks; cafa is `id<TAB>term<TAB>score` of all terms.
    taxon : int
        NCBI's, of the proteins, for gaf.

    Raises
    ------
    UnknownNameError
        If there is no such format.
    UsageError
        If an option is not for the format.
    """
    check_format(format, whole)
    if format == "gaf":
        return _write_gaf(reference, proteins, handle, taxon)
    if format == "cafa":
        return _write_cafa(reference, proteins, handle)
    return write_rows(annotate(reference, proteins, whole=whole), handle, format, COLUMNS)


def check_format(format: str, whole: bool = False) -> None:
    """Refuse what cannot be written; see `write_annotations`."""
    if format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    if whole and format in ("gaf", "cafa"):
        raise UsageError(f"--all-terms is for tables; --format {format} holds what its readers ask for")


def _write_gaf(reference: Reference, proteins: Iterable[Protein], handle: TextIO, taxon: int) -> Written:
    """Write a GAF 2.2: evidence IEA, with the nearest protein, of what is predicted; what is not known, as remarks."""
    written = Written()
    handle.write("!gaf-version: 2.2\n!generated-by: esmcls annotate\n")
    handle.writelines(f"!reference: {line}\n" for line in reference.scope.lines())
    names: set[str] = set()
    today = time.strftime("%Y%m%d")
    for protein, answer in reference.answers(proteins):
        name = accession(first_word(protein.id))
        if name in names:
            written.repeated.append(protein.id)
            continue
        names.add(name)
        for row in _rows(reference, protein, answer, False):
            if row.rank in (None, 1):
                _count(written, row, answer)
            if row.term is None:
                handle.write(f"!{name}: {row.status}{'' if row.note is None else f' ({row.note})'}\n")
                continue
            near = accession(first_word(row.nearest_id or ""))
            beside = f"{'UniProtKB' if is_accession(near) else 'esmcls'}:{near}" if near else ""
            about = ["esmcls", name, name, RELATIONS[str(row.aspect)], row.term, "esmcls:reference", "IEA", beside]
            cells = [*about, str(row.aspect), "", "", "protein", f"taxon:{taxon}", today, "esmcls", "", ""]
            handle.write("\t".join(cells) + "\n")
    return written


def _write_cafa(reference: Reference, proteins: Iterable[Protein], handle: TextIO) -> Written:
    """Write a submission to CAFA: all terms of the proteins that something near is known of."""
    written = Written()
    submission = Submission(reference.answering.hierarchy.classes, handle)
    for protein, answer in reference.answers(proteins):
        if not submission.is_new(protein):
            written.repeated.append(protein.id)
            continue
        _count(written, next(_rows(reference, protein, answer, False)), answer)
        if not isinstance(answer, Unanswered) and answer.nearest.near:
            submission.write(protein, answer.answer)
    return written


def _count(written: Written, row: Annotation, answer: Told | Unanswered) -> None:
    """Count a protein by its first row."""
    written.count(not isinstance(answer, Unanswered), row.note, row.status)
    if isinstance(answer, Unanswered):
        written.left_out.append(row.id)
        written.why.append(row.status)
