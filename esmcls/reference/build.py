"""From proteins with known terms to a reference: a model folder that says what it knows.

embed ─▶ fit knn, and homology where an engine is installed ─▶ weigh both on validation, whole clusters of it
      ─▶ say how near is near, by shuffled proteins ─▶ fit all proteins with what was chosen ─▶ model folder

Nothing of this is new: it is `esmcls embed`, `fit` and `predict`'s model, with a scope in its manifest.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.datasets.clusters import CLUSTER_METHODS, MMSEQS, cluster_sequences
from esmcls.datasets.dataset import Dataset
from esmcls.errors import DataError, UsageError
from esmcls.files import temporary_folder
from esmcls.heads.alignment.search import installed
from esmcls.heads.base import Log
from esmcls.heads.ensemble.term_ensemble import TermEnsembleHead
from esmcls.labels.kinds import GO_TERMS
from esmcls.labels.labels import LabelSets
from esmcls.models.combine import combine_in_workspace
from esmcls.models.fit import Fitted, fit
from esmcls.models.folder import load_model, refuse_foreign, save_model
from esmcls.models.manifest import Manifest
from esmcls.models.model import Model, features_for
from esmcls.reading.inputs import Inputs
from esmcls.reading.records import Tally
from esmcls.reference.scope import AT_LEAST, SCOPE, STRANGERS, Scope, find_nearest, parts_of, vector_distances
from esmcls.tasks.kinds import task_of
from esmcls.tasks.task import AnyTask
from esmcls.workspace.intake import Intake, take_in
from esmcls.workspace.workspace import Workspace

VECTORS: Final = "knn"
ALIGNMENT: Final = "homology"
BOTH: Final = "both"
SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    VECTORS: {},
    ALIGNMENT: {"sensitivity": 5.7, "any_version": True},
}
"""Knobs of the two heads. At a sensitivity of 5.7 MMseqs2 takes a quarter of the time that it takes at 7.5."""
SHUFFLED: Final = 100
"""Validation proteins that are shuffled, to know how near is near."""
MEASURED: Final = 200
"""Validation proteins that tell how good it is, at most: each is aligned."""
LONGEST: Final = 500
"""Residues of one that is."""
FEWEST: Final = 20
"""Proteins that a reference takes."""
MANY: Final = 50_000
"""Proteins above which clusters are found by MMseqs2's linear method."""


@dataclass(frozen=True)
class Built:
    """A reference that was built; as text, what to tell its user."""

    folder: Path
    scope: Scope
    members: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.folder}: {' and '.join(self.members)}; {self.scope}"


def read_inputs(inputs: Inputs, seed: int = 0) -> Intake:
    """Read proteins and what is known of them, whole clusters as validation: drawn here where no table is given.

    Without MMseqs2 validation is drawn at random.

    Parameters
    ----------
    inputs : Inputs
    seed : int
        Of the split.
    """
    if inputs.clusters is not None or shutil.which(MMSEQS) is None:
        return take_in(inputs, seed=seed)
    proteins = {record.protein.id: record.protein.sequence for record in inputs.records(Tally())}
    method = CLUSTER_METHODS[len(proteins) > MANY]
    with temporary_folder("clusters") as folder:
        table = folder / "clusters.tsv"
        clusters = cluster_sequences(list(proteins.values()), method=method)
        table.write_text("".join(f"{cluster}\t{name}\n" for name, cluster in zip(proteins, clusters, strict=True)))
        return take_in(replace(inputs, clusters=table), seed=seed)


def build_reference(
    workspace: Workspace,
    folder: str | Path,
    *,
    source: str,
    settings: Mapping[str, Mapping[str, Any]] = SETTINGS,
    aligned: bool | None = None,
    device: str = "cpu",
    seed: int = 0,
    log: Log | None = None,
) -> Built:
    """Make a reference of a workspace's proteins, all parts of it, and write its model folder.

    Parameters
    ----------
    workspace : Workspace
        Of Gene Ontology terms, embedded.
    folder : str or Path
    source : str
        Where the proteins and their terms are from, and of when: it is told with every answer.
    settings : mapping
        Head -> knob -> value.
    aligned : bool, optional
        Whether proteins are aligned, too; default where an engine is installed.
    device, seed, log
        As in `fit_dataset`.

    Raises
    ------
    UsageError
        If the workspace is of another kind of task.
    DataError
        If there are too few proteins.
    ModelError
        If `folder` exists and is no model.
    """
    folder = Path(folder)
    refuse_foreign(folder)
    dataset = workspace.dataset
    if workspace.task != GO_TERMS:
        raise UsageError(f"{workspace.folder} is not of Gene Ontology terms; a reference is: give --obo FILE")
    if len(dataset) < FEWEST:
        fix = f"give {FEWEST} or more, such as all of Swiss-Prot with annotations of experiments"
        raise DataError(workspace.folder, f"{len(dataset)} proteins with terms, too few for a reference", fix)
    aligned = installed() is not None if aligned is None else aligned
    fitted = _fit_parts(workspace, settings, aligned, device, seed, log)
    return finish_reference(workspace, load_model(fitted.folder, device), folder, source=source, seed=seed, log=log)


