"""A model measured on a workspace's test part or on labelled sequences of the user's, and the report of it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from functools import partial
from pathlib import Path
from typing import Any, Final

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import Shares, set_aside
from esmcls.errors import DataError, UsageError, WorkspaceError
from esmcls.evaluation.evaluation_folder import open_evaluation
from esmcls.evaluation.examination import Told
from esmcls.evaluation.fit_and_ask import digest_of
from esmcls.evaluation.origin import check_date
from esmcls.files import sha256_file
from esmcls.labels.kinds import STRUCTURE
from esmcls.models.given_vectors import workspace_of
from esmcls.models.model import Model, features_for
from esmcls.models.predict import as_model
from esmcls.models.recipe import model_digest
from esmcls.models.sharing.card import add_measured
from esmcls.plain_values import write_json
from esmcls.reading.readers import label_table, read_records
from esmcls.reading.records import Record
from esmcls.reading.tables import NamedColumns
from esmcls.tasks.examining import TEST_PART, Exam, Measured
from esmcls.tasks.kinds import task_of
from esmcls.tasks.task import AnyTask
from esmcls.workspace.workspace import Workspace

METRICS: Final = "metrics.json"
NOBODY: Final = Dataset([], [], [], [])


@dataclass(frozen=True)
class Assessment:
    """What came of it.

    Parameters
    ----------
    evaluation : Measured
        `Evaluation` or `TermEvaluation`, by the kind of task.
    file : Path or None
        The metrics as JSON; None where there is no workspace to write them in.
    same_split : bool
        Whether the model was fitted on the split whose test part was taken; if not, it may know some of it.
    beside : tuple of Measured
        Who was accepted, where the model rejects strangers (test proteins of families that were taken away count in
        nothing else), or what weighs terms.
    report : callable, optional
        Writes the report into a folder; see `write`.
    """

    evaluation: Measured
    file: Path | None
    same_split: bool
    beside: tuple[Measured, ...] = ()
    report: Callable[[Path, Mapping[str, str]], Path] | None = field(default=None, repr=False, compare=False)

    def lines(self) -> list[str]:
        """Return tables for people, one line each."""
        return self.evaluation.lines() + [line for measured in self.beside for line in ("", *measured.lines())]

    def write(self, folder: Path | None = None, names: Mapping[str, str] | None = None) -> Path:
        """Write the report: a page, tables of classes or terms and of all wrong proteins, figures; return the page.

        Parameters
        ----------
        folder : Path, optional
            Default that of the metrics.
        names : mapping, optional
            What classes are called.

        Raises
        ------
        UsageError
            If no folder is given and there is no workspace.
        """
        if folder is None and self.file is not None:
            folder = self.file.parent
        if folder is None or self.report is None:
            raise UsageError("no workspace to write the report in; give a folder")
        return self.report(folder, names or {})

    def _repr_html_(self) -> str:
        """Return the tables for notebooks."""
        return f"<pre>{html.escape(chr(10).join(self.lines()))}</pre>"


def labelled(records: Iterable[Record], source: str | Path, task: AnyTask | None = None) -> Dataset:
    """Collect records that all have a label, of a kind of task where it is given.

    Raises
    ------
    DataError
        If there is none, or one lacks a label, or has one that the kind of task cannot have.
    """
    dataset = Dataset([], [], [], [])
    for record in records:
        if record.label is None:
            fix = "give a table of labels (--labels TABLE)"
            raise DataError(record.path, "no label", fix, line=record.line, record=record.protein.id)
        if task is not None and (problem := task.fault_of_label(record.label, record.protein.sequence)):
            fix = "correct it, or leave the record out"
            raise DataError(record.path, problem, fix, line=record.line, record=record.protein.id)
        dataset.ids.append(record.protein.id)
        dataset.sequences.append(record.protein.sequence)
        dataset.labels.append(record.label)
        dataset.parts.append("test")
    if not len(dataset):
        raise DataError(source, "no records", "give at least one labelled sequence")
    return dataset


def assess(
    model: Model,
    workspace: Workspace | None,
    given: Dataset | None = None,
    *,
    ia: str | Path | None = None,
    source: str = "",
    seed: int = 0,
    name: str = "",
    replace: bool = False,
    date: str = "",
    known_terms: Sequence[str | Path] = (),
    evidence: Sequence[str] = (),
    folded: int | None = None,
) -> Assessment:
    """Measure a model and write the metrics into the workspace; `Assessment.write` adds the report.

    Parameters
    ----------
    model : Model
        Of any kind of task.
    workspace : Workspace or None
        Needed where `given` is None.
    given : Dataset, optional
        Labelled sequences to measure on; default the workspace's test part.
    ia : str or Path, optional
        Terms: table of information accretion; default it is counted on the workspace's train part.
    source : str
        A word for `given`.
    seed : int
        Of the bootstrap.
    name : str
        Of the report, which lies in reports/evaluate-<name>/; default the model's, with the source behind.
    replace : bool
        Whether to replace a report of that name that is of something else.
    date : str
        Of the report, YYYY-MM-DD; default that of the data set's files.
    known_terms : sequence of str or Path
        Terms: GAFs or tables of what was known of the proteins; targets are measured apart by it, too.
    evidence : sequence of str
        Codes that count in them; default those of experiments.
    folded : int, optional
        Structures: chains that are folded, for TM-score and RMSD; default 24.

    Raises
    ------
    WorkspaceError
        If the workspace has no dataset of the model's kind, or its split no test part.
    UsageError
        If an option is not for the model's kind of task, no protein has a label, or the name is that of another report.
    """
    model.task.refuse({"--ia": ia, "--known": known_terms}, f"model {model.name}")
    if folded is not None and model.task.kind != STRUCTURE:
        raise UsageError(f"--folded is for structures; model {model.name} says {model.task.name} a protein")
    check_date(date)
    known = _workspace_of_kind(model, workspace)
    task = model.task if known is None or given is not None else _task_of_part(model, known)
    unseen, same_split, on_test_part = NOBODY, True, given is None
    if given is None:
        if known is None:
            place = model.folder if workspace is None else workspace.folder
            raise WorkspaceError(place, "no test part to measure this model on", "give INPUT and --labels")
        apart = set_aside(known.dataset, _kept_shares(model), model.manifest.seed)
        given, unseen = test_part(known, apart.kept), apart.unseen
        same_split = model.manifest.split_digest == known.split_digest
    settings: list[Any] = [
        model_digest(model.folder),
        given.digest(),
        seed,
        None if ia is None else sha256_file(Path(ia)),
        source,
    ]
    settings += [[*(sha256_file(Path(file)) for file in known_terms), *evidence]] if known_terms else []
    default = f"{model.folder.name}-{source}" if source else model.folder.name
    settings += [] if folded is None else [["folded", folded]]
    folder = None if workspace is None else open_evaluation(workspace, digest_of(settings), default, name, replace)
    features = partial(features_for, model, workspace=workspace)
    train = None if known is None else known.dataset.part("train")
    exam = Exam(given, features(given), train, unseen, features, seed, ia, known_terms, evidence, folded)
    examined = task.assess(model, exam)
    body = examined.evaluation.to_json()
    for beside in examined.beside:
        body |= beside.to_json()
    report = Told(model, task, workspace, known, exam, examined, source or TEST_PART, same_split, date)
    file = write_metrics(model, folder, source, body)
    assessment = Assessment(examined.evaluation, file, same_split, examined.beside, report.write)
    if on_test_part and same_split and model.called is None:
        add_measured(model.folder, f"The test part, {given.digest()[:16]}.", assessment.lines())
    return assessment


def _kept_shares(model: Model) -> Shares:
    """Return what was taken away from a model for good."""
    return replace_fields(Shares.of_setup(model.manifest.setup), calibration=0.0)


def _workspace_of_kind(model: Model, workspace: Workspace | None) -> Workspace | None:
    """Return the workspace if it has a data set of the model's kind of task."""
    if workspace is None or not workspace.has_dataset:
        return None
    return workspace if workspace.task == model.task.kind else None


