"""Taxa: which terms they can have, as the Gene Ontology publishes it, which lies under which, and whose a protein is.

constraints   OBO (go-computed-taxon-constraints.obo, go-plus.obo), or term<TAB>never_in_taxon<TAB>taxon
taxonomy      nodes.dmp of NCBI's, or child<TAB>parent
proteins      OX= of UniProt's headers, column 13 of a GAF, or id<TAB>taxon
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

from esmcls.errors import DataError
from esmcls.reading.annotations.evidence import CODES
from esmcls.reading.annotations.gaf import gaf_rows, looks_like_gaf
from esmcls.reading.ids import accession
from esmcls.reading.rows import TableFacts
from esmcls.text_files import open_lines, shown

NEVER: Final = "never_in_taxon"
ONLY: Final = "only_in_taxon"
_KINDS: Final = {
    "never_in_taxon": NEVER,
    "RO:0002161": NEVER,
    "only_in_taxon": ONLY,
    "RO:0002160": ONLY,
    "in_taxon": ONLY,
    "RO:0002162": ONLY,
}
"""How constraints are called, and by which ids of relations; what is `in_taxon` is nowhere else, as GO means it."""
_OBO: Final = re.compile(r"format-version:|data-version:|ontology:|\[")
_TAXON: Final = re.compile(r"(?:(?:\S*/)?NCBITaxon[:_]|taxon:)?(\d+)", re.IGNORECASE)
_UNION: Final = re.compile(r"(?:\S*/)?NCBITaxon_Union[:_](\d+)")
_HEADER_TAXON: Final = re.compile(r"(?:^|\s)OX=(\d+)(?=\s|$)")
_FIX_ROW: Final = "write term<TAB>never_in_taxon or only_in_taxon<TAB>taxon, such as 9606, one a line"
_FIX_NODE: Final = "give nodes.dmp of NCBI's taxonomy, or child<TAB>parent, one a line"
_FIX_PROTEIN: Final = "write id<TAB>taxon, such as P69905<TAB>9606, one a line, or give a GAF"


class Constraint(NamedTuple):
    """A term that is never in some taxa, or only in one of them."""

    term: str
    kind: str
    taxa: frozenset[int]


@dataclass(frozen=True)
class Constraints:
    """What a file says.

    Parameters
    ----------
    constraints : tuple of Constraint
    undefined : int
        Constraints by unions of taxa that the file does not say the members of; they are left out.
    """

    constraints: tuple[Constraint, ...]
    undefined: int = 0


def read_constraints(path: str | Path) -> Constraints:
    """Read taxon constraints, OBO or a table.

    Raises
    ------
    DataError
        If a line is none, or there is no constraint.
    """
    with open_lines(str(path)) as lines:
        first, whole = _peeked(lines)
        rows = list(_obo_rows(whole, path) if _OBO.match(first) else _table_rows(whole, path))
    members = {name: taxa for name, kind, taxa in rows if not kind}
    constraints = []
    undefined = 0
    for term, kind, taxa in rows:
        known = members.get(next(iter(taxa)), taxa) if kind else taxa
        if kind and not all(taxon.isdecimal() for taxon in known):
            undefined += 1
        elif kind:
            constraints.append(Constraint(term, kind, frozenset(map(int, known))))
    if not constraints:
        fix = "give go-computed-taxon-constraints.obo, or term<TAB>never_in_taxon<TAB>taxon, one a line"
        raise DataError(path, "no constraint of a term by a taxon", fix)
    return Constraints(tuple(constraints), undefined)


def _peeked(lines: Iterator[str]) -> tuple[str, Iterator[str]]:
    """Return the first line that is not blank, and all lines."""
    head = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    return (head[-1] if head else ""), itertools.chain(head, lines)


_Row = tuple[str, str, frozenset[str]]
"""Term, kind of constraint and taxon, a number or the id of a union; or a union, nothing, and its members."""


def _obo_rows(lines: Iterable[str], path: str | Path) -> Iterator[_Row]:
    unions = defaultdict[str, set[str]](set)
    name = ""
    for number, line in enumerate(lines, 1):
        tag, _, value = line.strip().partition(": ")
        words = value.split()
        if line.startswith("["):
            name = ""
        elif tag == "id" and words:
            name = words[0]
        elif tag == "union_of" and words and (union := _UNION.fullmatch(name)):
            unions[union[0]].add(_taxon(words[0], path, number, "name a taxon, such as NCBITaxon:9606"))
        elif tag in ("relationship", "property_value") and words and words[0] in _KINDS and name.startswith("GO:"):
            if len(words) < 2:
                raise DataError(path, f"{words[0]} of nothing", "name a taxon, such as NCBITaxon:9606", line=number)
            union = _UNION.fullmatch(words[1])
            fix = "name a taxon, such as NCBITaxon:9606"
            yield name, _KINDS[words[0]], frozenset([union[0] if union else _taxon(words[1], path, number, fix)])
    for union_name, taxa in unions.items():
        yield union_name, "", frozenset(taxa)


def _taxon(text: str, path: str | Path, line: int, fix: str) -> str:
    match = _TAXON.fullmatch(text)
    if match is None or len(match[1]) > 10:
        raise DataError(path, f"taxon {text[:40]!r}", fix, line=line)
    return match[1]


def _table_rows(lines: Iterable[str], path: str | Path) -> Iterator[_Row]:
    for number, row in _cells(lines):
        if number == 1 and not row[0].startswith("GO:"):
            continue  # a header
        if len(row) != 3:
            raise DataError(path, f"{len(row)} cells instead of 3", _FIX_ROW, line=number)
        kind = _KINDS.get(row[1]) or _KINDS.get(row[1].lower().replace(" ", "_"))
        if kind is None or not row[0].startswith("GO:"):
            raise DataError(path, f"{row[0][:40]!r} with {row[1][:40]!r}", _FIX_ROW, line=number)
        yield row[0], kind, frozenset([_taxon(row[2], path, number, _FIX_ROW)])


def _cells(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Give the rows of a table with tabs that are not blank, and their lines."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, [cell.strip() for cell in line.rstrip("\r\n").split("\t")]


@dataclass(frozen=True, eq=False)
class Taxonomy:
    """Which taxon lies under which.

    Parameters
    ----------
    parents : dict of int to int
        Child -> parent; the root's is itself, or missing.
    """

    parents: Mapping[int, int]

    @classmethod
    def read(cls, path: str | Path) -> Taxonomy:
        """Read nodes.dmp, or a table of child and parent.

        Raises
        ------
        DataError
            If a line is neither, a taxon has two parents or lies under itself, or there is none.
        """
        parents: dict[int, int] = {}
        with open_lines(str(path)) as lines:
            for number, line in enumerate(lines, 1):
                pieces = [piece.strip() for piece in line.split("|" if "|" in line else "\t")]
                if not any(pieces) or (number == 1 and not any(piece.isdecimal() for piece in pieces)):
                    continue  # a header
                if len(pieces) < 2 or not all(piece.isdecimal() and len(piece) < 11 for piece in pieces[:2]):
                    raise DataError(
                        path, f"{line.strip()[:40]!r} names no taxon and its parent", _FIX_NODE, line=number
                    )
                child, parent = int(pieces[0]), int(pieces[1])
                if parents.setdefault(child, parent) != parent:
                    problem = f"taxon {child} under {parent}, but under {parents[child]} before"
                    raise DataError(path, problem, "keep one", line=number)
        if not parents:
            raise DataError(path, "no taxon", _FIX_NODE)
        taxonomy = cls(parents)
        if (taxon := taxonomy._in_a_cycle()) is not None:
            raise DataError(path, f"taxon {taxon} lies under itself", "correct one of its parents")
        return taxonomy

    def _in_a_cycle(self) -> int | None:
        """Return a taxon that lies under itself, the root apart; None where there is none."""
        sound: set[int] = set()
        for taxon in self.parents:
            way: dict[int, None] = {}
            while taxon not in sound and taxon not in way:
                way[taxon] = None
                above = self.parents.get(taxon, taxon)
                if above == taxon:
                    break
                taxon = above
            else:
                if taxon in way:
                    return taxon
            sound.update(way)
        return None

    def lineage(self, taxon: int) -> frozenset[int] | None:
        """Return a taxon and all that it lies under; None where it is not known.

        Examples
        --------
        >>> sorted(Taxonomy({1: 1, 2: 1, 562: 2}).lineage(562)), Taxonomy({2: 1}).lineage(9606)
        ([1, 2, 562], None)
        """
        if taxon not in self.parents and taxon not in self.tops:
            return None
        above = {taxon}
        while (parent := self.parents.get(taxon, taxon)) != taxon:
            above.add(parent)
            taxon = parent
        return frozenset(above)

    @cached_property
    def tops(self) -> frozenset[int]:
        """Taxa that others lie under and that have no line of their own."""
        return frozenset(self.parents.values()) - self.parents.keys()


def read_protein_taxa(path: str | Path) -> dict[str, int]:
    """Read whose each protein is: id<TAB>taxon, or a GAF, in which the first of two taxa counts.

    Raises
    ------
    DataError
        If a row is neither, or a protein has two taxa.
    """
    taxa: dict[str, int] = {}
    with open_lines(str(path)) as lines:
        first, whole = _peeked(lines)
        for number, name, taxon in _gaf_taxa(whole, path) if looks_like_gaf(first) else _listed_taxa(whole, path):
            if taxa.setdefault(accession(name), taxon) != taxon:
                problem = f"taxon {taxon}, but {taxa[accession(name)]} before"
                raise DataError(path, problem, "keep one", line=number, record=name)
    if not taxa:
        raise DataError(path, "no protein with a taxon", _FIX_PROTEIN)
    return taxa


def _gaf_taxa(lines: Iterator[str], path: str | Path) -> Iterator[tuple[int, str, int]]:
    for row in gaf_rows(lines, shown(str(path)), TableFacts(), frozenset(CODES)):
        assert row.taxon is not None  # as every row of a GAF has one
        yield row.line, row.id, int(row.taxon)


def _listed_taxa(lines: Iterable[str], path: str | Path) -> Iterator[tuple[int, str, int]]:
    for number, row in _cells(lines):
        if number == 1 and len(row) == 2 and not _TAXON.fullmatch(row[1]):
            continue  # a header
        if len(row) != 2 or not row[0]:
            raise DataError(path, f"{len(row)} cells instead of 2", _FIX_PROTEIN, line=number)
        yield number, row[0], int(_taxon(row[1], path, number, _FIX_PROTEIN))


def taxon_of_header(description: str) -> int | None:
    """Return the taxon that a header of UniProt's names behind the id.

    Examples
    --------
    >>> taxon_of_header("Hemoglobin subunit alpha OS=Homo sapiens OX=9606 GN=HBA1 PE=1 SV=2"), taxon_of_header("OX=x")
    (9606, None)
    """
    match = _HEADER_TAXON.search(description)
    return int(match[1]) if match else None
