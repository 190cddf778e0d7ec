"""What heads are and their knobs, without importing them: of the built-in ones `cards.json` says it.

A built-in head loads PyTorch, LightGBM or SciPy when it is imported, which takes seconds; a list of names and defaults
needs none of it. `python -m esmcls.heads.cards` writes the file anew from the classes' docstrings, and a test says
when it has to be; the card of a head of somebody else's is read off its class.
"""

from __future__ import annotations

import inspect
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from esmcls.foreign.plugins import entry_points
from esmcls.heads.registry import GROUP, NUMBER_GROUP, PAIR_GROUP, RESIDUE_GROUP, TERM_GROUP, list_heads, load_head
from esmcls.heads.settings import Knob, knobs_of
from esmcls.plain_values import read_json

if TYPE_CHECKING:
    from typing_extensions import Never

    from esmcls.heads.contract import FittableHead
    from esmcls.heads.registry import AnyGroup

FILE: Final = Path(__file__).with_name("cards.json")
GROUPS: Final[tuple[AnyGroup, ...]] = (GROUP, TERM_GROUP, NUMBER_GROUP, RESIDUE_GROUP, PAIR_GROUP)
OURS: Final = "esmcls."
"""What the place of a built-in head begins with."""


class HeadCard(NamedTuple):
    """A head as its documentation has it.

    Parameters
    ----------
    name : str
    what : str
        The first line of its docstring.
    knobs : list of Knob
    """

    name: str
    what: str
    knobs: list[Knob]


Cards: TypeAlias = dict[str, HeadCard]


def head_card(name: str, group: AnyGroup = GROUP) -> HeadCard:
    """Return the card of a head; its class is imported only if the head is none of ours.

    Raises
    ------
    UnknownNameError, MissingExtraError, PluginError
        See `registry.load_head`.

    Examples
    --------
    >>> head_card("knn").knobs[0].name
    'metric'
    """
    for entry in entry_points(group=group):
        if entry.name == name and entry.value.startswith(OURS):
            return built_in_cards()[group][name]
    return card_of(name, load_head(name, group))


def card_of(name: str, head: type[FittableHead[Never]]) -> HeadCard:
    """Read the card of a head off its class."""
    return HeadCard(name, (inspect.getdoc(head) or "").partition("\n")[0], knobs_of(head.Config))


@lru_cache(maxsize=1)
def built_in_cards() -> dict[str, Cards]:
    """Return the cards of the built-in heads: group -> name -> card."""
    return {
        group: {name: HeadCard(name, what, [Knob(*knob) for knob in knobs]) for name, what, knobs in cards}
        for group, cards in read_json(FILE).items()
    }


def cards_of_classes() -> dict[str, Cards]:
    """Return what `built_in_cards` has to: read off the classes, all of which are imported."""
    cards: dict[str, Cards] = {}
    for group in GROUPS:
        ours = {entry.name for entry in entry_points(group=group) if entry.value.startswith(OURS)}
        cards[group] = {name: card_of(name, load_head(name, group)) for name in list_heads(group) if name in ours}
    return cards


def main() -> None:
    """Write the cards of the built-in heads."""
    cards = {str(group): list(of_group.values()) for group, of_group in cards_of_classes().items()}
    FILE.write_text(json.dumps(cards, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
