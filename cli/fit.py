"""`esmcls fit`: a head on the dataset's train part."""

from __future__ import annotations

from pathlib import Path

import click

from esmcls_cli.options import common, note


@click.command("fit")
@click.option("--head", default="linear", show_default=True, help="What to fit; `esmcls heads` lists them.")
@click.option(
    "--set", "settings", nargs=2, multiple=True, metavar="NAME VALUE", help="A knob of the head; can be repeated."
)
@click.option("--name", help="Name of the model.  [default: that of the head]")
@click.option("--encoder", help="Take the cache of this encoder.  [default: the cache used last]")
@click.option("--pool", help="Pooled vectors to take: mean, cls or max.  [default: the head's]")
@common(device=True, seed=True)
def command(
    workspace: Path,
    head: str,
    settings: tuple[tuple[str, str], ...],
    name: str | None,
    encoder: str | None,
    pool: str | None,
    device: str,
    seed: int,
) -> None:
    """Fit a classifier on the embedded dataset.

    Every choice is made on the validation part; the test part is never looked at. Writes models/<name>/.
    """
    from esmcls.fitting import fit_head
    from esmcls.workspace import Workspace

    place = Workspace.open(workspace)
    fitted = fit_head(place, head, dict(settings), name=name, encoder=encoder, pooling=pool, device=device, seed=seed)
    click.echo(str(fitted))
    note("next: esmcls evaluate, or esmcls predict FASTA")
