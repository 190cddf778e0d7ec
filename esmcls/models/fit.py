"""From a data set and a cache to a fitted head, what is known of it, and its manifest: for every kind of task.

set aside ─▶ fit on train, choose on validation ─▶ validate ─▶ ask heads without a fold of the families of strangers
          ─▶ refit on both parts and all families ─▶ measure on what was set aside
"""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic

from esmcls.cache.features import Features
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import NOTHING, Shares, StrangerFold, set_aside, stranger_folds
from esmcls.errors import UsageError, WorkspaceError
from esmcls.heads.contract import KeepsCheckpoints, Log
from esmcls.heads.settings import parse_settings
from esmcls.labels.kinds import classes_in_words
from esmcls.models.folder import load_model, refuse_foreign, save_model
from esmcls.models.manifest import Manifest
from esmcls.models.model import Model
from esmcls.models.recipe import ASKED, EXPLANATION, asked
from esmcls.reporting.phrases import scores_in_words
from esmcls.tasks.comparing import A
from esmcls.tasks.fitted import AnyHead, ClassLabels, F, Findings, GetFeatures, H, L, explanation_of
from esmcls.tasks.kinds import task_of
from esmcls.tasks.task import AnyTask, Task
from esmcls.workspace.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Fit(Generic[H, F]):
    """A fitted head with all that goes into its model folder."""

    task: AnyTask
    head: H
    manifest: Manifest
    findings: F

    def save(self, folder: str | Path) -> Path:
        """Write the model folder."""
        return save_model(folder, self.head, self.manifest, task=self.task, findings=self.findings)


def fit_dataset(
    task: Task[H, L, F, A],
    dataset: Dataset,
    cache: EmbeddingCache,
    head: str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    pooling: str | None = None,
    shares: Shares = NOTHING,
    refit: bool = False,
    log: Log | None = None,
    checkpoints: Path | None = None,
) -> Fit[H, F]:
    """Fit a head on the train part and validate it on the validation part; the test part is never looked at.

    Parameters
    ----------
    task : Task
    dataset : Dataset
    cache : EmbeddingCache
        Holds the vectors of both parts.
    head : str, optional
        Registered name; default that of the kind of task, `linear` or for numbers `ridge`.
    settings : mapping, optional
        Knobs of the head, as values or as text.
    pooling : str, optional
        Default the head's, else the cache's first.
    shares : Shares
        What to set aside first, for sets of stated coverage, and the families that are held out, for rejection: by
        default in folds, so that the model knows all of them in the end.
    refit : bool
        Fit the rows of both parts in the end, with what was chosen on the validation part.
    log : callable, optional
        Told each training step or choice.
    checkpoints : Path, optional
        Folder for those of a head whose training takes long; a fit that was interrupted goes on from there.

    Returns
    -------
    Fit
        Without a validation part the manifest's scores are those on the rows that the head held out itself.

    Raises
    ------
    WorkspaceError
        If the dataset has no train part.
    UsageError
        If the cache lacks the pooling, the kind of task sets nothing aside, or too little is there to do so.
    """
    check_shares(task, shares)
    head = head or task.default_head
    apart = set_aside(dataset, shares, seed)
    train, validation = apart.kept.part("train"), apart.kept.part("validation")
    if not len(train):
        raise WorkspaceError("dataset", "has no train part", "embed a labelled data set: esmcls embed INPUT")
    head_class = task.head_class(head)
    config = parse_settings(head_class.Config, with_pooling(head_class, settings or {}, pooling, cache.spec.poolings))
    fitted, features = head_class(config, device), partial(Features.from_cache, cache)
    if isinstance(fitted, KeepsCheckpoints):
        fitted.checkpoints = checkpoints
    folds = stranger_folds(apart.kept, shares, seed) if shares.families and shares.folds else []
    labels, scores, findings = _fit_on_parts(task, fitted, train, validation, features, seed, log)
    findings = _ask_strangers(task, fitted, findings, folds, features, seed)
    refitted = refit and len(validation) > 0
    if refitted:
        both = apart.kept.take([row for row, part in enumerate(apart.kept.parts) if part != "test"])
        before, labels = labels.classes, task.labels(both)
        task.refit_head(fitted, features(both), labels, seed, log)
        findings = findings.recoded(before, labels.classes)
    setup = task.setup(shares) | {"refit": refitted, ASKED: asked(task, config)} | explained(fitted)
    manifest = describe(head, fitted, labels, scores, dataset, cache, seed, setup, task.kind)
    findings = task.measure_set_aside(fitted, findings, apart, shares, features)
    return Fit(task, fitted, manifest, findings)


def _fit_on_parts(
    task: Task[H, L, F, A],
    head: H,
    train: Dataset,
    validation: Dataset,
    features: GetFeatures,
    seed: int,
    log: Log | None,
) -> tuple[L, dict[str, float], F]:
    """Fit a head on one part and validate it on the other, which may be empty; return labels, scores and findings."""
    labels = task.labels(train)
    if not len(validation):
        task.fit_head(head, features(train), labels, None, seed, log)
        return labels, dict(head.scores), task.unvalidated(labels.classes)
    held = features(validation), task.labels(validation, labels.classes)
    task.fit_head(head, features(train), labels, held, seed, log)
    return labels, *task.validate(head, *held)


