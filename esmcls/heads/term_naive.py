"""The naive head: each term by its share of the training rows, whatever the protein: the baseline of every table.

Of the rows that have any term of its aspect, as for all heads: what has none says nothing of that aspect.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from safetensors.numpy import load_file, save_file

from esmcls.cache.features import Features
from esmcls.heads.neighbours.term_votes import Known
from esmcls.heads.registry import Log
from esmcls.heads.term_base import BaseTermHead, Validation
from esmcls.heads.term_common import Blocks, check_sets, row_slices, score
from esmcls.labels.labels import LabelSets

if TYPE_CHECKING:
    from typing_extensions import Self


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

    def _fit(self, x: Features, labels: LabelSets, validation: Validation, seed: int, log: Log | None) -> None:
        self.refit(x, labels, seed, log)
        self.scores = score(validation[1], self.blocks(validation[0]))

    def refit(self, x: Features, labels: LabelSets, seed: int = 0, log: Log | None = None) -> Self:
        """Count the terms of all rows."""
        check_sets(x, labels)
        self.classes, self.groups, self.shares = labels.classes, labels.groups, Known(labels).shares
        return self

    def blocks(self, x: Features) -> Blocks:
        """Give slices of rows and their probabilities."""
        for rows in row_slices(len(x), len(self.classes)):
            yield rows, np.tile(self.shares, (rows.stop - rows.start, 1))

    def save(self, folder: Path) -> None:
        """Write `naive.safetensors` (shares float32)."""
        save_file({"shares": self.shares}, folder / "naive.safetensors")

    @classmethod
    def load(
        cls, folder: Path, config: NaiveConfig, classes: tuple[str, ...], groups: tuple[str, ...], device: str = "cpu"
    ) -> Self:
        """Read what `save` wrote."""
        head = cls._of(config, classes, groups)
        head.shares = load_file(folder / "naive.safetensors")["shares"]
        return head
