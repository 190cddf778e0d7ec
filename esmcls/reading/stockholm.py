"""Stockholm: the alignments of `Pfam-A.seed`, gaps removed, each row labelled with its family's accession."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from esmcls.errors import DataError
from esmcls.reading.records import RawRecord
from esmcls.text_files import RecordLimit

LARGEST_ALIGNMENT: Final = 1 << 30
"""Characters of an alignment, which is held in memory: its rows may go on in a later block."""
ROW: Final = 600
"""Characters that a piece of a row takes besides its own: objects and lists, measured."""


@dataclass
class _AlignedRow:
    """A row of an alignment: its aligned pieces, one a block, and their lines."""

    name: str
    texts: list[str]
    lines: list[int]


@dataclass
class _Alignment:
    """An alignment while it is read."""

    limit: RecordLimit
    accession: str | None = None
    rows: dict[tuple[str, int], _AlignedRow] = field(default_factory=dict)
    block: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, text: str, line: int) -> None:
        # A name met again in a later block goes on; met twice in one block it is another row of the same id.
        row = self.rows.setdefault((name, self.block[name]), _AlignedRow(name, [], []))
        self.block[name] += 1
        self.limit.take(len(text) + ROW)
        row.texts.append(text)
        row.lines.append(line)

    def entries(self) -> Iterator[RawRecord]:
        for row in self.rows.values():
            yield RawRecord(row.name, self.accession, None, row.lines[0], row.texts, row.lines, gapped=True)


def read_stockholm(lines: Iterator[str], path: str) -> Iterator[RawRecord | DataError]:
    """Give the rows of every alignment in the file, labelled with the accession in `#=GF AC`.

    Parameters
    ----------
    lines : iterator of str
        From `# STOCKHOLM 1.0` on.
    path : str
        For messages.

    Raises
    ------
    DataError
        If an alignment is not ended by `//`, a line is no row of one, or one is larger than fits into memory.
    """
    alignment = _alignment(path, 1)
    number = 0
    for number, line in enumerate(lines, 1):
        if line.startswith("#=GF AC "):
            alignment.accession = line[7:].strip().rstrip(";")
        elif line.startswith("#"):
            continue
        elif line.startswith("//"):
            yield from alignment.entries()
            alignment = _alignment(path, number + 1)
        elif words := line.split():
            yield from _add(alignment, words, number, path)
        else:
            alignment.block.clear()
    if alignment.rows:
        raise DataError(path, "the last alignment has no end", "add // or fetch the file again", line=number)


def _alignment(path: str, line: int) -> _Alignment:
    return _Alignment(RecordLimit(path, line, "an alignment", LARGEST_ALIGNMENT, "give its sequences as FASTA"))


def _add(alignment: _Alignment, words: list[str], number: int, path: str) -> Iterator[DataError]:
    if len(words) == 2:
        alignment.add(words[0], words[1], number)
    else:
        fix = "write a name, blanks and aligned residues"
        yield DataError(path, f"a row of {len(words)} words", fix, line=number, record=words[0])
