"""Proteins whose domains are known: real ones that hold a known domain, and chains of domains with linkers between.

What a residue is stands in `codes`: the code of a family, or `n_families` for none of these, or UNKNOWN.

    linker   domain       linker  domain
    3 3 3 3  0 0 0 0 0 0  3 3     2 2 2 2     three families: 3 is none of these
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from esmcls.types import Indices

UNKNOWN: Final = -1
"""The code of a residue of which nobody said what it is."""
LONGEST_LINKER: Final = 120
WORD: Final = 10
"""Residues by which domains are looked for."""


@dataclass(frozen=True)
class Place:
    """A domain: residues from `start` up to, not including, `end`, 0-based, and the code of its family."""

    start: int
    end: int
    code: int

    def overlap(self, start: int, end: int) -> float:
        """Return which share of the longer one of both stretches they have in common: the reciprocal overlap.

        Examples
        --------
        >>> Place(10, 20, 0).overlap(15, 20), Place(10, 20, 0).overlap(20, 30)
        (0.5, 0.0)
        """
        common = min(self.end, end) - max(self.start, start)
        return max(0, common) / max(self.end - self.start, end - start)


@dataclass(frozen=True, eq=False)
class Annotated:
    """A protein with its known domains.

    Parameters
    ----------
    sequence : str
    places : tuple of Place
    codes : int64 array, (residues,)
    """

    sequence: str
    places: tuple[Place, ...]
    codes: Indices


def chains(
    domains: Sequence[tuple[str, int]], linkers: Sequence[str], n_families: int, seed: int, most: int = 3
) -> list[Annotated]:
    """Put domains together, each once, up to `most` in a chain, with a linker before, between and after.

    Parameters
    ----------
    domains : sequence of (str, int)
        The residues of each and the code of its family.
    linkers : sequence of str
        Stretches without a domain, of which pieces are drawn; one place in four has none.
    n_families : int
    seed : int
    most : int

    Examples
    --------
    >>> [chain] = chains([("MKTAYIA", 0)], ["GGGGGGGG"], 1, seed=0)
    >>> chain.sequence.strip("G"), chain.places[0].code
    ('MKTAYIA', 0)
    """
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(domains)).tolist()
    made = []
    while order:
        taken = [order.pop() for _ in range(min(len(order), int(draw.integers(1, most + 1))))]
        parts: list[tuple[str, int]] = []
        for row in taken:
            parts += [(_linker(linkers, draw), n_families), domains[row]]
        made.append(_joined([*parts, (_linker(linkers, draw), n_families)], n_families))
    return made


def _linker(linkers: Sequence[str], draw: np.random.Generator) -> str:
    """Return a piece of a linker, of LONGEST_LINKER residues at most; one time in four nothing."""
    linker = linkers[int(draw.integers(len(linkers)))]
    length = min(len(linker), int(draw.integers(1, LONGEST_LINKER + 1)))
    start = int(draw.integers(len(linker) - length + 1))
    return linker[start : start + length] if draw.integers(4) else ""


def _joined(parts: Iterable[tuple[str, int]], n_families: int) -> Annotated:
    sequence, places, codes = "", [], []
    for residues, code in parts:
        if code < n_families:
            places.append(Place(len(sequence), len(sequence) + len(residues), code))
        codes += [code] * len(residues)
        sequence += residues
    return Annotated(sequence, tuple(places), np.array(codes, dtype=np.int64))


def shuffled(sequences: Iterable[str], seed: int) -> list[str]:
    """Return sequences with their residues in any order.

    Examples
    --------
    >>> sorted(shuffled(["MKTA"], seed=0)[0])
    ['A', 'K', 'M', 'T']
    """
    draw = np.random.default_rng(seed)
    return ["".join(draw.permutation(list(sequence)).tolist()) for sequence in sequences]


def without_domains(sequences: Iterable[str], n_families: int) -> list[Annotated]:
    """Return proteins of which it is known that no family's domain is in them."""
    return [_joined([(sequence, n_families)], n_families) for sequence in sequences]


def found_in(proteins: Iterable[str], domains: Sequence[tuple[str, int]]) -> list[Annotated]:
    """Return the proteins that hold any of the domains, residue by residue; of other residues nothing is known.

    Examples
    --------
    >>> [protein] = found_in(["AAMKTAYIAKQRAA", "GGGG"], [("MKTAYIAKQR", 0)])
    >>> protein.places, protein.codes.tolist()
    ((Place(start=2, end=12, code=0),), [-1, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, -1])
    """
    by_word: dict[str, list[tuple[str, int]]] = {}
    for residues, code in domains:
        by_word.setdefault(residues[:WORD], []).append((residues, code))
    annotated = []
    for sequence in proteins:
        codes = np.full(len(sequence), UNKNOWN, dtype=np.int64)
        places = []
        for start in range(len(sequence)):
            for residues, code in by_word.get(sequence[start : start + WORD], ()):
                if sequence.startswith(residues, start):
                    places.append(Place(start, start + len(residues), code))
                    codes[start : start + len(residues)] = code
        if places:
            annotated.append(Annotated(sequence, tuple(places), codes))
    return annotated
