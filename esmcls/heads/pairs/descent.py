"""The training of the pair head: a crop of each of some chains a step, one crop in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.heads.layers.descent import BaseDescent
from esmcls.heads.pairs.config import PairsConfig
from esmcls.heads.pairs.crops import crop_of
from esmcls.heads.pairs.losses import Pairs, bins_of, expected, folded_error, known_pairs, lddt_of_pairs
from esmcls.heads.pairs.network import PairNetwork
from esmcls.heads.pairs.reading import Chain
from esmcls.training.loop import Backward, Entry
from esmcls.training.losses import ShuffledSampler
from esmcls.types import Coordinates, Indices

ReadChains = Callable[[Indices], list[tuple[Chain, Coordinates]]]
"""Reads the chains of some rows, with the traces of their whole sequences."""
ReadMaps = Callable[[str], Iterator[Tensor]]
"""Gives the attention maps of a sequence, layer by layer, (heads, seen, seen)."""


@dataclass(frozen=True, eq=False)
class Crop:
    """The part of a chain that a step sees: the chain, which of its residues seen, and their trace (crop, 3) in Å."""

    chain: Chain
    places: Tensor
    trace: Tensor


class PairDescent(BaseDescent):
    """The task of the training loop: the mean over the crops of a step of the mean loss over their known pairs."""

    def __init__(
        self, network: PairNetwork, read: ReadChains, sampler: ShuffledSampler, knobs: PairsConfig,
        autocast: Callable[[], torch.autocast], *, seed: int, read_maps: ReadMaps | None = None,
    ) -> None:  # fmt: skip
        super().__init__(network, sampler, knobs, network.groups())
        self.network = network
        self.read = read
        self.read_maps = read_maps
        self.knobs = knobs
        self.autocast = autocast
        self.seed = seed
        self.device = network.mean.device

    def accumulate(self, step: int, backward: Backward) -> Entry:
        """Run the crops of a step; return their mean losses."""
        crops = self.crops(step)
        entry: Entry = {}
        for crop in crops:
            losses = self.losses(crop)
            backward(torch.stack(list(losses.values())).sum() / len(crops))
            for name, loss in losses.items():
                entry[name] = entry.get(name, 0.0) + loss.item() / len(crops)
        return entry

    def crops(self, step: int) -> list[Crop]:
        """Draw the crops of a step; what is drawn depends on the seed and the step alone."""
        generator = np.random.default_rng([self.seed, 1, step])
        crops = []
        for chain, trace in self.read(self.sampler.rows(step)):
            places = crop_of(len(chain.positions), self.knobs.crop, self.knobs.two, generator)
            seen = torch.from_numpy(trace[chain.positions[places]])
            crops.append(Crop(chain, torch.from_numpy(places).to(self.device), seen.to(self.device)))
        return crops

    def losses(self, crop: Crop) -> dict[str, Tensor]:
        """Return the cross-entropy of a crop's distogram, the squared error of its confidence, and its FAPE if any."""
        pairs = known_pairs(crop.trace)
        logits, confidence, positions = self._outputs(crop, pairs)
        shares = logits.log_softmax(-1)  # (pairs, 64)
        if not len(shares):
            return {"loss": shares.sum()}  # no pair is known
        losses = {"loss": -shares.gather(1, bins_of(pairs.distance)[:, None]).mean()}
        with torch.no_grad():
            reached = lddt_of_pairs(expected(shares.exp()), pairs, len(positions))
        has = ~torch.isnan(reached)
        if has.any():
            losses["confidence_loss"] = F.mse_loss(confidence[has].sigmoid(), reached[has])
        if self.knobs.fape:
            losses["fape"] = self.knobs.fape * folded_error(expected(shares.exp()), pairs, crop.trace, positions)
        return losses

    def _outputs(self, crop: Crop, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits of known pairs (pairs, 64) and of confidence (crop,), and the crop's positions (crop,)."""
        positions = torch.from_numpy(crop.chain.positions).to(self.device)[crop.places]
        maps: Iterator[Tensor] = iter(())
        if self.read_maps is not None:
            layers = self.read_maps(crop.chain.sequence)
            maps = (layer.to(self.device)[:, crop.places[:, None], crop.places] for layer in layers)
        with self.autocast():
            x = self.network.standardised(crop.chain.vectors.to(self.device))
            x = x + self.knobs.noise * torch.randn_like(x)
            h = self.network.residues(x)[crop.places]
            features = self.network.pairs(h, positions, crop.chain.length, maps)
            logits = self.network.logits(
                features[pairs.first, pairs.second], positions[pairs.second] - positions[pairs.first]
            )
            return logits, self.network.confidence(h, features), positions
