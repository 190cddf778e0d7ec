"""Terms of proteins in CAFA's tables: `EntryID<TAB>term<TAB>aspect`, a term a row; joined to records by id.

A GAF, as databases give it out, is read in their place. A record's label is its direct terms, each as the ontology
calls it, sorted, with a space between.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

import numpy as np

from esmcls.errors import DataError
from esmcls.reading.annotations.evidence import EXPERIMENTAL
from esmcls.reading.annotations.gaf import TermRow, gaf_rows, looks_like_gaf
from esmcls.reading.ids import accession
from esmcls.reading.joined.label_tables import LabelTable, cells, term_layout
from esmcls.reading.records import Tally, refuse_text
from esmcls.reading.rows import TableFacts
from esmcls.reading.tables import QUALIFIER_COLUMNS, TERM_COLUMNS, column_place, denies, of_header
from esmcls.text_files import open_lines, shown
from esmcls.types import Floats

if TYPE_CHECKING:
    from esmcls.labels.ontology import Ontology

ASPECT_WORDS: Final = {
    "C": ("c", "cc", "cco", "cellular_component"),
    "F": ("f", "mf", "mfo", "molecular_function"),
    "P": ("p", "bp", "bpo", "biological_process"),
}
"""The letter of each aspect, and how tables write it, in any case."""
_LETTERS: Final = {word: letter for letter, words in ASPECT_WORDS.items() for word in words}
_IA_HEADERS: Final = (*TERM_COLUMNS, "#term")
_FIX_ROW: Final = "give id<TAB>term<TAB>aspect, one a line (the aspect may be left out)"


@dataclass
class TermTable(LabelTable):
    """The terms of each id as one label; joins records as a table of labels does.

    Parameters
    ----------
    unknown : Counter
        Terms that the ontology does not know, and the rows of each; these rows count for nothing.
    """

    noun: ClassVar[str] = "known term"
    unknown: Counter[str] = field(default_factory=Counter)
    ontology_notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, paths: Iterable[str], ontology: Ontology, evidence: frozenset[str] = EXPERIMENTAL) -> TermTable:
        """Read tables of terms, with or without a header, or GAFs; equal rows, in one table or several, count once.

        Of a GAF the rows of these evidence codes count.

        Raises
        ------
        DataError
            If a row has no id or term or names an aspect that is none or not the term's, or the ontology knows no term.
        """
        table = cls(paths=tuple(refuse_text(paths, "paths of term tables")), ontology_notes=ontology.notes)
        places_of: dict[str, list[int]] = {}
        for path in table.paths:
            table._add(path, ontology, places_of, evidence)
        for id_, places in places_of.items():
            label = " ".join(ontology.terms[place] for place in sorted(set(places)))
            table.labels[id_] = (label, *table.labels[id_][1:])
        return table

    def _add(self, path: str, ontology: Ontology, places_of: dict[str, list[int]], evidence: frozenset[str]) -> None:
        """Read one table: note in `places_of` where the terms of each id stand in the ontology."""
        known = 0
        facts = self.facts.setdefault(path, TableFacts())
        for row, place in placed_rows(path, ontology, facts, self.unknown, evidence):
            if row.denied:
                facts.denied.append(row.line)
                continue
            id_ = accession(row.id)
            places_of.setdefault(id_, []).append(place)
            self.labels.setdefault(id_, ("", path, row.line))
            known += 1
        if not known and facts.other_evidence:
            raise DataError(path, "no row whose evidence counts", "name the codes that do, such as --evidence all")
        if not known:
            fix = "give id<TAB>term<TAB>aspect with the ontology that the terms are of"
            raise DataError(path, "no term that the ontology knows", fix)

    def tell(self, tally: Tally) -> None:
        """Note what the records joined left over, and the terms that are not known."""
        super().tell(tally)
        tally.unknown_terms = dict(self.unknown)
        tally.ontology_notes = self.ontology_notes


def placed_rows(
    path: str,
    ontology: Ontology,
    facts: TableFacts,
    unknown: Counter[str],
    evidence: frozenset[str] = EXPERIMENTAL,
) -> Iterator[tuple[TermRow, int]]:
    """Give the rows of a table or GAF with the places of their terms; terms that are not known are counted.

    Raises
    ------
    DataError
        If a row cannot be used, or names an aspect that is none or not the term's.
    """
    with open_lines(path) as lines:
        for row in _rows_of(lines, shown(path), facts, evidence):
            place = ontology.place.get(row.term)
            if place is None:
                unknown[row.term] += 1
                continue
            _check_aspect(row, ontology.aspects[place], path)
            yield row, place


def _rows_of(lines: Iterator[str], path: str, facts: TableFacts, evidence: frozenset[str]) -> Iterator[TermRow]:
    head = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    whole = itertools.chain(head, lines)
    if head and looks_like_gaf(head[-1]):
        return gaf_rows(whole, path, facts, evidence)
    return _term_rows(whole, path, facts)


def _check_aspect(row: TermRow, letter: str, path: str) -> None:
    if row.aspect is None:
        return
    aspect = _LETTERS.get(row.aspect.lower())
    if aspect is None:
        fix = "write C, F or P, or CCO, MFO or BPO"
        raise DataError(path, f"aspect {row.aspect!r}", fix, line=row.line, record=row.id)
    if aspect != letter:
        problem = f"aspect {row.aspect}, but the ontology has {row.term} in {letter}"
        raise DataError(path, problem, "give the ontology that the table is of", line=row.line, record=row.id)


class _Layout(NamedTuple):
    """The header's cells, where there is one, and the 0-based places of what is read."""

    header: tuple[str, ...]
    width: int
    id: int
    term: int
    aspect: int | None
    qualifier: int | None = None

    def places(self) -> dict[str, int | None]:
        """Return the columns that are read, by what they are read as."""
        return {"id": self.id, "term": self.term, "aspect": self.aspect, "qualifier": self.qualifier}


