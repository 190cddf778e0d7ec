"""The chains of several inputs, files or folders, with the part of each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from esmcls.errors import DataError, NotTextError
from esmcls.reading.readers import find_sources
from esmcls.reading.structures.chain import Chain
from esmcls.reading.structures.entries import holds_chains, read_chains
from esmcls.reading.structures.formats import Format, format_by_line, format_by_name
from esmcls.reading.structures.notes import StructureNotes
from esmcls.text_files import STDIN, open_lines, shown


@dataclass
class StructureReading:
    """What a reading of structures met.

    Parameters
    ----------
    notes : StructureNotes
    bad : list of DataError
        Files that could not be read, and were left out.
    unread : list of str
        Files of folders that are no structures.
    """

    notes: StructureNotes = field(default_factory=StructureNotes)
    bad: list[DataError] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return one line for each fact that a user should be told."""
        bad = [f"{len(self.bad):,} file{'' if len(self.bad) == 1 else 's'} left out:"] if self.bad else []
        bad += [f"  {error}" for error in self.bad]
        unread = [f"{len(self.unread):,} not read, no structures: {', '.join(self.unread)}"] if self.unread else []
        return [*self.notes.lines(), *bad, *unread]


def chains_of_inputs(
    inputs: Sequence[str | Path],
    reading: StructureReading,
    *,
    part: str | None = None,
    skip: bool = False,
    surface: bool = False,
) -> Iterator[tuple[Chain, str | None]]:
    """Give the chains of files and of all files below folders, and the part of each.

    Parameters
    ----------
    inputs : sequence of str or Path
    reading : StructureReading
        Is filled on the way.
    part : str, optional
        Of every chain; default what the name of the file or of a folder says (`test`, `train`, `validation`).
    skip : bool
        Whether a file that cannot be read is left out and listed, in place of an error.
    surface : bool
        Whether accessibility and DSSP states are made from atoms, where a file has them.

    Raises
    ------
    DataError
        If a file cannot be read, or is no structure.
    """
    for source in itertools.chain.from_iterable(find_sources(str(item)) for item in inputs):
        try:
            kind, text = _recognised(source.path)
            if kind is None:
                if not source.in_folder:
                    raise DataError(
                        shown(source.path), "no structure", "give PDB, mmCIF, BinaryCIF or an .npz of chains"
                    )
                reading.unread.append(source.path)
                continue
            options = {"in_folder": source.in_folder, "surface": surface}
            for chain in read_chains(shown(source.path), kind, reading.notes, text, **options):
                yield chain, part or source.part
        except DataError as error:
            if not skip:
                raise
            reading.bad.append(error)


def _recognised(path: str) -> tuple[Format | None, str | None]:
    """Return the format of a file, and what stands in it where it can be read but once: standard input."""
    kind = format_by_name(path)
    if kind == "bcif" or (kind == "arrays" and holds_chains(path)):
        return kind, None
    try:
        with open_lines(path) as lines:
            first = next(filter(str.strip, lines), "")
            text = first + "".join(lines) if path == STDIN else None
            return format_by_line(first, path), text
    except NotTextError:
        return None, None
