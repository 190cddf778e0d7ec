"""Proteins and records, which every reader gives; the check of residues; the tally of what a reading met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from esmcls.errors import DataError, SequenceError

RESIDUES: Final = "ACDEFGHIKLMNPQRSTVWYXBUZO"
"""The 20 standard amino acids and X B U Z O: the letters ESM-2 has tokens for."""
GAPS: Final = "-._~"
"""Signs that an alignment may hold between residues (Stockholm format)."""
PARTS: Final = ("train", "validation", "test")
"""The parts of a data set."""

_RESIDUE_BYTES: Final = RESIDUES.encode("ascii")
_PART_NAMES: Final = {"train": "train", "dev": "validation", "val": "validation", "valid": "validation"} | {
    part: part for part in PARTS
}
_ALLOWED: Final = frozenset(RESIDUES + RESIDUES.lower() + "Jj")
_SHOWN: Final = 20
_FIX_RESIDUE: Final = "use the 20 amino acids and X B U Z O alone"


@dataclass(frozen=True, slots=True)
class Protein:
    """A sequence of upper-case residues and its id, verbatim; the id is never a key."""

    id: str
    sequence: str


class NamedSequences(Protocol):
    """Ids and sequences in one order, such as a `Dataset`."""

    @property
    def ids(self) -> list[str]: ...
    @property
    def sequences(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Record:
    """A protein with what its file says about it.

    Parameters
    ----------
    protein : Protein
    label : str or None
        The name of its class, where there is one.
    part : str or None
        "train", "validation" or "test", where the split is given.
    path : str
        The file, as the user named it.
    line : int
        1-based line where the record begins.
    """

    protein: Protein
    label: str | None
    part: str | None
    path: str
    line: int


class RawRecord(NamedTuple):
    """A record as it stands in its file, not checked yet, from the reader of one format.

    `texts` are the pieces of the sequence, one a physical line; `lines` their 1-based numbers.
    """

    id: str
    label: str | None
    part: str | None
    line: int
    texts: Sequence[str]
    lines: Sequence[int]
    gapped: bool = False


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that was left out, and why."""

    id: str | None
    path: str
    line: int | None
    column: int | None
    found: str

    @classmethod
    def of(cls, error: DataError) -> BadRecord:
        """Take the facts of an error."""
        return cls(error.record, error.path, error.line, error.column, error.found)

    def __str__(self) -> str:
        """Return the record's place and what is wrong with it, in one line."""
        place = ":".join(str(part) for part in (self.path, self.line, self.column) if part is not None)
        return f"{place}: {'' if self.id is None else f'record {self.id!r}: '}{self.found}"


@dataclass
class Tally:
    """Counts of what a reading met, for the user to be told.

    Parameters
    ----------
    records : int
        Records given out.
    j_replaced : int
        Residues J that became X.
    duplicate_ids : int
        Records whose id an earlier record has too; counted by whoever holds the whole set.
    unused_labels : int
        Labels of a labels table that belong to no record read.
    bad : list of BadRecord
        Records left out.
    unread : list of str
        Files of a folder that hold no records.
    unknown_terms : dict of str to int
        Terms of a table that the ontology does not know, and the rows of each, which were left out.

    Examples
    --------
    >>> Tally(records=1200, j_replaced=1).lines()
    ['1,200 records read', '1 residue J read as X']
    """

    records: int = 0
    j_replaced: int = 0
    duplicate_ids: int = 0
    unused_labels: int = 0
    bad: list[BadRecord] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    unknown_terms: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return one line for each fact that a user should be told."""
        lines = [_count(self.records, "record") + " read"]
        if self.j_replaced:
            lines.append(_count(self.j_replaced, "residue") + " J read as X")
        if self.duplicate_ids:
            lines.append(_count(self.duplicate_ids, "record") + " with the id of an earlier one; all kept")
        if self.unused_labels:
            lines.append(_count(self.unused_labels, "label") + " without a record")
        if self.bad:
            lines.append(_count(len(self.bad), "record") + " left out:")
            lines.extend(f"  {bad}" for bad in self.bad)
        if self.unread:
            lines.append(_count(len(self.unread), "file") + " not read: " + ", ".join(self.unread))
        if self.unknown_terms:
            rows = _count(sum(self.unknown_terms.values()), "row")
            terms = sorted(self.unknown_terms)
            more = f" and {len(terms) - _SHOWN:,} more" if len(terms) > _SHOWN else ""
            lines.append(f"{rows} left out, of {_count(len(terms), 'term')} that the ontology does not know:")
            lines.append(f"  {', '.join(terms[:_SHOWN])}{more}")
        return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def part_of(name: str) -> str | None:
    """Return the part that a word names, or None.

    Examples
    --------
    >>> part_of("dev"), part_of("Train"), part_of("protein")
    ('validation', 'train', None)
    """
    return _PART_NAMES.get(name.lower())


def clean_sequence(text: str) -> tuple[str, int]:
    """Return a sequence in upper case without a `*` at its end and with J as X, and how many J there were.

    Parameters
    ----------
    text : str
        Residues as a file or a user writes them.

    Returns
    -------
    (str, int)

    Raises
    ------
    SequenceError
        If `text` holds another letter or sign (with its 0-based position), or no residue.

    Examples
    --------
    >>> clean_sequence("mkJl*")
    ('MKXL', 1)
    """
    if text and text.isascii() and not text.encode("ascii").translate(None, _RESIDUE_BYTES):
        return text, 0
    body = text.rstrip("*")
    if not body:
        raise SequenceError("no residues", "give a sequence or leave the record out")
    for position, sign in enumerate(body):
        if sign not in _ALLOWED:
            raise SequenceError(_describe(sign), _FIX_RESIDUE, position)
    upper = body.upper()
    return upper.replace("J", "X"), upper.count("J")


def _describe(sign: str) -> str:
    if sign in GAPS:
        return f"gap sign {sign!r}"
    if sign.isalpha():
        return f"letter {sign!r}, which is no amino acid"
    return f"sign {sign!r}, which is no amino acid"
