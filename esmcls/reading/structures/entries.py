"""Chains of structure files as records: the sequence, and the CA trace as its label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from esmcls.errors import DataError
from esmcls.foreign.npz import open_npz
from esmcls.labels.structure_labels import trace_in_words
from esmcls.reading.records import RawRecord
from esmcls.reading.structures.arrays import NEEDED, read_arrays
from esmcls.reading.structures.chain import Chain
from esmcls.reading.structures.files import read_structure
from esmcls.reading.structures.formats import Format
from esmcls.reading.structures.notes import StructureNotes
from esmcls.remote.addresses import address_of
from esmcls.text_files import read_unpacked


def read_chains(
    path: str,
    kind: Format,
    notes: StructureNotes,
    text: str | None = None,
    *,
    in_folder: bool = False,
    surface: bool = False,
) -> Iterator[Chain]:
    """Give the protein chains of a file.

    Parameters
    ----------
    path : str
    kind : Format
    notes : StructureNotes
        Gets what was met.
    text : str, optional
        What stands in a PDB or mmCIF that is open already.
    in_folder : bool
        Whether the file was found in a folder: without a protein it is noted then, else it is an error.
    surface : bool
        See `read_structure`.

    Raises
    ------
    DataError
        If the file cannot be read, or was named and holds no protein.
    """
    before = notes.chains
    if kind == "arrays":
        if address_of(path) is not None:
            raise DataError(path, "an .npz at an address", "fetch it, and give the file")
        yield from read_arrays(path, notes)
    else:
        unpacked = read_unpacked(path) if text is None else b""
        content = text if text is not None else unpacked if kind == "bcif" else unpacked.decode("utf-8", "replace")
        yield from read_structure(path, content, kind, notes, surface=surface)
    if notes.chains == before:
        if not in_folder:
            raise DataError(path, "no protein chain", "leave the file out")
        notes.add("no_chain", path)


def structure_entries(
    path: str,
    kind: Format,
    notes: StructureNotes,
    text: str | None = None,
    *,
    in_folder: bool = False,
    labelled: bool = True,
) -> Iterator[RawRecord | DataError]:
    """Give the chains of a file as records, whose lines are numbers of chains, from 1; an error ends them.

    Parameters
    ----------
    path, kind, notes, text, in_folder
        See `read_chains`.
    labelled : bool
        Whether the trace is the label.
    """
    try:
        for number, chain in enumerate(read_chains(path, kind, notes, text, in_folder=in_folder), 1):
            label = trace_in_words(chain.trace) if labelled else None
            yield RawRecord(chain.id, label, None, number, [chain.sequence], [number])
    except DataError as error:
        yield error


def holds_chains(path: str) -> bool:
    """Say whether an .npz holds the arrays of chains."""
    try:
        with open_npz(Path(path)) as file:
            return all(name in file.members for name in NEEDED)
    except (OSError, ValueError):
        return False
