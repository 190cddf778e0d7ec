"""What every head is before it is fitted, and where the rows come from that its choices are made on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.heads.blocks import check_labels, fit_held_out
from esmcls.heads.registry import Log
from esmcls.labels.labels import Labels
from esmcls.types import Indices, Probabilities

if TYPE_CHECKING:
    from typing_extensions import Self

Validation: TypeAlias = tuple[Features, Labels]


class BaseHead(ABC):
    """A head without anything fitted; what it has to give is what `esmcls.heads.Head` promises.

    Parameters
    ----------
    config : Config, optional
    device : str
    """

    Config: ClassVar[Any]
    config: Any
    chosen: Any

    def __init__(self, config: Any = None, device: str = "cpu") -> None:
        self.config = self.chosen = config or self.Config()
        self.device = device
        self.classes: tuple[str, ...] = ()
        self.scores: dict[str, float] = {}

    def fit(
        self,
        x: Features,
        labels: Labels,
        validation: Validation | None = None,
        seed: int = 0,
        log: Log | None = None,
    ) -> Self:
        """Fit; see `esmcls.heads.Head`.

        Raises
        ------
        UsageError
            If there is nothing to fit on, or a label is of no class.
        """
        check_labels(x, labels)
        self._forget()
        if validation is None or not len(validation[0]):
            return fit_held_out(self, x, labels, seed, log)
        self.classes = labels.classes
        self._fit(x, labels, validation, seed, log)
        return self

    def _forget(self) -> None:
        """Drop what an earlier fit chose."""
        self.chosen, self.scores = self.config, {}

    @abstractmethod
    def _fit(self, x: Features, labels: Labels, validation: Validation, seed: int, log: Log | None) -> None:
        """Fit from what `config` leaves open, which the validation rows decide."""

    @abstractmethod
    def refit(self, x: Features, labels: Labels, seed: int = 0, log: Log | None = None) -> Self:
        """Fit all rows with what was chosen."""

    @abstractmethod
    def predict_proba(self, x: Features) -> Probabilities:
        """Return probabilities, float32 (n, classes); the rows sum to 1."""

    @abstractmethod
    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k best class codes a row and their probabilities, both (n, min(k, classes))."""

    @abstractmethod
    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return how near each row is to families that the head knows, (n,)."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what was fitted into a folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, config: Any, classes: tuple[str, ...], device: str = "cpu") -> Self:
        """Read what `save` wrote."""
