"""Everything that one command or call reads: files for each part, tables of labels, an ontology, standard input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from esmcls.errors import DataError, UnknownNameError, UsageError
from esmcls.labels.kinds import MANY_LABELS, NAMED, STRUCTURE
from esmcls.labels.ontology import Ontology, read_obo
from esmcls.reading.joined.label_tables import LabelTable
from esmcls.reading.readers import OnBad, label_table, read_records
from esmcls.reading.records import Record, Tally, refuse_text
from esmcls.reading.tables import LABEL_COLUMNS, NamedColumns
from esmcls.text_files import STDIN


@dataclass(frozen=True)
class Inputs:
    """Where records come from.

    Parameters
    ----------
    inputs : tuple of str or Path
        Files, folders, URLs of files, or "-".
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
    task : str, optional
        The kind of task that the labels are for, where the user named it.
    hierarchy : str or Path, optional
        Of the labels: see `esmcls.workspace.read_hierarchy`.
    evidence : tuple of str
        Evidence codes that count in GAFs; default those of experiments.
    label_column, mask_column, split_column : str, optional
        The columns of tables that hold labels, of which residues these are known, and parts, where the user named them.
    """

    inputs: tuple[str | Path, ...]
    validation: tuple[str | Path, ...] = ()
    test: tuple[str | Path, ...] = ()
    labels: Path | tuple[Path, ...] | None = None
    clusters: Path | None = None
    on_bad: OnBad = "error"
    obo: Path | None = None
    propagate: bool = True
    task: str | None = None
    hierarchy: str | Path | None = None
    evidence: tuple[str, ...] = ()
    label_column: str | None = None
    mask_column: str | None = None
    split_column: str | None = None

    def __post_init__(self) -> None:
        if self.task is not None and self.task not in NAMED:
            raise UnknownNameError("task", self.task, NAMED)
        if self.task is not None and self.obo is not None:
            raise UsageError(f"an ontology (--obo) is for its terms, not for --task {self.task}; leave one of them out")
        if self.hierarchy is not None and self.obo is not None:
            raise UsageError("an ontology (--obo) is a hierarchy of its own; leave --hierarchy out")
        for name in ("inputs", "validation", "test"):
            refuse_text(getattr(self, name), name)

    @cached_property
    def ontology(self) -> Ontology | None:
        """The ontology, read when first asked for."""
        return None if self.obo is None else read_obo(self.obo)

    @cached_property
    def table(self) -> LabelTable | None:
        """The labels by id, read once for all parts."""
        several = None if self.task is None else self.task == MANY_LABELS
        return label_table(self.labels, self.ontology, several, self.evidence, self.columns)

    @property
    def columns(self) -> NamedColumns:
        """The columns of tables that the user named."""
        return NamedColumns(self.label_column, self.mask_column, self.split_column)

    def records(self, tally: Tally) -> Iterator[Record]:
        """Read everything, in order; the tally is filled on the way."""
        for paths, part in ((self.inputs, None), (self.validation, "validation"), (self.test, "test")):
            if paths:
                yield from read_records(
                    paths,
                    labels=self.table,
                    part=part,
                    on_bad=self.on_bad,
                    tally=tally,
                    columns=self.columns,
                    structures=self.task == STRUCTURE,
                )
        if self.validation or self.test:
            tally.unused_labels = 0  # counted a reading; a label of the test part is no stray one of train

    @property
    def files(self) -> tuple[str | Path, ...]:
        """Every file, folder and table that is read."""
        labels = self.labels if isinstance(self.labels, tuple) else (self.labels,)
        tables = tuple(table for table in (*labels, self.clusters, self.obo) if table is not None)
        return (*self.inputs, *self.validation, *self.test, *tables)

    def no_labels(self, tally: Tally) -> list[str]:
        """Return a line that says that no labels were found, and where they were looked for."""
        names = ", ".join(map(str, self.inputs[:3])) + (", …" if len(self.inputs) > 3 else "")
        columns = [name for facts in tally.tables.values() for name in (*facts.columns.values(), *facts.ignored)]
        where, fix = "", "give them with --labels TABLE"
        if columns:
            where = f" among the columns {', '.join(dict.fromkeys(columns))}"
            named = f"{', '.join(LABEL_COLUMNS[:4])} or so"
            fix = f"name their column {named}, say which it is (--label-column NAME), or give --labels TABLE"
        return [f"no labels in {names}{where}: the vectors are kept, but there is no dataset to fit on; {fix}"]

    @property
    def rereadable(self) -> bool:
        """True unless standard input is among the files."""
        return STDIN not in map(str, self.files)


class SequenceStream(Iterable[str]):
    """Unlabelled sequences, never held in memory; files are read anew each time it is gone through.

    Parameters
    ----------
    inputs : Inputs
    begun : iterator of Record, optional
        A reading that has begun already, for the first time round.
    tally : Tally
        Of the reading that has begun; replaced by that of each later one.
    """

    def __init__(self, inputs: Inputs, begun: Iterator[Record] | None = None, tally: Tally | None = None) -> None:
        self.inputs = inputs
        self.begun = begun
        self.tally = tally or Tally()

    def records(self) -> Iterator[Record]:
        """Read the records once more.

        Raises
        ------
        DataError
            If one has a label, or if standard input is asked for a second time.
        """
        if self.begun is None and not self.inputs.rereadable:
            raise DataError(STDIN, "standard input can be read once only", "give a file")
        if self.begun is None:
            self.tally = Tally()
        records = self.begun or self.inputs.records(self.tally)
        self.begun = None
        for record in records:
            if record.label is not None:
                label = f"label {record.label!r}, but the first record has none"
                fix = "give all of them a label, or none"
                raise DataError(record.path, label, fix, line=record.line, record=record.protein.id)
            yield record

    def __iter__(self) -> Iterator[str]:
        """Yield the sequences, in input order."""
        return (record.protein.sequence for record in self.records())
