"""Any number of labels a protein, which no ontology orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import SetAside
from esmcls.heads.base import TermHead
from esmcls.labels.kinds import MANY_LABELS
from esmcls.labels.labels import LabelSets
from esmcls.reporting.results import Timing
from esmcls.tasks.comparing import Entrant, Proceedings, Setting
from esmcls.tasks.examining import Exam, Examination, Examined, Measured
from esmcls.tasks.fitted import FittedModel
from esmcls.tasks.label_sets.evaluation import Predicted, with_unseen
from esmcls.tasks.label_sets.task import HOMOLOGY, LabelSetsTask, decided_blocks, leakage
from esmcls.tasks.label_sets.thresholds import TermFindings
from esmcls.tasks.label_sets.trust.set_scores import SetCounts, sets_of
from esmcls.tasks.many_labels.answers import LabelAnswers, LabelQuestions
from esmcls.tasks.many_labels.classes import FlatClasses, LabelSetFindings, OneGroup
from esmcls.tasks.many_labels.coding import label_sets
from esmcls.tasks.many_labels.comparison import compare_labels
from esmcls.tasks.many_labels.evaluation import LabelEvaluation, evaluate_labels
from esmcls.tasks.many_labels.prediction import LabelAnswering
from esmcls.tasks.many_labels.results import Differences, LabelData, LabelNumbers, LabelReport, LabelRow
from esmcls.tasks.task import OF_TERMS, without_families

if TYPE_CHECKING:
    from esmcls.tasks.objective import Objective
    from esmcls.workspace.workspace import Workspace

_LABELS: Final = "gives labels, any number a protein"


class ManyLabels(LabelSetsTask[LabelAnswers]):
    """The labels of each protein; see `Task`."""

    kind: ClassVar[str] = MANY_LABELS
    answers_class = LabelAnswers
    name: ClassVar[str] = "labels, any number a protein"
    called: ClassVar[str] = "many labels"
    findings_class: ClassVar[type[TermFindings]] = LabelSetFindings
    unavailable: ClassVar[Mapping[str, str]] = {
        **without_families(_LABELS, "a protein has no one family"),
        "--names": f"{_LABELS}: they are shown as they are",
        "--aspect": f"{_LABELS}: aspects are Gene Ontology's",
        "--format cafa": f"{_LABELS}: CAFA's format is for Gene Ontology terms",
        "--ia": f"{_LABELS}: information accretion is of an ontology's terms",
        **dict.fromkeys(OF_TERMS, f"{_LABELS}: this is for Gene Ontology terms"),
    }

    @property
    def grouped(self) -> OneGroup:
        """What knows that all labels are one group."""
        return OneGroup()

    def hierarchy(self, classes: Sequence[str]) -> FlatClasses:
        """Return labels, none of which contains another."""
        return FlatClasses(tuple(classes))

    def apart(self, by_group: Mapping[str, float]) -> dict[str, float]:
        """Return nothing: there is one group."""
        return {}

    def labels(self, part: Dataset, classes: Sequence[str] | None = None) -> LabelSets:
        """Return the labels of each row."""
        return label_sets(part.labels, classes)

    def answering(self, model: FittedModel[TermHead, TermFindings], **options: Any) -> LabelAnswering:
        """Return how new proteins are answered; the options are those of `LabelAnswering.of`."""
        return LabelAnswering.of(model, **options)

    def objective(self, workspace: Workspace) -> Objective:
        """Return what fine-tuning needs."""
        from esmcls.tasks.many_labels.tuning import LabelObjective

        return LabelObjective()

    def assess(self, model: FittedModel[TermHead, TermFindings], exam: Exam) -> Examined:
        """Measure a model on labelled proteins."""
        classes = self.hierarchy(model.classes)
        truth = with_unseen(self.labels(exam.part), model.classes, classes.groups)
        lengths = np.array([len(sequence) for sequence in exam.part.sequences], dtype=np.int64)
        counts = np.array(model.class_counts, dtype=np.int64)
        predicted: dict[int, Predicted] = {}
        sets = SetCounts(model.findings.sets, truth, noun=LabelSetFindings.noun)
        blocks = decided_blocks(sets.counting(classes.blocks(model.head, exam.x)), model, classes, predicted)
        measured = evaluate_labels(truth, blocks, predicted, counts, exam.seed, lengths=lengths, each_label=True)
        return Examined(measured, sets.reached())

    def write_examination(
        self,
        folder: Path,
        model: FittedModel[TermHead, TermFindings],
        exam: Exam,
        measured: Measured,
        examination: Examination,
    ) -> Path:
        """Write the report of one model."""
        from esmcls.tasks.many_labels.evaluation_report import write_evaluation

        assert isinstance(measured, LabelEvaluation)
        assert measured.details is not None  # as `assess` leaves it
        lengths = np.array([len(sequence) for sequence in exam.part.sequences], dtype=np.int64)
        about, members = examination.about, measured.details.members
        decided, values = measured.decided, measured.to_json()
        answers = LabelAnswers(measured.counts, decided, members, values, (None, 0.0), about, lengths)
        entrant = examination.entrant(model.name, answers)
        report = self.report(examination.proceedings, exam.train or exam.part.take([]), [entrant], model.classes)
        numbers = LabelNumbers(len(model.classes), measured.n_labels, measured.unseen_labels)
        report = replace(report, dataset=replace(report.dataset, labels=numbers))
        thresholds = model.findings.thresholds
        return write_evaluation(folder, report, measured.details, decided, thresholds, exam, examination)

    def questions(self, apart: SetAside, train: Dataset, classes: tuple[str, ...], setting: Setting) -> LabelQuestions:
        """Return what the models of a comparison are asked."""
        test = apart.kept.part("test")
        return LabelQuestions(test, self.labels(test), setting.seed, setting.coverage)

    def join_folds(self, answers: Sequence[LabelAnswers], setting: Setting) -> LabelAnswers:
        """Put the answers of folds one after another."""
        return LabelAnswers.joined(answers, setting.seed)

    def report(
        self,
        proceedings: Proceedings,
        dataset: Dataset,
        entrants: Sequence[Entrant[LabelAnswers]],
        classes: tuple[str, ...],
    ) -> LabelReport:
        """Return the numbers of a comparison, the highest Fmax first."""
        ordered = sorted(entrants, key=lambda entrant: (-entrant.answers.fmax, entrant.baseline, entrant.name))
        best = _versus(ordered, ordered[0].name, proceedings.setting)
        homology = _versus(ordered, HOMOLOGY, proceedings.setting)
        rows = [_row(entrant, best.get(entrant.name), homology.get(entrant.name)) for entrant in ordered]
        tested = ordered[0].answers.evaluation
        trained = self.labels(dataset.part("train")).n_classes
        counts = {entrant.name: entrant.answers.counts for entrant in ordered}
        return LabelReport(
            dataset=LabelData(
                **proceedings.of_data(),
                labels=LabelNumbers(trained, tested["n_labels"], tested["unseen_labels"]),
            ),
            settings=proceedings.settings(),
            **proceedings.of_rows(rows, self.score),
            rows=rows,
            leakage=leakage(counts, proceedings.nearness),
        )

    def write_report(self, folder: Path, report: LabelReport, timing: Timing, names: Mapping[str, str]) -> Path:
        """Write the report of a comparison and return its page."""
        from esmcls.tasks.many_labels.report import write_label_report

        return write_label_report(folder, report, timing)

    def report_lines(self, report: LabelReport, timing: Timing) -> list[str]:
        """Return the tables of a comparison for a terminal."""
        from esmcls.tasks.many_labels.report import lines

        return lines(report, timing)


def _row(entrant: Entrant[LabelAnswers], best: Differences | None, homology: Differences | None) -> LabelRow:
    answers = entrant.answers
    return LabelRow(
        name=entrant.name,
        head=entrant.head,
        encoder=entrant.encoder,
        baseline=entrant.baseline,
        validation=answers.about["validation"],
        scores=answers.scores,
        versus_best=best,
        versus_homology=homology,
        megabytes=answers.about["megabytes"],
        explanation=answers.about.get("explanation", ""),
        folds=[fold.fmax for fold in entrant.folds],
        **sets_of(answers.evaluation),
    )


def _versus(entrants: Sequence[Entrant[LabelAnswers]], reference: str, setting: Setting) -> dict[str, Differences]:
    """Return how far each other model is from one; nothing where that was not run."""
    by_name = {entrant.name: entrant.answers for entrant in entrants}
    if reference not in by_name:
        return {}
    others = [name for name in by_name if name != reference]
    draws = {} if setting.draws is None else {"folds": setting.draws}
    differences = compare_labels(by_name[reference], [by_name[name] for name in others], **draws, seed=setting.seed)
    return dict(zip(others, differences, strict=True))
