"""A label or a number for each residue of a protein."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import SetAside, Shares
from esmcls.errors import UsageError
from esmcls.heads.base import Log, ResidueHead
from esmcls.heads.registry import RESIDUE_GROUP, load_head
from esmcls.heads.settings import parse_settings
from esmcls.labels.kinds import RESIDUE_LABEL, RESIDUE_NUMBER
from esmcls.labels.label_checks import misfit
from esmcls.labels.residue_labels import Targets, signs_of
from esmcls.reporting.results import ComparisonSettings, Timing
from esmcls.tasks.fitted import Fitted, FittedModel
from esmcls.tasks.residues.answers import Questions, ResidueAnswers, targets
from esmcls.tasks.residues.comparison import compare_residues
from esmcls.tasks.residues.evaluation import ResidueEvaluation, evaluate_residues
from esmcls.tasks.residues.findings import ResidueFindings
from esmcls.tasks.residues.prediction import ResidueAnswering
from esmcls.tasks.residues.results import ResidueData, ResidueReport
from esmcls.tasks.task import (
    OF_TERMS,
    Combined,
    Entrant,
    Exam,
    Examination,
    Examined,
    GetFeatures,
    Measured,
    Proceedings,
    Setting,
    Task,
    chosen,
)
from esmcls.types import Indices, Probabilities

if TYPE_CHECKING:
    from esmcls.tasks.objective import Objective
    from esmcls.workspace.workspace import Workspace

LETTER: Final = "letter"
_RESIDUES: Final = "answers residues"


class ResidueTask(Task[ResidueHead, Targets, ResidueFindings, ResidueAnswers]):
    """What labels and numbers of residues share; see `Task`."""

    group: ClassVar[str] = RESIDUE_GROUP
    many: ClassVar[bool] = False
    combines: ClassVar[bool] = False
    baseline_heads: ClassVar[tuple[str, ...]] = (LETTER,)
    layer_knobs: ClassVar[Mapping[str, float]] = {}
    next_steps: ClassVar[str] = "esmcls evaluate, or esmcls predict FASTA"
    unavailable: ClassVar[Mapping[str, str]] = {
        "--coverage": f"{_RESIDUES}: there are no sets of classes yet",
        "--calibration": f"{_RESIDUES}: there are no sets of classes yet",
        "--hold-out-families": f"{_RESIDUES}: a protein has no family to hold out",
        "--false-acceptance": f"{_RESIDUES}: no families are held out",
        "--accept-known": f"{_RESIDUES}: no families are held out",
        "--names": f"{_RESIDUES}: their classes are single signs",
        "--min-score": _RESIDUES,
        "--aspect": _RESIDUES,
        "--at-least": _RESIDUES,
        "--top-k": f"{_RESIDUES}: one label or number each",
        "--format cafa": _RESIDUES,
        "--ia": _RESIDUES,
        **dict.fromkeys(OF_TERMS, _RESIDUES),
        "--layers auto": f"{_RESIDUES}: name the layers, and compare caches with --encoders",
    }

    def labels(self, part: Dataset, classes: Sequence[str] | None = None) -> Targets:
        """Return what is known of the residues of each protein."""
        return targets(self.kind, part.labels, classes)

    def fault_of_label(self, label: str, sequence: str) -> str:
        """Return why a label is not one of the residues of its sequence."""
        return misfit(label, sequence, self.kind)

    def strata(self, dataset: Dataset) -> list[str]:
        """Return one name for all: hardly two proteins have the same labels."""
        return [""] * len(dataset)

    def identity(self) -> list[Any]:
        """Return the kind: the data set says all else."""
        return [self.kind]

    def setup(self, shares: Shares) -> dict[str, Any]:
        """Return nothing: there are no shares."""
        return {}

    def head_class(self, name: str) -> type[ResidueHead]:
        """Import a head by its registered name."""
        return load_head(name, RESIDUE_GROUP)

    def load_head(
        self, name: str, folder: Path, config: Mapping[str, Any], classes: tuple[str, ...], device: str
    ) -> ResidueHead:
        """Read a head from a model folder."""
        head_class = self.head_class(name)
        return head_class.load(folder, parse_settings(head_class.Config, config), classes, device)

    def fit_head(
        self,
        head: ResidueHead,
        x: Features,
        labels: Targets,
        validation: tuple[Features, Targets] | None,
        seed: int,
        log: Log | None,
    ) -> None:
        """Fit a head, its choices made on the validation proteins."""
        head.fit(x, labels, validation, seed, log)

    def refit_head(self, head: ResidueHead, x: Features, labels: Targets, seed: int, log: Log | None) -> None:
        """Fit a head on all proteins with what it chose."""
        head.refit(x, labels, seed, log)

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

    def validate(self, head: ResidueHead, x: Features, labels: Targets) -> tuple[dict[str, float], ResidueFindings]:
        """Return the scores that the head reached on these proteins when it was fitted, n their known residues."""
        return {**head.scores, "n": int(labels.known.sum())}, ResidueFindings()

    def unvalidated(self, classes: Sequence[str]) -> ResidueFindings:
        """Return findings without anything."""
        return ResidueFindings()

    def read_findings(self, folder: Path, classes: Sequence[str]) -> ResidueFindings:
        """Return findings without anything."""
        return ResidueFindings()

    def combine(
        self,
        models: Sequence[Fitted[ResidueHead, ResidueFindings]],
        validation: Dataset,
        features: GetFeatures,
        settings: Mapping[str, Any],
        *,
        device: str = "cpu",
        log: Log | None = None,
    ) -> Combined[ResidueHead, ResidueFindings]:
        """Refuse: models of residues are not combined yet."""
        raise UsageError("models of residues cannot be combined yet; fit one head, such as conv")

    def answering(self, model: FittedModel[ResidueHead, ResidueFindings], **options: Any) -> ResidueAnswering:
        """Return how new proteins are answered; the options are those of `ResidueAnswering`."""
        return ResidueAnswering(model, **options)

    def objective(self, workspace: Workspace) -> Objective:
        """Return what fine-tuning needs."""
        from esmcls.tasks.residues.tuning import ResidueObjective

        return ResidueObjective(self.kind)

    def assess(self, model: FittedModel[ResidueHead, ResidueFindings], exam: Exam) -> Examined:
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
        model: FittedModel[ResidueHead, ResidueFindings],
        exam: Exam,
        measured: Measured,
        examination: Examination,
    ) -> Path:
        """Write the report of one model."""
        from dataclasses import replace

        from esmcls.tasks.residues.report import write_residue_examination

        assert isinstance(measured, ResidueEvaluation)
        answers = replace(measured.answers, about=examination.about)
        head = examination.proceedings.heads[0]
        entrant = Entrant(model.name, head, examination.encoder, False, answers)
        report = self.report(examination.proceedings, exam.part, [entrant], answers.classes)
        return write_residue_examination(folder, report, answers, examination)

    def questions(self, apart: SetAside, train: Dataset, classes: tuple[str, ...], setting: Setting) -> Questions:
        """Return what the models of a comparison are asked."""
        signs = () if self.kind == RESIDUE_NUMBER else tuple(sorted(signs_of(apart.kept.labels)))
        return Questions(self.kind, apart.kept.part("test"), apart.unseen, signs)

    def load_answers(self, path: Path, key: str) -> ResidueAnswers | None:
        """Read answers that were kept."""
        return ResidueAnswers.load(path, key)

    def join_folds(self, answers: Sequence[ResidueAnswers], setting: Setting) -> ResidueAnswers:
        """Put the answers of folds one after another."""
        return ResidueAnswers.joined(answers)

    def beside(self) -> tuple[str, ...]:
        """Return the baseline that knows of each residue its amino acid alone."""
        return (LETTER,)

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
        scores = {one.name: _score_of(one.answers) for one in entrants}
        return ResidueReport(
            dataset=ResidueData(
                records=proceedings.records,
                split_digest=proceedings.split_digest,
                seed=setting.seed,
                classes=list(first.classes),
                residues=int(first.sizes.sum()),
                known=int((~np.isnan(first.truth)).sum()),
            ),
            settings=ComparisonSettings(
                heads=proceedings.heads,
                encoders=proceedings.encoders,
                knobs=proceedings.knobs,
                folds=proceedings.folds,
            ),
            best=rows[0].name,
            chosen=chosen(rows, self.score),
            rows=rows,
            main=first.main,
            not_run=proceedings.not_run,
            origin=proceedings.origin,
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
