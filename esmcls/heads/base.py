"""The skeleton that built-in heads share: the order of fitting, and all checks. What they promise is in `contract`.

The protocols of `esmcls.heads.contract` can be imported from here, too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.heads.blocks import (
    AnswerBlocks,
    Dense,
    TermBlocks,
    check_labels,
    check_numbers,
    check_same_classes,
    check_sets,
    hold_out,
    hold_out_numbers,
    hold_out_sets,
    probabilities_of,
    top_k_of,
)
from esmcls.heads.contract import (
    AlignedSegment,
    AnswersInBlocks,
    AnswersOutOfFold,
    ExplainsItself,
    FindsNearest,
    FittableHead,
    Head,
    KeepsCheckpoints,
    KnowsItsRows,
    L,
    LabelledHead,
    Log,
    NumberHead,
    PairHead,
    ReadsSpecs,
    ResidueHead,
    ShowsAlignments,
    TellsRelatives,
    TermHead,
    Validation,
    labels_by_id,
)
from esmcls.labels.labels import Labels, LabelSets
from esmcls.labels.numbers import Numbers
from esmcls.types import Floats, Indices, Probabilities

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "AlignedSegment",
    "AnswersInBlocks",
    "AnswersOutOfFold",
    "BaseHead",
    "BaseLabelHead",
    "BaseNumberHead",
    "BaseTermHead",
    "ExplainsItself",
    "FindsNearest",
    "FittableHead",
    "Head",
    "HeadFrame",
    "KeepsCheckpoints",
    "KnowsItsRows",
    "L",
    "LabelledHead",
    "LoadedWithClasses",
    "Log",
    "NumberHead",
    "PairHead",
    "ReadsSpecs",
    "ResidueHead",
    "ShowsAlignments",
    "TellsRelatives",
    "TermHead",
    "Validation",
    "labels_by_id",
]


class HeadFrame(ABC, Generic[L]):
    """A head without anything fitted, whatever it answers.

    A subclass gives `_fit`, `_refit`, `save` and `_restore`; the order of things and the checks are here.

    Parameters
    ----------
    config : Config, optional
    device : str
    """

    Config: ClassVar[Any]
    config: Any
    chosen: Any

    def __init__(self, config: Any = None, device: str = "cpu") -> None:
        self.config = config or self.Config()
        self.chosen = self.config
        self.device = device
        self.classes: tuple[str, ...] = ()
        self.scores: dict[str, float] = {}

    def fit(
        self,
        x: Features,
        labels: L,
        validation: Validation[L] | None = None,
        seed: int = 0,
        log: Log | None = None,
    ) -> Self:
        """Fit; see `FittableHead`.

        Raises
        ------
        UsageError
            If there is nothing to fit on, or the labels are none that can be fitted.
        """
        self._check(x, labels)
        self._forget()
        if validation is None or not len(validation[0]):
            return self._fit_held_out(x, labels, seed, log)
        self._check_validation(labels, validation[1])
        self._take_classes(labels)
        self._fit(x, labels, validation, seed, log)
        return self

    def refit(self, x: Features, labels: L, seed: int = 0, log: Log | None = None) -> Self:
        """Fit all rows with what was chosen; what is still open takes a default.

        Raises
        ------
        UsageError
            If there is nothing to fit on, or the labels are none that can be fitted.
        """
        self._check(x, labels)
        self._take_classes(labels)
        self._refit(x, labels, seed, log)
        return self

    def _fit_held_out(self, x: Features, labels: L, seed: int, log: Log | None) -> Self:
        """Choose on rows held out of `x`, then fit all rows with what was chosen."""
        rows, held = self._hold_out(labels, seed)
        if len(held):
            self.fit(x.take(rows), labels.take(rows), (x.take(held), labels.take(held)), seed, log)
        return self.refit(x, labels, seed, log)

    def _forget(self) -> None:
        """Drop what an earlier fit chose."""
        self.chosen = self.config
        self.scores = {}

    def _take_classes(self, labels: L) -> None:
        """Name the classes that are fitted from now on."""
        self.classes = labels.classes

    @abstractmethod
    def _check(self, x: Features, labels: L) -> None:
        """Raise UsageError where there is nothing to fit on."""

    @abstractmethod
    def _check_validation(self, labels: L, held: L) -> None:
        """Raise UsageError where nothing can be chosen on the labels of the validation rows."""

    @abstractmethod
    def _hold_out(self, labels: L, seed: int) -> tuple[Indices, Indices]:
        """Split row numbers into those to fit on and those to choose on, of which there may be none."""

    @abstractmethod
    def _fit(self, x: Features, labels: L, validation: Validation[L], seed: int, log: Log | None) -> None:
        """Fit from what `config` leaves open, which the validation rows decide."""

    @abstractmethod
    def _refit(self, x: Features, labels: L, seed: int, log: Log | None) -> None:
        """Fit all rows with what was chosen."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what was fitted into a folder."""

    @abstractmethod
    def _restore(self, folder: Path) -> None:
        """Take over what `save` wrote; config and classes are known."""


