"""FASTA: sequences over any number of lines, and `TARGET=… SET=… VALIDATION=… MASK=…` in headers.

A reader of our own, since an error must name the physical line and column of a wrapped sequence, and standard input
cannot be read a second time to find them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from esmcls.errors import DataError
from esmcls.reading.records import RawRecord, part_of
from esmcls.reading.rows import clean_cell
from esmcls.text_files import LONGEST_LINE, RecordLimit

LONGEST_RECORD: Final = LONGEST_LINE
"""Characters, of an entry over several lines."""
_ATTRIBUTE: Final = re.compile(r"\s(TARGET|SET|VALIDATION|MASK)=(\S*)")
"""As biotrainer writes them behind the id (biotrainer, docs/data_standardization.md)."""
_PIR: Final = re.compile(r"(?:P1|F1|D[LC]|R[LC]|N[13]|XX);\S")
"""The line below such a header is a description: its letters would be read as residues."""
_FIX_PIR: Final = "convert it to FASTA: write >id, and remove the line below it"


def read_fasta(lines: Iterator[str], path: str) -> Iterator[RawRecord | DataError]:
    """Give the entries of a FASTA file; a header that cannot be used gives its error.

    Parameters
    ----------
    lines : iterator of str
        From the first that is not blank, a header, on.
    path : str
        For messages.
    """
    labelled: bool | None = None
    for header, line, texts in _blocks(lines, path):
        entry = _entry(header, line, texts, path)
        if isinstance(entry, RawRecord):
            labelled = entry.label is not None if labelled is None else labelled
            if labelled != (entry.label is not None):
                entry = _mixed(entry, path, labelled)
        yield entry


def _blocks(lines: Iterator[str], path: str) -> Iterator[tuple[str, int, list[str]]]:
    """Give header, its 1-based line and the lines below it, blank ones as empty texts."""
    header, start = "", 0
    texts: list[str] = []
    limit = RecordLimit(path, 0)
    for number, line in enumerate(lines, 1):
        if line.startswith(">"):
            if start:
                yield header, start, texts
            header = line
            start = number
            texts = []
            limit = RecordLimit(path, number, most=LONGEST_RECORD)
        elif start:
            texts.append(line.rstrip())
            limit.take(len(line))
    if start:
        yield header, start, texts


def _entry(header: str, line: int, texts: list[str], path: str) -> RawRecord | DataError:
    words = [word for word in map(clean_cell, header[1:].split(None, 1)) if word]
    if not words:
        return DataError(path, "a header without an id", "write >id", line=line)
    if _PIR.match(words[0]):
        return DataError(path, "a header of PIR (NBRF) format, not FASTA", _FIX_PIR, line=line, record=words[0])
    label, part, mask = None, None, ""
    if "=" in header:
        attributes = dict(_ATTRIBUTE.findall(header))
        label, mask = attributes.get("TARGET"), attributes.get("MASK", "")
        word = "validation" if attributes.get("VALIDATION", "").lower() == "true" else attributes.get("SET", "pred")
        part = part_of(word)
        if part is None and word.lower() != "pred":
            return DataError(path, f"SET={word}", "write SET=train, SET=val or SET=test", line=line, record=words[0])
    numbers = range(line + 1, line + 1 + len(texts))
    return RawRecord(words[0], label, part, line, texts, numbers, description=" ".join(words[1:]), mask=mask)


def _mixed(entry: RawRecord, path: str, labelled: bool) -> DataError:
    problem = (
        "no TARGET= in its header, but earlier records have one"
        if labelled
        else "TARGET=, but earlier records have none"
    )
    return DataError(path, problem, "give every record a TARGET= or none", line=entry.line, record=entry.id)
