"""Labels of residues: a sign or a number for each, as text and as ragged arrays.

A text is either one sign a residue (`CCHHH`), where `?` is a residue that is not known, or one number a residue with
blanks (or `,` `;`) between, where `nan`, `NA` and `?` are not known. What is not known is neither trained on nor
scored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

import numpy as np

from esmcls.labels.kinds import RESIDUE_LABEL, RESIDUE_NUMBER
from esmcls.types import Floats, Indices, RowSelection

if TYPE_CHECKING:
    from typing_extensions import Self

UNKNOWN: Final = "?"
"""The sign of a residue whose class is not known."""
UNMEASURED: Final = "nan"
"""The number of a residue that was not measured."""
_BETWEEN: Final = re.compile(r"[\s,;]+")
_NOT_MEASURED: Final = frozenset({"nan", "na", "n/a", "?"})
NOUNS: Final = {RESIDUE_LABEL: "sign", RESIDUE_NUMBER: "number"}
"""What stands for a residue, by kind of task."""


def pieces(text: str) -> list[str]:
    """Return what a text lists with blanks, `,` or `;` between.

    Examples
    --------
    >>> pieces("0.5, nan -1"), pieces("CCHH")
    (['0.5', 'nan', '-1'], ['CCHH'])
    """
    return [piece for piece in _BETWEEN.split(text) if piece]


def numbers(text: str) -> Floats:
    """Return the numbers of a text, float64 (residues,), NaN where it was not measured.

    Raises
    ------
    ValueError
        If a piece is no number, or infinite.

    Examples
    --------
    >>> numbers("0.5 NA -1").tolist()
    [0.5, nan, -1.0]
    """
    values = [float("nan") if piece.lower() in _NOT_MEASURED else float(piece) for piece in pieces(text)]
    array = np.array(values, dtype=np.float64)
    if np.isinf(array).any():
        raise ValueError("infinite")
    return array


def lists_numbers(text: str) -> bool:
    """Say whether a text is numbers of residues, two or more.

    Examples
    --------
    >>> lists_numbers("0.5 nan"), lists_numbers("0.5"), lists_numbers("alpha beta")
    (True, False, False)
    """
    try:
        return len(numbers(text)) > 1
    except ValueError:
        return False


def length_of(text: str, kind: str) -> int:
    """Return for how many residues a text says something."""
    return len(text) if kind == RESIDUE_LABEL else len(pieces(text))


def masked(text: str, mask: str) -> str:
    """Return a text with what a mask leaves out made unknown.

    Parameters
    ----------
    text : str
        Signs or numbers.
        Or the places of a CA trace.
    mask : str
        A sign for each: 1 is known, 0 is not.

    Raises
    ------
    ValueError
        If the mask holds another sign, or is not as long; the message says which.

    Examples
    --------
    >>> masked("CCHH", "0111"), masked("0.5 1 2", "101"), masked("1,2,3 4,5,6", "01")
    ('?CHH', '0.5 nan 2', '? 4,5,6')
    """
    strange = set(mask) - {"0", "1"}
    if strange:
        raise ValueError(f"a mask with the sign {min(strange)!r}, where 1 is known and 0 is not")
    listed, places = pieces(text), text.split()
    of_trace = len(places) < len(listed) and len(places) == len(mask)
    listed = places if of_trace else listed
    signs = listed if len(listed) > 1 or of_trace else list(text)
    if len(mask) != len(signs):
        raise ValueError(f"a mask of {len(mask):,} signs for a label of {len(signs):,}")
    unknown, between = (UNMEASURED, " ") if len(listed) > 1 else (UNKNOWN, "")
    unknown = UNKNOWN if of_trace else unknown
    return between.join(sign if shown == "1" else unknown for sign, shown in zip(signs, mask, strict=True))


@dataclass(frozen=True, eq=False)
class ResidueLabels:
    """The classes of residues, and of each protein the place of each residue's class among them.

    Parameters
    ----------
    classes : tuple of str
        Each sign once.
    offsets : int64 array, (n + 1,)
        The codes of protein i are `codes[offsets[i]:offsets[i + 1]]`.
    codes : int64 array, (residues,)
        -1 is a residue whose class is not known, or not among the classes.

    Examples
    --------
    >>> labels = ResidueLabels.from_texts(["CC?H", "H"])
    >>> labels.classes, labels.codes.tolist(), labels.counts().tolist(), len(labels)
    (('C', 'H'), [0, 0, -1, 1, 1], [2, 2], 2)
    """

    kind: ClassVar[str] = RESIDUE_LABEL
    classes: tuple[str, ...]
    offsets: Indices
    codes: Indices

    @classmethod
    def from_texts(cls, texts: Sequence[str], classes: Sequence[str] | None = None) -> Self:
        """Code the signs of proteins by all that occur, sorted, or by the classes given."""
        known = tuple(sorted(signs_of(texts)) if classes is None else classes)
        lookup = np.full(0x110000 if any(ord(sign) > 255 for sign in known) else 256, -1, dtype=np.int64)
        lookup[[ord(sign) for sign in known]] = np.arange(len(known))
        parts = [np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32) for text in texts]
        signs = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint32)
        codes = np.where(signs < len(lookup), lookup[np.minimum(signs, len(lookup) - 1)], -1)
        return cls(known, offsets_of(map(len, texts)), codes.astype(np.int64))

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def known(self) -> Indices:
        """Whether the class of each residue is known, bool (residues,)."""
        return np.asarray(self.codes >= 0)

    def counts(self) -> Indices:
        """Return how many residues each class has: int64 array, (classes,)."""
        return np.bincount(self.codes[self.codes >= 0], minlength=self.n_classes).astype(np.int64)

    def row(self, number: int) -> Indices:
        """Return the codes of a protein, (residues,)."""
        return self.codes[self.offsets[number] : self.offsets[number + 1]]

    def take(self, rows: RowSelection) -> Self:
        """Return the labels of some proteins: row numbers, a slice or a mask; the classes stay."""
        offsets, places = taken(self.offsets, rows)
        return type(self)(self.classes, offsets, self.codes[places])

    def __len__(self) -> int:
        """Return the number of proteins."""
        return len(self.offsets) - 1


@dataclass(frozen=True, eq=False)
class ResidueNumbers:
    """The numbers of residues of proteins, NaN where not measured; there are no classes.

    Parameters
    ----------
    offsets : int64 array, (n + 1,)
        The numbers of protein i are `values[offsets[i]:offsets[i + 1]]`.
    values : float64 array, (residues,)

    Examples
    --------
    >>> ResidueNumbers.from_texts(["0.5 nan", "1"]).values.tolist()
    [0.5, nan, 1.0]
    """

    kind: ClassVar[str] = RESIDUE_NUMBER
    classes: ClassVar[tuple[str, ...]] = ()
    n_classes: ClassVar[int] = 0
    offsets: Indices
    values: Floats

    @classmethod
    def from_texts(cls, texts: Sequence[str]) -> Self:
        """Read the numbers of proteins."""
        parts = [numbers(text) for text in texts]
        return cls(offsets_of(map(len, parts)), np.concatenate(parts) if parts else np.zeros(0))

    @property
    def known(self) -> Indices:
        """Whether each residue was measured, bool (residues,)."""
        return np.asarray(~np.isnan(self.values))

    def counts(self) -> Indices:
        """Return nothing: there are no classes."""
        return np.zeros(0, dtype=np.int64)

    def row(self, number: int) -> Floats:
        """Return the numbers of a protein, (residues,)."""
        return self.values[self.offsets[number] : self.offsets[number + 1]]

    def take(self, rows: RowSelection) -> Self:
        """Return the numbers of some proteins: row numbers, a slice or a mask."""
        offsets, places = taken(self.offsets, rows)
        return type(self)(offsets, self.values[places])

    def __len__(self) -> int:
        """Return the number of proteins."""
        return len(self.offsets) - 1


Targets: TypeAlias = ResidueLabels | ResidueNumbers
"""What is known of residues."""


def signs_of(texts: Iterable[str]) -> set[str]:
    """Return the signs of classes that occur.

    Examples
    --------
    >>> sorted(signs_of(["CC?H", "E"]))
    ['C', 'E', 'H']
    """
    return set[str]().union(*texts) - {UNKNOWN}


def offsets_of(lengths: Iterable[int]) -> Indices:
    """Return where each of several parts begins when one stands after another, and where the last ends."""
    return np.concatenate(([0], np.cumsum(list(lengths), dtype=np.int64))).astype(np.int64)


def taken(offsets: Indices, rows: RowSelection) -> tuple[Indices, Indices]:
    """Return the offsets of some parts, one after another, and the places of what they hold."""
    chosen = np.arange(len(offsets) - 1)[rows]
    sizes = np.diff(offsets)[chosen]
    new = offsets_of(sizes.tolist())
    places = np.repeat(offsets[chosen] - new[:-1], sizes) + np.arange(new[-1])
    return new, places
