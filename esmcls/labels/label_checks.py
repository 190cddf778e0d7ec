"""Labels that are no names of classes: numbers, a letter for each residue, several codes in one cell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from esmcls.errors import DataError
from esmcls.labels.kinds import MANY_LABELS, ONE_LABEL
from esmcls.labels.label_lists import labels_in, lists_several

HANDFUL: Final = 30
"""Distinct whole numbers that may be names of classes, such as EC's first digit or the class in CATH."""
_MISSING: Final = frozenset({"", "-", "?", "na", "n/a", "nan", "none", "null"})
_SEPARATORS: Final = re.compile(r"\s*[;,|]\s*")
_CODE: Final = re.compile(
    r"(?:EC[ :]?)?\d+(?:\.(?:\d+|n\d+|-)){3}"  # EC, CATH
    r"|[A-Za-z]{1,6}[:_]?\d{3,}(?:\.\d+)?"  # Pfam, InterPro, GO, Rfam …
)
_RESIDUES: Final = re.compile(r"[A-Z-]{15,}")
"""Longer than any name of a class in capitals without blank or digit."""
_SHORTEST: Final = 10
"""Residues; shorter labels and sequences may be equally long by chance."""
_ENOUGH: Final = 3
"""Records that say something about all."""


def kind_of_labels(labels: Sequence[str], sequences: Sequence[str], path: str, asked: str | None = None) -> str:
    """Return which kind of task labels are for, and make sure that they can be.

    Parameters
    ----------
    labels, sequences : sequences of str, (n,)
    path : str
        For messages.
    asked : str, optional
        The kind that the user named; default the one that the labels look like.

    Returns
    -------
    str
        One of `esmcls.labels.kinds.NAMED`.

    Raises
    ------
    DataError
        If they are numbers other than a handful of whole ones, stand for residues one by one, are sequences, or one of
        them lists several codes with commas between, such as `1.1.1.1, 2.3.1.4`.

    Examples
    --------
    >>> kind_of_labels(["1.10.8.10", "2.40.50.140", "3"], ["MKT", "MKV", "MKL"], "cath.csv")
    'one-label'
    >>> kind_of_labels(["1.1.1.1;2.3.1.4"], ["MKT"], "ec.csv")
    'many-labels'
    >>> kind_of_labels(["1.1.1.1,2.3.1.4"], ["MKT"], "ec.csv")
    Traceback (most recent call last):
    esmcls.errors.DataError: ec.csv: label '1.1.1.1,2.3.1.4' lists 2 codes with commas between (1 such label); ...
    """
    checks = LabelChecks()
    for label, sequence in zip(labels, sequences, strict=True):
        checks.add(label, sequence)
    return checks.kind(path, asked)


class LabelChecks:
    """What `kind_of_labels` looks at, of labels as they come: memory is that of the distinct ones."""

    def __init__(self) -> None:
        self.distinct: set[str] = set()
        self.pairs = 0
        """Records with a sequence that is long enough to say something."""
        self.first = ""
        self.as_long = True
        self.residues = True

    def add(self, label: str, sequence: str) -> None:
        """Note the label of a protein."""
        if label not in self.distinct:
            self.distinct.add(label)
            self.residues = self.residues and _RESIDUES.fullmatch(label) is not None
        if len(sequence) >= _SHORTEST:
            self.first = self.first if self.pairs else label
            self.pairs += 1
            self.as_long = self.as_long and len(label) == len(sequence)

    def kind(self, path: str, asked: str | None = None) -> str:
        """Return the kind of task that the labels are for; see `kind_of_labels`."""
        if asked == MANY_LABELS or (asked is None and any(map(lists_several, self.distinct))):
            self._refuse_lists(path)
            return MANY_LABELS
        self.refuse(path)
        return asked or ONE_LABEL

    def _refuse_lists(self, path: str) -> None:
        """Refuse lists of what are no names of classes."""
        self._refuse_commas(path)
        pieces = {piece for label in self.distinct for piece in labels_in(label)}
        if pieces and all(map(_is_number, pieces)) and not _names_classes(pieces):
            examples = ", ".join(sorted(pieces)[:3])
            problem = f"labels are lists of numbers ({examples}, …: {len(pieces):,} different ones), not of classes"
            raise DataError(path, problem, "put a letter before each if they do name classes")

    def _refuse_commas(self, path: str) -> None:
        several = sorted(label for label in self.distinct if _codes(label) > 1 and not lists_several(label))
        if several:
            labels_like_it = f"{len(several):,} such label{'' if len(several) == 1 else 's'}"
            problem = f"label {several[0]!r} lists {_codes(several[0])} codes with commas between ({labels_like_it})"
            terms = "Gene Ontology terms: a row for each, and --obo"
            raise DataError(path, problem, f"put ; or | between the labels of a protein ({terms})")

    def refuse(self, path: str) -> None:
        """Refuse labels that are no names of classes."""
        self._refuse_commas(path)
        numbers = {label for label in self.distinct if label.lower() not in _MISSING}
        if numbers and all(map(_is_number, numbers)) and not _names_classes(numbers):
            examples = ", ".join(sorted(numbers)[:3])
            problem = f"labels are numbers ({examples}, …: {len(numbers):,} different ones), not classes"
            fix = "put a letter before each if they do name classes; predicting numbers is to come"
            raise DataError(path, problem, fix)
        if self.pairs >= _ENOUGH and (self.as_long or self.residues):
            problem = f"labels are strings such as {self.first[:20]!r}, …: a sign for each residue, not a class"
            raise DataError(path, problem, "give a class for each protein; to predict residues is to come")


def _codes(label: str) -> int:
    """Return how many codes a label lists; 0 if a piece of it is none."""
    pieces = _SEPARATORS.split(label.strip(" ;,|"))
    return len(pieces) if all(map(_CODE.fullmatch, pieces)) else 0


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def _names_classes(numbers: set[str]) -> bool:
    """Say whether numbers are a handful of whole ones."""
    return len(numbers) <= HANDFUL and all(number.strip("+-").isdecimal() for number in numbers)
