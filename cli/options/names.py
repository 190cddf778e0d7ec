"""Names of heads, encoders and models: options that take them, and their completion in a shell."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from esmcls_cli.options.common import DEFAULT_WORKSPACE


def complete_heads(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a head, the last of several with commas between, in a shell."""
    from esmcls.heads.registry import GROUP, NUMBER_GROUP, PAIR_GROUP, RESIDUE_GROUP, TERM_GROUP, list_heads

    groups = (GROUP, TERM_GROUP, NUMBER_GROUP, RESIDUE_GROUP, PAIR_GROUP)
    return _completed(incomplete, {name for group in groups for name in list_heads(group)})


def complete_encoders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of an encoder in a shell."""
    from esmcls.encoders.encoder import encoder_names

    return _completed(incomplete, encoder_names())


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a model of the workspace that is named before it, or of the default one, in a shell."""
    workspace = Path(ctx.params.get("workspace") or DEFAULT_WORKSPACE)
    return _completed(incomplete, {path.parent.name for path in (workspace / "models").glob("*/manifest.json")})


model_option = click.option(
    "--model",
    metavar="NAME_OR_FOLDER",
    shell_complete=complete_models,
    help="Or hf:OWNER/NAME, of the Hugging Face Hub.  [default: the workspace's best, by its score on validation]",
)
weights_option = click.option(
    "--encoder", metavar="PATH", help="Weights of the model's encoder, where they lie elsewhere now."
)


def _completed(incomplete: str, names: Iterable[str]) -> list[str]:
    before, comma, begun = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in sorted(names) if name.startswith(begun)]


def fetch_encoder(name: str) -> None:
    """Fetch a checkpoint of ESM-2 that is not here, and see what another model of the hub is, before all else.

    What else takes time need not have been done to learn that there is no such model.
    """
    from esmcls.encoders.sources.checkpoints import checkpoint_of
    from esmcls.encoders.sources.places import config_of, have_weights, is_published

    if checkpoint_of(name) is not None:
        have_weights(name)
    elif is_published(name):
        config_of(name)
