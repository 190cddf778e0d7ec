"""The models of a comparison on terms: fitted on the train part, asked about the test part, kept for the next run.

reports/compare/answers/<model>.safetensors      what each model reached, by the key of what made it
models/<model>/                                  the models

None is fitted on validation rows, not even in the end: they weigh the members of the ensembles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

from esmcls.cache.store import EmbeddingCache
from esmcls.errors import EsmclsError, UsageError
from esmcls.evaluation.keeping import digest_of, keep, model_digest
from esmcls.evaluation.plan import Plan, Say, Terms, ensembles_of
from esmcls.heads.registry import load_head, reads_vectors
from esmcls.heads.term_heads import GROUP, TermHead
from esmcls.heads.trees.time_estimate import in_words
from esmcls.labels.information_accretion import information_accretion
from esmcls.models.combine import ENSEMBLE
from esmcls.models.folder import load_model
from esmcls.models.manifest import Manifest, versions
from esmcls.models.model import Model
from esmcls.models.predict import features_for
from esmcls.models.term_ensembling import combine_terms
from esmcls.models.term_fitting import TermFit, fit_term_sets
from esmcls.tasks.go_terms.answers import TermAnswers, TermQuestions
from esmcls.workspace.workspace import Workspace


@dataclass(frozen=True, eq=False)
class TermArena:
    """Where the models of one comparison are fitted and asked."""

    workspace: Workspace
    terms: Terms
    device: str
    say: Say
    found: dict[str, TermAnswers] = field(default_factory=dict)
    not_run: list[dict[str, str]] = field(default_factory=list)
    entered: dict[str, Manifest] = field(default_factory=dict)
    """Models that were fitted already."""
    searched: dict[str, Model] = field(default_factory=dict)
    """Models of this run that search sequences: what was found for proteins is kept in them."""

    def run(self, plans: Sequence[Plan]) -> dict[str, TermAnswers]:
        """Fit and ask all models; one that cannot be fitted is told in `not_run`."""
        for plan in plans:
            make = partial(self._asked, plan.name, partial(self._fit, plan))
            self._add(plan.name, make, self._key(plan.head, [plan]))
        for name in self.terms.models:
            self._enter(name)
        for name, members in ensembles_of([plan for plan in plans if plan.name in self.found], self.terms, GROUP):
            make = partial(self._asked, name, partial(self._combine, members))
            self._add(name, make, self._key(ENSEMBLE, members, name))
        return self.found

    @cached_property
    def _questions(self) -> TermQuestions:
        assert self.workspace.ontology is not None
        dataset = self.workspace.dataset
        labels, test = self.workspace.term_sets(dataset.part("train")), dataset.part("test")
        bits = information_accretion(labels, self.workspace.ontology).tolist()
        return TermQuestions(test, self.workspace.term_sets(test), dict(zip(labels.classes, bits, strict=True)))

    def _folder(self, name: str) -> Path:
        return self.workspace.model_folder(name)

    def _add(self, name: str, make: Callable[[], TermAnswers], key: str, folder: Path | None = None) -> None:
        """Fit and ask one model, or take what an earlier run left of it, if its folder is still what it was then."""
        path = self.workspace.reports / "compare" / "answers" / f"{name}.safetensors"
        doing = "asking" if name in self.entered else "fitting"
        try:
            answers = keep(path, key, folder or self._folder(name), TermAnswers.load, make, self.say, doing)
        except EsmclsError as error:
            self.not_run.append({"name": name, "reason": str(error)})
            return
        self.say(f"{name}: mean Fmax {answers.mean_fmax:.3f}")
        self.found[name] = answers

    def _enter(self, name: str) -> None:
        """Ask a model that was fitted already."""
        folder = self.workspace.find_model(name)
        if folder.name in self.found:
            raise UsageError(f"two models named {folder.name}; leave it out of --models, or its head out of --heads")
        model = load_model(folder, self.device)
        if not model.manifest.many:
            reason = "gives one label a protein, no terms"
        elif model.manifest.split_digest != self.workspace.split_digest:
            reason = "fitted on another split, so it may know the test part; fit it again"
        else:
            self.entered[folder.name] = model.manifest
            key = self._key(model.manifest.head, name=model_digest(folder) or "")
            self._add(folder.name, partial(self._ask, model, None), key, folder)
            return
        self.not_run.append({"name": name, "reason": reason})

    def _key(self, head: str, members: Sequence[Plan] = (), name: str = "") -> str:
        """Return what identifies a model: data, split, encoders, head, knobs, versions; of an ensemble, its members."""
        own = self.workspace.state()["dataset"]
        facts = {
            "name": name,
            "specs": [plan.cache.spec.to_json() for plan in members],
            "members": {plan.name: model_digest(self._folder(plan.name)) for plan in members} if name else {},
            "data": [own[key] for key in ("digest", "ontology", "propagate")] + [self.workspace.split_digest],
            "head": [head, asdict(load_head(head, GROUP).Config()), self.terms.settings.get(head, {})],
            "seed": self.terms.seed,
            "versions": versions(),
        }
        return digest_of(facts)

    def _asked(self, name: str, fit: Callable[[], TermFit]) -> TermAnswers:
        began = time.perf_counter()
        fitted = fit()
        seconds = time.perf_counter() - began
        folder = fitted.save(self._folder(name))
        if explanation := getattr(fitted.head, "explanation", ""):
            self.say(f"{name}: {explanation}")
        model = Model(folder, fitted.manifest, cast(Any, fitted.head), self.device, terms=fitted.terms)
        if not reads_vectors(model.head):
            self.searched[name] = model
        return self._ask(model, seconds)

    def _ask(self, model: Model, fit_seconds: float | None) -> TermAnswers:
        assert model.terms is not None
        files = (path for path in model.folder.rglob("*") if path.is_file())
        about = {
            "model": model_digest(model.folder),
            "validation": model.manifest.validation,
            "megabytes": round(sum(path.stat().st_size for path in files) / 1e6, 1),
        }
        x = features_for(model, self._questions.part, self.workspace)
        counts, head = model.manifest.class_counts, cast(TermHead, model.head)
        return self._questions.ask(head, model.terms, x, counts, self.terms.seed, fit_seconds, about)

    def _fit(self, plan: Plan) -> TermFit:
        return fit_term_sets(
            self.workspace,
            EmbeddingCache.open(plan.cache.folder),
            plan.head,
            self.terms.settings.get(plan.head),
            seed=self.terms.seed,
            device=self.device,
            log=partial(self._tell, plan.name),
        )

    def _tell(self, name: str, entry: Mapping[str, float]) -> None:
        """Say how long a fit will take, where the head tells it."""
        if "estimated_seconds" in entry:
            self.say(f"{name}: about {in_words(entry['estimated_seconds'])}")

    def _combine(self, members: Sequence[Plan]) -> TermFit:
        """Combine fitted models; none is fitted again."""
        names = [plan.name for plan in members]
        models = [self.searched.get(name) or load_model(self._folder(name), self.device) for name in names]
        return combine_terms(models, self.workspace, device=self.device)
