"""What is pasted or dropped into the page, as proteins: within limits, with the complaint that a file would get."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from esmcls.errors import DataError, UsageError
from esmcls.reading.readers import read_records
from esmcls.reading.records import Protein, clean_sequence

PASTED: Final = "the pasted text"
EXAMPLE: Final = ">example\nMRIMKFFKDVGKEMKKVSWPKGKELTRYTITVISTVIFFVIFFALLDTGISQLIRLIVE\n"
_HEADER: Final = re.compile(r"(id|ids|sequences?|seq|entry|accession|name)\b", re.IGNORECASE)
"""How a table begins whose columns have blanks between, or are one."""


@dataclass(frozen=True)
class Limits:
    """How much is taken at a time.

    Parameters
    ----------
    sequences : int
    residues : int
        Of all sequences together.
    """

    sequences: int = 500
    residues: int = 200_000

    @property
    def bytes(self) -> int:
        """Of a file that is dropped: residues, and as much again for headers and what else a table holds."""
        return 4 * self.residues + 4096 * self.sequences


def proteins_of(pasted: str, dropped: str | None, limits: Limits) -> list[Protein]:
    """Return the proteins of a text or of a file.

    Parameters
    ----------
    pasted : str
        FASTA, a table, or a bare sequence.
    dropped : str or None
        A file of any format that `esmcls predict` takes.
    limits : Limits

    Raises
    ------
    UsageError
        If there is nothing, a file and a text of the user's own, or more than the limits.
    DataError
        If a record cannot be used: the line and what is wrong there.
    """
    pasted = (pasted or "").lstrip("\ufeff")
    if dropped is not None and pasted.strip() not in ("", EXAMPLE.strip()):
        raise UsageError("a file and a text are given; empty one of the two")
    if dropped is None and not pasted.strip():
        raise UsageError("nothing is asked; paste sequences or drop a file")
    proteins = list[Protein]()
    residues = 0
    for protein in _read(dropped) if dropped is not None else _read_text(pasted):
        proteins.append(protein)
        residues += len(protein.sequence)
        if len(proteins) > limits.sequences:
            raise UsageError(
                f"more than {limits.sequences:,} sequences; this page takes so many at a time, `esmcls predict` any"
            )
        if residues > limits.residues:
            raise UsageError(
                f"more than {limits.residues:,} residues; this page takes so many at a time, `esmcls predict` any"
            )
    if not proteins:
        raise UsageError("no sequence is in it; paste FASTA, a table with a column sequence, or a sequence alone")
    return proteins


def _read(path: str) -> Iterator[Protein]:
    """Give the records of a dropped file; a complaint calls it as the user does, not by where the page keeps it."""
    try:
        for record in read_records(path):
            yield record.protein
    except DataError as error:
        raise _renamed(error, Path(path).name) from None


def _read_text(text: str) -> Iterator[Protein]:
    if not text.lstrip().startswith((">", "#")) and not re.search(r"[\t,]", text) and not _HEADER.match(text.lstrip()):
        yield Protein("pasted", _bare(text))
        return
    with tempfile.TemporaryDirectory(prefix="esmcls-app-") as folder:
        path = Path(folder, "pasted")
        path.write_text(text, encoding="utf-8")
        try:
            for record in read_records(path):
                yield record.protein
        except DataError as error:
            raise _renamed(error, PASTED) from None


def _bare(text: str) -> str:
    """Return a sequence that is there alone, on one line or wrapped: lines of one length but for the last.

    Raises
    ------
    UsageError
        If the lines look like several sequences.
    SequenceError
        If it is none.
    """
    lines = ["".join(line.split()) for line in text.split("\n") if line.strip()]
    if len({len(line) for line in lines[:-1]}) > 1 or len(lines[-1]) > len(lines[0]):
        raise UsageError("lines of several lengths: one sequence or several? Give them as FASTA, each under a line >id")
    return clean_sequence("".join(lines))[0]


def _renamed(error: DataError, name: str) -> DataError:
    return DataError(name, error.found, error.fix, line=error.line, column=error.column, record=error.record)
