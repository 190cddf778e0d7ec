"""`esmcls pretrain`: a small encoder of one's own, learned from a larger one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esmcls_cli.options import PATH, common, integers, note


@click.command("pretrain")
@click.argument("sequences", nargs=-1, required=True, metavar="SEQUENCES...")
@click.option("--teacher", required=True, metavar="FOLDER_OR_FILE", help="Weights of the larger encoder to learn from.")
@click.option("-o", "--output", type=PATH, required=True, help="The .safetensors to write; `--encoder` takes it.")
@click.option("--layers", type=click.IntRange(1), default=5, show_default=True, help="Layers of the new encoder.")
@click.option("--width", type=click.IntRange(2), default=256, show_default=True, help="Its width.")
@click.option("--heads", type=click.IntRange(1), default=8, show_default=True, help="Its attention heads.")
@click.option("--teacher-layers", default="3,4,5", show_default=True, help="Hidden states of the teacher to learn.")
@click.option(
    "--student-layers", type=click.IntRange(1), default=2, show_default=True, help="Last layers that carry it."
)
@click.option("--steps", type=click.IntRange(1), default=5000, show_default=True, help="Optimiser steps.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Fill this time instead of counting steps.")
@click.option("--tokens", type=click.IntRange(8), default=4096, show_default=True, help="Tokens a step.")
@click.option("--shortest", type=click.IntRange(1), default=64, show_default=True, help="Shortest crop, in residues.")
@click.option("--longest", type=click.IntRange(1), default=384, show_default=True, help="Longest crop, in residues.")
@click.option(
    "--pooled-weight", type=click.FloatRange(0), default=0.5, show_default=True, help="Weight of a crop's mean error."
)
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=2e-3, show_default=True, help="Learning rate.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint beside the output.")
@common(workspace=False, seed=True)
def command(
    sequences: tuple[str, ...],
    teacher: str,
    output: Path,
    teacher_layers: str,
    minutes: float | None,
    resume: bool,
    **settings: Any,
) -> None:
    """Train a small ESM-2-shaped encoder on your own sequences, by distillation from a larger one."""
    from esmcls.pretraining import PretrainConfig, pretrain
    from esmcls.readers import read_records
    from esmcls.records import Tally

    config = PretrainConfig(teacher_layers=integers(teacher_layers, "--teacher-layers") or (), **settings)
    tally = Tally()
    proteins = [record.protein.sequence for record in read_records(sequences, tally=tally)]
    note(*tally.lines())
    history = pretrain(proteins, teacher, output, config, minutes=minutes, resume=resume, log=_tell)
    click.echo(f"{output}: trained for {history.steps_done:,} steps; next: esmcls embed --encoder {output} ...")


def _tell(entry: dict[str, float]) -> None:
    if int(entry["step"]) % 50 == 0:
        note("  ".join(f"{name} {value:g}" for name, value in entry.items()))
