"""Other tools' vectors into a cache.

Most files know a protein by its id, the cache by its sequence: records of a FASTA join the two. A file that tells the
sequence, or names a vector by it, is joined by that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from esmcls.cache.exchange.imported import Imported
from esmcls.cache.exchange.read_vectors import read_vectors, source_digest
from esmcls.cache.spec import IMPORTED, EmbeddingSpec
from esmcls.encoders.encoder import Embedded
from esmcls.errors import DataError
from esmcls.reading.ids import IdJoin, first_word, rule_lines
from esmcls.reading.records import Record, refuse_text

if TYPE_CHECKING:
    from esmcls.cache.store import EmbeddingCache

PROTEINS_AT_ONCE: Final = 4096
"""Proteins that are held in memory at a time."""
_SHOWN: Final = 5
_KEEP_ONE: Final = "keep one of the two"


@dataclass
class ImportReport:
    """Counts of an import, and the ids that it could not join.

    Parameters
    ----------
    imported : int
        Vectors that are now in the cache or were there.
    without_sequence, without_vector : lists of str
        Ids that only the vectors, or only the sequences, have.
    partly_seen : list of str
        Ids of proteins with fewer residue vectors than residues.
    joined : Counter
        Rules by which ids were joined, and the vectors that each joined.
    by_sequence : int
        Vectors that were joined by a sequence.
    """

    imported: int = 0
    without_sequence: list[str] = field(default_factory=list)
    without_vector: list[str] = field(default_factory=list)
    partly_seen: list[str] = field(default_factory=list)
    joined: Counter[str] = field(default_factory=Counter)
    by_sequence: int = 0

    def lines(self) -> list[str]:
        """Return one line for each fact that a user should be told, but for ids without a partner."""
        lines = rule_lines(self.joined)
        if self.by_sequence:
            lines.append(f"{self.by_sequence:,} vector{'' if self.by_sequence == 1 else 's'} joined by their sequences")
        if self.partly_seen:
            names = ", ".join(self.partly_seen[:_SHOWN]) + (", …" if len(self.partly_seen) > _SHOWN else "")
            lines.append(f"{len(self.partly_seen):,} with fewer vectors than residues, the rest not seen: {names}")
        return lines


def imported_spec(
    path: str | Path, *, pooling: str = "mean", layers: Sequence[int] | None = None, dtype: str = "float32"
) -> EmbeddingSpec:
    """Return the spec of a cache for another tool's file: the encoder is "imported", its digest the file's.

    Raises
    ------
    DataError
        If there is no vector in it, or it cannot be read.
    """
    first = next(read_vectors(path, pooling=pooling, layers=layers), None)
    if first is None:
        raise DataError(path, "no vectors", "give a file or folder with embeddings")
    digest = source_digest(path)
    return EmbeddingSpec(
        IMPORTED, digest, tuple(layers or ()), IMPORTED, IMPORTED, dtype, (pooling,), len(first.vector)
    )


def check_import(path: str | Path, vectors: Iterable[Imported], records: Sequence[Record]) -> None:
    """Go through an import without keeping anything, so that a file that does not fit leaves nothing behind.

    Raises
    ------
    DataError
        As `import_embeddings`, and if no vector belongs to a record.
    """
    join = _Join(records)
    matched = sum(1 for _ in join.pairs(vectors))
    if matched:
        return
    theirs, ours = (
        [name[:40] for name in join.report.without_sequence[:2]],
        [record.protein.id for record in records[:2]],
    )
    problem = f"none of its ids ({', '.join(theirs)}, …) is that of a sequence ({', '.join(ours)}, …)"
    raise DataError(path, problem, "give the sequences that the vectors are of")


def import_embeddings(cache: EmbeddingCache, vectors: Iterable[Imported], records: Iterable[Record]) -> ImportReport:
    """Put vectors into a cache under the sequences that records of the same ids have.

    Parameters
    ----------
    cache : EmbeddingCache
        Of `imported_spec`.
    vectors : iterable of Imported
        From `read_vectors`. Ids are joined as `IdJoin` does: fair-esm's label is the whole line of the FASTA.
    records : iterable of Record

    Raises
    ------
    DataError
        If an id stands twice among the records or among the vectors (the message names both places), or a protein has
        more residue vectors than residues.
    """
    join = _Join(refuse_text(records, "records"))
    report = join.report
    for block in _batches(join.pairs(vectors)):
        sequences = [sequence for sequence, _ in block]
        stacked = np.stack([item.vector for _, item in block]).astype(np.float32)
        inputs = np.ones(len(block), dtype=np.int64)
        residues = [len(sequence) if item.rows is None else item.rows for sequence, item in block]
        unseen = {text: len(text) - count for text, count in zip(sequences, residues, strict=True) if count < len(text)}
        cache.note_unseen(unseen)
        cache.append(sequences, Embedded({cache.spec.pooled[0]: stacked}, inputs, np.array(residues, dtype=np.int64)))
        report.imported += len(block)
    cache.flush()
    report.without_vector = [id for id in join.by_id if id not in join.seen]
    return report


class _Join:
    """Records, to be found by the vectors of a file; it notes what it met."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.by_id = _by_id(records)
        self.of_sequence: dict[str, list[str]] = {}
        for id, record in self.by_id.items():
            self.of_sequence.setdefault(record.protein.sequence, []).append(id)
        self.ids = IdJoin(self.by_id)
        self.report = ImportReport(joined=self.ids.matched)
        self.seen: dict[str, tuple[str, int]] = {}
        """Id of a record, or of a vector without one -> place and hash of the vector."""

    def pairs(self, vectors: Iterable[Imported]) -> Iterator[tuple[str, Imported]]:
        """Yield the vectors that belong to a record, each with its sequence and the rows that it is of."""
        for imported in vectors:
            partners = self._partners(imported)
            if self._is_repeated(imported, partners or [imported.sequence or first_word(imported.id)]):
                continue
            if not partners:
                self.report.without_sequence.append(imported.id)
                continue
            sequence = self.by_id[partners[0]].protein.sequence
            rows = residues_seen(imported, len(sequence))
            if rows is not None and rows < len(sequence):
                self.report.partly_seen += partners
            yield sequence, imported._replace(rows=rows)

    def _partners(self, imported: Imported) -> list[str]:
        """Return the ids of the records that a vector is of: those of its sequence, or the one of its id."""
        partners = self.of_sequence.get((imported.sequence or imported.id).strip().upper(), [])
        if partners:
            self.report.by_sequence += 1
        if partners or imported.sequence is not None:
            return partners
        partner = self.ids.find(imported.id)
        return [] if partner is None else [partner]

    def _is_repeated(self, imported: Imported, names: list[str]) -> bool:
        """Say whether a vector is there already, for the same sequence; refuse a second one of the same id."""
        content = hash(imported.vector.tobytes())
        if names[0] not in self.seen:
            self.seen |= dict.fromkeys(names, (imported.place, content))
            return False
        place, before = self.seen[names[0]]
        if imported.sequence is None:
            problem = f"the id stands here and at {place}"
            raise DataError(imported.place, problem, f"vectors are joined by id: {_KEEP_ONE}", record=names[0])
        if before != content:
            problem = f"another vector of the sequence than at {place}"
            raise DataError(imported.place, problem, f"vectors are joined by sequence: {_KEEP_ONE}", record=imported.id)
        return True


