"""Reduced residues of proteins, one after another in a file that is mapped: it may be larger than memory.

The map is read-only: of one that could be written to, the system would have to promise as much memory.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esmcls.errors import ModelError
from esmcls.heads.alignment.residues.reduction import Codes, Reduction
from esmcls.heads.saved_tensors import AGAIN
from esmcls.types import Indices, Vectors

CODES = "residues.npy"


@dataclass(frozen=True, eq=False)
class Residues:
    """The reduced residues of proteins, in their order.

    Parameters
    ----------
    codes : int8 array, (residues, components)
        Of these proteins and maybe others, in memory or in a mapped file.
    starts, lengths : int64 arrays, (proteins,)
        Where each protein's begin in `codes`, and how many they are.
    """

    codes: Codes
    starts: Indices
    lengths: Indices

    def __len__(self) -> int:
        """Return the number of proteins."""
        return len(self.starts)

    def of(self, row: int) -> Codes:
        """Return a copy of those of one protein, int8 (residues, components)."""
        start = int(self.starts[row])
        return self.codes[start : start + int(self.lengths[row])].copy()

    def save(self, folder: Path) -> None:
        """Write `residues.npy`: the codes of these proteins alone, one after another."""
        shape = (int(self.lengths.sum()), self.codes.shape[1])
        if not shape[0]:
            np.save(folder / CODES, np.zeros(shape, dtype=np.int8), allow_pickle=False)
            return
        written = np.lib.format.open_memmap(folder / CODES, "w+", np.int8, shape)
        end = 0
        for row, length in enumerate(self.lengths.tolist()):
            written[end : end + length] = self.of(row)
            end += length
        written.flush()

    @classmethod
    def load(cls, folder: Path, lengths: Indices, components: int) -> Residues:
        """Map what `save` wrote, of proteins of so many residues.

        Raises
        ------
        ModelError
            If the file is damaged, or is not of these proteins.
        """
        path = folder / CODES
        try:
            codes = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise ModelError(path, "is missing", AGAIN) from None
        except (ValueError, OSError, EOFError) as error:
            raise ModelError(path, f"is damaged ({error})", AGAIN) from None
        shape = (int(lengths.sum()), components)
        if codes.dtype != np.int8 or codes.shape != shape or not codes.flags.c_contiguous:
            raise ModelError(path, f"holds {codes.dtype} {codes.shape}, not int8 {shape}", AGAIN)
        return cls(np.asarray(codes), np.cumsum(lengths) - lengths, lengths)


class ResiduePool:
    """Reduced residues that are collected in a temporary file: each distinct sequence is read and reduced once.

    Parameters
    ----------
    reduction : Reduction
        What makes codes of vectors.

    Examples
    --------
    >>> pool = ResiduePool(Reduction(np.zeros(1, dtype=np.float32), np.ones((1, 1), dtype=np.float32)))
    >>> pool.add(["MK"], [np.array([[2], [-3]], dtype=np.float32)])
    >>> pool.missing(["MK", "VA"]), pool.of(["MK"]).of(0).tolist()
    (['VA'], [[127], [-127]])
    """

    def __init__(self, reduction: Reduction) -> None:
        self.reduction = reduction
        self._rows: dict[str, int] = {}
        self._lengths: list[int] = []
        self._file = tempfile.TemporaryFile(prefix="esmcls-residues-")  # noqa: SIM115 - it lives as long as the pool
        weakref.finalize(self, self._file.close)

    def missing(self, sequences: Iterable[str]) -> list[str]:
        """Return the sequences that are not there, each once."""
        return [sequence for sequence in dict.fromkeys(sequences) if sequence not in self._rows]

    def add(self, sequences: Sequence[str], residues: Iterable[Vectors]) -> None:
        """Take in proteins that are missing, by their sequence, with their residue vectors, (residues, width) each."""
        self._file.seek(0, os.SEEK_END)
        for sequence, vectors in zip(sequences, residues, strict=True):
            codes = self.reduction.codes(vectors)
            self._file.write(codes.tobytes())
            self._rows[sequence] = len(self._lengths)
            self._lengths.append(len(codes))
        self._file.flush()

    def of(self, sequences: Sequence[str]) -> Residues:
        """Return the residues of proteins that are there."""
        rows = np.array([self._rows[sequence] for sequence in sequences], dtype=np.int64)
        lengths = np.array(self._lengths, dtype=np.int64)
        shape = (int(lengths.sum()), self.reduction.components)
        codes = np.asarray(np.memmap(self._file, np.int8, "r", shape=shape)) if shape[0] else np.zeros(shape, np.int8)
        return Residues(codes, (np.cumsum(lengths) - lengths)[rows], lengths[rows])
