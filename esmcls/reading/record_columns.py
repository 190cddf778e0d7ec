"""Records in columns, from any input and back to a table that every command reads."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TextIO, cast

from esmcls.errors import DataError, UsageError
from esmcls.files import atomic_path
from esmcls.labels.kinds import ONE_LABEL
from esmcls.labels.label_checks import LabelChecks
from esmcls.labels.number_labels import Place
from esmcls.reading.records import Record, refuse_text
from esmcls.text_files import no_formula

SUFFIXES: Final = (".csv", ".csv.gz")


@dataclass(frozen=True)
class Columns:
    """Records, in the order they were read.

    Parameters
    ----------
    ids, sequences : lists of str, (n,)
    labels : list of str, (n,), or None
        None where no record has one.
    parts : list of str or None, (n,)
        Where the split is given; None for a record without a part.
    task : str
        What the labels are, one of `esmcls.labels.kinds.KINDS`.
    """

    ids: list[str]
    sequences: list[str]
    labels: list[str] | None
    parts: list[str | None]
    task: str = ONE_LABEL

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.ids)

    @classmethod
    def of(cls, records: Iterable[Record], *, labelled: bool = False) -> Columns:
        """Read records; equal labels share their memory.

        Parameters
        ----------
        records : iterable of Record
        labelled : bool
            Whether each must have a label; else all have one, or none.

        Raises
        ------
        DataError
            If there is no record, or one lacks the label, or has one where the first has none, or the labels are
            neither names of classes nor numbers (see `LabelChecks`).
        """
        checks = LabelChecks()
        path = "input"
        ids: list[str] = []
        sequences: list[str] = []
        labels: list[str] = []
        parts: list[str | None] = []
        known: dict[str, str] = {}
        for record in refuse_text(records, "records"):
            _check_label(record, labelled or bool(labels), not ids)
            path = path if ids else record.path
            ids.append(record.protein.id)
            sequences.append(record.protein.sequence)
            parts.append(record.part)
            if record.label is not None:
                labels.append(known.setdefault(record.label, record.label))
                checks.add(record.label, record.protein.sequence, Place(record.path, record.line, record.protein.id))
        if not ids:
            raise DataError("input", "no records", "give at least one sequence")
        task = checks.kind_of_proteins(path)
        return cls(ids, sequences, labels or None, parts, task)

    def write(self, path: Path, parts: Sequence[str | None], rows: Iterable[int] | None = None) -> None:
        """Write records as CSV, packed if the name ends in .gz, whole or not at all; the same records, the same bytes.

        The columns are id, sequence, label (where records have one) and split, as `read_records` takes them.

        Parameters
        ----------
        path : Path
            Of one of the `SUFFIXES`.
        parts : sequence of str or None, (n,)
            The part of each record of the set, written or not.
        rows : iterable of int, optional
            Which records, in which order; default all.
        """
        names = ["id", "sequence", "split"] if self.labels is None else ["id", "sequence", "label", "split"]
        with writing_table(check_table_name(path)) as handle:
            plain = csv.writer(handle, lineterminator="\n")
            plain.writerow(names)
            for row in range(len(self)) if rows is None else rows:
                name = self.ids[row]
                part = parts[row] or ""
                label = [] if self.labels is None else [self.labels[row]]
                plain.writerow([*(no_formula(cell) for cell in (name, self.sequences[row], *label)), part])


def _check_label(record: Record, wanted: bool, first: bool) -> None:
    if (record.label is None) != wanted or (first and not wanted):
        return
    if wanted:
        problem, fix = "no label", "give every record a label (--labels TABLE)"
    else:
        problem = f"label {record.label!r}, but the first record has none"
        fix = "give all of them a label, or none"
    raise DataError(record.path, problem, fix, line=record.line, record=record.protein.id)


def check_table_name(path: Path) -> Path:
    """Return `path`, having made sure that its suffix is one that a table is written with.

    Raises
    ------
    UsageError
        If it is another.
    """
    if not path.name.lower().endswith(SUFFIXES):
        raise UsageError(f"{path}: sequences are written as CSV; end the name in .csv or .csv.gz")
    return path


@contextlib.contextmanager
def writing_table(path: Path) -> Iterator[TextIO]:
    """Open a table to be written, packed if its name ends in .gz: whole or not at all."""
    with contextlib.ExitStack() as stack:
        handle: IO[bytes] = stack.enter_context(open(stack.enter_context(atomic_path(path)), "wb"))
        if path.suffix.lower() == ".gz":  # without name and time, so that equal tables are equal files
            handle = cast(IO[bytes], stack.enter_context(gzip.GzipFile("", "wb", 6, handle, mtime=0)))
        yield stack.enter_context(io.TextIOWrapper(handle, encoding="utf-8", newline=""))
