"""A number a protein: a melting temperature, a fitness, a share that is soluble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import SetAside, Shares
from esmcls.errors import DataError, ModelError, UsageError
from esmcls.heads.base import Log, NumberHead
from esmcls.heads.ensemble.members import NumberMember
from esmcls.heads.ensemble.number_ensemble import NumberEnsembleHead
from esmcls.heads.registry import NUMBER_GROUP, reads_vectors
from esmcls.labels.kinds import NUMBER
from esmcls.labels.numbers import Numbers, tenths, why_no_number
from esmcls.metrics.regression import rank_products, score_numbers, spearman
from esmcls.reporting.results import Leakage, Timing
from esmcls.tasks.closeness import Flags, Nearness
from esmcls.tasks.comparing import Entrant, Proceedings, Setting
from esmcls.tasks.examining import Exam, Examination, Examined, Measured
from esmcls.tasks.fitted import Combined, Fitted, FittedModel, GetFeatures
from esmcls.tasks.number.answers import NumberAnswers, NumberQuestions
from esmcls.tasks.number.comparison import LEAST, compare_numbers
from esmcls.tasks.number.evaluation import IntervalsReached, NumberEvaluation, evaluate_numbers
from esmcls.tasks.number.findings import SHOWN, HeldNumbers, NumberFindings
from esmcls.tasks.number.prediction import NumberAnswering
from esmcls.tasks.number.results import NumberData, NumberReport, NumberSettings
from esmcls.tasks.task import OF_TERMS, Task, without_families
from esmcls.types import Floats

if TYPE_CHECKING:
    from esmcls.tasks.objective import Objective
    from esmcls.workspace.workspace import Workspace

MEAN: Final = "mean"
_NUMBER: Final = "gives a number a protein"


class Number(Task[NumberHead, Numbers, NumberFindings, NumberAnswers]):
    """The number of each protein; see `Task`."""

    kind = NUMBER
    name = "a number"
    group = NUMBER_GROUP
    answers_class = NumberAnswers
    score = "spearman"
    default_head = "ridge"
    baseline_encoder = "kmer"
    baseline_heads: ClassVar[tuple[str, ...]] = (MEAN,)
    layer_head = "ridge"
    layer_head_name = "ridge regression"
    layer_score = "spearman"
    unavailable: ClassVar[Mapping[str, str]] = {
        "--top-k": f"{_NUMBER}, not classes in an order",
        **without_families(_NUMBER, "there are no families"),
        "--names": f"{_NUMBER}: there are no classes to name",
        **dict.fromkeys(("--min-score", "--aspect", "--at-least", "--format cafa", "--ia", *OF_TERMS), _NUMBER),
    }

    def labels(self, part: Dataset, classes: Sequence[str] | None = None) -> Numbers:
        """Return the number of each row.

        Raises
        ------
        DataError
            If one has none.
        """
        for name, label in zip(part.ids, part.labels, strict=True):
            if problem := self.fault_of_label(label, ""):
                raise DataError("dataset", problem, "give each protein a number", record=name)
        return Numbers.from_texts(part.labels)

    def fault_of_label(self, label: str, sequence: str) -> str:
        """Return what is wrong with a text that should be a number."""
        return why_no_number(label)

    def strata(self, dataset: Dataset) -> list[str]:
        """Return tenths of the numbers: every fold has its share of small and large ones."""
        return tenths(dataset.labels)

    def load_with(self, classes: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """Return nothing: there are no classes."""
        return ()

    def said(self, head: NumberHead, x: Features, classes: Sequence[str], k: int) -> list[float]:
        """Return the number of each row."""
        values: list[float] = head.predict(x).tolist()
        return values

    def marks(self, head: NumberHead, x: Features, labels: Numbers) -> Floats:
        """Return what each row adds to the Spearman correlation."""
        return rank_products(labels.values, head.predict(x))

    def validate(self, head: NumberHead, x: Features, labels: Numbers) -> tuple[dict[str, float], NumberFindings]:
        """Return the measures that the head reached on these rows when it was fitted, and its answers there."""
        held = HeldNumbers.of(head, x, labels)
        scores = head.scores or score_numbers(labels.values, held.predicted)
        return {**scores, "n": len(labels)}, NumberFindings(held)

    def unvalidated(self, classes: Sequence[str]) -> NumberFindings:
        """Return findings without anything."""
        return NumberFindings()

    def measure_set_aside(
        self, head: NumberHead, findings: NumberFindings, apart: SetAside, shares: Shares, features: GetFeatures
    ) -> NumberFindings:
        """Measure how far off the head is on calibration rows."""
        rows = apart.calibration
        return findings.measured(head, features(rows), self.labels(rows)) if len(rows) else findings

    def read_findings(self, folder: Path, classes: Sequence[str]) -> NumberFindings:
        """Read them from a model folder."""
        return NumberFindings.load(folder)

    def combine(
        self,
        models: Sequence[Fitted[NumberHead, NumberFindings]],
        validation: Dataset,
        features: GetFeatures,
        settings: Mapping[str, Any],
        *,
        device: str = "cpu",
        log: Log | None = None,
    ) -> Combined[NumberHead, NumberFindings]:
        """Weigh models by what each said of the validation rows before it was fitted on them, if it ever was."""
        self.check_ensemble_settings(settings)
        held = [_held_by(model) for model in models]
        if len({answers.digest for answers in held}) > 1:
            raise UsageError("the models were validated on different rows; fit them again on one split")
        members = [NumberMember(model.name, model.head_name, model.head, model.spec) for model in models]
        given = np.stack([answers.predicted for answers in held], 1)
        truth = Numbers(held[0].truth)
        head = NumberEnsembleHead.of(members, given, truth, device)
        stacked = head.stack(given[:, list(head.kept)])
        chosen = [models[place] for place in head.kept]
        specs = dict.fromkeys(spec for model in chosen if reads_vectors(model.head) for spec in model.specs)
        findings = NumberFindings(HeldNumbers(held[0].truth, stacked, held[0].digest))
        return Combined(head, {**head.scores, "n": len(truth)}, findings, tuple(specs))

    def check_ensemble_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse all: it takes the models as they are."""
        if settings:
            problem = "fitted models of numbers are combined as they are"
            raise UsageError(f"--set of an ensemble: {problem}; esmcls fit --head ensemble without --of takes knobs")

    def answering(self, model: FittedModel[NumberHead, NumberFindings], **options: Any) -> NumberAnswering:
        """Return how new proteins are answered; the options are those of `NumberAnswering`."""
        return NumberAnswering(model, **options)

    def objective(self, workspace: Workspace) -> Objective:
        """Return what fine-tuning needs."""
        from esmcls.tasks.number.tuning import NumberObjective

        return NumberObjective()

    def assess(self, model: FittedModel[NumberHead, NumberFindings], exam: Exam) -> Examined:
        """Measure how near the numbers are and, where there are calibration rows, what intervals hold."""
        evaluation = evaluate_numbers(model.head, self.labels(exam.part), exam.x, seed=exam.seed)
        if not model.findings.enough_for(SHOWN):
            return Examined(evaluation)
        half = model.findings.half_width(SHOWN)
        within = float((np.abs(evaluation.predicted - evaluation.truth) <= half).mean())
        return Examined(evaluation, (IntervalsReached(SHOWN, within, half, len(model.findings.errors)),))

    def write_examination(
        self,
        folder: Path,
        model: FittedModel[NumberHead, NumberFindings],
        exam: Exam,
        measured: Measured,
        examination: Examination,
    ) -> Path:
        """Write the report of one model."""
        from esmcls.tasks.number.evaluation_report import write_evaluation

        assert isinstance(measured, NumberEvaluation)
        questions = NumberQuestions(exam.part, exam.part.take([]), SHOWN)
        rows = {"calibration_rows": len(model.findings.errors)}
        answers = questions.plain(measured.predicted, model.findings, (0.0, 0.0), examination.about | rows)
        entrant = examination.entrant(model.name, answers)
        report = self.report(examination.proceedings, exam.part, [entrant], ())
        return write_evaluation(folder, report, answers, exam, examination)

    def questions(self, apart: SetAside, train: Dataset, classes: tuple[str, ...], setting: Setting) -> NumberQuestions:
        """Return what the models of a comparison are asked."""
        return NumberQuestions(apart.kept.part("test"), apart.unseen, setting.coverage)

    def report(
        self,
        proceedings: Proceedings,
        dataset: Dataset,
        entrants: Sequence[Entrant[NumberAnswers]],
        classes: tuple[str, ...],
    ) -> NumberReport:
        """Return the numbers of a comparison, the best Spearman first."""
        setting = proceedings.setting
        rows = compare_numbers(entrants, coverage=setting.coverage, draws=setting.draws, seed=setting.seed)
        values = self.labels(dataset).values
        return NumberReport(
            dataset=NumberData(
                **proceedings.of_data(),
                least=float(values.min()),
                mean=float(values.mean()),
                largest=float(values.max()),
            ),
            settings=NumberSettings(
                heads=proceedings.heads,
                encoders=proceedings.encoders,
                knobs=proceedings.knobs,
                folds=proceedings.folds,
                calibration=setting.shares.calibration,
                coverage=setting.coverage,
            ),
            **proceedings.of_rows(rows, self.score),
            rows=rows,
            leakage=_leakage(proceedings.nearness, entrants),
            truth=entrants[0].answers.truth.tolist(),
        )

    def write_report(self, folder: Path, report: NumberReport, timing: Timing, names: Mapping[str, str]) -> Path:
        """Write the report of a comparison and return its page."""
        from esmcls.tasks.number.report import write_number_report

        return write_number_report(folder, report, timing)

    def report_lines(self, report: NumberReport, timing: Timing) -> list[str]:
        """Return the table of a comparison for a terminal."""
        from esmcls.tasks.number.report import lines

        return lines(report, timing)


def _held_by(model: Fitted[NumberHead, NumberFindings]) -> HeldNumbers:
    if model.findings.held is None:
        problem = "was fitted without a validation part: nothing tells how much to trust it"
        raise ModelError(model.folder, problem, "fit it again on a split with a validation part")
    return model.findings.held


def _leakage(nearness: Nearness | None, entrants: Sequence[Entrant[NumberAnswers]]) -> Leakage | None:
    """Return what each model reaches by how near proteins are to those that were trained on."""
    if nearness is None:
        return None
    return nearness.leakage({entrant.name: partial(_ordered, entrant.answers) for entrant in entrants})


def _ordered(answers: NumberAnswers, rows: Flags) -> float | None:
    if int(rows.sum()) < LEAST:
        return None
    return spearman(answers.truth[rows], answers.predicted[rows])
