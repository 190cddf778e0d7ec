"""From a dataset and a cache to a fitted head and its manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from esmcls.cache.features import Features
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import NOTHING, SetAside, Shares, set_aside
from esmcls.errors import UsageError, WorkspaceError
from esmcls.heads.registry import Head, Log, load_head, parse_settings
from esmcls.heads.term_heads import TermHead
from esmcls.labels.labels import Labels, LabelSets
from esmcls.models.folder import save_model
from esmcls.models.manifest import Manifest
from esmcls.tasks.one_label.confidence import Confidence, Floats, Score, log_probability, reject, true_probabilities
from esmcls.tasks.one_label.validation_answers import Held
from esmcls.workspace.workspace import Workspace


class Fit(NamedTuple):
    """What fitting gives."""

    head: Head
    manifest: Manifest
    confidence: Confidence | None = None
    held: Held | None = None

    def save(self, folder: str | Path) -> Path:
        """Write the model folder."""
        return save_model(folder, self.head, self.manifest, confidence=self.confidence, held=self.held)


def fit_dataset(
    dataset: Dataset,
    cache: EmbeddingCache,
    head: str = "linear",
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    pooling: str | None = None,
    shares: Shares = NOTHING,
    refit: bool = False,
    log: Log | None = None,
) -> Fit:
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
    shares : Shares
        What to set aside first, for sets of stated coverage and for rejection.
    refit : bool
        Fit the rows of both parts in the end, with what was chosen on the validation part.
    log : callable, optional
        Told each training step or choice.

    Returns
    -------
    Fit
        Without a validation part the manifest's scores are those on the rows that the head held out itself.

    Raises
    ------
    WorkspaceError
        If the dataset has no train part.
    UsageError
        If the cache lacks the pooling, or too little is there to set the shares aside.
    """
    apart = set_aside(dataset, shares, seed)
    train, chosen_on = apart.kept.part("train"), apart.kept.part("validation")
    if not len(train):
        raise WorkspaceError("dataset", "has no train part", "embed a labelled data set: esmcls embed INPUT")
    head_class = load_head(head)
    config = parse_settings(head_class.Config, with_pooling(head_class, settings or {}, pooling, cache.spec.poolings))
    fitted, labels = head_class(config, device), Labels.from_names(train.labels)
    validation: tuple[Features, Labels] | None = None
    if len(chosen_on):
        validation = Features.from_cache(cache, chosen_on), Labels.from_names(chosen_on.labels, labels.classes)
    fitted.fit(Features.from_cache(cache, train), labels, validation, seed, log)
    held, scores = None, dict(fitted.scores)
    if validation is not None:
        held, scores["n"] = Held.of(fitted, *validation), len(validation[1])
    if refit and held is not None:
        both = apart.kept.take([row for row, part in enumerate(apart.kept.parts) if part != "test"])
        before, labels = labels.classes, Labels.from_names(both.labels)
        fitted.refit(Features.from_cache(cache, both), labels, seed, log)
        held = held.recoded(before, labels.classes)
    about = asdict(shares) | {"refit": refit and held is not None}
    manifest = describe(head, fitted, labels, scores, dataset, cache, seed, about)
    confidence = measure_doubts(fitted, apart, shares, partial(Features.from_cache, cache), known_scores(held))
    return Fit(fitted, manifest, confidence, held)


def known_scores(held: Held | None) -> dict[Score, Floats]:
    """Return both scores of validation rows, (n,) each, as `reject` takes them; nothing where there were none."""
    if held is None:
        return {}
    return {"familiarity": held.familiarity, "probability": log_probability(held.probabilities[:, 0])}


