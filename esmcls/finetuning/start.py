"""What a fine-tuning begins with: the families, the encoder, and a linear head fitted on its frozen vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from esmcls.cache.embed import embed_into
from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import NOTHING, SetAside, Shares, set_aside
from esmcls.datasets.sampling import stratify
from esmcls.datasets.sampling_plan import Plan, by_size
from esmcls.encoders.adapters import Weights
from esmcls.encoders.devices import Precision, choose_precision
from esmcls.encoders.encoder import BUNDLED
from esmcls.encoders.esm2 import ESM2Encoder, check_layers, read_weights
from esmcls.encoders.model import ESM2
from esmcls.encoders.weights import ATTENTION
from esmcls.encoders.windows import parse_long
from esmcls.errors import UsageError, WorkspaceError
from esmcls.finetuning.model import FinetuneConfig, Tuned
from esmcls.finetuning.packing import Proteins
from esmcls.finetuning.task import Finetuning
from esmcls.heads.blocks import hold_out
from esmcls.heads.layers.linear import LinearConfig, LinearHead
from esmcls.labels.labels import Labels
from esmcls.reading.record_columns import Columns
from esmcls.training.processes import Replicas
from esmcls.workspace.workspace import Workspace

Say = Callable[[str], None]


@dataclass(frozen=True)
class Terms:
    """What is fine-tuned, and on what.

    Parameters
    ----------
    encoder : str
        As `load_encoder` takes ESM-2.
    layers : tuple of int, optional
        Layers side by side; default the encoder's own.
    long : str
        Strategy for sequences beyond the context.
    precision : {"auto", "fp32", "bf16", "fp16"}
        Of training; the tuned encoder is run in it too, but where that is fp16.
    families : int, optional
        The largest so many, by training sequences; default all.
    stratify : str, optional
        So many training sequences of each, such as 1000x200+4000x50; see `esmcls.datasets.sampling_plan.Plan`.
    shares : Shares
        What to set aside first, as in `fit_dataset`.
    adapters_only : bool
        Keep LoRA's adapters without the encoder they change.
    """

    encoder: str = BUNDLED
    layers: tuple[int, ...] | None = None
    long: str = "balanced"
    precision: str = "auto"
    families: int | None = None
    stratify: str | None = None
    shares: Shares = NOTHING
    adapters_only: bool = False


def choose_families(dataset: Dataset, families: int | None, plan: str | None, seed: int) -> tuple[Dataset, list[str]]:
    """Return the rows of the largest families in all parts, with train drawn by a plan, and what to tell of it.

    Raises
    ------
    UsageError
        If `families` is less than 2, or the plan cannot be read.
    """
    if families is not None and families < 2:
        raise UsageError(f"--families {families}: give at least 2")
    if families is None and plan is None:
        return dataset, []
    sizes = Counter(label for label, part in zip(dataset.labels, dataset.parts, strict=True) if part == "train")
    kept = set(by_size(sizes)[:families])
    dataset = dataset.take([row for row, label in enumerate(dataset.labels) if label in kept])
    if plan is None:
        return dataset, []
    source = Columns(dataset.ids, dataset.sequences, dataset.labels, list(dataset.parts))
    drawn = stratify(source, Plan.parse(plan), seed=seed, trained_only=True)
    return dataset.take(sorted(drawn.rows)), drawn.lines() + drawn.warnings()


@dataclass(frozen=True, eq=False)
class Start:
    """One fine-tuning, with what it is on and from.

    Parameters
    ----------
    workspace : Workspace
    config : FinetuneConfig
    terms : Terms
    replicas : Replicas
    weights : Weights
        Of the encoder.
    layers : tuple of int
    precision : {"fp32", "bf16", "fp16"}
        Of training.
    apart : SetAside
        The chosen rows, and what was set aside of them.
    train, held : Dataset
        To train on, and to validate on.
    """

    workspace: Workspace
    config: FinetuneConfig
    terms: Terms
    replicas: Replicas
    weights: Weights
    layers: tuple[int, ...]
    precision: Precision
    apart: SetAside
    train: Dataset
    held: Dataset

    @classmethod
    def of(cls, workspace: Workspace, config: FinetuneConfig, terms: Terms, replicas: Replicas, say: Say) -> Start:
        """Read the encoder and choose the rows.

        Raises
        ------
        WorkspaceError
            If there is nothing to train on.
        UsageError
            If the terms do not fit together.
        """
        if terms.adapters_only and config.method != "lora":
            raise UsageError(f"--adapters-only is for --method lora, not for {config.method}")
        data, told = choose_families(workspace.dataset, terms.families, terms.stratify, config.seed)
        apart = set_aside(data, terms.shares, config.seed)
        train, held = apart.kept.part("train"), apart.kept.part("validation")
        if not len(train):
            raise WorkspaceError(workspace.folder, "has no train part", "embed a labelled data set: esmcls embed INPUT")
        if not len(held):  # then the epoch is chosen on rows that are not trained on
            rows, kept_out = hold_out(Labels.from_names(train.labels).codes, config.seed)
            train, held = train.take(rows.tolist()), train.take(kept_out.tolist())
        for line in told if replicas.first else []:
            say(line)
        weights = read_weights(terms.encoder)
        layers = check_layers(terms.encoder, terms.layers or weights.layers or (weights.config.layers,), weights.config)
        precision = choose_precision(terms.precision, replicas.device)
        return cls(workspace, config, terms, replicas, weights, layers, precision, apart, train, held)

    @property
    def device(self) -> str:
        """This process's device."""
        return str(self.replicas.device)

    def encoder(self, name: str, state: Mapping[str, Tensor], digest: str | None = None) -> ESM2Encoder:
        """Open weights of the encoder's shape as `predict` will."""
        precision = "fp32" if self.precision == "fp16" else self.precision
        options: dict[str, Any] = {"layers": self.layers, "long": self.terms.long, "precision": precision}
        return ESM2Encoder(name, self.weights.config, state, **options, device=self.device, digest=digest)

    @property
    def pooling(self) -> str:
        """What the frozen vectors are pooled by: attention begins as the mean, unless the encoder has it already."""
        known = self.config.pooling != "attention" or ATTENTION in self.weights.state
        return self.config.pooling if known else "mean"

    def head(self) -> tuple[LinearHead, Labels, Labels]:
        """Fit the head that the output layer begins as, on frozen vectors, which the workspace's cache keeps."""
        encoder = self.encoder(self.terms.encoder, self.weights.state, self.weights.digest)
        pooling = self.pooling
        spec = EmbeddingSpec.of(encoder, poolings=(pooling,))
        if self.replicas.first:
            with self.workspace.cache_for(spec) as cache:
                embed_into(cache, encoder, [*self.train.sequences, *self.held.sequences])
        self.replicas.any(False)  # the others wait here for what the first embeds
        with EmbeddingCache.open(self.workspace.folder / "cache" / spec.key()) as cache:
            labels = Labels.from_names(self.train.labels)
            known = Labels.from_names(self.held.labels, labels.classes)
            validation = (Features.from_cache(cache, self.held), known) if len(self.held) else None
            none: dict[str, Any] = {} if self.config.start == "linear" else {"epochs": 0, "warm_start": False}
            head = LinearHead(LinearConfig(pooling=pooling, **none), self.device)
            return head.fit(Features.from_cache(cache, self.train), labels, validation, self.config.seed), labels, known

    def tuned(self, head: LinearHead) -> Tuned:
        """Return what is trained, as it begins."""
        model, attention = ESM2.of(self.weights.config, self.weights.state), self.weights.state.get(ATTENTION)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.config.seed)  # LoRA's A is drawn
            tuned = Tuned(model, head, self.layers, self.config, self.precision)
        if tuned.attention is not None and attention is not None:
            tuned.attention.weight.data.copy_(attention)
        return tuned

    def task(self, head: LinearHead, labels: Labels, known: Labels) -> Finetuning:
        """Return the training of it."""
        strategy, pooling = parse_long(self.terms.long), self.config.pooling
        proteins = Proteins(self.train.sequences, strategy, pooling, self.config.crop)
        held = (Proteins(self.held.sequences, strategy, pooling), known) if len(self.held) else None
        return Finetuning(self.tuned(head), proteins, labels, held, self.replicas)
