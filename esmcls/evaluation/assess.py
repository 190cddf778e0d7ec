"""A model of a workspace measured on its test part or on labelled sequences of the user's, and the report of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import SetAside, Shares, set_aside
from esmcls.errors import DataError, WorkspaceError
from esmcls.files import write_json
from esmcls.metrics.calibration import auroc
from esmcls.models.model import Model
from esmcls.models.predict import features_for
from esmcls.reading.records import Record
from esmcls.tasks.one_label.confidence import known_score
from esmcls.tasks.one_label.evaluation import Evaluation, evaluate
from esmcls.workspace.workspace import Workspace

METRICS: Final = "metrics.json"


@dataclass(frozen=True)
class Strangers:
    """Test proteins of known families, and of families that were held out and did not set the threshold.

    Parameters
    ----------
    known, unknown : int
        Proteins.
    accepted, false_accepted : float
        Shares of them that the model accepts as of a known family.
    auroc : float
        How often one of the former is more familiar than one of the latter.
    """

    known: int
    unknown: int
    accepted: float
    false_accepted: float
    auroc: float

    def lines(self) -> list[str]:
        """Say it for people."""
        return [
            f"{self.unknown:,} proteins of families held out: {100 * self.false_accepted:.1f} % accepted as known",
            f"{self.known:,} proteins of known families: {100 * self.accepted:.1f} % accepted; AUROC {self.auroc:.3f}",
        ]


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
    strangers : Strangers or None
        What became of test proteins of the families that were held out, where any were; they count in nothing else.
    """

    evaluation: Evaluation
    file: Path | None
    same_split: bool
    strangers: Strangers | None = None

    def lines(self) -> list[str]:
        """Return a table for people, one line each."""
        return self.evaluation.lines() + ([] if self.strangers is None else ["", *self.strangers.lines()])


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
    part, same, apart = given, True, None
    if part is None:
        if workspace is None:
            raise WorkspaceError(model.folder, "no workspace to take a test part from", "give INPUT and --labels")
        apart, same = _apart(model, workspace), model.manifest.split_digest == workspace.split_digest
        part = test_part(workspace, apart.kept)
    features = features_for(model, part, workspace)
    evaluation = evaluate(model, part, features, seed=seed)
    strangers = None if apart is None or not len(apart.unseen) else _strangers(model, features, apart.unseen, workspace)
    body = evaluation.to_json() | ({} if strangers is None else {"strangers": asdict(strangers)})
    return Assessment(evaluation, write_metrics(model, workspace, source, body), same, strangers)


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


def _apart(model: Model, workspace: Workspace) -> SetAside:
    """Set aside again what was set aside when the model was fitted."""
    setup = model.manifest.setup
    return set_aside(workspace.dataset, Shares(setup.get("families", 0.0)), model.manifest.seed)


def _strangers(model: Model, known: Features, unseen: Dataset, workspace: Workspace | None) -> Strangers | None:
    """Measure rejection on the test part."""
    rejection = model.confidence.rejection
    if rejection is None:
        return None
    parts = known, features_for(model, unseen, workspace)
    near, far = (known_score(model.head, x, rejection.score) for x in parts)
    accepted, false = (float((scores > rejection.threshold).mean()) for scores in (near, far))
    return Strangers(len(near), len(far), accepted, false, auroc(near, far))


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
