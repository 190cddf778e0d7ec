"""The hierarchy that a user names for a data set: codes with dots, or a table of what lies under what."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from esmcls.errors import DataError
from esmcls.labels.hierarchy import NAMED_LEVELS, Hierarchy, components, first_circle, is_code
from esmcls.reading.records import Record
from esmcls.reading.rows import delimiter_of, read_rows
from esmcls.text_files import open_lines, shown

_VERSION: Final = re.compile(r"([A-Za-z]+\d+)\.\d+")
"""An accession with its version, such as PF00023.30."""
_SHOWN: Final = 5
_LETTERS: Final = 24
"""Of a name in a line that lists some."""


class Place(NamedTuple):
    """Where a label was first met."""

    path: str
    line: int
    record: str

    def error(self, problem: str, fix: str) -> DataError:
        """Return an error that names it."""
        return DataError(self.path, problem, fix, line=self.line, record=self.record)


class LabelPlaces:
    """The labels of records, and where each is first met: what a hierarchy is checked against."""

    def __init__(self) -> None:
        self.first: dict[str, Place] = {}

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """Give records as they come, and note their labels."""
        for record in records:
            if record.label is not None and record.label not in self.first:
                self.first[record.label] = Place(record.path, record.line, record.protein.id)
            yield record


def read_hierarchy(source: str | Path, labels: LabelPlaces) -> tuple[Hierarchy, list[str]]:
    """Return the hierarchy of labels, and what is to be told of it, one line each.

    Parameters
    ----------
    source : str or Path
        One of `esmcls.labels.hierarchy.NAMED_LEVELS`: labels are codes with dots; else a table of child and parent.
    labels : LabelPlaces

    Raises
    ------
    DataError
        If a label is no code with dots where they are to be, or two are of one node; if a line of the table has not two
        cells, a child has two parents or lies under itself, or the table knows none of the labels.
    """
    kind = str(source)
    if kind in NAMED_LEVELS:
        _check_codes(labels, kind)
        hierarchy = Hierarchy.of_dots(labels.first, kind)
        return hierarchy, [f"hierarchy: {hierarchy}", *_partial(hierarchy, labels)]
    parents, header = read_parents(source)
    versions = _with_versions(labels, parents)
    hierarchy = Hierarchy.of_table(
        parents | {label: parents[name] for label, name in versions.items()}, labels.first, header
    )
    lines = [f"hierarchy: {hierarchy}"]
    if versions:
        label, name = next(iter(versions.items()))
        lines.append(f"{len(versions):,} classes stand there without their version ({label} as {name}, …)")
    return hierarchy, lines + _strays(hierarchy, labels, source)


def _check_codes(labels: LabelPlaces, kind: str) -> None:
    tops = {components(label)[0] for label in labels.first if is_code(label)}
    by_node = dict[tuple[str, ...], str]()
    for label, place in labels.first.items():
        if not is_code(label) and label not in tops:
            fix = "give codes such as 3.40.50.300 or 1.1.-.-, or a table: --hierarchy FILE"
            raise place.error(f"label {label!r}, no code with dots (--hierarchy {kind})", fix)
        other = by_node.setdefault(tuple(components(label)), label)
        if other != label:
            raise place.error(f"labels {other!r} and {label!r}, two of one node", "write it one way")


def _partial(hierarchy: Hierarchy, labels: LabelPlaces) -> list[str]:
    open_ones = sorted(label for label in labels.first if not hierarchy.says_all(label))
    if not open_ones:
        return []
    words = "they count at the levels that they name"
    return [
        f"{len(open_ones):,} of {len(labels.first):,} classes are not of the last level ({_some(open_ones)}): {words}"
    ]


def _with_versions(labels: LabelPlaces, parents: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that a table knows without the version of the accession alone, and how it calls them."""
    versioned = {label: _VERSION.fullmatch(label) for label in labels.first if label not in parents}
    return {label: match[1] for label, match in versioned.items() if match and match[1] in parents}


def _strays(hierarchy: Hierarchy, labels: LabelPlaces, source: str | Path) -> list[str]:
    known = hierarchy.parents.keys() | set(hierarchy.parents.values())
    strays = sorted(label for label in labels.first if label not in known)
    if not strays:
        return []
    if len(strays) == len(labels.first):
        fix = "give a table of the classes, tab-separated: child, then parent"
        raise DataError(shown(str(source)), f"no parent of any class, such as {strays[0]!r}", fix)
    return [
        f"{len(strays):,} of {len(labels.first):,} classes have no parent there ({_some(strays)}): each stands alone"
    ]


def _some(names: Sequence[str]) -> str:
    shown_names = (name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…" for name in names[:_SHOWN])
    return ", ".join(shown_names) + (", …" if len(names) > _SHOWN else "")


def read_parents(path: str | Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Read a table of child and parent; a child without a parent may have an empty second cell.

    The first line is a header if it names nothing that any other line does, without a digit.

    Returns
    -------
    dict of str to str
        Child -> parent.
    tuple of str
        The header: what child and parent are called; empty without one.

    Raises
    ------
    DataError
        If the file cannot be read, a line has not two cells, or a child has two parents or lies under itself.
    """
    name = shown(str(path))
    with open_lines(str(path)) as lines:
        first = next(lines, "")
        rows = list(read_rows(itertools.chain([first], lines), name, delimiter_of(first, (2,))))
    header = _header(rows)
    parents, line_of = dict[str, str](), dict[str, int]()
    for line, cells in rows[1:] if header else rows:
        child, parent = _edge(cells, name, line)
        if not parent:
            continue
        if parents.setdefault(child, parent) != parent:
            problem = f"{child} under {parent} here, under {parents[child]} in line {line_of[child]}"
            raise DataError(name, problem, "leave one parent each", line=line, record=child)
        line_of.setdefault(child, line)
    _refuse_circle(parents, line_of, name)
    if not parents:
        raise DataError(name, "no child with a parent", "give a line each, tab-separated: child, then parent")
    return parents, header


def _edge(cells: Sequence[str], path: str, line: int) -> tuple[str, str]:
    filled = list(cells)
    while len(filled) > 2 and not filled[-1]:
        filled.pop()
    if len(filled) != 2 or not filled[0]:
        problem = f"{len(filled)} cell{'' if len(filled) == 1 else 's'} where child and parent are to stand"
        raise DataError(path, problem, "give two, tab-separated", line=line)
    return filled[0], filled[1]


def _header(rows: Sequence[tuple[int, list[str]]]) -> tuple[str, ...]:
    if not rows or len(rows[0][1]) != 2:
        return ()
    names = tuple(rows[0][1])
    others = {cell for _, cells in rows[1:] for cell in cells}
    is_header = all(name and not any(map(str.isdigit, name)) and name not in others for name in names)
    return names if is_header and len(rows) > 1 else ()


def _refuse_circle(parents: dict[str, str], line_of: dict[str, int], path: str) -> None:
    circle = first_circle(parents)
    if circle:
        line = max(line_of[node] for node in circle)
        way = " under ".join(circle[:_SHOWN]) + (" …" if len(circle) > _SHOWN else "")
        raise DataError(path, f"a circle: {way}", "leave one of these lines out", line=line)
