"""Vectors of proteins that no encoder here can make: imported into a workspace's cache, or in another tool's file.

A cache knows a protein by its sequence, most files by its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from esmcls.cache.exchange.import_vectors import residues_seen
from esmcls.cache.exchange.imported import Imported
from esmcls.cache.exchange.read_vectors import read_vectors
from esmcls.cache.features import Features
from esmcls.cache.spec import IMPORTED, EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.errors import DataError, UsageError
from esmcls.files import STATE
from esmcls.models.manifest import Manifest
from esmcls.reading.ids import IdJoin
from esmcls.reading.records import Protein
from esmcls.workspace.workspace import Workspace


def imported_specs(manifest: Manifest) -> list[EmbeddingSpec]:
    """Return the specs of a model's vectors that no encoder here can make."""
    return [spec for spec in manifest.specs if spec.encoder == IMPORTED]


@dataclass(frozen=True, eq=False)
class GivenVectors:
    """Where a model on imported vectors finds those of the proteins that it is asked about.

    Parameters
    ----------
    spec : EmbeddingSpec
        Of the model's imported vectors.
    caches : sequence of EmbeddingCache
        Of that spec.
    by_id : mapping
        Id, or the sequence where the file tells it, -> vector, from a file.
    """

    spec: EmbeddingSpec
    caches: Sequence[EmbeddingCache] = ()
    by_id: Mapping[str, Imported] = field(default_factory=dict)

    @cached_property
    def join(self) -> IdJoin:
        """The ids of the file, to be found by those of proteins."""
        return IdJoin(self.by_id)

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        workspace: Workspace | None,
        given: str | Path | Mapping[str, npt.ArrayLike] | None = None,
    ) -> GivenVectors:
        """Open what there is for a model of one spec of imported vectors.

        Parameters
        ----------
        manifest : Manifest
        workspace : Workspace, optional
            Whose caches to look in.
        given : str, Path or mapping, optional
            A file of vectors as `read_vectors` takes it, or id -> vector; made as those that the model was fitted on.

        Raises
        ------
        UsageError
            If the model was fitted on no imported vectors, or on those of several files.
        DataError
            If the file's vectors are of another width, or an id stands in it twice.
        """
        specs = imported_specs(manifest)
        if not specs:
            raise UsageError("--vectors is for models on imported vectors; this one embeds what it is asked about")
        if len(specs) > 1:
            raise UsageError("the members of this ensemble read imported vectors of several files; ask them one by one")
        entries = [] if workspace is None else [entry for entry in workspace.caches if entry.spec == specs[0]]
        caches = [EmbeddingCache.open(entry.folder) for entry in entries]
        return cls(specs[0], caches, {} if given is None else _read(given, specs[0]))

    def find(self, proteins: Sequence[Protein]) -> tuple[Features, npt.NDArray[np.bool_]]:
        """Return the vectors of the proteins that have any, in their order, and which these are, bool (n,)."""
        texts = [protein.sequence for protein in proteins]
        vectors = [None if item is None else item.vector for item in map(self._in_file, proteins)]
        for cache in self.caches:
            open_rows = [row for row, vector in enumerate(vectors) if vector is None]
            absent = {texts[open_rows[place]] for place in cache.missing([texts[row] for row in open_rows])}
            cached = [row for row in open_rows if texts[row] not in absent]
            if cached:
                read = cache.read([texts[row] for row in cached], self.spec.pooled[0])
                for row, vector in zip(cached, read, strict=True):
                    vectors[row] = vector
        has_vector = np.array([vector is not None for vector in vectors], dtype=bool)
        table = np.zeros((int(has_vector.sum()), self.spec.width), dtype=self.spec.dtype)
        for place, vector in enumerate(vector for vector in vectors if vector is not None):
            table[place] = vector
        chosen = np.flatnonzero(has_vector).tolist()
        pooled = {self.spec.pooled[0]: table}
        sequences, ids = [texts[row] for row in chosen], [proteins[row].id for row in chosen]
        return Features.from_arrays(pooled, sequences=sequences, ids=ids, spec=self.spec), has_vector

    def unseen(self, protein: Protein) -> int:
        """Return how many residues of a protein its vector knows nothing of."""
        if (item := self._in_file(protein)) is not None:
            return len(protein.sequence) - (item.rows or len(protein.sequence))
        return max((cache.unseen([protein.sequence])[0] for cache in self.caches), default=0)

    def _in_file(self, protein: Protein) -> Imported | None:
        """Return what the file has of a protein.

        Raises
        ------
        DataError
            If it has more vectors than the protein has residues.
        """
        partner = protein.sequence if protein.sequence in self.by_id else self.join.find(protein.id)
        if partner is None:
            return None
        item = self.by_id[partner]
        return item._replace(rows=residues_seen(item, len(protein.sequence)))


def workspace_of(folder: Path) -> Workspace | None:
    """Return the workspace in whose models/ a model lies; None where it lies elsewhere."""
    place = folder.resolve().parent.parent
    return Workspace.open(place) if (place / STATE).is_file() else None


def _read(given: str | Path | Mapping[str, npt.ArrayLike], spec: EmbeddingSpec) -> dict[str, Imported]:
    """Return the vectors of a file, or of a mapping, by id."""
    if isinstance(given, Mapping):
        place = "vectors"
        entries: Iterable[Imported] = (Imported(str(id_), np.asarray(vector), place) for id_, vector in given.items())
    else:
        entries = read_vectors(given, pooling=spec.pooled[0], layers=spec.layers or None)
    by_id: dict[str, Imported] = {}
    for entry in entries:
        if entry.vector.shape != (spec.width,):
            numbers = f"a vector of {len(entry.vector)} numbers" if entry.vector.ndim == 1 else "what is no vector"
            problem = f"{numbers}, where the model was fitted on {spec.width}"
            raise DataError(entry.place, problem, "give vectors made as those of training", record=entry.id)
        name = entry.id if entry.sequence is None else entry.sequence.strip().upper()
        if name in by_id and not (entry.sequence and np.array_equal(by_id[name].vector, entry.vector)):
            raise DataError(entry.place, "the id stands in it twice", "give each protein once", record=entry.id)
        by_id[name] = entry._replace(vector=np.asarray(entry.vector, dtype=spec.dtype))
    return by_id
