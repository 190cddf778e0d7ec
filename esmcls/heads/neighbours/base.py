"""What heads of nearest neighbours share, whatever their labels: the knobs of the search, and who is nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from esmcls.cache.features import Features
from esmcls.heads.base import HeadFrame, L
from esmcls.heads.blocks import checked_vectors
from esmcls.heads.neighbours.finder import Finder, Nearness
from esmcls.heads.neighbours.search import Engine
from esmcls.heads.settings import ABOVE_0, AT_LEAST_1, FROM_0_TO_1, PooledConfig, check_ranges
from esmcls.types import Vectors


@dataclass(frozen=True)
class NeighbourConfig(PooledConfig):
    """Knobs of every head of nearest neighbours; None is chosen on validation.

    Parameters
    ----------
    whiten : bool
        Whiten by the covariance of all training rows; else only the mean is subtracted. When to change: the
        length of a vector tells something, as with counts.
    shrinkage : float, optional
        Of the covariance that rows are whitened by towards a multiple of the identity, 0 to 1. When to change: a
        fit is to be repeated with what another chose.
    k : int, optional
        Neighbours that are asked. When to change: there is no validation part.
    temperature : float, optional
        A neighbour weighs exp(nearness / temperature). When to change: the nearest one is to decide (lower it),
        or all k alike (raise it).
    engine : {"auto", "faiss", "torch"}
        What searches; the answers are the same up to ties. When to change: the one that is chosen is slow on
        your machine.
    """

    whiten: bool = True
    shrinkage: float | None = None
    k: int | None = None
    temperature: float | None = None
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        check_ranges(self, {"shrinkage": FROM_0_TO_1, "k": AT_LEAST_1, "temperature": ABOVE_0})


class NeighbourHead(HeadFrame[L], Generic[L]):
    """A head of nearest neighbours among the vectors of training rows."""

    config: NeighbourConfig
    finder: Finder

    def _checked(self, x: Features) -> Vectors:
        return checked_vectors(x, self.config.pooling, self.finder.width)

    def nearest(self, x: Features) -> tuple[Nearness, list[str | None]]:
        """Return the distance of the nearest training row, float32 (n,), and its id; see `Finder.nearest`."""
        return self.finder.nearest(self._checked(x))
