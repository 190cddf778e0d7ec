"""Residues of two relatives that stand in one column of their alignment (FAMSA, through pyfamsa)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from esmcls.encoders.alphabet import TO_COMMON_RESIDUES
from esmcls.errors import MissingExtraError

if TYPE_CHECKING:
    import pyfamsa


class Aligner:
    """Aligns two sequences from end to end.

    Source: Deorowicz et al. 2016, doi:10.1038/srep33964 (FAMSA).

    Raises
    ------
    MissingExtraError
        If pyfamsa is not installed.
    """

    def __init__(self) -> None:
        try:
            import pyfamsa
        except ModuleNotFoundError:
            raise MissingExtraError("the contrast of aligned residues", "pyfamsa", "profile") from None
        self._pyfamsa = pyfamsa

    @cached_property
    def _aligner(self) -> pyfamsa.Aligner:
        return self._pyfamsa.Aligner(threads=1)

    def columns(self, first: str, second: str) -> npt.NDArray[np.int64]:
        """Return the 0-based places of the residues that share a column, (columns, 2), both ascending."""
        sequences = [sequence.translate(TO_COMMON_RESIDUES) for sequence in (first, second)]  # FAMSA knows no others
        given = [self._pyfamsa.Sequence(str(row).encode(), text.encode()) for row, text in enumerate(sequences)]
        aligned = {row.id: row.sequence.decode() for row in self._aligner.align(given)}
        return shared_columns(aligned[b"0"], aligned[b"1"])


def shared_columns(first: str, second: str) -> npt.NDArray[np.int64]:
    """Return the places of the residues of two aligned rows that share a column.

    Examples
    --------
    >>> shared_columns("MK-TA", "-KLTA").tolist()
    [[1, 0], [2, 2], [3, 3]]
    """
    rows = [np.frombuffer(text.encode("ascii"), np.uint8) != ord("-") for text in (first, second)]
    places = [np.cumsum(row) - 1 for row in rows]
    both = rows[0] & rows[1]
    return np.stack([place[both] for place in places], axis=1)
