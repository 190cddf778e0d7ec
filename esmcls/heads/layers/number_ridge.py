"""The ridge head for numbers: closed form, of rows scaled; where rows are fewer than numbers in a vector, in the dual.

With centred, scaled rows X (n, width) and numbers y, the weights are (XᵀX + λI)⁻¹ Xᵀy = Xᵀ (XXᵀ + λI)⁻¹ y: one
eigendecomposition, of the smaller matrix, serves all penalties λ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from esmcls.cache.features import Features
from esmcls.heads.base import BaseNumberHead, Log, Validation
from esmcls.heads.blocks import checked_vectors, first_rows, grid, training_vectors
from esmcls.heads.layers.linear import read_layer, scaled
from esmcls.heads.layers.ridge import Scaling
from esmcls.heads.number_scale import NumberScale, held_scores, squared_error
from esmcls.heads.saved_tensors import write_state
from esmcls.heads.settings import ABOVE_0, FROM_0_TO_1, PooledConfig, check_ranges
from esmcls.heads.whitening import SHRINKAGES, Whitening, WithinClass, row_blocks
from esmcls.labels.numbers import Numbers
from esmcls.types import Floats, Vectors

if TYPE_CHECKING:
    from typing_extensions import Self

PENALTIES: Final = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
"""Those that are tried on validation, in mean eigenvalues of XᵀX."""
FILE: Final = "ridge.safetensors"


@dataclass(frozen=True)
class RidgeConfig(PooledConfig):
    """Every knob of the ridge head; None is chosen on validation.

    Parameters
    ----------
    whiten : bool, optional
        Whiten the rows by their covariance and bring them to one length; else standardise the columns. When to
        change: a fit is to be repeated with what another chose.
    shrinkage : float, optional
        Of that covariance towards a multiple of the identity, 0 to 1. When to change: a fit is to be repeated
        with what another chose.
    penalty : float, optional
        Of the weights, in mean eigenvalues of XᵀX. When to change: a fit is to be repeated with what another
        chose, or there is no validation part: raise it where rows are few.
    """

    whiten: bool | None = None
    shrinkage: float | None = None
    penalty: float | None = None

    def __post_init__(self) -> None:
        check_ranges(self, {"shrinkage": FROM_0_TO_1, "penalty": ABOVE_0})

    def settled(self) -> RidgeConfig:
        """Return it with a default for each knob that is open."""
        return replace(
            self,
            whiten=False if self.whiten is None else self.whiten,
            shrinkage=SHRINKAGES[2] if self.shrinkage is None else self.shrinkage,
            penalty=1.0 if self.penalty is None else self.penalty,
        )


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What every penalty's solution is made of.

    Parameters
    ----------
    values : float64 tensor, (m,)
        Eigenvalues of the centred XᵀX, of which those beyond the rows are 0 and left out.
    axes : float64 tensor, (width, m)
        For each of them a column, such that weights are axes · (target / (values + λ)).
    target : float64 tensor, (m,)
    centre : float64 tensor, (width,)
        The mean row.
    level : float
        The mean of all `width` eigenvalues.
    """

    values: Tensor
    axes: Tensor
    target: Tensor
    centre: Tensor
    level: float

    @classmethod
    def of(
        cls, vectors: Vectors, numbers: Floats, prepare: Callable[[Tensor], Tensor], dual: bool | None = None
    ) -> Spectrum:
        """Decompose rows that `prepare` scales, in blocks; by default in the dual where rows are fewer than columns.

        Parameters
        ----------
        vectors : float array, (n, width)
        numbers : float64 array, (n,)
            Of mean 0.
        prepare : callable
        dual : bool, optional
        """
        [n, width] = vectors.shape
        blocks = partial(_prepared, vectors, prepare)
        centre = sum((block.sum(0) for _, block in blocks()), torch.zeros(width, dtype=torch.float64)) / n
        targets = torch.from_numpy(numbers)
        if n < width if dual is None else dual:
            centred = torch.cat([block - centre for _, block in blocks()])
            values, left = _decomposed(centred @ centred.T)
            return cls(values, centred.T @ left, left.T @ targets, centre, float(values.sum()) / width or 1.0)
        gram = torch.zeros(width, width, dtype=torch.float64)
        product = torch.zeros(width, dtype=torch.float64)
        for rows, block in blocks():
            centred = block - centre
            gram += centred.T @ centred
            product += centred.T @ targets[rows]
        values, axes = _decomposed(gram)
        return cls(values, axes, axes.T @ product, centre, float(values.mean()) or 1.0)

    def solve(self, penalty: float) -> tuple[Tensor, Tensor]:
        """Return weight (1, width) and bias (1,), float32; the penalty is in mean eigenvalues."""
        weight = self.axes @ (self.target / (self.values + penalty * self.level))
        return weight.float()[None], -(self.centre @ weight).float()[None]


def _prepared(vectors: Vectors, prepare: Callable[[Tensor], Tensor]) -> Iterator[tuple[slice, Tensor]]:
    return ((rows, prepare(block).double()) for rows, block in row_blocks(vectors))


def _decomposed(matrix: Tensor) -> tuple[Tensor, Tensor]:
    values, axes = torch.linalg.eigh(matrix)
    return values.clamp(min=0), axes


