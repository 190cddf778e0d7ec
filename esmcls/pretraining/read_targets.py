"""The table of residue targets, and the archive of profiles beside it.

A table of tab-separated columns with a header, gzip or plain, and beside it, where there are profiles, an .npz archive:

    id      sequence   ss8     accessibility
    1abc_A  MKTAY      CHHE?   88 61 12 nan 40

    id (chains,) · length (chains,) · profile (residues of all, 20): shares of ACDEFGHIKLMNPQRSTVWY

Secondary structure is DSSP's eight states, C where it gives none, and ? where it is not known; accessibility is
relative, in percent, and nan where it is not known; a profile's row of zeros or nan is not known. An empty cell says
nothing of any residue.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from esmcls.errors import DataError, SequenceError
from esmcls.pretraining.residue_targets import AMINO_ACIDS, STATES, ResidueTargets
from esmcls.reading.records import clean_sequence
from esmcls.reading.rows import column_name, read_rows
from esmcls.text_files import open_lines

UNKNOWN_STATE: Final = "?"
COLUMNS: Final = ("id", "sequence", "ss8", "accessibility")
_ARRAYS: Final = ("id", "length", "profile")


def read_residue_targets(table: str | Path, profiles: str | Path | None = None) -> ResidueTargets:
    """Read a table of residue targets, and the profiles beside it.

    Parameters
    ----------
    table : str or Path
    profiles : str or Path, optional
        An .npz archive; chains that it lacks have no profile.

    Returns
    -------
    ResidueTargets

    Raises
    ------
    DataError
        If a column is missing, an id stands twice, a sequence cannot be used, lengths differ, a state has no such
        letter, an accessibility is no number of 0 or more, or a profile is of a chain or length that the table lacks.
    """
    ids: list[str] = []
    sequences: list[str] = []
    states: list[npt.NDArray[np.int8]] = []
    accessibility: list[npt.NDArray[np.float32]] = []
    lines_of: dict[str, int] = {}
    with open_lines(str(table)) as lines:
        rows = read_rows(lines, str(table), "\t")
        header = [column_name(cell) for cell in next(rows, (1, [""]))[1]]
        lacking = [name for name in COLUMNS if name not in header]
        if lacking:
            fix = f"give a header with {', '.join(COLUMNS)}, separated by tabs"
            raise DataError(table, f"no column {' or '.join(lacking)}", fix, line=1)
        for line, cells in rows:
            row = _Row.of(table, line, header, cells)
            if row.id in lines_of:
                raise DataError(table, f"this id stands in line {lines_of[row.id]} too", "give each its own", line=line)
            lines_of[row.id] = line
            ids.append(row.id)
            sequences.append(row.residues())
            states.append(row.states(len(sequences[-1])))
            accessibility.append(row.accessibilities(len(sequences[-1])))
    if not ids:
        raise DataError(table, "a header and no rows", "give records below it", line=1)
    lengths = {id_: len(sequence) for id_, sequence in zip(ids, sequences, strict=True)}
    profile = _read_profiles(Path(profiles), lengths) if profiles is not None else _no_profiles(lengths.values())
    return ResidueTargets(ids, sequences, np.concatenate(states), np.concatenate(accessibility), profile)


@dataclass(frozen=True)
class _Row:
    """A record of the table, not checked yet."""

    table: str | Path
    line: int
    id: str
    sequence: str
    ss8: str
    accessibility: str

    @classmethod
    def of(cls, table: str | Path, line: int, header: list[str], cells: list[str]) -> _Row:
        if len(cells) != len(header):
            found = f"{len(cells)} cells, where the header has {len(header)}"
            raise DataError(table, found, "separate the cells by tabs", line=line)
        values = dict(zip(header, cells, strict=True))
        return cls(table, line, *(values[name] for name in COLUMNS))

    def residues(self) -> str:
        """Return the sequence in upper case."""
        try:
            return clean_sequence(self.sequence)[0]
        except SequenceError as error:
            raise self._error(f"sequence: {error.found}", error.fix) from None

    def states(self, length: int) -> npt.NDArray[np.int8]:
        """Return the number of each residue's secondary structure."""
        if not self.ss8:
            return np.full(length, -1, np.int8)
        self._check_length("states of secondary structure", len(self.ss8), length)
        unknown = next((place for place, letter in enumerate(self.ss8) if letter not in STATES + UNKNOWN_STATE), None)
        if unknown is not None:
            found = f"secondary structure {self.ss8[unknown]!r} of residue {unknown + 1}"
            raise self._error(found, f"use DSSP's {' '.join(STATES)}, C for none, and ? where it is not known")
        return np.array([STATES.find(letter) for letter in self.ss8], np.int8)

    def accessibilities(self, length: int) -> npt.NDArray[np.float32]:
        """Return the accessibility of each residue; 1 for 100 percent or more."""
        if not self.accessibility:
            return np.full(length, np.nan, np.float32)
        words = self.accessibility.split()
        self._check_length("accessibilities", len(words), length)
        values = [_percent(word) for word in words]
        wrong = next((place for place, value in enumerate(values) if value is None), None)
        if wrong is not None:
            found = f"accessibility {words[wrong]!r} of residue {wrong + 1}"
            raise self._error(found, "give percent of 0 or more, and nan where it is not known")
        return np.minimum(np.array(values, np.float32) / 100, 1)

    def _check_length(self, what: str, number: int, length: int) -> None:
        if number != length:
            raise self._error(f"{number} {what} of {length} residues", "give one for each residue")

    def _error(self, found: str, fix: str) -> DataError:
        return DataError(self.table, found, fix, line=self.line, record=self.id)


