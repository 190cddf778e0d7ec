"""Labels: the class of each record as a code, one of many, or its classes, many of many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esmcls.types import Indices, RowSelection


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

    def take(self, rows: RowSelection) -> Labels:
        """Return the labels of some records: row numbers, a slice or a mask; the classes stay."""
        return Labels(self.classes, self.codes[rows])

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.codes)


@dataclass(frozen=True, eq=False)
class LabelSets:
    """The classes and, for each record, the places of its own among them: many of many, in compressed rows.

    Parameters
    ----------
    classes : tuple of str
        Each name once.
    offsets : int64 array, (n + 1,)
        The codes of record i are codes[offsets[i]:offsets[i + 1]].
    codes : int64 array, (total,)
        Places in `classes`, ascending in each record and each once.
    groups : tuple of str, (classes,)
        To be measured apart: of GO terms the aspect of each, C, F or P; empty where there is none.

    Raises
    ------
    ValueError
        If a class stands twice, groups are not as many, or offsets or codes are out of range or order.

    Examples
    --------
    >>> labels = LabelSets.from_names([["b", "a"], [], ["b"]])
    >>> labels.classes, labels.codes.tolist(), labels.counts().tolist()
    (('a', 'b'), [0, 1, 1], [1, 2])
    """

    classes: tuple[str, ...]
    offsets: Indices
    codes: Indices
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("a class stands twice among the classes")
        if self.groups and len(self.groups) != len(self.classes):
            raise ValueError(f"{len(self.groups)} groups for {len(self.classes)} classes")
        offsets = np.asarray(self.offsets, dtype=np.int64)
        codes = np.asarray(self.codes, dtype=np.int64)
        cuts = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(codes)
        if not cuts or (offsets < 0).any() or (np.diff(offsets) < 0).any():  # differences of any two would overflow
            raise ValueError(f"offsets that do not cut {len(codes)} codes into rows")
        if codes.size and not (codes.min() >= 0 and codes.max() < len(self.classes)):
            raise ValueError(f"codes from {codes.min()} to {codes.max()} for {len(self.classes)} classes")
        steps = np.diff(codes)
        steps[offsets[1:-1][(offsets[1:-1] > 0) & (offsets[1:-1] < len(codes))] - 1] = 1  # from one record to the next
        if (steps <= 0).any():
            raise ValueError("codes of a record are not ascending, each once")
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "codes", codes)

    @classmethod
    def from_names(
        cls, names: Iterable[Iterable[str]], classes: Sequence[str] | None = None, groups: Sequence[str] = ()
    ) -> LabelSets:
        """Code the class names of records.

        Parameters
        ----------
        names : iterable of iterables of str
            The classes of each record, in any order.
        classes : sequence of str, optional
            The classes to code by, default all that occur, sorted. A name that is not among them is left out.
        groups : sequence of str, optional
            Of the classes given.
        """
        sets = [set(record) for record in names]
        known = tuple(sorted(set().union(*sets)) if classes is None else classes)
        place = {name: code for code, name in enumerate(known)}
        return cls.from_codes(
            known, [sorted(place[name] for name in record if name in place) for record in sets], groups
        )

    @classmethod
    def from_codes(cls, classes: Sequence[str], rows: Sequence[Sequence[int]], groups: Sequence[str] = ()) -> LabelSets:
        """Take the ascending codes of each record."""
        offsets = np.cumsum([0, *map(len, rows)])
        codes = np.fromiter((code for row in rows for code in row), np.int64, offsets[-1])
        return cls(tuple(classes), offsets, codes, tuple(groups))

    def row(self, number: int) -> Indices:
        """Return the codes of a record, (m,)."""
        return self.codes[self.offsets[number] : self.offsets[number + 1]]

    def sizes(self) -> Indices:
        """Return how many classes each record has: int64 array, (n,)."""
        return np.diff(self.offsets)

    def counts(self) -> Indices:
        """Return how many records each class has: int64 array, (classes,)."""
        return np.bincount(self.codes, minlength=self.n_classes).astype(np.int64)

    def take(self, rows: RowSelection) -> LabelSets:
        """Return the labels of some records: row numbers, a slice or a mask; the classes stay."""
        chosen = np.arange(len(self))[rows]
        sizes = self.sizes()[chosen]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        places = np.repeat(self.offsets[chosen] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return LabelSets(self.classes, offsets, self.codes[places], self.groups)

    def dense(self, rows: RowSelection = slice(None)) -> npt.NDArray[np.bool_]:
        """Return which classes some records have, bool (rows, classes): for blocks of rows, never for a whole set."""
        chosen = self.take(rows)
        has_class = np.zeros((len(chosen), self.n_classes), dtype=bool)
        has_class[np.repeat(np.arange(len(chosen)), chosen.sizes()), chosen.codes] = True
        return has_class

    def names(self) -> list[tuple[str, ...]]:
        """Return the class names of each record."""
        return [tuple(self.classes[code] for code in self.row(number).tolist()) for number in range(len(self))]

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.offsets) - 1
