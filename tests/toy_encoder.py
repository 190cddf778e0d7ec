"""An encoder whose vector can be computed by eye: the counts of A, C and D, and the length."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from esmcls.encoders.encoder import Embedded
from esmcls.encoders.windows import parse_long
from esmcls.errors import SequenceTooLargeError
from esmcls.types import Vectors


def vector(sequence: str) -> list[float]:
    """Return what is stored of a sequence."""
    return [sequence.count("A"), sequence.count("C"), sequence.count("D"), len(sequence)]


def stacked(sequences: Sequence[str]) -> Vectors:
    """Return the vectors of sequences, (n, 4)."""
    return np.array([vector(sequence) for sequence in sequences], dtype=np.float32).reshape(-1, 4)


def letters(number: int) -> str:
    """Return a sequence of its own for each number: A C D E stand for its digits in base 4, with W in front."""
    digits = ""
    while number:
        digits, number = "ACDE"[number % 4] + digits, number // 4
    return "W" + digits


@dataclass
class ToyEncoder:
    """Encodes `batch` sequences at a time; remembers the batches it was given."""

    batch: int = 3
    name: str = "toy"
    digest: str = "70"
    layers: tuple[int, ...] = (0,)
    width: int = 4
    long: str = "ends:4"
    precision: str = "fp32"
    nan_at: str = ""
    huge_at: str = ""
    too_large: tuple[str, ...] = ()
    seconds: float = 0.0
    batches_seen: list[list[str]] = field(default_factory=list)

    def batches(self, lengths: Iterable[int]) -> Iterator[int]:
        """Plan batches of a fixed number of sequences."""
        count = 0
        for _ in lengths:
            if count == self.batch:
                yield count
                count = 0
            count += 1
        if count:
            yield count

    def encode(self, sequences: Sequence[str], poolings: Sequence[str] = ("mean",), keep: str = "") -> Embedded:
        """Count letters; `cls` is twice the mean and `max` three times, a chunk or residue vector the mean's."""
        time.sleep(self.seconds)
        self.batches_seen.append(list(sequences))
        for index, sequence in enumerate(sequences):
            if sequence in self.too_large:
                raise SequenceTooLargeError(index, len(sequence))
        mean = stacked(sequences)
        for number, sequence in enumerate(sequences):
            if sequence == self.nan_at:
                mean[number, 1] = np.nan
            if sequence == self.huge_at:
                mean[number, 1] = 1e6
        cuts = [parse_long(self.long).cut(len(sequence)) for sequence in sequences]
        inputs = np.array([len(cut) for cut in cuts], dtype=np.int64)
        seen = np.array([sum(part.stop - part.start for one in cut for part in one) for cut in cuts], dtype=np.int64)
        pooled = {name: mean * {"mean": 1, "cls": 2, "max": 3}[name] for name in poolings}
        counts = {"chunk": inputs, "residue": seen}.get(keep)
        ragged = None if counts is None else [np.repeat(mean[i : i + 1], n, axis=0) for i, n in enumerate(counts)]
        return Embedded(
            pooled, inputs, seen, ragged if keep == "chunk" else None, ragged if keep == "residue" else None
        )
