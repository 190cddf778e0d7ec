"""`esmcls evaluate`: how good a model is on the test part, or on INPUT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esmcls_cli.options import PATH, common, note, on_bad_option, warn


@click.command("evaluate")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--labels", type=PATH, help="Table `id<TAB>label` of the true labels of INPUT.")
@click.option("--model", metavar="NAME_OR_FOLDER", help="[default: the workspace's best, by macro F1 on validation]")
@click.option("--encoder", metavar="PATH", help="Weights of the model's encoder, where they lie elsewhere now.")
@on_bad_option
@common(device=True, seed=True)
def command(
    inputs: tuple[str, ...],
    labels: Path | None,
    workspace: Path,
    model: str | None,
    encoder: str | None,
    on_bad_record: Any,
    device: str,
    seed: int,
) -> int:
    """Measure a model on the dataset's test part, or on labelled sequences.

    Prints accuracy, top-3/5/10 accuracy, precision, recall and F1 with bootstrap intervals, and the accuracy by
    family size; writes them to reports/evaluate/<model>/metrics.json of the workspace.
    """
    from esmcls.assessment import assess, labelled, source_name
    from esmcls.prediction import open_model
    from esmcls.readers import read_records
    from esmcls.records import Tally
    from esmcls.workspace import STATE, Workspace

    opened = open_model(workspace, model, device=device, encoder=encoder)
    place = Workspace.open(workspace) if (workspace / STATE).exists() else None
    tally, given = Tally(), None
    if inputs:
        given = labelled(read_records(inputs, labels=labels, on_bad=on_bad_record, tally=tally), inputs[0])
        note(*tally.lines())
    found = assess(opened, place, given, source=source_name(inputs) if inputs else "", seed=seed)
    if not found.same_split:
        warn("warning: this model was fitted on another split; it may have seen sequences of this test part")
    click.echo("\n".join([f"model {opened.folder.name}", *found.lines()]))
    if found.file is not None:
        note(f"written: {found.file}")
    return 3 if tally.bad else 0
