"""Who takes part in a comparison: heads on the caches of encoders, on the split or on each fold of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import NOTHING, Shares
from esmcls.datasets.split import folds_of, stratified
from esmcls.encoders.windows import parse_long
from esmcls.errors import EsmclsError, UsageError
from esmcls.files import sha256_file
from esmcls.heads.registry import list_heads, reads_residues, reads_vectors, runs_unasked, searches_sequences
from esmcls.heads.settings import parse_settings
from esmcls.models.combine import ENSEMBLE
from esmcls.tasks.comparing import Setting
from esmcls.tasks.fitted import AnyHead
from esmcls.tasks.task import AnyTask
from esmcls.workspace.embed_in_workspace import EmbeddingRecipe
from esmcls.workspace.intake import Intake
from esmcls.workspace.workspace import CacheEntry, Workspace

Say = Callable[[str], None]
Embed = Callable[[Workspace, Intake, EmbeddingRecipe], object]


@dataclass(frozen=True)
class ComparisonPlan:
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
        What to set aside; families are taken away for good, whatever `folds` they have: their test proteins are
        strangers to all models of the comparison.
    coverage : float
        Of sets, where calibration rows are set aside.
    folds : int
        Of a cross-validation on the train and validation parts; 0 to measure on the test part.
    refit : bool, optional
        As in `fit_head`.
    baselines : bool
        Whether what is only there to be beaten stands beside: `kmer` and the majority class; of terms `naive`; of
        numbers `kmer` and the mean.
    seed : int
    draws : int, optional
        Of the paired bootstrap of terms.
    name : str
        Of the comparison, and what its models are called by; default the next number, and its models by their heads.
    replace : bool
        Whether to replace a comparison and models of these names that other settings made.
    ia : str or Path, optional
        Terms: table of information accretion; default it is counted on what is trained on.
    date : str
        Of the report, YYYY-MM-DD; default that of the data set's files.
    known : tuple of str or Path
        Terms: GAFs or tables of what was known of the proteins; targets are measured apart by it, too.
    evidence : tuple of str
        Codes that count in them; default those of experiments.
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
    draws: int | None = None
    name: str = ""
    replace: bool = False
    ia: str | Path | None = None
    date: str = ""
    known: tuple[str | Path, ...] = ()
    evidence: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", self.shares.taking_away())

    @property
    def setting(self) -> Setting:
        """How it measures."""
        return Setting(self.shares, self.coverage, self.seed, self.draws, self.ia, self.known, self.evidence)

    def deciding(self) -> dict[str, Any]:
        """Return what of the setting decides what a model answers, for keys; files are known by their digests."""
        values = asdict(replace(self.setting, draws=None, ia=None))
        return {name: value for name, value in values.items() if name not in ("known", "evidence")}

    def of_known(self) -> dict[str, list[str]]:
        """Return what identifies what was known of the proteins, for keys; nothing where it is not told."""
        return {"known": [*(sha256_file(Path(file)) for file in self.known), *self.evidence]} if self.known else {}

    def refits(self, task: AnyTask, workspace: Workspace) -> bool:
        """Return whether validation rows are fitted on in the end, which some kinds of task never do here."""
        if not task.refits_in_comparisons:
            return False
        return bool(self.folds) or (workspace.drawn_validation if self.refit is None else self.refit)


@dataclass(frozen=True)
class PlannedModel:
    """One model to be: a head on the vectors of a cache.

    Parameters
    ----------
    reads_vectors : bool
        Whether the head does; one that reads sequences needs no encoder.
    on_vectors_alone : bool
        Whether it reads no sequence besides.
    """

    name: str
    head: str
    cache: CacheEntry
    reads_vectors: bool = True
    baseline: bool = False
    on_vectors_alone: bool = True

    @property
    def encoder(self) -> str:
        """The encoder's name; none for a head that reads sequences."""
        return self.cache.spec.short_name if self.reads_vectors else ""


def find_caches(
    workspace: Workspace, plan: ComparisonPlan, baseline: str | None, say: Say, embed: Embed
) -> tuple[list[CacheEntry], CacheEntry | None]:
    """Return the cache of each encoder and of the baseline, unless it is one of them; what is missing is embedded."""
    names = plan.encoders or (workspace.latest_cache().spec.encoder,)
    longs: list[str | None] = [str(parse_long(text)) for text in plan.longs] or [None]
    wanted = [(name, long) for name in names for long in longs]
    beside: list[tuple[str, str | None]] = []
    if plan.baselines and baseline is not None and baseline not in names:
        beside.append((baseline, None))
    entries = []
    for name, long in (*wanted, *beside):
        known = workspace.caches_of(name)
        entry = next((cache for cache in reversed(known) if long in (None, cache.spec.long)), None)
        if entry is None or EmbeddingCache.open(entry.folder).missing(workspace.dataset.sequences):
            say(f"embedding with {name}" + (f", {long}" if long and len(longs) > 1 else ""))
            like = known[-1].spec if known else None
            recipe = EmbeddingRecipe(name) if like is None else EmbeddingRecipe(like.encoder, like.layers, like.long)
            recipe = recipe if long is None else replace(recipe, long=long)
            embed(workspace, Intake(workspace.dataset), recipe)
            entry = workspace.caches[-1]
        entries.append(entry)
    workspace.cache_for(entries[0].spec)  # a baseline is not to become what `fit` takes by default
    return entries[: len(wanted)], entries[-1] if beside else None


