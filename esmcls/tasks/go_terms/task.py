"""Gene Ontology terms, any number a protein."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import SetAside
from esmcls.errors import UsageError
from esmcls.heads.base import TermHead
from esmcls.labels.information_accretion import information_accretion
from esmcls.labels.kinds import GO_TERMS
from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import Ontology
from esmcls.reading.joined.term_tables import read_ia
from esmcls.reporting.results import Timing
from esmcls.tasks.comparing import Entrant, Proceedings, Setting
from esmcls.tasks.examining import Exam, Examination, Examined, Measured
from esmcls.tasks.fitted import FittedModel
from esmcls.tasks.go_terms.answers import TermAnswers, TermQuestions
from esmcls.tasks.go_terms.comparison import versus, with_knowledge
from esmcls.tasks.go_terms.hierarchy import TermHierarchy
from esmcls.tasks.go_terms.known.answering import KnowingAnswering
from esmcls.tasks.go_terms.known.knowledge import Kept, keeping, measure_by_knowledge
from esmcls.tasks.go_terms.known.known_terms import KnownTerms
from esmcls.tasks.go_terms.known.taxon_terms import TaxonTerms
from esmcls.tasks.go_terms.prediction import TermAnswering
from esmcls.tasks.go_terms.results import (
    Differences,
    TermData,
    TermNumbers,
    TermReport,
    TermRow,
)
from esmcls.tasks.label_sets.evaluation import (
    Predicted,
    TermDetails,
    TermEvaluation,
    evaluate_terms,
    members_of,
    with_unseen,
)
from esmcls.tasks.label_sets.scores import AspectScores
from esmcls.tasks.label_sets.task import HOMOLOGY, LabelSetsTask, decided_blocks, leakage
from esmcls.tasks.label_sets.thresholds import TermFindings
from esmcls.tasks.label_sets.trust.set_scores import SetCounts, sets_of
from esmcls.tasks.task import without_families

if TYPE_CHECKING:
    from esmcls.tasks.objective import Objective
    from esmcls.workspace.workspace import Workspace

ONTOLOGY: Final = "terms.json"
FROM_TRAIN: Final = "the training terms"
_TERMS: Final = "gives Gene Ontology terms, any number a protein"


@dataclass(frozen=True)
class Weighting:
    """Where the information accretion of terms is from.

    Parameters
    ----------
    source : str
        The training terms, a file, or empty where it is not known.
    """

    source: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values under their name in metrics.json."""
        return {"information_accretion": self.source}

    def lines(self) -> list[str]:
        """Say it for people."""
        if self.source:
            return [f"information accretion: from {self.source}"]
        return ["information accretion is not known: give --ia FILE for weighted measures"]


