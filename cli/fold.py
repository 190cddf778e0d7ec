"""`esmcls fold`: traces of CA atoms for new sequences."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from esmcls.errors import FolderError
from esmcls_cli.options.common import common
from esmcls_cli.options.names import model_option, weights_option
from esmcls_cli.options.progress import progress
from esmcls_cli.options.reading import on_bad_option
from esmcls_cli.options.speech import note, warn
from esmcls_cli.options.values import PATH

if TYPE_CHECKING:
    from esmcls.models.fold import FoldFolder, FoldRow
    from esmcls.reading.records import Tally

SUMMARY = "summary.tsv"


@click.command("fold")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@model_option
@weights_option
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=Path("folds"),
    show_default=True,
    metavar="FOLDER",
    help="Folder of the files, and of summary.tsv.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["pdb", "mmcif"]),
    default="pdb",
    show_default=True,
    help="What to write; proteins of more than 9,999 residues are for mmcif.",
)
@click.option(
    "--starts", type=click.IntRange(1), help="Tries of each, of which the best by its loss is written.  [default: 3]"
)
@on_bad_option
@common(device=True, seed=True)
def command(
    inputs: tuple[str, ...],
    workspace: Path,
    model: str | None,
    encoder: str | None,
    output: Path,
    format_: str,
    starts: int | None,
    on_bad_record: Any,
    device: str,
    seed: int,
) -> int:
    """Fold each sequence of INPUT to a trace of CA atoms, with a model of structures: a PDB or mmCIF file each.

    INPUT is anything that `esmcls embed` takes; `-` is standard input. The B-factor of a residue is how well it is
    placed as the model believes (predicted lDDT, times 100); a residue that the encoder did not see has no atom. The
    table on stdout is FOLDER/summary.tsv, too. A run that was interrupted goes on where it was: files of the same
    model, sequence and settings are kept, and others never replaced.
    """
    from esmcls.files import atomic_text
    from esmcls.models.fold import FoldFolder, Folding, pair_head_of
    from esmcls.models.predict import open_model
    from esmcls.reading.readers import find_sources, read_records
    from esmcls.reading.records import Tally
    from esmcls.structures.folding.fold import STARTS

    for item in inputs:
        find_sources(item)  # a file that is not there is told before a model is loaded
    opened = open_model(workspace, model, device=device, encoder=encoder)
    folding = Folding(starts or STARTS, seed, device)
    pair_head_of(opened)
    if output.exists() and not output.is_dir():
        raise FolderError(output, "is no folder", "name a folder (-o FOLDER)")
    output.mkdir(parents=True, exist_ok=True)
    tally = Tally()
    proteins = (record.protein for record in read_records(inputs, on_bad=on_bad_record, tally=tally))
    files = FoldFolder(output, opened, folding, format_)
    rows: list[FoldRow] = []
    with progress(None) as advance:
        for row in files.write(proteins):
            _write([row], sys.stdout, header=not rows)
            sys.stdout.flush()
            rows.append(row)
            advance(row.length, 1)
    with atomic_text(output / SUMMARY) as handle:
        _write(rows, handle, header=True)
    _tell(rows, files, tally)
    return 3 if tally.bad or any(not row.file for row in rows) else 0


def _write(rows: Iterable[FoldRow], handle: TextIO, *, header: bool) -> None:
    """Write rows of the table."""
    from esmcls.models.fold import FoldRow

    table = csv.writer(handle, delimiter="\t", lineterminator="\n")
    if header:
        table.writerow([column.name for column in fields(FoldRow)])
    for row in rows:
        table.writerow(["" if value is None else value for value in astuple(row)])


def _tell(rows: list[FoldRow], files: FoldFolder, tally: Tally) -> None:
    """Say what was folded, what was not, and what lies under another name than its id."""
    folded = sum(row.status == "folded" for row in rows)
    from_before = sum(row.status == "kept" for row in rows)
    there = f"; {from_before:,} were there from an earlier run" if from_before else ""
    note(*tally.lines(), f"model {files.model.name}: {folded:,} of {len(rows):,} folded{there}; in {files.folder}")
    if files.renamed:
        note(
            f"{files.renamed:,} files are not called by the id: signs other than A-Z a-z 0-9 _ . - became _, "
            f"and a number tells equal names apart ({SUMMARY} says which is whose)"
        )
    if unseen := [row for row in rows if row.file and row.unseen]:
        warn(f"{len(unseen):,} with residues that the encoder did not see, which have no atom: {_names(unseen)}")
    if without := [row for row in rows if not row.file]:
        reasons = ", ".join(sorted({row.status for row in without}))
        warn(f"{len(without):,} not folded ({reasons}): {_names(without)}")


def _names(rows: list[FoldRow]) -> str:
    return ", ".join(row.id for row in rows[:5]) + (", …" if len(rows) > 5 else "")
