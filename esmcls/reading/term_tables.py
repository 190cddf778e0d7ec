"""Terms of proteins in CAFA's tables: `EntryID<TAB>term<TAB>aspect`, a term a row; joined to records by id.

A record's label is its direct terms, each as the ontology calls it, sorted, with a space between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from esmcls.errors import DataError
from esmcls.reading.records import Tally
from esmcls.reading.tables import LabelTable, accession, cells, term_layout
from esmcls.text_files import open_lines, shown

if TYPE_CHECKING:
    from esmcls.labels.ontology import Ontology

ASPECT_WORDS: Final = {
    "C": ("c", "cc", "cco", "cellular_component"),
    "F": ("f", "mf", "mfo", "molecular_function"),
    "P": ("p", "bp", "bpo", "biological_process"),
}
"""The letter of each aspect, and how tables write it, in any case."""
_LETTERS: Final = {word: letter for letter, words in ASPECT_WORDS.items() for word in words}
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

    @classmethod
    def of(cls, paths: Iterable[str], ontology: Ontology) -> TermTable:
        """Read tables of terms, with or without a header; equal rows, in one table or several, count once.

        Raises
        ------
        DataError
            If a row has no id or term or names an aspect that is none or not the term's, or the ontology knows no term.
        """
        table = cls(paths=tuple(paths))
        places_of: dict[str, list[int]] = {}
        for path in table.paths:
            table._add(path, ontology, places_of)
        for id_, places in places_of.items():
            label = " ".join(ontology.terms[place] for place in sorted(set(places)))
            table.labels[id_] = (label, *table.labels[id_][1:])
        return table

    def _add(self, path: str, ontology: Ontology, places_of: dict[str, list[int]]) -> None:
        """Read one table: note in `places_of` where the terms of each id stand in the ontology."""
        known = 0
        with open_lines(path) as lines:
            for row in _term_rows(lines, shown(path)):
                place = ontology.place.get(row.term)
                if place is None:
                    self.unknown[row.term] += 1
                    continue
                _check_aspect(row, ontology.aspects[place], path)
                id_ = accession(row.id)
                places_of.setdefault(id_, []).append(place)
                self.labels.setdefault(id_, ("", path, row.line))
                known += 1
        if not known:
            fix = "give id<TAB>term<TAB>aspect with the ontology that the terms are of"
            raise DataError(path, "no term that the ontology knows", fix)

    def tell(self, tally: Tally) -> None:
        """Note what the records joined left over, and the terms that are not known."""
        super().tell(tally)
        tally.unknown_terms = dict(self.unknown)


class _TermRow(NamedTuple):
    line: int
    id: str
    term: str
    aspect: str | None


def _check_aspect(row: _TermRow, letter: str, path: str) -> None:
    if row.aspect is None:
        return
    aspect = _LETTERS.get(row.aspect.lower())
    if aspect is None:
        fix = "write C, F or P, or CCO, MFO or BPO"
        raise DataError(path, f"aspect {row.aspect!r}", fix, line=row.line, record=row.id)
    if aspect != letter:
        problem = f"aspect {row.aspect}, but the ontology has {row.term} in {letter}"
        raise DataError(path, problem, "give the ontology that the table is of", line=row.line, record=row.id)


def _term_rows(lines: Iterator[str], path: str) -> Iterator[_TermRow]:
    """Give the rows below the header; without one the columns are id, term and, where there are three, aspect."""
    width, layout = 0, None
    for number, (line, row) in enumerate(cells(lines, path)):
        if number == 0:
            width = len(row)
            layout = term_layout(row)
            if layout:
                continue
            layout = (0, 1, 2 if width > 2 else None)
            if width not in (2, 3):
                raise DataError(path, f"{width} cell{'s' if width > 1 else ''} instead of 2 or 3", _FIX_ROW, line=line)
        if len(row) != width:
            raise DataError(path, f"{len(row)} cells, where the first row has {width}", _FIX_ROW, line=line)
        assert layout is not None
        yield _term_row(line, row, layout, path)


def _term_row(line: int, row: Sequence[str], places: tuple[int, int, int | None], path: str) -> _TermRow:
    id_, term = (row[place].strip() for place in places[:2])
    if not (id_ and term):
        raise DataError(path, f"no {'term' if id_ else 'id'}", _FIX_ROW, line=line, record=id_ or None)
    return _TermRow(line, id_, term, None if places[2] is None else row[places[2]].strip())
