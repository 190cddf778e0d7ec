"""Long sequences: how a sequence is cut into encoder inputs, and how its residue vectors are joined again.

ESM-2 was trained on 1022 residues and two special tokens. A strategy cuts what is longer:

    balanced   AAAAAAAAAA..........ZZZZZZZZZZ    one input, AAAAAAAAAAZZZZZZZZZZ
    ends       AAAAAAAAAA..........ZZZZZZZZZZ    two inputs
    window     AAAAAAAAAA                        inputs overlap, the last one ends at the last residue
                    BBBBBBBBBB
                         ...  ZZZZZZZZZZ
    chunk      AAAAAAAAAABBBBBBBBBBCCCCCCCCCC    near-equal inputs, no residue twice

A sequence that fits is one identity input under every strategy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import ClassVar, Final, TypeAlias

import numpy as np

from esmcls.errors import UnknownNameError, UsageError
from esmcls.types import Positions, Residues

CONTEXT: Final = 1022
"""Residues of the longest input that ESM-2 was trained on (1024 tokens less BOS and EOS)."""

Cut: TypeAlias = "tuple[slice, ...]"
"""One encoder input: the slices of the sequence, in residues, 0-based, end excluded, that are glued together."""


class Strategy(ABC):
    """Cuts what is longer than `longest` and joins the vectors again; `str()` of it goes into the embedding spec.

    Each is a frozen dataclass whose first field is the longest input, in residues.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def longest(self) -> int | None:
        """Residues of the longest input, or None where there is no limit."""

    def __post_init__(self) -> None:
        if self.longest is not None and not 2 <= self.longest <= CONTEXT:
            raise UsageError(
                f"long-sequence strategy {self.name!r}: inputs of {self.longest} residues; "
                f"choose 2 to {CONTEXT}, ESM-2's context, or the strategy 'full'"
            )

    def cut(self, length: int) -> list[Cut]:
        """Cut a sequence of `length` residues into inputs.

        Examples
        --------
        >>> Window(window=4, stride=2).cut(7)
        [(slice(0, 4, None),), (slice(2, 6, None),), (slice(3, 7, None),)]
        >>> Balanced(limit=4).cut(7)
        [(slice(0, 2, None), slice(5, 7, None))]
        >>> Balanced(limit=4).cut(3)
        [(slice(0, 3, None),)]
        """
        if self.longest is None or length <= self.longest:
            return [(slice(0, length),)]
        return self._cut_long(length)

    @abstractmethod
    def _cut_long(self, length: int) -> list[Cut]:
        """Cut a sequence that is longer than the longest input."""

    def join(self, parts: Sequence[Residues], cuts: Sequence[Cut]) -> tuple[Residues, Positions]:
        """Put the vectors of the inputs back on the sequence, averaging where inputs overlap.

        Parameters
        ----------
        parts : sequence of float32 arrays, (residues of the input, width)
        cuts : sequence of tuples of slices
            From `cut`.

        Returns
        -------
        residues : float32 array, (residues seen, width)
        positions : int64 array, (residues seen,)
            Ascending, 0-based.

        Raises
        ------
        ValueError
            If `parts` and `cuts` differ in number, or a part's rows from its cut's residues.

        Examples
        --------
        >>> parts = [np.array([[1.0], [2.0]], dtype=np.float32), np.array([[4.0], [6.0]], dtype=np.float32)]
        >>> residues, positions = Window(window=2, stride=1).join(parts, [(slice(0, 2),), (slice(1, 3),)])
        >>> residues[:, 0].tolist(), positions.tolist()
        ([1.0, 3.0, 6.0], [0, 1, 2])
        """
        places = [positions_of(cut) for cut in cuts]
        if [len(part) for part in parts] != [len(place) for place in places]:
            raise ValueError(
                f"parts of {[len(part) for part in parts]} residues, cuts of {[len(place) for place in places]}"
            )
        if len(parts) == 1:
            return parts[0], places[0]
        positions, times = np.unique(np.concatenate(places), return_counts=True)
        total = np.zeros((len(positions), parts[0].shape[1]), dtype=np.float32)
        for part, place in zip(parts, places, strict=True):
            total[np.searchsorted(positions, place)] += part  # no position occurs twice within one input
        total /= times[:, None]
        return total, positions

    def __str__(self) -> str:
        return self.name if self.longest in (None, CONTEXT) else f"{self.name}:{self.longest}"


@dataclass(frozen=True)
class Start(Strategy):
    """The first `limit` residues, the rest unseen: what fair-esm's `extract.py` does."""

    limit: int = CONTEXT
    name: ClassVar[str] = "start"

    @property
    def longest(self) -> int:
        """Residues of the longest input."""
        return self.limit

    def _cut_long(self, length: int) -> list[Cut]:
        return [(slice(0, self.limit),)]


@dataclass(frozen=True)
class Balanced(Start):
    """The first and the last `limit / 2` residues glued into one input, which keeps both termini."""

    name: ClassVar[str] = "balanced"

    def _cut_long(self, length: int) -> list[Cut]:
        tail = self.limit // 2
        return [(slice(0, self.limit - tail), slice(length - tail, length))]


