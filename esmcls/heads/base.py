"""The contract of a head, of one label a protein, of many or of a number, and the skeleton that built-in ones share.

A head is fitted on the vectors (or sequences) and the labels of proteins and then gives the probability of each class,
or a number. `FittableHead` is what all promise, whatever their labels, `LabelledHead` what those of classes do; `Head`,
`TermHead`, `NumberHead`, `ResidueHead` and `PairHead` add what one kind of label has alone.
A head may do more than it must: what it can do besides is one of the protocols from `FindsNearest` on, and whoever
wants it asks by `isinstance`. The protocol suite (`tests/test_heads_protocol.py`) checks every registered head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

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
from esmcls.heads.settings import Settings
from esmcls.labels.labels import Labels, LabelSets
from esmcls.labels.numbers import Numbers
from esmcls.labels.residue_labels import Targets
from esmcls.labels.structure_labels import Structures
from esmcls.structures.distogram import PairAnswer
from esmcls.types import Floats, Indices, Probabilities

if TYPE_CHECKING:
    from typing_extensions import Self

    from esmcls.cache.spec import EmbeddingSpec

Log: TypeAlias = Callable[[dict[str, float]], None]
"""Called during a fit, with one entry of numbers a training step or choice."""


class AnyLabels(Protocol):
    """The labels of rows, of whatever kind."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Each class once."""
        ...

    def take(self, rows: Any) -> Self:
        """Return the labels of some rows."""
        ...

    def __len__(self) -> int:
        """Return the number of rows."""
        ...


L = TypeVar("L", bound=AnyLabels)
L_contra = TypeVar("L_contra", bound=AnyLabels, contravariant=True)

Validation: TypeAlias = tuple[Features, L]
"""Rows that choices are made on."""


class FittableHead(Protocol[L_contra]):
    """What is fitted on embeddings, whatever it then says of others.

    `fit(…)` makes every choice (epochs, k, regularisation) on `validation`; where that is None, on rows it holds out
    of `x`, and then fits once more on all of `x` with what it chose. It keeps what it chose in `chosen` and what the
    choice reached in `scores`. A head that reads sequences alone says so: `reads_vectors = False`.
    """

    Config: ClassVar[type[Any]]
    classes: tuple[str, ...]
    scores: dict[str, float]

    def __init__(self, config: Any = None, device: str = "cpu") -> None: ...

    @property
    def config(self) -> Settings:
        """The `Config` that was asked for."""
        ...

    @property
    def chosen(self) -> Settings:
        """The same, with what was open filled in by the last fit."""
        ...

    def fit(
        self,
        x: Features,
        labels: L_contra,
        validation: tuple[Features, L_contra] | None = None,
        seed: int = 0,
        log: Log | None = None,
    ) -> Self:
        """Fit on the rows of `x`; the same seed gives the same bits."""
        ...

    def refit(self, x: Features, labels: L_contra, seed: int = 0, log: Log | None = None) -> Self:
        """Fit all rows with what an earlier `fit` chose; nothing is chosen, `scores` stay what they were."""
        ...

    def save(self, folder: Path) -> None:
        """Write all that `load` needs besides its arguments into an existing folder; no pickle."""
        ...


class LabelledHead(FittableHead[L_contra], Protocol[L_contra]):
    """A classifier on embeddings."""

    def predict_proba(self, x: Features) -> Probabilities:
        """Return the probability of each class, float32 (n, classes)."""
        ...

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k best class codes a row and their probabilities, both (n, min(k, classes)), in blocks of rows."""
        ...


class Head(LabelledHead[Labels], Protocol):
    """A classifier of proteins into one class each: the probabilities of a row sum to 1.

    `scores` holds `accuracy` and `macro_f1`.
    """

    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return how near each row is to families that the head knows, (n,): higher is nearer, the scale its own."""
        ...

    @classmethod
    def load(cls, folder: Path, config: Any, classes: tuple[str, ...], device: str = "cpu") -> Self:
        """Read what `save` wrote; the result predicts the same bits."""
        ...


class TermHead(LabelledHead[LabelSets], Protocol):
    """A classifier of proteins into any number of classes each: each probability is for itself.

    Labels come propagated, probabilities need not be: whoever asks raises those of parents. `scores` holds `fmax`, the
    mean over groups of classes (aspects) of Fmax on the rows that the choices were made on.
    """

    groups: tuple[str, ...]

    @classmethod
    def load(
        cls, folder: Path, config: Any, classes: tuple[str, ...], groups: tuple[str, ...], device: str = "cpu"
    ) -> Self:
        """Read what `save` wrote; the result predicts the same bits."""
        ...


class ResidueHead(LabelledHead[Targets], Protocol):
    """A classifier or regressor of residues.

    `predict_proba` and `top_k` have a row for each residue of all proteins, one after another. `scores` holds accuracy,
    macro_f1 and mcc, or of numbers spearman, pearson, rmse and r2.
    """

    def per_protein(self, x: Features) -> Iterator[Probabilities]:
        """Give what is said of each protein, float32 (residues, outputs): NaN of residues that no encoder input held.

        There is an output a class, or one, the number.
        """
        ...

    @classmethod
    def load(cls, folder: Path, config: Any, classes: tuple[str, ...], device: str = "cpu") -> Self:
        """Read what `save` wrote; the result predicts the same bits."""
        ...