def plan_models(
    plan: ComparisonPlan, task: AnyTask, caches: Sequence[CacheEntry], baseline: CacheEntry | None, say: Say
) -> tuple[list[PlannedModel], list[dict[str, str]]]:
    """Say which models there are to be; heads that cannot be loaded are told with the reason.

    Of the heads that nobody named, those that read residues are for vectors that are of residues, and those that take
    long, or an extra, are left out.
    """
    beside = task.beside() if plan.baselines else ()
    heads = dict.fromkeys((*(plan.heads or list_heads(task.group)), *beside))
    models = list[PlannedModel]()
    not_run = list[dict[str, str]]()
    planned = set[str]()
    for number, entry in enumerate(caches):
        for head in [name for name in heads if name != ENSEMBLE]:
            name = head if not number else f"{head}-{_told_apart(entry, caches)}"
            try:
                head_class = task.head_class(head)
                if head not in plan.heads and (reason := _not_unasked(head_class, entry)):
                    say(f"{name}: left out, since {reason}")
                    continue
                vectors = reads_vectors(head_class)
                if vectors or head not in planned:
                    config = parse_settings(head_class.Config, plan.settings.get(head, {}))
                    alone = vectors and not searches_sequences(config)
                    models.append(PlannedModel(name, head, entry, vectors, head in task.baseline_heads, alone))
                planned.add(head)
            except UsageError:
                raise  # a name that nothing has is a slip of the user's, not a head that cannot run here
            except EsmclsError as error:
                not_run.append({"name": name, "reason": str(error)})
    if baseline is not None:
        head = task.default_head
        models.append(PlannedModel(f"{head}-{baseline.spec.short_name}", head, baseline, baseline=True))
    return models, not_run


def _not_unasked(head_class: type[AnyHead], entry: CacheEntry) -> str:
    """Return why a head is not run on a cache's vectors unless it is named; nothing where it is."""
    if reads_residues(head_class) and not entry.spec.of_residues:
        return f"{entry.spec.short_name} vectors are not made of those of residues"
    return "it takes long; name it in --heads" if not runs_unasked(head_class) else ""


def _told_apart(entry: CacheEntry, caches: Sequence[CacheEntry]) -> str:
    """Return what a cache is called in the names of models: by what the first one has otherwise."""
    spec, first = entry.spec, caches[0].spec
    several = len({cache.spec.long for cache in caches if cache.spec.short_name == spec.short_name}) > 1
    parts = [spec.short_name] if spec.short_name != first.short_name or not several else []
    return "-".join([*parts, *([spec.long.replace(":", "-")] if several else [])])


def variants(dataset: Dataset, plan: ComparisonPlan, task: AnyTask) -> Iterator[tuple[int | None, Dataset]]:
    """Give the data set, or one for each fold: that fold as its test part, a tenth of the others as validation."""
    if not plan.folds:
        yield None, dataset
        return
    rows = [row for row, part in enumerate(dataset.parts) if part != "test"]
    whole = dataset.take(rows)
    fold_of = folds_of(whole.sequences, task.strata(whole), plan.folds, plan.seed)
    for number in range(plan.folds):
        rest = [row for row, fold in enumerate(fold_of) if fold != number]
        train = whole.take(rest)
        drawn = stratified(train.sequences, task.strata(train), (0.9, 0.1, 0.0), plan.seed)
        parts = ["test"] * len(whole)
        for row, part in zip(rest, drawn, strict=True):
            parts[row] = part
        yield number, replace(whole, parts=parts)


def ensembles_of(models: Sequence[PlannedModel], plan: ComparisonPlan) -> Iterator[tuple[str, list[PlannedModel]]]:
    """Give the ensemble of all models, and where some read sequences, that of the others; baselines are in none."""
    if plan.heads and ENSEMBLE not in plan.heads:
        return
    members = [model for model in models if not model.baseline]
    on_vectors = [model for model in members if model.on_vectors_alone]
    if len(members) > 1:
        yield ENSEMBLE, members
    if 1 < len(on_vectors) < len(members):
        yield f"{ENSEMBLE}-embeddings", on_vectors


def no_ensemble(models: Sequence[PlannedModel], plan: ComparisonPlan) -> str:
    """Return why there is no ensemble of fitted models, though one was asked for; nothing where there is one."""
    members = [model.name for model in models if not model.baseline]
    if len(members) > 1 or (plan.heads and ENSEMBLE not in plan.heads):
        return ""
    return f"combines two models or more, and {members[0] if members else 'none'} alone was fitted"