def _term_rows(lines: Iterator[str], path: str, facts: TableFacts) -> Iterator[TermRow]:
    """Give the rows below the header; without one the columns are id, term and, where there are three, aspect.

    A row equal to the header is passed over, and one whose qualifier says NOT marked.
    """
    layout: _Layout | None = None
    for line, row in cells(lines, path, (2, 3), facts):
        if layout is None:
            layout = _layout(row, path, line)
            facts.name_columns(layout.header, layout.places() if layout.header else {})
            if layout.header:
                continue
        if len(row) != layout.width:
            raise DataError(path, f"{len(row)} cells, where the first row has {layout.width}", _FIX_ROW, line=line)
        if tuple(row) == layout.header or (not layout.header and of_header(term_layout, row, path, line)):
            facts.repeated_headers.append(line)
        else:
            term = _term_row(line, row, (layout.id, layout.term, layout.aspect), path)
            yield term._replace(denied=layout.qualifier is not None and denies(row[layout.qualifier]))


def _layout(row: Sequence[str], path: str, line: int) -> _Layout:
    """Return the layout that a table's first row names or has."""
    width = len(row)
    places = of_header(term_layout, row, path, line)
    if places is not None:
        qualifier = of_header(partial(column_place, wanted=QUALIFIER_COLUMNS), row, path, line)
        return _Layout(tuple(row), width, *places, qualifier)
    if width not in (2, 3):
        raise DataError(path, f"{width} cell{'s' if width > 1 else ''} instead of 2 or 3", _FIX_ROW, line=line)
    return _Layout((), width, 0, 1, 2 if width > 2 else None)


def _term_row(line: int, row: Sequence[str], places: tuple[int, int, int | None], path: str) -> TermRow:
    id_, term = (row[place].strip() for place in places[:2])
    if not (id_ and term):
        raise DataError(path, f"no {'term' if id_ else 'id'}", _FIX_ROW, line=line, record=id_ or None)
    return TermRow(line, id_, term, None if places[2] is None else row[places[2]].strip())


def read_ia(path: str | Path, classes: Sequence[str], ontology: Ontology | None = None) -> Floats:
    """Read CAFA's table of information accretion, `term<TAB>bits`, with or without a header.

    Parameters
    ----------
    path : str or Path
    classes : sequence of str
    ontology : Ontology, optional
        A class that is not in the table has the value of another id of it, alternative or replaced.

    Returns
    -------
    float64 array, (classes,)

    Raises
    ------
    DataError
        If a line is not such, a term stands twice with two values, or a class is not in the table.
    """
    bits: dict[str, float] = {}
    with open_lines(str(path)) as lines:
        for number, (line, row) in enumerate(cells(lines, shown(str(path)), (2,))):
            if number == 0 and row[0].lower() in _IA_HEADERS:
                continue
            term, value = _term_and_bits(row, path, line)
            if bits.setdefault(term, value) != value:
                raise DataError(path, f"{value:g} for {term}, but {bits[term]:g} before", "keep one", line=line)
    others = {} if ontology is None else ontology.others
    for other, term in others.items():
        if other in bits:
            bits.setdefault(term, bits[other])
    missing = [term for term in classes if term not in bits]
    if missing:
        shown_terms = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        fix = "give a table of the same ontology, or none: then it is computed from the training terms"
        raise DataError(path, f"no value for {len(missing):,} of {len(classes):,} terms ({shown_terms})", fix)
    return np.array([bits[term] for term in classes], np.float64)


def _term_and_bits(row: Sequence[str], path: str | Path, line: int) -> tuple[str, float]:
    try:
        term, value = row
        bits = float(value)
    except ValueError:
        bits = -1.0
    if not 0 <= bits < float("inf"):
        text = "\t".join(row)
        raise DataError(path, f"{text!r}", "write term<TAB>bits, not negative, one a line", line=line)
    return term, bits
