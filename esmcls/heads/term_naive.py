"""The naive head: each term by its share of the training rows, whatever the protein: the baseline of every table.

Of the rows that have any term of its aspect, as for all heads: what has none says nothing of that aspect.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from esmcls.cache.features import Features
from esmcls.heads.base import BaseTermHead, Log, Validation
from esmcls.heads.blocks import TermBlocks, row_slices, score_terms
from esmcls.heads.neighbours.term_votes import Known
from esmcls.heads.saved_tensors import read_tensors
from esmcls.labels.labels import LabelSets


@dataclass(frozen=True)
class NaiveConfig:
    """There is nothing to set."""


class NaiveHead(BaseTermHead):
    """Term frequencies.

    References
    ----------
    Clark and Radivojac 2013, doi:10.1093/bioinformatics/btt228 (the naive model of CAFA).

    Examples
    --------
    >>> x = Features.from_arrays(np.zeros((4, 0), dtype=np.float32))
    >>> head = NaiveHead().fit(x, LabelSets.from_names([["a"], ["a", "b"], ["a"], ["c"]]))
    >>> head.predict_proba(x.take([3])).tolist()
    [[0.75, 0.25, 0.25]]
    """

    Config: ClassVar[type[NaiveConfig]] = NaiveConfig
    reads_vectors: ClassVar[bool] = False
    config: NaiveConfig
    chosen: NaiveConfig
    shares: npt.NDArray[np.float32]
    """Of each class among the training rows, (classes,)."""

    def _fit(
        self, x: Features, labels: LabelSets, validation: Validation[LabelSets], seed: int, log: Log | None
    ) -> None:
        self._refit(x, labels, seed, log)
        self.scores = score_terms(validation[1], self.blocks(validation[0]))

    def _refit(self, x: Features, labels: LabelSets, seed: int, log: Log | None) -> None:
        """Count the terms of all rows."""
        self.shares = Known(labels).shares

    def blocks(self, x: Features) -> TermBlocks:
        """Give slices of rows and their probabilities."""
        for rows in row_slices(len(x), len(self.classes)):
            yield rows, np.tile(self.shares, (rows.stop - rows.start, 1))

    def save(self, folder: Path) -> None:
        """Write `naive.safetensors` (shares float32)."""
        save_file({"shares": self.shares}, folder / "naive.safetensors")

    def _restore(self, folder: Path) -> None:
        shapes = {"shares": ("float32", "classes")}
        self.shares = read_tensors(folder / "naive.safetensors", shapes, classes=len(self.classes))["shares"].numpy()
