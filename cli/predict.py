"""`esmcls predict`: labels for new sequences."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import click

from esmcls_cli.options import PATH, common, note, on_bad_option, output_file, share, warn


@click.command("predict")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--model", metavar="NAME_OR_FOLDER", help="[default: the workspace's best, by its score on validation]")
@click.option("--encoder", metavar="PATH", help="Weights of the model's encoder, where they lie elsewhere now.")
@click.option(
    "--top-k",
    type=click.IntRange(1),
    help="Classes a sequence, likeliest first.  [default: 1; of Gene Ontology terms all]",
)
@click.option("--coverage", type=share, help="Fill `set`: classes that hold the true one this often, such as .95.")
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1, min_open=True),
    help="Terms: the least probability to write.  [default: .1 and what is predicted; in cafa .01]",
)
@click.option(
    "--aspect",
    "aspects",
    multiple=True,
    type=click.Choice(["C", "F", "P"]),
    help="Terms: of this aspect alone; can be repeated.",
)
@click.option(
    "--at-least",
    type=click.IntRange(0),
    help="Terms: so many are predicted in an aspect where none reaches its threshold.  [default: 1]",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["tsv", "jsonl", "cafa"]),
    default="tsv",
    show_default=True,
    help="cafa: a CAFA submission, for terms.",
)
@click.option("-o", "--output", type=PATH, help="File to write, whole or not at all.  [default: stdout]")
@on_bad_option
@common(device=True)
def command(
    inputs: tuple[str, ...],
    workspace: Path,
    model: str | None,
    encoder: str | None,
    format_: str,
    output: Path | None,
    on_bad_record: Any,
    device: str,
    top_k: int | None,
    **options: Any,
) -> int:
    """Give each sequence of INPUT its likeliest classes, or its Gene Ontology terms.

    INPUT is anything that `esmcls embed` takes; `-` is standard input. Every record is answered, in input order.
    A model that was fitted with --hold-out-families says in `status` whether a sequence is of a family it knows; one
    fitted with --calibration can fill `set`. A model of terms writes those of at least --min-score, and says which of
    them are predicted by the thresholds that validation chose.
    """
    from esmcls.models.predict import open_model, write_answers
    from esmcls.reading.readers import read_records
    from esmcls.reading.records import Tally

    opened = open_model(workspace, model, device=device, encoder=encoder)
    tally = Tally()
    proteins = (record.protein for record in read_records(inputs, on_bad=on_bad_record, tally=tally))
    with _writing(output) as handle:
        written = write_answers(opened, proteins, handle, format_, k=top_k, **options)
    note(*tally.lines(), f"model {opened.name}: {written.records:,} records answered")
    for name in written.left_out:
        warn(f"{name}: too large for the memory; left without a label")
    return 3 if tally.bad or written.left_out else 0


@contextlib.contextmanager
def _writing(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    from esmcls.files import atomic_path

    with atomic_path(output_file(output)) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        yield handle
