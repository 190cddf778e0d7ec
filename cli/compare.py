"""`esmcls compare`: every head on the same split, and a report of it."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esmcls_cli.colours import say, with_best
from esmcls_cli.engine import ENGINE_OPTIONS, engine_options
from esmcls_cli.options.command_groups import Grouped
from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_encoders, complete_heads, complete_models
from esmcls_cli.options.progress import progress
from esmcls_cli.options.reading import evidence_option
from esmcls_cli.options.set_aside import set_aside_options, shares_of
from esmcls_cli.options.speech import note
from esmcls_cli.options.values import PATH, given_options, share

if TYPE_CHECKING:
    from esmcls.engines.ray_team import Cluster
    from esmcls.workspace.workspace import Workspace

_BY_KIND = {
    "hold_out_families": "--hold-out-families",
    "calibration": "--calibration",
    "false_acceptance": "--false-acceptance",
    "accept_known": "--accept-known",
    "coverage": "--coverage",
    "names": "--names",
    "ia": "--ia",
    "known": "--known",
    "evidence": "--evidence",
}
"""Options that not every kind of task has."""
_GROUPS = {
    "Common options": ("heads", "encoders", "workspace", "device", "quiet"),
    "What it is called": ("name", "replace", "names", "date"),
    "What is compared": ("longs", "models", "baselines", "settings"),
    "How it is measured": (
        "folds",
        "hold_out_families",
        "calibration",
        "false_acceptance",
        "accept_known",
        "coverage",
        "ia",
        "known",
        "evidence",
        "refit",
        "seed",
    ),
    "Where it is done": ENGINE_OPTIONS,
    "Other options": (),
}


@click.command("compare", cls=Grouped, groups=_GROUPS)
@click.option(
    "--heads",
    metavar="A,B",
    shell_complete=complete_heads,
    help="Heads to compare; `esmcls heads` lists them.  [default: all]",
)
@click.option(
    "--encoders",
    metavar="A,B",
    shell_complete=complete_encoders,
    help="Encoders, embedded now if need be.  [default: that of the last cache]",
)
@click.option("--long", "longs", metavar="A,B", help="Strategies for long sequences to compare, each with its vectors.")
@click.option(
    "--models",
    metavar="A,B",
    shell_complete=complete_models,
    help="Fitted ones to stand beside, such as one of `esmcls finetune`.",
)
@click.option("--folds", type=click.IntRange(2), help="Cross-validate on train and validation; test is not read.")
@set_aside_options(
    "Take this share of the families, such as 10%, away from all models of the comparison: half of them set the "
    "threshold of rejection, test proteins of the others are the strangers that it is measured on. To use a head, fit "
    "it again (`esmcls fit`), so that it knows all families."
)
@click.option(
    "--coverage", type=share, default=0.95, show_default=True, help="Of sets, or intervals, with --calibration."
)
@click.option("--refit/--no-refit", default=None, help="As in `esmcls fit`.")
@click.option(
    "--baselines/--no-baselines",
    default=True,
    help="With k-mers and the majority class beside; of terms, with naive and homology; of numbers, with their mean.",
)
@click.option("--set", "settings", nargs=3, multiple=True, metavar="HEAD NAME VALUE", help="A knob of a head.")
@click.option("--names", type=PATH, help="Table of class and name, to show beside accessions.")
@click.option("--ia", type=PATH, help="Terms: table of information accretion.  [default: counted on the train part]")
@click.option(
    "--known",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="Terms: GAF or table of what was known of the proteins: targets are measured apart by it, too.",
)
@evidence_option
@click.option("--date", default="", metavar="YYYY-MM-DD", help="Of the report.  [default: the data set's files']")
@click.option("--name", default="", help="Of the report and its models.  [default: a new number]")
@click.option("--replace", is_flag=True, help="Replace a report and models of these names, whatever made them.")
@common(device=True, seed=True)
@engine_options
def command(
    workspace: Path,
    heads: str | None,
    encoders: str | None,
    longs: str | None,
    models: str | None,
    folds: int | None,
    hold_out_families: float | None,
    calibration: float,
    false_acceptance: float | None,
    accept_known: float | None,
    coverage: float,
    refit: bool | None,
    baselines: bool,
    settings: tuple[tuple[str, str, str], ...],
    names: Path | None,
    ia: Path | None,
    known: tuple[Path, ...],
    evidence: tuple[str, ...],
    date: str,
    name: str,
    replace: bool,
    device: str,
    seed: int,
    cluster: Cluster | None,
) -> int:
    """Fit every head on the same split, measure all on the test part, and write a report.

    Leaves the models in models/, and report.html, tables and figures in reports/compare-NAME/; reports/compare is the
    latest. What other settings made stays as it is. An interrupted comparison goes on where it stopped; what is fitted
    with the same options already is not fitted again. Of Gene Ontology terms, heads are measured as CAFA does it: Fmax,
    weighted Fmax and Smin in each aspect, by frequency and length; of numbers by the Spearman correlation. Exits with 3
    if a head had to be left out.
    """
    from esmcls.engines.compare import compare_on_ray
    from esmcls.evaluation.compare import compare
    from esmcls.evaluation.plan import ComparisonPlan
    from esmcls.tasks.kinds import task_of
    from esmcls.tasks.one_label.report import read_names
    from esmcls.workspace.workspace import Workspace

    knobs: dict[str, dict[str, Any]] = defaultdict(dict)
    for head, knob, value in settings:
        knobs[head][knob] = value
    place = Workspace.open(workspace)
    task_of(place).refuse(given_options(_BY_KIND), str(workspace))
    plan = ComparisonPlan(
        heads=tuple((heads or "").split(",")) if heads else (),
        encoders=tuple(encoders.split(",")) if encoders else (),
        longs=tuple(longs.split(",")) if longs else (),
        models=tuple(models.split(",")) if models else (),
        settings=dict(knobs),
        shares=shares_of(hold_out_families, calibration, false_acceptance, accept_known),
        coverage=coverage,
        folds=folds or 0,
        refit=refit,
        baselines=baselines,
        seed=seed,
        name=name,
        replace=replace,
        ia=ia,
        date=date,
        known=known,
        evidence=evidence,
    )
    class_names = read_names(names) if names is not None else {}
    if cluster is None:
        compared = compare(place, plan, device=device, say=note, progress=progress)
    else:
        compared = compare_on_ray(place, plan, cluster, say=note, progress=progress)
    page = compared.write(names=class_names)
    say("\n".join(with_best(compared.lines(), compared.report.best, sys.stdout)))
    click.echo(_choice(compared.report.chosen, place))
    note(f"written: {page}")
    best = {row.name: row.head for row in compared.report.rows}.get(compared.report.chosen or "", "linear")
    if hold_out_families:
        note(
            "these models lack the families taken away; next: fit the head to use on all of them, such as "
            f"esmcls fit --head {best} --hold-out-families {100 * hold_out_families:g}%"
        )
    elif folds:
        note(f"next: esmcls fit --head {best}; the models of the folds are not kept")
    else:
        note("next: esmcls predict FASTA")
    return 3 if compared.report.not_run else 0


def _choice(chosen: str | None, workspace: Workspace) -> str:
    """Say what validation chose, and what `predict` takes by default where that is another model."""
    if chosen is None:
        return "nothing was chosen: there are no validation proteins"
    if chosen not in [folder.name for folder in workspace.models()]:
        return f"chosen on validation: {chosen}; it is no model of this workspace: fit it to predict"
    best = workspace.best_model().name
    if chosen == best:
        return f"chosen on validation: {chosen}, which predict takes by default"
    return f"chosen on validation: {chosen}; predict takes it with --model {chosen}, by default {best}"
