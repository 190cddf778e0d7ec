"""The linear head for many labels: a logistic regression a class on whitened rows, warm-started by ridge regression."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
import torch
from torch import Tensor, nn

from esmcls.heads.layers.network import Bags, Network
from esmcls.heads.layers.ridge import TermRidge
from esmcls.heads.layers.trained import HeldBags, TermNetworkConfig, TermNetworkHead, first_rows
from esmcls.heads.settings import Ranges, check_ranges
from esmcls.labels.labels import LabelSets
from esmcls.training.term_losses import binary_cross_entropy, group_losses

POWER: Final = 0.3
"""The ridge regression's answer for a class of share p goes over (p (1 - p))^POWER: at 0 it is as it is, at 1 it is the
slope of the logit; between, a class with few members is neither lost nor blown up. Chosen on validation."""
SCALES: Final = (1.0, 2.0, 4.0, 8.0)
"""Factors that then make logits of it."""
_RANGES: Final[Ranges] = {"ridge": (1e-9, 1e9), "scale": (0, 1e9)}


@dataclass(frozen=True)
class TermLinearConfig(TermNetworkConfig):
    """Knobs of the linear head besides those of `esmcls.heads.layers.trained.TermNetworkConfig`.

    Parameters
    ----------
    warm_start : bool
        Begin at the closed-form ridge regression instead of at the share of each class. When to change: the
        ridge regression takes too long, as with many thousand numbers a vector.
    ridge : float
        Its penalty, in mean eigenvalues of XᵀX. When to change: there are few training rows: raise it to 1.
    scale : float, optional
        Its outputs times this are added to the first logits. When to change: a fit is to be repeated with what
        another chose.
    """

    lr: float = 2e-3
    epochs: int = 6
    warm_start: bool = True
    ridge: float = 0.1
    scale: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, _RANGES)

    @property
    def hidden(self) -> int:
        """Width of hidden layers, of which there are none."""
        return 0

    @property
    def depth(self) -> int:
        """Hidden layers: none."""
        return 0

    @property
    def norm(self) -> str:
        """The norm of a hidden layer: none."""
        return "none"


class TermLinearHead(TermNetworkHead):
    """One logistic regression a class.

    Examples
    --------
    >>> import numpy as np
    >>> from esmcls.cache.features import Features
    >>> from esmcls.labels.labels import LabelSets
    >>> x = Features.from_arrays(np.array([[0, 1], [0, 2], [5, 1], [5, 2]] * 5, dtype=np.float32))
    >>> labels = LabelSets.from_names([["a"], ["a", "c"], ["b"], ["b", "c"]] * 5)
    >>> (TermLinearHead().fit(x, labels).predict_proba(x.take(range(4))) > 0.5).tolist()
    [[True, False, False], [True, False, True], [False, True, False], [False, True, True]]
    """

    Config: ClassVar[type[TermLinearConfig]] = TermLinearConfig
    file: ClassVar[str] = "linear.safetensors"
    network: Network
    config: TermLinearConfig
    chosen: TermLinearConfig

    def _drawn(self, width: int, seed: int) -> Network:
        network = Network.drawn(width, len(self.classes), self.config, seed)
        nn.init.zeros_(network.out.weight)
        return network

    def _begin(self, bags: Bags, labels: LabelSets, held: HeldBags[LabelSets] | None) -> None:
        """Begin at the share of each class, plus a ridge regression's distance from it, in deviations of sorts."""
        super()._begin(bags, labels, held)
        if not self.chosen.warm_start:
            return
        places = torch.from_numpy(self.grouping.places)
        known = self._known(labels)
        ridge = TermRidge.of(bags.vectors, labels, known, places, self._trunk.standardised, self.device)
        weight, bias = (part.to(self.device) for part in ridge.solve(self.chosen.ridge))
        share = self._out.bias.sigmoid()
        factor = (share * (1 - share)) ** -POWER
        start = [factor[:, None] * weight, factor * bias, self._out.bias.clone()]
        if held is not None and self.chosen.scale is None:
            self.chosen = replace(self.chosen, scale=self._choose_scale(start, held))
        self._set(start, SCALES[1] if self.chosen.scale is None else self.chosen.scale)

    def _set(self, start: list[Tensor], scale: float) -> None:
        weight, bias, prior = start
        with torch.no_grad():
            self._out.weight.copy_(weight).mul_(scale)
            self._out.bias.copy_(bias).mul_(scale).add_(prior)

    def _choose_scale(self, start: list[Tensor], held: HeldBags[LabelSets]) -> float:
        """Return the factor with the least cross-entropy on held rows."""
        judged = first_rows(held)
        losses = []
        for scale in SCALES:
            self._set(start, scale)
            parts = (
                group_losses(binary_cross_entropy(logits, targets), self.members, known).sum() * len(logits)
                for logits, targets, known in self._judged(judged)
            )
            losses.append(float(sum(parts)))
        return SCALES[int(np.argmin(losses))]
