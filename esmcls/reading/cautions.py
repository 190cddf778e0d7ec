"""What a reader of an answer should know about the sequence that was asked about: unseen residues, DNA, fragments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

FRAGMENT: Final = 20
"""Residues below which a sequence is called a fragment."""
NUCLEOTIDES: Final = frozenset("ACGTUN")
"""Letters of DNA and RNA, and N for any of them."""
WINDOW: Final = 12
"""Residues of a window of low complexity, as SEG has it (Wootton and Federhen, Comput. Chem. 17:149, 1993)."""
TRIGGER: Final = 2.2
"""Bits of entropy at or below which a window is of low complexity: SEG's trigger."""
MOSTLY: Final = 0.5
"""Share of such residues from which on a sequence is called of low complexity."""


def cautions(sequence: str, unseen: int = 0) -> str | None:
    """Say what makes an answer about a sequence doubtful; None where nothing does.

    Parameters
    ----------
    sequence : str
        Upper-case residues.
    unseen : int
        Residues that no encoder of the model saw.

    Examples
    --------
    >>> cautions("MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ")
    >>> cautions("MKTAYIAKQR", unseen=4)
    '4 of 10 residues unseen; fragment of 10 residues'
    >>> cautions("ATGGCATTAGACCATTTGAATGCCA"), cautions("QQQQQQQQQQQQQQQQQQQQQQQQQ")
    ('letters of DNA alone', 'low complexity (100 % of residues)')
    """
    notes = []
    if unseen:
        notes.append(f"{unseen:,} of {len(sequence):,} residues unseen")
    if len(sequence) < FRAGMENT:
        notes.append(f"fragment of {len(sequence)} residue{'' if len(sequence) == 1 else 's'}")
    elif NUCLEOTIDES.issuperset(sequence) and len(set(sequence)) > 2:
        notes.append(f"letters of {'RNA' if 'U' in sequence and 'T' not in sequence else 'DNA'} alone")
    elif (share := low_complexity(sequence)) >= MOSTLY:
        notes.append(f"low complexity ({100 * share:.0f} % of residues)")
    return "; ".join(notes) or None


def low_complexity(sequence: str) -> float:
    """Return the share of residues that lie in a window of low complexity.

    Examples
    --------
    >>> low_complexity("MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"), low_complexity("QQQQQQQQQQQQ")
    (0.0, 1.0)
    """
    if len(sequence) < WINDOW:
        return 0.0
    letters = np.frombuffer(sequence.encode("ascii"), np.uint8)
    entropy = np.zeros(len(letters) - WINDOW + 1)
    for letter in np.unique(letters):
        before = np.concatenate(([0], np.cumsum(letters == letter)))
        shares = (before[WINDOW:] - before[:-WINDOW]) / WINDOW
        entropy -= shares * np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    ends = np.zeros(len(letters) + 1, np.int64)
    starts = np.flatnonzero(entropy <= TRIGGER)
    np.add.at(ends, starts, 1)
    np.add.at(ends, starts + WINDOW, -1)
    return float((np.cumsum(ends[:-1]) > 0).mean())


def confidence(probability: float | None) -> str | None:
    """Put the probability of an answer into a word.

    Examples
    --------
    >>> confidence(0.97), confidence(0.6), confidence(0.2), confidence(None)
    ('high', 'medium', 'low', None)
    """
    if probability is None:
        return None
    return next((word for least, word in _WORDS if probability >= least), "low")


_WORDS: Final[Sequence[tuple[float, str]]] = ((0.9, "high"), (0.5, "medium"))
