"""`esmcls demo`: the whole job on the bundled set, in under two minutes and without network."""

from __future__ import annotations

from pathlib import Path

import click

from esmcls.reporting.phrases import table
from esmcls_cli.options.common import common
from esmcls_cli.options.progress import progress
from esmcls_cli.options.speech import note
from esmcls_cli.options.values import PATH

FOLDER = "esmcls-demo"


@click.command("demo")
@click.option(
    "-w", "--workspace", type=PATH, default=Path(FOLDER), show_default=f"./{FOLDER}", help="Folder to leave it all in."
)
@common(workspace=False, device=True, seed=True)
def command(workspace: Path, device: str, seed: int) -> None:
    """Embed, compare and predict on the bundled set: no network, under two minutes on two cores.

    Prints the test accuracy of the bundled encoder, its residues aligned among others, beside amino-acid composition,
    k-mers, and random weights.
    """
    from esmcls.demo import HEADER, run_demo

    left = run_demo(workspace, seed=seed, device=device, say=note, progress=progress)
    click.echo(table([HEADER, *(row.cells() for row in left.rows)]))
    click.echo(
        f"\nleft in {left.folder}: models, and {left.predictions.name} of {left.fasta.name} (model {left.model})"
    )
    click.echo(f"a page to look at: {left.report}")
    click.echo("next:")
    for words in (f"predict {left.fasta} --top-k 3", "evaluate", "info"):
        click.echo(f"  esmcls {words} -w {left.folder}")
