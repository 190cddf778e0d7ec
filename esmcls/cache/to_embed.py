"""The part of an input that is still to be embedded: each missing sequence once, in input order, in batches."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Final, TypeAlias

from esmcls.cache.spec import sequence_key
from esmcls.cache.store import EmbeddingCache
from esmcls.encoders.encoder import Encoder
from esmcls.errors import UsageError

EmbedProgress: TypeAlias = Callable[[int, int], None]
"""Told the residues and sequences that are done since it was last called, those that were there already included."""
Shard: TypeAlias = "tuple[int, int]"
"""(i, n): the i-th of n parts, 1-based. Parts go by key, so that equal sequences are in one part."""
Item: TypeAlias = "tuple[int, str]"
"""Position in the input, 0-based, and sequence."""

BLOCK_SEQUENCES: Final = 256


@dataclass
class EmbedReport:
    """Counts of a run, for the user to be told.

    Parameters
    ----------
    read, distinct : int
        Sequences in the input, and how many of them differ (of this shard).
    cached : int
        Distinct ones that were there already.
    embedded, residues : int
        Distinct ones that are new, and their residues.
    cut, unseen : int
        New ones that are longer than the context and were cut, and their residues that the encoder never saw.
    too_large : list of int
        Positions in the input, 0-based, of those that do not fit into memory.
    seconds : float
    passed : (int, int)
        Residues and sequences that were cached, came twice, or are of another shard.
    """

    read: int = 0
    distinct: int = 0
    cached: int = 0
    embedded: int = 0
    residues: int = 0
    cut: int = 0
    unseen: int = 0
    too_large: list[int] = field(default_factory=list)
    seconds: float = 0.0
    passed: tuple[int, int] = (0, 0)

    def add(self, other: EmbedReport) -> None:
        """Add the counts of another process."""
        for entry in fields(self):
            if entry.name not in ("seconds", "passed"):
                setattr(self, entry.name, getattr(self, entry.name) + getattr(other, entry.name))

    def lines(self) -> list[str]:
        """Return one line for each fact that a user should be told.

        Examples
        --------
        >>> EmbedReport(read=5, distinct=4, cached=1, embedded=3, residues=2400, cut=1, unseen=78).lines()
        ['5 sequences, 4 distinct: 3 embedded, 1 were cached', '1 sequence was cut, 78 residues were not seen']
        """
        outcome = f"{self.embedded:,} embedded, {self.cached:,} were cached"
        lines = [f"{self.read:,} sequence{_s(self.read)}, {self.distinct:,} distinct: {outcome}"]
        if self.cut:
            were = "was" if self.cut == 1 else "were"
            lines.append(f"{self.cut:,} sequence{_s(self.cut)} {were} cut, {self.unseen:,} residues were not seen")
        if self.too_large:
            numbers = ", ".join(str(index + 1) for index in self.too_large[:5])
            more = ", …" if len(self.too_large) > 5 else ""
            lines.append(f"{len(self.too_large):,} left out, too large for the memory: number {numbers}{more}")
        return lines


class Teller:
    """Tells a progress callback how much is done, with what was passed over meanwhile."""

    def __init__(self, progress: EmbedProgress | None, report: EmbedReport) -> None:
        self.progress = progress
        self.report = report
        self.passed_before = (0, 0)

    def __call__(self, residues: int, sequences: int) -> None:
        """Tell of the residues and sequences that were done since the last call."""
        passed = self.report.passed
        residues += passed[0] - self.passed_before[0]
        sequences += passed[1] - self.passed_before[1]
        self.passed_before = passed
        if self.progress is not None and sequences:
            self.progress(residues, sequences)


class Missing:
    """The sequences of an input that a cache does not hold, each once, in input order; counts on the way.

    Parameters
    ----------
    cache : EmbeddingCache
    sequences : iterable of str
    shard : (int, int)
        (i, n), 1-based.

    Raises
    ------
    UsageError
        If there is no such shard.
    """

    def __init__(self, cache: EmbeddingCache, sequences: Iterable[str], shard: Shard = (1, 1)) -> None:
        self.cache = cache
        self.sequences = sequences
        self.part, self.parts = shard
        if not 1 <= self.part <= self.parts:
            raise UsageError(
                f"there is no shard {self.part}/{self.parts}; choose 1/{self.parts} to {self.parts}/{self.parts}"
            )
        self.report = EmbedReport()
        self.seen: set[bytes] = set()  # 16 bytes of each key: 100 million sequences collide with p < 1e-22

    def __iter__(self) -> Iterator[Item]:
        numbered = enumerate(self.sequences)
        while block := list(itertools.islice(numbered, BLOCK_SEQUENCES)):
            new = [item for item in block if self._is_new(item[1])]
            absent = self.cache.missing([sequence for _, sequence in new])
            self.report.read += len(block)
            self.report.distinct += len(new)
            self.report.cached += len(new) - len(absent)
            residues = sum(len(item[1]) for item in block) - sum(len(new[position][1]) for position in absent)
            sequences = len(block) - len(absent)
            self.report.passed = (self.report.passed[0] + residues, self.report.passed[1] + sequences)
            yield from (new[position] for position in absent)

    def _is_new(self, sequence: str) -> bool:
        """Say whether a sequence is of this shard and was not met before."""
        key = sequence_key(sequence)
        if int.from_bytes(key[-8:], "big") % self.parts != self.part - 1 or key[:16] in self.seen:
            return False
        self.seen.add(key[:16])
        return True


def plan_batches(encoder: Encoder, items: Iterable[Item]) -> Iterator[list[Item]]:
    """Part items into the encoder's batches, reading no further than it does."""
    waiting: deque[Item] = deque()

    def lengths() -> Iterator[int]:
        for item in items:
            waiting.append(item)
            yield len(item[1])

    for count in encoder.batches(lengths()):
        yield [waiting.popleft() for _ in range(count)]


def _s(count: int) -> str:
    return "" if count == 1 else "s"
