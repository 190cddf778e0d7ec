"""What fine-tuning does with a kind of task: its settings are settled, and the model folder is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import Shares
from esmcls.encoders.windows import Balanced, Window, parse_long
from esmcls.errors import UsageError
from esmcls.finetuning.config import FinetuneConfig, FinetuneInputs
from esmcls.finetuning.encoder import training_precision
from esmcls.finetuning.packing import check_pooling
from esmcls.finetuning.rows import Rows
from esmcls.models.folder import save_model
from esmcls.models.manifest import Manifest
from esmcls.tasks.kinds import task_of
from esmcls.tasks.objective import FinalHead, Objective, Supervision
from esmcls.tasks.task import AnyTask
from esmcls.training.optimizers import check_optimizer
from esmcls.training.tracking import check_tracker
from esmcls.workspace.workspace import Workspace


def objective_of(workspace: Workspace) -> Objective:
    """Return what fine-tuning is to know of a workspace's kind of task."""
    return task_of(workspace).objective(workspace)


def settled(
    objective: Objective, config: FinetuneConfig, inputs: FinetuneInputs
) -> tuple[FinetuneConfig, FinetuneInputs]:
    """Return the settings with the kind of task's own loss where none is named, and its own way with long proteins.

    Where residues are answered, `balanced` would leave some out: then it is `window`, as it is where they are embedded.

    Raises
    ------
    UsageError
        If a setting is not for this kind of task, or two do not fit together.
    """
    if inputs.adapters_only and config.method != "lora":
        raise UsageError(f"--adapters-only is for --method lora, not for {config.method}")
    given, defaults = _options(config, inputs), _options(FinetuneConfig(), FinetuneInputs())
    for name, line in objective.refused.items():
        if given[name] != defaults[name]:
            raise UsageError(line)
    loss = config.loss or objective.losses[0]
    if loss not in objective.losses:
        choices = ", ".join(objective.losses)
        raise UsageError(f"--loss {loss} is not for {objective.labelled}; choose from {choices}")
    if objective.of_residues and inputs.long == str(Balanced()):
        inputs = replace(inputs, long=str(Window()))
    return replace(config, loss=loss), inputs


def check_machine(
    config: FinetuneConfig,
    inputs: FinetuneInputs,
    device: torch.device,
    sharded: bool = False,
    track: str | None = None,
) -> None:
    """Refuse what the machine cannot do, before anything is fetched, embedded or fitted.

    Parameters
    ----------
    config : FinetuneConfig
    inputs : FinetuneInputs
    device : torch.device
        Of training.
    sharded : bool
        Whether processes share the model.
    track : str, optional
        See `esmcls.training.tracking.open_tracker`.

    Raises
    ------
    UsageError
        If the device, or a model in parts, cannot have the optimiser or the precision, or strategy and pooling do not
        fit together.
    MissingExtraError
        If a package is not installed.
    UnknownNameError
        If there is no such optimiser, tracker, precision or strategy.
    """
    check_pooling(config.pooling, parse_long(inputs.long))
    precision = training_precision(inputs.precision, device)
    check_optimizer(config.optimizer, device)
    if track is not None:
        check_tracker(track)
    if sharded and (precision == "fp16" or config.optimizer != "adamw"):
        raise UsageError("a model in parts is trained in bf16 or fp32 and by adamw: change --precision or --optimizer")


def _options(config: FinetuneConfig, inputs: FinetuneInputs) -> dict[str, object]:
    """Return all that can be asked for, by the name of the option."""
    shares = {"hold_out_families": inputs.shares.families, "calibration": inputs.shares.calibration}
    return vars(config) | vars(inputs) | shares


def save_tuned(
    task: AnyTask,
    folder: Path,
    head: FinalHead,
    manifest: Manifest,
    rows: Rows,
    shares: Shares,
    features: Callable[[Dataset], Features],
    supervision: Supervision,
    encoder: Callable[[Path], object],
) -> Manifest:
    """Measure the final head on the held rows and write the model folder; return its manifest.

    Parameters
    ----------
    task : Task
    folder : Path
    head : FinalHead
    manifest : Manifest
        But for what validation says.
    rows : Rows
    shares : Shares
        By which some were set aside.
    features : callable
        From rows to their vectors by the tuned encoder.
    supervision : Supervision
        Of the rows.
    encoder : callable
        Writes the tuned encoder into a folder.
    """
    findings = task.unvalidated(manifest.classes)
    if len(rows.held):
        scores, findings = task.validate(head, features(rows.held), supervision.held)
        manifest = replace(manifest, validation=scores)
    findings = task.measure_set_aside(head, findings, rows.apart, shares, features)
    manifest = replace(manifest, **Manifest.flags(task.kind))
    save_model(folder, head, manifest, task=task, findings=findings, encoder=encoder)
    return manifest
