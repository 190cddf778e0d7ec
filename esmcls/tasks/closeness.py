"""How near proteins are to those that a model was trained on: all of them in bins, and the nearest of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esmcls.reporting.results import Closeness, Leakage
from esmcls.types import Indices

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Nearness:
    """The bin of each of n test proteins by how near it is to its nearest training protein.

    Parameters
    ----------
    measured_by : str
        A sentence.
    names : tuple of str
        Of the bins, the farthest first.
    places : int64 array, (n,)
        The bin of each; -1 of a protein that was not looked at.
    relatives : int64 array, (n,), optional
        Training proteins that each aligns with, where they were counted; -1 of one that was not looked at.
    """

    measured_by: str
    names: tuple[str, ...]
    places: Indices
    relatives: Indices | None = None

    def leakage(self, scores: Mapping[str, Callable[[Flags], float | None]]) -> Leakage:
        """Return what models reach in each bin; `scores` is from a model's name to its score on some proteins.

        Examples
        --------
        >>> right = np.array([True, False, True])
        >>> near = Nearness("By identity.", ("< 30 %", "≥ 30 %"), np.array([0, 0, 1]))
        >>> [(part.name, part.n, part.scores) for part in near.leakage({"knn": lambda rows: right[rows].mean()}).bins]
        [('< 30 %', 2, {'knn': 0.5}), ('≥ 30 %', 1, {'knn': 1.0})]
        """
        bins = []
        for place, name in enumerate(self.names):
            rows = self.places == place
            known = bool(rows.any())
            reached = {model: _plain(score(rows)) if known else None for model, score in scores.items()}
            bins.append(Closeness(name, int(rows.sum()), reached))
        return Leakage(self.measured_by, bins)


def _plain(score: float | None) -> float | None:
    return None if score is None else float(score)


@dataclass(frozen=True)
class Neighbour:
    """The training protein that one is nearest to.

    Parameters
    ----------
    id, label : str
    similarity : float
        As `Neighbours.measure` says.
    """

    id: str
    label: str
    similarity: float


@dataclass(frozen=True)
class Neighbours:
    """The nearest training protein of each of some proteins, None where nothing is known of it.

    Parameters
    ----------
    measure : str
        What similarities are; empty where none is known.
    nearest : list of Neighbour or None
    """

    measure: str
    nearest: list[Neighbour | None]
