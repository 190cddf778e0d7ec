"""From inputs to what is embedded: a labelled set for the workspace, sequences to be cached alone, or the demo set."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from esmcls.datasets.dataset import Dataset, build
from esmcls.datasets.split import SplitReport, part_counts
from esmcls.errors import DataError
from esmcls.labels.kinds import NUMBER, ONE_LABEL
from esmcls.labels.number_labels import in_examples
from esmcls.labels.numbers import as_number, spread_in_words
from esmcls.labels.ontology import Ontology
from esmcls.reading.inputs import Inputs, SequenceStream
from esmcls.reading.records import Tally


@dataclass
class Intake:
    """Sequences to embed, with what is to be remembered and told of them.

    Parameters
    ----------
    dataset : Dataset or SequenceStream
        Labelled records in memory, or unlabelled sequences.
    report : SplitReport or None
        How the dataset was split, where it is a new one.
    read : Tally
        Of labelled records.
    files : tuple of str or Path
        Those that a new dataset was read from.
    ontology : Ontology, optional
        Of a new dataset of many labels.
    propagate : bool
        See `Inputs`.
    task : str
        The kind of task that a new dataset is for.
    """

    dataset: Dataset | SequenceStream
    report: SplitReport | None = None
    read: Tally = field(default_factory=Tally)
    files: tuple[str | Path, ...] = ()
    ontology: Ontology | None = None
    propagate: bool = True
    task: str = ONE_LABEL

    @property
    def sequences(self) -> Iterable[str]:
        """The sequences to embed, in input order."""
        return self.dataset if isinstance(self.dataset, SequenceStream) else self.dataset.sequences

    @property
    def again(self) -> bool:
        """True if the sequences can be gone through more than once."""
        return not isinstance(self.dataset, SequenceStream) or self.dataset.inputs.rereadable

    @property
    def tally(self) -> Tally:
        """The tally of the reading; of a stream, whole when it has been gone through."""
        return self.dataset.tally if isinstance(self.dataset, SequenceStream) else self.read

    def lines(self) -> list[str]:
        """Return one line for each fact that a user should be told, once all is read; none of a remembered dataset."""
        tally = self.tally
        read = [*tally.lines(), *tally.source_lines()] if tally.records or tally.bad or tally.unread else []
        return read + self._about_labels() + (self.report.lines() if self.report else [])

    def _about_labels(self) -> list[str]:
        """Return how many classes and records of each part a new dataset has, or that there are no labels."""
        if isinstance(self.dataset, SequenceStream):
            return self.dataset.inputs.no_labels(self.tally) if self.tally.records else []
        if self.report is None:
            return []
        parts = ", ".join(f"{count:,} {part}" for part, count in part_counts(self.dataset.parts).items())
        if self.task == NUMBER:
            return [f"task: {NUMBER}, {spread_in_words(self.dataset.labels)}; records: {parts}"]
        names = set(self.dataset.labels)
        classes = len(names)
        noun = ("set", "s of terms") if self.ontology is not None else ("class", "es")
        about = [f"dataset: {classes:,} {noun[0]}{noun[1] if classes > 1 else ''}; records: {parts}"]
        if self.ontology is None and all(as_number(name) is not None for name in names):
            examples = in_examples(names)
            about.append(f"labels are numbers ({examples}), taken for names of classes; amounts are --task {NUMBER}")
        return about

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """The inputs, where no labels were found in them."""
        return tuple(map(str, self.dataset.inputs.inputs)) if isinstance(self.dataset, SequenceStream) else ()

    def names(self, positions: Iterable[int]) -> list[str]:
        """Return the ids of the records at these positions of the input, or their numbers where they are gone."""
        wanted = sorted(positions)
        if not isinstance(self.dataset, SequenceStream):
            return [self.dataset.ids[position] for position in wanted]
        if not wanted or not self.again:
            return [f"number {position + 1}" for position in wanted]
        chosen = set(wanted)
        return [record.protein.id for row, record in enumerate(self.dataset.records()) if row in chosen]


def take_in(inputs: Inputs, *, seed: int = 0) -> Intake:
    """Read what the user gave: whether its first record has a label decides if it is a data set.

    Parameters
    ----------
    inputs : Inputs
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
    records = inputs.records(tally)
    first = next(records, None)
    if first is None:
        raise DataError(inputs.inputs[0], "no records", "give at least one sequence")
    records = itertools.chain([first], records)
    if first.label is not None or inputs.table is not None:
        clusters, ontology = inputs.clusters, inputs.ontology
        built = build(records, clusters=clusters, seed=seed, tally=tally, ontology=ontology, task=inputs.task)
        return Intake(built.dataset, built.report, tally, inputs.files, ontology, inputs.propagate, built.task)
    if inputs.clusters is not None or inputs.validation or inputs.test:
        fix = "give labels (--labels TABLE), or leave --validation, --test and --clusters out"
        raise DataError(first.path, "no label", fix, line=first.line, record=first.protein.id)
    return Intake(SequenceStream(inputs, records, tally))


def demo_set() -> Path:
    """Return the labelled sequences that come with the package."""
    import esmcls_data

    return Path(esmcls_data.__file__).with_name("demo.csv.gz")
