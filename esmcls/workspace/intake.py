"""What a user gives to be embedded: a labelled set for the workspace, sequences to be cached alone, or the demo set."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from esmcls.datasets.dataset import Dataset, build
from esmcls.datasets.split import SplitReport
from esmcls.errors import DataError
from esmcls.labels.ontology import Ontology, read_obo
from esmcls.reading.readers import OnBad, label_table, read_records
from esmcls.reading.records import Record, Tally
from esmcls.reading.tables import LabelTable

STDIN: Final = "-"


@dataclass(frozen=True)
class Sources:
    """Where records come from.

    Parameters
    ----------
    inputs : tuple of str or Path
        Files, folders, or "-".
    validation, test : tuple of str or Path
        More files, each record of which is of that part.
    labels : Path or tuple of them, optional
        Tables of the label of each id, or of its terms where there is an `obo`.
    clusters : Path, optional
        Table of the cluster of each id, to split by.
    on_bad : {"error", "skip"}
    obo : Path, optional
        The ontology of the terms.
    propagate : bool
        Whether a protein with a term has those that contain it, too.
    """

    inputs: tuple[str | Path, ...]
    validation: tuple[str | Path, ...] = ()
    test: tuple[str | Path, ...] = ()
    labels: Path | tuple[Path, ...] | None = None
    clusters: Path | None = None
    on_bad: OnBad = "error"
    obo: Path | None = None
    propagate: bool = True

    @cached_property
    def ontology(self) -> Ontology | None:
        """The ontology, read when first asked for."""
        return None if self.obo is None else read_obo(self.obo)

    @cached_property
    def table(self) -> LabelTable | None:
        """The labels by id, read once for all parts."""
        return label_table(self.labels, self.ontology)

    def records(self, tally: Tally) -> Iterator[Record]:
        """Read everything, in order; the tally is filled on the way."""
        for paths, part in ((self.inputs, None), (self.validation, "validation"), (self.test, "test")):
            if paths:
                yield from read_records(paths, labels=self.table, part=part, on_bad=self.on_bad, tally=tally)
        if self.validation or self.test:
            tally.unused_labels = 0  # counted a reading; a label of the test part is no stray one of train

    @property
    def files(self) -> tuple[str | Path, ...]:
        """All that is read."""
        labels = self.labels if isinstance(self.labels, tuple) else (self.labels,)
        tables = tuple(table for table in (*labels, self.clusters, self.obo) if table is not None)
        return (*self.inputs, *self.validation, *self.test, *tables)

    @property
    def rereadable(self) -> bool:
        """Whether it can be read twice."""
        return STDIN not in map(str, self.files)


class Stream(Iterable[str]):
    """Unlabelled sequences, never held in memory; files are read anew each time it is gone through.

    Parameters
    ----------
    sources : Sources
    begun : iterator of Record, optional
        A reading that has begun already, for the first time round.
    tally : Tally
        Of the reading that has begun; replaced by that of each later one.
    """

    def __init__(self, sources: Sources, begun: Iterator[Record] | None = None, tally: Tally | None = None) -> None:
        self.sources, self.begun, self.tally = sources, begun, tally or Tally()

    def records(self) -> Iterator[Record]:
        """Read the records once more.

        Raises
        ------
        DataError
            If one has a label, or if standard input is asked for a second time.
        """
        if self.begun is None and not self.sources.rereadable:
            raise DataError(STDIN, "standard input can be read once only", "give a file")
        if self.begun is None:
            self.tally = Tally()
        records, self.begun = self.begun or self.sources.records(self.tally), None
        for record in records:
            if record.label is not None:
                found = f"label {record.label!r}, but the first record has none"
                fix = "give all of them a label, or none"
                raise DataError(record.path, found, fix, line=record.line, record=record.protein.id)
            yield record

    def __iter__(self) -> Iterator[str]:
        """Yield the sequences, in input order."""
        return (record.protein.sequence for record in self.records())


@dataclass
class Intake:
    """What was taken in.

    Parameters
    ----------
    dataset : Dataset or Stream
        Labelled records in memory, or unlabelled sequences.
    report : SplitReport or None
        How the dataset was split, where it is a new one.
    read : Tally
        What was met in labelled records.
    files : tuple of str or Path
        What a new dataset was read from.
    ontology : Ontology, optional
        Of a new dataset of many labels.
    propagate : bool
        See `Sources`.
    """

    dataset: Dataset | Stream
    report: SplitReport | None = None
    read: Tally = field(default_factory=Tally)
    files: tuple[str | Path, ...] = ()
    ontology: Ontology | None = None
    propagate: bool = True

    @property
    def sequences(self) -> Iterable[str]:
        """The sequences to embed, in input order."""
        return self.dataset if isinstance(self.dataset, Stream) else self.dataset.sequences

    @property
    def again(self) -> bool:
        """Whether the sequences can be gone through more than once."""
        return not isinstance(self.dataset, Stream) or self.dataset.sources.rereadable

    @property
    def tally(self) -> Tally:
        """What was met while reading; of a stream, whole when it has been gone through."""
        return self.dataset.tally if isinstance(self.dataset, Stream) else self.read

    def lines(self) -> list[str]:
        """Return one line for each fact that a user should be told, once all is read; none of a remembered dataset."""
        read = self.tally.lines() if self.tally.records or self.tally.bad or self.tally.unread else []
        return read + (self.report.lines() if self.report else [])

    def names(self, positions: Iterable[int]) -> list[str]:
        """Return the ids of the records at these positions of the input, or their numbers where they are gone."""
        wanted = sorted(positions)
        if not isinstance(self.dataset, Stream):
            return [self.dataset.ids[position] for position in wanted]
        if not wanted or not self.again:
            return [f"number {position + 1}" for position in wanted]
        chosen = set(wanted)
        return [record.protein.id for row, record in enumerate(self.dataset.records()) if row in chosen]


def take_in(sources: Sources, *, seed: int = 0) -> Intake:
    """Read what the user gave: whether its first record has a label decides if it is a data set.

    Parameters
    ----------
    sources : Sources
    seed : int
        Of the split, where one is drawn.

    Returns
    -------
    Intake

    Raises
    ------
    DataError
        If there is no record, a record cannot be used, or only some have a label.
    """
    tally = Tally()
    records = sources.records(tally)
    first = next(records, None)
    if first is None:
        raise DataError(sources.inputs[0], "no records", "give at least one sequence")
    records = itertools.chain([first], records)
    if first.label is not None or sources.table is not None:
        built = build(records, clusters=sources.clusters, seed=seed, tally=tally, ontology=sources.ontology)
        return Intake(built.dataset, built.report, tally, sources.files, sources.ontology, sources.propagate)
    if sources.clusters is not None or sources.validation or sources.test:
        fix = "give labels (--labels TABLE), or leave --validation, --test and --clusters out"
        raise DataError(first.path, "no label", fix, line=first.line, record=first.protein.id)
    return Intake(Stream(sources, records, tally))


def demo_set() -> Path:
    """Return the labelled sequences that come with the package."""
    import esmcls_data

    return Path(esmcls_data.__file__).with_name("demo.csv.gz")
