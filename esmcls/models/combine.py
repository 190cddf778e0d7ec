"""Fitted models of one workspace into one: an ensemble, weighed by what each said of validation rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from esmcls.cache.features import Features
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import Shares, set_aside
from esmcls.errors import ModelError, UsageError, WorkspaceError
from esmcls.heads.ensemble.ensemble import EnsembleHead
from esmcls.heads.ensemble.members import Member, Ranked
from esmcls.heads.registry import load_head, parse_settings, reads_vectors
from esmcls.labels.labels import Labels
from esmcls.models.fit import Fit, Fitted, measure_doubts
from esmcls.models.folder import HELD, load_model
from esmcls.models.manifest import Manifest
from esmcls.models.model import Model
from esmcls.tasks.one_label.confidence import Floats, Score, log_probability
from esmcls.tasks.one_label.validation_answers import Held
from esmcls.workspace.workspace import Workspace

ENSEMBLE: Final = "ensemble"


def combine(
    models: Sequence[Model],
    dataset: Dataset,
    features: Callable[[Dataset], Features],
    settings: Mapping[str, Any] | None = None,
) -> Fit:
    """Combine fitted models; none is fitted again.

    Parameters
    ----------
    models : sequence of Model
        Fitted on one split, with the same rows set aside.
    dataset : Dataset
        Theirs.
    features : callable
        From rows of it to their vectors, of all the models' encoders.
    settings : mapping, optional
        Knobs of the ensemble.

    Raises
    ------
    UsageError
        If there are fewer than two models, or they were fitted on different rows or classes.
    ModelError
        If one was fitted without a validation part, so that nothing tells its worth.
    """
    if len(models) < 2:
        raise UsageError("an ensemble takes two models or more; name each with --of")
    first = models[0].manifest
    for model in models[1:]:
        _check_alike(models[0], model)
    held = [_held(model) for model in models]
    if len({one.digest for one in held}) > 1:
        raise UsageError("the models were validated on different rows; fit them again on one split")
    members = [_member(model, one) for model, one in zip(models, held, strict=True)]
    config = parse_settings(EnsembleHead.Config, settings or {})
    head = EnsembleHead.of(members, Labels(first.classes, held[0].truth), config)
    shares = Shares(*(first.setup[name] for name in ("families", "calibration", "false_acceptance")))
    apart = set_aside(dataset, shares, first.seed)
    familiar = [one.scale.standardised(rows.familiarity) for one, rows in zip(head.members, held, strict=True)]
    known: dict[Score, Floats] = {
        "familiarity": np.mean(familiar, axis=0),
        "probability": log_probability(head.held_probability),
    }
    specs = dict.fromkeys(spec for model in models if reads_vectors(model.head) for spec in model.manifest.specs)
    manifest = replace(
        first,
        head=ENSEMBLE,
        config=asdict(head.chosen),
        spec=next(iter(specs), first.spec),
        others=tuple(specs)[1:],
        validation={**head.scores, "n": len(held[0].truth)},
        files={},
    )
    return Fit(head, manifest, measure_doubts(head, apart, shares, features, known))


def _member(model: Model, held: Held) -> Member:
    ranked = Ranked(held.codes, held.probabilities, held.familiarity)
    return Member(model.folder.name, model.manifest.head, model.head, model.manifest.spec, ranked)


def _check_alike(one: Model, other: Model) -> None:
    """Refuse models that cannot be compared row by row."""
    for what, facts in (
        ("the split", [(m.manifest.dataset_digest, m.manifest.split_digest) for m in (one, other)]),
        ("what was set aside", [(m.manifest.setup, _drawn_by(m.manifest)) for m in (one, other)]),
        ("the classes", [m.manifest.classes for m in (one, other)]),
    ):
        if facts[0] != facts[1]:
            names = f"{one.folder.name} and {other.folder.name}"
            raise UsageError(f"models {names} differ in {what}; fit them again with the same options")


def _drawn_by(manifest: Manifest) -> int | None:
    """Return the seed, where it decided what was set aside."""
    return manifest.seed if manifest.setup.get("families") or manifest.setup.get("calibration") else None


def _held(model: Model) -> Held:
    path = model.folder / HELD
    if not path.is_file():
        found = "was fitted without a validation part, or by an older esmcls: nothing tells how much to trust it"
        raise ModelError(model.folder, found, "fit it again on a dataset with a validation part")
    return Held.load(path)


def features_of(folders: Sequence[Path], part: Dataset) -> Features:
    """Return the vectors of rows from several caches: those of the first, with the others beside."""
    found = [Features.from_cache(EmbeddingCache.open(folder), part) for folder in dict.fromkeys(folders)]
    return replace(found[0], others=tuple(found[1:]))


def combine_in_workspace(
    workspace: Workspace,
    names: Sequence[str],
    name: str,
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Fitted:
    """Combine models of a workspace, by name or folder, and save the ensemble as models/<name>/.

    Raises
    ------
    WorkspaceError
        If the cache of a model's encoder is not there.
    UsageError, ModelError
        As `combine`.
    """
    load_head(ENSEMBLE)
    models = [load_model(workspace.find_model(one), device) for one in names]
    folders = {entry.spec: entry.folder for entry in workspace.caches}
    missing = [model for model in models if reads_vectors(model.head) and model.manifest.spec not in folders]
    if missing:
        found = f"holds no vectors for model {missing[0].folder.name} (encoder {missing[0].manifest.spec.encoder})"
        raise WorkspaceError(workspace.folder, found, "run: esmcls embed with the options of that cache")
    used = [folders.get(model.manifest.spec) for model in models]
    there = [folder for folder in used if folder is not None] or [workspace.caches[-1].folder]
    fit = combine(models, workspace.dataset, lambda part: features_of(there, part), settings)
    return Fitted(fit.save(workspace.model_folder(name)), fit.manifest, fit.confidence)
