"""`esmcls annotate`: Gene Ontology terms of proteins, with no labels of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from esmcls.errors import UsageError
from esmcls_cli.options.common import common
from esmcls_cli.options.output import output_file, text_output
from esmcls_cli.options.reading import on_bad_option
from esmcls_cli.options.speech import note, warn
from esmcls_cli.options.values import PATH

if TYPE_CHECKING:
    from esmcls.reading.readers import OnBad


@click.command("annotate")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--reference",
    type=PATH,
    metavar="REF",
    help="What `esmcls reference build` wrote.  [default: the one that comes with esmcls]",
)
@click.option("--aspect", "aspects", multiple=True, type=click.Choice(["C", "F", "P"]), help="Can be repeated.")
@click.option("--all-terms", is_flag=True, help="Tables: write the terms that contain a written one, too.")
@click.option(
    "--taxon",
    type=click.IntRange(1),
    metavar="N",
    help="NCBI's number of the organism, for gaf.  [default: 32644, unidentified]",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["tsv", "csv", "jsonl", "gaf", "cafa"]),
    help="cafa: a CAFA submission, of all terms.  [default: as FILE ends, else tsv]",
)
@click.option("-o", "--output", type=PATH, metavar="FILE", help="Written whole or not at all.  [default: stdout]")
@on_bad_option
@common(workspace=False, device=True)
def command(
    inputs: tuple[str, ...],
    reference: Path | None,
    aspects: tuple[str, ...],
    all_terms: bool,
    taxon: int | None,
    format_: str | None,
    output: Path | None,
    on_bad_record: OnBad,
    device: str,
) -> int:
    """Say what the proteins of INPUT do, where they are and what for, by what a reference knows.

    INPUT is anything that `esmcls embed` takes; no labels are needed. The reference is a model of proteins whose terms
    are known. Each protein gets a row a term, of the most specific terms that are predicted, or one row that says that
    `nothing near is known`: it aligns with no protein of the reference, and its vector is no nearer to any than a
    shuffled protein's. `nearest_id` and `nearest` say which protein of the reference is nearest and how near,
    `expected_f` how good the answer is expected to be, `reference` what was asked, from when.
    """
    from esmcls.reading.readers import find_sources, read_records
    from esmcls.reading.records import Tally
    from esmcls.reference.annotate import UNIDENTIFIED, check_format, open_reference, write_annotations

    for item in inputs:
        find_sources(item)  # a file that is not there is told before a model is loaded
    if output is not None:
        output_file(output)
        format_ = format_ or _format_of(output)
    format_ = format_ or "tsv"
    check_format(format_, all_terms)
    if taxon is not None and format_ != "gaf":
        raise UsageError("--taxon is for --format gaf, which has a column for it")
    tally = Tally()
    proteins = (record.protein for record in read_records(inputs, on_bad=on_bad_record, tally=tally))
    with open_reference(reference, device, aspects) as known, text_output(output) as handle:
        note(*(f"reference: {line}" for line in known.scope.lines()))
        organism = taxon or UNIDENTIFIED
        written = write_annotations(known, proteins, handle, format_, whole=all_terms, taxon=organism)
    note(*tally.lines(), written.summary())
    if written.repeated:
        warn(f"{len(written.repeated):,} records with the id of an earlier one, not written: {written.repeated[0]}, …")
    for name in written.left_out:
        warn(f"{name}: too large for the memory; left without terms")
    return 3 if tally.bad or written.left_out else 0


def _format_of(output: Path) -> str:
    """Return the format that a file's name ends in: a table with tabs, where it ends in nothing or .txt."""
    from esmcls.reference.annotate import FORMATS

    suffix = output.suffix.lower().lstrip(".")
    if suffix in FORMATS:
        return suffix
    if suffix not in ("", "tab", "txt"):
        raise UsageError(f"-o {output}: end the name in .{', .'.join(FORMATS)}, or say what to write with --format")
    return "tsv"
