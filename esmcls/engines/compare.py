"""A comparison's models on a Ray cluster: each head on each fold is a job, fitted and asked by whichever actor is free.

What an actor leaves, a model folder and its answers, is what an interrupted comparison leaves: the comparison then goes
on from there, makes the ensembles, and writes its report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from esmcls.engines.embed import RayEmbedding
from esmcls.engines.ray_team import Cluster, Connection
from esmcls.evaluation.compare import Compared, compare
from esmcls.evaluation.comparison_folder import ComparisonFolder
from esmcls.evaluation.fit_and_ask import Arena, Bout
from esmcls.evaluation.plan import ComparisonPlan, PlannedModel, Say, variants
from esmcls.tasks.kinds import task_of
from esmcls.workspace.embed_in_workspace import EmbeddingEngine
from esmcls.workspace.workspace import Workspace


def compare_on_ray(workspace: Workspace, plan: ComparisonPlan, cluster: Cluster, say: Say, **options: Any) -> Compared:
    """Do what `compare` does, its heads and folds at once on a cluster.

    Raises
    ------
    MissingExtraError, ClusterError
        If there is no Ray, or no cluster, or a node lacks what it needs.
    """
    with cluster.connected() as connection:
        return compare(workspace, plan, say=say, engine=RayFitting(connection), **options)


class FitJob(NamedTuple):
    """One model on one split: the number of the fold, None for the data set's own test part."""

    fold: int | None
    plan: PlannedModel


@dataclass(frozen=True)
class Made:
    """What came of a job, but the model and its answers, which are on the disk.

    Parameters
    ----------
    lines : list of str
        What was to be told meanwhile.
    reason : str
        Why it could not be fitted; empty where it was.
    digest : str
        Of the model folder, where the comparison's own was made.
    """

    lines: list[str] = field(default_factory=list)
    reason: str = ""
    digest: str = ""


@dataclass(frozen=True)
class RayFitting:
    """A `FittingEngine` on a cluster that is there."""

    connection: Connection

    @property
    def embedding(self) -> EmbeddingEngine:
        """Where what is not embedded yet is."""
        return RayEmbedding(self.connection)

    def fit(self, arena: Arena, plans: Sequence[PlannedModel]) -> None:
        """Fit and ask all models on all splits."""
        folds: Sequence[int | None] = range(arena.plan.folds) if arena.plan.folds else [None]
        if not arena.plan.folds:
            bout = arena.bout(None, arena.workspace.dataset, [])
            plans = [bout.named(plan) for plan in plans]
        jobs = [FitJob(fold, plan) for plan in plans for fold in folds]
        place = replace(arena.place, workspace=Workspace(arena.workspace.folder), kept_elsewhere=True)
        opener = Fitter(arena.workspace.folder, arena.plan, place, self.connection.device)
        arena.say(f"{len(jobs):,} models to fit on the cluster")
        with self.connection.team(opener) as team:
            for number, (_, job, made) in enumerate(team.run(jobs), start=1):
                self._take_in(arena, job, made, f"{number:,} of {len(jobs):,}")

    def _take_in(self, arena: Arena, job: FitJob, made: Made, done: str) -> None:
        """Remember what came of a job, and tell it."""
        answers = job.plan.name if job.fold is None else f"{job.plan.name}.{job.fold}"
        for line in made.lines:
            arena.say(line)
        arena.say(f"{answers}: {'could not be fitted' if made.reason else 'done'} ({done})")
        if made.reason:
            arena.failed[answers] = made.reason
        if made.digest:
            arena.place.made(job.plan.name, made.digest)


@dataclass(frozen=True)
class Fitter:
    """Opens a workspace on a node; what it returns fits and asks one model after another."""

    folder: Path
    plan: ComparisonPlan
    place: ComparisonFolder
    device: str

    def __call__(self) -> Callable[[FitJob], Made]:
        """Open it."""
        workspace = Workspace.open(self.folder)
        dataset, task = workspace.dataset, task_of(workspace)
        lines: list[str] = []
        not_run: list[dict[str, str]] = []
        classes = tuple(sorted(set(dataset.labels)))
        arena = Arena(workspace, task, self.plan, self.device, lines.append, classes, self.place)

        @lru_cache(maxsize=1)
        def bout(fold: int | None) -> Bout:
            split = next(split for number, split in variants(dataset, self.plan, task) if number == fold)
            return arena.bout(fold, split, not_run)

        def fit(job: FitJob) -> Made:
            lines.clear()
            not_run.clear()
            before = self.place.models.get(job.plan.name, "")
            bout(job.fold).make(job.plan)
            bout(job.fold).searched.clear()
            digest = self.place.models.get(job.plan.name, "")
            reason = not_run[0]["reason"] if not_run else ""
            return Made(list(lines), reason, digest if digest != before else "")

        return fit
