"""Every head on the same split, and ensembles of them: fitted, asked, and compared. Can be interrupted and resumed.

reports/compare/answers/<model>.safetensors      what each model said (`esmcls.answers`), by the key of what made it
models/<model>/                                  the models; those of folds lie in reports/compare/folds/<fold>/
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

from esmcls.answers import Answers, Questions
from esmcls.artifact import Model, load_model
from esmcls.cache import EmbeddingCache
from esmcls.comparison import FORMAT, Entrant, compare_answers, timing
from esmcls.confidence import Confidence
from esmcls.dataset import Dataset
from esmcls.ensembling import ENSEMBLE, combine, features_of
from esmcls.errors import EsmclsError, UsageError, WorkspaceError
from esmcls.features import Features
from esmcls.files import sha256_file
from esmcls.fitting import Fit, fit_dataset
from esmcls.heads import load_head, reads_vectors
from esmcls.heads.costs import in_words
from esmcls.jobs import Progress
from esmcls.lineup import Plan, Say, Terms, find_caches, plan_models, variants
from esmcls.manifest import MANIFEST, versions
from esmcls.setaside import set_aside
from esmcls.workspace import CacheEntry, Workspace

MAJORITY: Final = "majority"


@dataclass(frozen=True)
class Comparison:
    """What came of it.

    Parameters
    ----------
    report : dict
        Plain values: format, dataset, settings, best, chosen, rows (see `compare_answers`), not_run.
    timing : dict
        Seconds to fit and proteins a second, in the order of the rows: all that differs between two runs.
    """

    report: dict[str, Any]
    timing: dict[str, Any]


def compare(
    workspace: Workspace,
    terms: Terms,
    *,
    device: str = "cpu",
    say: Say = lambda line: None,
    progress: Progress | None = None,
) -> Comparison:
    """Fit and ask every head, and compare what they answer.

    Parameters
    ----------
    workspace : Workspace
        With a dataset.
    terms : Terms
    device : str
    say : callable
        Told what is being done.
    progress : callable, optional
        As in `embed_in_workspace`, for encoders that are not embedded yet.

    Raises
    ------
    WorkspaceError
        If the dataset has no test part and no folds are asked for.
    UsageError
        If there is nothing to compare.
    """
    dataset = workspace.dataset
    if not terms.folds and "test" not in dataset.parts:
        raise WorkspaceError(workspace.folder, "its split has no test part", "compare on folds: --folds 5")
    caches, baseline = find_caches(workspace, terms, device, say, progress)
    plans, not_run = plan_models(terms, caches, baseline)
    arena = _Arena(workspace, terms, device, say, tuple(sorted(set(dataset.labels))))
    rounds = [arena.round(number, variant, plans, not_run) for number, variant in variants(dataset, terms)]
    names = [name for name in rounds[0] if all(name in found for found in rounds)]
    if not names:
        raise UsageError("no head could be fitted: " + "; ".join(f"{x['name']}: {x['reason']}" for x in not_run))
    entrants = [_entrant(name, plans, [found[name] for found in rounds]) for name in names]
    rows = compare_answers(
        entrants,
        arena.classes,
        coverage=terms.coverage,
        false_acceptance=terms.shares.false_acceptance,
        seed=terms.seed,
    )
    report = {
        "format": FORMAT,
        "dataset": _about(workspace, dataset, terms),
        "settings": _settings(terms, plans, caches),
        "best": rows[0]["name"],
        "chosen": _chosen(rows),
        "rows": rows,
        "not_run": not_run,
    }
    return Comparison(json.loads(json.dumps(report)), timing(entrants, rows))


def _about(workspace: Workspace, dataset: Dataset, terms: Terms) -> dict[str, Any]:
    counts = Counter(dataset.parts)
    return {
        "records": {part: counts.get(part, 0) for part in ("train", "validation", "test")},
        "classes": len(set(dataset.labels)),
        "split_digest": workspace.split_digest,
        "seed": terms.seed,
    }


def _settings(terms: Terms, plans: Sequence[Plan], caches: Sequence[CacheEntry]) -> dict[str, Any]:
    return {
        "heads": list(dict.fromkeys(plan.head for plan in plans)),
        "encoders": [entry.spec.short_name for entry in caches],
        "folds": terms.folds,
        "hold_out_families": terms.shares.families,
        "calibration": terms.shares.calibration,
        "false_acceptance": terms.shares.false_acceptance,
        "coverage": terms.coverage,
        "knobs": terms.settings,
    }


def _chosen(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the model that validation would choose: that of the best macro F1 there."""
    scored = [row for row in rows if row["validation"] and not row["baseline"]]
    return max(scored, key=lambda row: row["validation"]["macro_f1"])["name"] if scored else None


