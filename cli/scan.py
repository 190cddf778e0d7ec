"""`esmcls scan`: the domains of whole proteins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esmcls.errors import UsageError
from esmcls_cli.options.common import common
from esmcls_cli.options.output import output_file, text_output
from esmcls_cli.options.reading import on_bad_option
from esmcls_cli.options.speech import note
from esmcls_cli.options.values import PATH

_ENDINGS = {".gff": "gff3", ".gff3": "gff3", ".domtblout": "domtblout", ".domtbl": "domtblout"}


@click.command("scan")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--scanner", metavar="NAME_OR_FOLDER", help="Of `esmcls fit-scan`.  [default: the workspace's only one]")
@click.option("--encoder", metavar="PATH", help="Weights of the scanner's encoder, where they lie elsewhere now.")
@click.option(
    "--min-probability",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="The least probability of a domain.",
)
@click.option(
    "--false",
    type=click.FloatRange(0, min_open=True),
    metavar="NUMBER",
    help="Domains in a megaresidue of shuffled proteins, at most.  [default: all of --min-probability]",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["tsv", "gff3", "domtblout"]),
    help="domtblout: as hmmscan --domtblout writes.  [default: as FILE ends, else tsv]",
)
@click.option("-o", "--output", type=PATH, help="File to write, whole or not at all.  [default: stdout]")
@on_bad_option
@common(device=True)
def command(
    inputs: tuple[str, ...],
    workspace: Path,
    scanner: str | None,
    encoder: str | None,
    min_probability: float,
    false: float | None,
    format_: str | None,
    output: Path | None,
    on_bad_record: Any,
    device: str,
) -> int:
    """Find the domains of known families in the proteins of INPUT: first and last residue, family, probability.

    INPUT is anything that `esmcls embed` takes; `-` is standard input. No two domains of a protein overlap; what is
    between them is none of these families. `by_chance` is how many domains of that score or more shuffled proteins of
    that length have.
    """
    from esmcls.reading.readers import find_sources, read_records
    from esmcls.reading.records import Tally
    from esmcls.scanning.folder import encoded, find_scanner, load_scanner
    from esmcls.scanning.formats import write

    for item in inputs:
        find_sources(item)  # a file that is not there is told before a scanner is loaded
    if output is not None:
        output_file(output)
    format_ = format_ or _format_of(output)
    opened = load_scanner(find_scanner(workspace, scanner), device)
    tally = Tally()
    proteins = (record.protein for record in read_records(inputs, on_bad=on_bad_record, tally=tally))
    scanned = opened.scan(proteins, encoded(opened.spec, device, encoder), min_probability, false)
    with text_output(output) as handle:
        count = write(format_, opened, scanned, handle)
    note(*tally.lines(), str(count))
    return 3 if tally.bad else 0


def _format_of(output: Path | None) -> str:
    """Return the format that a file's name ends in: a table, where it ends in nothing known."""
    suffix = "" if output is None else output.suffix.lower()
    if suffix in (".gz", ".xlsx", ".csv", ".json", ".jsonl"):
        raise UsageError(f"-o {output}: domains are written as .tsv, .gff3 or .domtblout; end the name in one of these")
    return _ENDINGS.get(suffix, "tsv")
