"""Labels that are no names of classes: numbers, a letter for each residue, several codes in one cell."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from esmcls.errors import DataError
from esmcls.labels.kinds import (
    MANY_LABELS,
    NUMBER,
    OF_RESIDUES,
    ONE_LABEL,
    RESIDUE_LABEL,
    RESIDUE_NUMBER,
    STRUCTURE,
)
from esmcls.labels.label_lists import labels_in, lists_several
from esmcls.labels.number_labels import Place, check_numbers, in_examples, reading_of_numbers
from esmcls.labels.numbers import as_number
from esmcls.labels.residue_labels import NOUNS, length_of, lists_numbers, numbers
from esmcls.labels.structure_labels import looks_like_trace, trace_of

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
_MOST: Final = 0.9
"""Share of the records whose label is as long as the sequence, from which on it is meant for its residues."""


class Misfit(NamedTuple):
    """A label that does not fit the residues of its sequence."""

    place: Place
    problem: str
    kind: str

    def error(self) -> DataError:
        """Return the error that says so."""
        fix = "give a sign or number for each residue, ? or nan where it is not known"
        if self.kind == STRUCTURE:
            fix = "give x,y,z of the CA atom of each residue with blanks between, ? where it was not resolved"
        return DataError(self.place.path, self.problem, fix, line=self.place.line, record=self.place.record)


class LabelChecks:
    """What labels tell of the kind of task that they are for, as they come: memory is that of the distinct ones.

    Examples
    --------
    >>> def kind_of(*labels):
    ...     checks = LabelChecks()
    ...     for label in labels:
    ...         checks.add(label, "MKT")
    ...     return checks.kind("set.csv")
    >>> kind_of("1.10.8.10", "2.40.50.140", "3"), kind_of("61.5", "48.25", "70"), kind_of("1.1.1.1;2.3.1.4")
    ('one-label', 'number', 'many-labels')
    >>> kind_of("1.1.1.1,2.3.1.4")
    Traceback (most recent call last):
    esmcls.errors.DataError: set.csv: label '1.1.1.1,2.3.1.4' lists 2 codes with commas between (1 such label); ...
    """

    def __init__(self) -> None:
        self.distinct: dict[str, Place | None] = {}
        """Each label, with the record that it was first met in."""
        self.pairs = 0
        """Records with a sequence that is long enough to say something."""
        self.fitting = dict.fromkeys(OF_RESIDUES, 0)
        """Of these, labels that are of the residues of their sequence, by the kind that they would be."""
        self.misfits: dict[str, Misfit] = {}
        """The first label that does not fit its sequence, by kind."""
        self.residues = True

    def add(self, label: str, sequence: str, place: Place | None = None) -> None:
        """Note the label of a protein."""
        if label not in self.distinct:
            self.distinct[label] = place
            self.residues = self.residues and _RESIDUES.fullmatch(label) is not None
        enough = len(sequence) >= _SHORTEST
        self.pairs += enough
        for kind in OF_RESIDUES:
            problem = misfit(label, sequence, kind)
            self.fitting[kind] += enough and not problem
            if problem and kind not in self.misfits:
                self.misfits[kind] = Misfit(place or Place("labels"), problem, kind)

    def kind(self, path: str, asked: str | None = None) -> str:
        """Return the kind of task that the labels are for, and make sure that they can be.

        Parameters
        ----------
        path : str
            For messages that are of no single record.
        asked : str, optional
            The kind that the user named, one of `esmcls.labels.kinds.NAMED`; default the one that labels look like.

        Raises
        ------
        DataError
            If they may be numbers or names of classes, or are numbers but for one of them; if one of them lists several
            codes with commas between; or if they are for residues, and one is not as long as its sequence.
        """
        of_residues = self._of_residues() if asked is None else asked
        if of_residues in OF_RESIDUES:
            if of_residues in self.misfits:
                raise self.misfits[of_residues].error()
            return of_residues
        if asked == NUMBER:
            check_numbers(self.distinct, path)
            return asked
        if asked == MANY_LABELS or (asked is None and any(map(lists_several, self.distinct))):
            self._refuse_lists(path)
            return MANY_LABELS
        self._refuse_commas(path)
        reading = "names" if asked == ONE_LABEL else reading_of_numbers(self.distinct)
        if reading == "either":
            problem = f"labels are numbers ({in_examples(self.distinct)}) that may be names of classes, or amounts"
            raise DataError(path, problem, f"say which: --task {ONE_LABEL} or --task {NUMBER}")
        if reading == "numbers":
            check_numbers(self.distinct, path, f"; if labels are names of classes, say so: --task {ONE_LABEL}")
            return NUMBER
        return ONE_LABEL

    def kind_of_proteins(self, path: str, asked: str | None = None) -> str:
        """Return the same; labels of residues are refused, which say nothing of a protein as a whole."""
        if asked in OF_RESIDUES or (asked is None and self._of_residues()):
            problem = "labels with a sign or a number for each residue, not classes of proteins"
            fix = f"esmcls embed takes them with --task {', '.join(OF_RESIDUES[:-1])} or {OF_RESIDUES[-1]}"
            raise DataError(path, problem, fix)
        return self.kind(path, asked)

    def _of_residues(self) -> str | None:
        """Return which kind of labels of residues they are, if they are any."""
        if self.pairs and self.fitting[RESIDUE_NUMBER] >= _MOST * self.pairs:
            return RESIDUE_NUMBER
        if self.pairs and self.fitting[STRUCTURE] >= _MOST * self.pairs:
            return STRUCTURE
        as_long = self.fitting[RESIDUE_LABEL] >= _MOST * self.pairs
        return RESIDUE_LABEL if self.pairs >= _ENOUGH and (as_long or self.residues) else None

    def _refuse_lists(self, path: str) -> None:
        """Refuse lists of what are no names of classes."""
        self._refuse_commas(path)
        pieces = {piece for label in self.distinct for piece in labels_in(label)}
        if pieces and all(as_number(piece) is not None for piece in pieces) and reading_of_numbers(pieces) != "names":
            problem = f"labels are lists of numbers ({in_examples(pieces)}), not of classes"
            raise DataError(path, problem, "put a letter before each if they do name classes")

    def _refuse_commas(self, path: str) -> None:
        several = sorted(label for label in self.distinct if _codes(label) > 1 and not lists_several(label))
        if several:
            labels_like_it = f"{len(several):,} such label{'' if len(several) == 1 else 's'}"
            problem = f"label {several[0]!r} lists {_codes(several[0])} codes with commas between ({labels_like_it})"
            terms = "Gene Ontology terms: a row for each, and --obo"
            raise DataError(path, problem, f"put ; or | between the labels of a protein ({terms})")


def misfit(label: str, sequence: str, kind: str) -> str:
    """Return why a label is not one of a sequence's residues; nothing where it is.

    Examples
    --------
    >>> misfit("CCH", "MKTA", "residue-label"), misfit("0.5 1 nan", "MKT", "residue-number")
    ('label of 3 signs for a sequence of 4 residues', '')
    >>> misfit("1,2,3 ?", "MKT", "structure")
    'structure of 2 residues for a sequence of 3 residues'
    """
    of_sequence = f"for a sequence of {len(sequence):,} residue{'' if len(sequence) == 1 else 's'}"
    if kind == STRUCTURE:
        return _misfit_of_trace(label, len(sequence), of_sequence)
    if kind == RESIDUE_NUMBER:
        if label.count(",") > 1 and looks_like_trace(label) and len(label.split()) == len(sequence) > 1:
            return f"label {label[:20]!r} with three numbers a residue, {of_sequence}"
        if not lists_numbers(label) and len(sequence) > 1:
            return f"label {label[:20]!r} that lists no numbers, for a sequence of {len(sequence):,} residues"
        try:
            numbers(label)
        except ValueError:
            return f"label {label[:20]!r} is no number"
    length = length_of(label, kind)
    if length == len(sequence):
        return ""
    noun = NOUNS[kind] + ("" if length == 1 else "s")
    return f"label of {length:,} {noun} {of_sequence}"


def _misfit_of_trace(label: str, residues: int, of_sequence: str) -> str:
    if not looks_like_trace(label):
        return f"label {label[:20]!r} that is no CA trace, {of_sequence}"
    try:
        length = len(trace_of(label))
    except ValueError as error:
        return str(error)
    return "" if length == residues else f"structure of {length:,} residue{'' if length == 1 else 's'} {of_sequence}"


def _codes(label: str) -> int:
    """Return how many codes a label lists; 0 if a piece of it is none."""
    pieces = _SEPARATORS.split(label.strip(" ;,|"))
    return len(pieces) if all(map(_CODE.fullmatch, pieces)) else 0
