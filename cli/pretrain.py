"""`esmcls pretrain`: a small encoder of one's own, for one's own sequences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esmcls.errors import UsageError
from esmcls_cli.options.common import common
from esmcls_cli.options.output import output_file
from esmcls_cli.options.progress import training_bar
from esmcls_cli.options.speech import note
from esmcls_cli.options.values import PATH, integers

if TYPE_CHECKING:
    from esmcls.reading.records import Record

COLUMN = "<column>"


@click.command("pretrain")
@click.argument("sequences", nargs=-1, required=True, metavar="SEQUENCES...")
@click.option("--teacher", metavar="FOLDER_OR_FILE", help="Weights of a larger encoder to learn from.")
@click.option(
    "--clusters", is_flag=False, flag_value=COLUMN, metavar="[FILE]",
    help="Bring members of a cluster together: a table of the cluster of each id; without FILE, the SEQUENCES' column.",
)  # fmt: skip
@click.option(
    "--residue-targets", type=PATH, metavar="FILE",
    help="A table of further sequences with their residues' secondary structure and accessibility.",
)  # fmt: skip
@click.option("--residue-profiles", type=PATH, metavar="FILE", help="An .npz of sequence profiles of those.")
@click.option("-o", "--output", type=PATH, required=True, help="The .safetensors to write; `--encoder` takes it.")
@click.option("--layers", type=click.IntRange(1), default=4, show_default=True, help="Layers of the new encoder.")
@click.option("--width", type=click.IntRange(2), default=256, show_default=True, help="Its width.")
@click.option("--heads", type=click.IntRange(1), default=8, show_default=True, help="Its attention heads.")
@click.option("--initial", type=PATH, metavar="FILE", help="Start from the first layers of this encoder.")
@click.option("--steps", type=click.IntRange(1), default=5000, show_default=True, help="Optimiser steps.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Fill this time instead of counting steps.")
@click.option("--distill-weight", type=click.FloatRange(0), help="Weight of the teacher.  [default: 1 with it]")
@click.option("--mlm-weight", type=click.FloatRange(0), help="Weight of masked residues.  [default: 1 with no teacher]")
@click.option("--contrast-weight", type=click.FloatRange(0), help="Weight of the clusters.  [default: 0.1 with them]")
@click.option(
    "--aligned-weight",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Weight of residues that alignments of a cluster's members put beside each other.",
)
@click.option(
    "--structure-weight",
    type=click.FloatRange(0),
    help="Weight of structure and accessibility.  [default: 0.3 with them]",
)
@click.option("--profile-weight", type=click.FloatRange(0), help="Weight of the profiles.  [default: 0.3 with them]")
@click.option(
    "--targets-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of crops from the residue targets.",
)
@click.option("--teacher-layers", default="3,4,5", show_default=True, help="Hidden states of the teacher to learn.")
@click.option(
    "--student-layers", type=click.IntRange(1), default=2, show_default=True, help="Last layers that carry it."
)
@click.option("--default-layers", metavar="N,N,…", help="Layers that embed takes.  [default: the last that carry it]")
@click.option(
    "--pooled-weight", type=click.FloatRange(0), default=0.5, show_default=True, help="Weight of a crop's mean error."
)
@click.option("--tokens", type=click.IntRange(8), default=4096, show_default=True, help="Tokens a step and device.")
@click.option("--shortest", type=click.IntRange(1), default=64, show_default=True, help="Shortest crop, in residues.")
@click.option("--longest", type=click.IntRange(1), default=384, show_default=True, help="Longest crop, in residues.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=2e-3, show_default=True, help="Learning rate.")
@click.option(
    "--checkpoint-minutes", type=click.FloatRange(0), default=10.0, show_default=True, help="Between checkpoints."
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint beside the output.")
@common(workspace=False, devices=True, seed=True, precision="auto")
def command(
    sequences: tuple[str, ...],
    teacher: str | None,
    clusters: str | None,
    residue_targets: Path | None,
    residue_profiles: Path | None,
    output: Path,
    initial: Path | None,
    minutes: float | None,
    distill_weight: float | None,
    mlm_weight: float | None,
    contrast_weight: float | None,
    structure_weight: float | None,
    profile_weight: float | None,
    teacher_layers: str,
    default_layers: str | None,
    resume: bool,
    device: str,
    **settings: Any,
) -> None:
    """Train a small ESM-2-shaped encoder on your sequences: from a teacher, masked residues, clusters or structures."""
    from esmcls.pretraining.read_targets import read_residue_targets
    from esmcls.pretraining.run import PretrainConfig, check_objectives, pretrain
    from esmcls.reading.readers import read_records
    from esmcls.reading.records import Tally
    from esmcls.training.loop import LogFile
    from esmcls.training.processes import start_replicas

    config = PretrainConfig(
        teacher_layers=integers(teacher_layers, "--teacher-layers") or (),
        default_layers=integers(default_layers, "--default-layers"),
        distill_weight=_weight(distill_weight, 1.0, teacher is not None),
        mlm_weight=_weight(mlm_weight, 1.0, teacher is None),
        contrast_weight=_weight(contrast_weight, 0.1, clusters is not None),
        structure_weight=_weight(structure_weight, 0.3, residue_targets is not None),
        profile_weight=_weight(profile_weight, 0.3, residue_profiles is not None),
        **settings,
    )
    if residue_profiles is not None and residue_targets is None:
        raise UsageError("profiles are of the sequences of a table; give it, too: --residue-targets FILE")
    check_objectives(config, teacher is not None, clusters is not None, residue_targets is not None)
    output_file(output)
    tally = Tally()
    records = list(read_records(sequences, tally=tally))
    families = None if clusters is None else _families(records, clusters)
    targets = None if residue_targets is None else read_residue_targets(residue_targets, residue_profiles)
    replicas = start_replicas(device.split(","))
    if replicas.first:
        note(*tally.lines())
    log = LogFile(output.with_suffix(".log.jsonl"))
    with training_bar(shown=replicas.first) as bar:

        def log_step(entry: dict[str, float]) -> None:
            log(entry)
            bar.advance(entry)

        history = pretrain(
            [record.protein.sequence for record in records],
            output,
            config,
            teacher=teacher,
            families=families,
            targets=targets,
            initial=initial,
            minutes=minutes,
            resume=resume,
            replicas=replicas,
            planned=bar.start,
            log=log_step,
        )
    if replicas.first:
        _tell(output, log.path, history.steps_done)


def _tell(output: Path, log: Path, steps: int) -> None:
    """Draw the curves of the run, and say where everything is."""
    from esmcls.training.log_figure import draw_curves, read_log

    figure = output.with_suffix(".svg")
    draw_curves({output.stem: read_log(log)}, figure)
    click.echo(f"{output}: trained for {steps:,} steps; curves in {figure.name}, log in {log.name}")
    click.echo(f"next: esmcls embed --encoder {output} ...")


def _weight(option: float | None, usual: float, wanted: bool) -> float:
    return option if option is not None else usual * wanted


def _families(records: list[Record], clusters: str) -> list[str]:
    """Return the cluster of each record, from a table or from the records' own column."""
    if clusters != COLUMN:
        from esmcls.datasets.clusters import read_clusters

        cluster_of = read_clusters(clusters, (record.protein.id for record in records))
        return [cluster_of[record.protein.id] for record in records]
    lacking = next((record for record in records if record.label is None), None)
    if lacking is not None:
        where = f"{lacking.path}, line {lacking.line}: {lacking.protein.id}"
        raise UsageError(f"{where} has no cluster; give SEQUENCES a column cluster, or --clusters a table")
    return [record.label for record in records if record.label is not None]
