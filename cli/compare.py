"""`esmcls compare`: every head on the same split, and a report of it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from esmcls_cli.options import PATH, common, given_options, note, progress, set_aside_options, share

_BY_KIND = {
    "hold_out_families": "--hold-out-families",
    "calibration": "--calibration",
    "false_acceptance": "--false-acceptance",
    "coverage": "--coverage",
    "names": "--names",
}
"""Options that not every kind of task has."""


@click.command("compare")
@click.option("--heads", metavar="A,B", help="Heads to compare; `esmcls heads` lists them.  [default: all]")
@click.option("--encoders", metavar="A,B", help="Encoders, embedded now if need be.  [default: that of the last cache]")
@click.option("--long", "longs", metavar="A,B", help="Strategies for long sequences to compare, each with its vectors.")
@click.option("--models", metavar="A,B", help="Fitted ones to stand beside, such as one of `esmcls finetune`.")
@click.option("--folds", type=click.IntRange(2), help="Cross-validate on train and validation; test is not read.")
@set_aside_options
@click.option("--coverage", type=share, default=0.95, show_default=True, help="Of sets, with --calibration.")
@click.option("--refit/--no-refit", default=None, help="As in `esmcls fit`.")
@click.option(
    "--baselines/--no-baselines",
    default=True,
    help="With k-mers and the majority class beside; of terms, with naive and homology.",
)
@click.option("--set", "settings", nargs=3, multiple=True, metavar="HEAD NAME VALUE", help="A knob of a head.")
@click.option("--names", type=PATH, help="Table of class and name, to show beside accessions.")
@common(device=True, seed=True)
def command(
    workspace: Path,
    heads: str | None,
    encoders: str | None,
    longs: str | None,
    models: str | None,
    folds: int | None,
    hold_out_families: float,
    calibration: float,
    false_acceptance: float,
    coverage: float,
    refit: bool | None,
    baselines: bool,
    settings: tuple[tuple[str, str, str], ...],
    names: Path | None,
    device: str,
    seed: int,
) -> None:
    """Fit every head on the same split, measure all on the test part, and write a report.

    Leaves the models in models/ and reports/compare/ with report.html, tables and figures. An interrupted comparison
    goes on where it stopped; what is fitted with the same options already is not fitted again. Of Gene Ontology terms,
    heads are measured as CAFA does it: Fmax, weighted Fmax and Smin in each aspect, by frequency and length.
    """
    from esmcls.datasets.held_out import Shares
    from esmcls.evaluation.compare import compare
    from esmcls.evaluation.plan import ComparisonPlan
    from esmcls.tasks.kinds import task_of
    from esmcls.tasks.one_label.report import read_names
    from esmcls.workspace.workspace import Workspace

    knobs: dict[str, dict[str, Any]] = defaultdict(dict)
    for head, name, value in settings:
        knobs[head][name] = value
    plan = ComparisonPlan(
        heads=tuple((heads or "").split(",")) if heads else (),
        encoders=tuple(encoders.split(",")) if encoders else (),
        longs=tuple(longs.split(",")) if longs else (),
        models=tuple(models.split(",")) if models else (),
        settings=dict(knobs),
        shares=Shares(hold_out_families, calibration, false_acceptance),
        coverage=coverage,
        folds=folds or 0,
        refit=refit,
        baselines=baselines,
        seed=seed,
    )
    place = Workspace.open(workspace)
    task_of(place).refuse(given_options(_BY_KIND), str(workspace))
    class_names = read_names(names) if names is not None else {}
    compared = compare(place, plan, device=device, say=note, progress=progress)
    page = compared.write(place.folder / "reports" / "compare", class_names)
    click.echo("\n".join(compared.lines()))
    note(f"written: {page}", "next: esmcls predict FASTA, with the model that validation chose")