@dataclass(frozen=True)
class Ends(Start):
    """The same residues as `balanced`, as two inputs, so that there are no false neighbours at the seam."""

    name: ClassVar[str] = "ends"

    def _cut_long(self, length: int) -> list[Cut]:
        tail = self.limit // 2
        return [(slice(0, self.limit - tail),), (slice(length - tail, length),)]


@dataclass(frozen=True)
class Chunk(Start):
    """Near-equal pieces of at most `limit` residues, none shorter than half of it, none overlapping."""

    name: ClassVar[str] = "chunk"

    def _cut_long(self, length: int) -> list[Cut]:
        count = -(-length // self.limit)
        bounds = [length * piece // count for piece in range(count + 1)]
        return [(slice(start, stop),) for start, stop in pairwise(bounds)]


@dataclass(frozen=True)
class Window(Strategy):
    """Windows of `window` residues every `stride`, the last one anchored at the sequence's end."""

    window: int = CONTEXT
    stride: int = CONTEXT // 2
    name: ClassVar[str] = "window"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.stride <= self.window:
            raise UsageError(f"stride {self.stride} leaves residues out; choose 1 to the window, {self.window}")

    @property
    def longest(self) -> int:
        """Residues of the longest input."""
        return self.window

    def _cut_long(self, length: int) -> list[Cut]:
        last = length - self.window
        return [(slice(start, start + self.window),) for start in [*range(0, last, self.stride), last]]

    def __str__(self) -> str:
        return f"{self.name}:{self.window}:{self.stride}"


@dataclass(frozen=True)
class Full(Strategy):
    """One pass over the whole sequence: rotary positions know no limit, memory does."""

    name: ClassVar[str] = "full"

    @property
    def longest(self) -> None:
        """There is no limit."""
        return

    def _cut_long(self, length: int) -> list[Cut]:
        raise AssertionError("nothing is too long for 'full'")


STRATEGIES: Final[dict[str, type[Strategy]]] = {
    kind.name: kind for kind in (Start, Balanced, Ends, Window, Chunk, Full)
}


def parse_long(text: str, **options: int | None) -> Strategy:
    """Return the strategy that a text names.

    Parameters
    ----------
    text : str
        A name, or a name and its numbers as `str()` of a strategy gives them.
    **options : int or None
        Numbers by name (`limit`, `window`, `stride`) instead of those in the text; None counts as not given.
        `window` stands for `limit` where a strategy has no window; the stride is half the window by default.

    Raises
    ------
    UnknownNameError
        If there is no such strategy.
    UsageError
        If a number is missing, superfluous or out of bounds.

    Examples
    --------
    >>> str(parse_long("window"))
    'window:1022:511'
    >>> parse_long("window:100:40") == parse_long("window", window=100, stride=40)
    True
    >>> str(parse_long("balanced"))
    'balanced'
    """
    name, *numbers = text.split(":")
    if name not in STRATEGIES:
        raise UnknownNameError("long-sequence strategy", name, STRATEGIES)
    known = [field.name for field in fields(STRATEGIES[name])]  # type: ignore[arg-type]
    named = {option: number for option, number in options.items() if number is not None}
    if "limit" in known and "window" in named:
        named["limit"] = named.pop("window")
    if len(numbers) > len(known) or not all(number.isdecimal() for number in numbers) or not named.keys() <= set(known):
        raise UsageError(
            f"long-sequence strategy {name!r} takes {' and '.join(known) or 'no numbers'}; got {text!r}"
            + "".join(f", {option}={number}" for option, number in sorted(named.items()))
        )
    chosen = {**dict(zip(known, map(int, numbers), strict=False)), **named}
    if "window" in chosen:
        chosen.setdefault("stride", max(1, chosen["window"] // 2))
    return STRATEGIES[name](**chosen)


def positions_of(cut: Cut) -> Positions:
    """Return the positions that one input holds, in its own order.

    Examples
    --------
    >>> positions_of((slice(0, 2), slice(5, 7))).tolist()
    [0, 1, 5, 6]
    """
    return np.concatenate([np.arange(part.start, part.stop, dtype=np.int64) for part in cut])


def residues_seen(strategy: Strategy, length: int) -> int:
    """Return how many residues of a sequence an encoder sees.

    Examples
    --------
    >>> residues_seen(Balanced(limit=4), 7), residues_seen(Window(window=4, stride=2), 7)
    (4, 7)
    """
    if strategy.longest is None or length <= strategy.longest:
        return length
    return len(np.unique(np.concatenate([positions_of(cut) for cut in strategy.cut(length)])))


def glue(sequence: str, cut: Cut) -> str:
    """Return the residues of one input.

    Examples
    --------
    >>> glue("MKTAYIA", (slice(0, 2), slice(5, 7)))
    'MKIA'
    """
    return "".join(sequence[part] for part in cut)


def cut_length(cut: Cut) -> int:
    """Return the residues of one input."""
    return sum(part.stop - part.start for part in cut)
