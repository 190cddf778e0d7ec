"""Options of commands that read tables and records."""

from __future__ import annotations

import click

label_column_option = click.option(
    "--label-column", metavar="NAME", help="Column of a table that holds the labels.  [default: label, class, … ]"
)
mask_column_option = click.option(
    "--mask-column", metavar="NAME", help="Column that says with 1 and 0 of which residues the label is known."
)
split_column_option = click.option(
    "--split-column", metavar="NAME", help="Column of a table that says train, validation or test."
)
on_bad_option = click.option(
    "--on-bad-record",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="Stop at a record that cannot be used, or leave it out, list it and exit with 3.",
)
evidence_option = click.option(
    "--evidence",
    multiple=True,
    metavar="CODES",
    help="Terms: evidence codes that count in a GAF, with commas between, or all.  "
    "[default: those of experiments, TAS and IC, as in CAFA]",
)
