"""Every head on the same split, and ensembles of them, compared. Can be interrupted and resumed."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esmcls.errors import UsageError, WorkspaceError
from esmcls.evaluation.fit_and_ask import Arena
from esmcls.evaluation.plan import ComparisonPlan, PlannedModel, Say, find_caches, plan_models, variants
from esmcls.models.combine import ENSEMBLE
from esmcls.models.fit import check_shares
from esmcls.reporting.results import Cost, NotRun, Report, Timing
from esmcls.tasks.kinds import task_of
from esmcls.tasks.task import Answers, AnyTask, Entrant, Proceedings
from esmcls.workspace.embed_in_workspace import Progress
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
    """

    report: Report
    timing: Timing
    task: AnyTask

    def lines(self) -> list[str]:
        """Return its tables for a terminal."""
        return self.task.report_lines(self.report, self.timing)

    def write(self, folder: Path, names: Mapping[str, str] | None = None) -> Path:
        """Write its report into a folder and return the page.

        Parameters
        ----------
        folder : Path
        names : mapping, optional
            What classes are called.
        """
        return self.task.write_report(folder, self.report, self.timing, names or {})

    def __repr__(self) -> str:
        return f"<comparison of {len(self.report.rows)} models, the best is {self.report.best}>"

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
    _check(workspace, plan, task)
    caches, baseline = find_caches(workspace, plan, task.baseline_encoder, device, say, progress)
    plans, not_run = plan_models(plan, task, caches, baseline)
    arena = Arena(workspace, task, plan, device, say, tuple(sorted(set(dataset.labels))))
    rounds = [arena.round(number, variant, plans, not_run) for number, variant in variants(dataset, plan, task)]
    names = [name for name in rounds[0] if all(name in answers for answers in rounds)]
    if not names:
        raise UsageError("no head could be fitted: " + "; ".join(f"{x['name']}: {x['reason']}" for x in not_run))
    entrants = [_entrant(name, plans, [answers[name] for answers in rounds], arena) for name in names]
    counts = Counter(dataset.parts)
    proceedings = Proceedings(
        records={part: counts.get(part, 0) for part in ("train", "validation", "test")},
        split_digest=workspace.split_digest,
        heads=list(dict.fromkeys(model.head for model in plans)),
        encoders=[entry.spec.short_name for entry in caches],
        knobs={head: dict(knobs) for head, knobs in plan.settings.items()},
        folds=plan.folds,
        setting=plan.setting,
        not_run=[NotRun(**reason) for reason in not_run],
    )
    report = task.report(proceedings, dataset, entrants, arena.classes)
    return Compared(report, timing(entrants, report), task)


def _check(workspace: Workspace, plan: ComparisonPlan, task: AnyTask) -> None:
    """Refuse what cannot be compared before anything is embedded or fitted."""
    check_shares(task, plan.shares)
    if not plan.folds and "test" not in workspace.dataset.parts:
        raise WorkspaceError(workspace.folder, "its split has no test part", "compare on folds: --folds 5")
    if plan.folds and plan.models:
        raise UsageError("models that are fitted already cannot stand beside folds; leave out --models or --folds")
    if plan.refit is not None and not task.refits_in_comparisons:
        found = "validation rows weigh the members of the ensembles, so no model of a comparison is fitted on them"
        raise UsageError(f"--refit is not for {task.name}: {found}")
    if plan.settings.get(ENSEMBLE):
        task.check_ensemble_settings(plan.settings[ENSEMBLE])


def _entrant(name: str, plans: Sequence[PlannedModel], folds: Sequence[Answers], arena: Arena) -> Entrant[Answers]:
    plan = next((plan for plan in plans if plan.name == name), None)
    if name in arena.entered:
        head, encoder, baseline = arena.entered[name].head, arena.entered[name].spec.short_name, False
    elif plan is not None:
        head, encoder, baseline = plan.head, plan.encoder, plan.baseline
    elif name.startswith(ENSEMBLE):
        head, encoder, baseline = ENSEMBLE, "", False
    else:  # a baseline that needs no fitting
        head, encoder, baseline = name, "", True
    joined = arena.task.join_folds(folds, arena.plan.setting)
    return Entrant(name, head, encoder, baseline, joined, tuple(folds) if len(folds) > 1 else ())


def timing(entrants: Sequence[Entrant[Answers]], report: Report) -> Timing:
    """Return how long each model took to fit, where that is known, and its proteins a second, in the rows' order."""
    times = {entrant.name: entrant.answers.timing() for entrant in entrants}
    return Timing([Cost(row.name, *times[row.name]) for row in report.rows])
