"""Where training begins: a linear head on the frozen encoder's vectors, and the network that goes on from both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from esmcls.cache.embed import embed_into
from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.encoders.model import ESM2
from esmcls.encoders.weights import ATTENTION_WEIGHT
from esmcls.finetuning.config import FinetuneConfig, FinetuneInputs
from esmcls.finetuning.encoder import StartingEncoder
from esmcls.finetuning.model import Tuned
from esmcls.finetuning.rows import Rows
from esmcls.tasks.objective import Objective, OutputLayer, StartingHead, Supervision
from esmcls.training.processes import Replicas
from esmcls.workspace.workspace import Workspace


def fit_start(
    caches: Path,
    encoder: StartingEncoder,
    rows: Rows,
    objective: Objective,
    supervision: Supervision,
    config: FinetuneConfig,
    replicas: Replicas,
) -> StartingHead:
    """Fit the head that the output layer begins as, on vectors of the frozen encoder.

    Parameters
    ----------
    caches : Path
        Folder of a workspace's caches. The vectors stay in one of them; which was used last is not changed, since this
        one may hold some rows alone.
    encoder : StartingEncoder
    rows : Rows
    objective : Objective
    supervision : Supervision
        Of the same rows.
    config : FinetuneConfig
    replicas : Replicas
        The first process embeds, the others wait.
    """
    opened, pooling = encoder.opened(), encoder.pooling(config.pooling)
    spec = EmbeddingSpec.of(opened, poolings=poolings_read(objective, pooling))
    folder = caches / spec.key()
    with replicas.first_alone() as first:
        if first:
            with EmbeddingCache.open(folder, spec) as cache:
                embed_into(cache, opened, [*rows.train.sequences, *rows.held.sequences])
    with EmbeddingCache.open(folder) as cache:
        held = Features.from_cache(cache, rows.held) if len(rows.held) else None
        return supervision.fit(Features.from_cache(cache, rows.train), held, config, pooling, encoder.device)


def poolings_read(objective: Objective, pooling: str) -> tuple[str, ...]:
    """Return what a head must find of a protein: its vector, and where residues are answered theirs, too."""
    return (pooling, "residue") if objective.of_residues else (pooling,)


def start_network(encoder: StartingEncoder, layer: OutputLayer, config: FinetuneConfig) -> Tuned:
    """Return what is trained, as it begins."""
    model = ESM2.of(encoder.weights.config, encoder.weights.state)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # LoRA's A is drawn
        network = Tuned(model, layer, encoder.layers, config, encoder.precision)
    attention = encoder.weights.state.get(ATTENTION_WEIGHT)
    if network.attention is not None and attention is not None:
        network.attention.weight.data.copy_(attention)
    return network


@dataclass(frozen=True, eq=False)
class Begun:
    """All that a run began with.

    Parameters
    ----------
    workspace : Workspace
    objective : Objective
    config : FinetuneConfig
    inputs : FinetuneInputs
    rows : Rows
    encoder : StartingEncoder
    supervision : Supervision
        Of the rows.
    head : StartingHead
        On the frozen encoder's vectors.
    """

    workspace: Workspace
    objective: Objective
    config: FinetuneConfig
    inputs: FinetuneInputs
    rows: Rows
    encoder: StartingEncoder
    supervision: Supervision
    head: StartingHead

    def network(self) -> Tuned:
        """Return what is trained, as it begins."""
        return start_network(self.encoder, self.head.output, self.config)
