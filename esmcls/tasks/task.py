"""A kind of task: all that the flow must be told of it. The flow itself is written once, and asks.

    fit       labels, validate, ask_strangers,           predict    probabilities, ranked, answering
              measure_set_aside
    combine   combine                                    compare    questions, join_folds, report
    evaluate  assess                                     finetune   objective

A new kind is a folder beside `one_label` and `go_terms` with a subclass of `Task`, and a line in `kinds`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Protocol, TextIO, TypeAlias, TypeVar

from typing_extensions import NamedTuple

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import SetAside, Shares, StrangerFold
from esmcls.errors import UsageError
from esmcls.heads.base import Log
from esmcls.reading.records import Protein
from esmcls.reporting.results import Cost, Machine, ModelRow, NotRun, Origin, Report, Timing
from esmcls.reporting.rows import Row, Unanswered, Written
from esmcls.tasks.closeness import Nearness, Neighbours
from esmcls.tasks.fitted import F, F_contra, Fitted, FittedModel, H, H_contra, L
from esmcls.types import Floats, Indices, Probabilities

if TYPE_CHECKING:
    from esmcls.labels.ontology import Ontology
    from esmcls.tasks.objective import Objective
    from esmcls.workspace.workspace import Workspace

TEST_PART: Final = "test part"
OF_TERMS: Final = ("--known", "--evidence", "--taxon-constraints", "--taxonomy", "--taxon")
"""Options that are for Gene Ontology terms alone."""
GetFeatures: TypeAlias = Callable[[Dataset], Features]
"""From rows of a data set to their vectors."""


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


class Answers(Protocol):
    """What a model answered about the test proteins of a comparison.

    `about` holds model (the digest of its folder), validation (its scores there) and megabytes.
    """

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


T = TypeVar("T")
"""What is said of a protein."""


class Answered(NamedTuple, Generic[T]):
    """A protein with what a model says of it, or why it says nothing, and what makes that doubtful."""

    protein: Protein
    answer: T | Unanswered
    note: str | None = None


class Answering(Protocol[T]):
    """How a model's answers to new proteins are asked for, laid out in rows, and written."""

    def ask(self, x: Features) -> Sequence[T]:
        """Return what is to be said of each row."""
        ...

    def rows(self, protein: Protein, answer: T | Unanswered, note: str | None = None) -> Iterator[Row]:
        """Give the rows of a record, with what is to be known."""
        ...

    def write(self, answers: Iterable[Answered[T]], handle: TextIO, described: bool = False) -> Written:
        """Write the rows of records as they come, with a column of descriptions where it is asked for."""
        ...


