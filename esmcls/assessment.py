"""A model of a workspace measured on its test part or on labelled sequences of the user's, and the report of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from esmcls.artifact import Model
from esmcls.dataset import Dataset
from esmcls.errors import DataError, WorkspaceError
from esmcls.evaluation import Evaluation, evaluate
from esmcls.files import write_json
from esmcls.prediction import features_for
from esmcls.records import Record
from esmcls.workspace import Workspace

METRICS: Final = "metrics.json"


@dataclass(frozen=True)
class Assessment:
    """What came of it.

    Parameters
    ----------
    evaluation : Evaluation
    file : Path or None
        The metrics as JSON; None where there is no workspace to write them in.
    same_split : bool
        Whether the model was fitted on the split whose test part was taken; if not, it may know some of it.
    """

    evaluation: Evaluation
    file: Path | None
    same_split: bool


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
    model: Model, workspace: Workspace | None, given: Dataset | None = None, *, source: str = "", seed: int = 0
) -> Assessment:
    """Measure a model and write the metrics into the workspace.

    Parameters
    ----------
    model : Model
    workspace : Workspace or None
        Needed where `given` is None.
    given : Dataset, optional
        Labelled sequences to measure on; default the workspace's test part.
    source : str
        A word for `given`: reports/evaluate/<model>/<source>/ holds its metrics, the test part's lie one folder up.
    seed : int
        Of the bootstrap.

    Raises
    ------
    WorkspaceError
        If the workspace has no dataset or its split no test part.
    """
    part, same = given, True
    if part is None:
        if workspace is None:
            raise WorkspaceError(model.folder, "no workspace to take a test part from", "give INPUT and --labels")
        part, same = workspace.dataset.part("test"), model.manifest.split_digest == workspace.split_digest
        if not len(part):
            raise WorkspaceError(workspace.folder, "its split has no test part", "give INPUT and --labels")
    evaluation = evaluate(model, part, features_for(model, part, workspace), seed=seed)
    return Assessment(evaluation, _report(model, workspace, evaluation, source), same)


def _report(model: Model, workspace: Workspace | None, evaluation: Evaluation, source: str) -> Path | None:
    if workspace is None:
        return None
    folder = workspace.reports / "evaluate" / model.folder.name / source
    folder.mkdir(parents=True, exist_ok=True)
    about = {"model": model.folder.name, "head": model.manifest.head, "encoder": model.manifest.spec.encoder}
    write_json(folder / METRICS, about | {"on": source or "test part"} | evaluation.to_json())
    return folder / METRICS


def source_name(inputs: Sequence[str | Path]) -> str:
    """Return the folder name of an input's report: that of its first file.

    Examples
    --------
    >>> source_name(["data/unknown.fasta.gz"]), source_name(["-"])
    ('unknown.fasta.gz', 'stdin')
    """
    return "stdin" if str(inputs[0]) == "-" else Path(inputs[0]).resolve().name
