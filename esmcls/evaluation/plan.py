"""Who takes part in a comparison: heads on the caches of encoders, on the split or on each fold of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import NOTHING, Shares
from esmcls.datasets.split import folds_of, stratified
from esmcls.encoders.windows import parse_long
from esmcls.errors import EsmclsError, UsageError
from esmcls.heads.registry import GROUP, list_heads, load_head, reads_vectors
from esmcls.models.combine import ENSEMBLE
from esmcls.workspace.embed_in_workspace import Progress, Recipe, embed_in_workspace
from esmcls.workspace.intake import Intake
from esmcls.workspace.workspace import CacheEntry, Workspace

BASELINE: Final = "kmer"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Terms:
    """What is compared, and how.

    Parameters
    ----------
    heads : tuple of str
        Empty for all that are registered.
    encoders : tuple of str
        Each as it was embedded with, or what `load_encoder` takes; empty for that of the cache used last.
    longs : tuple of str
        Strategies for long sequences, each with vectors of its own of every encoder; empty for that of its last cache.
    models : tuple of str
        Fitted ones of the workspace to stand beside, such as a fine-tuned encoder's.
    settings : dict
        Head -> knob -> value.
    shares : Shares
        What to set aside.
    coverage : float
        Of sets, where calibration rows are set aside.
    folds : int
        Of a cross-validation on the train and validation parts; 0 to measure on the test part.
    refit : bool, optional
        As in `fit_head`.
    baselines : bool
        Whether `kmer` and the majority class stand beside.
    seed : int
    """

    heads: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    longs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    shares: Shares = NOTHING
    coverage: float = 0.95
    folds: int = 0
    refit: bool | None = None
    baselines: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """One model to be: a head on the vectors of a cache."""

    name: str
    head: str
    cache: CacheEntry
    baseline: bool = False
    group: str = GROUP

    @property
    def encoder(self) -> str:
        """The encoder's name; none for a head that reads sequences."""
        return self.cache.spec.short_name if reads_vectors(load_head(self.head, self.group)) else ""


def find_caches(
    workspace: Workspace, terms: Terms, device: str, say: Say, progress: Progress | None
) -> tuple[list[CacheEntry], CacheEntry | None]:
    """Return the cache of each encoder and the baseline's, unless it is one of them; what is missing is embedded."""
    names, found = terms.encoders or (workspace.latest_cache().spec.encoder,), list[CacheEntry]()
    longs: list[str | None] = [str(parse_long(text)) for text in terms.longs] or [None]
    wanted = [(name, long) for name in names for long in longs]
    more: list[tuple[str, str | None]] = [(BASELINE, None)] if terms.baselines and BASELINE not in names else []
    for name, long in (*wanted, *more):
        known = workspace.caches_of(name)
        entry = next((one for one in reversed(known) if long in (None, one.spec.long)), None)
        if entry is None or EmbeddingCache.open(entry.folder).missing(workspace.dataset.sequences):
            say(f"embedding with {name}" + (f", {long}" if long and len(longs) > 1 else ""))
            like = known[-1].spec if known else None
            recipe = Recipe(name) if like is None else Recipe(like.encoder, like.layers, like.long)
            recipe = recipe if long is None else replace(recipe, long=long)
            embed_in_workspace(workspace, Intake(workspace.dataset), recipe, device=device, progress=progress)
            entry = workspace.caches[-1]
        found.append(entry)
    workspace.cache_for(found[0].spec)  # a baseline is not to become what `fit` takes by default
    return found[: len(wanted)], found[-1] if more else None


def plan_models(
    terms: Terms, caches: Sequence[CacheEntry], baseline: CacheEntry | None, group: str = GROUP
) -> tuple[list[Plan], list[dict[str, str]]]:
    """Say which models there are to be; heads of a group that cannot be loaded are told with the reason."""
    plans, not_run, alone = list[Plan](), list[dict[str, str]](), set[str]()
    for number, entry in enumerate(caches):
        for head in [name for name in terms.heads or list_heads(group) if name != ENSEMBLE]:
            name = head if not number else f"{head}-{_told_apart(entry, caches)}"
            try:
                if reads_vectors(load_head(head, group)) or head not in alone:
                    plans.append(Plan(name, head, entry, group=group))
                alone.add(head)
            except UsageError:
                raise  # a name that nothing has is a slip of the user's, not a head that cannot run here
            except EsmclsError as error:
                not_run.append({"name": name, "reason": str(error)})
    if baseline is not None:
        plans.append(Plan(f"linear-{BASELINE}", "linear", baseline, True))
    return plans, not_run


def _told_apart(entry: CacheEntry, caches: Sequence[CacheEntry]) -> str:
    """Return what a cache is called in the names of models: by what the first one has otherwise."""
    own, first = entry.spec, caches[0].spec
    several = len({one.spec.long for one in caches if one.spec.short_name == own.short_name}) > 1
    parts = [own.short_name] if own.short_name != first.short_name or not several else []
    return "-".join([*parts, *([own.long.replace(":", "-")] if several else [])])


def variants(dataset: Dataset, terms: Terms) -> Iterator[tuple[int | None, Dataset]]:
    """Give the data set, or one for each fold: that fold as its test part, a tenth of the others as validation."""
    if not terms.folds:
        yield None, dataset
        return
    rows = [row for row, part in enumerate(dataset.parts) if part != "test"]
    whole = dataset.take(rows)
    fold = folds_of(whole.sequences, whole.labels, terms.folds, terms.seed)
    for number in range(terms.folds):
        rest = [row for row, one in enumerate(fold) if one != number]
        train = whole.take(rest)
        drawn = stratified(train.sequences, train.labels, (0.9, 0.1, 0.0), terms.seed)
        parts = ["test"] * len(whole)
        for row, part in zip(rest, drawn, strict=True):
            parts[row] = part
        yield number, replace(whole, parts=parts)


def ensembles_of(plans: Sequence[Plan], terms: Terms, group: str = GROUP) -> Iterator[tuple[str, list[Plan]]]:
    """Give the ensemble of all models, and where some read no vectors, that of the others; baselines are in none."""
    members = [plan for plan in plans if not plan.baseline]
    vectors = [plan for plan in members if reads_vectors(load_head(plan.head, group))]
    if terms.heads and ENSEMBLE not in terms.heads:
        return
    if len(members) > 1:
        yield ENSEMBLE, members
    if 1 < len(vectors) < len(members):
        yield f"{ENSEMBLE}-embeddings", vectors
