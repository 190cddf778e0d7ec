"""Every head for many labels on the same split, and ensembles of them, compared. Can be interrupted and resumed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from esmcls.errors import UsageError, WorkspaceError
from esmcls.evaluation.compare import Comparison
from esmcls.evaluation.plan import Plan, Say, Terms, find_caches, plan_models
from esmcls.evaluation.term_contestants import TermArena
from esmcls.heads.alignment.search import installed
from esmcls.heads.registry import list_heads
from esmcls.heads.term_heads import GROUP
from esmcls.models.combine import ENSEMBLE
from esmcls.tasks.go_terms.answers import TermAnswers
from esmcls.tasks.go_terms.comparison import compare_terms
from esmcls.tasks.one_label.comparison import DRAWS
from esmcls.workspace.embed_in_workspace import Progress
from esmcls.workspace.workspace import CacheEntry, Workspace

FORMAT: Final = 1
NAIVE: Final = "naive"
HOMOLOGY: Final = "homology"

Versus = dict[str, dict[str, dict[str, Any]]]
"""Aspect -> measure -> difference: see `esmcls.tasks.go_terms.comparison.Difference`."""


def compare(
    workspace: Workspace,
    terms: Terms,
    *,
    device: str = "cpu",
    say: Say = lambda line: None,
    progress: Progress | None = None,
    draws: int = DRAWS,
) -> Comparison:
    """Fit and ask every head for many labels, and compare what they reach.

    Parameters
    ----------
    workspace : Workspace
        Of many labels.
    terms : Terms
        Heads, encoders, models, settings, baselines (`naive`, and `homology` where an engine is installed) and seed;
        the rest is for one label.
    device, say, progress
        As in `esmcls.evaluation.compare.compare`.
    draws : int
        Of the paired bootstrap.

    Returns
    -------
    Comparison
        Its report holds format, dataset, settings, best and chosen (by the mean over aspects of Fmax, on the test part
        and on validation), rows, the best first, and not_run. A row: name, head, encoder, baseline, validation,
        mean_fmax, aspects (as `TermEvaluation.to_json` has them), versus_best and versus_homology (aspect -> measure ->
        difference; None of the model itself, or where there is none), megabytes.

    Raises
    ------
    WorkspaceError
        If the dataset has no terms or no test part.
    UsageError
        If there is nothing to compare.
    """
    dataset = workspace.dataset
    if not workspace.has_terms:
        raise WorkspaceError(workspace.folder, "its proteins have one label each, not terms", "call contest.compare")
    if "test" not in dataset.parts:
        raise WorkspaceError(workspace.folder, "its split has no test part", "embed with one: esmcls embed --test")
    if terms.settings.get(ENSEMBLE):
        raise UsageError("--set ensemble: in a comparison, it is of all models; esmcls fit --head ensemble takes knobs")
    caches, _ = find_caches(workspace, replace(terms, baselines=False), device, say, progress)
    plans, not_run = plan_models(replace(terms, heads=_heads(terms)), caches, None, GROUP)
    plans = [replace(plan, baseline=plan.head == NAIVE) for plan in plans]
    arena = TermArena(workspace, terms, device, say, not_run=not_run)
    found = arena.run(plans)
    if not found:
        raise UsageError("no head could be fitted: " + "; ".join(f"{x['name']}: {x['reason']}" for x in not_run))
    rows = _rows(arena, plans, terms.seed, draws)
    report = {
        "format": FORMAT,
        "dataset": _about(workspace, found, terms),
        "settings": _settings(terms, plans, caches),
        "best": rows[0]["name"],
        "chosen": _chosen(rows),
        "rows": rows,
        "not_run": not_run,
    }
    return Comparison(json.loads(json.dumps(report)), _timing(found, rows, dataset.parts.count("test")))


def _heads(terms: Terms) -> tuple[str, ...]:
    """Return the heads, with those that always stand beside."""
    beside = (NAIVE, HOMOLOGY) if installed() is not None else (NAIVE,)
    named = terms.heads or tuple(list_heads(GROUP))
    return tuple(dict.fromkeys((*named, *(beside if terms.baselines else ()))))


def _rows(arena: TermArena, plans: Sequence[Plan], seed: int, draws: int) -> list[dict[str, Any]]:
    found, by_name = arena.found, {plan.name: plan for plan in plans}
    baseline = {name: name in by_name and by_name[name].baseline for name in found}
    names = sorted(found, key=lambda name: (-found[name].mean_fmax, baseline[name], name))
    best = versus(found, names[0], names, seed, draws)
    homology = versus(found, HOMOLOGY, names, seed, draws)
    return [
        {
            "name": name,
            **_origin(name, by_name.get(name), arena),
            "baseline": baseline[name],
            "validation": found[name].about["validation"],
            "mean_fmax": found[name].mean_fmax,
            "aspects": found[name].evaluation["aspects"],
            "versus_best": best.get(name),
            "versus_homology": homology.get(name),
            "megabytes": found[name].about["megabytes"],
        }
        for name in names
    ]


def _origin(name: str, plan: Plan | None, arena: TermArena) -> dict[str, str]:
    if name in arena.entered:
        return {"head": arena.entered[name].head, "encoder": arena.entered[name].spec.short_name}
    return {"head": ENSEMBLE, "encoder": ""} if plan is None else {"head": plan.head, "encoder": plan.encoder}


def versus(
    found: Mapping[str, TermAnswers], reference: str, names: Sequence[str], seed: int, draws: int
) -> dict[str, Versus]:
    """Return how far each other model is from one; nothing where that was not run."""
    if reference not in found:
        return {}
    others = [name for name in names if name != reference]
    differences = compare_terms(
        found[reference].counts, [found[name].counts for name in others], folds=draws, seed=seed
    )
    return {
        name: {
            aspect: {what: asdict(difference) for what, difference in measures.items()}
            for aspect, measures in aspects.items()
        }
        for name, aspects in zip(others, differences, strict=True)
    }


def _about(workspace: Workspace, found: Mapping[str, TermAnswers], terms: Terms) -> dict[str, Any]:
    counts, any_of = Counter(workspace.dataset.parts), next(iter(found.values())).evaluation
    return {
        "records": {part: counts.get(part, 0) for part in ("train", "validation", "test")},
        "terms": {"trained": _trained(workspace), "tested": any_of["n_terms"], "unseen": any_of["unseen_terms"]},
        "split_digest": workspace.split_digest,
        "seed": terms.seed,
    }


def _trained(workspace: Workspace) -> int:
    return workspace.term_sets(workspace.dataset.part("train")).n_classes


def _settings(terms: Terms, plans: Sequence[Plan], caches: Sequence[CacheEntry]) -> dict[str, Any]:
    return {
        "heads": list(dict.fromkeys(plan.head for plan in plans)),
        "encoders": [entry.spec.short_name for entry in caches],
        "knobs": terms.settings,
    }


def _chosen(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the model that validation would choose: that of the highest mean Fmax there."""
    scored = [row for row in rows if "fmax" in (row["validation"] or {}) and not row["baseline"]]
    return max(scored, key=lambda row: row["validation"]["fmax"])["name"] if scored else None


def _timing(found: Mapping[str, TermAnswers], rows: Sequence[Mapping[str, Any]], n: int) -> dict[str, Any]:
    """Return how long each model took to fit, where that is known, and its proteins a second, in the rows' order."""
    told = []
    for row in rows:
        fit, predict = found[row["name"]].seconds
        took, speed = None if fit is None else round(fit, 2), round(n / predict) if predict else None
        told.append({"name": row["name"], "fit_seconds": took, "proteins_per_second": speed})
    return {"format": FORMAT, "rows": told}
