"""Gradient descent on what a distogram asks of a trace, and on what a chain of residues must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from esmcls.structures.distogram import BINS, CENTRES, WIDTH
from esmcls.structures.folding.restraints import BOND, Restraints
from esmcls.types import Floats

CLASH: Final = 3.8
"""Å: CA atoms of more than two steps in the chain are hardly ever nearer."""
HELIX_VOLUME: Final = 27.0
"""Å³: (b1 x b2) . b3 of the three bonds of four residues in a right-handed alpha helix; a left-handed one has -27."""
BOND_WEIGHT: Final = 50.0
CLASH_WEIGHT: Final = 10.0
HELIX_WEIGHT: Final = 20.0


@dataclass(frozen=True, eq=False)
class Loss:
    """How badly a trace fulfils restraints.

    Parameters
    ----------
    restraints : Restraints
    device : str
        Of torch.
    """

    restraints: Restraints
    device: str = "cpu"

    def __post_init__(self) -> None:
        restraints = self.restraints

        def on_device(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(self.device)

        object.__setattr__(self, "_first", on_device(restraints.first))
        object.__setattr__(self, "_second", on_device(restraints.second))
        object.__setattr__(self, "_potentials", on_device(restraints.potentials.reshape(-1)))
        object.__setattr__(self, "_offsets", torch.arange(len(restraints.first), device=self.device) * BINS)
        object.__setattr__(self, "_apart", on_device(restraints.apart))
        object.__setattr__(self, "_bonded", on_device(restraints.bonded))
        object.__setattr__(self, "_helical", on_device(restraints.helical))
        object.__setattr__(self, "_certainty", on_device(restraints.certainty))

    def likelihood(self, distance: Tensor) -> Tensor:
        """Return -log density at the distance of each pair, linear between the middles of bins, (pairs,)."""
        place = ((distance - float(CENTRES[0])) / WIDTH).clamp(0, BINS - 1)
        low = place.detach().floor().clamp(max=BINS - 2)
        at = self._offsets + low.long()
        below, above = self._potentials[at], self._potentials[at + 1]
        return below + (place - low) * (above - below)

    def __call__(self, places: Tensor, handed: bool) -> Tensor:
        distance = (places[self._first] - places[self._second]).square().sum(1).clamp(min=1e-6).sqrt()
        total = self.likelihood(distance).sum()
        total = total + CLASH_WEIGHT * ((CLASH - distance).clamp(min=0).square() * self._apart).sum()
        bonds = places[1:] - places[:-1]
        length = bonds[self._bonded].square().sum(1).clamp(min=1e-6).sqrt()
        total = total + BOND_WEIGHT * (length - BOND).square().sum()
        if handed and len(self._helical):
            at = self._helical
            volume = (torch.linalg.cross(bonds[at], bonds[at + 1]) * bonds[at + 2]).sum(1) / HELIX_VOLUME
            total = total + HELIX_WEIGHT * (self._certainty * (volume - 1).square()).sum()
        return total / max(1, len(places))


def descend(loss: Loss, places: Floats, steps: int, handed: bool) -> tuple[Floats, float]:
    """Return places of less loss, and their loss a residue."""
    x = torch.tensor(places, dtype=torch.float32, device=loss.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([x], max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(x, handed)
        value.backward()
        return value

    optimizer.step(closure)
    with torch.no_grad():
        final = float(loss(x, handed))
    return x.detach().cpu().numpy().astype(np.float64), final