def _by_id(records: Iterable[Record]) -> dict[str, Record]:
    by_id: dict[str, Record] = {}
    for record in records:
        before = by_id.setdefault(record.protein.id, record)
        if before is not record:
            problem = f"the id stands here and at {before.path}:{before.line}"
            fix = f"vectors are joined by id: {_KEEP_ONE}"
            raise DataError(record.path, problem, fix, line=record.line, record=record.protein.id)
    return by_id


def residues_seen(imported: Imported, length: int) -> int | None:
    """Return of how many residues a vector is; None if it was stored as one.

    Raises
    ------
    DataError
        If there were more rows than residues.
    """
    rows = imported.rows
    if rows is None or (rows == 1 and length > 1):  # (1, width): one vector a protein, too
        return None
    if rows > length:
        begun = "BOS and EOS among them" if rows == length + 2 else "padding or special tokens among them"
        fix = "store the vectors of the residues alone" + (" (array[1:-1])" if rows == length + 2 else "")
        raise DataError(imported.place, f"{rows} rows for {length} residues, {begun}", fix, record=imported.id)
    return rows


def _batches(pairs: Iterator[tuple[str, Imported]]) -> Iterator[list[tuple[str, Imported]]]:
    while block := list(islice(pairs, PROTEINS_AT_ONCE)):
        yield block
