"""Proteins and records, which every reader gives; the check of residues; the tally of what a reading met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from esmcls.errors import DataError, SequenceError, UsageError
from esmcls.reading.ids import rule_lines
from esmcls.reading.looks import look_of, looks_lines
from esmcls.reading.rows import TableFacts
from esmcls.reading.structures.notes import StructureNotes

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
_Items = TypeVar("_Items", bound=Iterable[object])
_FIX_RESIDUE: Final = "use the 20 amino acids and X B U Z O alone"


@dataclass(frozen=True, slots=True)
class Protein:
    """A sequence of upper-case residues and its id, verbatim; the id is never a key.

    `description` is the rest of its header in FASTA; two proteins are equal whatever is written there.
    """

    id: str
    sequence: str
    description: str = field(default="", compare=False, repr=False)


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

    `texts` are the pieces of the sequence, one a physical line; `lines` their 1-based numbers. `mask` says with 1 and 0
    of which residues the label is known, where a label is for residues.
    """

    id: str
    label: str | None
    part: str | None
    line: int
    texts: Sequence[str]
    lines: Sequence[int]
    gapped: bool = False
    description: str = ""
    mask: str = ""


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
    hidden : list of str
        Hidden files and folders and backups in a folder, and files that a link names once more: none is read.
    files : dict of str to int
        Files that were read, and the records of each.
    tables : dict of str to TableFacts
        Tables that were read, of records and of labels.
    joined : dict of str to Counter
        What records were joined to by id -> the rules of `reading.ids`, and the records that each joined.
    looks : Counter
        What else than a protein sequences look like, and how many.
    ontology_notes : tuple of str
        What the reading of the ontology met.
    unknown_terms : dict of str to int
        Terms of a table that the ontology does not know, and the rows of each, which were left out.
    structures : StructureNotes
        What structures were read.

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
    hidden: list[str] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    tables: dict[str, TableFacts] = field(default_factory=dict)
    joined: dict[str, Counter[str]] = field(default_factory=dict)
    looks: Counter[str] = field(default_factory=Counter)
    ontology_notes: tuple[str, ...] = ()
    unknown_terms: dict[str, int] = field(default_factory=dict)
    structures: StructureNotes = field(default_factory=StructureNotes)

    def count_joined(self, what: str, matched: Counter[str]) -> None:
        """Add how many records were joined to a kind of table, by which rules."""
        self.joined.setdefault(what, Counter()).update(matched)

    def count(self, record: Record, path: str) -> None:
        """Count a record that is given out."""
        self.records += 1
        self.files[path] = self.files.get(path, 0) + 1
        look = look_of(record.protein.sequence)
        if look:
            self.looks[look] += 1

    def source_lines(self) -> list[str]:
        """Return which files were read, with their records, and which columns of them; nothing of a single FASTA."""
        lines = []
        if len(self.files) > 1 or self.hidden or self.unread:
            counts = [f"  {path}: {_count(number, 'record')}" for path, number in self.files.items()]
            more = [f"  and {len(counts) - _SHOWN:,} more"] if len(counts) > _SHOWN else []
            lines += [_count(len(counts), "file") + " read:", *counts[:_SHOWN], *more]
        alike: dict[tuple[str, ...], list[str]] = {}
        for path, facts in self.tables.items():
            alike.setdefault(_columns(facts), []).append(path)
        for columns, paths in alike.items():
            others = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
            lines += [f"{paths[0]}{others}: {column}" for column in columns]
        return lines

    def lines(self) -> list[str]:
        """Return one line for each fact that a user should be told."""
        lines = [_count(self.records, "record") + " read", *self.structures.lines()]
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
        if self.hidden:
            names = ", ".join(self.hidden[:_SHOWN]) + (", …" if len(self.hidden) > _SHOWN else "")
            lines.append(f"{len(self.hidden):,} hidden, backup or linked again, not read: {names}")
        lines += [line for path, facts in self.tables.items() for line in _table_lines(path, facts)]
        lines += [line for what, matched in self.joined.items() for line in rule_lines(matched, f" to {what}")]
        lines += looks_lines(self.looks, self.records)
        lines += self.ontology_notes
        if self.unknown_terms:
            rows = _count(sum(self.unknown_terms.values()), "row")
            terms = sorted(self.unknown_terms)
            more = f" and {len(terms) - _SHOWN:,} more" if len(terms) > _SHOWN else ""
            lines.append(f"{rows} left out, of {_count(len(terms), 'term')} that the ontology does not know:")
            lines.append(f"  {', '.join(terms[:_SHOWN])}{more}")
        return lines


