"""`esmcls cut-encoder`: a model without the layers that its vectors do not need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from esmcls.errors import UsageError
from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_encoders, fetch_encoder
from esmcls_cli.options.speech import note
from esmcls_cli.options.values import PATH, integers

if TYPE_CHECKING:
    from esmcls.cache.spec import EmbeddingSpec


@click.command("cut-encoder")
@click.option("-o", "--output", type=PATH, required=True, help="A file .safetensors, or with --format hf a new folder.")
@click.option(
    "--encoder",
    shell_complete=complete_encoders,
    metavar="NAME",
    help="What to cut.  [default: that of the cache used last]",
)
@click.option("--layers", metavar="N,N,…", help="Layers that are wanted.  [default: those of that cache]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["esmcls", "hf"]),
    default="esmcls",
    show_default=True,
    help="Ours, or a folder that transformers opens.",
)
@common()
def command(workspace: Path, output: Path, encoder: str | None, layers: str | None, form: str) -> None:
    """Write an ESM-2 encoder without its upper layers, where the vectors wanted do not need them.

    Its vectors of the layers that are left are the same. One layer more than the last wanted stays: only the last of a
    model goes through its final LayerNorm.
    """
    from esmcls.layer_choice.cut import cut_encoder

    wanted = integers(layers, "--layers")
    name = encoder
    if name is None or wanted is None:
        spec = _spec(workspace, encoder)
        wanted = wanted or spec.layers
        name = name or spec.encoder
    fetch_encoder(name)
    cut = cut_encoder(name, wanted, output, "hf" if form == "hf" else "esmcls")
    click.echo("\n".join(cut.lines()))
    note(f"next: esmcls embed --encoder {output}: another encoder to caches and models, with the same vectors")


def _spec(workspace: Path, encoder: str | None) -> EmbeddingSpec:
    """Return the spec of the workspace's cache used last, or of an encoder's."""
    from esmcls.workspace.workspace import Workspace

    place = Workspace.open(workspace)
    with place.latest_cache() if encoder is None else place.cache_of_encoder(encoder) as cache:
        if not cache.spec.layers:
            raise UsageError(f"encoder {cache.spec.encoder} has no layers to cut; name an ESM-2 with --encoder")
        return cache.spec
