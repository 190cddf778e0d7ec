"""`esmcls layers`: which of an encoder's layers serve the dataset, by what its validation part says."""

from __future__ import annotations

from pathlib import Path

import click

from esmcls.reporting.phrases import table
from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_encoders
from esmcls_cli.options.speech import note


@click.command("layers")
@click.option(
    "--encoder",
    metavar="NAME",
    shell_complete=complete_encoders,
    help="Compare those of this encoder's cache.  [default: the cache used last]",
)
@common(device=True, seed=True)
def command(workspace: Path, encoder: str | None, device: str, seed: int) -> None:
    """Compare the layers of the workspace's embeddings on the validation part.

    Each layer alone, pairs and triples of the best, and the encoder's own, by nearest neighbours. Nothing is embedded:
    of what `esmcls embed --layers auto --keep-all-layers` keeps, or any cache of several layers. Writes
    reports/layers-<encoder>/.
    """
    from esmcls.layer_choice.choice import IN_WORDS, in_words
    from esmcls.layer_choice.embed import choose_layers
    from esmcls.workspace.workspace import Workspace

    place = Workspace.open(workspace)
    chosen = choose_layers(place, encoder, device=device, seed=seed)
    choice = chosen.choice
    rows = [(in_words(entry.layers), choice.in_words(entry.score)) for entry in choice.scored]
    click.echo(table([("layers", IN_WORDS.get(choice.measure, choice.measure)), *rows]))
    click.echo("\n".join(chosen.lines()))
    if place.caches[-1].spec.layers != chosen.layers:
        note(f"next: esmcls embed --layers {in_words(chosen.layers)}, which embeds nothing anew while all are kept")
