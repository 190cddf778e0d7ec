"""`esmcls heads`: what can be fitted, and each knob with its default."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

import click

from esmcls_cli.options import common


@click.command("heads")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--terms", is_flag=True, help="List those for Gene Ontology terms, any number a protein.")
@common(workspace=False)
def command(as_json: bool, terms: bool) -> None:
    """List the heads (classifiers), each knob with its default."""
    from esmcls.heads.registry import list_heads
    from esmcls.heads.term_heads import GROUP

    group = {"group": GROUP} if terms else {}
    cards = [_card(name, **group) for name in list_heads(**group)]
    click.echo(json.dumps(cards, indent=1) if as_json else "\n\n".join(map(_text, cards)))


def _card(name: str, **group: str) -> dict[str, Any]:
    from esmcls.heads.registry import load_head

    head = load_head(name, **group)
    knobs = {field.name: field.default for field in dataclasses.fields(head.Config)}
    return {"name": name, "what": (inspect.getdoc(head) or "").partition("\n")[0], "knobs": knobs}


def _text(card: dict[str, Any]) -> str:
    knobs = [f"  --set {name} {'auto' if value is None else value}" for name, value in card["knobs"].items()]
    return "\n".join([f"{card['name']}: {card['what']}", *knobs])
