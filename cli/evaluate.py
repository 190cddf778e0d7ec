"""`esmcls evaluate`: how good a model is on the test part, or on INPUT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esmcls.errors import UsageError
from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_models
from esmcls_cli.options.reading import evidence_option, label_column_option, mask_column_option, on_bad_option
from esmcls_cli.options.speech import note, warn
from esmcls_cli.options.values import PATH, SOURCE


@click.command("evaluate")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--labels", type=SOURCE, help="Table of the true labels of INPUT, or of its terms (CAFA's).")
@evidence_option
@click.option(
    "--known",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="Terms: GAF or table of what was known of the proteins: targets are measured apart by it, too.",
)
@label_column_option
@mask_column_option
@click.option(
    "--folded",
    type=click.IntRange(0),
    metavar="N",
    help="Structures: fold so many chains, spread over the lengths, for TM-score and RMSD.  [default: 24]",
)
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
    evidence: tuple[str, ...],
    known: tuple[Path, ...],
    label_column: str | None,
    mask_column: str | None,
    folded: int | None,
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
    and length; of many labels Fmax and F1; of numbers Spearman, Pearson, R², RMSE and the mean absolute error; of
    structures the precision of long-range contacts and lDDT, and of folded chains TM-score, GDT-TS and RMSD. Leaves a
    report in reports/evaluate-NAME/ of the workspace: a page, tables of every class or term and of every wrong protein
    with what it was taken for and its nearest training protein, figures, and metrics.json.
    """
    from esmcls.evaluation.assess import assess, labelled, source_name
    from esmcls.files import STATE
    from esmcls.models.predict import open_model
    from esmcls.reading.readers import find_sources, label_table, read_records
    from esmcls.reading.records import Tally
    from esmcls.reading.tables import NamedColumns
    from esmcls.tasks.one_label.report import read_names
    from esmcls.workspace.workspace import Workspace

    for item in (*inputs, *(str(table) for table in (labels, *known, ia, names) if table is not None)):
        find_sources(item)  # a file that is not there is told before a model is loaded
    if model is None and (workspace / STATE).exists():
        warn(str(Workspace.open(workspace).choose_model()))
    opened = open_model(workspace, model, device=device, encoder=encoder)
    place = Workspace.open(workspace) if (workspace / STATE).exists() else None
    opened.task.refuse({"--ia": ia, "--names": names, "--known": known, "--evidence": evidence}, f"model {opened.name}")
    if evidence and not (known or labels):
        raise UsageError("--evidence says what counts in GAFs of --labels or --known; name one, too")
    class_names = {} if names is None else read_names(names)
    tally, given = Tally(), None
    if inputs:
        ontology = None if labels is None else opened.task.ontology
        several, columns = opened.task.many, NamedColumns(label_column, mask_column)
        table = label_table(labels, ontology, several, evidence if labels else (), columns)
        records = read_records(
            inputs, labels=table, several=several, on_bad=on_bad_record, tally=tally, columns=columns
        )
        given = labelled(records, inputs[0], opened.task)
        note(*tally.lines())
    source = source_name(inputs) if inputs else ""
    of_report: dict[str, Any] = {"source": source, "seed": seed, "name": name, "replace": replace, "date": date}
    assessment = assess(opened, place, given, ia=ia, known_terms=known, evidence=evidence, folded=folded, **of_report)
    if not assessment.same_split:
        warn("warning: this model was fitted on another split; it may have seen sequences of this test part")
    click.echo("\n".join([f"model {opened.name}", *assessment.lines()]))
    if assessment.file is not None:
        note(f"written: {assessment.write(names=class_names)}")
    return 3 if tally.bad else 0
