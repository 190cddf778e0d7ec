"""The pair head: a network from the vectors of residues to a distogram, trained on crops of chains."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from esmcls.cache.features import Features
from esmcls.encoders.devices import LOG, choose_precision
from esmcls.errors import WidthMismatchError
from esmcls.heads.contract import Log, Validation
from esmcls.heads.layers.network import read_network, shape_in
from esmcls.heads.pairs.base import BasePairHead
from esmcls.heads.pairs.config import PairsConfig
from esmcls.heads.pairs.descent import PairDescent, ReadMaps
from esmcls.heads.pairs.network import PairNetwork, prior_of
from esmcls.heads.pairs.reading import Chain, Moments, chains, upper_values
from esmcls.heads.pairs.separation import count_distances
from esmcls.heads.saved_tensors import write_state
from esmcls.labels.structure_labels import Structures
from esmcls.structures.distogram import PairAnswer
from esmcls.training.loop import run
from esmcls.training.losses import ShuffledSampler
from esmcls.training.schedule import TrainingPlan
from esmcls.types import Coordinates, Indices

FILE: Final = "pairs.safetensors"
MEASURED: Final = 1000
"""Training chains that the mean and deviation of vectors, and the mean distribution by separation, are taken from."""
MEASURED_MAPS: Final = 50
"""Those that the deviations of attention maps are taken from."""
CHECKPOINT_EVERY: Final = 100
"""Steps between checkpoints."""
TIMED: Final = 20
"""Steps by which the time that a training takes is estimated."""
WARMUP: Final = 200
"""Steps of linear rise to the peak rate, at most."""


class PairsHead(BasePairHead):
    """A convolutional network over pairs of residues: how far apart they lie, and how sure that is.

    `checkpoints` is the folder of checkpoints of a training, of which the same fit goes on where it was killed.
    """

    Config: ClassVar[type[PairsConfig]] = PairsConfig
    config: PairsConfig
    chosen: PairsConfig
    network: PairNetwork
    checkpoints: Path | None = None

    @property
    def needs_vectors(self) -> bool:
        """Whether vectors are read: not where letters are."""
        return not self.config.letters

    def _fit(
        self, x: Features, labels: Structures, validation: Validation[Structures], seed: int, log: Log | None
    ) -> None:
        self._train(x, labels, validation, seed, log)
        self.scores = self._score(*validation)

    def _refit(self, x: Features, labels: Structures, seed: int, log: Log | None) -> None:
        self._train(x, labels, None, seed, log)

    def _train(
        self, x: Features, labels: Structures, held: Validation[Structures] | None, seed: int, log: Log | None
    ) -> None:
        """Fit with what is chosen; choose on the held proteins when to stop."""
        self._draw(x, labels, seed)
        knobs = self.chosen
        descent = self._descent(x, labels, seed)
        epoch = descent.sampler.steps_an_epoch
        plan = TrainingPlan(
            knobs.epochs * epoch, knobs.lr, warmup=min(epoch, WARMUP), clip=1.0, seed=seed, average=knobs.average
        )
        until = None
        if held is not None and knobs.stop is None:
            descent.measure = lambda: self._measured(held, log)
            plan = replace(plan, validate_every=epoch, patience=knobs.patience)
        elif knobs.stop is not None:
            until = knobs.stop * epoch
        about = self._about(x, labels, held)
        checkpoint = self._checkpoint(about, seed)
        plan = replace(plan, checkpoint_every=CHECKPOINT_EVERY if checkpoint is not None else 0)
        timed = None if log is None else estimating(log, plan.steps if until is None else until)
        history = run(descent, plan, checkpoint=checkpoint, resume=True, log=timed, until=until, about=about)
        if held is not None and knobs.stop is None:
            self.chosen = replace(self.chosen, stop=max(1, history.best_step // epoch))
        self.network.eval().requires_grad_(False)

    def _descent(self, x: Features, labels: Structures, seed: int) -> PairDescent:
        """Return the training for the loop."""
        knobs = self.chosen

        def read(rows: Indices) -> list[tuple[Chain, Coordinates]]:
            read_chains = chains(x.take(rows), letters=knobs.letters, width=len(self.network.mean))
            return [(chain, labels.row(row)) for row, chain in zip(rows.tolist(), read_chains, strict=True)]

        return PairDescent(
            self.network,
            read,
            ShuffledSampler(len(x), knobs.batch, seed),
            knobs,
            self._autocast,
            seed=seed,
            read_maps=self._maps(x),
        )

    def _maps(self, x: Features, maps: int | None = None) -> ReadMaps | None:
        """Return what gives the attention maps of a sequence, where they are read.

        Raises
        ------
        WidthMismatchError
            If there are not as many as were trained on.
        """
        if not self.config.attention:
            return None
        encoder = x.attending()
        if maps is not None and encoder.attention_heads != maps:
            raise WidthMismatchError(maps, encoder.attention_heads)
        return encoder.attention_maps

    def _measured(self, held: Validation[Structures], log: Log | None) -> float:
        """Return the score on held proteins that decides between epochs: the lower the cross-entropy, the higher."""
        scores = self._score(*held)
        if log is not None:
            log(scores)
        return -scores["loss"]

    def _about(self, x: Features, labels: Structures, held: Validation[Structures] | None) -> str:
        """Return a digest of all that decides a training besides its plan."""
        digest = hashlib.sha256(json.dumps(asdict(self.chosen), sort_keys=True).encode())
        for features, structures in [(x, labels), *([] if held is None else [held])]:
            spec = None if features.spec is None else features.spec.digest
            digest.update(json.dumps([spec, features.sequences]).encode())
            digest.update(structures.places.tobytes())
        return digest.hexdigest()

    def _checkpoint(self, about: str, seed: int) -> Path | None:
        """Return the file of a training's checkpoint, if there are any; say so where it goes on from one."""
        if self.checkpoints is None:
            return None
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        checkpoint = self.checkpoints / f"{about[:16]}-{seed}.checkpoint"
        if checkpoint.exists():
            LOG.warning("the fit goes on from its checkpoint %s", checkpoint)
        return checkpoint

    def _autocast(self) -> torch.autocast:
        """Return the precision that the network is run in."""
        device = torch.device(self.device)
        in_bf16 = choose_precision(self.config.precision, device) == "bf16"
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_bf16)

    def _draw(self, x: Features, labels: Structures, seed: int) -> None:
        """Make the network, with what is measured on some training proteins."""
        rows = np.random.default_rng(seed).permutation(len(x))[:MEASURED]
        residues, pairs = Moments(), Moments()
        for chain in chains(x.take(np.sort(rows)), letters=self.config.letters):
            residues.add(chain.vectors)
        maps = 0
        if (read_maps := self._maps(x)) is not None:
            for row in islice(rows.tolist(), MEASURED_MAPS):
                pairs.add(upper_values(read_maps(x.sequences[row])).cpu())
            maps = len(pairs.deviation)
        self.network = PairNetwork.drawn(len(residues.mean), self.config.shape(maps), seed)
        self.network.mean.copy_(residues.mean)
        self.network.scale.copy_(residues.deviation)
        self.network.prior.copy_(prior_of(count_distances(labels.take(np.sort(rows)))))
        if maps:
            self.network.map_scale.copy_(pairs.deviation)
        self.network.to(self.device).train()

    def per_protein(self, x: Features) -> Iterator[PairAnswer]:
        """Give what is said of each protein, one in memory at a time."""
        read_maps = self._maps(x, len(self.network.map_scale))
        for chain in chains(x, letters=self.config.letters, width=len(self.network.mean)):
            yield self._answer(chain, read_maps)

    def _answer(self, chain: Chain, read_maps: ReadMaps | None) -> PairAnswer:
        network = self.network
        positions = torch.from_numpy(chain.positions).to(self.device)
        maps = (layer.to(self.device) for layer in read_maps(chain.sequence)) if read_maps else iter(())
        with torch.inference_mode(), self._autocast():
            h = network.residues(network.standardised(chain.vectors.to(self.device)))
            features = network.pairs(h, positions, chain.length, maps)
            confidence = network.confidence(h, features).sigmoid()
            distogram = network.distogram(features, positions)
        return PairAnswer(chain.positions, distogram.cpu().numpy(), confidence.cpu().numpy(), chain.length)

    def save(self, folder: Path) -> None:
        """Write the state of the network as safetensors."""
        write_state(folder / FILE, self.network.state_dict())

    def _restore(self, folder: Path) -> None:
        self.network = read_network(folder / FILE, self._of_state, self.device)

    def _of_state(self, state: dict[str, Tensor]) -> PairNetwork:
        [maps] = shape_in(state, "map_scale", 1)
        return PairNetwork.of_state(state, self.config.shape(maps))


def estimating(log: Log, steps: int) -> Log:
    """Return a log that says, too, how many seconds the rest of so many steps will take, once some are done."""
    begun, done = time.perf_counter(), 0

    def tell(entry: dict[str, float]) -> None:
        nonlocal done
        done += 1
        log(entry)
        if done == TIMED:
            log({"estimated_seconds": (time.perf_counter() - begun) / TIMED * (steps - entry["step"])})

    return tell
