"""What one model is measured on, and what the report of it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.reporting.results import Cost, Machine, Timing
from esmcls.tasks.closeness import Neighbours
from esmcls.tasks.comparing import A, Entrant, Proceedings
from esmcls.tasks.fitted import GetFeatures

TEST_PART: Final = "test part"


class Measured(Protocol):
    """What a model reaches: for JSON, and for people."""

    def to_json(self) -> dict[str, Any]: ...
    def lines(self) -> list[str]: ...


@dataclass(frozen=True)
class Examined:
    """How a model did, with what is told beside: of strangers, or of what weighs terms."""

    evaluation: Measured
    beside: tuple[Measured, ...] = ()


@dataclass(frozen=True)
class Examination:
    """What the report of one model tells besides its answers.

    Parameters
    ----------
    on : str
        "test part", or a word for what was given.
    facts : sequence of (str, str)
        Of the model: name and words.
    notes, warnings : sequence of str
        What else was measured, for people; what makes the numbers doubtful.
    about : dict
        Of `Answers`.
    encoder : str
        Its name, if its head reads vectors.
    proceedings : Proceedings
        As of a comparison of this model alone.
    nearest : callable
        From row numbers to their nearest training proteins.
    machine : Machine
    names : mapping
        What classes are called.
    """

    on: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    warnings: Sequence[str]
    about: dict[str, Any]
    encoder: str
    proceedings: Proceedings
    nearest: Callable[[Sequence[int]], Neighbours]
    machine: Machine
    names: Mapping[str, str]

    @property
    def where(self) -> str:
        """Where the proteins are from, in a sentence."""
        return "of the test part" if self.on == TEST_PART else f"of {self.on}"

    def entrant(self, name: str, answers: A) -> Entrant[A]:
        """Return the model as the only one of a comparison."""
        return Entrant(name, self.proceedings.heads[0], self.encoder, False, answers)

    def timing(self, name: str) -> Timing:
        """Return the timing of a report that times nothing."""
        return Timing([Cost(name, None, None)], machine=self.machine)


@dataclass(frozen=True)
class Exam:
    """What a model is measured on.

    Parameters
    ----------
    part : Dataset
        With labels.
    x : Features
        Its vectors.
    train : Dataset, optional
        The train part of the workspace, if there is one of the model's kind of task.
    unseen : Dataset
        Proteins of families that were held out.
    features : callable
    seed : int
        Of the bootstrap.
    ia : str or Path, optional
        Table of information accretion.
    known : sequence of str or Path
        GAFs or tables of terms that the proteins were known to have.
    evidence : sequence of str
        Codes that count in them.
    folded : int, optional
        Structures: chains that are folded; default as many as the kind of task says.
    """

    part: Dataset
    x: Features
    train: Dataset | None
    unseen: Dataset
    features: GetFeatures
    seed: int = 0
    ia: str | Path | None = None
    known: Sequence[str | Path] = ()
    evidence: Sequence[str] = ()
    folded: int | None = None
