"""An encoder whose residue vectors are a table of letters, each with a bit of the letter after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from esmcls.cache.features import Features
from esmcls.encoders.encoder import BatchPlan, Embedded
from esmcls.types import Vectors


@dataclass
class LetterEncoder:
    """Residues by table; remembers how many sequences it was given, and how often their residues were kept."""

    width: int = 8
    name: str = "letters"
    digest: str = "1e77e5"
    layers: tuple[int, ...] = (0,)
    long: str = "full"
    precision: str = "fp32"
    encoded: int = 0
    kept: int = 0
    table: Vectors = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.table = np.random.default_rng(5).normal(size=(128, self.width)).astype(np.float32)

    def batches(self, lengths: Iterable[int]) -> Iterator[int]:
        """Plan batches of some hundred residues."""
        return BatchPlan(500).counts(lengths)

    def residues(self, sequence: str) -> Vectors:
        """Return the vectors of a sequence's residues, (residues, width)."""
        own = self.table[[ord(letter) for letter in sequence]].reshape(-1, self.width)
        return np.asarray(own + 0.5 * np.roll(own, -1, axis=0), dtype=np.float32)

    def encode(self, sequences: Sequence[str], poolings: Sequence[str] = ("mean",), keep: str = "") -> Embedded:
        """Look up letters."""
        vectors = [self.residues(sequence) for sequence in sequences]
        self.encoded += len(sequences)
        self.kept += len(sequences) if keep == "residue" else 0
        means = np.array([one.mean(0) for one in vectors], dtype=np.float32).reshape(-1, self.width)
        counts = np.array([len(one) for one in vectors], dtype=np.int64)
        ones = np.ones(len(sequences), dtype=np.int64)
        return Embedded({"mean": means}, ones, counts, residues=vectors if keep == "residue" else None)


def proteins(vectors: Vectors, sequences: Sequence[str] | None = None, ids: Sequence[str] | None = None) -> Features:
    """Hold mean vectors, whatever they are, of proteins whose residues this encoder makes."""
    return Features.from_arrays(vectors, sequences, ids, encoder=lambda: LetterEncoder(vectors.shape[1]))


def embedded(sequences: Sequence[str], encoder: LetterEncoder | None = None) -> Features:
    """Embed proteins, residues left to be made when they are asked for."""
    encoder = encoder or LetterEncoder()
    means = encoder.encode(sequences).pooled["mean"]
    return Features.from_arrays(means, sequences, encoder=lambda: encoder)
