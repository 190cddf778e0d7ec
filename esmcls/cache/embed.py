"""From sequences to the cache: each distinct one once, resumed by content, read, encoded and written at the same time.

Batches are planned greedily over the sequences that are missing, in input order, and segments end where batches
end. So a run that goes on after an interruption plans the batches that the first one would have: same vectors,
bit for bit.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache as cache_calls
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from esmcls.cache.pending import Pending
from esmcls.cache.prefetch import BackgroundWriter, prefetch
from esmcls.cache.segments import form_of
from esmcls.cache.spec import EmbeddingSpec, keys_of
from esmcls.cache.store import EmbeddingCache, seal
from esmcls.cache.to_embed import EmbedProgress, EmbedReport, Item, Missing, Shard, Teller, plan_batches
from esmcls.encoders.encoder import AheadEncoder, Embedded, Encoder, load_encoder
from esmcls.encoders.windows import parse_long, residues_seen
from esmcls.errors import CacheError, SequenceTooLargeError
from esmcls.reading.records import clean_sequences, several
from esmcls.types import Residues

__all__ = [
    "EmbedProgress",
    "EmbedReport",
    "Missing",
    "RunPlan",
    "Shard",
    "embed",
    "embed_apart",
    "embed_into",
    "embed_items",
    "plan_run",
]

SAMPLE_SEQUENCES: Final = 48


@dataclass(frozen=True)
class RunPlan:
    """The work that a run would have to do.

    Parameters
    ----------
    distinct, cached, missing, residues : int
        Distinct sequences, how many of them are there, how many are not, and the residues of these.
    nbytes : int
        Disk space that the new ones take.
    seconds : float
        Estimated from a sample of them.
    of_residues : bool
        Whether the encoder makes vectors of residues, which can be aligned.
    """

    distinct: int
    cached: int
    missing: int
    residues: int
    nbytes: int
    seconds: float
    of_residues: bool = False


def embed_into(
    cache: EmbeddingCache,
    encoder: Encoder,
    sequences: Iterable[str],
    *,
    progress: EmbedProgress | None = None,
    shard: Shard = (1, 1),
) -> EmbedReport:
    """Embed what the cache does not hold yet.

    Memory stays flat for any number of sequences, but for 16 bytes of key a distinct one. On an exception, Ctrl-C
    among them, what is finished is sealed before it is raised.

    Parameters
    ----------
    cache : EmbeddingCache
        Of the encoder's spec.
    encoder : Encoder
    sequences : iterable of str
        Upper-case residues; gone through once.
    progress : callable, optional
        Called with (residues, sequences) that are done since the last call.
    shard : (int, int)
        (i, n) embeds the i-th of n parts only, 1-based.

    Raises
    ------
    CacheError
        If the encoder is not of the cache's spec, or the cache cannot be written.
    NonFiniteError
        If a vector is not finite; nothing of its batch is stored.
    """
    items = Missing(cache, several("embed_into", sequences), shard)
    return embed_items(cache, encoder, items, items.report, progress)


def embed_items(
    cache: EmbeddingCache,
    encoder: Encoder,
    items: Iterable[Item],
    report: EmbedReport,
    progress: EmbedProgress | None = None,
) -> EmbedReport:
    """Embed items that are distinct and missing, and complete the report; see `embed_into`."""
    if difference := cache.spec.difference(EmbeddingSpec.of(encoder, cache.spec.dtype, cache.spec.poolings)):
        raise CacheError(cache.folder, f"this cache is of another spec ({difference})", "choose another folder for it")
    started = time.monotonic()

    def append(batch: tuple[list[str], Embedded]) -> None:
        cache.append(*batch)

    batches = prefetch(plan_batches(encoder, items))
    tell = Teller(progress, report)
    try:
        with BackgroundWriter(append) as writer:
            for batch, fitting, embedded in _encode_all(encoder, batches, cache.spec, report):
                if embedded is not None:
                    writer.put(([sequence for _, sequence in fitting], embedded))
                    _count(report, fitting, embedded)
                tell(sum(len(sequence) for _, sequence in batch), len(batch))
        tell(0, 0)
    finally:
        batches.close()
        cache.flush()
        report.seconds = time.monotonic() - started
    return report


def embed_apart(folder: Path, spec: EmbeddingSpec, encoder: Encoder, items: Sequence[Item]) -> EmbedReport:
    """Embed items and seal them in one segment, without looking at what the cache holds.

    For one of many processes that are told what to embed: none of them needs the keys of all that is there.

    Raises
    ------
    CacheError
        If the encoder is not of that spec, or the segment cannot be written.
    NonFiniteError
        If a vector is not finite; nothing is stored then.
    """
    if difference := spec.difference(EmbeddingSpec.of(encoder, spec.dtype, spec.poolings)):
        raise CacheError(
            folder, f"the encoder is of another spec here ({difference})", "use the same weights everywhere"
        )
    report = EmbedReport()
    pending = Pending(spec)
    for _, fitting, embedded in _encode_all(encoder, plan_batches(encoder, items), spec, report):
        if embedded is not None:
            sequences = [sequence for _, sequence in fitting]
            pending.add(sequences, keys_of(sequences), range(len(fitting)), embedded)
            _count(report, fitting, embedded)
    if len(pending):
        seal(folder, pending)
    return report


_Encoded: TypeAlias = tuple[list[Item], list[Item], Embedded | None]
"""A batch, those of it that fit into memory, and their vectors, if there are any."""


def _encode_all(
    encoder: Encoder, batches: Iterable[list[Item]], spec: EmbeddingSpec, report: EmbedReport
) -> Iterator[_Encoded]:
    """Encode batches one by one, each begun before the one before it is waited for where the encoder runs ahead."""
    ahead = encoder if isinstance(encoder, AheadEncoder) and encoder.runs_ahead else None
    begun: Callable[[], _Encoded] | None = None
    for batch in batches:
        waited, begun = begun, None
        try:
            begun = _begin(encoder, ahead, batch, spec, report)
        finally:  # what fails now does not take what went before
            if waited is not None:
                yield waited()
        if ahead is None:
            yield begun()
            begun = None
    if begun is not None:
        yield begun()


def _begin(
    encoder: Encoder, ahead: AheadEncoder | None, batch: list[Item], spec: EmbeddingSpec, report: EmbedReport
) -> Callable[[], _Encoded]:
    """Begin a batch without what does not fit into memory, which is reported; what is returned waits for it."""
    fitting = batch
    while fitting:
        sequences = [sequence for _, sequence in fitting]
        try:
            if ahead is not None:
                finish = ahead.launch(sequences, spec.pooled, spec.keeps)
            else:
                finish = partial(_same, encoder.encode(sequences, spec.pooled, spec.keeps))
        except SequenceTooLargeError as error:
            report.too_large.append(fitting[error.index][0])
            fitting = fitting[: error.index] + fitting[error.index + 1 :]
        else:
            return partial(_finished, batch, fitting, finish)
    return partial(_finished, batch, fitting, None)


def _finished(batch: list[Item], fitting: list[Item], finish: Callable[[], Embedded] | None) -> _Encoded:
    return batch, fitting, None if finish is None else finish()


def _same(embedded: Embedded) -> Embedded:
    return embedded


def _count(report: EmbedReport, batch: list[Item], embedded: Embedded) -> None:
    lengths = np.array([len(sequence) for _, sequence in batch])
    report.embedded += len(batch)
    report.residues += int(lengths.sum())
    report.cut += int(((embedded.inputs > 1) | (embedded.seen < lengths)).sum())
    report.unseen += int((lengths - embedded.seen).sum())


def plan_run(
    cache: EmbeddingCache, encoder: Encoder, sequences: Iterable[str], *, shard: Shard = (1, 1), seed: int = 0
) -> RunPlan:
    """Say what `embed_into` would take, from the time of a random sample of what is missing; nothing is written.

    Parameters
    ----------
    cache, encoder, sequences, shard
        As for `embed_into`.
    seed : int
        Of the sample.
    """
    missing = Missing(cache, sequences, shard)
    chance = random.Random(seed)
    sample: list[str] = []
    rows_of_length = cache_calls(partial(_ragged_rows, cache.spec))  # lengths come again and again
    count = residues = vectors = 0
    for count, (_, sequence) in enumerate(missing, start=1):
        residues += len(sequence)
        vectors += rows_of_length(len(sequence))
        if len(sample) < SAMPLE_SEQUENCES:
            sample.append(sequence)
        elif (place := chance.randrange(count)) < SAMPLE_SEQUENCES:  # a reservoir: every one with the same chance
            sample[place] = sequence
    vector_bytes = cache.spec.width * np.dtype(cache.spec.dtype).itemsize
    beside = 48 + 8 * len(cache.spec.ragged)  # key, length, inputs, and where ragged vectors begin
    nbytes = count * (beside + vector_bytes * len(cache.spec.pooled))
    for name in cache.spec.ragged:
        [numbers], dtype = form_of(cache.spec, name)
        nbytes += vectors * numbers * dtype.itemsize
    rate = _measure(encoder, sample, cache.spec) if sample else 0.0
    report = missing.report
    return RunPlan(report.distinct, report.cached, count, residues, nbytes, rate * residues, bool(encoder.layers))


def _ragged_rows(spec: EmbeddingSpec, length: int) -> int:
    """Return how many vectors are stored of a sequence besides the pooled ones."""
    if not spec.ragged:
        return 0
    strategy = parse_long(spec.long)
    return len(strategy.cut(length)) if spec.ragged == ("chunk",) else residues_seen(strategy, length)


def _measure(encoder: Encoder, sample: Sequence[str], spec: EmbeddingSpec) -> float:
    """Return the seconds a residue takes, after a first call that warms up."""
    encoder.encode(sample[:1], spec.pooled, spec.keeps)
    started = time.perf_counter()
    for _ in _encode_all(encoder, plan_batches(encoder, enumerate(sample)), spec, EmbedReport()):
        pass
    return (time.perf_counter() - started) / max(1, sum(map(len, sample)))


def embed(
    sequences: Sequence[str],
    encoder: str | Encoder = "bundled",
    *,
    layers: Sequence[int] | None = None,
    precision: str = "auto",
    long: str = "balanced",
    pooling: str = "mean",
    device: str = "cpu",
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Residues:
    """Embed sequences.

    Parameters
    ----------
    sequences : sequence of str
        Lower case, a `*` at the end and J are put right as in files.
    encoder : str or Encoder
        A name, see `load_encoder`, or an open one, for which the next three and `device` are of no account.
    layers : sequence of int, optional
    precision : str
    long : str
    pooling : {"mean", "cls", "max"}
    device : str
    cache : str or Path, optional
        A folder to keep the vectors in, as float16, in a subfolder for each spec; default none.
    progress : callable, optional
        Called with how many distinct sequences are done, and how many there are.

    Returns
    -------
    float32 array, (n, width)

    Raises
    ------
    SequenceError
        If a text is no protein sequence; it names the place.
    UsageError
        If `sequences` is a single text, or holds what is none.
    SequenceTooLargeError
        If a sequence does not fit into memory; with a cache, the others are kept there.

    Examples
    --------
    >>> embed(["MKTAYIAKQR", "MLE"], encoder="composition").shape
    (2, 25)
    """
    cleaned = clean_sequences("embed", sequences)
    if isinstance(encoder, str):
        encoder = load_encoder(encoder, layers=layers, long=long, precision=precision, device=device)
    if cache is not None:
        return _embed_cached(cleaned, encoder, pooling, Path(cache), progress)
    distinct = {sequence: row for row, sequence in enumerate(dict.fromkeys(cleaned))}
    vectors = np.empty((len(distinct), encoder.width), dtype=np.float32)
    for batch in plan_batches(encoder, enumerate(distinct)):
        try:
            pooled = encoder.encode([sequence for _, sequence in batch], (pooling,)).pooled[pooling]
        except SequenceTooLargeError as error:
            raise _too_large(cleaned, batch[error.index][1]) from error
        vectors[batch[0][0] : batch[-1][0] + 1] = pooled
        if progress is not None:
            progress(batch[-1][0] + 1, len(distinct))
    return vectors[[distinct[sequence] for sequence in cleaned]]


def _embed_cached(
    sequences: list[str],
    encoder: Encoder,
    pooling: str,
    root: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Residues:
    """Embed through the cache of this spec in a folder of caches."""
    spec = EmbeddingSpec.of(encoder, poolings=(pooling,))
    distinct, done = list(dict.fromkeys(sequences)), 0

    def advance(_: int, count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, len(distinct))

    with EmbeddingCache.open(root / spec.key(), spec) as cache:
        report = embed_into(cache, encoder, distinct, progress=advance)
        if report.too_large:
            raise _too_large(sequences, distinct[report.too_large[0]])
        return cache.read(sequences, pooling).astype(np.float32)


def _too_large(sequences: Sequence[str], sequence: str) -> SequenceTooLargeError:
    return SequenceTooLargeError(sequences.index(sequence), len(sequence))
