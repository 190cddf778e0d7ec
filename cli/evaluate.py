"""`esmcls evaluate`: how good a model is on the test part, or on INPUT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esmcls_cli.options import PATH, common, complete_models, note, on_bad_option, warn


@click.command("evaluate")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--labels", type=PATH, help="Table of the true labels of INPUT, or of its terms (CAFA's).")
@click.option("--label-column", metavar="NAME", help="Column of a table that holds the labels.")
@click.option("--ia", type=PATH, help="Terms: table of information accretion.  [default: counted on the train part]")
@click.option(
    "--model",
    metavar="NAME_OR_FOLDER",
    shell_complete=complete_models,
    help="[default: the workspace's best, by its score on validation]",
)
@click.option("--names", type=PATH, help="Table of class and name, to show beside accessions.")
@click.option("--name", default="", help="Of the report.  [default: the model's]")
@click.option("--replace", is_flag=True, help="Replace a report of this name, whatever it is of.")
@click.option("--date", default="", metavar="YYYY-MM-DD", help="Of the report.  [default: the data set's files']")
@click.option("--encoder", metavar="PATH", help="Weights of the model's encoder, where they lie elsewhere now.")
@on_bad_option
@common(device=True, seed=True)
def command(
    inputs: tuple[str, ...],
    labels: Path | None,
    label_column: str | None,
    ia: Path | None,
    workspace: Path,
    model: str | None,
    names: Path | None,
    name: str,
    replace: bool,
    date: str,
    encoder: str | None,
    on_bad_record: Any,
    device: str,
    seed: int,
) -> int:
    """Measure a model on the dataset's test part, or on labelled sequences.

    Prints accuracy, top-3/5/10 accuracy, precision, recall and F1 with bootstrap intervals, and the accuracy by
    family size; of Gene Ontology terms Fmax, weighted Fmax and Smin in each aspect, as CAFA measures them, by frequency
    and length; of numbers Spearman, Pearson, R², RMSE and the mean absolute error. Leaves a report in
    reports/evaluate-NAME/ of the workspace: a page, tables of every class or term and of every wrong protein with what
    it was taken for and its nearest training protein, figures, and metrics.json.
    """
    from esmcls.evaluation.assess import assess, labelled, source_name
    from esmcls.models.predict import open_model
    from esmcls.reading.readers import find_sources, read_records
    from esmcls.reading.records import Tally
    from esmcls.reading.tables import ColumnNames
    from esmcls.tasks.one_label.report import read_names
    from esmcls.workspace.workspace import STATE, Workspace

    for item in (*inputs, *(str(table) for table in (labels, ia, names) if table is not None)):
        find_sources(item)  # a file that is not there is told before a model is loaded
    if model is None and (workspace / STATE).exists():
        warn(str(Workspace.open(workspace).choose_model()))
    opened = open_model(workspace, model, device=device, encoder=encoder)
    place = Workspace.open(workspace) if (workspace / STATE).exists() else None
    opened.task.refuse({"--ia": ia, "--names": names}, f"model {opened.name}")
    class_names = {} if names is None else read_names(names)
    tally, given = Tally(), None
    if inputs:
        ontology = None if labels is None else opened.task.ontology
        columns = ColumnNames(label_column)
        records = read_records(
            inputs, labels=labels, ontology=ontology, on_bad=on_bad_record, tally=tally, columns=columns
        )
        given = labelled(records, inputs[0], opened.task)
        note(*tally.lines())
    source = source_name(inputs) if inputs else ""
    assessment = assess(opened, place, given, ia=ia, source=source, seed=seed, name=name, replace=replace, date=date)
    if not assessment.same_split:
        warn("warning: this model was fitted on another split; it may have seen sequences of this test part")
    click.echo("\n".join([f"model {opened.name}", *assessment.lines()]))
    if assessment.file is not None:
        note(f"written: {assessment.write(names=class_names)}")
    return 3 if tally.bad else 0
