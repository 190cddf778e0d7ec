"""`esmcls heads`: what can be fitted, and each knob with its default."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import click

from esmcls.heads.cards import HeadCard, head_card
from esmcls.heads.registry import GROUP, NUMBER_GROUP, PAIR_GROUP, RESIDUE_GROUP, TERM_GROUP, list_heads
from esmcls.heads.settings import Knob
from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_heads

if TYPE_CHECKING:
    from esmcls.heads.registry import AnyGroup

WIDTH = 80
_HEADER = ["| knob | default | values | what | when to change it |", "|---|---|---|---|---|"]


@click.command("heads")
@click.argument("name", required=False, shell_complete=complete_heads)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", is_flag=True, help="Print tables, of all kinds of heads, as docs/heads.md has them.")
@click.option("--terms", is_flag=True, help="Those for many labels a protein, Gene Ontology terms or others.")
@click.option("--numbers", is_flag=True, help="Those for a number a protein.")
@click.option("--residues", is_flag=True, help="Those for labels and numbers of residues.")
@click.option("--structures", is_flag=True, help="Those for structures.")
@common(workspace=False)
def command(
    name: str | None, as_json: bool, markdown: bool, terms: bool, numbers: bool, residues: bool, structures: bool
) -> None:
    """List the heads (classifiers), each knob with its default; or explain each knob of the head NAME."""
    groups: dict[AnyGroup, bool] = {TERM_GROUP: terms, NUMBER_GROUP: numbers}
    groups |= {RESIDUE_GROUP: residues, PAIR_GROUP: structures}
    group: AnyGroup = next((group for group, wanted in groups.items() if wanted), GROUP)
    if markdown:
        click.echo("\n".join(page()), nl=False)
        return
    cards = [head_card(head, group) for head in (list_heads(group) if name is None else [name])]
    if as_json:
        click.echo(json.dumps(list(map(_as_json, cards)), indent=1))
    elif name is not None:
        click.echo("\n".join(explained(cards[0])))
    else:
        click.echo("\n\n".join(map(_text, cards)) + "\n\nesmcls heads NAME explains each knob of one")


def _as_json(card: HeadCard) -> dict[str, Any]:
    return {
        "name": card.name,
        "what": card.what,
        "knobs": {knob.name: knob.default for knob in card.knobs},
        "explained": {knob.name: {"values": knob.values, "what": knob.what, "when": knob.when} for knob in card.knobs},
    }


def _default(knob: Knob) -> str:
    return "auto" if knob.default is None else str(knob.default)


def _text(card: HeadCard) -> str:
    return "\n".join([f"{card.name}: {card.what}", *(f"  --set {knob.name} {_default(knob)}" for knob in card.knobs)])


def explained(card: HeadCard) -> list[str]:
    """Return what a head is, what each of its knobs does and when to change it, in lines of eighty columns."""
    lines = [*textwrap.wrap(f"{card.name}: {card.what}", WIDTH), "", "auto: the validation part decides."]
    for knob in card.knobs:
        values = f"  ({knob.values})" if knob.values else ""
        lines += ["", f"--set {knob.name} {_default(knob)}{values}"]
        for text in (knob.what, f"When to change: {knob.when}" if knob.when else ""):
            lines += textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return lines


def page() -> list[str]:
    """Return docs/heads.md: a table of the knobs of each head."""
    lines = ["# Heads and their knobs", ""]
    lines += ["`esmcls fit --head NAME --set KNOB VALUE`; `auto` is chosen on the validation part. This page is what"]
    lines += ["`esmcls heads --markdown` prints; `esmcls heads NAME` explains one head in a terminal.", ""]
    groups: dict[str, AnyGroup] = {
        "One label a protein": GROUP,
        "Gene Ontology terms": TERM_GROUP,
        "A number a protein": NUMBER_GROUP,
        "Labels and numbers of residues": RESIDUE_GROUP,
        "Structures": PAIR_GROUP,
    }
    for title, group in groups.items():
        lines += [f"## {title}", ""]
        for name in list_heads(group):
            card = head_card(name, group)
            lines += [f"### `{name}`", "", card.what, ""]
            if card.knobs:
                lines += [*_HEADER, *map(_row, card.knobs), ""]
    return lines


def _row(knob: Knob) -> str:
    cells = [f"`{knob.name}`", f"`{_default(knob)}`", knob.values, knob.what, knob.when]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
