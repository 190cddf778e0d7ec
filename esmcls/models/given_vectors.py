"""Vectors of proteins that no encoder here can make: imported into a workspace's cache, or in another tool's file.

A cache knows a protein by its sequence, a file by its id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.cache.import_vectors import IMPORTED, read_vectors
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.errors import DataError, UsageError
from esmcls.models.manifest import Manifest
from esmcls.reading.records import Protein
from esmcls.types import Vectors
from esmcls.workspace.workspace import STATE, Workspace


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
        Id -> vector, from a file.
    """

    spec: EmbeddingSpec
    caches: Sequence[EmbeddingCache] = ()
    by_id: Mapping[str, Vectors] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest, workspace: Workspace | None, file: str | Path | None = None) -> GivenVectors:
        """Open what there is for a model of one spec of imported vectors.

        Parameters
        ----------
        manifest : Manifest
        workspace : Workspace, optional
            Whose caches to look in.
        file : str or Path, optional
            Of vectors as `read_vectors` takes it, made as those that the model was fitted on.

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
        return cls(specs[0], caches, {} if file is None else _read(Path(file), specs[0]))

    def find(self, proteins: Sequence[Protein]) -> tuple[Features, npt.NDArray[np.bool_]]:
        """Return the vectors of the proteins that have any, in their order, and which these are, bool (n,)."""
        texts = [protein.sequence for protein in proteins]
        vectors = [self._by_id(protein.id) for protein in proteins]
        for cache in self.caches:
            open_rows = [row for row, vector in enumerate(vectors) if vector is None]
            absent = {texts[open_rows[place]] for place in cache.missing([texts[row] for row in open_rows])}
            there = [row for row in open_rows if texts[row] not in absent]
            if there:
                read = cache.read([texts[row] for row in there], self.spec.pooled[0])
                for row, vector in zip(there, read, strict=True):
                    vectors[row] = vector
        found = np.array([vector is not None for vector in vectors], dtype=bool)
        table = np.zeros((int(found.sum()), self.spec.width), dtype=self.spec.dtype)
        for place, vector in enumerate(vector for vector in vectors if vector is not None):
            table[place] = vector
        chosen = np.flatnonzero(found).tolist()
        pooled = {self.spec.pooled[0]: table}
        sequences, ids = [texts[row] for row in chosen], [proteins[row].id for row in chosen]
        return Features.from_arrays(pooled, sequences=sequences, ids=ids, spec=self.spec), found

    def _by_id(self, name: str) -> Any:
        """Return the vector of an id, whole or up to its first blank; None where there is none."""
        parts = name.split()
        short = parts[0] if parts else name
        return self.by_id.get(name, self.by_id.get(short))


def workspace_of(folder: Path) -> Workspace | None:
    """Return the workspace in whose models/ a model lies; None where it lies elsewhere."""
    place = folder.resolve().parent.parent
    return Workspace.open(place) if (place / STATE).is_file() else None


def _read(file: Path, spec: EmbeddingSpec) -> dict[str, Vectors]:
    """Return the vectors of a file by id."""
    found: dict[str, Vectors] = {}
    for entry in read_vectors(file, pooling=spec.pooled[0], layers=spec.layers or None):
        if len(entry.vector) != spec.width:
            problem = f"a vector of {len(entry.vector)} numbers, where the model was fitted on {spec.width}"
            raise DataError(entry.place, problem, "give vectors made as those of training", record=entry.id)
        if entry.id in found:
            raise DataError(entry.place, "the id stands in it twice", "give each protein once", record=entry.id)
        found[entry.id] = np.asarray(entry.vector, dtype=spec.dtype)
    return found
