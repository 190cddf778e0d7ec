"""A search engine whose hits are written down."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from esmcls.heads.alignment.search import Hitting, Limits


@dataclass
class Scripted:
    """An engine whose bit scores are written down: query -> target -> bits; the E-value is 2^-bits."""

    script: Mapping[str, Mapping[str, float]]
    name: Any = "mmseqs"
    version: str = "1"
    searches: list[tuple[list[str], list[str], Limits, int]] = field(default_factory=list)

    def search(self, queries: Any, targets: Any, limits: Limits, threads: int) -> Hitting:
        """Look hits up, the last target first."""
        self.searches.append((list(queries), list(targets), limits, threads))
        for (query, text), (row, target) in itertools.product(enumerate(queries), reversed([*enumerate(targets)])):
            if target in self.script.get(text, {}):
                yield query, row, 2.0 ** -self.script[text][target], self.script[text][target]


@dataclass
class SharedWords:
    """An engine whose bits are the words of three letters that two sequences share; it takes no time."""

    name: Any = "mmseqs"
    version: str = "1"

    def search(self, queries: Any, targets: Any, limits: Limits, threads: int) -> Hitting:
        """Give every target that shares a word."""
        words = [{target[start : start + 3] for start in range(len(target))} for target in targets]
        for query, text in enumerate(queries):
            own = {text[start : start + 3] for start in range(len(text))}
            for row, others in enumerate(words):
                if shared := len(own & others):
                    yield query, row, 2.0**-shared, float(shared)
