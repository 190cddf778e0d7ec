"""Labels that are no names of classes: numbers, a letter for each residue, several codes in one cell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from esmcls.errors import DataError

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


def check_labels(labels: Sequence[str], sequences: Sequence[str], path: str) -> None:
    """Make sure that labels, one a protein, are names of classes.

    Parameters
    ----------
    labels, sequences : sequences of str, (n,)
    path : str
        For messages.

    Raises
    ------
    DataError
        If they are numbers other than a handful of whole ones, stand for residues one by one, are sequences, or one of
        them lists several codes, such as `1.1.1.1;2.3.1.4`.

    Examples
    --------
    >>> check_labels(["1.10.8.10", "2.40.50.140", "3"], ["MKT", "MKV", "MKL"], "cath.csv")
    >>> check_labels(["1.1.1.1;2.3.1.4"], ["MKT"], "ec.csv")
    Traceback (most recent call last):
    esmcls.errors.DataError: ec.csv: label '1.1.1.1;2.3.1.4' lists 2 codes (1 such label); ...
    """
    distinct = set(labels)
    several = sorted(label for label in distinct if _codes(label) > 1)
    if several:
        labels_like_it = f"{len(several):,} such label{'' if len(several) == 1 else 's'}"
        problem = f"label {several[0]!r} lists {_codes(several[0])} codes ({labels_like_it})"
        fix = "give one a protein (Gene Ontology terms: a row for each, and --obo); several of other kinds are to come"
        raise DataError(path, problem, fix)
    numbers = {label for label in distinct if label.lower() not in _MISSING}
    if numbers and all(map(_is_number, numbers)) and not _names_classes(numbers):
        some = ", ".join(sorted(numbers)[:3])
        problem = f"labels are numbers ({some}, …: {len(numbers):,} different ones), not classes"
        fix = "put a letter before each if they do name classes; predicting numbers is to come"
        raise DataError(path, problem, fix)
    _check_residues(labels, sequences, path)


def _check_residues(labels: Sequence[str], sequences: Sequence[str], path: str) -> None:
    pairs = [pair for pair in zip(labels, sequences, strict=True) if len(pair[1]) >= _SHORTEST]
    if len(pairs) < _ENOUGH:
        return
    as_long = all(len(label) == len(sequence) for label, sequence in pairs)
    if as_long or all(map(_RESIDUES.fullmatch, labels)):
        start = pairs[0][0][:20]
        problem = f"labels are strings such as {start!r}, …: a sign for each residue, not a class"
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