def finish_reference(
    workspace: Workspace, model: Model, folder: Path, *, source: str, seed: int = 0, log: Log | None = None
) -> Built:
    """Make a reference of a model that was fitted on the train part: the latter half of `build_reference`.

    Parameters
    ----------
    model : Model
    workspace, folder, source, seed, log
        As there.
    """
    task, validation = task_of(workspace), workspace.dataset.part("validation")
    distance, shuffled = _near_by_vectors(model, validation, seed)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(validation))[:MEASURED])
    measured = _measure(model, task, workspace, validation.take(chosen.tolist()), distance)
    scope = Scope(
        source, 0, 0, distance, shuffled, measured.get("near"), measured.get("precision"), measured.get("recall")
    )
    return _refit(model, task, workspace, folder, scope, seed, log)


def _fit_parts(
    workspace: Workspace,
    settings: Mapping[str, Mapping[str, Any]],
    aligned: bool,
    device: str,
    seed: int,
    log: Log | None,
) -> Fitted:
    """Fit on the train part alone, so that the validation part can tell what the reference is worth."""
    names = [VECTORS, ALIGNMENT] if aligned else [VECTORS]
    fits = [
        fit(workspace, name, settings.get(name, {}), refit=False, device=device, seed=seed, log=log) for name in names
    ]
    if not aligned or not len(workspace.dataset.part("validation")):
        return fits[0]
    return combine_in_workspace(workspace, names, BOTH, {}, device, log)


def _near_by_vectors(model: Model, validation: Dataset, seed: int) -> tuple[float, int]:
    """Return the distance below which few shuffled proteins have a neighbour, and how many were shuffled."""
    generator = np.random.default_rng(seed)
    sequences = [sequence for sequence in validation.sequences if len(sequence) <= LONGEST]
    chosen = generator.permutation(len(sequences))[:SHUFFLED].tolist()
    shuffled = ["".join(generator.permutation(list(sequences[row]))) for row in chosen]
    distances = vector_distances(parts_of(model)[0], model.features(shuffled)) if shuffled else []
    return (float(f"{np.quantile(distances, STRANGERS):.4g}"), len(distances)) if len(distances) else (0.0, 0)


def _measure(
    model: Model, task: AnyTask, workspace: Workspace, validation: Dataset, distance: float
) -> dict[str, float | None]:
    """Return which share of validation proteins is near, and how good is what is told of these."""
    if not len(validation):
        return {}
    x = features_for(model, validation, workspace)
    truth = task.labels(validation)
    rows = np.flatnonzero([nearest.near for nearest in find_nearest(parts_of(model)[0], x, distance)])
    near: dict[str, float | None] = {"near": round(len(rows) / len(validation), 4)}
    return near | told_right(model, x.take(rows), truth.take(rows)) if len(rows) else near


def told_right(model: Model, x: Features, truth: LabelSets) -> dict[str, float | None]:
    """Return precision and recall of the terms told of proteins: means over proteins, of the aspects known of each.

    Parameters
    ----------
    model : Model
    x : Features
    truth : LabelSets
        Propagated, of any classes.
    """
    head, findings, hierarchy = parts_of(model)
    place = {name: code for code, name in enumerate(model.classes)}
    names = truth.names()
    precisions: list[float] = []
    recalls: list[float] = []
    for rows, scores in hierarchy.blocks(head, x):
        decided = findings.thresholds.decide(scores, hierarchy, AT_LEAST)
        for row, answer in zip(range(rows.start, rows.stop), decided, strict=True):
            right, predicted, known = _counted(names[row], answer, place, hierarchy.groups, truth)
            precisions += [right / predicted] if predicted else []
            recalls += [right / known] if known else []
    mean = {"precision": precisions, "recall": recalls}
    return {name: round(float(np.mean(values)), 4) if values else None for name, values in mean.items()}


def _counted(
    names: tuple[str, ...],
    answer: npt.NDArray[np.bool_],
    place: Mapping[str, int],
    groups: tuple[str, ...],
    truth: LabelSets,
) -> tuple[int, int, int]:
    """Return how many terms of a protein are right, told and known, in the aspects of which any is known."""
    group_of = dict(zip(truth.classes, truth.groups, strict=True))
    aspects = {group_of[name] for name in names}
    codes = [code for code in np.flatnonzero(answer).tolist() if groups[code] in aspects]
    right = {place[name] for name in names if name in place}.intersection(codes)
    return len(right), len(codes), len(names)


def _refit(
    model: Model, task: AnyTask, workspace: Workspace, folder: Path, scope: Scope, seed: int, log: Log | None
) -> Built:
    """Fit a model on the proteins of all parts, with what it chose, and write it with its scope."""
    dataset = workspace.dataset
    before = model.classes
    labels = task.labels(dataset)
    head, findings, _ = parts_of(model)
    task.refit_head(head, features_for(model, dataset, workspace), labels, seed, log)
    scope = replace(scope, proteins=len(dataset), terms=len(labels.classes))
    manifest = _manifest(model.manifest, labels, scope)
    save_model(folder, head, manifest, task=task, findings=findings.recoded(before, labels.classes))
    members = [member.name for member in head.members] if isinstance(head, TermEnsembleHead) else [model.head_name]
    return Built(folder, scope, tuple(members))


def _manifest(fitted: Manifest, labels: LabelSets, scope: Scope) -> Manifest:
    """Return the manifest of the model when it was fitted on all proteins."""
    return replace(
        fitted,
        classes=labels.classes,
        class_counts=tuple(labels.counts().tolist()),
        n_train=len(labels),
        setup=fitted.setup | {"refit": True, SCOPE: scope.to_json()},
        files={},
    )
