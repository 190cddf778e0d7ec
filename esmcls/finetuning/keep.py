"""From a trained network to a model folder: the tuned encoder, the head on its own vectors, the manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.datasets.dataset import Dataset
from esmcls.encoders import OWN
from esmcls.encoders.adapters import FILE, Base, adapted_digest, adapters_of, save_adapters
from esmcls.encoders.esm2 import ESM2Encoder
from esmcls.encoders.sources.places import is_published
from esmcls.encoders.weights import save_state
from esmcls.finetuning.config import inputs_of, settings_of
from esmcls.finetuning.kind import save_tuned
from esmcls.finetuning.model import Tuned
from esmcls.finetuning.start import Begun, poolings_read
from esmcls.heads.layers.linear import LinearHead
from esmcls.models.manifest import Manifest
from esmcls.models.model import Model, features_for
from esmcls.tasks.kinds import task_of
from esmcls.tasks.objective import FinalHead
from esmcls.training.loop import History
from esmcls.types import Floats


@dataclass(frozen=True, eq=False)
class Finished:
    """A tuned encoder and its head, ready to be written.

    Parameters
    ----------
    head : FinalHead
    manifest : Manifest
        But for what validation says.
    features : callable
        From rows of the data set to their vectors by the tuned encoder.
    write_encoder : callable
        Writes the encoder, or its adapters, into a folder.
    """

    head: FinalHead
    manifest: Manifest
    features: Callable[[Dataset], Features]
    write_encoder: Callable[[Path], object]


def keep_model(begun: Begun, network: Tuned, history: History, anchors: Dataset, folder: Path) -> Manifest:
    """Write the model folder of what was trained, or of the start where that is better as it is saved.

    Parameters
    ----------
    begun : Begun
    network : Tuned
        Trained.
    history : History
        Its best step becomes 0 where the start is what is kept.
    anchors : Dataset
        Training rows whose mean vector is subtracted from all.
    folder : Path
    """
    finished = _finish(begun, network, history, anchors, folder)
    chosen_by = begun.objective.chosen_by
    scores, start = finished.head.scores, begun.head.scores
    if history.best_step and scores and scores[chosen_by] < start.get(chosen_by, 0.0):
        history.best_step = 0  # as it is saved, merged and rounded, it is no better than its start
        finished = _finish(begun, begun.network(), history, anchors, folder)
    return save_tuned(
        task_of(begun.workspace),
        folder,
        finished.head,
        finished.manifest,
        begun.rows,
        begun.inputs.shares,
        finished.features,
        begun.supervision,
        finished.write_encoder,
    )


def _finish(begun: Begun, network: Tuned, history: History, anchors: Dataset, folder: Path) -> Finished:
    """Open the tuned encoder and put the head on its vectors, centred on what it makes of the anchors."""
    encoder, write_encoder = _open_tuned(begun, network, str(folder))
    manifest = _manifest(begun, history, encoder)
    reads_vectors = LinearHead()  # all that is asked of a head here
    model = Model(folder, manifest, reads_vectors, device=begun.encoder.device, source=encoder)
    features = partial(features_for, model, workspace=begun.workspace)
    pooling, mean = begun.config.pooling, begun.head.output.scaling.mean
    if network.moved:
        mean = torch.from_numpy(mean_vector(features(anchors), pooling, begun.objective.of_residues)).float()
    held = features(begun.rows.held) if len(begun.rows.held) else None
    weight, bias = network.out.weight.detach(), network.out.bias.detach()
    head = begun.head.continued(weight, bias, mean, held, pooling)
    return Finished(head, replace(manifest, config=asdict(head.chosen)), features, write_encoder)


def mean_vector(x: Features, pooling: str, of_residues: bool) -> Floats:
    """Return the mean vector of proteins, or of all their residues, float64 (width,)."""
    if not of_residues:
        return np.asarray(x.vectors(pooling).astype(np.float64).mean(0))
    total, count = np.zeros(x.width), 0
    for vectors in x.residues():
        total += vectors.sum(0, dtype=np.float64)
        count += len(vectors)
    return total / count


def _open_tuned(begun: Begun, network: Tuned, name: str) -> tuple[ESM2Encoder, Callable[[Path], None]]:
    """Open the tuned encoder; return it with what writes it, or its adapters, into a folder."""
    weights, layers = begun.encoder.weights, begun.encoder.layers
    state = network.encoder_state(weights.state)
    if not begun.inputs.adapters_only:
        opened = begun.encoder.with_state(name, state)
        return opened, lambda to: save_state(to / OWN, weights.config, state, layers=layers)
    given, lora = begun.encoder.name, begun.config.lora
    adapters = adapters_of(network.encoder) | network.attention_state()
    base = Base(given if is_published(given) else str(weights.path.resolve()), weights.digest)
    opened = begun.encoder.with_state(name, state, adapted_digest(base, adapters, lora))
    return opened, lambda to: save_adapters(to / FILE, adapters, lora, base, layers=list(layers))


def _manifest(begun: Begun, history: History, encoder: ESM2Encoder) -> Manifest:
    """Return the manifest, but for the head's own choices and what validation says."""
    dataset, config = begun.workspace.dataset, begun.config
    about = settings_of(config) | {"precision": begun.encoder.precision, "steps": history.steps_done}
    about |= {"best_step": history.best_step, "encoder_digest": begun.encoder.weights.digest}
    about |= {"start_scores": begun.head.scores} | inputs_of(begun.inputs)
    return Manifest(
        head=task_of(begun.workspace).default_head,
        config=begun.head.config,
        classes=begun.supervision.classes,
        class_counts=tuple(begun.supervision.counts.tolist()),
        spec=EmbeddingSpec.of(encoder, poolings=poolings_read(begun.objective, config.pooling)),
        pooling=config.pooling,
        dataset_digest=dataset.digest(),
        split_digest=dataset.split_digest(),
        seed=config.seed,
        validation={},
        n_train=len(begun.rows.train),
        setup=asdict(begun.inputs.shares) | {"refit": False, "finetuned": about},
    )
