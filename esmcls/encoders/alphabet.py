"""Residues to tokens: one byte-table look-up a sequence, equal to fair-esm's `ESM-1b` alphabet.

Source of the order: fair-esm 2.0.0, `esm/data.py` (`Alphabet.from_architecture`) and `esm/constants.py`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

TOKENS: Final[tuple[str, ...]] = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)
BOS: Final = 0
PAD: Final = 1
EOS: Final = 2
UNK: Final = 3
MASK: Final = 32
TO_COMMON_RESIDUES: Final = str.maketrans("UOJ", "CKL")
"""For programs that do not know them: residues as those of the twenty that they are near to."""


def _byte_table() -> npt.NDArray[np.uint8]:
    table = np.full(256, UNK, dtype=np.uint8)
    for token, text in enumerate(TOKENS):
        if len(text) == 1:
            table[ord(text)] = token
    return table


_TABLE: Final = _byte_table()


def tokenize(sequence: str) -> npt.NDArray[np.uint8]:
    """Return the tokens of a sequence, without BOS and EOS.

    Parameters
    ----------
    sequence : str
        Upper-case residues; a letter without a token becomes `<unk>`.

    Returns
    -------
    uint8 array, (residues,)

    Raises
    ------
    UnicodeEncodeError
        If the sequence holds more than ASCII.

    Examples
    --------
    >>> tokenize("MKX").tolist()
    [20, 15, 24]
    """
    return _TABLE[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)]