def _columns(facts: TableFacts) -> tuple[str, ...]:
    """Return lines that say which columns of a table were taken for what, and which were not read."""
    if not facts.columns:
        return ()
    taken = ", ".join(f"{role} from {name!r}" for role, name in facts.columns.items())
    ignored = f"; not read: {', '.join(map(repr, facts.ignored))}" if facts.ignored else ""
    return (taken + ignored,)


def _table_lines(path: str, facts: TableFacts) -> list[str]:
    rows = {
        "equal to the header passed over": facts.repeated_headers,
        "with a cell over several lines": facts.line_ends,
        "left out, since a NOT in them says that they are not so": facts.denied,
    }
    sentences = [
        f"{path}: {_count(len(lines), 'row')} {what} (the first in line {lines[0]:,})"
        for what, lines in rows.items()
        if lines
    ]
    if facts.other_evidence:
        codes = ", ".join(f"{number:,} {code}" for code, number in sorted(facts.other_evidence.items()))
        left = _count(facts.other_evidence.total(), "row")
        sentences.append(
            f"{path}: {left} left out, whose evidence does not count ({codes}); --evidence says which does"
        )
    if facts.splits:
        names = ", ".join(facts.splits)
        verb = "says" if len(facts.splits) == 1 else "say"
        sentences.append(f"{path}: {names} {verb} parts, and none was taken: choose one with --split-column NAME")
    return sentences


def refuse_text(items: _Items, what: str) -> _Items:
    """Return several things, having made sure that they are not one text, which would be taken letter by letter.

    Raises
    ------
    UsageError
        If they are one text or none.

    Examples
    --------
    >>> refuse_text(["MKT"], "sequences")
    ['MKT']
    """
    if items is None or isinstance(items, str | bytes):
        start = repr(items)[:40]
        raise UsageError(f"{what}: {start} instead of a list of them; put it into brackets: [{start}]")
    return items


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


def several(whose: str, items: object, *kinds: type) -> Iterator[Any]:
    """Give the items of what must be a list of texts, or of `kinds` besides; an iterator is gone through as it comes.

    Parameters
    ----------
    whose : str
        Who takes them, as a message names it.
    items : iterable
    *kinds : type
        What an item may be besides a text.

    Raises
    ------
    UsageError
        If it is a single text, which would be taken for a list of letters, or no iterable, or an item is of another
        type: it names the place.

    Examples
    --------
    >>> list(several("embed", ["MK", "ML"]))
    ['MK', 'ML']
    >>> list(several("embed", ["MK", None]))
    Traceback (most recent call last):
    esmcls.errors.UsageError: embed: sequence 2 is None, not a text
    """
    if isinstance(items, (str, bytes)):
        raise UsageError(f"{whose} takes a list of sequences, not one text; put it into a list")
    if not isinstance(items, Iterable):
        raise UsageError(f"{whose} takes a list of sequences, not {_named(items)}")
    return _of_kinds(whose, items, (str, *kinds))


def _of_kinds(whose: str, items: Iterable[Any], kinds: tuple[type, ...]) -> Iterator[Any]:
    for number, item in enumerate(items, 1):
        if not isinstance(item, kinds):
            raise UsageError(f"{whose}: sequence {number} is {_named(item)}, not a text")
        yield item


def _named(item: object) -> str:
    return "None" if item is None else f"of type {type(item).__name__}"


def clean_sequences(whose: str, texts: object) -> list[str]:
    """Return `clean_sequence` of each of a list of texts.

    Raises
    ------
    UsageError
        As `several`.
    SequenceError
        If one is no protein sequence: it names the place.

    Examples
    --------
    >>> clean_sequences("embed", ["mk", "A-C"])
    Traceback (most recent call last):
    esmcls.errors.SequenceError: sequence 2, residue 2: gap sign '-'; use the 20 amino acids and X B U Z O alone
    """
    cleaned = []
    for number, text in enumerate(several(whose, texts), 1):
        try:
            cleaned.append(clean_sequence(text)[0])
        except SequenceError as error:
            raise SequenceError(error.found, error.fix, error.position, number) from None
    return cleaned


def _describe(sign: str) -> str:
    if sign in GAPS:
        return f"gap sign {sign!r}"
    if sign.isalpha():
        return f"letter {sign!r}, which is no amino acid"
    return f"sign {sign!r}, which is no amino acid"
