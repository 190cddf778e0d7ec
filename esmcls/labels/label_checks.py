"""Labels that are no names of classes: numbers, a letter for each residue, several codes in one cell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from esmcls.errors import DataError
from esmcls.labels.kinds import NUMBER, ONE_LABEL
from esmcls.labels.number_labels import Place, check_numbers, in_examples, reading_of_numbers

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


def kind_of_labels(
    labels: Sequence[str],
    sequences: Sequence[str],
    path: str,
    asked: str | None = None,
    places: Mapping[str, Place] | None = None,
) -> str:
    """Return which kind of task labels are for, and make sure that they can be.

    Parameters
    ----------
    labels, sequences : sequences of str, (n,)
    path : str
        For messages.
    asked : str, optional
        The kind that the user named; default the one that the labels look like.
    places : mapping, optional
        Label -> the record that it is first met in, for messages.

    Returns
    -------
    str
        One of `esmcls.labels.kinds.NAMED`.

    Raises
    ------
    DataError
        If they may be numbers or names of classes, or are numbers but for one of them, stand for residues one by one,
        are sequences, or one of them lists several codes, such as `1.1.1.1;2.3.1.4`.

    Examples
    --------
    >>> kind_of_labels(["1.10.8.10", "2.40.50.140", "3"], ["MKT", "MKV", "MKL"], "cath.csv")
    'one-label'
    >>> kind_of_labels(["61.5", "48.25", "70"], ["MKT", "MKV", "MKL"], "melting.csv")
    'number'
    >>> kind_of_labels(["1.1.1.1;2.3.1.4"], ["MKT"], "ec.csv")
    Traceback (most recent call last):
    esmcls.errors.DataError: ec.csv: label '1.1.1.1;2.3.1.4' lists 2 codes (1 such label); ...
    """
    checks = LabelChecks()
    for label, sequence in zip(labels, sequences, strict=True):
        checks.add(label, sequence, (places or {}).get(label))
    return checks.kind(path, asked)


class LabelChecks:
    """What `kind_of_labels` looks at, of labels as they come: memory is that of the distinct ones."""

    def __init__(self) -> None:
        self.distinct: dict[str, Place | None] = {}
        """Each label, with the record that it was first met in."""
        self.pairs = 0
        """Records with a sequence that is long enough to say something."""
        self.first = ""
        self.as_long = True
        self.residues = True

    def add(self, label: str, sequence: str, place: Place | None = None) -> None:
        """Note the label of a protein."""
        if label not in self.distinct:
            self.distinct[label] = place
            self.residues = self.residues and _RESIDUES.fullmatch(label) is not None
        if len(sequence) >= _SHORTEST:
            self.first = self.first if self.pairs else label
            self.pairs += 1
            self.as_long = self.as_long and len(label) == len(sequence)

    def kind(self, path: str, asked: str | None = None) -> str:
        """Return the kind of task that the labels are for; see `kind_of_labels`."""
        if asked == NUMBER:
            check_numbers(self.distinct, path)
            return asked
        self._refuse_several(path)
        reading = "names" if asked == ONE_LABEL else reading_of_numbers(self.distinct)
        if reading == "either":
            problem = f"labels are numbers ({in_examples(self.distinct)}) that may be names of classes, or amounts"
            raise DataError(path, problem, f"say which: --task {ONE_LABEL} or --task {NUMBER}")
        if reading == "numbers":
            check_numbers(self.distinct, path, f"; if labels are names of classes, say so: --task {ONE_LABEL}")
            return NUMBER
        self._refuse_residues(path)
        return ONE_LABEL

    def _refuse_several(self, path: str) -> None:
        several = sorted(label for label in self.distinct if _codes(label) > 1)
        if several:
            labels_like_it = f"{len(several):,} such label{'' if len(several) == 1 else 's'}"
            problem = f"label {several[0]!r} lists {_codes(several[0])} codes ({labels_like_it})"
            terms = "Gene Ontology terms: a row for each, and --obo"
            fix = f"give one a protein ({terms}); several of other kinds are to come"
            raise DataError(path, problem, fix)

    def _refuse_residues(self, path: str) -> None:
        if self.pairs >= _ENOUGH and (self.as_long or self.residues):
            problem = f"labels are strings such as {self.first[:20]!r}, …: a sign for each residue, not a class"
            raise DataError(path, problem, "give a class for each protein; to predict residues is to come")


def _codes(label: str) -> int:
    """Return how many codes a label lists; 0 if a piece of it is none."""
    pieces = _SEPARATORS.split(label.strip(" ;,|"))
    return len(pieces) if all(map(_CODE.fullmatch, pieces)) else 0
