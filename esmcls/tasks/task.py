"""A kind of task: all that the flow must be told of it. The flow itself is written once, and asks.

    fit       labels, validate, ask_strangers,           predict    probabilities, ranked, answering
              measure_set_aside
    combine   combine                                    compare    questions, join_folds, report
    evaluate  assess                                     finetune   objective

A new kind is a folder beside `one_label` and `go_terms` with a subclass of `Task`, and a line in `kinds`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeAlias

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import SetAside, Shares, StrangerFold
from esmcls.errors import UsageError
from esmcls.heads.base import FittableHead, Log
from esmcls.heads.registry import Group, load_head
from esmcls.heads.settings import parse_settings
from esmcls.reporting.results import Report, Timing
from esmcls.tasks.answering import Answering
from esmcls.tasks.comparing import A, Entrant, Proceedings, Questions, Setting
from esmcls.tasks.examining import Exam, Examination, Examined, Measured
from esmcls.tasks.fitted import Combined, F, Fitted, FittedModel, GetFeatures, H, L
from esmcls.types import Floats, Indices, Probabilities

if TYPE_CHECKING:
    from esmcls.labels.ontology import Ontology
    from esmcls.tasks.objective import Objective
    from esmcls.workspace.workspace import Workspace

OF_TERMS: Final = ("--known", "--evidence", "--taxon-constraints", "--taxonomy", "--taxon")
"""Options that are for Gene Ontology terms alone."""


class Task(ABC, Generic[H, L, F, A]):
    """A kind of task, with what it needs of a data set to make labels of it."""

    kind: ClassVar[str]
    """Its name among `esmcls.labels.kinds.KINDS`, which a workspace and a manifest remember."""
    name: ClassVar[str]
    """As the user calls it."""
    group: Group[H]
    """Entry point group of its heads."""
    answers_class: type[A]
    """What keeps the answers to a comparison's questions."""
    score: ClassVar[str]
    """By which of a manifest's validation scores models are chosen: the highest."""
    many: ClassVar[bool] = False
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
    layer_knobs: ClassVar[Mapping[str, float]] = {}
    """The knobs that it is fitted with for that."""
    layer_score: ClassVar[str]
    """By which of its scores they are compared: a mean over proteins."""
    next_steps: ClassVar[str] = "esmcls evaluate, or esmcls predict FASTA"
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

    def strata(self, dataset: Dataset) -> list[str]:
        """Return what folds are to be balanced by, a name a row: one for all, where hardly two labels are the same."""
        return [""] * len(dataset)

    def identity(self) -> list[Any]:
        """Return what decides the labels of rows besides the data set, plain: nothing, where that says it all."""
        return []

    def knows(self, classes: Sequence[str]) -> bool:
        """Return whether labels can be coded by these classes."""
        return True

    def setup(self, shares: Shares) -> dict[str, Any]:
        """Return what a manifest says of what was set aside."""
        return asdict(shares)

    # heads

    def head_class(self, name: str) -> type[H]:
        """Import a head of this kind by its registered name; errors are those of `registry.load_head`."""
        return load_head(name, self.group)

    def load_head(self, name: str, folder: Path, config: Mapping[str, Any], classes: tuple[str, ...], device: str) -> H:
        """Read a head from a model folder."""
        head_class = self.head_class(name)
        return head_class.load(folder, parse_settings(head_class.Config, config), *self.load_with(classes), device)

    def load_with(self, classes: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """Return what `load` of this kind's heads is given between the config and the device."""
        return (classes,)

    def fit_head(
        self, head: H, x: Features, labels: L, validation: tuple[Features, L] | None, seed: int, log: Log | None
    ) -> None:
        """Fit a head, its choices made on the validation rows."""
        fittable: FittableHead[Any] = head  # of L: the bound of H cannot say so
        fittable.fit(x, labels, validation, seed, log)

    def refit_head(self, head: H, x: Features, labels: L, seed: int, log: Log | None) -> None:
        """Fit a head on all rows with what it chose."""
        fittable: FittableHead[Any] = head
        fittable.refit(x, labels, seed, log)

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

    def load_answers(self, path: Path, key: str) -> A | None:
        """Read what `Answers.save` wrote; None where there is no file, or one of another key."""
        return self.answers_class.load(path, key)

    def join_folds(self, answers: Sequence[A], setting: Setting) -> A:
        """Put the answers of the folds of a cross-validation one after another."""
        return self.answers_class.joined(answers)

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
        return self.baseline_heads

    @abstractmethod
    def write_report(self, folder: Path, report: Any, timing: Timing, names: Mapping[str, str]) -> Path:
        """Write what `report` returned and return its page; `names` says what classes are called."""

    @abstractmethod
    def report_lines(self, report: Any, timing: Timing) -> list[str]:
        """Return the tables of what `report` returned for a terminal."""


def without_families(sentence: str, why: str) -> dict[str, str]:
    """Return `unavailable` of a kind that holds out no families: `why` says what there is none of."""
    return {
        "--hold-out-families": f"{sentence}: {why} to hold out",
        "--false-acceptance": f"{sentence}: no families are held out",
        "--accept-known": f"{sentence}: no families are held out",
    }


AnyTask: TypeAlias = "Task[Any, Any, Any, Any]"
"""A task of whatever kind: what is looked up by a workspace or model folder, where no type can say which."""
