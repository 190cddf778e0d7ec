"""The models of a comparison: fitted on one split after another, asked about its test part, kept for the next run.

reports/compare-<name>/answers/<model>.safetensors      what each model said, by the key of what made it
models/<model>/                                         the models; those of folds lie in the former, in folds/<fold>/
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import set_aside
from esmcls.errors import EsmclsError
from esmcls.evaluation.comparison_folder import ComparisonFolder, kept_answers
from esmcls.evaluation.plan import ComparisonPlan, PlannedModel, Say, ensembles_of, no_ensemble
from esmcls.files import MANIFEST, sha256_file
from esmcls.heads.registry import reads_vectors
from esmcls.heads.trees.time_estimate import in_words
from esmcls.models.combine import ENSEMBLE, combine
from esmcls.models.fit import Fit, fit_dataset
from esmcls.models.folder import load_model, read_manifest
from esmcls.models.given_vectors import workspace_of
from esmcls.models.manifest import versions
from esmcls.models.model import Model, cache_with, features_for
from esmcls.models.recipe import EXPLANATION, Recipe, model_digest
from esmcls.tasks.comparing import Answers, Questions
from esmcls.tasks.fitted import explanation_of
from esmcls.tasks.task import AnyTask
from esmcls.workspace.embed_in_workspace import EmbeddingEngine
from esmcls.workspace.manifests import BASELINE
from esmcls.workspace.workspace import CacheEntry, Workspace


@dataclass(frozen=True)
class Contestant:
    """What a model of a comparison is: its head, its encoder if it reads vectors, whether it is there to be beaten."""

    head: str
    encoder: str = ""
    baseline: bool = False


class FittingEngine(Protocol):
    """Fits the models of a comparison in other processes, which keep them as an interrupted run would have."""

    @property
    def embedding(self) -> EmbeddingEngine:
        """Where what is not embedded yet is."""

    def fit(self, arena: Arena, plans: Sequence[PlannedModel]) -> None:
        """Fit and ask all models on all splits; what cannot be fitted is told in `arena.failed`."""


@dataclass(frozen=True)
class Arena:
    """Where the models of one comparison are fitted and asked."""

    workspace: Workspace
    task: AnyTask
    plan: ComparisonPlan
    device: str
    say: Say
    classes: tuple[str, ...]
    place: ComparisonFolder
    contestants: dict[str, Contestant] = field(default_factory=dict)
    """Name of a model -> what it is; baselines that need no fitting are not among them."""
    asked: list[tuple[Dataset, Dataset]] = field(default_factory=list)
    """Of each split, the proteins that models were asked about and those that they were fitted on."""
    failed: dict[str, str] = field(default_factory=dict)
    """Models that another process could not fit, by the name of their answers, with the reason."""

    def bout(self, fold: int | None, dataset: Dataset, not_run: list[dict[str, str]]) -> Bout:
        """Return where the models of one split are fitted and asked."""
        models = self.workspace.folder / "models" if fold is None else self.place.folder / "folds" / str(fold)
        apart = set_aside(dataset, self.plan.shares, self.plan.seed)
        questions = self.task.questions(apart, apart.kept.part("train"), self.classes, self.plan.setting)
        return Bout(self, dataset, apart.kept, models, questions, fold, not_run)

    def round(
        self, fold: int | None, dataset: Dataset, plans: Sequence[PlannedModel], not_run: list[dict[str, str]]
    ) -> dict[str, Answers]:
        """Fit and ask all models on one split; a head that cannot be fitted is told in `not_run`."""
        bout = self.bout(fold, dataset, not_run)
        refits = self.plan.refits(self.task, self.workspace)
        self.asked.append((bout.questions.known, trained_on(bout.kept, refits)))
        for plan in plans:
            bout.add(plan)
        for name in self.plan.models:
            bout.enter(name)
        fitted = [plan for plan in bout.plans if plan.name in bout.answers]
        for name, members in ensembles_of(fitted, self.plan) if self.task.combines else ():
            bout.add_ensemble(name, members)
        if self.task.combines and (reason := no_ensemble(fitted, self.plan)):
            not_run.append({"name": ENSEMBLE, "reason": reason})
        if self.plan.baselines:
            bout.answers.update(bout.questions.without_model(bout.kept.part("train")))
        return bout.answers


@dataclass(frozen=True, eq=False)
class Bout:
    """All models on one split."""

    arena: Arena
    dataset: Dataset
    kept: Dataset
    models: Path
    questions: Questions[Any, Any, Any]
    fold: int | None
    not_run: list[dict[str, str]]
    plans: list[PlannedModel] = field(default_factory=list)
    """Of the models that were added, by the names that they got."""
    answers: dict[str, Answers] = field(default_factory=dict)
    searched: dict[str, Model] = field(default_factory=dict)
    """Models of this run that search sequences: what was found for the test proteins is kept in them."""

    @property
    def suffix(self) -> str:
        """What the names of answers end in."""
        return "" if self.fold is None else f".{self.fold}"

    def add(self, plan: PlannedModel) -> None:
        """Fit and ask one model, or take what an earlier run left of it, if its folder is still what it was then."""
        plan = self.named(plan)
        self.plans.append(plan)
        self.arena.contestants[plan.name] = Contestant(plan.head, plan.encoder, plan.baseline)
        self.make(plan)

    def named(self, plan: PlannedModel) -> PlannedModel:
        """Return a model to be with the name that it gets."""
        alike = partial(self._is_alike, plan.head, (plan.cache.spec,), ())
        name = self._named(plan.name, lambda name: self._key(plan.head, (replace(plan, name=name),), name), alike)
        return replace(plan, name=name)

    def make(self, plan: PlannedModel) -> None:
        """Fit and ask a model that has its name."""
        alike = partial(self._is_alike, plan.head, (plan.cache.spec,), ())
        ask = partial(self._asked, partial(self.fit, plan), plan.name, (plan.cache,), plan.baseline)
        self._add_made(plan.name, ask, self._key(plan.head, (plan,), plan.name), alike)

    def add_ensemble(self, name: str, members: Sequence[PlannedModel]) -> None:
        """Combine and ask models that were fitted, or take what an earlier run left of that."""
        alike = partial(self._is_alike, ENSEMBLE, (), [self.models / member.name for member in members])
        name = self._named(name, lambda name: self._key(ENSEMBLE, members, name), alike)
        self.arena.contestants[name] = Contestant(ENSEMBLE)
        ask = partial(self._asked, partial(self.combine, members), name, [plan.cache for plan in members])
        self._add_made(name, ask, self._key(ENSEMBLE, members, name), alike)

    def _is_alike(self, head: str, specs: tuple[EmbeddingSpec, ...], members: Sequence[Path], folder: Path) -> bool:
        """Return whether a model is there that was made of what one of this comparison is to be made of."""
        if self.fold is not None or not (folder / MANIFEST).is_file():
            return False
        arena = self.arena
        refit = arena.plan.refits(arena.task, arena.workspace) and "validation" in self.dataset.parts
        made_with: dict[str, Any] = {"shares": arena.plan.shares, "refit": refit, "members": members}
        try:
            settings = arena.plan.settings.get(head, {})
            data = self._data[0], self._data[1]
            planned = Recipe.planned(arena.task, head, settings, specs, data, seed=arena.plan.seed, **made_with)
            return Recipe.of(read_manifest(folder)) == planned
        except EsmclsError:  # told where it is fitted
            return False

    def _add_made(self, name: str, ask: Callable[[], Answers], key: str, alike: Callable[[Path], bool]) -> None:
        """Make and ask a model; where it is there already, whoever made it, ask it alone."""
        folder = self.models / name
        if alike(folder):
            self._add(name, partial(self._reused, folder), key, folder)
        else:
            self._add(name, ask, key)

    def _reused(self, folder: Path) -> Answers:
        self.arena.say(f"{folder.name}: was fitted with the same settings, and is not fitted again")
        model = load_model(folder, self.arena.device)
        if not reads_vectors(model.head):
            self.searched[folder.name] = model
        return self._entered(model)

    def _named(self, name: str, key: Callable[[str], str], alike: Callable[[Path], bool]) -> str:
        """Return what a model is called, so that none is replaced that is from elsewhere."""
        if self.fold is not None:  # they lie in the comparison's own folder
            return name
        chosen = self.arena.place.model_name(name, key, self.arena.task, alike)
        if chosen != name and not self.arena.place.named:
            self.arena.say(f"{chosen}: so called since other settings made models/{name}, which stays")
        return chosen

    def enter(self, name: str) -> None:
        """Ask a model that was fitted already, such as a fine-tuned one."""
        arena = self.arena
        folder = arena.workspace.find_model(name)
        model = load_model(folder, arena.device)
        baseline = bool(model.manifest.setup.get(BASELINE))
        arena.contestants[folder.name] = Contestant(model.manifest.head, model.manifest.spec.short_name, baseline)
        key = self._key(model.manifest.head, name=model_digest(folder) or "")
        self._add(folder.name, partial(self._entered, model), key, folder)

    def _add(self, name: str, ask: Callable[[], Answers], key: str, entered: Path | None = None) -> None:
        if reason := self.arena.failed.get(name + self.suffix):
            self.not_run.append({"name": name, "reason": reason})
            return
        try:
            answers = self._kept(name, key, ask, entered)
        except EsmclsError as error:
            self.not_run.append({"name": name, "reason": str(error)})
            return
        self.arena.say(f"{name}{self.suffix}: {answers.headline}")
        self.answers[name] = answers

    def _kept(self, name: str, key: str, ask: Callable[[], Answers], entered: Path | None) -> Answers:
        """Return what an earlier run kept of a model, if its folder is still what it was then; else ask and keep it.

        Parameters
        ----------
        name, key, ask
            The model's name, what identifies all that makes it, and what fits and asks it.
        entered : Path, optional
            The folder of a model that was fitted already.
        """
        arena, folder = self.arena, entered or self.models / name
        path = arena.place.answers / f"{name}{self.suffix}.safetensors"
        earlier: Answers | None = arena.task.load_answers(path, key)
        if earlier is not None and earlier.about["model"] == model_digest(folder):
            arena.say(f"{path.stem}: kept from an earlier run")
            return earlier
        answers = kept_answers(arena.workspace, arena.task, name, key, folder) if self.fold is None else None
        if answers is not None:
            arena.say(f"{path.stem}: kept from an earlier run")
        else:
            arena.say(f"{path.stem}: {'fitting' if entered is None else 'asking'}")
            answers = ask()
        path.parent.mkdir(parents=True, exist_ok=True)
        answers.save(path, key)
        return answers

    @cached_property
    def _data(self) -> list[str]:
        return [self.dataset.digest(), self.dataset.split_digest()]

    def _key(self, head: str, members: Sequence[PlannedModel] = (), name: str = "") -> str:
        """Return what identifies a model: data, split, encoders, head, knobs, versions; of an ensemble, its members."""
        plan, head_class = self.arena.plan, self.arena.task.head_class(head)
        facts = {
            "name": name,
            "specs": [member.cache.spec.to_json() for member in members],
            "members": {
                member.name: model_digest(self.models / member.name) for member in members if member.name != name
            },
            "data": self._data + self.arena.task.identity(),
            "defaults": asdict(head_class.Config()),
            "settings": plan.settings.get(head, {}),
            "setting": plan.deciding(),
            **({} if plan.ia is None else {"ia": sha256_file(Path(plan.ia))}),
            **plan.of_known(),
            "refit": [plan.refit, plan.folds],
            "versions": versions(),
        }
        return digest_of(facts)

    def _asked(
        self, fit: Callable[[], Fit[Any, Any]], name: str, caches: Sequence[CacheEntry], baseline: bool = False
    ) -> Answers:
        began = time.perf_counter()
        fitted = fit()
        seconds = time.perf_counter() - began
        if baseline:  # so that nothing takes it for the workspace's best model
            fitted = replace(fitted, manifest=replace(fitted.manifest, setup=fitted.manifest.setup | {BASELINE: True}))
        folder = fitted.save(self.models / name)
        if self.fold is None:
            self.arena.place.made(name, model_digest(folder) or "")
        if explanation := explanation_of(fitted.head):
            self.arena.say(f"{name}: {explanation}")
        model = Model(folder, fitted.manifest, fitted.head, fitted.task, self.arena.device)
        if not reads_vectors(fitted.head):
            self.searched[name] = model
        return self._ask(model, seconds, lambda part: features_of([entry.folder for entry in caches], part))

    def _entered(self, model: Model) -> Answers:
        return self._ask(model, None, lambda part: features_for(model, part, self._home_of(model, part)))

    def _home_of(self, model: Model, part: Dataset) -> Workspace:
        """Return the workspace in whose caches the vectors are that a model reads: this one, or that of the model."""
        here = self.arena.workspace
        stored = all(cache_with(here, part.sequences, spec) is not None for spec in model.specs)
        return here if stored else workspace_of(model.folder) or here

    def _ask(self, model: Model, seconds: float | None, features: Callable[[Dataset], Features]) -> Answers:
        files = (path for path in model.folder.rglob("*") if path.is_file())
        about = {
            "model": model_digest(model.folder),
            "validation": model.manifest.validation,
            "explanation": model.manifest.setup.get(EXPLANATION, ""),
            "megabytes": round(sum(path.stat().st_size for path in files) / 1e6, 1),
        }
        x, unseen = features(self.questions.known), features(self.questions.unseen)
        answers: Answers = self.questions.ask(model, x, unseen, seconds, about)
        return answers

    def fit(self, plan: PlannedModel) -> Fit[Any, Any]:
        """Fit one head."""
        arena = self.arena
        return fit_dataset(
            arena.task,
            self.dataset,
            EmbeddingCache.open(plan.cache.folder),
            plan.head,
            arena.plan.settings.get(plan.head),
            seed=arena.plan.seed,
            device=arena.device,
            shares=arena.plan.shares,
            refit=arena.plan.refits(arena.task, arena.workspace),
            log=partial(self._tell, plan.name),
        )

    def _tell(self, name: str, entry: Mapping[str, float]) -> None:
        """Say how long a fit will take, where the head tells it."""
        if "estimated_seconds" in entry:
            self.arena.say(f"{name}: about {in_words(entry['estimated_seconds'])}")

    def combine(self, members: Sequence[PlannedModel]) -> Fit[Any, Any]:
        """Combine fitted models."""
        arena = self.arena
        folders = {member.name: self.models / member.name for member in members}
        models = [self.searched.get(name) or load_model(folder, arena.device) for name, folder in folders.items()]
        caches = [plan.cache.folder for plan in members]
        return combine(
            arena.task,
            models,
            self.dataset,
            lambda part: features_of(caches, part),
            arena.plan.settings.get(ENSEMBLE),
            device=arena.device,
        )


def features_of(folders: Sequence[Path], part: Dataset) -> Features:
    """Return the vectors of rows from several caches: those of the first, with the others beside."""
    views = [Features.from_cache(EmbeddingCache.open(folder), part) for folder in dict.fromkeys(folders)]
    return replace(views[0], others=tuple(views[1:]))


def trained_on(dataset: Dataset, refits: bool) -> Dataset:
    """Return the rows that models are fitted on in the end: those of train, and if they are refitted of validation."""
    return dataset.take(
        [row for row, part in enumerate(dataset.parts) if part == "train" or (refits and part != "test")]
    )


def digest_of(facts: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return what identifies facts: plain values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