class BaseHead(HeadFrame[L]):
    """A head for classes, without anything fitted; a subclass gives `_answers`, too."""

    def predict_proba(self, x: Features) -> Probabilities:
        """Return the probability of each class, float32 (n, classes).

        Raises
        ------
        WidthMismatchError, NonFiniteError, UsageError
            If `x` lacks what the head reads.
        """
        return probabilities_of(self._answers(x), len(x), len(self.classes))

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k best class codes a row and their probabilities, both (n, min(k, classes))."""
        return top_k_of(self._answers(x), len(x), min(k, len(self.classes)))

    @abstractmethod
    def _answers(self, x: Features) -> AnswerBlocks:
        """Give slices of rows and the probabilities of their classes."""


class LoadedWithClasses(HeadFrame[L]):
    """A head whose folder is read with the names of its classes, of which there may be none."""

    @classmethod
    def load(cls, folder: Path, config: Any, classes: tuple[str, ...], device: str = "cpu") -> Self:
        """Read what `save` wrote."""
        head = cls(config, device)
        head.classes = classes
        head._restore(folder)
        return head


class BaseLabelHead(BaseHead[Labels], LoadedWithClasses[Labels]):
    """A head for one label a protein, without anything fitted."""

    def _check(self, x: Features, labels: Labels) -> None:
        check_labels(x, labels)

    def _check_validation(self, labels: Labels, held: Labels) -> None:
        """Let all pass: a validation row of a class that the head does not know counts as an error."""

    def _hold_out(self, labels: Labels, seed: int) -> tuple[Indices, Indices]:
        return hold_out(labels.codes, seed)

    @abstractmethod
    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return how near each row is to families that the head knows, (n,)."""


class BaseTermHead(BaseHead[LabelSets]):
    """A head for many labels a protein, without anything fitted. A subclass gives `blocks`, from which it answers."""

    def __init__(self, config: Any = None, device: str = "cpu") -> None:
        super().__init__(config, device)
        self.groups: tuple[str, ...] = ()

    def _check(self, x: Features, labels: LabelSets) -> None:
        check_sets(x, labels)

    def _check_validation(self, labels: LabelSets, held: LabelSets) -> None:
        check_same_classes(labels, held)

    def _hold_out(self, labels: LabelSets, seed: int) -> tuple[Indices, Indices]:
        return hold_out_sets(labels, seed)

    def _take_classes(self, labels: LabelSets) -> None:
        super()._take_classes(labels)
        self.groups = labels.groups

    @abstractmethod
    def blocks(self, x: Features) -> TermBlocks:
        """Give slices of rows and their probabilities."""

    def _answers(self, x: Features) -> AnswerBlocks:
        return ((rows, Dense(probabilities)) for rows, probabilities in self.blocks(x))

    @classmethod
    def load(
        cls, folder: Path, config: Any, classes: tuple[str, ...], groups: tuple[str, ...], device: str = "cpu"
    ) -> Self:
        """Read what `save` wrote."""
        head = cls(config, device)
        head.classes = classes
        head.groups = groups
        head._restore(folder)
        return head


class BaseNumberHead(HeadFrame[Numbers]):
    """A head for a number a protein, without anything fitted. A subclass gives `predict`."""

    def _check(self, x: Features, labels: Numbers) -> None:
        check_numbers(x, labels)

    def _check_validation(self, labels: Numbers, held: Numbers) -> None:
        """Let all pass: any number can be compared with another."""

    def _hold_out(self, labels: Numbers, seed: int) -> tuple[Indices, Indices]:
        return hold_out_numbers(len(labels), seed)

    @abstractmethod
    def predict(self, x: Features) -> Floats:
        """Return the number of each row, float64 (n,).

        Raises
        ------
        WidthMismatchError, NonFiniteError, UsageError
            If `x` lacks what the head reads.
        """

    @classmethod
    def load(cls, folder: Path, config: Any, device: str = "cpu") -> Self:
        """Read what `save` wrote."""
        head = cls(config, device)
        head._restore(folder)
        return head
