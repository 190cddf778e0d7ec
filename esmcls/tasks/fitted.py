"""A fitted model as a kind of task sees it: its head, its labels, and what rows told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from typing_extensions import Never

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.datasets.dataset import Dataset
from esmcls.heads.base import ExplainsItself, FindsNearest, FittableHead, KnowsItsRows
from esmcls.types import Indices

if TYPE_CHECKING:
    from typing_extensions import Self

AnyHead: TypeAlias = "LoadableHead"
"""A head for whatever kind of labels."""
GetFeatures: TypeAlias = Callable[[Dataset], Features]
"""From rows of a data set to their vectors."""


class LoadableHead(FittableHead[Never], Protocol):
    """A head for whatever labels, read back from a model folder as the contract of its kind says."""

    @classmethod
    def load(cls, folder: Path, config: Any, *rest: Any, **named: Any) -> Self:
        """Read what `save` wrote; what else is given, and in what order, differs from kind to kind."""
        ...


class ClassLabels(Protocol):
    """Labels of rows, of whatever kind: see `esmcls.labels.labels`."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def n_classes(self) -> int: ...
    def counts(self) -> Indices: ...
    def __len__(self) -> int: ...


class Findings(Protocol):
    """What rows that a head was not fitted on tell of it; it lies beside the head in the model folder."""

    def recoded(self, before: Sequence[str], after: Sequence[str]) -> Self:
        """Return the same for other classes, once the head is fitted on more rows."""
        ...

    def save(self, folder: Path) -> None:
        """Write its files into a folder."""
        ...

    def lines(self) -> list[str]:
        """Return what to tell the user of it after a fit."""
        ...


@dataclass(frozen=True)
class NoFindings:
    """`Findings` of a kind whose models are a head and its scores."""

    def recoded(self, before: Sequence[str], after: Sequence[str]) -> NoFindings:
        """Return the same."""
        return self

    def save(self, folder: Path) -> None:
        """Write nothing."""

    def lines(self) -> list[str]:
        """Return nothing."""
        return []


def explanation_of(head: object) -> str:
    """Return what a head says of the way of fitting that it took; nothing, where it says nothing."""
    return head.explanation if isinstance(head, ExplainsItself) else ""


def nearest_of(head: object, x: Features) -> Sequence[dict[str, Any]]:
    """Return `distance` and `nearest_id`, the nearest training protein's, of each row, where the head knows them."""
    if not isinstance(head, FindsNearest):
        return [{}] * len(x)
    distances, ids = head.nearest(x)
    pairs = zip(distances.tolist(), ids, strict=True)
    return [{} if name is None else {"distance": distance, "nearest_id": name} for distance, name in pairs]


def nearest_to(model: FittedModel[Any, Any], x: Features) -> Sequence[dict[str, Any]]:
    """Return what `nearest_of` does, and where it can be known `nearest_label`, what that protein is.

    A head that knows no nearest training protein has it looked for among the training vectors, where they are at hand.
    """
    if not isinstance(model.head, FindsNearest):
        known = None if model.neighbours is None else model.neighbours.find(x)
        names = ("distance", "nearest_id", "nearest_label")
        return [{}] * len(x) if known is None else [dict(zip(names, nearest, strict=True)) for nearest in known]
    nearest = nearest_of(model.head, x)
    if not isinstance(model.head, KnowsItsRows):
        return nearest
    labels = model.head.label_of_row
    return [fields | {"nearest_label": labels.get(fields.get("nearest_id", ""))} for fields in nearest]


class FindsNeighbours(Protocol):
    """Training proteins that can be searched for the nearest one."""

    def find(self, x: Features) -> list[tuple[float, str, str]]:
        """Return the distance, the id and the label of the training protein nearest to each row."""
        ...


H = TypeVar("H", bound="AnyHead")
L = TypeVar("L", bound=ClassLabels)
F = TypeVar("F", bound=Findings)
H_co = TypeVar("H_co", bound="AnyHead", covariant=True)
F_co = TypeVar("F_co", bound=Findings, covariant=True)
H_contra = TypeVar("H_contra", bound="AnyHead", contravariant=True)
F_contra = TypeVar("F_contra", bound=Findings, contravariant=True)


class FittedModel(Protocol[H_co, F_co]):
    """A model as a kind of task sees it: `esmcls.Model` is one."""

    @property
    def name(self) -> str: ...
    @property
    def head(self) -> H_co: ...
    @property
    def findings(self) -> F_co: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def class_counts(self) -> tuple[int, ...]: ...
    @property
    def neighbours(self) -> FindsNeighbours | None: ...


class Fitted(FittedModel[H_co, F_co], Protocol[H_co, F_co]):
    """A model that can be a member of an ensemble."""

    @property
    def folder(self) -> Path: ...
    @property
    def head_name(self) -> str: ...
    @property
    def spec(self) -> EmbeddingSpec: ...
    @property
    def specs(self) -> tuple[EmbeddingSpec, ...]: ...
    @property
    def refitted(self) -> bool:
        """Whether its head was fitted on the validation rows, too, in the end."""
        ...


@dataclass(frozen=True)
class Combined(Generic[H, F]):
    """Several models as one head, with what validation says of it.

    Parameters
    ----------
    scores : dict
        On validation rows, as a manifest has them.
    specs : tuple of EmbeddingSpec
        Of the vectors that its members read; empty where none reads any.
    """

    head: H
    scores: dict[str, float]
    findings: F
    specs: tuple[EmbeddingSpec, ...]
