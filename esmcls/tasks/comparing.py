"""What a comparison asks of models of one kind, and what it keeps of them: questions, answers, entrants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from typing_extensions import Self, TypedDict

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import Shares
from esmcls.reporting.results import ComparisonSettings, ModelRow, NotRun, Origin
from esmcls.tasks.closeness import Nearness
from esmcls.tasks.fitted import F_contra, FittedModel, H_contra


class Answers(Protocol):
    """What a model answered about the test proteins of a comparison.

    `about` holds model (the digest of its folder), validation (its scores there) and megabytes.
    """

    @classmethod
    def load(cls, path: Path, key: str) -> Self | None:
        """Read what `save` wrote; None where there is no file, or one of another key."""
        ...

    @classmethod
    def joined(cls, folds: Sequence[Self]) -> Self:
        """Put the answers of the folds of a cross-validation one after another."""
        ...

    @property
    def about(self) -> dict[str, Any]: ...
    @property
    def headline(self) -> str:
        """Its main measure, for a line of progress."""
        ...

    def save(self, path: Path, key: str) -> None:
        """Write a file, whole or not at all; `key` says what the answers are of."""
        ...

    def timing(self) -> tuple[float | None, int | None]:
        """Return the seconds of fitting and the proteins a second of predicting, where they are known."""
        ...


def chosen(rows: Sequence[ModelRow], score: str) -> str | None:
    """Return the model that validation would choose: that of the best score there, if any has one.

    Of equals it is the first by name, as `Workspace.best_model` has it; the test part has no say.
    """
    candidates = [(row.name, row.validation) for row in rows if row.validation and not row.baseline]
    scored = {name: validation[score] for name, validation in sorted(candidates) if score in validation}
    return max(scored, key=scored.__getitem__) if scored else None


A = TypeVar("A", bound=Answers)


@dataclass(frozen=True, eq=False)
class Entrant(Generic[A]):
    """A model in a comparison.

    Parameters
    ----------
    name, head, encoder : str
    baseline : bool
        Whether it is there only to be beaten.
    answers : Answers
    folds : tuple of Answers
        Of each fold of a cross-validation; empty without one.
    """

    name: str
    head: str
    encoder: str
    baseline: bool
    answers: A
    folds: tuple[A, ...] = ()


@dataclass(frozen=True)
class Setting:
    """How a comparison measures.

    Parameters
    ----------
    shares : Shares
        What was set aside.
    coverage : float
        Of sets, where calibration rows are set aside.
    seed : int
        Of the bootstrap.
    draws : int, optional
        Of the paired bootstrap.
    ia : str or Path, optional
        Terms: table of information accretion; default it is counted on what is trained on.
    known : sequence of str or Path
        Terms: GAFs or tables of what was known of the proteins; targets are measured apart by it, too.
    evidence : sequence of str
        Codes that count in them.
    """

    shares: Shares
    coverage: float = 0.95
    seed: int = 0
    draws: int | None = None
    ia: str | Path | None = None
    known: Sequence[str | Path] = ()
    evidence: Sequence[str] = ()


class DataSetFrame(TypedDict):
    """What the report of every kind says of its data set; see `esmcls.reporting.results.ComparedData`."""

    records: dict[str, int]
    split_digest: str
    seed: int


class ReportFrame(TypedDict):
    """What the report of every kind says beside its rows; see `esmcls.reporting.results.Report`."""

    best: str
    chosen: str | None
    not_run: list[NotRun]
    origin: Origin


@dataclass(frozen=True)
class Proceedings:
    """What is told of a comparison of whatever kind.

    Parameters
    ----------
    records : dict
        Proteins of each part.
    split_digest : str
    heads, encoders : list of str
    knobs : dict
        By head.
    folds : int
        Of a cross-validation; 0 without one.
    setting : Setting
    not_run : list of NotRun
    origin : Origin
    nearness : Nearness or None
        Of the proteins that the models answered for.
    """

    records: dict[str, int]
    split_digest: str
    heads: list[str]
    encoders: list[str]
    knobs: dict[str, dict[str, Any]]
    folds: int
    setting: Setting
    not_run: list[NotRun]
    origin: Origin
    nearness: Nearness | None = None

    def of_data(self) -> DataSetFrame:
        """Return what every kind's report says of its data set."""
        return {"records": self.records, "split_digest": self.split_digest, "seed": self.setting.seed}

    def of_rows(self, rows: Sequence[ModelRow], score: str) -> ReportFrame:
        """Return what every kind's report says beside its rows, the best of which is the first."""
        best, by_validation = rows[0].name, chosen(rows, score)
        return {"best": best, "chosen": by_validation, "not_run": self.not_run, "origin": self.origin}

    def settings(self) -> ComparisonSettings:
        """Return what every kind's report says of how it was run."""
        return ComparisonSettings(heads=self.heads, encoders=self.encoders, knobs=self.knobs, folds=self.folds)


class Questions(Protocol[H_contra, F_contra, A]):
    """Who is asked about, and what is true of them."""

    @property
    def known(self) -> Dataset:
        """The test proteins."""
        ...

    @property
    def unseen(self) -> Dataset:
        """Those of families that were held out."""
        ...

    def ask(
        self,
        model: FittedModel[H_contra, F_contra],
        x: Features,
        unseen: Features,
        fit_seconds: float | None,
        about: dict[str, Any],
    ) -> A:
        """Ask a model about all of them; `x` and `unseen` are their vectors."""
        ...

    def without_model(self, train: Dataset) -> dict[str, A]:
        """Answer as baselines do that need no fitting, by their name."""
        ...
