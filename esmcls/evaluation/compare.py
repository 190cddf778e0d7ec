"""Every head on the same split, and ensembles of them, compared. Can be interrupted and resumed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esmcls.datasets.dataset import Dataset
from esmcls.errors import UsageError, WorkspaceError
from esmcls.evaluation.fit_and_ask import MAJORITY, Arena
from esmcls.evaluation.plan import Plan, Say, Terms, find_caches, plan_models, variants
from esmcls.models.combine import ENSEMBLE
from esmcls.models.manifest import Manifest
from esmcls.tasks.one_label.answers import Answers
from esmcls.tasks.one_label.comparison import FORMAT, Entrant, compare_answers, timing
from esmcls.workspace.embed_in_workspace import Progress
from esmcls.workspace.workspace import CacheEntry, Workspace


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
    if terms.folds and terms.models:
        raise UsageError("models that are fitted already cannot stand beside folds; leave out --models or --folds")
    arena = Arena(workspace, terms, device, say, tuple(sorted(set(dataset.labels))))
    rounds = [arena.round(number, variant, plans, not_run) for number, variant in variants(dataset, terms)]
    names = [name for name in rounds[0] if all(name in found for found in rounds)]
    if not names:
        raise UsageError("no head could be fitted: " + "; ".join(f"{x['name']}: {x['reason']}" for x in not_run))
    entrants = [_entrant(name, plans, [found[name] for found in rounds], arena.entered) for name in names]
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


def _entrant(name: str, plans: Sequence[Plan], found: Sequence[Answers], entered: Mapping[str, Manifest]) -> Entrant:
    plan = next((plan for plan in plans if plan.name == name), None)
    head, encoder, baseline = (plan.head, plan.encoder, plan.baseline) if plan else (ENSEMBLE, "", False)
    if name in entered:
        head, encoder = entered[name].head, entered[name].spec.short_name
    if name == MAJORITY:
        head, baseline = MAJORITY, True
    return Entrant(name, head, encoder, baseline, Answers.joined(found), tuple(found) if len(found) > 1 else ())
