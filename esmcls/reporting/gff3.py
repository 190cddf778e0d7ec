"""Names as GFF3 writes them (specification 1.26 of the Sequence Ontology): what parts columns is percent-encoded."""

from __future__ import annotations

from urllib.parse import quote

BEGIN = "##gff-version 3\n"
"""The first line of a file."""


def seqid(name: str) -> str:
    """Return the name of a sequence as the first column takes it.

    Examples
    --------
    >>> seqid("sp|P1|A B>C")
    'sp|P1|A%20B%3EC'
    """
    return quote(name, safe=".:^*$@!+_?-|")


def attribute(value: str) -> str:
    """Return a value as the column of attributes takes it.

    Examples
    --------
    >>> attribute("zinc finger; C2H2=1")
    'zinc finger%3B C2H2%3D1'
    """
    return quote(value, safe=" .:_-/")