def _percent(word: str) -> float | None:
    """Return a number of 0 or more, or nan; None if it is something else."""
    try:
        value = float(word)
    except ValueError:
        return None
    return None if value < 0 or math.isinf(value) else value


def _no_profiles(lengths: Iterable[int]) -> npt.NDArray[np.float16]:
    return np.zeros((sum(lengths), len(AMINO_ACIDS)), np.float16)


def _read_profiles(path: Path, lengths: dict[str, int]) -> npt.NDArray[np.float16]:
    """Return the profiles of the chains of `lengths`, in its order; a row adds up to 1, or is 0 where not known."""
    ids, sizes, profile = _archive(path)
    places = dict(zip(ids, range(len(ids)), strict=True))
    unknown = next((id_ for id_ in ids if id_ not in lengths), None)
    if unknown is not None:
        raise DataError(path, "not in the table of targets", "give profiles of its chains alone", record=unknown)
    ends = np.cumsum(sizes)
    result = _no_profiles(lengths.values())
    start = 0
    for id_, length in lengths.items():
        place = places.get(id_)
        if place is not None:
            if sizes[place] != length:
                found = f"a profile of {sizes[place]} residues, where the table has {length}"
                raise DataError(path, found, "give one row for each residue", record=id_)
            rows = np.nan_to_num(profile[ends[place] - length : ends[place]].astype(np.float32))
            sums = rows.sum(1, keepdims=True)
            result[start : start + length] = np.divide(rows, sums, out=np.zeros_like(rows), where=sums > 0)
        start += length
    return result


def _archive(path: Path) -> tuple[list[str], npt.NDArray[np.int64], npt.NDArray[np.generic]]:
    """Return the three arrays, having made sure that they fit one another."""
    fix = "give an .npz of id (chains), length (chains) and profile (residues of all, 20)"
    try:
        with open(path, "rb") as handle:
            archive = np.load(handle, allow_pickle=False)
            arrays = [archive[name] for name in _ARRAYS]
    except (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip("'\"")
        raise DataError(path, f"no archive of profiles ({reason})", fix) from None
    ids, sizes, profile = arrays
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in ids.ravel()]
    if len(set(names)) < len(names):
        raise DataError(path, "an id stands twice", "give each its own")
    if sizes.shape != (len(names),) or profile.shape != (sizes.sum(), len(AMINO_ACIDS)):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(_ARRAYS, arrays, strict=True))
        raise DataError(path, f"arrays that do not fit one another: {shapes}", fix)
    if not (np.issubdtype(profile.dtype, np.number) and np.isrealobj(profile)):
        raise DataError(path, f"a profile of {profile.dtype.str[1:]} instead of numbers", fix)
    if np.nanmin(profile, initial=0) < 0:
        raise DataError(path, "a share below 0 in a profile", "give shares or counts of amino acids")
    return names, sizes.astype(np.int64), profile
