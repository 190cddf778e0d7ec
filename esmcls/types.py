"""Names for the arrays that pass between modules; the shape stands in each docstring that uses one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Vectors: TypeAlias = npt.NDArray[np.floating[Any]]
"""(n, width), float16 as stored or float32 as computed."""
Residues: TypeAlias = npt.NDArray[np.float32]
"""(residues, width): one vector a residue."""
Coordinates: TypeAlias = npt.NDArray[np.float32]
"""(residues, 3): places of CA atoms in Å, NaN where a residue was not resolved."""
Positions: TypeAlias = npt.NDArray[np.int64]
"""(residues,): 0-based positions in the sequence."""
Indices: TypeAlias = npt.NDArray[np.int64]
"""(n,) or (n, k): row numbers, class codes or counts."""
Probabilities: TypeAlias = npt.NDArray[np.float32]
"""(n, classes) or (n, k), each in [0, 1]."""
Floats: TypeAlias = npt.NDArray[np.float64]
"""(n,) or (n, k): scores, shares or counts that are summed up."""
RowSelection: TypeAlias = Sequence[int] | slice | npt.NDArray[np.int64] | npt.NDArray[np.bool_]
"""Row numbers in any order, a slice, or a mask."""
