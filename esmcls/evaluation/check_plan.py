"""What cannot be compared is refused before anything is embedded or fitted: knobs, names, folders, parts."""

from __future__ import annotations

from collections import Counter

from esmcls.datasets.held_out import Shares, set_aside
from esmcls.encoders.encoder import find_opener
from esmcls.encoders.windows import parse_long
from esmcls.errors import EsmclsError, UsageError, WorkspaceError
from esmcls.evaluation.origin import check_date
from esmcls.evaluation.plan import ComparisonPlan
from esmcls.heads.registry import list_heads
from esmcls.heads.settings import parse_settings
from esmcls.models.combine import ENSEMBLE
from esmcls.models.fit import check_shares, with_pooling
from esmcls.models.folder import read_manifest
from esmcls.tasks.task import AnyTask
from esmcls.workspace.workspace import Workspace


def check_plan(workspace: Workspace, plan: ComparisonPlan, task: AnyTask) -> None:
    """Refuse a comparison that cannot be done as it is asked for.

    Raises
    ------
    WorkspaceError
        If the split has no test part and no folds are asked for, or nothing is embedded.
    UsageError
        If a head, encoder, model, strategy or knob is not known, or a knob has no such value.
    ModelError
        If a model that is to stand beside cannot be read.
    """
    check_shares(task, plan.shares)
    if not plan.folds and "test" not in workspace.dataset.parts:
        raise WorkspaceError(workspace.folder, "its split has no test part", "compare on folds: --folds 5")
    if plan.folds and plan.models:
        raise UsageError("models that are fitted already cannot stand beside folds; leave out --models or --folds")
    if plan.refit is not None and not task.refits_in_comparisons:
        problem = "validation rows weigh the members of the ensembles, so no model of a comparison is fitted on them"
        raise UsageError(f"--refit is not for {task.name}: {problem}")
    for text in plan.longs:
        parse_long(text)
    check_date(plan.date)
    given = {"--ia": plan.ia, "--known": plan.known, "--evidence": plan.evidence}
    task.refuse(given, str(workspace.folder))
    if plan.ia is not None:
        task.check_accretion(plan.ia, workspace.dataset)
    _check_encoders(workspace, plan)
    _check_models(workspace, plan, task)
    set_aside(workspace.dataset, plan.shares, plan.seed)
    _check_heads(workspace, plan, task)


def _check_encoders(workspace: Workspace, plan: ComparisonPlan) -> None:
    if not plan.encoders:
        workspace.latest_cache().close()
    for name in plan.encoders:
        if not workspace.caches_of(name):
            find_opener(workspace.encoder_name(name))


def _check_models(workspace: Workspace, plan: ComparisonPlan, task: AnyTask) -> None:
    folders = [workspace.find_model(name) for name in plan.models]
    for folder in folders:
        manifest = read_manifest(folder)
        reason = ""
        if manifest.kind != task.kind:
            reason = f"a model of another kind of task than {task.name}; leave it out"
        elif manifest.split_digest != workspace.split_digest:
            reason = "fitted on another split, so it may know the test part; fit it again, or leave it out"
        elif Shares.of_setup(manifest.setup).away != plan.shares.away:
            reason = "it knows other families than those that this comparison takes away; leave it out"
        if reason:
            raise UsageError(f"--models {folder.name}: {reason}")
    twice = [name for name, times in Counter(folder.name for folder in folders).items() if times > 1]
    if twice:
        raise UsageError(f"--models names two models {twice[0]}; leave one out, or give its folder another name")


def _check_heads(workspace: Workspace, plan: ComparisonPlan, task: AnyTask) -> None:
    """Refuse heads that nothing is registered as, and knobs that a head lacks or that cannot be as they are set."""
    heads = dict.fromkeys(plan.heads or list_heads(task.group))
    beside = (*task.beside(), *([task.default_head] if task.baseline_encoder else [])) if plan.baselines else ()
    for head in (*heads, *plan.settings):
        try:
            task.head_class(head)
        except UsageError:
            raise
        except EsmclsError:
            pass  # what cannot run here for want of a package is told in the report
    for head, knobs in plan.settings.items():
        if head not in (*heads, *beside):
            raise UsageError(f"--set {head}: it is not among the heads that are compared ({', '.join(heads)})")
        _check_knobs(workspace, plan, task, head, knobs)


def _check_knobs(workspace: Workspace, plan: ComparisonPlan, task: AnyTask, head: str, knobs: dict[str, str]) -> None:
    if head == ENSEMBLE:
        task.check_ensemble_settings(knobs)
    try:
        head_class = task.head_class(head)
    except EsmclsError:
        return
    stored = [entry.spec.poolings for name in plan.encoders for entry in workspace.caches_of(name)[-1:]]
    if not plan.encoders:
        stored = [workspace.caches[-1].spec.poolings]
    try:
        parse_settings(head_class.Config, knobs)
        for poolings in stored if "pooling" in knobs else []:
            with_pooling(head_class, knobs, None, poolings)
    except UsageError as error:
        raise UsageError(f"{head}: {error}") from None
