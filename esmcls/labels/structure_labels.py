"""Structures as labels: where the CA atom of each residue lies, as text and as ragged arrays.

A text has a piece a residue with blanks between: `x,y,z` in Å, or `?` of a residue that was not resolved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from esmcls.labels.kinds import STRUCTURE
from esmcls.labels.residue_labels import UNKNOWN, offsets_of, taken
from esmcls.types import Coordinates, Indices, RowSelection

if TYPE_CHECKING:
    from typing_extensions import Self

_UNRESOLVED: Final = f"{UNKNOWN},{UNKNOWN},{UNKNOWN}"
_FARTHEST: Final = 1e5
"""Å: no coordinate of a deposited structure is as large."""


def trace_in_words(trace: Coordinates) -> str:
    """Return the text of a CA trace, to hundredths of an Å.

    Examples
    --------
    >>> trace_in_words(np.array([[1, 2.5, -3], [np.nan, np.nan, np.nan]]))
    '1.00,2.50,-3.00 ?'
    """
    return " ".join(UNKNOWN if np.isnan(x) else f"{x:.2f},{y:.2f},{z:.2f}" for x, y, z in trace.tolist())


def trace_of(text: str) -> Coordinates:
    """Return the CA trace of a text, float32 (residues, 3), NaN where a residue was not resolved.

    Raises
    ------
    ValueError
        If a piece is neither three numbers nor `?`; the message says which.

    Examples
    --------
    >>> trace_of("1,2.5,-3 ?").tolist()
    [[1.0, 2.5, -3.0], [nan, nan, nan]]
    """
    pieces = text.split()
    numbers = ",".join(_UNRESOLVED if piece == UNKNOWN else piece for piece in pieces).replace(UNKNOWN, "nan")
    try:
        trace = (
            np.array(numbers.split(","), dtype=np.float32).reshape(-1, 3) if pieces else np.zeros((0, 3), np.float32)
        )
    except ValueError:
        trace = None
    if trace is None or len(trace) != len(pieces) or (np.abs(trace) > _FARTHEST).any():
        faulty = next(
            (number for number, piece in enumerate(pieces, 1) if piece != UNKNOWN and not _is_place(piece)), len(pieces)
        )
        raise ValueError(f"residue {faulty:,} is {pieces[faulty - 1][:40]!r}, where x,y,z in Å or {UNKNOWN} is wanted")
    return trace


def looks_like_trace(text: str) -> bool:
    """Say whether the first piece of a text that is no `?` has three numbers' commas, which most labels have not.

    Examples
    --------
    >>> looks_like_trace("? 1,2,3 4,5,6"), looks_like_trace("1 2 3"), looks_like_trace("CCH"), looks_like_trace("? ?")
    (True, False, False, True)
    """
    first = next((piece for piece in text.split() if piece != UNKNOWN), None)
    return first is None or first.count(",") == 2


def _is_place(piece: str) -> bool:
    try:
        numbers = [float(number) for number in piece.split(",")]
    except ValueError:
        return False
    return len(numbers) == 3 and all(abs(number) <= _FARTHEST for number in numbers)


@dataclass(frozen=True, eq=False)
class Structures:
    """The CA traces of proteins, NaN where a residue was not resolved; there are no classes.

    Parameters
    ----------
    offsets : int64 array, (n + 1,)
        The trace of protein i is `places[offsets[i]:offsets[i + 1]]`.
    places : float32 array, (residues, 3)
        Å.

    Examples
    --------
    >>> structures = Structures.from_texts(["0,0,0 ? 3.8,0,0", "1,1,1"])
    >>> structures.known.tolist(), structures.row(1).tolist(), len(structures)
    ([True, False, True, True], [[1.0, 1.0, 1.0]], 2)
    """

    kind: ClassVar[str] = STRUCTURE
    classes: ClassVar[tuple[str, ...]] = ()
    n_classes: ClassVar[int] = 0
    offsets: Indices
    places: Coordinates

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> Self:
        """Read the traces of proteins."""
        return cls.from_traces([trace_of(text) for text in texts])

    @classmethod
    def from_traces(cls, traces: Sequence[Coordinates]) -> Self:
        """Put traces one after another."""
        joined = np.concatenate(traces) if traces else np.zeros((0, 3))
        return cls(offsets_of(map(len, traces)), joined.astype(np.float32))

    @property
    def known(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Whether each residue was resolved, bool (residues,)."""
        return np.asarray(~np.isnan(self.places[:, 0]))

    def counts(self) -> Indices:
        """Return nothing: there are no classes."""
        return np.zeros(0, dtype=np.int64)

    def row(self, number: int) -> Coordinates:
        """Return the trace of a protein, (residues, 3)."""
        return self.places[self.offsets[number] : self.offsets[number + 1]]

    def take(self, rows: RowSelection) -> Self:
        """Return the traces of some proteins: row numbers, a slice or a mask."""
        offsets, places = taken(self.offsets, rows)
        return type(self)(offsets, self.places[places])

    def __len__(self) -> int:
        """Return the number of proteins."""
        return len(self.offsets) - 1
