"""Proteins as heads take them: vectors from arrays in memory or from the cache, row by row as asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from esmcls.cache.spec import EmbeddingSpec
from esmcls.encoders.encoder import Encoder, GivesAttention, load_encoder
from esmcls.errors import CacheError, EncoderMismatchError, UnknownNameError, UsageError
from esmcls.reading.records import NamedSequences
from esmcls.types import Indices, RowSelection, Vectors

if TYPE_CHECKING:
    from esmcls.cache.store import EmbeddingCache

READ_RESIDUES = 64
"""Sequences whose residue vectors are read from a cache at a time."""


class Store(Protocol):
    """Vectors of distinct sequences, each table row one."""

    width: int
    spec: EmbeddingSpec | None

    def vectors(self, pooling: str) -> Vectors: ...
    def chunks(self) -> Sequence[Vectors]: ...
    def residues(self, places: Sequence[int], sequences: Sequence[str]) -> Iterator[Vectors]: ...
    def encoder(self) -> Encoder: ...
    @property
    def of_residues(self) -> bool: ...


class Cache(Protocol):
    """The reading side of an `EmbeddingCache`."""

    @property
    def spec(self) -> EmbeddingSpec: ...
    def missing(self, sequences: Sequence[str]) -> list[int]: ...
    def read(self, sequences: Sequence[str], pooling: str) -> Vectors: ...
    def read_chunks(self, sequences: Sequence[str]) -> Sequence[Vectors]: ...
    def read_residues(self, sequences: Sequence[str]) -> Sequence[Vectors]: ...
    def with_residues(self) -> EmbeddingCache | None: ...


@dataclass(eq=False)
class Features:
    """Proteins with their vectors, in rows that may share a vector where sequences are equal.

    Made by `from_arrays` or `from_cache`. Taking rows copies no vector, and what was read once is kept for all features
    that were taken from the same ones.

    Parameters
    ----------
    ids, sequences : lists of str, (n,)
        Sequences are empty texts where the vectors came alone.
    store : Store
        Vectors of the distinct sequences.
    places : int64 array, (n,)
        The row of `store` that each protein's vector is.
    others : tuple of Features
        The same proteins with vectors of other specs; see `of`.
    """

    ids: list[str]
    sequences: list[str]
    store: Store
    places: Indices
    others: tuple[Features, ...] = ()

    @classmethod
    def from_arrays(
        cls,
        vectors: Vectors | Mapping[str, Vectors],
        sequences: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        chunks: Sequence[Vectors] | None = None,
        spec: EmbeddingSpec | None = None,
        residues: Sequence[Vectors] | None = None,
        encoder: Callable[[], Encoder] | None = None,
    ) -> Features:
        """Hold vectors in memory.

        Parameters
        ----------
        vectors : float array, (n, width), or a mapping of pooling to one
            An array alone is the mean pooling.
        sequences, ids : sequences of str, optional
            Ids are row numbers by default.
        chunks : sequence of float arrays, (inputs, width), optional
            The vector of each encoder input of a protein.
        spec : EmbeddingSpec, optional
            Of the vectors.
        residues : sequence of float arrays, (residues, width), optional
            The vector of each residue seen of a protein.
        encoder : callable, optional
            Opens the encoder that made them; it makes those of residues where these are not given.

        Raises
        ------
        ValueError
            If they differ in number or the vectors in width.

        Examples
        --------
        >>> features = Features.from_arrays(np.eye(3, dtype=np.float32))
        >>> len(features), features.width, features.take([2, 0]).vectors()[0].tolist()
        (3, 3, [0.0, 0.0, 1.0])
        """
        tables = dict(vectors) if isinstance(vectors, Mapping) else {"mean": vectors}
        n = len(next(iter(tables.values())))
        names = [str(row) for row in range(n)] if ids is None else list(ids)
        texts = [""] * n if sequences is None else list(sequences)
        ragged = [part for part in (chunks, residues) if part is not None]
        lengths = {*map(len, tables.values()), len(names), len(texts), *map(len, ragged)}
        if len(lengths) > 1:
            raise ValueError(f"vectors, sequences, ids, chunks and residues of different lengths: {sorted(lengths)}")
        return cls(names, texts, _Arrays(tables, chunks, spec, residues, encoder), np.arange(n))

    @classmethod
    def from_cache(cls, cache: Cache, dataset: NamedSequences) -> Features:
        """Take the vectors of a data set from the cache, each distinct sequence read once and when first asked for.

        Raises
        ------
        CacheError
            If a sequence is not embedded.
        """
        place: dict[str, int] = {}
        places = [place.setdefault(sequence, len(place)) for sequence in dataset.sequences]
        distinct = list(place)
        missing = len(cache.missing(distinct))
        if missing:
            problem = f"{missing:,} of {len(distinct):,} sequences are not embedded"
            raise CacheError(getattr(cache, "folder", "cache"), problem, "run: esmcls embed")
        rows = np.array(places, dtype=np.int64)
        return cls(dataset.ids, dataset.sequences, _Cached(cache, distinct), rows)

    def __len__(self) -> int:
        """Return the number of proteins."""
        return len(self.places)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.store.width

    @property
    def spec(self) -> EmbeddingSpec | None:
        """The `EmbeddingSpec` of the vectors; None where they came alone."""
        return self.store.spec

    @property
    def of_residues(self) -> bool:
        """Whether vectors of residues are there, or can be made: not of k-mers, nor of vectors that came alone."""
        return self.store.of_residues

    @property
    def lengths(self) -> Indices:
        """Residues of each sequence: int64 array, (n,)."""
        return np.fromiter(map(len, self.sequences), dtype=np.int64, count=len(self.sequences))

    def vectors(self, pooling: str = "mean") -> Vectors:
        """Return the vectors, (n, width), in the type they are stored in; not to be written to.

        Raises
        ------
        UnknownNameError
            If there is no such pooling.
        """
        table = self.store.vectors(pooling)
        if len(self.places) == len(table) and np.array_equal(self.places, np.arange(len(table))):
            return table
        return table[self.places]

    def chunks(self) -> list[Vectors]:
        """Return the vector of each encoder input, one array (inputs, width) a protein.

        Raises
        ------
        CacheError
            If only pooled vectors were kept.
        """
        ragged = self.store.chunks()
        return [ragged[place] for place in self.places.tolist()]

    def residues(self) -> Iterator[Vectors]:
        """Give the vectors of the residues seen of each protein, (residues, width), in the type that is stored.

        Read from the cache where it or one beside it keeps them, made by the encoder again where none does; some
        proteins at a time.

        Raises
        ------
        CacheError
            If they are not kept, and no encoder is at hand that would make them.
        EncoderMismatchError
            If the encoder that is found by its name now is another.
        """
        return self.store.residues(self.places.tolist(), self.sequences)

    def attending(self) -> GivesAttention:
        """Open the encoder that made the vectors, for its attention maps.

        Raises
        ------
        UsageError
            If it has none.
        CacheError, EncoderMismatchError
            As `residues`.
        """
        encoder = self.store.encoder()
        if not isinstance(encoder, GivesAttention):
            raise UsageError(f"encoder {encoder.name} gives no attention maps; take an ESM-2, or --set attention false")
        return encoder

    def embedded(self, sequences: Sequence[str], pooling: str = "mean") -> Features:
        """Embed other sequences as these were, now, their residues too, all held in memory.

        Errors are those of `residues`.
        """
        encoder = self.store.encoder()
        dtype = self.spec.dtype if self.spec is not None else "float32"
        table = np.zeros((len(sequences), self.width), dtype=dtype)
        residues: list[Vectors] = []
        for batch in batches(encoder, sequences):
            embedded = encoder.encode(batch, (pooling,), "residue")
            table[len(residues) : len(residues) + len(batch)] = embedded.pooled[pooling]
            of_residues = embedded.residues or []
            residues += [vectors if self.spec is None else self.spec.rounded(vectors) for vectors in of_residues]
        return Features.from_arrays({pooling: table}, sequences, residues=residues, spec=self.spec)

    def take(self, rows: RowSelection) -> Features:
        """Return the proteins at `rows`: numbers, a slice or a mask."""
        chosen = np.arange(len(self))[rows].tolist() if len(self) else []
        ids = [self.ids[row] for row in chosen]
        sequences = [self.sequences[row] for row in chosen]
        others = tuple(other.take(chosen) for other in self.others)
        return Features(ids, sequences, self.store, self.places[chosen], others)

    def of(self, spec: EmbeddingSpec | None) -> Features:
        """Return the same proteins with the vectors of a spec; these themselves for None, or if no spec is known.

        Raises
        ------
        UsageError
            If there are no vectors of that spec.

        Examples
        --------
        >>> one = EmbeddingSpec("esm2", "c0ffee", (6,), "balanced", "fp32", "float32", ("mean",), 3)
        >>> two = replace(one, layers=(5, 6), width=6)
        >>> wide = Features.from_arrays(np.ones((2, 6), dtype=np.float32), spec=two)
        >>> both = replace(Features.from_arrays(np.ones((2, 3), dtype=np.float32), spec=one), others=(wide,))
        >>> both.of(one).width, both.of(two).width, both.take([0]).of(two).vectors().shape
        (3, 6, (1, 6))
        """
        views = (replace(self, others=()), *self.others)
        if spec is None or (len(views) == 1 and self.spec is None):
            return self
        for place, view in enumerate(views):
            if view.spec == spec:
                return replace(view, others=views[:place] + views[place + 1 :])
        there = ", ".join(_named(view.spec) for view in views)
        raise UsageError(f"there are no vectors of {_named(spec)}, but of {there}; embed with that encoder, too")


def _named(spec: EmbeddingSpec | None) -> str:
    """Return the facts that tell a spec from others in an error."""
    if spec is None:
        return "an encoder that is not told"
    return f"encoder {spec.encoder} (digest {spec.digest[:12]}, layers {','.join(map(str, spec.layers))})"


def batches(encoder: Encoder, sequences: Sequence[str]) -> Iterator[Sequence[str]]:
    """Give sequences in the batches that an encoder plans."""
    start = 0
    for count in encoder.batches(len(sequence) for sequence in sequences):
        yield sequences[start : start + count]
        start += count


def residues_by(encoder: Encoder, sequences: Sequence[str], spec: EmbeddingSpec | None) -> Iterator[Vectors]:
    """Give the vectors of the residues seen of each sequence, made now, rounded as a cache would store them."""
    for batch in batches(encoder, sequences):
        for vectors in encoder.encode(batch, ("mean",), "residue").residues or []:
            yield vectors if spec is None else spec.rounded(vectors)


def open_encoder(spec: EmbeddingSpec, name: str | None = None, device: str = "cpu") -> Encoder:
    """Open an encoder as a spec says, by the name that it has there or by another one; errors of `load_encoder`."""
    return load_encoder(
        name or spec.encoder,
        layers=spec.layers or None,
        long=spec.long,
        precision=spec.precision,
        device=device,
    )


def encoder_of(spec: EmbeddingSpec, name: str | None = None, device: str = "cpu") -> Encoder:
    """Open the encoder of a spec; see `open_encoder`.

    Raises
    ------
    EncoderMismatchError
        If what is found by the name now is another encoder.
    """
    encoder = open_encoder(spec, name, device)
    check_digest(encoder, spec)
    return encoder


def check_digest(encoder: Encoder, spec: EmbeddingSpec) -> None:
    """Check that an encoder makes the vectors of a spec.

    Raises
    ------
    EncoderMismatchError
        If it does not.
    """
    if encoder.digest != spec.digest:
        fix = "int8 is rounded otherwise since 0.2.0: embed --precision int8 again, then fit again"
        raise EncoderMismatchError(
            spec.digest, encoder.digest, encoder.name, fix if was_int8(spec, encoder.digest) else ""
        )


def was_int8(spec: EmbeddingSpec, digest: str) -> bool:
    """Tell whether a spec is of int8 vectors as 0.1.0 made them with the weights of an encoder of that digest."""
    if spec.precision != "int8":
        return False
    from esmcls.encoders.processor.int8 import digest_in_int8

    return digest == digest_in_int8(spec.digest)


def _read_residues(cache: Cache, sequences: Sequence[str]) -> Iterator[Vectors]:
    for start in range(0, len(sequences), READ_RESIDUES):
        yield from cache.read_residues(sequences[start : start + READ_RESIDUES])


@dataclass(eq=False)
class _Arrays:
    tables: dict[str, Vectors]
    ragged: Sequence[Vectors] | None
    spec: EmbeddingSpec | None
    kept_residues: Sequence[Vectors] | None = None
    opened: Callable[[], Encoder] | None = None

    def __post_init__(self) -> None:
        widths = {table.shape[1] for table in self.tables.values()}
        if len(widths) > 1:
            raise ValueError(f"vectors of different widths: {sorted(widths)}")
        self.width = widths.pop()

    @property
    def of_residues(self) -> bool:
        return self.kept_residues is not None or self.opened is not None

    def vectors(self, pooling: str) -> Vectors:
        if pooling not in self.tables:
            raise UnknownNameError("pooling", pooling, self.tables)
        return self.tables[pooling]

    def chunks(self) -> Sequence[Vectors]:
        if self.ragged is None:
            raise CacheError("features", "no vector of each encoder input was kept", "run: esmcls embed --chunks")
        return self.ragged

    def residues(self, places: Sequence[int], sequences: Sequence[str]) -> Iterator[Vectors]:
        if self.kept_residues is not None:
            return (self.kept_residues[place] for place in places)
        return residues_by(self.encoder(), sequences, self.spec)

    def encoder(self) -> Encoder:
        if self.opened is None:
            fix = "give Features.from_arrays(..., encoder=...)"
            raise CacheError("features", "vectors alone, without the encoder that makes those of residues", fix)
        return self.opened()


class _Cached:
    def __init__(self, cache: Cache, distinct: list[str]) -> None:
        self.cache = cache
        self.distinct = distinct
        self.spec: EmbeddingSpec | None = cache.spec
        self.width = cache.spec.width
        self.tables: dict[str, Vectors] = {}
        self.ragged: Sequence[Vectors] | None = None
        self.opened: Encoder | None = None

    @property
    def of_residues(self) -> bool:
        return self.cache.spec.of_residues

    def vectors(self, pooling: str) -> Vectors:
        if pooling not in self.cache.spec.pooled:
            raise UnknownNameError("pooling", pooling, self.cache.spec.pooled)
        if pooling not in self.tables:
            self.tables[pooling] = self.cache.read(self.distinct, pooling)
        return self.tables[pooling]

    def chunks(self) -> Sequence[Vectors]:
        if self.ragged is None:
            self.ragged = self.cache.read_chunks(self.distinct)
        return self.ragged

    def residues(self, places: Sequence[int], sequences: Sequence[str]) -> Iterator[Vectors]:
        if self.cache.spec.residues:
            yield from _read_residues(self.cache, sequences)
            return
        with self.cache.with_residues() or nullcontext() as beside:
            if beside is not None and not beside.missing(sequences):
                yield from _read_residues(beside, sequences)
                return
        yield from residues_by(self.encoder(), sequences, self.cache.spec)

    def encoder(self) -> Encoder:
        if self.opened is None:
            self.opened = encoder_of(self.cache.spec)
        return self.opened
