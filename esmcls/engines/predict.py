"""Answers on a Ray cluster: each actor loads the model, and gets the same blocks of proteins that one process asks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from esmcls.engines.ray_team import Cluster, Connection
from esmcls.models.model import Model
from esmcls.models.predict import BLOCK, Asker, OwnVectors, Request, answer_stream, open_model
from esmcls.reading.records import Protein

Asked: TypeAlias = "list[Protein]"


@dataclass(frozen=True)
class ModelSource:
    """From where a model is loaded: what `open_model` takes."""

    workspace: Path
    name: str | None = None
    device: str = "cpu"
    encoder: str | Path | None = None
    vectors: OwnVectors | None = None
    nearest: bool | None = None

    def open(self) -> Model:
        """Load it."""
        return open_model(
            self.workspace,
            self.name,
            device=self.device,
            encoder=self.encoder,
            vectors=self.vectors,
            nearest=self.nearest,
        )


@dataclass(frozen=True)
class ModelAsker:
    """Loads a model on a node; what it returns answers a block of proteins."""

    source: ModelSource
    request: Request

    def __call__(self) -> Callable[[Asked], list[Any]]:
        """Load it."""
        model = self.source.open()
        ask = self.request.of(model)
        return lambda proteins: [answer for _, answer in answer_stream(model, proteins, ask)]


def asker_on_ray(cluster: Cluster, source: ModelSource) -> Asker:
    """Return what has a cluster answer proteins, for `write_answers`: byte for byte as one process does."""

    def ask(request: Request, proteins: Iterable[Protein]) -> Iterator[tuple[Protein, Any]]:
        with cluster.connected() as connection:
            yield from _answers(connection, source, request, proteins)

    return ask


def _answers(
    connection: Connection, source: ModelSource, request: Request, proteins: Iterable[Protein]
) -> Iterator[tuple[Protein, Any]]:
    opener = ModelAsker(replace(source, device=connection.device), request)
    with connection.team(opener) as team:
        for block, answers in team.in_order(_parts(proteins)):
            yield from zip(block, answers, strict=True)


def _parts(proteins: Iterable[Protein]) -> Iterator[Asked]:
    """Part proteins into the blocks that one process asks about at once, so that batches are the same."""
    proteins = iter(proteins)
    while block := list(itertools.islice(proteins, BLOCK)):
        yield block
