"""Fitted models of one workspace into one: an ensemble, weighed by what each says of validation rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import Shares, set_aside
from esmcls.errors import ModelError, UsageError, WorkspaceError
from esmcls.heads.contract import Log
from esmcls.heads.registry import reads_vectors
from esmcls.heads.settings import parse_settings
from esmcls.models.fit import Fit, Fitted, explained
from esmcls.models.folder import load_model, refuse_foreign
from esmcls.models.manifest import Manifest
from esmcls.models.model import Model, features_for
from esmcls.models.recipe import ASKED, EXPLANATION, asked
from esmcls.tasks.fitted import GetFeatures
from esmcls.tasks.task import AnyTask
from esmcls.workspace.workspace import Workspace

ENSEMBLE: Final = "ensemble"


def combine(
    task: AnyTask,
    models: Sequence[Model],
    dataset: Dataset,
    features: GetFeatures,
    settings: Mapping[str, Any] | None = None,
    *,
    false_acceptance: float | None = None,
    accept_known: float | None = None,
    device: str = "cpu",
    log: Log | None = None,
) -> Fit[Any, Any]:
    """Combine fitted models; none is fitted again.

    Parameters
    ----------
    task : Task
    models : sequence of Model
        Fitted on one split, with the same rows set aside.
    dataset : Dataset
        Theirs.
    features : callable
        From rows of it to their vectors, of all the models' encoders.
    settings : mapping, optional
        Knobs of the ensemble.
    false_acceptance, accept_known : float, optional
        Where rejection is to draw the line, if not where it does for the first model; see `Shares`.
    device, log
        As in `fit_dataset`.

    Raises
    ------
    UsageError
        If there are fewer than two models, one with a comma in its name, or they were fitted on different rows or
        classes.
    ModelError
        If nothing tells what one is worth: it was fitted without a validation part, or on that, too.
    """
    if len(models) < 2:
        raise UsageError("an ensemble takes two models or more; name each with --of")
    for model in models:
        if "," in model.name:
            problem = "a comma in the name of its folder, where an ensemble has one between its members"
            raise UsageError(f"model {model.name!r}: {problem}; rename the folder")
    first = models[0].manifest
    for model in models[1:]:
        _check_alike(models[0], model)
    shares = Shares.of_setup(first.setup).at(false_acceptance, accept_known)
    apart = set_aside(dataset, shares, first.seed)
    ensemble = task.combine(models, apart.kept.part("validation"), features, settings or {}, device=device, log=log)
    specs = ensemble.specs or (first.spec,)
    config = parse_settings(task.head_class(ENSEMBLE).Config, settings or {})
    made_of = asked(task, config, [model.folder for model in models])
    inherited = {name: value for name, value in first.setup.items() if name not in ("finetuned", EXPLANATION)}
    manifest = replace(
        first,
        head=ENSEMBLE,
        config=asdict(ensemble.head.chosen),
        spec=specs[0],
        others=specs[1:],
        validation=ensemble.scores,
        setup=inherited | task.setup(shares) | {ASKED: made_of} | explained(ensemble.head),
        files={},
    )
    findings = task.measure_set_aside(ensemble.head, ensemble.findings, apart, shares, features)
    return Fit(task, ensemble.head, manifest, findings)


def _check_alike(model: Model, other: Model) -> None:
    """Refuse models that cannot be compared row by row."""
    for difference, facts in (
        ("kind of task", [m.manifest.kind for m in (model, other)]),
        ("the split", [(m.manifest.dataset_digest, m.manifest.split_digest) for m in (model, other)]),
        ("what was set aside", [_set_aside_by(m.manifest) for m in (model, other)]),
        ("the classes", [m.manifest.classes for m in (model, other)]),
    ):
        if facts[0] != facts[1]:
            names = f"{model.name} and {other.name}"
            raise UsageError(f"models {names} differ in {difference}; fit them again with the same options")


def _set_aside_by(manifest: Manifest) -> tuple[tuple[float, float, int], bool, int | None]:
    """Return what decided the rows that a model was not fitted on: the seed where it drew any."""
    shares = Shares.of_setup(manifest.setup)
    seed = manifest.seed if shares.families or shares.calibration else None
    return shares.rows, bool(manifest.setup.get("refit")), seed


def combine_in_workspace(
    workspace: Workspace,
    names: Sequence[str],
    name: str,
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
    log: Log | None = None,
    *,
    false_acceptance: float | None = None,
    accept_known: float | None = None,
) -> Fitted:
    """Combine models of a workspace, by name or folder, and save the ensemble as models/<name>/.

    Raises
    ------
    WorkspaceError
        If the cache of a model's encoder is not there.
    UsageError, ModelError
        As `combine`.
    """
    from esmcls.tasks.kinds import task_of

    task, folder = task_of(workspace), workspace.model_folder(name)
    refuse_foreign(folder)
    task.head_class(ENSEMBLE)
    models = [load_model(workspace.find_model(member), device) for member in names]
    check_of_workspace(models, workspace)
    cached_specs = {entry.spec for entry in workspace.caches}
    missing = [model for model in models if reads_vectors(model.head) and not cached_specs.issuperset(model.specs)]
    if missing:
        found = f"holds no vectors for model {missing[0].name} (encoder {missing[0].spec.encoder})"
        raise WorkspaceError(workspace.folder, found, "run: esmcls embed with the options of that cache")
    features = features_of_members(models, workspace)
    point = {"false_acceptance": false_acceptance, "accept_known": accept_known}
    fit = combine(task, models, workspace.dataset, features, settings, device=device, log=log, **point)
    return Fitted.of(fit, folder)


def check_of_workspace(models: Sequence[Model], workspace: Workspace) -> None:
    """Refuse models that were fitted on other data than a workspace's, or on another split of it.

    Raises
    ------
    ModelError
        If one was.
    """
    for model in models:
        same = model.manifest.split_digest == workspace.split_digest
        if not same or model.manifest.kind != workspace.task:
            found = "was not fitted on the data and the split of this workspace"
            raise ModelError(model.folder, found, "fit it again")


def features_of_members(models: Sequence[Model], workspace: Workspace) -> GetFeatures:
    """Return what gives the vectors that all of some models read, of rows of a workspace's data set."""
    specs = tuple(dict.fromkeys(spec for model in models if reads_vectors(model.head) for spec in model.specs))
    first = models[0]
    manifest = replace(first.manifest, spec=(specs or (first.spec,))[0], others=specs[1:])
    reader = next((model for model in models if reads_vectors(model.head)), first)
    return lambda part: features_for(replace(reader, manifest=manifest), part, workspace)