def _ask_strangers(
    task: Task[H, L, F, A], head: H, findings: F, folds: Sequence[StrangerFold], features: GetFeatures, seed: int
) -> F:
    """Add to findings what heads say of families that were held out of them, where any are to be, in folds."""
    if not folds:
        return findings

    def fit_again(part: Dataset) -> H:
        again = copy.copy(head)  # with all that it chose
        task.refit_head(again, features(part), task.labels(part), seed, None)
        return again

    return task.ask_strangers(findings, head.classes, folds, fit_again, features)


def explained(head: AnyHead) -> dict[str, str]:
    """Return what a manifest's setup keeps of what a head says of itself; nothing where it says nothing."""
    explanation = explanation_of(head)
    return {EXPLANATION: explanation} if explanation else {}


def check_shares(task: AnyTask, shares: Shares) -> None:
    """Refuse to set rows aside for a kind of task that has no use for them.

    Raises
    ------
    UsageError
        If there are any.
    """
    options = {"--hold-out-families": shares.families, "--calibration": shares.calibration}
    task.refuse(options, "a data set")


def with_pooling(
    head: type[AnyHead], settings: Mapping[str, Any], pooling: str | None, stored: tuple[str, ...]
) -> dict[str, Any]:
    """Add the pooling to the settings of a head that has that knob; check that the cache holds it."""
    knobs = {field.name: field.default for field in dataclasses.fields(head.Config)}
    wanted = pooling or settings.get("pooling", knobs.get("pooling"))
    if wanted is not None and wanted not in stored:
        raise UsageError(f"the cache holds no {wanted} vectors, but {', '.join(stored)}; embed with --pool {wanted}")
    return {**settings, "pooling": wanted} if "pooling" in knobs else dict(settings)


def describe(
    name: str,
    head: AnyHead,
    labels: ClassLabels,
    scores: dict[str, float],
    dataset: Dataset,
    cache: EmbeddingCache,
    seed: int,
    setup: dict[str, Any],
    kind: str,
) -> Manifest:
    """Return the manifest of a fitted head: `labels` are what it was fitted on last, `scores` what it reached."""
    return Manifest(
        head=name,
        config=asdict(head.chosen),
        classes=labels.classes,
        class_counts=tuple(labels.counts().tolist()),
        spec=cache.spec,
        pooling=getattr(head.chosen, "pooling", cache.spec.poolings[0]),
        dataset_digest=dataset.digest(),
        split_digest=dataset.split_digest(),
        seed=seed,
        validation=scores,
        n_train=len(labels),
        setup=setup,
        **Manifest.flags(kind),
    )


@dataclass(frozen=True)
class Fitted:
    """A model that was fitted in a workspace; as text, what to tell its user."""

    folder: Path
    manifest: Manifest
    findings: Findings
    explanation: str = ""

    @classmethod
    def of(cls, fit: Fit[Any, Any], folder: Path) -> Fitted:
        """Save a fit as a model folder."""
        return cls(fit.save(folder), fit.manifest, fit.findings, explanation_of(fit.head))

    def __str__(self) -> str:
        reached = scores_in_words(self.manifest.validation)
        classes = classes_in_words(self.manifest.kind, len(self.manifest.classes))
        size = f"{classes}, {self.manifest.n_train:,} sequences"
        return f"{self.folder}: {self.manifest.head}, {size}; on validation: {reached}"

    def load(self, device: str = "cpu") -> Model:
        """Open the model."""
        return load_model(self.folder, device)

    def lines(self) -> list[str]:
        """Return what the head says of itself, and what was measured of it, one line each."""
        return [*([self.explanation] if self.explanation else []), *self.findings.lines()]


def fit(
    workspace: Workspace | str | Path,
    head: str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    encoder: str | None = None,
    refit: bool | None = None,
    **options: Any,
) -> Fitted:
    """Fit a head on a workspace's dataset and latest cache, or that of an encoder, and save it as models/<name>/.

    Parameters
    ----------
    workspace : Workspace, str or Path
        Of any kind of task: the head is one of its heads.
    head, settings
        As in `fit_dataset`.
    name : str, optional
        Of the model; default that of the head.
    encoder : str, optional
        Whose cache to take.
    refit : bool, optional
        Fit validation rows in the end; by default where esmcls drew them from train, not where they were given.
    **options
        seed, device, pooling, shares and log of `fit_dataset`.

    Returns
    -------
    Fitted
        With `folder` and `manifest`; `load` gives the model.

    Raises
    ------
    WorkspaceError
        If the workspace lacks a dataset or the cache.
    UsageError
        If something is asked for that this kind of task cannot have.
    """
    workspace = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
    task = task_of(workspace)
    head = head or task.default_head
    folder = workspace.model_folder(name or head)
    refuse_foreign(folder)
    cache = workspace.latest_cache() if encoder is None else workspace.cache_of_encoder(encoder)
    again = workspace.drawn_validation if refit is None else refit
    checkpoints = workspace.folder / "reports" / "fit" / folder.name
    fitted = fit_dataset(
        task, workspace.dataset, cache, head, settings, refit=again, checkpoints=checkpoints, **options
    )
    saved = Fitted.of(fitted, folder)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return saved


fit_head = fit
"""The name of `fit` in 0.1.0."""
