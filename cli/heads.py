"""`esmcls heads`: what can be fitted, and each knob with its default."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import TYPE_CHECKING, Any

import click

from esmcls_cli.options import common

if TYPE_CHECKING:
    from typing_extensions import Never

    from esmcls.heads.base import LabelledHead


@click.command("heads")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--terms", is_flag=True, help="List those for Gene Ontology terms, any number a protein.")
@common(workspace=False)
def command(as_json: bool, terms: bool) -> None:
    """List the heads (classifiers), each knob with its default."""
    from esmcls.heads.registry import GROUP, TERM_GROUP, list_heads, load_head

    group = TERM_GROUP if terms else GROUP
    cards = [_card(name, load_head(name, group)) for name in list_heads(group)]
    click.echo(json.dumps(cards, indent=1) if as_json else "\n\n".join(map(_text, cards)))


def _card(name: str, head: type[LabelledHead[Never]]) -> dict[str, Any]:
    knobs = {field.name: field.default for field in dataclasses.fields(head.Config)}
    return {"name": name, "what": (inspect.getdoc(head) or "").partition("\n")[0], "knobs": knobs}


def _text(card: dict[str, Any]) -> str:
    knobs = [f"  --set {name} {'auto' if value is None else value}" for name, value in card["knobs"].items()]
    return "\n".join([f"{card['name']}: {card['what']}", *knobs])
