"""Labels: the class of each record as a code, one of many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from esmcls.types import Indices

_Rows: TypeAlias = Sequence[int] | slice | npt.NDArray[np.int64] | npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Labels:
    """The classes and, for each record, the place of its class among them.

    Parameters
    ----------
    classes : tuple of str
        Each name once.
    codes : int64 array, (n,)
        Places in `classes`; -1 is a class that is not among them.

    Raises
    ------
    ValueError
        If a class stands twice, `codes` is not one-dimensional, or a code is out of range.

    Examples
    --------
    >>> labels = Labels.from_names(["b", "a", "b"])
    >>> labels.classes, labels.codes.tolist(), labels.counts().tolist()
    (('a', 'b'), [1, 0, 1], [1, 2])
    """

    classes: tuple[str, ...]
    codes: Indices

    def __post_init__(self) -> None:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("a class stands twice among the classes")
        codes = np.asarray(self.codes, dtype=np.int64)
        if codes.ndim != 1:
            raise ValueError(f"codes have {codes.ndim} dimensions instead of 1")
        if codes.size and not (codes.min() >= -1 and codes.max() < len(self.classes)):
            raise ValueError(f"codes from {codes.min()} to {codes.max()} for {len(self.classes)} classes")
        object.__setattr__(self, "codes", codes)

    @classmethod
    def from_names(cls, names: Iterable[str], classes: Sequence[str] | None = None) -> Labels:
        """Code the class names of records.

        Parameters
        ----------
        names : iterable of str
            The class of each record.
        classes : sequence of str, optional
            The classes to code by, default all that occur, sorted. A name that is not among them becomes -1.

        Returns
        -------
        Labels
        """
        names = list(names)
        known = tuple(sorted(set(names)) if classes is None else classes)
        place = {name: code for code, name in enumerate(known)}
        return cls(known, np.fromiter((place.get(name, -1) for name in names), dtype=np.int64, count=len(names)))

    def names(self) -> list[str | None]:
        """Return the class name of each record, None where its code is -1."""
        return [self.classes[code] if code >= 0 else None for code in self.codes.tolist()]

    def counts(self) -> Indices:
        """Return how many records each class has: int64 array, (classes,)."""
        return np.bincount(self.codes[self.codes >= 0], minlength=self.n_classes).astype(np.int64)

    def take(self, rows: _Rows) -> Labels:
        """Return the labels of some records: row numbers, a slice or a mask; the classes stay."""
        return Labels(self.classes, self.codes[rows])

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.codes)
