"""`esmcls push`: a model to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import click

from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_models
from esmcls_cli.options.speech import note


@click.command("push")
@click.argument("model", metavar="MODEL", shell_complete=complete_models)
@click.argument("repository", metavar="REPO")
@click.option("--private", is_flag=True, help="Make a new repository one that you alone see.")
@common()
def command(model: str, repository: str, private: bool, workspace: Path) -> None:
    """Send MODEL, with its card, to the repository REPO (OWNER/NAME) of the Hugging Face Hub.

    REPO is made if there is none. Everything goes in one commit, or nothing does. Log in first, with `hf auth login` or
    HF_TOKEN. From then on it is `--model hf:REPO`, on any machine. Write the licence of your data into the card
    (README.md in the model's folder) before.
    """
    from esmcls.models.predict import open_model
    from esmcls.models.sharing.hub_models import PREFIX, push_model

    opened = open_model(workspace, model)
    pushed = push_model(opened.folder, opened.manifest, repository, private=private)
    if pushed.left_out:
        names = ", ".join(pushed.left_out[:5]) + (", …" if len(pushed.left_out) > 5 else "")
        note(f"not sent, for they are no part of the model: {names}")
    click.echo(f"{pushed.address}: {pushed.files:,} files of model {opened.name}")
    note(f"next: esmcls predict FASTA --model {PREFIX}{repository}")
