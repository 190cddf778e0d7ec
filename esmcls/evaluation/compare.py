"""Every head on the same split, and ensembles of them, compared. Can be interrupted and resumed."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from esmcls.cache.store import EmbeddingCache
from esmcls.errors import UsageError
from esmcls.evaluation.check_plan import check_plan
from esmcls.evaluation.comparison_folder import ComparisonFolder, open_comparison
from esmcls.evaluation.fit_and_ask import Arena, Contestant, FittingEngine, digest_of
from esmcls.evaluation.nearness import nearness
from esmcls.evaluation.origin import machine, origin
from esmcls.evaluation.plan import ComparisonPlan, Say, find_caches, plan_models, variants
from esmcls.files import sha256_file
from esmcls.reporting.phrases import counted
from esmcls.reporting.results import Cost, NotRun, Report, Timing
from esmcls.tasks.comparing import Answers, Entrant, Proceedings
from esmcls.tasks.kinds import task_of
from esmcls.tasks.task import AnyTask
from esmcls.workspace.embed_in_workspace import Progress, embed_in_workspace
from esmcls.workspace.workspace import Workspace


@dataclass(frozen=True, repr=False)
class Compared:
    """What came of a comparison.

    Parameters
    ----------
    report : Report
        `OneLabelReport` or `TermReport`, by the kind of task; a row a model, the best first.
    timing : Timing
        Seconds to fit and proteins a second, in the order of the rows: all that differs between two runs.
    task : Task
    place : ComparisonFolder
        Where it lies.
    """

    report: Report
    timing: Timing
    task: AnyTask
    place: ComparisonFolder

    def lines(self) -> list[str]:
        """Return its tables for a terminal."""
        return self.task.report_lines(self.report, self.timing)

    def write(self, folder: Path | None = None, names: Mapping[str, str] | None = None) -> Path:
        """Write its report and return the page.

        Parameters
        ----------
        folder : Path, optional
            Default its own, for which reports/compare stands from then on.
        names : mapping, optional
            What classes are called.
        """
        page = self.task.write_report(folder or self.place.folder, self.report, self.timing, names or {})
        if folder is None:
            self.place.make_latest()
        return page

    def __repr__(self) -> str:
        return f"<comparison of {counted(len(self.report.rows), 'model')}, the best is {self.report.best}>"

    def _repr_html_(self) -> str:
        """Return the tables for notebooks."""
        return f"<pre>{html.escape(chr(10).join(self.lines()))}</pre>"


def compare(
    workspace: Workspace,
    plan: ComparisonPlan | None = None,
    *,
    device: str = "cpu",
    say: Say = lambda line: None,
    progress: Progress | None = None,
    engine: FittingEngine | None = None,
    **settings: Any,
) -> Compared:
    """Fit and ask every head, and compare what they answer.

    Parameters
    ----------
    workspace : Workspace
        With a dataset, of any kind of task.
    plan : ComparisonPlan, optional
    device : str
    say : callable
        Told what is being done.
    progress : callable, optional
        As in `embed_in_workspace`, for encoders that are not embedded yet.
    engine : FittingEngine, optional
        Where models are fitted and sequences embedded, if not here.
    **settings
        Of `ComparisonPlan`, where no plan is given: heads, encoders, models, folds and so on.

    Raises
    ------
    WorkspaceError
        If the dataset has no test part and no folds are asked for.
    UsageError
        If there is nothing to compare, or something is asked for that this kind of task cannot have.
    """
    plan = plan or ComparisonPlan(**settings)
    dataset, task = workspace.dataset, task_of(workspace)
    check_plan(workspace, plan, task)
    for line in task.check_known(plan.known, plan.evidence):
        say(line)
    place = _open_place(workspace, plan, task)
    embed = partial(
        embed_in_workspace, device=device, progress=progress, engine=None if engine is None else engine.embedding
    )
    caches, baseline = find_caches(workspace, plan, task.baseline_encoder, say, embed)
    plans, not_run = plan_models(plan, task, caches, baseline, say)
    arena = Arena(workspace, task, plan, device, say, tuple(sorted(set(dataset.labels))), place)
    if engine is not None:
        engine.fit(arena, plans)
    rounds = [arena.round(number, variant, plans, not_run) for number, variant in variants(dataset, plan, task)]
    names = [name for name in rounds[0] if all(name in answers for answers in rounds)]
    if not names:
        raise UsageError("no head could be fitted: " + "; ".join(f"{x['name']}: {x['reason']}" for x in not_run))
    entrants = [_entrant(name, [answers[name] for answers in rounds], arena) for name in names]
    counts = Counter(dataset.parts)
    say("how near the test proteins are to those that were trained on")
    proceedings = Proceedings(
        records={part: counts.get(part, 0) for part in ("train", "validation", "test")},
        split_digest=workspace.split_digest,
        heads=list(dict.fromkeys(model.head for model in plans)),
        encoders=[entry.spec.short_name for entry in caches],
        knobs={head: dict(knobs) for head, knobs in plan.settings.items()},
        folds=plan.folds,
        setting=plan.setting,
        not_run=list(dict.fromkeys(NotRun(**reason) for reason in not_run)),
        origin=origin(workspace, plan.date, plan.folds),
        nearness=nearness(arena.asked, workspace, EmbeddingCache.open(caches[0].folder)),
    )
    report = task.report(proceedings, dataset, entrants, arena.classes)
    return Compared(report, timing(entrants, report), task, place)


def _open_place(workspace: Workspace, plan: ComparisonPlan, task: AnyTask) -> ComparisonFolder:
    """Return the folder of a comparison, made here, so that what cannot be written is known before anything is done."""
    reserved = frozenset(workspace.find_model(name).name for name in plan.models)
    plain = replace(plan, name="", replace=False, date="", models=tuple(sorted(reserved)))
    asked = {name: value for name, value in asdict(plain).items() if name not in ("known", "evidence")}
    facts = {
        "plan": asked | {"ia": None if plan.ia is None else sha256_file(Path(plan.ia))} | plan.of_known(),
        "data": [workspace.dataset_digest, workspace.split_digest, *task.identity()],
    }
    place = open_comparison(workspace, digest_of(facts), plan.name, plan.replace, reserved)
    place.save()
    return place


def _entrant(name: str, folds: Sequence[Answers], arena: Arena) -> Entrant[Answers]:
    model = arena.contestants.get(name, Contestant(name, baseline=True))  # the default: a baseline without a model
    joined = arena.task.join_folds(folds, arena.plan.setting)
    several = tuple(folds) if len(folds) > 1 else ()
    return Entrant(name, model.head, model.encoder, model.baseline, joined, several)


def timing(entrants: Sequence[Entrant[Answers]], report: Report) -> Timing:
    """Return how long each model took to fit, where that is known, and its proteins a second, in the rows' order."""
    times = {entrant.name: entrant.answers.timing() for entrant in entrants}
    return Timing([Cost(row.name, *times[row.name]) for row in report.rows], machine=machine())