class Task(ABC, Generic[H, L, F, A]):
    """A kind of task, with what it needs of a data set to make labels of it."""

    kind: ClassVar[str]
    """Its name among `esmcls.labels.kinds.KINDS`, which a workspace and a manifest remember."""
    name: ClassVar[str]
    """As the user calls it."""
    group: ClassVar[str]
    """Entry point group of its heads."""
    score: ClassVar[str]
    """By which of a manifest's validation scores models are chosen: the highest."""
    many: ClassVar[bool]
    """Whether a record has any number of the classes."""
    baseline_encoder: ClassVar[str | None] = None
    """An encoder that stands beside in a comparison, with the head `default_head`."""
    default_head: ClassVar[str] = "linear"
    """The head that is fitted where none is named, and that fine-tuning begins and ends with."""
    baseline_heads: ClassVar[tuple[str, ...]] = ()
    """Heads that are there only to be beaten."""
    unavailable: ClassVar[Mapping[str, str]] = {}
    """What this kind cannot have, by the name of the option, and why."""
    combines: ClassVar[bool] = True
    """Whether several models can be one, an ensemble."""
    refits_in_comparisons: ClassVar[bool] = True
    """Whether the models of a comparison may be fitted on validation rows in the end: not where ensembles ask there."""
    layer_head: ClassVar[str] = "knn"
    """The head by which layers are compared: its fitting is in closed form."""
    layer_head_name: ClassVar[str] = "nearest neighbours"
    """The same in words."""
    layer_knobs: ClassVar[Mapping[str, float]]
    """The knobs that it is fitted with for that."""
    layer_score: ClassVar[str]
    """By which of its scores they are compared: a mean over proteins."""
    next_steps: ClassVar[str]
    """What to do after a fit."""

    def refuse(self, options: Mapping[str, object], whose: str) -> None:
        """Refuse options that this kind cannot have.

        Parameters
        ----------
        options : mapping
            Name of an option as the user writes it -> its value; what is None, empty, 0 or False was not given.
        whose : str
            The workspace or model, as a message names it.

        Raises
        ------
        UsageError
            If one was given.
        """
        for option, value in options.items():
            if option in self.unavailable and value not in (None, (), [], "", 0, False):
                raise UsageError(f"{option} is not for {whose}, which {self.unavailable[option]}")

    # labels

    @property
    def ontology(self) -> Ontology | None:
        """The ontology of the labels, where they are its terms."""
        return None

    @abstractmethod
    def labels(self, part: Dataset, classes: Sequence[str] | None = None) -> L:
        """Return the labels of rows, by their own classes or by those given; what is not among these is left out."""

    def fault_of_label(self, label: str, sequence: str) -> str:
        """Return why a label of a sequence is none that this kind can have; nothing where it may be one."""
        return ""

    @abstractmethod
    def strata(self, dataset: Dataset) -> list[str]:
        """Return what folds are to be balanced by, a name a row."""

    @abstractmethod
    def identity(self) -> list[Any]:
        """Return what decides the labels of rows besides the data set: plain values."""

    def knows(self, classes: Sequence[str]) -> bool:
        """Return whether labels can be coded by these classes."""
        return True

    @abstractmethod
    def setup(self, shares: Shares) -> dict[str, Any]:
        """Return what a manifest says of what was set aside."""

    # heads

    @abstractmethod
    def head_class(self, name: str) -> type[H]:
        """Import a head of this kind by its registered name; errors are those of `load_head`."""

    @abstractmethod
    def load_head(self, name: str, folder: Path, config: Mapping[str, Any], classes: tuple[str, ...], device: str) -> H:
        """Read a head from a model folder."""

    @abstractmethod
    def fit_head(
        self, head: H, x: Features, labels: L, validation: tuple[Features, L] | None, seed: int, log: Log | None
    ) -> None:
        """Fit a head, its choices made on the validation rows."""

    @abstractmethod
    def refit_head(self, head: H, x: Features, labels: L, seed: int, log: Log | None) -> None:
        """Fit a head on all rows with what it chose."""

    def probabilities(self, head: H, x: Features) -> Probabilities:
        """Return the answer of a model with this head, float32 (n, classes): the one place that decides it.

        Raises
        ------
        UsageError
            If this kind has no classes.
        """
        raise UsageError(f"a model of {self.name} a protein has no classes, and no probabilities of them: ask predict")

    def ranked(self, head: H, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k likeliest classes by `probabilities`, as codes and values, both (n, min(k, classes)).

        Raises
        ------
        UsageError
            If this kind has no classes.
        """
        raise UsageError(f"a model of {self.name} a protein has no classes to rank: ask predict")

    def said(self, head: H, x: Features, classes: Sequence[str], k: int) -> Sequence[Any]:
        """Return the answer to each row as plain values: the k likeliest classes with their probabilities."""
        codes, probabilities = self.ranked(head, x, k)
        pairs = zip(codes.tolist(), probabilities.tolist(), strict=True)
        return [[(classes[code], value) for code, value in zip(*row, strict=True)] for row in pairs]

    # a fitted model

    def marks(self, head: H, x: Features, labels: L) -> Floats | None:
        """Return what each row adds to `layer_score`, (n,); None where it is no mean of rows."""
        return None

    @abstractmethod
    def validate(self, head: H, x: Features, labels: L) -> tuple[dict[str, float], F]:
        """Measure a head on rows that it was not fitted on: scores for the manifest (n among them), and findings."""

    @abstractmethod
    def unvalidated(self, classes: Sequence[str]) -> F:
        """Return the findings where there are no validation rows."""

    def ask_strangers(
        self,
        findings: F,
        classes: Sequence[str],
        folds: Sequence[StrangerFold],
        fit: Callable[[Dataset], H],
        features: GetFeatures,
    ) -> F:
        """Add to findings what heads say of families that they know nothing of; this kind may have no strangers.

        Parameters
        ----------
        findings : Findings
        classes : sequence of str
            That the findings are coded by.
        folds : sequence of StrangerFold
        fit : callable
            Fits a head like the model's on rows, with what that one chose.
        features : callable
        """
        return findings

    def measure_set_aside(self, head: H, findings: F, apart: SetAside, shares: Shares, features: GetFeatures) -> F:
        """Add to findings what rows tell that were set aside for that; this kind may have none."""
        return findings

    @abstractmethod
    def read_findings(self, folder: Path, classes: Sequence[str]) -> F:
        """Read from a model folder what `Findings.save` wrote.

        Raises
        ------
        ModelError
            If a file is damaged.
        """

    def save(self, folder: Path) -> None:
        """Write into a model folder what `kinds.task_of_model` needs to make this task again."""

    @abstractmethod
    def combine(
        self,
        models: Sequence[Fitted[H, F]],
        validation: Dataset,
        features: GetFeatures,
        settings: Mapping[str, Any],
        *,
        device: str = "cpu",
        log: Log | None = None,
    ) -> Combined[H, F]:
        """Make an ensemble of fitted models of the same classes and split, weighed on the validation part.

        Raises
        ------
        UsageError, ModelError, WorkspaceError
            If nothing tells what the members are worth.
        """

    def check_ensemble_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse knobs of an ensemble of fitted models that this kind does not have.

        Raises
        ------
        UsageError
            If there are any.
        """

    # predict

    @abstractmethod
    def answering(self, model: FittedModel[H, F], **options: Any) -> Answering[Any]:
        """Return how new proteins are answered; options that the kind does not know raise UsageError."""

    # fine-tune

    @abstractmethod
    def objective(self, workspace: Workspace) -> Objective:
        """Return what fine-tuning needs on a workspace of this kind."""

    # evaluate and compare

    @abstractmethod
    def assess(self, model: FittedModel[H, F], exam: Exam) -> Examined:
        """Measure a model on labelled proteins."""

    @abstractmethod
    def write_examination(
        self, folder: Path, model: FittedModel[H, F], exam: Exam, measured: Measured, examination: Examination
    ) -> Path:
        """Write the report of what `assess` measured of one model, and return its page."""

    @abstractmethod
    def questions(
        self, apart: SetAside, train: Dataset, classes: tuple[str, ...], setting: Setting
    ) -> Questions[H, F, A]:
        """Return what the models of a comparison are asked: of the test part of what was not set aside.

        Parameters
        ----------
        apart : SetAside
        train : Dataset
        classes : tuple of str
            Of the whole data set.
        setting : Setting
        """

    def check_accretion(self, ia: str | Path, dataset: Dataset) -> None:
        """Refuse a table of information accretion that does not fit a data set.

        Raises
        ------
        DataError
            If it is no such table, or a term is not in it.
        """

    def check_known(self, known: Sequence[str | Path], evidence: Sequence[str]) -> list[str]:
        """Return what the reading of files of known terms met, for people.

        Raises
        ------
        DataError, UsageError
            If one is no such file, or codes are given without any.
        """
        return []

    @abstractmethod
    def load_answers(self, path: Path, key: str) -> A | None:
        """Read what `Answers.save` wrote; None where there is no file, or one of another key."""

    @abstractmethod
    def join_folds(self, answers: Sequence[A], setting: Setting) -> A:
        """Put the answers of the folds of a cross-validation one after another."""

    @abstractmethod
    def report(
        self, proceedings: Proceedings, dataset: Dataset, entrants: Sequence[Entrant[A]], classes: tuple[str, ...]
    ) -> Report:
        """Return the numbers of a comparison, a row for each model, the best first.

        Parameters
        ----------
        proceedings : Proceedings
        dataset : Dataset
        entrants : sequence of Entrant
            All on the same proteins.
        classes : tuple of str
            Of the whole data set.
        """

    def beside(self) -> tuple[str, ...]:
        """Return the heads that stand beside those of a comparison, unless baselines are not wanted."""
        return ()

    @abstractmethod
    def write_report(self, folder: Path, report: Any, timing: Timing, names: Mapping[str, str]) -> Path:
        """Write what `report` returned and return its page; `names` says what classes are called."""

    @abstractmethod
    def report_lines(self, report: Any, timing: Timing) -> list[str]:
        """Return the tables of what `report` returned for a terminal."""


AnyTask: TypeAlias = "Task[Any, Any, Any, Any]"
"""A task of whatever kind: what is looked up by a workspace or model folder, where no type can say which."""
