"""Evidence codes of the Gene Ontology, and which of them say that a function was seen.

https://geneontology.org/docs/guide-go-evidence-codes lists all. CAFA takes for known what was found by experiment, of
high throughput too, or stated by an author or curator whose source can be traced (Radivojac et al. 2013, Nat. Methods
10:221, Methods; Zhou et al. 2019, Genome Biol. 20:244): `EXPERIMENTAL`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from esmcls.errors import UnknownNameError

EXPERIMENTAL: Final = frozenset(
    ("EXP", "IDA", "IPI", "IMP", "IGI", "IEP", "HTP", "HDA", "HMP", "HGI", "HEP", "TAS", "IC")
)
CODES: Final = EXPERIMENTAL | frozenset(
    ("IBA", "IBD", "IKR", "IRD", "ISS", "ISO", "ISA", "ISM", "IGC", "RCA", "NAS", "ND", "IEA")
)
WORDS: Final = {"experimental": EXPERIMENTAL, "all": CODES}
"""What may be said instead of codes."""


def evidence_codes(words: Iterable[str]) -> frozenset[str]:
    """Return the codes that are meant, each word one or several with commas between; of none, `EXPERIMENTAL`.

    Raises
    ------
    UnknownNameError
        If one is no code.

    Examples
    --------
    >>> sorted(evidence_codes(["IDA,IMP", "iea"])), evidence_codes([]) == EXPERIMENTAL
    (['IDA', 'IEA', 'IMP'], True)
    """
    pieces = [piece.strip() for word in words for piece in word.split(",")]
    codes: set[str] = set()
    for piece in pieces:
        if piece.lower() not in WORDS and piece.upper() not in CODES:
            raise UnknownNameError("evidence code", piece, (*sorted(CODES), *WORDS))
        codes |= WORDS.get(piece.lower(), {piece.upper()})
    return frozenset(codes) if pieces else EXPERIMENTAL