def _task_of_part(model: Model, workspace: Workspace) -> AnyTask:
    """Return who makes labels of the workspace's rows: its own task, if that knows all classes of the model."""
    task = task_of(workspace)
    return task if task.knows(model.classes) else model.task


def test_part(workspace: Workspace, dataset: Dataset) -> Dataset:
    """Return the test part of a workspace's dataset, or of what was not set aside of it.

    Raises
    ------
    WorkspaceError
        If there is none.
    """
    part = dataset.part("test")
    if not len(part):
        raise WorkspaceError(workspace.folder, "its split has no test part", "give INPUT and --labels")
    return part


def write_metrics(model: Model, folder: Path | None, source: str, body: dict[str, Any]) -> Path | None:
    """Write what a model reached as JSON into the folder of its report and return the file; see `assess`."""
    if folder is None:
        return None
    about = {"model": model.folder.name, "head": model.manifest.head, "encoder": model.manifest.spec.encoder}
    write_json(folder / METRICS, about | {"on": source or TEST_PART} | body)
    return folder / METRICS


def source_name(inputs: Sequence[str | Path]) -> str:
    """Return the word for an input in the name of its report: that of its first file.

    Examples
    --------
    >>> source_name(["data/unknown.fasta.gz"]), source_name(["-"])
    ('unknown.fasta.gz', 'stdin')
    """
    return "stdin" if str(inputs[0]) == "-" else Path(inputs[0]).resolve().name


