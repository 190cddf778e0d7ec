"""What every head for many labels is before it is fitted, and how it answers: from blocks of rows.

A head gives `_fit`, `refit`, `blocks`, `save` and `load`; the rest is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from esmcls.cache.features import Features
from esmcls.heads.registry import Log
from esmcls.heads.term_common import Blocks, check_same_classes, check_sets, fit_held_out, probabilities_of, top_k_of
from esmcls.labels.labels import LabelSets
from esmcls.types import Indices, Probabilities

if TYPE_CHECKING:
    from typing_extensions import Self

Validation: TypeAlias = tuple[Features, LabelSets]


class BaseTermHead(ABC):
    """A head without anything fitted.

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
        self.groups: tuple[str, ...] = ()
        self.scores: dict[str, float] = {}

    def fit(
        self,
        x: Features,
        labels: LabelSets,
        validation: Validation | None = None,
        seed: int = 0,
        log: Log | None = None,
    ) -> Self:
        """Fit; see `esmcls.term_heads.TermHead`.

        Raises
        ------
        UsageError
            If there is nothing to fit on, or the validation part's classes are others.
        """
        check_sets(x, labels)
        self._forget()
        if validation is None or not len(validation[0]):
            return fit_held_out(self, x, labels, seed, log)
        check_same_classes(labels, validation[1])
        self._fit(x, labels, validation, seed, log)
        return self

    def _forget(self) -> None:
        """Drop what an earlier fit chose."""
        self.chosen, self.scores = self.config, {}

    @abstractmethod
    def _fit(self, x: Features, labels: LabelSets, validation: Validation, seed: int, log: Log | None) -> None:
        """Fit from what `config` leaves open, which the validation rows decide."""

    @abstractmethod
    def refit(self, x: Features, labels: LabelSets, seed: int = 0, log: Log | None = None) -> Self:
        """Fit all rows with what was chosen."""

    @abstractmethod
    def blocks(self, x: Features) -> Blocks:
        """Give slices of rows and their probabilities."""

    def predict_proba(self, x: Features) -> Probabilities:
        """Return the probability of each class, float32 (n, classes), each for itself.

        Raises
        ------
        UsageError
            If `x` lacks what the head reads.
        """
        return probabilities_of(self.blocks(x), len(x), len(self.classes))

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k most probable class codes a row and their probabilities, both (n, min(k, classes))."""
        return top_k_of(self.blocks(x), len(x), min(k, len(self.classes)))

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what was fitted into a folder."""

    @classmethod
    @abstractmethod
    def load(
        cls, folder: Path, config: Any, classes: tuple[str, ...], groups: tuple[str, ...], device: str = "cpu"
    ) -> Self:
        """Read what `save` wrote."""

    @classmethod
    def _of(cls, config: Any, classes: tuple[str, ...], groups: tuple[str, ...], device: str = "cpu") -> Self:
        """Return a head that knows its classes, for `load` to fill in."""
        head = cls(config, device)
        head.classes, head.groups = classes, groups
        return head
