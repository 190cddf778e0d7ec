"""One label a protein: families, domains, functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import numpy as np

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import SetAside, Shares, StrangerFold
from esmcls.errors import ModelError, UsageError
from esmcls.files import HIERARCHY
from esmcls.heads.base import Head, Log
from esmcls.heads.ensemble.ensemble import EnsembleHead
from esmcls.heads.ensemble.members import Member, Ranked
from esmcls.heads.registry import GROUP, reads_vectors
from esmcls.heads.settings import parse_settings
from esmcls.labels.hierarchy import ClassTree, Hierarchy
from esmcls.labels.kinds import ONE_LABEL
from esmcls.labels.labels import Labels
from esmcls.metrics.calibration import auroc
from esmcls.reporting.results import Leakage, Timing
from esmcls.tasks.closeness import Flags, Nearness
from esmcls.tasks.comparing import Entrant, Proceedings, Setting
from esmcls.tasks.examining import Exam, Examination, Examined, Measured
from esmcls.tasks.fitted import Combined, Fitted, FittedModel, GetFeatures
from esmcls.tasks.one_label.answers import Answers, Questions
from esmcls.tasks.one_label.comparison import compare_answers
from esmcls.tasks.one_label.confidence import Confidence, blocks
from esmcls.tasks.one_label.evaluation import Evaluation, evaluate
from esmcls.tasks.one_label.findings import LabelFindings
from esmcls.tasks.one_label.levels.scores import AnsweredLevels, LevelSets
from esmcls.tasks.one_label.prediction import LabelAnswering
from esmcls.tasks.one_label.results import OneLabelData, OneLabelReport, OneLabelSettings
from esmcls.tasks.one_label.validation_answers import CANDIDATES, FoldAnswers, Held
from esmcls.tasks.task import OF_TERMS, Task
from esmcls.types import Floats, Indices, Probabilities

if TYPE_CHECKING:
    from esmcls.tasks.objective import Objective
    from esmcls.workspace.workspace import Workspace

_ONE_LABEL: Final = "gives one label a protein"


@dataclass(frozen=True)
class Strangers:
    """What becomes of proteins of known families, and of strangers: of families that the model does not know.

    Parameters
    ----------
    known, unknown : int
        Proteins; no strangers where the model knows all families.
    accepted, false_accepted : float
        Shares of them that the model accepts; without strangers, the latter is what it reached in folds.
    auroc : float
        How often one of the former scores higher than one of the latter.
    """

    known: int
    unknown: int
    accepted: float
    false_accepted: float | None
    auroc: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values under their name in metrics.json."""
        return {"strangers": asdict(self)}

    def lines(self) -> list[str]:
        """Say it for people."""
        area = "" if self.auroc is None else f"; AUROC {self.auroc:.3f}"
        known = f"{self.known:,} proteins of known families: {100 * self.accepted:.1f} % accepted{area}"
        if self.false_accepted is None:
            return [known]
        strangers = f"{self.unknown:,} strangers" if self.unknown else "strangers, when the model was fitted"
        return [f"{strangers}: {100 * self.false_accepted:.1f} % accepted", known]