def evaluate(
    model: Model | Workspace | str | Path,
    inputs: Dataset | str | Path | Sequence[str | Path] | None = None,
    *,
    workspace: Workspace | None = None,
    labels: str | Path | None = None,
    label_column: str | None = None,
    mask_column: str | None = None,
    ia: str | Path | None = None,
    device: str = "cpu",
    seed: int = 0,
    name: str = "",
    replace: bool = False,
    date: str = "",
    known: str | Path | Sequence[str | Path] = (),
    evidence: Sequence[str] = (),
    folded: int | None = None,
) -> Assessment:
    """Measure a model of whatever kind of task: on its workspace's test part, or on labelled sequences.

    Parameters
    ----------
    model : Model, Workspace, str or Path
        A workspace stands for its best model; a path is a model folder or a workspace.
    inputs : Dataset, or file or files, optional
        Labelled sequences, as `esmcls embed` takes them; default the test part.
    workspace : Workspace, optional
        Whose test part and caches; default that in whose models/ the model lies, if it does.
    labels : str or Path, optional
        Table of the labels of `inputs`.
    label_column, mask_column : str, optional
        See `read_records`.
    ia : str or Path, optional
        Terms: table of information accretion.
    device : str
        Where a model is loaded that is named by a path.
    seed : int
        Of the bootstrap.
    name, replace, date
        Of the report; see `assess`.
    known : str, Path or sequence of them, optional
        Terms: GAFs or tables of what was known of the proteins; targets are measured apart by it, too.
    evidence : sequence of str
        Terms: codes that count in GAFs, of labels or of what is known; default those of experiments.
    folded : int, optional
        Structures: chains that are folded, for TM-score and RMSD; default 24.

    Returns
    -------
    Assessment
        Printed by `lines`; its `evaluation.metrics`, or of terms `evaluation.aspects`, hold the numbers.

    Raises
    ------
    WorkspaceError
        If there is no test part of the model's kind of task.
    UsageError
        If an option is not for the model's kind of task, or no protein has a label.
    """
    if isinstance(model, Workspace) and workspace is None:
        workspace = model
    model = as_model(model, device)
    workspace = home_of(model) if workspace is None else workspace
    knowing = [known] if isinstance(known, str | Path) else list(known)
    measure = partial(assess, model, workspace, ia=ia, seed=seed, name=name, replace=replace, date=date)
    measure = partial(measure, known_terms=knowing, evidence=evidence, folded=folded)
    if inputs is None or isinstance(inputs, Dataset):
        return measure(inputs, source="" if inputs is None else "dataset")
    files = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    several = model.task.many
    columns = NamedColumns(label_column, mask_column)
    table = label_table(labels, model.task.ontology if labels else None, several, evidence, columns)
    records = read_records(files, labels=table, several=several, columns=columns)
    return measure(labelled(records, str(files[0]), model.task), source=source_name(files))


def home_of(model: Model) -> Workspace | None:
    """Return the workspace in whose models/ a model lies; None where it lies elsewhere."""
    return workspace_of(model.folder)
