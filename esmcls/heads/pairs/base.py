"""The skeleton that the heads for structures share; what they promise is `esmcls.heads.contract.PairHead`.

A head answers protein by protein, each by itself, with one in memory at a time: what it says of a pair never depends
on which other proteins are asked about.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.base import LoadedWithClasses
from esmcls.heads.blocks import hold_out_where
from esmcls.heads.pairs.measures import MEASURES, measured
from esmcls.heads.residues.base import check_kept
from esmcls.labels.structure_labels import Structures
from esmcls.structures.distogram import PairAnswer
from esmcls.types import Indices


class BasePairHead(LoadedWithClasses[Structures]):
    """A head for structures, without anything fitted."""

    reads_residues: ClassVar[bool] = True

    def _check(self, x: Features, labels: Structures) -> None:
        if not len(x):
            raise UsageError("there are no proteins to fit on")
        if len(labels) != len(x):
            raise ValueError(f"structures of {len(labels)} proteins for {len(x)} proteins")
        for name, sequence, residues in zip(x.ids, x.sequences, np.diff(labels.offsets).tolist(), strict=True):
            if sequence and len(sequence) != residues:
                raise ValueError(f"a structure of {residues} residues for the {len(sequence)} of protein {name!r}")
        if not has_pairs(labels):
            raise UsageError("no protein has two residues of known place to fit on")
        if self.needs_vectors:
            check_kept(x)

    @property
    def needs_vectors(self) -> bool:
        """Whether the vectors of residues are read, as this head is configured."""
        return self.reads_residues

    def _check_validation(self, labels: Structures, held: Structures) -> None:
        if not has_pairs(held):
            raise UsageError("no protein of the validation part has two residues of known place to choose by")

    def _hold_out(self, labels: Structures, seed: int) -> tuple[Indices, Indices]:
        """Hold out a tenth of the proteins; none where the rest, or they, would have no pair of known place."""
        return hold_out_where(len(labels), seed, lambda rows: has_pairs(labels.take(rows)))

    @abstractmethod
    def per_protein(self, x: Features) -> Iterator[PairAnswer]:
        """Give what is said of each protein; see `PairHead`."""

    def _score(self, x: Features, labels: Structures) -> dict[str, float]:
        """Return what the head reaches on proteins; see `PairHead`."""
        rows = [measured(answer, labels.row(row)) for row, answer in enumerate(self.per_protein(x))]
        return scores_of(np.array(rows))


def has_pairs(labels: Structures) -> bool:
    """Return whether a protein has two residues of known place."""
    known = np.concatenate([[0], np.cumsum(labels.known)])
    return bool((np.diff(known[labels.offsets]) > 1).any())


def scores_of(rows: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    """Return the mean of each measure over the chains that have it, and the number of chains; rows (chains, 4)."""
    has = ~np.isnan(rows)
    means = np.where(has, rows, 0.0).sum(0) / np.maximum(has.sum(0), 1)
    return dict(zip(MEASURES, means.tolist(), strict=True)) | {"n": float(has[:, 3].sum())}