@dataclass(frozen=True, eq=False)
class OneLabel(Task[Head, Labels, LabelFindings, Answers]):
    """The class of each protein; see `Task`.

    Parameters
    ----------
    hierarchy : Hierarchy, optional
        Of the classes.
    """

    hierarchy: Hierarchy | None = None

    kind = ONE_LABEL
    name = "one label"
    group = GROUP
    answers_class = Answers
    score = "macro_f1"
    baseline_encoder = "kmer"
    layer_knobs: ClassVar[Mapping[str, float]] = {"shrinkage": 0.1, "k": 1, "temperature": 0.05, "softness": 0.05}
    layer_score = "accuracy"
    unavailable: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("--min-score", "--aspect", "--at-least", "--format cafa", "--ia", *OF_TERMS), _ONE_LABEL),
    }

    def labels(self, part: Dataset, classes: Sequence[str] | None = None) -> Labels:
        """Return the class of each row."""
        return Labels.from_names(part.labels, classes)

    def strata(self, dataset: Dataset) -> list[str]:
        """Return the classes: every fold has its share of each."""
        return dataset.labels

    def identity(self) -> list[Any]:
        """Return the digest of the hierarchy; nothing without one, since the data set says the rest."""
        return [] if self.hierarchy is None else [self.hierarchy.digest()]

    def probabilities(self, head: Head, x: Features) -> Probabilities:
        """Return what the head says."""
        return head.predict_proba(x)

    def ranked(self, head: Head, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return what the head ranks first."""
        return head.top_k(x, k)

    def marks(self, head: Head, x: Features, labels: Labels) -> Floats:
        """Return 1 where the first class is the right one, else 0."""
        return np.asarray(head.top_k(x, 1)[0][:, 0] == labels.codes, dtype=np.float64)

    def validate(self, head: Head, x: Features, labels: Labels) -> tuple[dict[str, float], LabelFindings]:
        """Return the scores that the head reached on these rows when it was fitted, and its answers there."""
        return {**head.scores, "n": len(labels)}, LabelFindings(Held.of(head, x, labels))

    def unvalidated(self, classes: Sequence[str]) -> LabelFindings:
        """Return findings without anything."""
        return LabelFindings()

    def ask_strangers(
        self,
        findings: LabelFindings,
        classes: Sequence[str],
        folds: Sequence[StrangerFold],
        fit: Callable[[Dataset], Head],
        features: GetFeatures,
    ) -> LabelFindings:
        """Ask heads, each fitted without a fold of the families, about strangers and known ones."""
        return findings.asked(classes, folds, fit, features)

    def measure_set_aside(
        self, head: Head, findings: LabelFindings, apart: SetAside, shares: Shares, features: GetFeatures
    ) -> LabelFindings:
        """Measure calibration and rejection."""
        return findings.measured(head, apart, shares, features, self.hierarchy)

    def save(self, folder: Path) -> None:
        """Write the hierarchy, if there is one, into a model folder."""
        if self.hierarchy is not None:
            self.hierarchy.save(folder / HIERARCHY)

    def read_findings(self, folder: Path, classes: Sequence[str]) -> LabelFindings:
        """Read them from a model folder."""
        return LabelFindings.load(folder)

    def combine(
        self,
        models: Sequence[Fitted[Head, LabelFindings]],
        validation: Dataset,
        features: GetFeatures,
        settings: Mapping[str, Any],
        *,
        device: str = "cpu",
        log: Log | None = None,
    ) -> Combined[Head, LabelFindings]:
        """Weigh models by what each said of the validation rows before it was fitted on them, if it ever was."""
        held = [_validation_answers(model) for model in models]
        if len({answers.digest for answers in held}) > 1:
            raise UsageError("the models were validated on different rows; fit them again on one split")
        members = [_member(model, answers) for model, answers in zip(models, held, strict=True)]
        truth = Labels(models[0].classes, held[0].truth)
        head = EnsembleHead.of(members, truth, parse_settings(EnsembleHead.Config, settings))
        folds = _same_folds(models)
        asked = head.combined([_ranked(held[place]) for place in head.kept], CANDIDATES)
        findings = LabelFindings(known=_said(held[0], asked))
        if folds:
            asked = head.combined([_ranked(folds[place]) for place in head.kept], CANDIDATES)
            findings = replace(findings, folds=_said(folds[0], asked))
        models = [models[place] for place in head.kept]
        specs = dict.fromkeys(spec for model in models if reads_vectors(model.head) for spec in model.specs)
        scores = {**head.scores, "n": len(truth)}
        return Combined(head, scores, findings, tuple(specs))

    def answering(self, model: FittedModel[Head, LabelFindings], **options: Any) -> LabelAnswering:
        """Return how new proteins are answered; the options are those of `LabelAnswering`."""
        return LabelAnswering(model, **options, hierarchy=self.hierarchy)

    def objective(self, workspace: Workspace) -> Objective:
        """Return what fine-tuning needs."""
        from esmcls.tasks.one_label.tuning import OneLabelObjective

        return OneLabelObjective()

    def assess(self, model: FittedModel[Head, LabelFindings], exam: Exam) -> Examined:
        """Measure accuracy and, where families were held out, who is accepted."""
        evaluation = evaluate(model, exam.part, exam.x, seed=exam.seed, hierarchy=self.hierarchy)
        beside: list[Measured] = [*self._at_levels(model, exam), *self._strangers(model, exam)]
        return Examined(evaluation, tuple(beside))

    def _at_levels(self, model: FittedModel[Head, LabelFindings], exam: Exam) -> tuple[LevelSets, ...]:
        """Return what answers at a level of the hierarchy reach, where the model can give any."""
        doubts = model.findings.confidence or Confidence()
        rows, coverage = len(doubts.tree_scores), Setting.coverage
        if self.hierarchy is None or not doubts.answers_in(self.hierarchy) or (rows + 1) * (1 - coverage) < 1:
            return ()
        threshold = doubts.tree_threshold(coverage)
        answered = AnsweredLevels(self.hierarchy, model.head.classes, exam.part.labels, threshold)
        for place, block in blocks(exam.x, len(model.head.classes)):
            answered.add(model.head.predict_proba(block), exam.part.labels[place])
        half, names = doubts.tree_held_half(coverage), self.hierarchy.levels
        return (LevelSets.of(coverage, half, rows, names, answered.joined()),)

    def _strangers(self, model: FittedModel[Head, LabelFindings], exam: Exam) -> tuple[Strangers, ...]:
        """Return who is accepted, where the model has a threshold for it."""
        rejection = (model.findings.confidence or Confidence()).rejection
        if rejection is None:
            return ()
        scores, names = rejection.of(model.head, exam.x), set(model.classes)
        known = np.array([label in names for label in exam.part.labels], dtype=bool)
        near, far = scores[known], scores[~known]
        if len(exam.unseen):
            far = np.concatenate((far, rejection.of(model.head, exam.features(exam.unseen))))
        if not len(near):
            return ()
        accepted = float((near > rejection.threshold).mean())
        if not len(far):
            share = None if rejection.strangers is None else rejection.strangers.share
            return (Strangers(len(near), 0, accepted, share, None),)
        false = float((far > rejection.threshold).mean())
        return (Strangers(len(near), len(far), accepted, false, auroc(near, far)),)

    def write_examination(
        self,
        folder: Path,
        model: FittedModel[Head, LabelFindings],
        exam: Exam,
        measured: Measured,
        examination: Examination,
    ) -> Path:
        """Write the report of one model."""
        from esmcls.tasks.one_label.reporting.evaluation_report import named_report, write_evaluation

        assert isinstance(measured, Evaluation)
        known = set(model.classes)
        classes = (*model.classes, *sorted(name for name in set(exam.part.labels) if name not in known))
        counts = dict(zip(model.classes, model.class_counts, strict=True))
        nothing = exam.part.take([])
        answers = Questions(exam.part, nothing, classes, None).plain(
            model.classes, measured.ranked, measured.probability, counts, (math.nan, 0.0), examination.about
        )
        entrant = examination.entrant(model.name, answers)
        report = self.report(examination.proceedings, exam.part, [entrant], classes)
        named = named_report(report, examination.names)
        tree = None if self.hierarchy is None else ClassTree.of(self.hierarchy, classes)
        return write_evaluation(folder, named, answers, exam, classes, counts, examination, tree)

    def questions(self, apart: SetAside, train: Dataset, classes: tuple[str, ...], setting: Setting) -> Questions:
        """Return what the models of a comparison are asked."""
        return Questions(apart.kept.part("test"), apart.unseen, classes, setting.coverage, self.hierarchy)

    def report(
        self, proceedings: Proceedings, dataset: Dataset, entrants: Sequence[Entrant[Answers]], classes: tuple[str, ...]
    ) -> OneLabelReport:
        """Return the numbers of a comparison, the best accuracy first."""
        setting = proceedings.setting
        wanted = setting.shares.false_acceptance
        options = {"coverage": setting.coverage, "false_acceptance": wanted}
        rows = compare_answers(entrants, classes, **options, seed=setting.seed, hierarchy=self.hierarchy)
        return OneLabelReport(
            dataset=OneLabelData(
                **proceedings.of_data(),
                classes=len(set(dataset.labels)),
            ),
            settings=OneLabelSettings(
                heads=proceedings.heads,
                encoders=proceedings.encoders,
                folds=proceedings.folds,
                hold_out_families=setting.shares.families,
                calibration=setting.shares.calibration,
                false_acceptance=wanted,
                coverage=setting.coverage,
                knobs=proceedings.knobs,
            ),
            **proceedings.of_rows(rows, self.score),
            rows=rows,
            leakage=_leakage(proceedings.nearness, entrants),
        )

    def write_report(self, folder: Path, report: OneLabelReport, timing: Timing, names: Mapping[str, str]) -> Path:
        """Write the report of a comparison and return its page."""
        from esmcls.tasks.one_label.report import write_one_label_report

        return write_one_label_report(folder, replace(report, family_names=dict(names)), timing)

    def report_lines(self, report: OneLabelReport, timing: Timing) -> list[str]:
        """Return the table of a comparison for a terminal."""
        from esmcls.tasks.one_label.report import lines

        return lines(report, timing)


def _leakage(nearness: Nearness | None, entrants: Sequence[Entrant[Answers]]) -> Leakage | None:
    """Return what each model reaches by how near proteins are to those that were trained on."""
    if nearness is None:
        return None
    right = {entrant.name: entrant.answers.right for entrant in entrants}
    return nearness.leakage({name: partial(_accuracy, flags) for name, flags in right.items()})


def _accuracy(right: Flags, rows: Flags) -> float:
    return float(right[rows].mean())


def _validation_answers(model: Fitted[Head, LabelFindings]) -> Held:
    if model.findings.held is None:
        problem = "was fitted without a validation part, or by an older esmcls: nothing tells how much to trust it"
        raise ModelError(model.folder, problem, "fit it again on a dataset with a validation part")
    return model.findings.held


def _same_folds(models: Sequence[Fitted[Head, LabelFindings]]) -> list[FoldAnswers]:
    """Return what each model's heads said of strangers in folds; nothing where none was asked."""
    folds = [model.findings.folds for model in models]
    asked = [fold for fold in folds if fold is not None]
    if asked and (len(asked) < len(folds) or len({fold.digest for fold in asked}) > 1):
        raise UsageError("the models were asked about different strangers; fit them again on one split")
    return asked


S = TypeVar("S", Held, FoldAnswers)


def _said(rows: S, answers: Ranked) -> S:
    """Return rows with other answers."""
    mass = answers.mass.astype(np.float32)
    return replace(rows, codes=answers.codes, probabilities=mass, familiarity=answers.familiarity)


def _ranked(rows: Held | FoldAnswers) -> Ranked:
    return Ranked(rows.codes, rows.probabilities, rows.familiarity)


def _member(model: Fitted[Head, LabelFindings], held: Held) -> Member:
    return Member(model.name, model.head_name, model.head, model.spec, _ranked(held))
