"""GAF, the table in which databases give out annotations: 17 columns a row, lines of remarks beginning with `!`.

Versions 2.0, 2.1 and 2.2 have the same columns (https://geneontology.org/docs/go-annotation-file-gaf-format-2.2). Read
are, counted from 1: 2 the protein, 4 the qualifier, 5 the term, 7 the evidence code, 9 the aspect and 13 the taxon.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from esmcls.errors import DataError
from esmcls.reading.annotations.evidence import CODES, EXPERIMENTAL
from esmcls.reading.rows import TableFacts, clean_cell

REMARK: Final = "!"
COLUMNS: Final = 15, 17
"""Least and most of a row: the last two may be left out where they are empty, as some databases do."""
RELATIONS: Final = frozenset(
    [
        "enables",
        "contributes_to",
        "involved_in",
        "acts_upstream_of",
        "acts_upstream_of_positive_effect",
        "acts_upstream_of_negative_effect",
        "acts_upstream_of_or_within",
        "acts_upstream_of_or_within_positive_effect",
        "acts_upstream_of_or_within_negative_effect",
        "located_in",
        "part_of",
        "is_active_in",
        "colocalizes_with",
    ]
)
"""Qualifiers of 2.2; those of 2.1 are among them."""
_VERSION: Final = re.compile(r"!\s*gaf-version:\s*(\S+)", re.IGNORECASE)
_VERSIONS: Final = ("2.0", "2.1", "2.2", "2")
_TERM: Final = re.compile(r"GO:\d{7}")
_TAXON: Final = re.compile(r"taxon:(\d+)(?:\|taxon:\d+)*")
_FIX_ROW: Final = "give the row as its database had it (GAF 2.1 or 2.2), or leave it out"


class TermRow(NamedTuple):
    """A row that says that a protein has a term, or, where it is denied, that it has not."""

    line: int
    id: str
    term: str
    aspect: str | None = None
    denied: bool = False
    taxon: str | None = None


def looks_like_gaf(first: str) -> bool:
    """Say whether the first line that is not blank is that of a GAF, with or without remarks above its rows.

    Examples
    --------
    >>> looks_like_gaf("!gaf-version: 2.2"), looks_like_gaf("P69905\\tGO:0005344\\tF")
    (True, False)
    """
    cells = first.rstrip("\r\n").split("\t")
    return first.startswith(REMARK) or (len(cells) >= COLUMNS[0] and _TERM.fullmatch(cells[4].strip()) is not None)


def gaf_rows(
    lines: Iterator[str], path: str, facts: TableFacts, evidence: frozenset[str] = EXPERIMENTAL
) -> Iterator[TermRow]:
    """Give the rows whose evidence counts; what is denied comes, too, and is marked.

    Raises
    ------
    DataError
        If a row is none of GAF's, or the file is of a version that is not read.
    """
    facts.columns = {"id": "column 2", "term": "column 5", "aspect": "column 9", "qualifier": "column 4"}
    for number, line in enumerate(lines, 1):
        if line.startswith(REMARK):
            _check_version(line, path, number)
            continue
        cells = [clean_cell(cell) for cell in line.rstrip("\r\n").split("\t")]
        if not any(cells):
            continue
        row, code = _row(cells, path, number)
        if code in evidence:
            yield row
        else:
            facts.other_evidence[code] += 1


def _check_version(line: str, path: str, number: int) -> None:
    match = _VERSION.match(line)
    if match and match[1] not in _VERSIONS:
        raise DataError(path, f"GAF of version {match[1][:20]}", "give one of 2.1 or 2.2", line=number)


def _row(cells: list[str], path: str, number: int) -> tuple[TermRow, str]:
    """Return a row and its evidence code."""
    if not COLUMNS[0] <= len(cells) <= COLUMNS[1]:
        columns = f"{len(cells)} column{'' if len(cells) == 1 else 's'} instead of {COLUMNS[0]} to {COLUMNS[1]}"
        raise DataError(path, columns, _FIX_ROW, line=number)
    id_, qualifier, term, code, aspect, taxon = (cells[place - 1] for place in (2, 4, 5, 7, 9, 13))
    wrong = (
        ("no id in column 2" if not id_ else "")
        or (f"term {term[:40]!r} in column 5" if not _TERM.fullmatch(term) else "")
        or (f"evidence code {code[:40]!r} in column 7" if code not in CODES else "")
        or (f"aspect {aspect[:40]!r} in column 9" if aspect not in ("C", "F", "P") else "")
        or (f"taxon {taxon[:40]!r} in column 13" if not _TAXON.fullmatch(taxon) else "")
    )
    pieces = [piece.strip() for piece in qualifier.split("|") if piece.strip()]
    denied = any(piece.upper() == "NOT" for piece in pieces)
    strange = [piece for piece in pieces if piece.upper() != "NOT" and piece.lower() not in RELATIONS]
    if wrong or strange:
        problem = wrong or f"qualifier {strange[0][:40]!r} in column 4"
        raise DataError(path, problem, _FIX_ROW, line=number, record=id_ or None)
    return TermRow(number, id_, term, aspect, denied, _TAXON.sub(r"\1", taxon)), code
