"""Counting encoders, without weights: the honest baseline of every table, and the proof that an encoder is a plugin.

`composition` is the share of each of the 25 residue letters. `kmer` adds, for each gap g, the share of each of the
400 ordered pairs of standard residues that stand g residues apart:

    M K T A Y      gap 0: MK KT TA AY      gap 1: MT KA TY      gap 2: MA KY

The square root of each share is kept: the distance of two such vectors is Hellinger's, and a rare pair counts.
Gaps and root were chosen by `benchmarks/choose_kmer.py` on a development part of two training sets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from esmcls.encoders.encoder import BatchPlan, Embedded
from esmcls.errors import UsageError
from esmcls.reading.records import RESIDUES

VERSION: Final = 1
"""Raised whenever the vectors change; part of the digest."""
STANDARD: Final = 20
"""The first so many of `RESIDUES` are the standard ones, of which pairs are counted."""
PAIR_GAPS: Final = (0, 1, 2, 3)
"""Of `kmer`. The last pairs each residue with that one turn of a helix further."""
BATCH_RESIDUES: Final = 1 << 18
LEAST_RESIDUES: Final = 128
"""Residues that a shorter sequence counts for in a batch, so that no batch has more than 2,048 rows."""


def _code_table() -> npt.NDArray[np.uint8]:
    table = np.full(256, len(RESIDUES), dtype=np.uint8)
    table[np.frombuffer(RESIDUES.encode(), dtype=np.uint8)] = np.arange(len(RESIDUES))
    return table


_CODES: Final = _code_table()


@dataclass(frozen=True)
class KmerEncoder:
    """An `Encoder` that counts residues and gapped pairs of residues.

    Parameters
    ----------
    name : str
        Its name in the cache's spec.
    gaps : tuple of int
        Residues between the two of a pair, one block of 400 numbers each.

    Examples
    --------
    >>> vectors = KmerEncoder("composition").encode(["AAAC"]).pooled["mean"]
    >>> vectors.shape, (vectors[0, :3] ** 2).tolist()
    ((1, 25), [0.75, 0.25, 0.0])
    """

    name: str
    gaps: tuple[int, ...] = ()
    layers: tuple[int, ...] = ()
    long: str = "full"
    precision: str = "fp32"
    width: int = field(init=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        definition = {"letters": RESIDUES, "gaps": self.gaps, "scale": "sqrt", "version": VERSION}
        digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
        object.__setattr__(self, "width", len(RESIDUES) + len(self.gaps) * STANDARD**2)
        object.__setattr__(self, "digest", digest)

    def batches(self, lengths: Iterable[int]) -> Iterator[int]:
        """Yield how many of the next sequences make up a batch, in input order."""
        return BatchPlan(BATCH_RESIDUES).counts(max(length, LEAST_RESIDUES) for length in lengths)

    def encode(self, sequences: Sequence[str], poolings: Sequence[str] = ("mean",), keep: str = "") -> Embedded:
        """Count one batch.

        Parameters
        ----------
        sequences : sequence of str
            Upper-case residues.
        poolings : sequence of str
            `mean` alone.
        keep : str
            Empty: there are no vectors of chunks or residues.

        Returns
        -------
        Embedded
            `pooled["mean"]` is a float32 array, (n, width).

        Raises
        ------
        UsageError
            If another pooling, or chunk or residue vectors, are asked for.
        """
        if tuple(poolings) != ("mean",):
            raise UsageError(f"encoder {self.name!r} counts, so it has no pooling {', '.join(poolings)}; use mean")
        if keep:
            raise UsageError(f"encoder {self.name!r} has no {keep} vectors; use an ESM-2 encoder for them")
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        vectors = _counts("".join(sequences), lengths, self.gaps)
        return Embedded({"mean": vectors}, np.ones(len(lengths), dtype=np.int64), lengths)


def open_kmer(
    name: str, *, layers: Sequence[int] | None = None, long: str = "full", precision: str = "auto", device: str = "cpu"
) -> KmerEncoder:
    """Open the encoder of composition and gapped pairs; it counts whole sequences, on the CPU.

    Raises
    ------
    UsageError
        If layers or a precision other than fp32 are asked for.
    """
    return KmerEncoder(name, _checked(name, PAIR_GAPS, layers, precision))


def open_composition(
    name: str, *, layers: Sequence[int] | None = None, long: str = "full", precision: str = "auto", device: str = "cpu"
) -> KmerEncoder:
    """Open the encoder of composition alone; options as `open_kmer`."""
    return KmerEncoder(name, _checked(name, (), layers, precision))


def _checked(name: str, gaps: tuple[int, ...], layers: Sequence[int] | None, precision: str) -> tuple[int, ...]:
    if layers:
        raise UsageError(f"encoder {name!r} counts, so it has no layers; leave them out")
    if precision not in ("auto", "fp32"):
        raise UsageError(f"encoder {name!r} counts in fp32, not in {precision!r}; leave the precision out")
    return gaps


def _counts(text: str, lengths: npt.NDArray[np.int64], gaps: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return the blocks side by side; `text` is all sequences on end, (residues,), and the result (n, width)."""
    codes = _CODES[np.frombuffer(text.encode("ascii"), dtype=np.uint8)]  # (residues,)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    blocks = [_shares(rows, codes, codes < len(RESIDUES), len(lengths), len(RESIDUES))]
    for gap in gaps:
        first = codes[: -1 - gap]
        second = codes[1 + gap :]
        row = rows[: -1 - gap]
        counted = (row == rows[1 + gap :]) & (first < STANDARD) & (second < STANDARD)
        pairs = first.astype(np.int64) * STANDARD + second
        blocks.append(_shares(row, pairs, counted, len(lengths), STANDARD**2))
    return np.concatenate(blocks, axis=1)


def _shares(
    rows: npt.NDArray[np.int64],
    codes: npt.NDArray[np.integer[Any]],
    counted: npt.NDArray[np.bool_],
    n: int,
    width: int,
) -> npt.NDArray[np.float32]:
    """Count codes below `width` in each row and return the roots of their shares, (n, width)."""
    cells = (rows * width + codes)[counted]
    counts = np.bincount(cells, minlength=n * width).reshape(n, width)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    roots: npt.NDArray[np.float32] = np.sqrt(shares).astype(np.float32)
    return roots
