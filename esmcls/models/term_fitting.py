"""From a workspace of Gene Ontology terms to a fitted head, its thresholds and its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from esmcls.cache.features import Features
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.errors import WorkspaceError
from esmcls.heads.registry import Log, load_head, parse_settings
from esmcls.heads.term_heads import GROUP, TermHead
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import fmax_by_group
from esmcls.models.fit import Fitted, describe, with_pooling
from esmcls.models.folder import save_model
from esmcls.models.manifest import Manifest
from esmcls.tasks.go_terms.hierarchy import Terms
from esmcls.tasks.go_terms.thresholds import Counts, Thresholds
from esmcls.types import Probabilities
from esmcls.workspace.workspace import Workspace


class TermFit(NamedTuple):
    """What fitting gives."""

    head: TermHead
    manifest: Manifest
    terms: Terms
    thresholds: Thresholds

    def save(self, folder: str | Path) -> Path:
        """Write the model folder."""
        return save_model(folder, self.head, self.manifest, terms=self.terms, thresholds=self.thresholds)


def fit_term_sets(
    workspace: Workspace,
    cache: EmbeddingCache,
    head: str = "linear",
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    pooling: str | None = None,
    refit: bool = False,
    log: Log | None = None,
) -> TermFit:
    """Fit a head on the train part and validate it on the validation part; the test part is never looked at.

    The classes are the terms of the train part with all that contain them, without the roots.

    Parameters
    ----------
    workspace : Workspace
        Of many labels.
    cache : EmbeddingCache
        Holds the vectors of both parts.
    head, settings, pooling, log
        As in `esmcls.models.fit.fit_dataset`; the head is one of those for terms.
    refit : bool
        Fit the rows of both parts in the end, with what was chosen on the validation part, thresholds among it.

    Returns
    -------
    TermFit
        Its manifest's scores are `fmax`, the mean over aspects, and `fmax_C`, `fmax_F` and `fmax_P`.

    Raises
    ------
    WorkspaceError
        If the workspace is not of many labels, or its dataset has no train part.
    UsageError
        If the cache lacks the pooling.
    """
    dataset, ontology = workspace.dataset, workspace.ontology
    if ontology is None:
        raise WorkspaceError(workspace.folder, "holds no ontology", "embed with the terms' own: esmcls embed --obo")
    train, chosen_on = dataset.part("train"), dataset.part("validation")
    if not len(train):
        raise WorkspaceError("dataset", "has no train part", "embed a labelled data set: esmcls embed INPUT")
    head_class = cast("type[TermHead]", load_head(head, GROUP))
    config = parse_settings(head_class.Config, with_pooling(head_class, settings or {}, pooling, cache.spec.poolings))
    fitted, labels = head_class(config, device), workspace.term_sets(train)
    terms = Terms(ontology, labels.classes)
    validation = _coded(workspace, cache, chosen_on, terms) if len(chosen_on) else None
    fitted.fit(Features.from_cache(cache, train), labels, validation, seed, log)
    scores, thresholds = dict(fitted.scores), Thresholds.unknown(terms.groups)
    if validation is not None:
        scores, thresholds = validate(fitted, terms, *validation)
    if refit and validation is not None:
        both = dataset.take([row for row, part in enumerate(dataset.parts) if part != "test"])
        labels = workspace.term_sets(both)
        fitted.refit(Features.from_cache(cache, both), labels, seed, log)
        terms = Terms(ontology, labels.classes)
        thresholds = thresholds.recoded(validation[1].classes, terms.classes, terms.groups)
    about = {"refit": refit and validation is not None}
    manifest = describe(head, fitted, labels, scores, dataset, cache, seed, about)
    return TermFit(fitted, manifest, terms, thresholds)


def _coded(workspace: Workspace, cache: EmbeddingCache, part: Dataset, terms: Terms) -> tuple[Features, LabelSets]:
    """Return the vectors of a part, and its labels by the classes of train; other terms are left out."""
    names = workspace.term_sets(part).names()
    return Features.from_cache(cache, part), LabelSets.from_names(names, terms.classes, terms.groups)


def validate(head: TermHead, terms: Terms, x: Features, labels: LabelSets) -> tuple[dict[str, float], Thresholds]:
    """Measure a head on rows that it was not fitted on, and choose the thresholds there; the rows are asked once.

    Returns
    -------
    (dict, Thresholds)
        `fmax`, that of each aspect, and n, the number of rows.
    """
    counts = Counts(labels)

    def counted() -> Iterator[tuple[slice, Probabilities]]:
        for rows, scores in terms.blocks(head, x):
            counts.add(rows, scores)
            yield rows, scores

    found = fmax_by_group(labels, counted())
    mean = float(np.mean(list(found.values()))) if found else 0.0
    scores = {"fmax": mean} | {f"fmax_{group}": value for group, value in found.items()}
    return scores | {"n": len(labels)}, counts.choose()


def fit_terms(
    workspace: Workspace,
    head: str = "linear",
    settings: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    encoder: str | None = None,
    refit: bool | None = None,
    **options: Any,
) -> Fitted:
    """Fit a head on a workspace of Gene Ontology terms and save it as models/<name>/.

    Parameters
    ----------
    workspace, name, encoder, refit
        As in `esmcls.models.fit.fit_head`.
    head, settings
        As in `fit_term_sets`.
    **options
        seed, device, pooling and log of `fit_term_sets`.

    Raises
    ------
    WorkspaceError
        If the workspace lacks a dataset of many labels or the cache.
    """
    folder = workspace.model_folder(name or head)
    cache = workspace.latest_cache() if encoder is None else workspace.cache_of_encoder(encoder)
    again = workspace.drawn_validation if refit is None else refit
    fit = fit_term_sets(workspace, cache, head, settings, refit=again, **options)
    told = [getattr(fit.head, "explanation", ""), fit.thresholds.line()]
    return Fitted(fit.save(folder), fit.manifest, None, "\n".join(line for line in told if line))