class PairHead(FittableHead[Structures], Protocol):
    """A head for the distances between the residues of a protein. It has no classes.

    `scores` holds `precision_l` and `precision_l5` (long-range contacts among as many pairs as a chain has residues,
    and a fifth of that), `lddt` of the expected distances, `loss`, the cross-entropy of the distogram, and `n` chains.
    """

    def per_protein(self, x: Features) -> Iterator[PairAnswer]:
        """Give what is said of each protein, one in memory at a time."""
        ...

    @classmethod
    def load(cls, folder: Path, config: Any, classes: tuple[str, ...], device: str = "cpu") -> Self:
        """Read what `save` wrote; the result predicts the same bits."""
        ...


class NumberHead(FittableHead[Numbers], Protocol):
    """A regression: a number a protein. It has no classes; `scores` holds the measures of `metrics.regression`."""

    def predict(self, x: Features) -> Floats:
        """Return the number of each row, float64 (n,)."""
        ...

    @classmethod
    def load(cls, folder: Path, config: Any, device: str = "cpu") -> Self:
        """Read what `save` wrote; the result predicts the same bits."""
        ...


@runtime_checkable
class FindsNearest(Protocol):
    """A head that names the training row that each row is nearest to."""

    def nearest(self, x: Features) -> tuple[npt.NDArray[np.floating[Any]], list[str | None]]:
        """Return a distance (n,) and the id of the nearest training row; infinity and None where there is none."""
        ...


@runtime_checkable
class KnowsItsRows(Protocol):
    """A head that keeps the labels of its training rows."""

    @property
    def label_of_row(self) -> Mapping[str, str]:
        """The label of each training row by its id; ids of rows with different labels are not there."""
        ...


@runtime_checkable
class KeepsCheckpoints(Protocol):
    """A head whose training takes long: where it was interrupted, the same fit goes on from its last checkpoint."""

    checkpoints: Path | None
    """The folder of checkpoints, made if need be; None for none. Who names it removes it when the fit is done."""


def labels_by_id(ids: Sequence[str], codes: Indices, classes: Sequence[str]) -> dict[str, str]:
    """Return the label of each id, but of those that stand for rows of different classes.

    Examples
    --------
    >>> labels_by_id(["a", "b", "b", "c", "c"], np.array([0, 1, 1, 0, 1]), ["x", "y"])
    {'a': 'x', 'b': 'y'}
    """
    codes_of: dict[str, set[int]] = {}
    for name, code in zip(ids, codes.tolist(), strict=True):
        codes_of.setdefault(name, set()).add(code)
    return {name: classes[known.pop()] for name, known in codes_of.items() if len(known) == 1}


@dataclass(frozen=True)
class AlignedSegment:
    """A part of a protein that aligns with a training protein.

    Parameters
    ----------
    nearest_id : str
        Of the training protein.
    evalue, score : float
    query_start, query_end, target_start, target_end : int
        First and last residue of the segment in both, counted from 1.
    aligned, identical : int
        Pairs of residues, and those of one letter.
    query_coverage, target_coverage : float
        Share of each protein's residues that lie in the segment.
    cigar : str
        The alignment as SAM writes it: M a pair, I a residue of the query alone, D one of the target alone.
    carried_by : str
        The residues of the query whose pairs score highest, such as `W34,G56`.
    """

    nearest_id: str
    evalue: float
    score: float
    query_start: int
    query_end: int
    target_start: int
    target_end: int
    aligned: int
    identical: int
    query_coverage: float
    target_coverage: float
    cigar: str
    carried_by: str


@runtime_checkable
class ShowsAlignments(Protocol):
    """A head that says which residues align with those of training proteins."""

    def segments(self, x: Features) -> list[list[AlignedSegment]]:
        """Return the segments of each row, the best first; those after it overlap none before them."""
        ...


@runtime_checkable
class TellsRelatives(Protocol):
    """A head that knows which rows have a relative among those of training."""

    def related(self, x: Features) -> npt.NDArray[np.bool_]:
        """Return whether each row has a relative, bool (n,)."""
        ...


@runtime_checkable
class AnswersInBlocks(Protocol):
    """A head for many labels that need not hold the probabilities of all rows and classes at once."""

    def blocks(self, x: Features) -> Iterator[tuple[slice, Probabilities]]:
        """Give slices of rows and their probabilities, float32 (rows, classes)."""
        ...


@runtime_checkable
class AnswersOutOfFold(Protocol):
    """A head for many labels that learnt more of its validation rows than a few choices."""

    def held_blocks(self, x: Features) -> Iterator[tuple[slice, Probabilities]]:
        """Give the blocks of the validation rows of the last `fit`, so that none is by what was learnt of it."""
        ...


@runtime_checkable
class ReadsSpecs(Protocol):
    """A head of several, each of which reads the vectors of an encoder of its own."""

    @property
    def specs(self) -> tuple[EmbeddingSpec, ...]:
        """The specs of these vectors, each once; none where features are read as they are given."""
        ...


@runtime_checkable
class ExplainsItself(Protocol):
    """A head that says in a line which way of fitting it took, and why."""

    @property
    def explanation(self) -> str:
        """The line."""
        ...


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


class BaseLabelHead(BaseHead[Labels]):
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

    @classmethod
    def load(cls, folder: Path, config: Any, classes: tuple[str, ...], device: str = "cpu") -> Self:
        """Read what `save` wrote."""
        head = cls(config, device)
        head.classes = classes
        head._restore(folder)
        return head


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