def measure_doubts(
    head: Head,
    apart: SetAside,
    shares: Shares,
    features: Callable[[Dataset], Features],
    known: Mapping[Score, Floats],
) -> Confidence | None:
    """Measure a fitted head on what was set aside for that; None where nothing was.

    Parameters
    ----------
    head : Head
    apart : SetAside
    shares : Shares
        By which it was set aside.
    features : callable
        From rows of the data set to their vectors.
    known : mapping of float arrays, (n,)
        Scores of validation rows, from before the head was fitted on them; see `confidence.reject`.
    """
    rejection, rows = None, apart.calibration
    if shares.families:
        rejection = reject(head, known, features(apart.strangers), features(apart.checks), shares.false_acceptance)
    if not len(rows) and rejection is None:
        return None
    found = true_probabilities(head, features(rows), Labels.from_names(rows.labels, head.classes))
    return Confidence(tuple(found.tolist()), rejection)


def with_pooling(
    head: type[Head] | type[TermHead], settings: Mapping[str, Any], pooling: str | None, stored: tuple[str, ...]
) -> dict[str, Any]:
    """Add the pooling to the settings of a head that has that knob; check that the cache holds it."""
    knobs = {field.name: field.default for field in dataclasses.fields(head.Config)}
    wanted = pooling or settings.get("pooling", knobs.get("pooling"))
    if wanted is not None and wanted not in stored:
        raise UsageError(f"the cache holds no {wanted} vectors, but {', '.join(stored)}; embed with --pool {wanted}")
    return {**settings, "pooling": wanted} if "pooling" in knobs else dict(settings)


def describe(
    name: str,
    head: Head | TermHead,
    labels: Labels | LabelSets,
    scores: dict[str, float],
    dataset: Dataset,
    cache: EmbeddingCache,
    seed: int,
    setup: dict[str, Any],
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
        many=isinstance(labels, LabelSets),
    )


def one_label_only(workspace: Workspace, what: str, instead: str = "leave it out") -> None:
    """Refuse what is not for a workspace of many labels.

    Raises
    ------
    UsageError
        If the workspace is one.
    """
    if workspace.has_terms:
        found = f"{workspace.folder} holds Gene Ontology terms, any number a protein"
        raise UsageError(f"{what} is for one label a protein, but {found}; {instead}")


@dataclass(frozen=True)
class Fitted:
    """A model that was fitted in a workspace; as text, what to tell its user."""

    folder: Path
    manifest: Manifest
    confidence: Confidence | None = None
    explanation: str = ""

    def __str__(self) -> str:
        one = self.manifest
        reached = ", ".join(f"{name} {value:,.4g}" for name, value in one.validation.items())
        size = f"{len(one.classes):,} classes, {one.n_train:,} sequences"
        return f"{self.folder}: {one.head}, {size}; on validation: {reached or 'nothing'}"

    def lines(self) -> list[str]:
        """Return what the head says of itself, and what was measured on what was set aside, one line each."""
        told, doubts = [self.explanation] if self.explanation else [], self.confidence or Confidence()
        if len(doubts.true_probabilities) > 1:
            n, half = len(doubts.true_probabilities), doubts.held_half(0.95)
            told.append(f"{n:,} calibration rows; sets of 95 % from half of them hold {100 * half:.1f} % of the rest")
        if (one := doubts.rejection) is not None:
            told.append(f"{one.strangers:,} proteins of unknown families: {100 * one.wanted:g} % may be accepted")
        if one is not None and one.reached is not None:
            area = "" if one.auroc is None else f", AUROC {one.auroc:.3f}"
            told.append(f"{one.checks:,} of others: {100 * one.reached:.1f} % are accepted{area}")
        return told


def fit_head(
    workspace: Workspace,
    head: str = "linear",
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
    workspace : Workspace
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

    Raises
    ------
    WorkspaceError
        If the workspace lacks a dataset or the cache.
    UsageError
        If it holds Gene Ontology terms; `esmcls.models.term_fitting.fit_terms` fits those.
    """
    one_label_only(workspace, "fit_head", "call fit_terms")
    cache = workspace.latest_cache() if encoder is None else workspace.cache_of_encoder(encoder)
    again = workspace.drawn_validation if refit is None else refit
    fit = fit_dataset(workspace.dataset, cache, head, settings, refit=again, **options)
    explanation = getattr(fit.head, "explanation", "")
    return Fitted(fit.save(workspace.model_folder(name or head)), fit.manifest, fit.confidence, explanation)
