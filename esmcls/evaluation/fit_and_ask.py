"""The models of a comparison: fitted on one split after another, asked about its test part, kept for the next run.

reports/compare/answers/<model>.safetensors      what each model said, by the key of what made it
models/<model>/                                  the models; those of folds lie in reports/compare/folds/<fold>/
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from esmcls.cache.features import Features
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import set_aside
from esmcls.errors import EsmclsError, UsageError
from esmcls.evaluation.keeping import digest_of, keep, model_digest
from esmcls.evaluation.plan import Plan, Say, Terms, ensembles_of
from esmcls.heads.registry import load_head, reads_vectors
from esmcls.heads.trees.time_estimate import in_words
from esmcls.models.combine import ENSEMBLE, combine, features_of
from esmcls.models.fit import Fit, fit_dataset
from esmcls.models.folder import load_model
from esmcls.models.manifest import Manifest, versions
from esmcls.models.model import Model
from esmcls.models.predict import features_for
from esmcls.tasks.one_label.answers import Answers, Questions
from esmcls.tasks.one_label.confidence import Confidence
from esmcls.workspace.workspace import CacheEntry, Workspace

MAJORITY: Final = "majority"


@dataclass(frozen=True)
class Arena:
    """Where the models of one comparison are fitted and asked."""

    workspace: Workspace
    terms: Terms
    device: str
    say: Say
    classes: tuple[str, ...]
    entered: dict[str, Manifest] = field(default_factory=dict)
    """Models that were fitted already."""

    @property
    def folder(self) -> Path:
        return self.workspace.reports / "compare"

    def round(
        self, fold: int | None, dataset: Dataset, plans: Sequence[Plan], not_run: list[dict[str, str]]
    ) -> dict[str, Answers]:
        """Fit and ask all models on one split; a head that cannot be fitted is told in `not_run`."""
        models = self.workspace.folder / "models" if fold is None else self.folder / "folds" / str(fold)
        apart = set_aside(dataset, self.terms.shares, self.terms.seed)
        questions = Questions(apart.kept.part("test"), apart.unseen, self.classes, self.terms.coverage)
        bout = Bout(self, dataset, models, questions, "" if fold is None else f".{fold}")
        found = dict[str, Answers]()
        for plan in plans:
            bout.add(found, not_run, plan.name, partial(bout.fit, plan), plan.head, (plan,))
        for name in self.terms.models:
            bout.enter(found, not_run, name)
        for name, members in ensembles_of([plan for plan in plans if plan.name in found], self.terms):
            bout.add(found, not_run, name, partial(bout.combine, members), ENSEMBLE, members)
        if self.terms.baselines:
            found[MAJORITY] = questions.majority(Counter(apart.kept.part("train").labels))
        return found


@dataclass(frozen=True, eq=False)
class Bout:
    """All models on one split."""

    arena: Arena
    dataset: Dataset
    models: Path
    questions: Questions
    suffix: str
    searched: dict[str, Model] = field(default_factory=dict)
    """Models of this run that search sequences: what was found for the test proteins is kept in them."""

    def add(
        self,
        found: dict[str, Answers],
        not_run: list[dict[str, str]],
        name: str,
        fit: Callable[[], Fit],
        head: str,
        members: Sequence[Plan],
    ) -> None:
        """Fit and ask one model, or take what an earlier run left of it, if its folder is still what it was then."""
        key = self._key(head, members, name)
        self._add(found, not_run, name, partial(self._asked, fit, name, [plan.cache for plan in members]), key)

    def enter(self, found: dict[str, Answers], not_run: list[dict[str, str]], name: str) -> None:
        """Ask a model that was fitted already, such as a fine-tuned one."""
        arena = self.arena
        folder = arena.workspace.find_model(name)
        if folder.name in found:
            raise UsageError(f"two models named {folder.name}; leave it out of --models, or its head out of --heads")
        model = load_model(folder, arena.device)
        reason = ""
        if model.manifest.split_digest != self._data[1]:
            reason = "fitted on another split, so it may know the test part; fit it again"
        elif model.manifest.setup.get("families", 0.0) != arena.terms.shares.families:
            reason = "fitted with another share of families held out; fit it again"
        if reason:
            not_run.append({"name": name, "reason": reason})
            return
        arena.entered[folder.name] = model.manifest
        key = self._key(model.manifest.head, name=model_digest(folder) or "")
        self._add(found, not_run, folder.name, partial(self._entered, model), key, folder)

    def _add(
        self,
        found: dict[str, Answers],
        not_run: list[dict[str, str]],
        name: str,
        ask: Callable[[], Answers],
        key: str,
        folder: Path | None = None,
    ) -> None:
        path = self.arena.folder / "answers" / f"{name}{self.suffix}.safetensors"
        doing = "asking" if name in self.arena.entered else "fitting"
        try:
            answers = keep(path, key, folder or self.models / name, Answers.load, ask, self.arena.say, doing)
        except EsmclsError as error:
            not_run.append({"name": name, "reason": str(error)})
            return
        self.arena.say(f"{name}{self.suffix}: accuracy {100 * answers.right.mean():.2f} %")
        found[name] = answers

    @cached_property
    def _data(self) -> list[str]:
        return [self.dataset.digest(), self.dataset.split_digest()]

    def _key(self, head: str, members: Sequence[Plan] = (), name: str = "") -> str:
        """Return what identifies a model: data, split, encoders, head, knobs, versions; of an ensemble, its members."""
        terms, config = self.arena.terms, load_head(head).Config
        facts = {
            "name": name,
            "specs": [plan.cache.spec.to_json() for plan in members],
            "members": {plan.name: model_digest(self.models / plan.name) for plan in members if plan.name != name},
            "data": self._data,
            "defaults": asdict(config()),
            "terms": {name: value for name, value in asdict(terms).items() if name != "longs"}  # its spec tells
            | {"heads": (), "encoders": (), "models": (), "baselines": True},
            "versions": versions(),
        }
        return digest_of(facts)

    def _asked(self, fit: Callable[[], Fit], name: str, caches: Sequence[CacheEntry]) -> Answers:
        began = time.perf_counter()
        fitted = fit()
        seconds = time.perf_counter() - began
        folder = fitted.save(self.models / name)
        if explanation := getattr(fitted.head, "explanation", ""):
            self.arena.say(f"{name}: {explanation}")
        model = Model(folder, fitted.manifest, fitted.head, self.arena.device)
        if not reads_vectors(fitted.head):
            self.searched[name] = model
        return self._ask(model, fitted.confidence, seconds, lambda part: self._features(caches, part))

    def _entered(self, model: Model) -> Answers:
        return self._ask(
            model, model.confidence, math.nan, lambda part: features_for(model, part, self.arena.workspace)
        )

    def _ask(
        self, model: Model, confidence: Confidence | None, seconds: float, features: Callable[[Dataset], Features]
    ) -> Answers:
        one = model.manifest
        about = {
            "counts": dict(zip(one.classes, one.class_counts, strict=True)),
            "fit_seconds": seconds,
            "model": model_digest(model.folder),
            "validation": {key: one.validation.get(key, 0.0) for key in ("accuracy", "macro_f1")},
            "megabytes": round(sum(path.stat().st_size for path in model.folder.rglob("*") if path.is_file()) / 1e6, 1),
        }
        x, unseen = features(self.questions.known), features(self.questions.unseen)
        return self.questions.ask(model.head, x, unseen, confidence or Confidence(), about)

    def _features(self, caches: Sequence[CacheEntry], part: Dataset) -> Features:
        return features_of([entry.folder for entry in caches], part)

    def fit(self, plan: Plan) -> Fit:
        """Fit one head."""
        terms = self.arena.terms
        again = self.arena.workspace.drawn_validation if terms.refit is None else terms.refit
        return fit_dataset(
            self.dataset,
            EmbeddingCache.open(plan.cache.folder),
            plan.head,
            terms.settings.get(plan.head),
            seed=terms.seed,
            device=self.arena.device,
            shares=terms.shares,
            refit=again or bool(terms.folds),
            log=partial(self._tell, plan.name),
        )

    def _tell(self, name: str, entry: Mapping[str, float]) -> None:
        """Say how long a fit will take, where the head tells it."""
        if "estimated_seconds" in entry:
            self.arena.say(f"{name}: about {in_words(entry['estimated_seconds'])}")

    def combine(self, members: Sequence[Plan]) -> Fit:
        """Combine fitted models."""
        terms = self.arena.terms
        folders = {one.name: self.models / one.name for one in members}
        models = [self.searched.get(name) or load_model(place, self.arena.device) for name, place in folders.items()]
        caches = [plan.cache for plan in members]
        return combine(
            models,
            self.dataset,
            lambda part: self._features(caches, part),
            terms.settings.get(ENSEMBLE),
        )
