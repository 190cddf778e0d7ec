"""Stretches of a protein that may be domains of a family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esmcls.types import Indices


@dataclass(frozen=True, eq=False)
class Windows:
    """Stretches of a protein, 0-based, end excluded, each with the code of a family; int64 arrays, (windows,)."""

    starts: Indices
    ends: Indices
    codes: Indices

    def __len__(self) -> int:
        """Return their number."""
        return len(self.starts)

    @property
    def lengths(self) -> Indices:
        """Residues of each."""
        return self.ends - self.starts

    @classmethod
    def united(cls, parts: Sequence[Windows]) -> Windows:
        """Return the windows of all parts, each once."""
        rows = np.concatenate([np.stack([part.starts, part.ends, part.codes], axis=1) for part in parts])
        return cls(*np.unique(rows, axis=0).T)

    def take(self, rows: npt.ArrayLike) -> Windows:
        """Return some of them."""
        chosen = np.asarray(rows, dtype=np.int64)
        return Windows(self.starts[chosen], self.ends[chosen], self.codes[chosen])
