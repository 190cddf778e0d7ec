"""Embedding on a Ray cluster: blocks of what is missing go to actors that hold the encoder and seal a segment a block.

    sequences → missing ones, each once → batches, as one process plans them → blocks → actors → segments in the cache

A block begins and ends where batches do, so that its vectors are those of one process, whatever actor makes them and
however often.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from esmcls.cache.embed import RunPlan, embed_apart
from esmcls.cache.features import open_encoder
from esmcls.cache.segments import form_of
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.cache.to_embed import EmbedProgress, EmbedReport, Item, Missing, Shard, Teller, plan_batches
from esmcls.encoders.encoder import Encoder
from esmcls.engines.on_nodes import ClusterError
from esmcls.engines.ray_team import Cluster, Connection
from esmcls.errors import CacheError
from esmcls.files import SPEC
from esmcls.reporting.phrases import length_of_time
from esmcls.workspace.embed_in_workspace import (
    EmbeddingRecipe,
    Progress,
    embed_in_workspace,
    plan_in_workspace,
    why_slow_on,
)
from esmcls.workspace.intake import Intake
from esmcls.workspace.workspace import Workspace

Block: TypeAlias = "list[Item]"
"""Sequences that an actor is given at once, and seals in one segment."""

LEAST_RESIDUES: Final = 1 << 16
MOST_RESIDUES: Final = 1 << 21
"""Residues of a block, between which it is so large that each actor gets about `SHARES` of them."""
SHARES: Final = 16
MOST_BYTES: Final = 64 << 20
"""Of vectors in a block, at most: what one process seals at once."""


def embed_on_ray(
    workspace: Workspace,
    intake: Intake,
    recipe: EmbeddingRecipe,
    cluster: Cluster,
    *,
    shard: Shard = (1, 1),
    progress: Progress | None = None,
) -> EmbedReport:
    """Do what `embed_in_workspace` does, on a cluster.

    Raises
    ------
    MissingExtraError, ClusterError
        If there is no Ray, or no cluster, or a node lacks what it needs.
    """
    with cluster.connected() as connection:
        engine = RayEmbedding(connection)
        return embed_in_workspace(workspace, intake, recipe, shard=shard, progress=progress, engine=engine)


@dataclass(frozen=True)
class RayEmbedding:
    """An `EmbeddingEngine` on a cluster that is there."""

    connection: Connection

    def open(self, recipe: EmbeddingRecipe, workspace: Workspace) -> tuple[Encoder, EmbeddingSpec]:
        """Open the encoder on the CPU of this machine, with the precision that `auto` is where the actors are."""
        if self.connection.device == "cuda" and recipe.precision_in(workspace) == "auto":
            opened = partial(_precision_of, recipe, self.connection.device)
            recipe = replace(recipe, precision=self.connection.ask_there(opened))
        return recipe.open(workspace, "cpu", self._why_slow)

    def _why_slow(self, precision: str) -> str | None:
        """Return why the actors are not to begin vectors in a precision."""
        return self.connection.ask_there(partial(why_slow_on, self.connection.device, precision))

    def embed(
        self,
        cache: EmbeddingCache,
        encoder: Encoder,
        name: str,
        sequences: Iterable[str],
        *,
        residues: int | None = None,
        shard: Shard = (1, 1),
        progress: EmbedProgress | None = None,
    ) -> EmbedReport:
        """Embed what the cache does not hold yet; see `embed_into`.

        Parameters
        ----------
        name : str
            By which the encoder is opened on every node.
        residues : int, optional
            Of all sequences, if that is known.
        """
        started = time.monotonic()
        items = Missing(cache, sequences, shard)
        tell = Teller(progress, items.report)
        opener = BlockEncoder(cache.folder, cache.spec, name, self.connection.device)
        largest = block_residues(residues, self.connection.actors)
        made = EmbedReport()  # items.report grows meanwhile, where the input is read
        try:
            with self.connection.team(opener) as team:
                for _, block, done in team.run(blocks(plan_batches(encoder, items), cache.spec, largest)):
                    made.add(done)
                    tell(sum(len(sequence) for _, sequence in block), len(block))
            items.report.add(made)
            tell(0, 0)
        finally:
            with contextlib.suppress(CacheError):  # what is sealed is safe, and is found again
                cache.tidy()
            items.report.seconds = time.monotonic() - started
        return items.report


def _precision_of(recipe: EmbeddingRecipe, device: str) -> str:
    """Return the precision that an encoder has on a device of the node that this runs on."""
    return recipe.open(None, device)[0].precision


@dataclass(frozen=True)
class BlockEncoder:
    """Opens the encoder on a node; what it returns embeds a block and seals its vectors."""

    folder: Path
    spec: EmbeddingSpec
    encoder: str
    device: str

    def __call__(self) -> Callable[[Block], EmbedReport]:
        """Open it.

        Raises
        ------
        ClusterError
            If the node does not see the cache.
        """
        if not (self.folder / SPEC).is_file():
            node = os.uname().nodename if hasattr(os, "uname") else "a node"
            raise ClusterError(
                f"{node} does not see {self.folder.resolve()}; give a workspace that all nodes of the cluster share"
            )
        encoder = open_encoder(self.spec, self.encoder, self.device)
        return partial(embed_apart, self.folder, self.spec, encoder)


def block_residues(residues: int | None, actors: int) -> int:
    """Return how many residues a block has at most.

    Examples
    --------
    >>> [block_residues(residues, 40) for residues in (1_000_000, 300_000_000, 30_000_000_000, None)]
    [65536, 468750, 2097152, 2097152]
    """
    share = MOST_RESIDUES if residues is None else residues // (SHARES * max(1, actors))
    return min(MOST_RESIDUES, max(LEAST_RESIDUES, share))


def blocks(batches: Iterable[list[Item]], spec: EmbeddingSpec, residues: int) -> Iterator[Block]:
    """Put batches together, in their order, until a block has so many residues, or vectors of `MOST_BYTES`.

    Examples
    --------
    >>> spec = EmbeddingSpec("esm2", "c0ffee", (6,), "balanced", "fp32", "float16", ("mean",), 320)
    >>> [len(block) for block in blocks([[(0, "MKT"), (1, "MK")], [(2, "M")], [(3, "MKTA")]], spec, 6)]
    [3, 1]
    """
    block: Block = []
    filled = taken = 0
    for batch in batches:
        size = sum(len(sequence) for _, sequence in batch)
        nbytes = _bytes(spec, batch)
        if block and (filled + size > residues or taken + nbytes > MOST_BYTES):
            yield block
            block = []
            filled = taken = 0
        block = block + batch
        filled += size
        taken += nbytes
    if block:
        yield block


def _bytes(spec: EmbeddingSpec, batch: list[Item]) -> int:
    """Return the bytes of the vectors that are kept of a batch, at most; those of chunks are few."""
    nbytes = len(batch) * len(spec.pooled) * spec.width * np.dtype(spec.dtype).itemsize
    if spec.residues:
        [numbers], dtype = form_of(spec, spec.residues)
        nbytes += sum(len(sequence) for _, sequence in batch) * numbers * dtype.itemsize
    return nbytes


@dataclass(frozen=True)
class RayPlan:
    """What a run on a cluster would take.

    Parameters
    ----------
    plan : RunPlan
        Its time is that of one process of this machine.
    blocks, actors : int
        What there is to do, in parts, and how many do it.
    """

    plan: RunPlan
    blocks: int
    actors: int

    @property
    def seconds(self) -> float:
        """The time it takes, if each actor is as fast as this machine: that of the actor with most blocks."""
        return self.plan.seconds * math.ceil(self.blocks / max(1, self.actors)) / max(1, self.blocks)

    def lines(self) -> list[str]:
        """Return what is to be told.

        Examples
        --------
        >>> RayPlan(RunPlan(9, 1, 8, 800, 4000, 120.0), blocks=5, actors=2).lines()
        ['Ray: about 5 blocks for 2 actors, about 72 s if each is as fast as this machine']
        """
        actors = f"{self.actors:,} actor{'' if self.actors == 1 else 's'}"
        parts = f"{self.blocks:,} block{'' if self.blocks == 1 else 's'}"
        time_taken = length_of_time(self.seconds)
        return [f"Ray: about {parts} for {actors}, about {time_taken} if each is as fast as this machine"]


def plan_on_ray(
    workspace: Workspace | None, intake: Intake, recipe: EmbeddingRecipe, cluster: Cluster, *, shard: Shard = (1, 1)
) -> RayPlan:
    """Say what `embed_on_ray` would take; a cluster is only asked how many actors it has room for, if nobody said.

    Time is measured on a GPU of this machine where it has one and the actors are to have some.
    """
    import torch

    there = _resources(cluster)
    actors = cluster.actors_among(there)
    device = cluster.device_among(there) if torch.cuda.is_available() else "cpu"
    residues = sum(map(len, intake.sequences)) if intake.again else None
    plan = plan_in_workspace(workspace, intake, recipe, device=device, shard=shard)
    parts = max(math.ceil(plan.residues / block_residues(residues, actors)), math.ceil(plan.nbytes / MOST_BYTES))
    return RayPlan(plan, parts, actors)


def _resources(cluster: Cluster) -> dict[str, float]:
    """Return what a cluster has; nothing, without asking it, where the number of actors is told."""
    if cluster.local:
        import torch

        return {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}
    if cluster.actors:
        return {}
    with cluster.connected() as connection:
        return connection.resources
