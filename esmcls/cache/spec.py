"""The spec of an embedding, all that decides it besides the sequence, and the key that a sequence is stored under."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from esmcls.errors import UsageError
from esmcls.plain_values import from_plain
from esmcls.types import Indices, Vectors

if TYPE_CHECKING:
    from esmcls.encoders.encoder import Encoder

FORMAT: Final = 1
"""Version of the cache's files that is written; every version up to it is read."""
POOLED: Final = ("mean", "cls", "max", "attention")
"""Poolings that may be stored: one vector a sequence."""
RESIDUE: Final = "residue"
RESIDUE_INT8: Final = "residue_int8"
"""Vectors of residues in whole numbers of a byte: half the bytes, see `quantised`."""
RAGGED: Final = ("chunk", RESIDUE, RESIDUE_INT8)
"""Poolings that may be stored: several vectors a sequence, one an encoder input, or one a residue seen."""
BLOCK: Final = 32
"""Numbers of a vector that share a scale where they are stored as int8."""
WIDEST: Final = 1 << 24
"""Numbers in a vector, at most: a hundred times those of the largest encoder with all its layers."""
STORED_DTYPES: Final = ("float16", "float32")
IMPORTED: Final = "imported"
"""The encoder of vectors that were made elsewhere."""


Keep = Literal["", "chunk", "residue"]


@dataclass(frozen=True)
class EmbeddingSpec:
    """All that decides an embedding, but the sequence.

    Parameters
    ----------
    encoder : str
        How the encoder was called: a name or a path. It is told to users and decides nothing, so that specs that
        differ in it alone are equal.
    digest : str
        Digest of the encoder's weights, hexadecimal.
    layers : tuple of int
        Hidden states that lie side by side in a vector.
    long : str
        Strategy for long sequences, as `str()` of it gives it.
    precision : str
        The precision of the arithmetic.
    dtype : {"float16", "float32"}
        Of stored vectors.
    poolings : tuple of str
        Stored of a sequence: one or more of "mean", "cls", "max", "attention", and one of "chunk", "residue",
        "residue_int8" or neither.
    width : int
        Numbers in one vector: layers times the encoder's width.

    Examples
    --------
    >>> spec = EmbeddingSpec("esm2", "c0ffee", (6,), "balanced", "fp32", "float16", ("mean",), 320)
    >>> EmbeddingSpec.from_json(spec.to_json()) == spec
    True
    >>> spec.key()[:12]
    '84b781b66dee'
    """

    encoder: str = field(compare=False)
    digest: str
    layers: tuple[int, ...]
    long: str
    precision: str
    dtype: str
    poolings: tuple[str, ...]
    width: int

    def __post_init__(self) -> None:
        unknown = [name for name in self.poolings if name not in POOLED + RAGGED]
        if unknown or not self.pooled or len(self.poolings) > len(set(self.poolings)) or len(self.ragged) > 1:
            raise UsageError(
                f"poolings {', '.join(self.poolings) or 'none'}: choose some of {', '.join(POOLED)}, "
                f"and at most one of {', '.join(RAGGED)}"
            )
        if self.dtype not in STORED_DTYPES:
            raise UsageError(f"dtype {self.dtype!r} cannot be stored; choose one of {', '.join(STORED_DTYPES)}")
        if RESIDUE_INT8 in self.poolings and self.width % BLOCK:
            raise UsageError(
                f"vectors of {self.width} numbers do not go into int8, which takes {BLOCK} at a time; "
                "keep those of residues as they are"
            )

    @classmethod
    def of(cls, encoder: Encoder, dtype: str = "float16", poolings: Sequence[str] = ("mean",)) -> EmbeddingSpec:
        """Return the spec of what an encoder gives, stored in this dtype and with these poolings.

        Raises
        ------
        UsageError
            If the dtype or a pooling is unknown.
        """
        names = tuple(name for name in POOLED + RAGGED if name in poolings)  # one order, whatever was asked for
        names += tuple(name for name in poolings if name not in names)
        layers = tuple(encoder.layers)
        return cls(encoder.name, encoder.digest, layers, encoder.long, encoder.precision, dtype, names, encoder.width)

    @property
    def short_name(self) -> str:
        """The encoder's name without the folder that its weights lie in."""
        return Path(self.encoder).name.removesuffix(".safetensors").removesuffix(".pt")

    @property
    def pooled(self) -> tuple[str, ...]:
        """Those of the poolings that are one vector a sequence."""
        return tuple(name for name in self.poolings if name in POOLED)

    @property
    def ragged(self) -> tuple[str, ...]:
        """Those of the poolings that are several vectors a sequence."""
        return tuple(name for name in self.poolings if name in RAGGED)

    @property
    def keeps(self) -> Keep:
        """What an encoder is to keep of a sequence besides pooled vectors: see `Encoder.encode`."""
        return "residue" if self.residues else "chunk" if self.ragged else ""

    @property
    def residues(self) -> str:
        """As which of the ragged poolings vectors of residues are stored; empty where they are not."""
        return next((name for name in self.ragged if name in (RESIDUE, RESIDUE_INT8)), "")

    @property
    def of_residues(self) -> bool:
        """Whether those of residues are stored, or can be made: not of k-mers, nor of what was made elsewhere."""
        return bool(self.residues) or (bool(self.layers) and self.encoder != IMPORTED)

    def rounded(self, vectors: Vectors) -> Vectors:
        """Return vectors of residues (n, width) as a cache of this spec would give them back."""
        stored = vectors.astype(self.dtype)
        return restored(quantised(stored), self) if self.residues == RESIDUE_INT8 else stored

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold of it, with the format's version."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {"format": FORMAT} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, value: object) -> EmbeddingSpec:
        """Return the spec that `to_json` gave.

        Raises
        ------
        ValueError
            If it is not that, or of a version newer than this one.
        """
        if not isinstance(value, Mapping) or not isinstance(value.get("format"), int):
            raise ValueError("it is no spec of esmcls")
        if value["format"] > FORMAT:
            number = str(value["format"])[:9]
            raise ValueError(f"it is of format {number}, newer than this esmcls, which reads up to {FORMAT}")
        spec = from_plain(cls, {name: entry for name, entry in value.items() if name != "format"}, strict=True)
        if not 0 < spec.width <= WIDEST:
            raise ValueError(f"vectors of {spec.width} numbers")
        return spec

    def key(self) -> str:
        """Return the hexadecimal sha256 of all but the encoder's name: the name of the cache's folder."""
        return hashlib.sha256(canonical({**self.to_json(), "encoder": ""}).encode()).hexdigest()

    def columns_in(self, wider: EmbeddingSpec) -> Indices | None:
        """Return where the numbers of these vectors stand in those of a spec that keeps more; None if they do not.

        More are other layers beside, or vectors of residues, or of another pooling.

        Attention over residues looks at all layers at once: of other layers it is another pooling. Nor are vectors
        taken out of those that share scales.

        Examples
        --------
        >>> wide = EmbeddingSpec("esm2", "c0ffee", (1, 2, 3), "balanced", "fp32", "float16", ("mean",), 6)
        >>> replace(wide, layers=(1, 3), width=4).columns_in(wide).tolist()
        [0, 1, 4, 5]
        >>> replace(wide, layers=(0, 1), width=4).columns_in(wide)
        >>> wide.columns_in(replace(wide, poolings=("mean", "residue"))).tolist()
        [0, 1, 2, 3, 4, 5]
        """
        width = wider.width // max(1, len(wider.layers))  # of a layer
        alike = replace(self, layers=wider.layers, width=wider.width, poolings=wider.poolings) == wider
        there = set(self.layers) <= set(wider.layers) and set(self.poolings) <= set(wider.poolings)
        if not (alike and there) or self == wider:
            return None
        if {"attention", RESIDUE_INT8} & {*self.poolings} or self.width != width * len(self.layers):
            return None
        starts = np.array([wider.layers.index(layer) * width for layer in self.layers], dtype=np.int64)
        return (starts[:, None] + np.arange(width)).ravel()

    def difference(self, other: EmbeddingSpec) -> str:
        """Say where two specs differ, first that of `self`; empty where they are equal."""
        pairs = [(entry.name, getattr(self, entry.name), getattr(other, entry.name)) for entry in fields(self)]
        return ", ".join(f"{name} {a} against {b}" for name, a, b in pairs if a != b and name != "encoder")


