"""What a sequence looks like that is read as a protein, but may be none: told by the whole set, never refused."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

_NUCLEOTIDES: Final = b"ACGTUN"
_SHORTEST: Final = 12
"""Residues; a shorter sequence of nucleotides' letters says nothing."""
_AMINO_ACIDS: Final = (
    "ALA|ARG|ASN|ASP|CYS|GLN|GLU|GLY|HIS|ILE|LEU|LYS|MET|PHE|PRO|SER|THR|TRP|TYR|VAL|SEC|PYL|ASX|GLX|XAA|MSE"
)
_THREE_LETTERS: Final = re.compile(f"(?:{_AMINO_ACIDS}){{4,}}")
_REMEDY: Final = {
    "DNA or RNA (the letters A, C, G, T, U and N alone)": "translate them first, unless they are proteins",
    "three-letter code (such as MetLysThr)": "write one letter an amino acid, unless they are proteins",
}
_NUCLEIC, _THREE = _REMEDY


def look_of(sequence: str) -> str | None:
    """Return what else than a protein a sequence looks like, or None.

    Examples
    --------
    >>> look_of("ATGAAAACCGCG"), look_of("METLYSTHRALA"), look_of("MKTAYIAKQRQI"), look_of("GAGA")
    ('DNA or RNA (the letters A, C, G, T, U and N alone)', 'three-letter code (such as MetLysThr)', None, None)
    """
    if len(sequence) < _SHORTEST:
        return None
    if not sequence[:_SHORTEST].encode().translate(None, _NUCLEOTIDES):
        return None if sequence.encode().translate(None, _NUCLEOTIDES) else _NUCLEIC
    return _THREE if len(sequence) % 3 == 0 and _THREE_LETTERS.fullmatch(sequence) else None


def looks_lines(looks: Counter[str], records: int) -> list[str]:
    """Return a warning for what at least half of the records look like.

    Examples
    --------
    >>> looks_lines(Counter({"three-letter code (such as MetLysThr)": 2}), 3)[0][:60]
    'warning: 2 of 3 sequences look like three-letter code (such '
    """
    return [
        f"warning: {count:,} of {records:,} sequences look like {look}; {_REMEDY[look]}"
        for look, count in looks.items()
        if 2 * count >= records
    ]