def _entrant(name: str, plans: Sequence[Plan], found: Sequence[Answers]) -> Entrant:
    plan = next((plan for plan in plans if plan.name == name), None)
    head, encoder, baseline = (plan.head, plan.encoder, plan.baseline) if plan else (ENSEMBLE, "", False)
    if name == MAJORITY:
        head, baseline = MAJORITY, True
    return Entrant(name, head, encoder, baseline, Answers.joined(found), tuple(found) if len(found) > 1 else ())


@dataclass(frozen=True)
class _Arena:
    """Where the models of one comparison are fitted and asked."""

    workspace: Workspace
    terms: Terms
    device: str
    say: Say
    classes: tuple[str, ...]

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
        bout = _Bout(self, dataset, models, questions, "" if fold is None else f".{fold}")
        found = dict[str, Answers]()
        for plan in plans:
            bout.add(found, not_run, plan.name, partial(bout.fit, plan), plan.head, (plan,))
        for name, members in self._ensembles([plan for plan in plans if plan.name in found]):
            bout.add(found, not_run, name, partial(bout.combine, members), ENSEMBLE, members)
        if self.terms.baselines:
            found[MAJORITY] = questions.majority(Counter(apart.kept.part("train").labels))
        return found

    def _ensembles(self, plans: Sequence[Plan]) -> Iterator[tuple[str, list[Plan]]]:
        """Give the ensemble of all models, and where a head that reads no vectors is among them, that of the others."""
        members = [plan for plan in plans if not plan.baseline]
        vectors = [plan for plan in members if reads_vectors(load_head(plan.head))]
        if self.terms.heads and ENSEMBLE not in self.terms.heads:
            return
        if len(members) > 1:
            yield ENSEMBLE, members
        if 1 < len(vectors) < len(members):
            yield f"{ENSEMBLE}-embeddings", vectors


@dataclass(frozen=True, eq=False)
class _Bout:
    """All models on one split."""

    arena: _Arena
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
        path = self.arena.folder / "answers" / f"{name}{self.suffix}.safetensors"
        key = self._key(name, head, members)
        answers = Answers.load(path, key)
        if answers is not None and answers.about["model"] == self._model(name):
            self.arena.say(f"{name}{self.suffix}: kept from an earlier run")
        else:
            self.arena.say(f"{name}{self.suffix}: fitting")
            try:
                answers = self._asked(fit, name, [plan.cache for plan in members])
            except EsmclsError as error:
                not_run.append({"name": name, "reason": str(error)})
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            answers.save(path, key)
        self.arena.say(f"{name}{self.suffix}: accuracy {100 * answers.right.mean():.2f} %")
        found[name] = answers

    def _model(self, name: str) -> str | None:
        """Return what identifies a model folder's content: its manifest holds the digest of every other file."""
        path = self.models / name / MANIFEST
        return sha256_file(path) if path.is_file() else None

    @cached_property
    def _data(self) -> list[str]:
        return [self.dataset.digest(), self.dataset.split_digest()]

    def _key(self, name: str, head: str, members: Sequence[Plan]) -> str:
        """Return what identifies a model: data, split, encoders, head, knobs, versions; of an ensemble, its members."""
        terms, config = self.arena.terms, load_head(head).Config
        facts = {
            "name": name,
            "specs": [plan.cache.spec.to_json() for plan in members],
            "members": {plan.name: self._model(plan.name) for plan in members if plan.name != name},
            "data": self._data,
            "defaults": asdict(config()),
            "terms": asdict(terms) | {"heads": (), "encoders": (), "baselines": True},
            "versions": versions(),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    def _asked(self, fit: Callable[[], Fit], name: str, caches: Sequence[CacheEntry]) -> Answers:
        began = time.perf_counter()
        fitted = fit()
        seconds = time.perf_counter() - began
        folder = fitted.save(self.models / name)
        if explanation := getattr(fitted.head, "explanation", ""):
            self.arena.say(f"{name}: {explanation}")
        if not reads_vectors(fitted.head):
            self.searched[name] = Model(folder, fitted.manifest, fitted.head, self.arena.device)
        about = {
            "counts": dict(zip(fitted.manifest.classes, fitted.manifest.class_counts, strict=True)),
            "fit_seconds": seconds,
            "model": self._model(name),
            "validation": {key: fitted.manifest.validation.get(key, 0.0) for key in ("accuracy", "macro_f1")},
            "megabytes": round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1),
        }
        x, unseen = (self._features(caches, part) for part in (self.questions.known, self.questions.unseen))
        return self.questions.ask(fitted.head, x, unseen, fitted.confidence or Confidence(), about)

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
