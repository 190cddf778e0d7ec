"""`esmcls explain`: why a model says what it says of a sequence."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from esmcls.errors import UsageError
from esmcls_cli.options.common import common
from esmcls_cli.options.names import model_option, weights_option
from esmcls_cli.options.output import output_file, text_output
from esmcls_cli.options.reading import on_bad_option
from esmcls_cli.options.speech import note
from esmcls_cli.options.values import PATH

if TYPE_CHECKING:
    from _csv import Writer
    from collections.abc import Iterable

    from esmcls.insight.explanation.explain import Explainer, Explanation

MOST_ON_A_PAGE = 500
"""Proteins of an HTML page."""


@click.command("explain")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@model_option
@weights_option
@click.option(
    "--class",
    "--term",
    "wanted",
    metavar="NAME",
    help="The class, label or term whose logit is explained.  [default: the likeliest of each sequence]",
)
@click.option(
    "--method",
    type=click.Choice(["auto", "residues", "gradients"]),
    default="auto",
    show_default=True,
    help="residues: by the vectors of residues that the head reads; gradients: through the encoder (ESM-2), as auto "
    "does where it was fine-tuned.",
)
@click.option(
    "--neighbours", "most", type=click.IntRange(1), default=5, show_default=True, help="Training proteins shown (kNN)."
)
@click.option("-o", "--output", type=PATH, metavar="FILE", help="TSV, a row a residue.  [default: stdout]")
@click.option("--html", "page", type=PATH, metavar="FILE", help="Write a page with the sequences in colours, too.")
@click.option("--nearest", type=PATH, metavar="FILE", help="Write the training proteins that are shown, too (TSV).")
@click.option("--structure", type=PATH, metavar="FILE", help="PDB or mmCIF of the one sequence, for --coloured.")
@click.option("--chain", help="Its chain in the structure.  [default: each that has the sequence]")
@click.option("--coloured", type=PATH, metavar="FILE", help="Write the structure with contributions as B-factors.")
@on_bad_option
@common(device=True)
def command(
    inputs: tuple[str, ...],
    workspace: Path,
    model: str | None,
    encoder: str | None,
    wanted: str | None,
    method: Literal["auto", "residues", "gradients"],
    most: int,
    output: Path | None,
    page: Path | None,
    nearest: Path | None,
    structure: Path | None,
    chain: str | None,
    coloured: Path | None,
    on_bad_record: Any,
    device: str,
) -> int:
    """Say what each residue of INPUT adds to a model's answer, or which training proteins it is like.

    For linear and ridge heads the logit (or number) is a sum over residues, exact once the length of the protein's
    vector is given; for mlp heads integrated gradients stand in, and for fine-tuned models those through the encoder.
    kNN heads show what adds to the nearness of the nearest training protein, and where it and others align; align and
    homology those that they found.
    """
    from esmcls.insight.explanation.explain import Explainer
    from esmcls.insight.explanation.structures import kind_of
    from esmcls.models.predict import open_model
    from esmcls.reading.readers import find_sources, read_records
    from esmcls.reading.records import Tally
    from esmcls.reading.structures.formats import require_biotite

    if (structure is None) != (coloured is None):
        raise UsageError("--structure FILE is what is read and --coloured FILE what is written; give both or neither")
    if chain is not None and structure is None:
        raise UsageError("--chain is of a structure; give --structure FILE, too")
    if coloured is not None and coloured.suffix == ".gz":
        raise UsageError(f"--coloured {coloured}: it is written unpacked; leave .gz out")
    if structure is not None:
        kind_of(structure)
        require_biotite()
    for item in inputs:
        find_sources(item)
    for path in (output, page, nearest, coloured):
        if path is not None:
            output_file(path)
    explainer = Explainer(open_model(workspace, model, device=device, encoder=encoder), wanted, method, most)
    if nearest is not None and explainer.opened is not None:
        raise UsageError(
            f"--nearest is for the heads knn, align and homology; model {explainer.model.name} has the head "
            f"{explainer.model.head_name}, which knows no training protein"
        )
    tally = Tally()
    proteins = (record.protein for record in read_records(inputs, on_bad=on_bad_record, tally=tally))
    first = _write_tables(explainer, explainer.explain(proteins), output, nearest, MOST_ON_A_PAGE + 1)
    note(*tally.lines())
    if page is not None:
        _write_page(page, explainer, first)
    if structure is not None and coloured is not None:
        _colour(structure, coloured, first, chain)
    return 3 if tally.bad else 0


def _write_tables(
    explainer: Explainer, explanations: Iterable[Explanation], output: Path | None, nearest: Path | None, most: int
) -> list[Explanation]:
    """Write the tables as explanations come, and return the first of these."""
    from esmcls.insight.explanation.tables import NEIGHBOURS, RESIDUES, table_of, write_neighbours, write_residues

    first: list[Explanation] = []
    residues: Writer | None = None
    neighbours: Writer | None = None
    with contextlib.ExitStack() as files:
        handle = files.enter_context(text_output(output))
        if explainer.adds:
            residues = table_of(handle, RESIDUES)
        else:
            neighbours = table_of(handle, NEIGHBOURS)
        if nearest is not None:
            neighbours = table_of(files.enter_context(text_output(nearest)), NEIGHBOURS)
        for explanation in explanations:
            if residues is not None:
                write_residues(residues, explanation)
            if neighbours is not None:
                write_neighbours(neighbours, explanation)
            if len(first) < most:
                first.append(explanation)
    return first


def _write_page(page: Path, explainer: Explainer, explanations: list[Explanation]) -> None:
    from esmcls.files import atomic_text
    from esmcls.insight.explanation.page import explanation_page

    if len(explanations) > MOST_ON_A_PAGE:
        note(f"{page} shows the first {MOST_ON_A_PAGE} sequences; the table has all")
    with atomic_text(page) as handle:
        handle.write(explanation_page(explanations[:MOST_ON_A_PAGE], explainer.model.name, explainer.sentence))


def _colour(structure: Path, coloured: Path, explanations: list[Explanation], chain: str | None) -> None:
    from esmcls.insight.explanation.structures import colour_structure

    if len(explanations) != 1 or not len(explanations[0].values):
        raise UsageError(
            f"--structure colours one sequence by what its residues add; INPUT has {len(explanations)}"
            if len(explanations) != 1
            else "--structure colours by what residues add, which this model's head does not tell; explain another"
        )
    written = colour_structure(structure, coloured, explanations[0], chain)
    differing = f", of which {written.differing} are another amino acid than in the sequence" * bool(written.differing)
    note(
        f"{coloured}: {written.residues:,} residues of chain {', '.join(written.chains)}{differing}; "
        f"a B-factor of 99 is {written.unit:.4g}"
    )
