"""The structure of a protein: distances between its residues, their contacts, and the trace that is folded of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

import numpy as np

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import SetAside
from esmcls.errors import UsageError
from esmcls.heads.base import PairHead
from esmcls.heads.registry import PAIR_GROUP
from esmcls.labels.kinds import STRUCTURE
from esmcls.labels.structure_labels import Structures
from esmcls.reporting.results import Timing
from esmcls.tasks.comparing import Entrant, Proceedings, Setting
from esmcls.tasks.examining import Exam, Examination, Examined, Measured
from esmcls.tasks.fitted import FittedModel, NoFindings
from esmcls.tasks.structure.answers import FOLDED_CHAINS, StructureAnswers, StructureQuestions
from esmcls.tasks.structure.comparison import compare_structures, samples
from esmcls.tasks.structure.evaluation import StructureEvaluation, evaluate_structures
from esmcls.tasks.structure.measures import CONTACTS, MAIN, mean_of
from esmcls.tasks.structure.prediction import StructureAnswering, contacts_of
from esmcls.tasks.structure.results import StructureData, StructureReport
from esmcls.tasks.within_protein import WithinProteinTask, unavailable_within

if TYPE_CHECKING:
    from esmcls.tasks.objective import Objective
    from esmcls.workspace.workspace import Workspace

SEPARATION: Final = "separation"
PROBABLE: Final = 0.5
"""Of a contact that the Python API tells of."""
_STRUCTURES: Final = "answers pairs of residues"


class StructureTask(WithinProteinTask[PairHead, Structures, StructureAnswers]):
    """A structure a protein; see `Task`."""

    kind: ClassVar[str] = STRUCTURE
    name: ClassVar[str] = "a structure"
    group = PAIR_GROUP
    answers_class = StructureAnswers
    score: ClassVar[str] = MAIN
    not_combined: ClassVar[str] = "models of structures cannot be combined; fit one head, such as pairs"
    default_head: ClassVar[str] = "pairs"
    baseline_heads: ClassVar[tuple[str, ...]] = (SEPARATION,)
    layer_score: ClassVar[str] = MAIN
    next_steps: ClassVar[str] = "esmcls evaluate, esmcls predict FASTA for contacts, or esmcls fold FASTA"
    unavailable: ClassVar[Mapping[str, str]] = {
        **unavailable_within(_STRUCTURES),
        "--coverage": f"{_STRUCTURES}: there are no sets of classes",
        "--calibration": f"{_STRUCTURES}: there are no sets of classes",
        "--names": f"{_STRUCTURES}: there are no classes",
        "--top-k": f"{_STRUCTURES}: --min-score says how probable contacts must be",
    }

    def labels(self, part: Dataset, classes: Sequence[str] | None = None) -> Structures:
        """Return the traces of proteins."""
        return Structures.from_texts(part.labels)

    def said(self, head: PairHead, x: Features, classes: Sequence[str], k: int) -> Sequence[Any]:
        """Return the likely contacts of each protein: (i, j, probability, expected distance in Å), from 1."""
        said = []
        for answer in head.per_protein(x):
            i, j, probability, distance, _ = contacts_of(answer, PROBABLE, bounded=False)
            columns = (i + 1).tolist(), (j + 1).tolist(), probability.tolist(), distance.tolist()
            said.append(list(zip(*columns, strict=True)))
        return said

    def validate(self, head: PairHead, x: Features, labels: Structures) -> tuple[dict[str, float], NoFindings]:
        """Return the scores that the head reached on these chains when it was fitted."""
        return {**head.scores, "n": len(labels)}, NoFindings()

    def answering(self, model: FittedModel[PairHead, NoFindings], **options: Any) -> StructureAnswering:
        """Return how new proteins are answered; the options are those of `StructureAnswering`."""
        if options.get("format") in ("fasta", "gff3"):
            raise UsageError(
                f"--format {options['format']} is for labels of residues; model {model.name} gives pairs: tsv"
            )
        return StructureAnswering(model, **options)

    def objective(self, workspace: Workspace) -> Objective:
        """Refuse: structure heads train on a frozen encoder."""
        self._refuse_tuning()

    def _refuse_tuning(self) -> NoReturn:
        raise UsageError("structure heads train on a frozen encoder, so there is nothing to fine-tune: use esmcls fit")

    def assess(self, model: FittedModel[PairHead, NoFindings], exam: Exam) -> Examined:
        """Measure a model with intervals over chains."""
        if not len(exam.part):
            raise UsageError("no chains to evaluate on: give INPUT with structures, or a dataset with a test part")
        about = {"model": None, "validation": None, "megabytes": 0.0}
        chains = FOLDED_CHAINS if exam.folded is None else exam.folded
        questions = StructureQuestions(exam.part, exam.part.take([]), chains)
        answers = questions.ask(model, exam.x, exam.x.take([]), None, about)
        return Examined(evaluate_structures(answers, seed=exam.seed))

    def write_examination(
        self,
        folder: Path,
        model: FittedModel[PairHead, NoFindings],
        exam: Exam,
        measured: Measured,
        examination: Examination,
    ) -> Path:
        """Write the report of one model."""
        from dataclasses import replace

        from esmcls.tasks.structure.report import write_structure_examination

        assert isinstance(measured, StructureEvaluation)
        answers = replace(measured.answers, about=examination.about)
        entrant = examination.entrant(model.name, answers)
        report = self.report(examination.proceedings, exam.part, [entrant], ())
        return write_structure_examination(folder, report, answers, examination)

    def questions(
        self, apart: SetAside, train: Dataset, classes: tuple[str, ...], setting: Setting
    ) -> StructureQuestions:
        """Return what the models of a comparison are asked."""
        return StructureQuestions(apart.kept.part("test"), apart.unseen)

    def report(
        self,
        proceedings: Proceedings,
        dataset: Dataset,
        entrants: Sequence[Entrant[StructureAnswers]],
        classes: tuple[str, ...],
    ) -> StructureReport:
        """Return the numbers of a comparison, the best P@L first."""
        setting, first, nearness = proceedings.setting, entrants[0].answers, proceedings.nearness
        relatives = None if nearness is None else nearness.relatives
        rows = compare_structures(entrants, relatives=relatives, seed=setting.seed, draws=setting.draws)
        answers_of = {entrant.name: entrant.answers for entrant in entrants}
        scores = {name: _score_of(answers) for name, answers in answers_of.items()}
        return StructureReport(
            dataset=StructureData(
                **proceedings.of_data(),
                residues=int(first.sizes.sum()),
                resolved=int(first.resolved.sum()),
                chains=len(first.sizes),
                folded=first.folded,
                contact=CONTACTS,
            ),
            settings=proceedings.settings(),
            **proceedings.of_rows(rows, self.score),
            rows=rows,
            main=MAIN,
            samples=samples(answers_of[rows[0].name]),
            leakage=None if nearness is None else nearness.leakage(scores),
        )

    def write_report(self, folder: Path, report: StructureReport, timing: Timing, names: Mapping[str, str]) -> Path:
        """Write the report of a comparison and return its page."""
        from esmcls.tasks.structure.report import write_structure_report

        return write_structure_report(folder, report, timing)

    def report_lines(self, report: StructureReport, timing: Timing) -> list[str]:
        """Return the table of a comparison for a terminal."""
        from esmcls.tasks.structure.report import lines

        return lines(report, timing)


def _score_of(answers: StructureAnswers) -> Any:
    """Return what gives the mean P@L of some of the chains; None where none of them has one."""
    reached = answers.of(MAIN)

    def score(rows: np.ndarray[Any, np.dtype[np.bool_]]) -> float | None:
        mean = mean_of(reached[rows])
        return None if np.isnan(mean) else mean

    return score