def quantised(vectors: Vectors) -> npt.NDArray[np.uint8]:
    """Return vectors (n, width) as bytes (n, width + width / 16): int8 numbers, then the float16 scale of each 32.

    A scale is a 127th of the largest number that it is for, so that none is off by more than half of it.

    Examples
    --------
    >>> spec = EmbeddingSpec("e", "c0", (1,), "full", "fp32", "float16", ("mean", "residue_int8"), 64)
    >>> vectors = np.linspace(-1, 1, 64, dtype=np.float16)[None]
    >>> quantised(vectors).shape, bool(abs(restored(quantised(vectors), spec) - vectors).max() < 0.005)
    ((1, 68), True)
    """
    blocks = vectors.astype(np.float32).reshape(len(vectors), -1, BLOCK)
    scales = (np.abs(blocks).max(axis=2, keepdims=True) / 127).astype("<f2")
    scales[scales == 0] = 1
    numbers = np.clip(np.rint(blocks / scales), -127, 127).astype(np.int8)
    parts = [np.ascontiguousarray(part).reshape(len(vectors), -1).view(np.uint8) for part in (numbers, scales)]
    return np.concatenate(parts, axis=1)


def restored(packed: npt.NDArray[Any], spec: EmbeddingSpec) -> Vectors:
    """Return the vectors (n, width) that `quantised` was given, rounded, in the dtype of a spec."""
    numbers = packed[:, : spec.width].view(np.int8).reshape(len(packed), -1, BLOCK)
    scales = np.ascontiguousarray(packed[:, spec.width :]).view("<f2")[:, :, None].astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # of scales that are damaged: who reads them sees to it
        vectors: Vectors = (numbers * scales).reshape(len(packed), spec.width).astype(spec.dtype)
    return vectors


def canonical(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def sequence_key(sequence: str) -> bytes:
    """Return the key of a sequence, its sha256.

    Examples
    --------
    >>> sequence_key("MKT").hex()[:8], len(sequence_key(""))
    ('366893d2', 32)
    """
    return hashlib.sha256(sequence.encode()).digest()


def keys_of(sequences: Iterable[str]) -> npt.NDArray[np.uint8]:
    """Return the keys of sequences, (n, 32); bytes, because fixed-length strings would lose zero bytes at the end."""
    return np.frombuffer(b"".join(map(sequence_key, sequences)), dtype=np.uint8).reshape(-1, 32)
