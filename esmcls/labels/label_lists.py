"""Several labels of a protein in one text: `;` or `|` between them as tables have them, `;` as a data set keeps them.

So neither can be part of a label; blanks, commas and all else can.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

SEPARATORS: Final = ";|"
JOINED: Final = ";"
_CUT: Final = re.compile(r"[;|]")


def labels_in(text: str) -> list[str]:
    """Return the labels that a text lists, each once, sorted.

    Examples
    --------
    >>> labels_in("Nucleus; Cell membrane|Nucleus;"), labels_in(" ; ")
    (['Cell membrane', 'Nucleus'], [])
    """
    return sorted(set(_pieces(text)))


def lists_several(text: str) -> bool:
    """Say whether a text lists more than one label, be they the same.

    Examples
    --------
    >>> lists_several("a|b"), lists_several("a;"), lists_several("a, b")
    (True, False, False)
    """
    return len(_pieces(text)) > 1


def listed(labels: Iterable[str]) -> str:
    """Return labels as a data set keeps them: sorted, each once, `;` between.

    Examples
    --------
    >>> listed(["b", "a", "b"])
    'a;b'
    """
    return JOINED.join(sorted(set(labels)))


def _pieces(text: str) -> list[str]:
    return [piece for piece in map(str.strip, _CUT.split(text)) if piece]


@dataclass(frozen=True)
class LabelLists:
    """The labels of proteins as a data set keeps them, and what was cleaned.

    Parameters
    ----------
    texts : list of str, (n,)
    with_empty : int
        Texts with an empty piece, such as a separator at the end.
    with_repeated : int
        Texts that name a label twice.
    """

    texts: list[str]
    with_empty: int
    with_repeated: int

    @classmethod
    def of(cls, texts: Sequence[str]) -> LabelLists:
        """Clean texts.

        Examples
        --------
        >>> LabelLists.of(["b;a", "a;;c", "a|a"])
        LabelLists(texts=['a;b', 'a;c', 'a'], with_empty=1, with_repeated=1)
        """
        pieces = {text: _pieces(text) for text in set(texts)}
        clean = {text: listed(labels) for text, labels in pieces.items()}
        empty = {text for text, labels in pieces.items() if len(_CUT.split(text)) > len(labels)}
        repeated = {text for text, labels in pieces.items() if len(set(labels)) < len(labels)}
        return cls(
            [clean[text] for text in texts],
            sum(text in empty for text in texts),
            sum(text in repeated for text in texts),
        )

    def lines(self) -> list[str]:
        """Say how many labels there are, how many a protein has, and what was cleaned."""
        sizes = [text.count(JOINED) + 1 for text in self.texts]
        labels = {label for text in set(self.texts) for label in text.split(JOINED)}
        mean = sum(sizes) / max(1, len(sizes))
        lines = [f"task: many-labels, {len(labels):,} label{'' if len(labels) == 1 else 's'}, {mean:.1f} a protein"]
        if self.with_empty:
            lines.append(f"{_proteins(self.with_empty)} with an empty label (nothing beside a ; or |): left out")
        if self.with_repeated:
            lines.append(f"{_proteins(self.with_repeated)} with a label twice: counted once")
        return lines


def _proteins(number: int) -> str:
    return f"{number:,} protein{'' if number == 1 else 's'}"