class RidgeHead(BaseNumberHead):
    """Ridge regression on scaled vectors, its penalty chosen on validation.

    Examples
    --------
    >>> x = Features.from_arrays(np.arange(40, dtype=np.float32).reshape(20, 2))
    >>> head = RidgeHead(RidgeConfig(whiten=False, penalty=1e-6)).fit(x, Numbers(np.arange(20.0)))
    >>> head.predict(x.take([3, 17])).round(3).tolist()
    [3.0, 17.0]
    """

    Config: ClassVar[type[RidgeConfig]] = RidgeConfig
    config: RidgeConfig
    chosen: RidgeConfig
    scaling: Scaling | Whitening
    scale: NumberScale
    weight: Tensor
    bias: Tensor

    def _fit(self, x: Features, labels: Numbers, validation: Validation[Numbers], seed: int, log: Log | None) -> None:
        vectors = training_vectors(x, self.config.pooling)
        held = checked_vectors(validation[0], self.config.pooling, vectors.shape[1])
        self._choose(vectors, labels, *first_rows(held, validation[1]), log)
        self._refit(x, labels, seed, log)
        self.scores = held_scores(validation[1], self._predicted(held))

    def _refit(self, x: Features, labels: Numbers, seed: int, log: Log | None) -> None:
        """Solve for all rows with what was chosen; nothing here is drawn, whatever the seed."""
        self.chosen = self.chosen.settled()
        vectors = training_vectors(x, self.config.pooling)
        within = WithinClass.of_all(vectors) if self.chosen.whiten else None
        self.scaling = _scaling(vectors, within, self.chosen.shrinkage)
        self.scale = NumberScale.of(labels)
        targets = self.scale.standardised(labels.values)
        self.weight, self.bias = Spectrum.of(vectors, targets, partial(scaled, self.scaling)).solve(
            self.chosen.penalty or 1.0
        )

    def _choose(self, vectors: Vectors, labels: Numbers, held: Vectors, truth: Numbers, log: Log | None) -> None:
        """Take the scaling and penalty of the least squared error on the held rows, the first of equals."""
        within = None if self.config.whiten is False else WithinClass.of_all(vectors)
        self.scale = NumberScale.of(labels)
        targets = self.scale.standardised(labels.values)
        best = np.inf
        for trial in self._trials():
            self.scaling = _scaling(vectors, within if trial.whiten else None, trial.shrinkage)
            spectrum = Spectrum.of(vectors, targets, partial(scaled, self.scaling))
            for penalty in grid(self.config.penalty, PENALTIES):
                self.weight, self.bias = spectrum.solve(penalty)
                error = squared_error(truth, self._predicted(held))
                if log is not None:
                    log({"shrinkage": trial.shrinkage or 0.0, "penalty": penalty, "squared_error": error})
                if error < best:
                    best = error
                    self.chosen = replace(trial, penalty=penalty)

    def _trials(self) -> Iterator[RidgeConfig]:
        """Give the ways of scaling to choose from."""
        for whiten in grid(self.config.whiten, (False, True)):
            shrinkages = grid(self.config.shrinkage, SHRINKAGES if whiten else SHRINKAGES[2:])
            yield from (replace(self.config, whiten=whiten, shrinkage=shrinkage) for shrinkage in shrinkages)

    def _predicted(self, vectors: Vectors) -> Floats:
        answers = np.zeros(len(vectors))
        weight, bias = self.weight.double(), self.bias.double()
        for rows, block in row_blocks(vectors):
            answers[rows] = (scaled(self.scaling, block).double() @ weight[0] + bias).numpy()
        return self.scale.restored(answers)

    def predict(self, x: Features) -> Floats:
        """Return the number of each row, (n,)."""
        return self._predicted(checked_vectors(x, self.config.pooling, len(self.scaling.mean)))

    def continued(
        self, weight: Tensor, bias: Tensor, mean: Tensor, held: Validation[Numbers] | None, pooling: str
    ) -> Self:
        """Return the head with another layer on rows that are scaled alike, as fine-tuning made it of this one.

        Parameters
        ----------
        weight, bias : float32 tensors, (1, width) and (1,)
        mean : float32 tensor, (width,)
            Subtracted from a row.
        held : (Features, Numbers), optional
            What `scores` are measured on.
        pooling : str
            Of what it will read.
        """
        head = type(self)(replace(self.chosen, pooling=pooling), self.device)
        head.scaling = replace(self.scaling, mean=mean.cpu())
        head.scale = self.scale
        head.weight, head.bias = weight.detach().cpu().float(), bias.detach().cpu().float()
        if held is not None:
            head.scores = held_scores(held[1], head.predict(held[0]))
        return head

    def save(self, folder: Path) -> None:
        """Write `ridge.safetensors` (weight, bias, mean and matrix or deviation, float32) and `scale.safetensors`."""
        write_state(folder / FILE, {"weight": self.weight, "bias": self.bias, **asdict(self.scaling)})
        self.scale.save(folder)

    def _restore(self, folder: Path) -> None:
        self.weight, self.bias, self.scaling = read_layer(folder / FILE, bool(self.config.whiten), one=1)
        self.scale = NumberScale.load(folder)


def _scaling(vectors: Vectors, within: WithinClass | None, shrinkage: float | None) -> Scaling | Whitening:
    return Scaling.of(vectors) if within is None else within(SHRINKAGES[2] if shrinkage is None else shrinkage)
