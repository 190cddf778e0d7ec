"""A head as two parts: an affine map of a vector, and what gives outputs of it. Only such heads say what residues add.

    vector v --> scaled u = (v - mean) · matrix, brought to one length where the head does --> outputs

The mean of the training vectors is the scaled vector 0, and so what a protein is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.cache.features import Features
from esmcls.heads.layers.linear import LinearHead
from esmcls.heads.layers.network import Network
from esmcls.heads.layers.number_mlp import NumberMLPHead
from esmcls.heads.layers.number_ridge import RidgeHead
from esmcls.heads.layers.ridge import Scaling
from esmcls.heads.layers.term_multitask import Tasks
from esmcls.heads.layers.trained import NetworkHead, TermNetworkHead
from esmcls.heads.neighbours.knn import KNNHead
from esmcls.heads.neighbours.number_knn import NumberKNNHead
from esmcls.heads.neighbours.term_knn import TermKNNHead
from esmcls.heads.whitening import Whitening
from esmcls.tasks.fitted import AnyHead

KNN_HEADS: Final = (KNNHead, NumberKNNHead, TermKNNHead)
"""Heads that keep the vectors of training proteins."""


@dataclass(frozen=True, eq=False)
class OpenedHead:
    """A head whose two parts can be looked at, on the CPU.

    Parameters
    ----------
    mean : float64 tensor, (width,)
    matrix : float64 tensor, (width, dims) or (width,)
        A diagonal one is given by its diagonal.
    one_length : bool
        Whether scaled vectors are brought to a mean square of 1.
    outputs : callable
        From scaled float64 rows (n, dims) to what is explained of each class, (n, classes).
    linear : bool
        Whether `outputs` is affine, so that contributions need no integral.
    pooling : str
        The pooled vectors that the head reads.
    of_inputs : bool
        Whether it reads a vector of each encoder input; of a protein that is a single one, that is the mean.
    """

    mean: Tensor
    matrix: Tensor
    one_length: bool
    outputs: Callable[[Tensor], Tensor]
    linear: bool
    pooling: str
    of_inputs: bool = False

    def factor(self, vector: Tensor) -> float:
        """Return what the centred, multiplied vector (width,) is multiplied by to be of the one length."""
        if not self.one_length:
            return 1.0
        return math.sqrt(len(vector)) / max(float(self._mapped(vector - self.mean).norm()), 1e-9)

    def scaled(self, vectors: Tensor) -> Tensor:
        """Scale float64 rows (n, width) to (n, dims); gradients pass."""
        mapped = self._mapped(vectors - self.mean)
        return F.normalize(mapped, eps=1e-9) * math.sqrt(vectors.shape[1]) if self.one_length else mapped

    def back(self, direction: Tensor) -> Tensor:
        """Return the weights (width,) of a vector's numbers, from those of its scaled numbers (dims,)."""
        return self.matrix * direction if self.matrix.dim() == 1 else self.matrix @ direction

    def _mapped(self, centred: Tensor) -> Tensor:
        return centred * self.matrix if self.matrix.dim() == 1 else centred @ self.matrix


def opened(head: AnyHead) -> OpenedHead | None:
    """Return the parts of a head; None where it is not made of such parts."""
    if isinstance(head, LinearHead):
        temperature = head.chosen.temperature or 1.0
        weight, bias = head.model.weight.double().cpu(), head.model.bias.double().cpu()
        outputs = partial(_affine, weight, bias, factor=1 / temperature)
        return OpenedHead(*_parts(head.scaling), outputs, True, head.config.pooling)
    if isinstance(head, RidgeHead):
        weight, bias = head.weight.double(), head.bias.double()
        outputs = partial(_affine, weight, bias, factor=head.scale.spread, shift=head.scale.centre)
        return OpenedHead(*_parts(head.scaling), outputs, True, head.config.pooling)
    if isinstance(head, NetworkHead) and isinstance(head.network, (Network, Tasks)):
        return _opened_network(head, head.network)
    return None


def opened_at_nearest(head: AnyHead, x: Features) -> OpenedHead | None:
    """Return the cosine with the training protein nearest to a single row, as the head kNN has it; None for others.

    The cosine is linear in the vector once its length is given, and so a sum over residues as a logit is.
    """
    if not isinstance(head, KNN_HEADS) or head.finder.search.metric != "cosine":
        return None
    finder = head.finder
    [[row]] = finder.whole(x.vectors(head.config.pooling), 1)[1]
    weight = torch.from_numpy(np.array(finder.search.rows()[row]))[None].double() / math.sqrt(finder.width)
    outputs = partial(_affine, weight, torch.zeros(1, dtype=torch.float64))
    return OpenedHead(*_parts(finder.whitening), outputs, True, head.config.pooling)


def _affine(weight: Tensor, bias: Tensor, scaled: Tensor, factor: float = 1.0, shift: float = 0.0) -> Tensor:
    return (scaled @ weight.T + bias) * factor + shift


def _parts(scaling: Scaling | Whitening) -> tuple[Tensor, Tensor, bool]:
    """Return mean, matrix, and whether vectors are brought to one length."""
    if isinstance(scaling, Whitening):
        return scaling.mean.double().cpu(), scaling.matrix.double().cpu(), True
    return scaling.mean.double().cpu(), 1 / scaling.deviation.double().cpu(), False


def _opened_network(head: NetworkHead[Any], network: Network | Tasks) -> OpenedHead:
    trunk = network.trunk if isinstance(network, Tasks) else network
    whitened = trunk.scale.dim() == 2
    scale = trunk.scale.double().cpu()
    knobs = head.chosen
    return OpenedHead(
        trunk.mean.double().cpu(),
        scale if whitened else 1 / scale,
        whitened,
        partial(_through, head, network),
        isinstance(network, Network) and not len(network.hidden),
        "mean" if knobs.attention else knobs.pooling,
        bool(knobs.attention),
    )


def _through(head: NetworkHead[Any], network: Network | Tasks, scaled: Tensor) -> Tensor:
    """Return the outputs of scaled rows; gradients pass."""
    trunk = network.trunk if isinstance(network, Tasks) else network
    out = trunk.out(trunk.hidden(scaled.to(trunk.mean.device, torch.float32)))
    logits = network.out(F.relu(out)) if isinstance(network, Tasks) else out
    return _calibrated(head, logits.double().cpu())


def _calibrated(head: NetworkHead[Any], logits: Tensor) -> Tensor:
    """Return logits as their softmax or sigmoid is taken, or numbers as they are predicted."""
    if isinstance(head, NumberMLPHead):
        return logits * head.scale.spread + head.scale.centre
    if isinstance(head, TermNetworkHead):
        slope = 1.0 if head.chosen.slope is None else head.chosen.slope
        return slope * logits + (head.chosen.shift or 0.0)
    temperature = getattr(head.chosen, "temperature", None)
    return logits / (temperature or 1.0)
