"""A model measured on a workspace's test part or on labelled sequences of the user's, and the report of it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import Shares, set_aside
from esmcls.errors import DataError, WorkspaceError
from esmcls.files import write_json
from esmcls.models.given_vectors import workspace_of
from esmcls.models.model import Model, features_for
from esmcls.models.predict import as_model
from esmcls.reading.readers import read_records
from esmcls.reading.records import Record
from esmcls.tasks.kinds import task_of
from esmcls.tasks.task import AnyTask, Exam, Measured
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
    """

    evaluation: Measured
    file: Path | None
    same_split: bool
    beside: tuple[Measured, ...] = ()

    def lines(self) -> list[str]:
        """Return tables for people, one line each."""
        return self.evaluation.lines() + [line for one in self.beside for line in ("", *one.lines())]

    def _repr_html_(self) -> str:
        """Return the tables for notebooks."""
        return f"<pre>{html.escape(chr(10).join(self.lines()))}</pre>"


def labelled(records: Iterable[Record], source: str | Path) -> Dataset:
    """Collect records that all have a label.

    Raises
    ------
    DataError
        If there is none, or one lacks a label.
    """
    found = Dataset([], [], [], [])
    for record in records:
        if record.label is None:
            fix = "give a table of labels (--labels TABLE)"
            raise DataError(record.path, "no label", fix, line=record.line, record=record.protein.id)
        found.ids.append(record.protein.id)
        found.sequences.append(record.protein.sequence)
        found.labels.append(record.label)
        found.parts.append("test")
    if not len(found):
        raise DataError(source, "no records", "give at least one labelled sequence")
    return found


def assess(
    model: Model,
    workspace: Workspace | None,
    given: Dataset | None = None,
    *,
    ia: str | Path | None = None,
    source: str = "",
    seed: int = 0,
) -> Assessment:
    """Measure a model and write the metrics into the workspace.

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
        A word for `given`: reports/evaluate/<model>/<source>/ holds its metrics, the test part's lie one folder up.
    seed : int
        Of the bootstrap.

    Raises
    ------
    WorkspaceError
        If the workspace has no dataset of the model's kind, or its split no test part.
    UsageError
        If an option is not for the model's kind of task, or no protein has a label.
    """
    model.task.refuse({"--ia": ia}, f"model {model.name}")
    known = _workspace_of_kind(model, workspace)
    task = model.task if known is None or given is not None else _task_of_part(model, known)
    unseen, same_split = NOBODY, True
    if given is None:
        if known is None:
            place = model.folder if workspace is None else workspace.folder
            raise WorkspaceError(place, "no test part to measure this model on", "give INPUT and --labels")
        shares = replace(Shares.of_setup(model.manifest.setup), calibration=0.0)
        apart = set_aside(known.dataset, shares, model.manifest.seed)
        given, unseen = test_part(known, apart.kept), apart.unseen
        same_split = model.manifest.split_digest == known.split_digest
    features = partial(features_for, model, workspace=workspace)
    train = None if known is None else known.dataset.part("train")
    found = task.assess(model, Exam(given, features(given), train, unseen, features, seed, ia))
    body = found.evaluation.to_json()
    for beside in found.beside:
        body |= beside.to_json()
    return Assessment(found.evaluation, write_metrics(model, workspace, source, body), same_split, found.beside)


def _workspace_of_kind(model: Model, workspace: Workspace | None) -> Workspace | None:
    """Return the workspace if it has a data set of the model's kind of task."""
    if workspace is None or not workspace.has_dataset:
        return None
    return workspace if task_of(workspace).many == model.task.many else None


def _task_of_part(model: Model, workspace: Workspace) -> AnyTask:
    """Return who makes labels of the workspace's rows: its own task, if that knows all classes of the model."""
    own = task_of(workspace)
    return own if own.knows(model.classes) else model.task


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


def write_metrics(model: Model, workspace: Workspace | None, source: str, body: dict[str, Any]) -> Path | None:
    """Write what a model reached as JSON into a workspace's reports and return the file; see `assess` for `source`."""
    if workspace is None:
        return None
    folder = workspace.reports / "evaluate" / model.folder.name / source
    folder.mkdir(parents=True, exist_ok=True)
    about = {"model": model.folder.name, "head": model.manifest.head, "encoder": model.manifest.spec.encoder}
    write_json(folder / METRICS, about | {"on": source or "test part"} | body)
    return folder / METRICS


def source_name(inputs: Sequence[str | Path]) -> str:
    """Return the folder name of an input's report: that of its first file.

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
    ia: str | Path | None = None,
    device: str = "cpu",
    seed: int = 0,
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
    ia : str or Path, optional
        Terms: table of information accretion.
    device : str
        Where a model is loaded that is named by a path.
    seed : int
        Of the bootstrap.

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
    if inputs is None or isinstance(inputs, Dataset):
        return assess(model, workspace, inputs, ia=ia, source="" if inputs is None else "dataset", seed=seed)
    files = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    records = read_records(files, labels=labels, ontology=None if labels is None else model.task.ontology)
    given = labelled(records, str(files[0]))
    return assess(model, workspace, given, ia=ia, source=source_name(files), seed=seed)


def home_of(model: Model) -> Workspace | None:
    """Return the workspace in whose models/ a model lies; None where it lies elsewhere."""
    return workspace_of(model.folder)
