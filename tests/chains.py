"""Chains whose traces follow from their sequences, and heads that know them more or less: a workspace of structures."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.split import SplitReport
from esmcls.labels.kinds import STRUCTURE
from esmcls.labels.structure_labels import Structures, trace_in_words
from esmcls.structures.distogram import CENTRES, PairAnswer, distances
from esmcls.structures.folding.fold import Fold
from esmcls.workspace.embed_in_workspace import EmbeddingRecipe, embed_in_workspace
from esmcls.workspace.intake import Intake
from esmcls.workspace.workspace import Workspace

PARTS = ("train",) * 6 + ("validation",) * 2 + ("test",) * 5
CORNERS = np.array([[-2.5, -3], [2.5, -3], [2.5, 3], [-2.5, 3]])
STRAND = 9


def sequences(n: int = len(PARTS)) -> list[str]:
    """Return chains of 36 to 60 residues."""
    random = np.random.default_rng(5)
    return ["".join(random.choice(list("ALVIGSDKEF"), size=36 + 6 * (number % 5))) for number in range(n)]


def trace_of(sequence: str) -> NDArray[np.float32]:
    """Return strands that wind round a bundle of four, each place moved a little: long-range contacts abound."""
    random = np.random.default_rng(zlib.crc32(sequence.encode()))
    places = np.arange(len(sequence))
    strand, along = places // STRAND, places % STRAND
    forth = np.where(strand % 2, STRAND - 1 - along, along)
    trace = np.column_stack([3.4 * forth, CORNERS[strand % 4] * (1 + strand // 4)[:, None]])
    return (trace + random.normal(0, 0.3, trace.shape)).astype(np.float32)


def label(sequence: str) -> str:
    """Return the text of a trace; its third residue was not resolved."""
    trace = trace_of(sequence)
    trace[2] = np.nan
    return trace_in_words(trace)


def dataset() -> Dataset:
    """Return the chains with their traces."""
    texts = sequences()
    return Dataset([f"c{number}" for number in range(len(texts))], texts, [label(text) for text in texts], list(PARTS))


def workspace(folder: Path) -> Workspace:
    """Make a workspace of the chains."""
    place = Workspace.open(folder, create=True)
    place.set_dataset(dataset(), SplitReport("given"), (), None, True, STRUCTURE)
    embed_in_workspace(place, Intake(place.dataset), EmbeddingRecipe())
    return place


@dataclass(frozen=True)
class Config:
    """How sure the head is.

    Parameters
    ----------
    blur : float
        Å.
    """

    blur: float = 1.0


class Seer:
    """A head that knows each trace, as far as it is let; see `esmcls.heads.base.PairHead`."""

    Config: ClassVar[type[Any]] = Config
    reads_vectors: ClassVar[bool] = False
    reads_residues: ClassVar[bool] = False

    def __init__(self, config: Config | None = None, device: str = "cpu") -> None:
        self.config = self.chosen = config or Config()
        self.classes: tuple[str, ...] = ()
        self.scores: dict[str, float] = {}

    def fit(self, x: Features, labels: Structures, validation: Any = None, seed: int = 0, log: Any = None) -> Seer:
        """Learn nothing."""
        assert len(x) == len(labels)
        self.scores = {"precision_l": 0.5, "precision_l5": 0.6, "lddt": 0.7, "loss": 1.0, "n": 2}
        return self

    def refit(self, x: Features, labels: Structures, seed: int = 0, log: Any = None) -> Seer:
        """Learn nothing."""
        return self

    def distances(self, sequence: str) -> NDArray[np.float32]:
        """Return what the head takes for the distances."""
        return np.minimum(distances(trace_of(sequence)), CENTRES[-1])

    def per_protein(self, x: Features) -> Iterator[PairAnswer]:
        """Give a distogram around the distances; surer in the first half of the chain."""
        for sequence in x.sequences:
            off = self.distances(sequence)[:, :, None] - CENTRES
            likeliness = np.exp(-np.square(off / self.config.blur) / 2) + 1e-4
            distogram = (likeliness / likeliness.sum(2, keepdims=True)).astype(np.float32)
            n = len(sequence)
            confidence = np.where(np.arange(n) < n // 2, 0.85, 0.65).astype(np.float32)
            yield PairAnswer(np.arange(n), distogram, confidence, n)

    def save(self, folder: Path) -> None:
        """Write that there is nothing to know."""
        (folder / "seer.json").write_text(json.dumps({}))

    @classmethod
    def load(cls, folder: Path, config: Any, classes: tuple[str, ...], device: str = "cpu") -> Seer:
        """Return the head."""
        assert (folder / "seer.json").is_file()
        return cls(config, device)


class Straight(Seer):
    """A head that takes every chain for a stretched one."""

    def distances(self, sequence: str) -> NDArray[np.float32]:
        """Return distances that grow along the chain."""
        places = np.arange(len(sequence))
        return (3.3 * np.abs(places[:, None] - places[None, :])).astype(np.float32)


HEADS: dict[str, type[Seer]] = {"pairs": Seer, "separation": Straight}


def quick_fold(answer: PairAnswer, **options: Any) -> Fold:
    """Return the places that multidimensional scaling gives; folding itself is tried elsewhere."""
    squared = np.square(answer.distogram @ CENTRES)
    n = len(squared)
    centring = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-centring @ squared @ centring / 2)
    places = vectors[:, -3:] * np.sqrt(np.maximum(values[-3:], 0))
    trace = np.full((answer.length, 3), np.nan, dtype=np.float32)
    trace[answer.positions] = places
    losses = {field.name: 0.0 for field in fields(Fold) if field.name not in ("trace", "confidence")}
    return Fold(trace=trace, confidence=answer.confidence, **losses)
