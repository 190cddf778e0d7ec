"""Terms carried over from training rows to others: a weighted mean of what they have, by sparse products of blocks.

A row's probability of a term is the share of weight that lies with neighbours that have it, among those that have any
term of its aspect. One neighbour more, the prior, has each term by its share of such training rows: no probability is 0
where a term is known, and a row without neighbours has the prior alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from scipy.sparse import csr_matrix

from esmcls.errors import ModelError
from esmcls.heads.blocks import TermBlocks, row_slices, score_terms
from esmcls.heads.contract import Log
from esmcls.heads.saved_tensors import AGAIN, check_codes, read_tensors
from esmcls.heads.settings import Settings
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import group_codes
from esmcls.types import Indices, Probabilities

Numbers: TypeAlias = npt.NDArray[np.floating]
Config = TypeVar("Config", bound=Settings)

HELD_MOST = 3000
"""Held rows that choices are made on at most: each choice asks for all their terms."""


@dataclass(frozen=True, eq=False)
class Known:
    """The labels of training rows, to be carried over to others.

    Parameters
    ----------
    labels : LabelSets

    Examples
    --------
    >>> known = Known(LabelSets.from_names([["a"], ["a", "b"], ["b"], ["c"]]))
    >>> rows, weights = np.array([[0, 1], [3, -1], [-1, -1]]), np.array([[3.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    >>> known.carried(rows, weights, np.array([0.0, 1.0, 0.0])).tolist()
    [[1.0, 0.25, 0.0], [0.25, 0.25, 0.625], [0.5, 0.5, 0.25]]
    """

    labels: LabelSets

    @cached_property
    def matrix(self) -> csr_matrix:
        """Ones where a row has a class, float32 (n, classes)."""
        ones = np.ones(len(self.labels.codes), dtype=np.float32)
        return csr_matrix((ones, self.labels.codes, self.labels.offsets), (len(self.labels), self.labels.n_classes))

    @cached_property
    def place(self) -> Indices:
        """The group of each class, (classes,)."""
        return group_codes(self.labels)[1]

    @cached_property
    def voters(self) -> npt.NDArray[np.float32]:
        """Ones where a row has a class of a group, (n, groups)."""
        owners = np.repeat(np.arange(len(self.labels)), self.labels.sizes())
        ones = np.zeros((len(self.labels), len(group_codes(self.labels)[0])), dtype=np.float32)
        ones[owners, self.place[self.labels.codes]] = 1
        return ones

    @cached_property
    def shares(self) -> npt.NDArray[np.float32]:
        """The share of each class among the rows that have any of its group, (classes,)."""
        voters = np.maximum(self.voters.sum(0), 1)[self.place]
        return np.asarray(self.labels.counts() / voters, dtype=np.float32)

    def carried(self, neighbours: Indices, weights: Numbers, prior: Numbers) -> Probabilities:
        """Return the mean over neighbours and the prior of what they have, float32 (rows, classes).

        A neighbour without a class of a group, an aspect, says nothing of that group.

        Parameters
        ----------
        neighbours : int64 array, (rows, k)
            Training rows; -1 where there is none.
        weights : float array, (rows, k)
            At least 0; 0 there.
        prior : float array, (rows,)
            Weight of the prior; where nothing weighs, it is all.
        """
        there = neighbours >= 0
        most = np.maximum(weights.max(1, initial=0), prior)
        scale = np.where(most > 0, most, 1)  # so that float32 holds them
        ends = np.concatenate([[0], np.cumsum(there.sum(1))])
        scaled = (weights / scale[:, None])[there].astype(np.float32)
        shares = csr_matrix((scaled, neighbours[there], ends), (len(neighbours), len(self.labels)))
        voted = shares @ self.voters  # (rows, groups)
        left = np.where(voted + (prior / scale)[:, None] > 0, (prior / scale)[:, None], 1).astype(np.float32)
        out = (shares @ self.matrix).toarray()
        for group in range(voted.shape[1]):
            columns = np.flatnonzero(self.place == group)
            part = out[:, columns] + left[:, [group]] * self.shares[columns]
            out[:, columns] = part / (voted + left)[:, [group]]
        return np.asarray(np.minimum(out, 1, out=out))

    def save(self, folder: Path) -> None:
        """Write `terms.safetensors` (offsets, codes int64)."""
        save_file({"offsets": self.labels.offsets, "codes": self.labels.codes}, folder / "terms.safetensors")

    @classmethod
    def load(cls, folder: Path, classes: tuple[str, ...], groups: tuple[str, ...]) -> Known:
        """Read what `save` wrote."""
        path = folder / "terms.safetensors"
        state = read_tensors(path, {"offsets": ("int64", "offsets"), "codes": ("int64", "codes")})
        offsets = state["offsets"].numpy()
        codes = check_codes(path, state["codes"].numpy(), len(classes))
        try:
            return cls(LabelSets(classes, offsets, codes, groups))
        except ValueError as error:
            raise ModelError(path, f"is damaged ({error})", AGAIN) from None


def settled(config: Config, defaults: dict[str, Any]) -> Config:
    """Return a configuration with a default for each knob that is open."""
    missing = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    return replace(config, **missing)


class Choice(Generic[Config]):
    """Knobs that are tried on held rows, some after others, the rest as they are; of equals the first is taken.

    Parameters
    ----------
    start : frozen dataclass
        A configuration without open knobs.
    truth : LabelSets
        Of the held rows.
    blocks : callable
        From a configuration to the probabilities of the held rows.
    log : callable, optional
        Told what each trial gives.
    """

    def __init__(
        self, start: Config, truth: LabelSets, blocks: Callable[[Config], TermBlocks], log: Log | None = None
    ) -> None:
        self.best = start
        self.truth = truth
        self.blocks = blocks
        self.log = log
        self.fmax = -1.0

    def among(self, **knobs: Sequence[Any]) -> None:
        """Try all combinations of values of some knobs."""
        for config, fmax in self._tried(knobs):
            if fmax > self.fmax:
                self.best = config
                self.fmax = fmax

    def fewest(self, trifle: float, **knob: Sequence[Any]) -> None:
        """Try the rising values of a knob that costs time, and take the first that is within a trifle of the best."""
        trials = list(self._tried(knob))
        best = max(fmax for _, fmax in trials)
        self.best, self.fmax = next((config, fmax) for config, fmax in trials if fmax >= best - trifle)

    def _tried(self, knobs: dict[str, Sequence[Any]]) -> Iterator[tuple[Config, float]]:
        """Give what each combination of values reaches, the other knobs as they are now."""
        start = self.best
        for values in itertools.product(*knobs.values()):
            settings = dict(zip(knobs, values, strict=True))
            config = replace(start, **settings)
            fmax = score_terms(self.truth, self.blocks(config))["fmax"]
            if self.log is not None:
                self.log({**{name: float(value) for name, value in settings.items()}, "fmax": fmax})
            yield config, fmax


class NearnessVotes(Protocol):
    """The knobs by which near training rows vote, all of them settled."""

    @property
    def k(self) -> int | None: ...
    @property
    def temperature(self) -> float | None: ...
    @property
    def background(self) -> float | None: ...


def carried_by_nearness(
    known: Known, votes: NearnessVotes, nearness: npt.NDArray[np.float32], training_rows: Indices
) -> TermBlocks:
    """Give blocks of probabilities from the nearest rows, both (n, at least k).

    A row of nearness s weighs exp(s / temperature); one more, of the background's nearness, has the prior.
    """
    k = votes.k or 1
    temperature = votes.temperature or 0.1
    background = votes.background or 0.0
    for rows in row_slices(len(training_rows), known.labels.n_classes):
        near = nearness[rows, :k].astype(np.float64)
        top = np.maximum(near[:, :1], background)  # subtracted, so that nothing overflows
        weights = np.exp((near - top) / temperature)
        prior = np.exp((background - top[:, 0]) / temperature)
        yield rows, known.carried(training_rows[rows, :k], weights, prior)
