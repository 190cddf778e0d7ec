"""Embed with layers that are chosen: all are pooled in one pass, compared on validation, and the rest is dropped.

    all layers, one cache  →  compared, the report written  →  the chosen layers' cache  →  all layers dropped
                                                                (the same numbers)          (or kept)

Whoever is interrupted goes on where it was: caches resume by content, the report says what was chosen once it is there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from esmcls.cache.spec import IMPORTED, EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.cache.to_embed import EmbedReport
from esmcls.datasets.dataset import Dataset
from esmcls.encoders.encoder import every_layer
from esmcls.errors import UsageError, WorkspaceError
from esmcls.layer_choice.choice import LayerChoice, Layers, choose, compare_layers
from esmcls.layer_choice.report import PAGE, read_choice, read_choices, report_folder, write_choice
from esmcls.layer_choice.scores import LayerScores, of_layers
from esmcls.reporting.phrases import length_of_time
from esmcls.tasks.kinds import task_of
from esmcls.workspace.embed_in_workspace import (
    EmbeddingRecipe,
    Progress,
    embed_in_workspace,
    encoder_of,
    keep_dataset,
)
from esmcls.workspace.intake import Intake
from esmcls.workspace.workspace import CacheEntry, Workspace


@dataclass(frozen=True)
class Chosen:
    """Layers that were chosen in a workspace.

    Parameters
    ----------
    choice : LayerChoice
    page : Path
        Of its report.
    seconds : float
        That comparing took; 0 where an earlier choice was taken.
    report : EmbedReport
        Of the embedding, where there was one.
    """

    choice: LayerChoice
    page: Path
    seconds: float
    report: EmbedReport = field(default_factory=EmbedReport)

    @property
    def layers(self) -> Layers:
        """The layers."""
        return self.choice.layers

    def lines(self) -> list[str]:
        """Say what was chosen, of what, and where it can be looked at."""
        took = f"compared in {length_of_time(self.seconds)}" if self.seconds else "as compared before"
        return [*self.choice.lines(), f"{took}: {self.page}"]


def embed_choosing_layers(
    workspace: Workspace,
    intake: Intake,
    recipe: EmbeddingRecipe,
    *,
    keep_all: bool = False,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> Chosen:
    """Embed an intake with the layers that its labels choose.

    What was chosen before for this data set stays, also for sequences without labels.

    Parameters
    ----------
    workspace : Workspace
    intake : Intake
        Labelled, unless layers were chosen here before.
    recipe : EmbeddingRecipe
        Its layers are of no account.
    keep_all : bool
        Whether the vectors of all layers stay, in a cache of their own.
    device : str
    seed : int
        Of what is drawn of a large set for comparing.
    progress : callable, optional
        See `embed_in_workspace`.

    Raises
    ------
    UsageError
        If the encoder has no layers to choose from, or a pooling looks at several at once.
    WorkspaceError
        If there are no labels, or no validation part.
    """
    default, whole, spec = whole_recipe(workspace, recipe, device)
    check_labelled(workspace, intake, spec)
    keep_dataset(workspace, intake)
    known = read_choice(workspace, spec)
    report = None
    if known is None or keep_all:
        report = embed_in_workspace(workspace, intake, whole, device=device, progress=progress, passing=not keep_all)
    folder = report_folder(workspace, spec)
    chosen = Chosen(known, folder / PAGE, 0.0) if known is not None else None
    if chosen is None:
        with EmbeddingCache.open(workspace.folder / "cache" / spec.key()) as cache:
            chosen = _choose(workspace, cache, default, device.split(",")[0], seed)
    taken = _embed_chosen(workspace, intake, whole, spec, chosen, report, device, progress)
    if not keep_all:
        workspace.drop_passing(spec)
    return replace(chosen, report=taken)


def _embed_chosen(
    workspace: Workspace,
    intake: Intake,
    whole: EmbeddingRecipe,
    spec: EmbeddingSpec,
    chosen: Chosen,
    report: EmbedReport | None,
    device: str,
    progress: Progress | None,
) -> EmbedReport:
    """Fill the cache of the chosen layers from that of all, and embed what neither has."""
    if report is None:
        return embed_in_workspace(
            workspace, intake, replace(whole, layers=chosen.layers), device=device, progress=progress
        )
    with workspace.cache_for(of_layers(spec, chosen.layers)) as cache:
        workspace.take_layers(cache)
    return report


def whole_recipe(
    workspace: Workspace | None, recipe: EmbeddingRecipe, device: str = "cpu"
) -> tuple[Layers, EmbeddingRecipe, EmbeddingSpec]:
    """Return the encoder's own layers, and the recipe and spec of all.

    Raises
    ------
    UsageError
        If there are none to choose from, or a pooling looks at several at once.
    """
    if "attention" in recipe.poolings:
        raise UsageError("--pool attention belongs to the layers it was trained on; choose mean, cls or max, or them")
    encoder, spec = replace(recipe, layers=None).open(workspace, device.split(",")[0])
    layers = every_layer(encoder)
    whole = replace(recipe, layers=layers, precision=spec.precision)
    return spec.layers, whole, of_layers(spec, layers)


def check_labelled(workspace: Workspace, intake: Intake, spec: EmbeddingSpec) -> None:
    """Refuse sequences without labels, unless layers were chosen for the workspace's data set before.

    Raises
    ------
    WorkspaceError
        If there is nothing to choose by.
    """
    fix = "embed a labelled set first, or name the layers"
    if not isinstance(intake.dataset, Dataset):
        if read_choice(workspace, spec) is None:
            names = ", ".join(intake.unlabelled)
            raise WorkspaceError(names, "no labels, by which layers are chosen", fix)
    elif not len(intake.dataset.part("validation")) or not len(intake.dataset.part("train")):
        problem = "no validation or no train part, by which layers are chosen"
        raise WorkspaceError("data set", problem, "give one (--validation FILE), or name the layers")


def choose_layers(
    workspace: Workspace | str | Path, encoder: str | None = None, *, device: str = "cpu", seed: int = 0
) -> Chosen:
    """Compare the layers of a workspace's cache on its validation part, and write the report; the caches stay.

    Parameters
    ----------
    workspace : Workspace, str or Path
    encoder : str, optional
        Take a cache of this encoder; default that of the cache used last.
    device : str
    seed : int
        Of what is drawn of a large set.

    Returns
    -------
    Chosen
        Its `layers` may be given to `embed_dataset`, which takes their vectors from that cache.

    Raises
    ------
    WorkspaceError
        If no cache has more than one layer, or there is no labelled validation part.
    """
    workspace = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
    entry = widest_cache(workspace, encoder)
    before = [
        Chosen(choice, page, 0.0)
        for choice, page in read_choices(workspace)
        if choice.digest == entry.spec.digest and len(choice.alone) >= len(entry.spec.layers)
    ]
    if before:
        return max(before, key=lambda chosen: len(chosen.choice.alone))
    if len(entry.spec.layers) < 2:
        of = f" of encoder {encoder}" if encoder is not None else ""
        problem = f"no cache{of} holds several layers to choose from"
        raise WorkspaceError(workspace.folder, problem, "run: esmcls embed --layers auto --keep-all-layers")
    with EmbeddingCache.open(entry.folder) as cache:
        return _choose(workspace, cache, _own_layers(entry.spec), device, seed)


def widest_cache(workspace: Workspace, encoder: str | None = None) -> CacheEntry:
    """Return the cache of most layers of an encoder, by default of that of the cache used last; of equals the latest.

    Raises
    ------
    WorkspaceError
        If there is none.
    """
    with workspace.latest_cache() if encoder is None else workspace.cache_of_encoder(encoder) as cache:
        digest = cache.spec.digest
    alike = [entry for entry in workspace.caches if entry.spec.digest == digest]
    return max(reversed(alike), key=lambda entry: len(entry.spec.layers))


def _own_layers(spec: EmbeddingSpec) -> Layers:
    """Return the encoder's own layers, where a cache has them; else its last one."""
    opened = None if spec.encoder == IMPORTED else encoder_of(replace(spec, layers=()))
    layers = opened.layers if opened is not None else ()
    return layers if layers and set(layers) <= set(spec.layers) else spec.layers[-1:]


def _choose(workspace: Workspace, cache: EmbeddingCache, default: Layers, device: str, seed: int) -> Chosen:
    """Compare the layers of a cache, choose, and write the report."""
    started = time.monotonic()
    task = task_of(workspace)
    score = LayerScores(task, workspace.dataset, cache, device=device, seed=seed)
    scored = compare_layers(score, cache.spec.layers, default)
    choice = LayerChoice(
        cache.spec.short_name,
        cache.spec.digest,
        cache.spec.key(),
        workspace.dataset_digest,
        workspace.split_digest,
        task.layer_score,
        len(score),
        default,
        choose(scored, default, lambda layers: score.error(layers, default)),
        scored,
        by=task.layer_head_name,
    )
    page = write_choice(report_folder(workspace, cache.spec), choice)
    return Chosen(choice, page, time.monotonic() - started)
