"""`esmcls app`: models asked in a web browser."""

from __future__ import annotations

from pathlib import Path

import click

from esmcls_cli.colours import say
from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_models
from esmcls_cli.options.speech import warn

LOCAL = ("127.0.0.1", "localhost", "::1")


@click.command("app")
@click.option(
    "--model",
    "named",
    multiple=True,
    metavar="NAME_OR_FOLDER",
    shell_complete=complete_models,
    help="Or hf:OWNER/NAME; can be repeated.  [default: all of the workspace, its best first]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Who can reach it: 0.0.0.0 is the whole network.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0: the first that is free."
)
@click.option("--most-sequences", type=click.IntRange(1), default=500, show_default=True, help="At a time.")
@click.option("--most-residues", type=click.IntRange(1), default=200_000, show_default=True, help="At a time.")
@common(device=True)
def command(
    workspace: Path,
    named: tuple[str, ...],
    host: str,
    port: int,
    most_sequences: int,
    most_residues: int,
    device: str,
) -> None:
    """Serve a page on this machine where sequences are pasted or dropped and models answer.

    The page shows what a model says of each protein in words, with probabilities and the nearest known proteins, and
    has files to take home. Programs ask the same through the page's API (docs/app.md). It ends with Ctrl-C.
    """
    import os

    from esmcls.app.models import OpenModels
    from esmcls.app.page import build, serve
    from esmcls.app.questions import Limits
    from esmcls.files import temporary_folder

    limits = Limits(most_sequences, most_residues)
    models = OpenModels.of(workspace, named, device)
    if host not in LOCAL:
        warn(f"whoever reaches this machine can ask the models: --host {host} is not this machine alone")
    with temporary_folder("app") as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "gradio")  # what is dropped and answered goes with it, too
        page = build(models, limits, folder)
        address = serve(page, host, port, limits)
        say(f"{address}  (Ctrl-C ends it)")
        page.block_thread()
