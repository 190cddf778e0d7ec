"""From a dataset and a cache to a fitted head and its manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esmcls.artifact import Manifest, save_model
from esmcls.cache import EmbeddingCache
from esmcls.dataset import Dataset
from esmcls.errors import UsageError, WorkspaceError
from esmcls.features import Features
from esmcls.heads import Head, Log, load_head, parse_settings
from esmcls.heads.common import score
from esmcls.labels import Labels
from esmcls.workspace import Workspace


def fit_dataset(
    dataset: Dataset,
    cache: EmbeddingCache,
    head: str = "linear",
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    pooling: str | None = None,
    log: Log | None = None,
) -> tuple[Head, Manifest]:
    """Fit a head on the train part and validate it on the validation part; the test part is never looked at.

    Parameters
    ----------
    dataset : Dataset
    cache : EmbeddingCache
        Holds the vectors of both parts.
    head : str
        Registered name.
    settings : mapping, optional
        Knobs of the head, as values or as text.
    pooling : str, optional
        The pooled vectors to take; default the head's, else the cache's first.
    log : callable, optional
        Told each training step or choice.

    Returns
    -------
    Head, Manifest
        Without a validation part the manifest's scores are those on the rows that the head held out itself.

    Raises
    ------
    WorkspaceError
        If the dataset has no train part.
    UsageError
        If the cache lacks the pooling.
    """
    train, held = dataset.part("train"), dataset.part("validation")
    if not len(train):
        raise WorkspaceError("dataset", "has no train part", "embed a labelled data set: esmcls embed INPUT")
    head_class = load_head(head)
    config = parse_settings(head_class.Config, _with_pooling(head_class, settings or {}, pooling, cache.spec.poolings))
    fitted, labels = head_class(config, device), Labels.from_names(train.labels)
    validation: tuple[Features, Labels] | None = None
    if len(held):
        validation = Features.from_cache(cache, held), Labels.from_names(held.labels, labels.classes)
    fitted.fit(Features.from_cache(cache, train), labels, validation, seed, log)
    return fitted, _manifest(head, fitted, labels, validation, dataset, cache, seed)


def _with_pooling(
    head: type[Head], settings: Mapping[str, Any], pooling: str | None, stored: tuple[str, ...]
) -> dict[str, Any]:
    """Add the pooling to the settings of a head that has that knob; check that the cache holds it."""
    knobs = {field.name: field.default for field in dataclasses.fields(head.Config)}
    wanted = pooling or settings.get("pooling", knobs.get("pooling"))
    if wanted is not None and wanted not in stored:
        raise UsageError(f"the cache holds no {wanted} vectors, but {', '.join(stored)}; embed with --pool {wanted}")
    return {**settings, "pooling": wanted} if "pooling" in knobs else dict(settings)


def _manifest(
    name: str,
    head: Head,
    labels: Labels,
    validation: tuple[Features, Labels] | None,
    dataset: Dataset,
    cache: EmbeddingCache,
    seed: int,
) -> Manifest:
    scores = dict(head.scores)
    if validation is not None:
        scores = {**score(validation[1], head.top_k(validation[0], 1)[0][:, 0]), "n": len(validation[1])}
    return Manifest(
        head=name,
        config=dataclasses.asdict(head.chosen),
        classes=labels.classes,
        class_counts=tuple(labels.counts().tolist()),
        spec=cache.spec,
        pooling=getattr(head.chosen, "pooling", cache.spec.poolings[0]),
        dataset_digest=dataset.digest(),
        split_digest=dataset.split_digest(),
        seed=seed,
        validation=scores,
        n_train=len(labels),
    )


@dataclass(frozen=True)
class Fitted:
    """A model that was fitted in a workspace; as text, what to tell its user."""

    folder: Path
    manifest: Manifest

    def __str__(self) -> str:
        one = self.manifest
        reached = ", ".join(f"{name} {value:,.4g}" for name, value in one.validation.items())
        size = f"{len(one.classes):,} classes, {one.n_train:,} sequences"
        return f"{self.folder}: {one.head}, {size}; on validation: {reached or 'nothing'}"


def fit_head(
    workspace: Workspace,
    head: str = "linear",
    settings: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    encoder: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    pooling: str | None = None,
    log: Log | None = None,
) -> Fitted:
    """Fit a head on a workspace's dataset and latest cache, or that of an encoder, and save it as models/<name>/.

    Parameters are those of `fit_dataset`; `name` is by default that of the head.

    Raises
    ------
    WorkspaceError
        If the workspace lacks a dataset or the cache.
    """
    cache = workspace.latest_cache() if encoder is None else workspace.cache_of_encoder(encoder)
    fitted, manifest = fit_dataset(
        workspace.dataset, cache, head, settings, seed=seed, device=device, pooling=pooling, log=log
    )
    return Fitted(save_model(workspace.model_folder(name or head), fitted, manifest), manifest)
