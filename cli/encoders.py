"""`esmcls encoders`: what sequences can be embedded with, and where the weights come from."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from esmcls.reporting.phrases import table
from esmcls_cli.options.common import common

HEADER = ("encoder", "family", "layers", "width", "parameters", "bytes", "licence", "present", "weights")


@click.command("encoders")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@common(workspace=False)
def command(as_json: bool) -> None:
    """List the encoders: name, family, shape, size, licence, and whether the weights are on this machine."""
    from esmcls.encoders.encoder import describe_encoders

    cards = describe_encoders()
    if as_json:
        click.echo(json.dumps([asdict(card) for card in cards], indent=1))
        return
    rows = [
        (
            card.name,
            card.family,
            card.layers,
            card.width,
            f"{card.parameters:,}",
            f"{card.bytes:,}",
            card.licence or "-",
            "yes" if card.present else "no",
            card.source,
        )
        for card in cards
    ]
    click.echo(table([HEADER, *rows]))
