"""The number of sequences to draw of each family: by a plan for the largest ones, or in proportion to their sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeAlias

from esmcls.errors import UsageError

AT_LEAST: Final = 3
"""Sequences that keeping all classes leaves a family, where it has them."""
_STEP: Final = re.compile(r"([1-9]\d*)[x×]([1-9]\d*)")

Sizes: TypeAlias = Mapping[str, int]
"""Family -> sequences of it that may be drawn."""


class Quotas(NamedTuple):
    """Sequences wanted of each family, the largest first, none of 0; and of all together, of so many families."""

    each: dict[str, int]
    sequences: int
    families: int


class Allotment(Protocol):
    """A way to say how many of each family; `str()` of it goes into the report."""

    def wanted(self, sizes: Sizes) -> Quotas:
        """Return what is wanted of families of these sizes."""


@dataclass(frozen=True)
class SamplingPlan:
    """So many sequences of each of the largest families, so many of each of the next ones, and so on.

    Parameters
    ----------
    steps : tuple of (families, sequences of each)
    """

    steps: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> SamplingPlan:
        """Read a plan.

        Raises
        ------
        UsageError
            If it is not of that form.

        Examples
        --------
        >>> SamplingPlan.parse("1000x200+4000x50").steps
        ((1000, 200), (4000, 50))
        """
        steps = []
        for word in text.split("+"):
            match = _STEP.fullmatch(word.strip())
            if match is None:
                form = "give FAMILIESxSEQUENCES, several with + between, such as 1000x200+4000x50"
                raise UsageError(f"plan {text!r}: {word.strip()!r} is no step of one; {form}")
            steps.append((int(match[1]), int(match[2])))
        return cls(tuple(steps))

    def __str__(self) -> str:
        """Return the plan as it is parsed."""
        return "+".join(f"{families}x{sequences}" for families, sequences in self.steps)

    def wanted(self, sizes: Sizes) -> Quotas:
        """Return what is wanted of families of these sizes; a family may have fewer, and there may be fewer families.

        Examples
        --------
        >>> SamplingPlan.parse("1x3+2x2").wanted({"a": 5, "b": 1, "c": 9, "d": 1})
        Quotas(each={'c': 3, 'a': 2, 'b': 2}, sequences=7, families=3)
        """
        each = (count for families, count in self.steps for _ in range(families))
        sequences = sum(families * count for families, count in self.steps)
        families = sum(families for families, _ in self.steps)
        return Quotas(dict(zip(by_size(sizes), each, strict=False)), sequences, families)


Plan = SamplingPlan
"""As it was called up to 0.1.0."""


@dataclass(frozen=True)
class Total:
    """So many sequences in all, of each family in proportion to its size, by largest remainder.

    Parameters
    ----------
    sequences : int
    at_least : int
        Sequences that each family gets, or all that it has; the others share what is left.
    """

    sequences: int
    at_least: int = 0

    def __str__(self) -> str:
        """Return number and floor."""
        return f"{self.sequences}" + (f", at least {self.at_least} of each family" if self.at_least else "")

    def wanted(self, sizes: Sizes) -> Quotas:
        """Return what is wanted of families of these sizes, never more than a family has.

        Raises
        ------
        UsageError
            If the floor alone takes more than the total.

        Examples
        --------
        >>> Total(20, at_least=3).wanted({"a": 90, "b": 8, "c": 2}).each  # quotas 18, 1.6, 0.4
        {'a': 15, 'b': 3, 'c': 2}
        """
        floors = {family: min(self.at_least, size) for family, size in sizes.items()}
        least = sum(floors.values())
        if least > self.sequences:
            of = f"{self.at_least} of each of {len(sizes):,} families, or all that it has, take {least:,}"
            raise UsageError(f"a total of {self.sequences:,} is too small: {of}; ask for that many or more")
        each = _above(floors, sizes, min(self.sequences, sum(sizes.values())))
        chosen = {family: each[family] for family in by_size(sizes) if each[family]}
        return Quotas(chosen, self.sequences, len(chosen))


def _above(floors: Sizes, sizes: Sizes, total: int) -> dict[str, int]:
    """Share out a total, no family getting less than its floor; the floors together are no more than the total."""
    each: dict[str, int] = {}
    free = dict(sizes)
    while True:
        whole = sum(free.values())
        low = {family for family, size in free.items() if total * size < floors[family] * whole}
        if not low:
            return each | largest_remainder(free, total)
        each |= {family: floors[family] for family in low}
        total -= sum(floors[family] for family in low)  # which lowers the quotas of the others: hence again
        free = {family: size for family, size in free.items() if family not in low}


def largest_remainder(sizes: Sizes, total: int) -> dict[str, int]:
    """Share out a total in proportion to sizes: the whole parts of the quotas, then one each by largest remainder.

    Equal remainders go by size, then by name. In whole numbers throughout, so that no rounding decides.

    Examples
    --------
    >>> largest_remainder({"a": 47, "b": 16, "c": 16, "d": 11, "e": 10}, 10)  # quotas 4.7, 1.6, 1.6, 1.1, 1
    {'a': 5, 'b': 2, 'c': 1, 'd': 1, 'e': 1}
    """
    whole = sum(sizes.values())
    each = {family: total * sizes[family] // whole for family in by_size(sizes)}
    by_remainder = sorted(each, key=lambda family: -(total * sizes[family] % whole))  # stable: else by size and name
    for family in by_remainder[: total - sum(each.values())]:
        each[family] += 1
    return each


def by_size(sizes: Sizes) -> list[str]:
    """Return the families, the largest first, equal ones by name.

    Examples
    --------
    >>> by_size({"b": 2, "a": 2, "c": 3})
    ['c', 'a', 'b']
    """
    return sorted(sizes, key=lambda family: (-sizes[family], family))