@dataclass(frozen=True)
class GoTerms(LabelSetsTask[TermAnswers]):
    """The terms of each protein; see `Task`.

    Parameters
    ----------
    terms : Ontology
    propagate : bool
        Whether a protein with a term has those that contain it, too.
    """

    terms: Ontology
    propagate: bool = True

    kind: ClassVar[str] = GO_TERMS
    answers_class = TermAnswers
    name: ClassVar[str] = "Gene Ontology terms"
    called: ClassVar[str] = "terms"
    next_steps: ClassVar[str] = "esmcls evaluate, or esmcls predict FASTA --format cafa"
    unavailable: ClassVar[Mapping[str, str]] = {
        **without_families(_TERMS, "a protein has no one family"),
        "--names": f"{_TERMS}: their names are the ontology's",
    }

    @property
    def grouped(self) -> Ontology:
        """The ontology, which knows the aspect of each term."""
        return self.terms

    @property
    def ontology(self) -> Ontology:
        """The ontology of the labels."""
        return self.terms

    def hierarchy(self, classes: Sequence[str]) -> TermHierarchy:
        """Return the classes of a model with what contains what."""
        return _hierarchy(self.terms, tuple(classes))

    def labels(self, part: Dataset, classes: Sequence[str] | None = None) -> LabelSets:
        """Return the terms of each row with those that contain them, without roots."""
        sets = self.terms.term_sets((label.split() for label in part.labels), self.propagate)
        if classes is None:
            return sets
        return LabelSets.from_names(sets.names(), classes, self.hierarchy(classes).groups)

    def identity(self) -> list[Any]:
        """Return the digest of the ontology, and whether terms are propagated."""
        return [self.terms.digest(), self.propagate]

    def knows(self, classes: Sequence[str]) -> bool:
        """Return whether all classes are terms of this ontology."""
        return all(name in self.terms.place for name in classes)

    def save(self, folder: Path) -> None:
        """Write the ontology; the classes stand in the model's manifest."""
        self.terms.save(folder / ONTOLOGY)

    def answering(
        self,
        model: FittedModel[TermHead, TermFindings],
        known: KnownTerms | str | Path | Sequence[str | Path] | None = None,
        evidence: Sequence[str] = (),
        taxa: TaxonTerms | None = None,
        **options: Any,
    ) -> TermAnswering | KnowingAnswering:
        """Return how new proteins are answered; the options are those of `TermAnswering.of`, and what is known."""
        plain = TermAnswering.of(model, self.hierarchy(model.classes), **options)
        if known is None and evidence:
            raise UsageError("--evidence says what counts in the files of --known; name these, too")
        if known is None and taxa is None:
            return plain
        if known is None:
            known = KnownTerms(self.terms, {}, {})
        if not isinstance(known, KnownTerms):
            known = KnownTerms.read(known, self.terms, evidence)
        return KnowingAnswering(plain, known, taxa)

    def objective(self, workspace: Workspace) -> Objective:
        """Return what fine-tuning needs."""
        from esmcls.tasks.go_terms.tuning import TermObjective

        return TermObjective(workspace)

    def assess(self, model: FittedModel[TermHead, TermFindings], exam: Exam) -> Examined:
        """Measure as CAFA does, weighed by information accretion where it is known."""
        hierarchy = self.hierarchy(model.classes)
        truth = with_unseen(self.labels(exam.part), model.classes, hierarchy.groups)
        bits, source = self._accretion(truth, exam)
        lengths = np.array([len(sequence) for sequence in exam.part.sequences], dtype=np.int64)
        counts = np.array(model.class_counts, dtype=np.int64)
        predicted: dict[int, Predicted] = {}
        known = KnownTerms.read(exam.known, self.terms, exam.evidence) if exam.known else None
        scored: list[Kept] = []
        sets = SetCounts(model.findings.sets, truth)
        blocks = sets.counting(hierarchy.blocks(model.head, exam.x))
        blocks = decided_blocks(blocks if known is None else keeping(blocks, scored), model, hierarchy, predicted)
        measured = evaluate_terms(truth, blocks, counts, bits, exam.seed, lengths=lengths, each_term=True)
        assert measured.terms is not None  # as asked for
        members = members_of(truth.n_classes, counts)
        details = TermDetails(truth, members, bits, measured.terms, predicted)
        beside: tuple[Measured, ...] = (Weighting(source),)
        if known is not None:
            by_knowledge = measure_by_knowledge(truth, scored, known, exam.part.ids, bits, seed=exam.seed)
            beside = (*beside, by_knowledge)
        return Examined(replace(measured, details=details), (*beside, *sets.reached()))

    def write_examination(
        self,
        folder: Path,
        model: FittedModel[TermHead, TermFindings],
        exam: Exam,
        measured: Measured,
        examination: Examination,
    ) -> Path:
        """Write the report of one model."""
        from esmcls.tasks.go_terms.reporting.evaluation_report import write_evaluation

        assert isinstance(measured, TermEvaluation)
        assert measured.details is not None  # as `assess` leaves it
        lengths = np.array([len(sequence) for sequence in exam.part.sequences], dtype=np.int64)
        answers = TermAnswers(measured.counts, measured.to_json(), (None, 0.0), examination.about, lengths)
        entrant = examination.entrant(model.name, answers)
        nobody = exam.part.take([])
        report = self.report(examination.proceedings, exam.train or nobody, [entrant], model.classes)
        numbers = TermNumbers(len(model.classes), measured.n_terms, measured.unseen_terms)
        report = replace(report, dataset=replace(report.dataset, terms=numbers))
        if exam.train is None and exam.ia is None:
            report = replace(report, weighed_by="", accretion={})
        return write_evaluation(folder, report, measured.details, exam, self.terms, examination)

    def _accretion(self, truth: LabelSets, exam: Exam) -> tuple[npt.NDArray[np.float64] | None, str]:
        """Return the bits of each class and where they are from; a term that no training protein has says 0."""
        if exam.ia is not None:
            return read_ia(exam.ia, truth.classes, self.terms), Path(exam.ia).name
        if exam.train is None:
            return None, ""
        bits = self._bits(exam.train)
        return np.array([bits.get(name, 0.0) for name in truth.classes]), FROM_TRAIN

    def _bits(self, train: Dataset) -> dict[str, float]:
        labels = self.labels(train)
        return dict(zip(labels.classes, information_accretion(labels, self.terms).tolist(), strict=True))

    def questions(self, apart: SetAside, train: Dataset, classes: tuple[str, ...], setting: Setting) -> TermQuestions:
        """Return what the models of a comparison are asked."""
        test = apart.kept.part("test")
        bits = self._bits(train) if setting.ia is None else self._bits_of(setting.ia, apart.kept)
        known = KnownTerms.read(setting.known, self.terms, setting.evidence) if setting.known else None
        return TermQuestions(test, self.labels(test), bits, self.terms, setting.seed, setting.coverage, known)

    def check_known(self, known: Sequence[str | Path], evidence: Sequence[str]) -> list[str]:
        """Return what the reading of known terms met."""
        if evidence and not known:
            raise UsageError("--evidence says what counts in the files of --known; name these, too")
        return KnownTerms.read(known, self.terms, evidence).lines() if known else []

    def check_accretion(self, ia: str | Path, dataset: Dataset) -> None:
        """Refuse a table of information accretion that lacks a term of the data set, or is none."""
        self._bits_of(ia, dataset)

    def _bits_of(self, ia: str | Path, dataset: Dataset) -> dict[str, float]:
        classes = self.labels(dataset).classes
        return dict(zip(classes, read_ia(ia, classes, self.terms).tolist(), strict=True))

    def _bits_of_all(self, train: Dataset) -> dict[str, float]:
        """Return the bits of every term of the ontology, as CAFA's tables have them: 0 where no protein has it."""
        return dict.fromkeys(self.terms.terms, 0.0) | self._bits(train)

    def join_folds(self, answers: Sequence[TermAnswers], setting: Setting) -> TermAnswers:
        """Put the answers of folds one after another."""
        return TermAnswers.joined(answers, setting.seed)

    def report(
        self,
        proceedings: Proceedings,
        dataset: Dataset,
        entrants: Sequence[Entrant[TermAnswers]],
        classes: tuple[str, ...],
    ) -> TermReport:
        """Return the numbers of a comparison, the highest mean Fmax first."""
        ordered = sorted(entrants, key=lambda entrant: (-entrant.answers.mean_fmax, entrant.baseline, entrant.name))
        best = _versus(ordered, ordered[0].name, proceedings.setting)
        homology = _versus(ordered, HOMOLOGY, proceedings.setting)
        rows = [_row(entrant, best.get(entrant.name), homology.get(entrant.name)) for entrant in ordered]
        rows = with_knowledge(rows, ordered, proceedings.setting, HOMOLOGY)
        tested = ordered[0].answers.evaluation
        trained = self.labels(dataset.part("train")).n_classes
        counted_apart = proceedings.folds > 0 or proceedings.setting.ia is not None
        return TermReport(
            dataset=TermData(
                **proceedings.of_data(),
                terms=TermNumbers(trained, tested["n_terms"], tested["unseen_terms"]),
            ),
            settings=proceedings.settings(),
            **proceedings.of_rows(rows, self.score),
            rows=rows,
            leakage=leakage({entrant.name: entrant.answers.counts for entrant in ordered}, proceedings.nearness),
            weighed_by=FROM_TRAIN if proceedings.setting.ia is None else Path(proceedings.setting.ia).name,
            accretion={} if counted_apart else self._bits_of_all(dataset.part("train")),
        )

    def write_report(self, folder: Path, report: TermReport, timing: Timing, names: Mapping[str, str]) -> Path:
        """Write the report of a comparison and return its page."""
        from esmcls.tasks.go_terms.report import write_term_report

        return write_term_report(folder, report, timing)

    def report_lines(self, report: TermReport, timing: Timing) -> list[str]:
        """Return the tables of a comparison for a terminal."""
        from esmcls.tasks.go_terms.report import lines

        return lines(report, timing)


def _row(entrant: Entrant[TermAnswers], best: Differences | None, homology: Differences | None) -> TermRow:
    answers = entrant.answers
    return TermRow(
        name=entrant.name,
        head=entrant.head,
        encoder=entrant.encoder,
        baseline=entrant.baseline,
        validation=answers.about["validation"],
        mean_fmax=answers.mean_fmax,
        aspects={letter: AspectScores.from_json(scores) for letter, scores in answers.evaluation["aspects"].items()},
        versus_best=best,
        versus_homology=homology,
        megabytes=answers.about["megabytes"],
        explanation=answers.about.get("explanation", ""),
        folds=[fold.mean_fmax for fold in entrant.folds],
        **sets_of(answers.evaluation),
    )


@lru_cache(maxsize=8)
def _hierarchy(ontology: Ontology, classes: tuple[str, ...]) -> TermHierarchy:
    return TermHierarchy(ontology, classes)


def _versus(entrants: Sequence[Entrant[TermAnswers]], reference: str, setting: Setting) -> dict[str, Differences]:
    """Return how far each other model is from one; nothing where that was not run."""
    return versus({entrant.name: entrant.answers.counts for entrant in entrants}, reference, setting)
