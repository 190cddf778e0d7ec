"""Gradient descent on what a distogram asks of a trace, and on what a chain of residues must be."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmcls.structures.distogram import BINS, CENTRES, WIDTH
from esmcls.structures.folding.restraints import BOND, Restraints
from esmcls.types import Floats

CLASH: Final = 3.8
"""Å: CA atoms of more than two steps in the chain are hardly ever nearer."""
BOND_WEIGHT: Final = 50.0
CLASH_WEIGHT: Final = 10.0
HAND_WEIGHT: Final = 0.5


class Loss:
    """How badly a trace fulfils restraints.

    Parameters
    ----------
    restraints : Restraints
    device : str
        Of torch.
    """

    def __init__(self, restraints: Restraints, device: str = "cpu") -> None:
        def on_device(array: npt.NDArray[Any]) -> Tensor:
            return torch.from_numpy(array).to(device)

        self.device = device
        self.first, self.second = on_device(restraints.first), on_device(restraints.second)
        self.potentials = on_device(restraints.potentials.reshape(-1))
        self.offsets = torch.arange(len(restraints.first), device=device) * BINS
        self.apart = on_device(restraints.apart)
        self.bonded = on_device(restraints.bonded)
        self.turns = on_device(restraints.turns)
        self.volumes, self.variances = on_device(restraints.volumes), on_device(restraints.variances)

    def likelihood(self, distance: Tensor) -> Tensor:
        """Return -log density at the distance of each pair, linear between the middles of bins, (pairs,)."""
        place = ((distance - float(CENTRES[0])) / WIDTH).clamp(0, BINS - 1)
        low = place.detach().floor().clamp(max=BINS - 2)
        at = self.offsets + low.long()
        below, above = (self.potentials.index_select(0, places) for places in (at, at + 1))
        return below + (place - low) * (above - below)

    def __call__(self, places: Tensor, handed: bool) -> Tensor:
        """Return the loss of a trace, a pair; how it turns counts if `handed`, else mirror images are alike."""
        columns = places.T  # index_select of columns has the quickest gradient
        between = columns.index_select(1, self.first) - columns.index_select(1, self.second)  # (3, pairs)
        distance = between.square().sum(0).clamp(min=1e-6).sqrt()
        total = self.likelihood(distance).sum()
        total = total + CLASH_WEIGHT * ((CLASH - distance).clamp(min=0).square() * self.apart).sum()
        bonds = places[1:] - places[:-1]
        length = bonds[self.bonded].square().sum(1).clamp(min=1e-6).sqrt()
        total = total + BOND_WEIGHT * (length - BOND).square().sum()
        if handed and len(self.turns):
            at = self.turns
            volume = (torch.linalg.cross(bonds[at], bonds[at + 1]) * bonds[at + 2]).sum(1)
            total = total + HAND_WEIGHT * ((volume - self.volumes).square() / self.variances).sum()
        return total / max(1, len(self.offsets))


def descend(loss: Loss, places: Floats, steps: int, handed: bool) -> tuple[Floats, float]:
    """Return places of less loss, and their loss a pair."""
    x = torch.tensor(places, dtype=torch.float32, device=loss.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [x], max_iter=steps, history_size=20, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(x, handed)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        final = float(loss(x, handed))
    return x.detach().cpu().numpy().astype(np.float64), final
