"""From inputs to what is embedded: a labelled set for the workspace, sequences to be cached alone, or the demo set."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from esmcls.datasets.dataset import Dataset, build
from esmcls.datasets.split import SplitReport, part_counts
from esmcls.errors import DataError, UsageError
from esmcls.labels.hierarchy import Hierarchy
from esmcls.labels.kinds import NUMBER, OF_RESIDUES, ONE_LABEL, RESIDUE_LABEL, STRUCTURE
from esmcls.labels.number_labels import in_examples
from esmcls.labels.numbers import as_number, spread_in_words
from esmcls.labels.ontology import Ontology
from esmcls.labels.residue_labels import UNKNOWN, numbers, signs_of
from esmcls.reading.inputs import Inputs, SequenceStream
from esmcls.reading.records import Record, Tally
from esmcls.workspace.read_hierarchy import LabelPlaces, read_hierarchy

SHOWN: Final = 40
"""Classes of residues that are shown."""


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
    hierarchy : Hierarchy, optional
        Of the labels, where one is named.
    about_hierarchy : list of str
        What is to be told of it.
    """

    dataset: Dataset | SequenceStream
    report: SplitReport | None = None
    read: Tally = field(default_factory=Tally)
    files: tuple[str | Path, ...] = ()
    ontology: Ontology | None = None
    propagate: bool = True
    task: str = ONE_LABEL
    hierarchy: Hierarchy | None = None
    about_hierarchy: list[str] = field(default_factory=list)

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
        about = self._about_labels() + self.about_hierarchy
        return read + about + (self.report.lines() if self.report else [])

    def _about_labels(self) -> list[str]:
        """Return how many classes and records of each part a new dataset has, or that there are no labels."""
        if isinstance(self.dataset, SequenceStream):
            return self.dataset.inputs.no_labels(self.tally) if self.tally.records else []
        if self.report is None:
            return []
        parts = ", ".join(f"{count:,} {part}" for part, count in part_counts(self.dataset.parts).items())
        if self.task in OF_RESIDUES:
            return [f"dataset: {self._about_residues()}; records: {parts}"]
        if self.task == NUMBER:
            return [f"task: {NUMBER}, {spread_in_words(self.dataset.labels)}; records: {parts}"]
        names = set(self.dataset.labels)
        classes = len(names)
        noun = ("set", f"s of {self.report.many}s") if self.report.many else ("class", "es")
        about = [f"dataset: {classes:,} {noun[0]}{noun[1] if classes > 1 else ''}; records: {parts}"]
        if not self.report.many and all(as_number(name) is not None for name in names):
            examples = in_examples(names)
            about.append(f"labels are numbers ({examples}), taken for names of classes; amounts are --task {NUMBER}")
        return about

    def _about_residues(self) -> str:
        """Return the kind of task of labels of residues, their classes, and how many residues have one."""
        assert isinstance(self.dataset, Dataset)
        texts, residues = self.dataset.labels, sum(map(len, self.dataset.sequences))
        if self.task == RESIDUE_LABEL:
            signs = sorted(signs_of(texts))
            known = residues - sum(text.count(UNKNOWN) for text in texts)
            return f"{self.task} ({''.join(signs[:SHOWN])}), known of {known:,} of {residues:,} residues"
        if self.task == STRUCTURE:
            resolved = residues - sum(text.count(UNKNOWN) for text in texts)
            return f"{self.task}, resolved {resolved:,} of {residues:,} residues"
        known = sum(int((~np.isnan(numbers(text))).sum()) for text in texts)
        return f"{self.task}, known of {known:,} of {residues:,} residues"

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
        If there is no record, a record cannot be used, only some have a label, or a hierarchy does not fit them.
    """
    tally, labels = Tally(), LabelPlaces()
    records = inputs.records(tally)
    if inputs.hierarchy is not None:
        records = labels.watch(records)
    first = next(records, None)
    if first is None:
        raise DataError(inputs.inputs[0], "no records", "give at least one sequence")
    records = itertools.chain([first], records)
    if first.label is not None or inputs.table is not None:
        clusters, ontology = inputs.clusters, inputs.ontology
        task = ONE_LABEL if inputs.hierarchy is not None and inputs.task is None else inputs.task
        if tally.structures.chains and inputs.table is None:
            task = _of_structures(task, first)
        built = build(records, clusters=clusters, seed=seed, tally=tally, ontology=ontology, task=task)
        intake = Intake(built.dataset, built.report, tally, inputs.files, ontology, inputs.propagate, built.task)
        return intake if inputs.hierarchy is None else with_hierarchy(intake, inputs.hierarchy, labels)
    if inputs.hierarchy is not None:
        fix = "give labels (--labels TABLE), or leave --hierarchy out"
        raise DataError(first.path, "no label", fix, line=first.line, record=first.protein.id)
    if inputs.clusters is not None or inputs.validation or inputs.test:
        fix = "give labels (--labels TABLE), or leave --validation, --test and --clusters out"
        raise DataError(first.path, "no label", fix, line=first.line, record=first.protein.id)
    return Intake(SequenceStream(inputs, records, tally))


def _of_structures(task: str | None, first: Record) -> str:
    """Return the kind of task of chains from structures; DataError where another one is asked for."""
    if task not in (None, STRUCTURE):
        fix = "leave --task out; of states, accessibility or labels: esmcls data structures, or --labels TABLE"
        raise DataError(first.path, f"a structure, not labels for --task {task}", fix)
    return STRUCTURE


def with_hierarchy(intake: Intake, source: str | Path, labels: LabelPlaces) -> Intake:
    """Return an intake with the hierarchy of its labels; see `read_hierarchy`.

    Raises
    ------
    UsageError
        If the labels are of another kind of task.
    DataError
        If the hierarchy does not fit them.
    """
    if intake.ontology is not None or intake.task != ONE_LABEL:
        raise UsageError("--hierarchy is for one label a protein; leave it out")
    hierarchy, about = read_hierarchy(source, labels)
    return replace(intake, hierarchy=hierarchy, about_hierarchy=about)


def labelled_again(dataset: Dataset, task: str, hierarchy: str | Path) -> Intake:
    """Return a workspace's data set again, now with a hierarchy of its labels."""
    labels = LabelPlaces()
    for _ in labels.watch(dataset.records()):
        pass
    return with_hierarchy(Intake(dataset, task=task), hierarchy, labels)


def demo_set() -> Path:
    """Return the labelled sequences that come with the package."""
    import esmcls_data

    return Path(esmcls_data.__file__).with_name("demo.csv.gz")
