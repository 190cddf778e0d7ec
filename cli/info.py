"""`esmcls info`: what a folder is."""

from __future__ import annotations

from pathlib import Path

import click

from esmcls_cli.options.common import common
from esmcls_cli.options.values import PATH


@click.command("info")
@click.argument("path", type=PATH, required=False, metavar="[PATH]")
@common()
def command(path: Path | None, workspace: Path) -> None:
    """Say what PATH is: a workspace, a model, a cache or an encoder.  [default: the workspace]"""
    from esmcls.info import about

    click.echo("\n".join(about(workspace if path is None else path)))
