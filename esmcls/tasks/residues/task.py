"""A label or a number for each residue of a protein."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import SetAside
from esmcls.errors import UsageError
from esmcls.heads.base import ResidueHead
from esmcls.heads.registry import RESIDUE_GROUP
from esmcls.labels.kinds import RESIDUE_LABEL, RESIDUE_NUMBER
from esmcls.labels.residue_labels import Targets, signs_of
from esmcls.reporting.results import Timing
from esmcls.tasks.comparing import Entrant, Proceedings, Setting
from esmcls.tasks.examining import Exam, Examination, Examined, Measured
from esmcls.tasks.fitted import FittedModel, NoFindings
from esmcls.tasks.residues.answers import Questions, ResidueAnswers, targets
from esmcls.tasks.residues.comparison import compare_residues
from esmcls.tasks.residues.evaluation import ResidueEvaluation, evaluate_residues
from esmcls.tasks.residues.prediction import ResidueAnswering
from esmcls.tasks.residues.results import ResidueData, ResidueReport
from esmcls.tasks.within_protein import WithinProteinTask, unavailable_within
from esmcls.types import Indices, Probabilities

if TYPE_CHECKING:
    from esmcls.tasks.objective import Objective
    from esmcls.workspace.workspace import Workspace

LETTER: Final = "letter"
_RESIDUES: Final = "answers residues"


class ResidueTask(WithinProteinTask[ResidueHead, Targets, ResidueAnswers]):
    """What labels and numbers of residues share; see `Task`."""

    group = RESIDUE_GROUP
    answers_class = ResidueAnswers
    not_combined: ClassVar[str] = "models of residues cannot be combined yet; fit one head, such as conv"
    baseline_heads: ClassVar[tuple[str, ...]] = (LETTER,)
    unavailable: ClassVar[Mapping[str, str]] = {
        **unavailable_within(_RESIDUES),
        "--min-score": _RESIDUES,
        "--coverage": f"{_RESIDUES}: there are no sets of classes yet",
        "--calibration": f"{_RESIDUES}: there are no sets of classes yet",
        "--names": f"{_RESIDUES}: their classes are single signs",
        "--top-k": f"{_RESIDUES}: one label or number each",
    }

    def labels(self, part: Dataset, classes: Sequence[str] | None = None) -> Targets:
        """Return what is known of the residues of each protein."""
        return targets(self.kind, part.labels, classes)

    def probabilities(self, head: ResidueHead, x: Features) -> Probabilities:
        """Return what the head says of each residue of all proteins, one after another, (residues, outputs)."""
        return head.predict_proba(x)

    def ranked(self, head: ResidueHead, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k likeliest classes of each residue of all proteins, one after another.

        Raises
        ------
        UsageError
            If the head gives numbers.
        """
        if not head.classes:
            raise UsageError("this model gives numbers of residues, no classes; ask esmcls.predict or predict_proba")
        return head.top_k(x, k)

    def said(self, head: ResidueHead, x: Features, classes: Sequence[str], k: int) -> Sequence[Any]:
        """Return the answer to each residue of all proteins: its likeliest classes, or its number."""
        if classes:
            return super().said(head, x, classes, k)
        return [number for [number] in self.probabilities(head, x).tolist()]

    def validate(self, head: ResidueHead, x: Features, labels: Targets) -> tuple[dict[str, float], NoFindings]:
        """Return the scores that the head reached on these proteins when it was fitted, n their known residues."""
        return {**head.scores, "n": int(labels.known.sum())}, NoFindings()

    def answering(self, model: FittedModel[ResidueHead, NoFindings], **options: Any) -> ResidueAnswering:
        """Return how new proteins are answered; the options are those of `ResidueAnswering`."""
        return ResidueAnswering(model, **options)

    def objective(self, workspace: Workspace) -> Objective:
        """Return what fine-tuning needs."""
        from esmcls.tasks.residues.tuning import ResidueObjective

        return ResidueObjective(self.kind)

    def assess(self, model: FittedModel[ResidueHead, NoFindings], exam: Exam) -> Examined:
        """Measure a model with intervals over proteins."""
        if not len(exam.part):
            raise UsageError("no proteins to evaluate on: give INPUT with --labels, or a dataset with a test part")
        answers = Questions.of(self.kind, exam.part, model.classes).ask(
            model, exam.x, exam.x.take([]), None, {"model": None, "validation": None, "megabytes": 0.0}
        )
        return Examined(evaluate_residues(answers, seed=exam.seed))

    def write_examination(
        self,
        folder: Path,
        model: FittedModel[ResidueHead, NoFindings],
        exam: Exam,
        measured: Measured,
        examination: Examination,
    ) -> Path:
        """Write the report of one model."""
        from dataclasses import replace

        from esmcls.tasks.residues.report import write_residue_examination

        assert isinstance(measured, ResidueEvaluation)
        answers = replace(measured.answers, about=examination.about)
        entrant = examination.entrant(model.name, answers)
        report = self.report(examination.proceedings, exam.part, [entrant], answers.classes)
        return write_residue_examination(folder, report, answers, examination)

    def questions(self, apart: SetAside, train: Dataset, classes: tuple[str, ...], setting: Setting) -> Questions:
        """Return what the models of a comparison are asked."""
        signs = () if self.kind == RESIDUE_NUMBER else tuple(sorted(signs_of(apart.kept.labels)))
        return Questions(self.kind, apart.kept.part("test"), apart.unseen, signs)

    def report(
        self,
        proceedings: Proceedings,
        dataset: Dataset,
        entrants: Sequence[Entrant[ResidueAnswers]],
        classes: tuple[str, ...],
    ) -> ResidueReport:
        """Return the numbers of a comparison, the best by the main measure first."""
        setting, first = proceedings.setting, entrants[0].answers
        rows = compare_residues(entrants, seed=setting.seed, draws=setting.draws)
        nearness = proceedings.nearness
        scores = {entrant.name: _score_of(entrant.answers) for entrant in entrants}
        return ResidueReport(
            dataset=ResidueData(
                **proceedings.of_data(),
                classes=list(first.classes),
                residues=int(first.sizes.sum()),
                known=int((~np.isnan(first.truth)).sum()),
            ),
            settings=proceedings.settings(),
            **proceedings.of_rows(rows, self.score),
            rows=rows,
            main=first.main,
            leakage=None if nearness is None else nearness.leakage(scores),
        )

    def write_report(self, folder: Path, report: ResidueReport, timing: Timing, names: Mapping[str, str]) -> Path:
        """Write the report of a comparison and return its page."""
        from esmcls.tasks.residues.report import write_residue_report

        return write_residue_report(folder, report, timing)

    def report_lines(self, report: ResidueReport, timing: Timing) -> list[str]:
        """Return the table of a comparison for a terminal."""
        from esmcls.tasks.residues.report import lines

        return lines(report, timing)


class ResidueLabelTask(ResidueTask):
    """A class for each residue."""

    kind: ClassVar[str] = RESIDUE_LABEL
    name: ClassVar[str] = "a label a residue"
    score: ClassVar[str] = "macro_f1"
    layer_score: ClassVar[str] = "accuracy"


class ResidueNumberTask(ResidueTask):
    """A number for each residue."""

    kind: ClassVar[str] = RESIDUE_NUMBER
    name: ClassVar[str] = "a number a residue"
    score: ClassVar[str] = "spearman"
    layer_score: ClassVar[str] = "spearman"


def _score_of(answers: ResidueAnswers) -> Any:
    """Return what gives the main measure of some of the proteins."""
    measure = answers.measure()
    return lambda rows: measure(rows.astype(np.int64))[answers.main]
