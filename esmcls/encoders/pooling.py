"""One vector of many residues: mean, cls, max, or attention that was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from esmcls.types import Residues, Vectors


def pool(vectors: Tensor, pooling: str) -> Tensor:
    """Pool one input with its BOS and EOS, (tokens, width) to (width,)."""
    if pooling == "cls":
        return vectors[0].clone()
    return vectors[1:-1].mean(0) if pooling == "mean" else vectors[1:-1].amax(0)


def attend(vectors: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of residues weighed by the softmax of their scores, (residues, width) to (width,).

    Examples
    --------
    >>> attend(torch.tensor([[0.0, 1.0], [4.0, 3.0]]), torch.zeros(2))
    tensor([2., 2.])
    """
    assert weight is not None
    return (vectors @ weight).softmax(0) @ vectors


def pool_joined(
    inputs: Sequence[Mapping[str, Vectors]], vectors: Residues | None, pooling: str, attention: Tensor | None = None
) -> Vectors:
    """Pool a sequence of one or several pooled inputs; `vectors` is (residues seen, width) where there are several."""
    if len(inputs) == 1 or vectors is None:
        return inputs[0][pooling]
    if pooling == "cls":
        cls: Vectors = np.mean([one["cls"] for one in inputs], axis=0)
        return cls
    if pooling == "attention" and attention is not None:
        return np.asarray(attend(torch.from_numpy(vectors), attention.cpu()).numpy(), dtype=np.float32)
    joined: Vectors = vectors.mean(axis=0, dtype=np.float64) if pooling == "mean" else vectors.max(axis=0)
    return joined
