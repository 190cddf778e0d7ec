"""Rows that are not sealed yet: cast to what is stored, checked, and held until they fill a segment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from esmcls.cache.segments import Column, form_of
from esmcls.cache.spec import RESIDUE_INT8, EmbeddingSpec, quantised
from esmcls.errors import NonFiniteError, UsageError, WidthMismatchError
from esmcls.types import Vectors

if TYPE_CHECKING:
    from esmcls.encoders.encoder import Embedded


class Pending:
    """The rows of the next segment.

    Parameters
    ----------
    spec : EmbeddingSpec
    """

    def __init__(self, spec: EmbeddingSpec) -> None:
        self.spec = spec
        self.blocks: dict[str, list[npt.NDArray[Any]]] = {}
        self.keys: set[bytes] = set()
        self.nbytes = 0
        self.began = time.monotonic()

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def age(self) -> float:
        """Seconds since it was begun."""
        return time.monotonic() - self.began

    def add(
        self, sequences: Sequence[str], keys: npt.NDArray[np.uint8], rows: Sequence[int], embedded: Embedded
    ) -> None:
        """Add some rows of a batch, or none of them if a number is not finite.

        Parameters
        ----------
        sequences : sequence of str, (n,)
        keys : uint8 array, (n, 32)
            Of `keys_of`.
        rows : sequence of int
            Those to be added.
        embedded : Embedded
            Of all n.

        Raises
        ------
        NonFiniteError, WidthMismatchError, UsageError
            See `EmbeddingCache.append`.
        """
        chosen = [sequences[row] for row in rows]
        batch: dict[str, npt.NDArray[Any]] = {"key": keys[list(rows)]}
        batch["length"] = np.array([len(sequence) for sequence in chosen], dtype=np.int64)
        if {len(sequences)} != {len(embedded.inputs), *(len(embedded.pooled[name]) for name in self.spec.pooled)}:
            raise ValueError(f"{len(sequences)} sequences, but not as many vectors")
        batch["inputs"] = np.asarray(embedded.inputs, dtype=np.int64)[list(rows)]
        for name in self.spec.pooled:
            batch[name] = self._cast(chosen, embedded.pooled[name][list(rows)])
        for name in self.spec.ragged:
            parts = embedded.chunks if name == "chunk" else embedded.residues
            if parts is None:
                raise UsageError(f"the cache stores {name} vectors, but the encoder was not asked to keep them")
            cast = [self._cast([sequences[row]] * len(parts[row]), parts[row]) for row in rows]
            if name == RESIDUE_INT8:
                self._check_scales([sequences[row] for row in rows], cast)
            shape, dtype = form_of(self.spec, name)
            stored = map(quantised, cast) if name == RESIDUE_INT8 else cast
            batch[name] = np.concatenate([np.empty((0, *shape), dtype=dtype), *stored])
            batch[f"{name}_offsets"] = np.array([len(part) for part in cast], dtype=np.int64)  # summed up at the end
        for name, array in batch.items():
            self.blocks.setdefault(name, []).append(array)
        self.keys.update(map(bytes, batch["key"]))
        self.nbytes += sum(array.nbytes for array in batch.values())

    def _cast(self, sequences: Sequence[str], vectors: Vectors) -> Vectors:
        """Return vectors as they are stored, (n, width), if every number of them is finite."""
        if vectors.shape[1:] != (self.spec.width,):
            raise WidthMismatchError(self.spec.width, vectors.shape[-1], "cache")
        with np.errstate(over="ignore"):
            stored: Vectors = vectors.astype(self.spec.dtype)
        bad = np.flatnonzero(~np.isfinite(stored).all(axis=1))
        if not len(bad):
            return stored
        if np.isfinite(vectors[bad[0]]).all():
            problem = f"a number of its vector does not fit into {self.spec.dtype}"
            fix = "embed with --dtype float32"
        else:
            problem = "the encoder gave a vector that is not finite"
            fix = "try --precision fp32, or check the weights"
        raise NonFiniteError(sequences[bad[0]], problem, fix)

    def _check_scales(self, sequences: Sequence[str], vectors: Sequence[Vectors]) -> None:
        """Refuse vectors of residues whose scales, float16, cannot hold a 127th of their numbers."""
        for sequence, part in zip(sequences, vectors, strict=True):
            if len(part) and float(np.abs(part).max()) / 127 > float(np.finfo(np.float16).max):
                problem = "a number of a vector of its residues is too large for int8 with float16 scales"
                raise NonFiniteError(sequence, problem, "leave --residue-dtype int8 out")

    def columns(self) -> dict[str, Column]:
        """Return the columns of the segment."""
        blocks = dict(self.blocks)
        for name in self.spec.ragged:
            offsets = f"{name}_offsets"
            blocks[offsets] = [np.cumsum(np.concatenate([[0], *blocks[offsets]]), dtype=np.int64)]
        return {
            name: Column((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype, parts)
            for name, parts in blocks.items()
        }
