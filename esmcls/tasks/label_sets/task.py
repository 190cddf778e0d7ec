"""What tasks share whose proteins have any number of classes each: their heads, thresholds and ensembles."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from scipy.sparse import csr_matrix

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import SetAside, Shares
from esmcls.errors import ModelError, UsageError
from esmcls.heads.alignment.search import installed
from esmcls.heads.base import Log, TermHead
from esmcls.heads.ensemble.members import TermMember
from esmcls.heads.ensemble.term_ensemble import TermEnsembleConfig, TermEnsembleHead, find_distance, find_related, said
from esmcls.heads.ensemble.term_ranking import About
from esmcls.heads.neighbours.term_votes import HELD_MOST
from esmcls.heads.registry import TERM_GROUP
from esmcls.heads.settings import parse_settings
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import Counts as TermCounts
from esmcls.metrics.cafa import fmax_by_group
from esmcls.metrics.cafa_curves import peaks
from esmcls.reporting.results import Leakage
from esmcls.tasks.closeness import Flags, Nearness
from esmcls.tasks.comparing import A
from esmcls.tasks.fitted import Combined, Fitted, FittedModel, GetFeatures
from esmcls.tasks.label_sets.evaluation import Predicted, with_unseen
from esmcls.tasks.label_sets.hierarchy import ClassHierarchy
from esmcls.tasks.label_sets.thresholds import Counts, Grouped, TermFindings, Thresholds
from esmcls.tasks.label_sets.trust.expected import LEAST, Trust
from esmcls.tasks.label_sets.trust.sets import CalibratedSets
from esmcls.tasks.task import Task
from esmcls.types import Indices, Probabilities

NAIVE: Final = "naive"
HOMOLOGY: Final = "homology"


class LabelSetsTask(Task[TermHead, LabelSets, TermFindings, A]):
    """A kind of task whose proteins have any number of classes each; see `Task`."""

    group = TERM_GROUP
    score: ClassVar[str] = "fmax"
    many: ClassVar[bool] = True
    baseline_heads: ClassVar[tuple[str, ...]] = (NAIVE,)
    refits_in_comparisons: ClassVar[bool] = False
    layer_knobs: ClassVar[Mapping[str, float]] = {"shrinkage": 0.1, "k": 20, "temperature": 0.1, "background": 0.1}
    layer_score: ClassVar[str] = "fmax"
    called: ClassVar[str]
    """What its classes are called, many of them."""
    findings_class: ClassVar[type[TermFindings]] = TermFindings

    @property
    @abstractmethod
    def grouped(self) -> Grouped:
        """What knows the group of each class."""

    @abstractmethod
    def hierarchy(self, classes: Sequence[str]) -> ClassHierarchy:
        """Return the classes of a model with what contains what."""

    def apart(self, by_group: Mapping[str, float]) -> dict[str, float]:
        """Return the Fmax of each group as a manifest has them."""
        return {f"fmax_{group}": value for group, value in by_group.items()}

    def setup(self, shares: Shares) -> dict[str, Any]:
        """Return the share of calibration rows, if there is one."""
        return {"calibration": shares.calibration} if shares.calibration else {}

    def load_with(self, classes: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """Return the classes and the group of each."""
        return classes, self.hierarchy(classes).groups

    def probabilities(self, head: TermHead, x: Features) -> Probabilities:
        """Return what the head says with each parent as probable as its children."""
        return self.hierarchy(head.classes).predict_proba(head, x)

    def ranked(self, head: TermHead, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k most probable classes by `probabilities`; of equals, the parent comes first."""
        return self.hierarchy(head.classes).top_k(head, x, k)

    def validate(self, head: TermHead, x: Features, labels: LabelSets) -> tuple[dict[str, float], TermFindings]:
        """Measure a head, choose the thresholds, and learn what an answer is worth; the rows are asked once.

        Returns
        -------
        (dict, TermFindings)
            `fmax`, the mean over aspects, that of each aspect, and n, the number of rows.
        """
        counts = Counts(labels)
        hierarchy = self.hierarchy(labels.classes)
        blocks: list[tuple[slice, csr_matrix]] = []

        def counted() -> Iterator[tuple[slice, Probabilities]]:
            for rows, probabilities in hierarchy.held_blocks(head, x):
                counts.add(rows, probabilities)
                blocks.append((rows, csr_matrix(np.where(probabilities >= LEAST, probabilities, 0))))
                yield rows, probabilities

        by_aspect = fmax_by_group(labels, counted())
        mean = float(np.mean(list(by_aspect.values()))) if by_aspect else 0.0
        scores = {"fmax": mean} | self.apart(by_aspect)
        thresholds = counts.choose()
        dense = ((rows, sparse.toarray(order="F")) for rows, sparse in blocks)
        answers = ((rows, said, thresholds.decide(said, hierarchy)) for rows, said in dense)
        return scores | {"n": len(labels)}, self.findings_class(
            self.grouped, thresholds, Trust.measure(answers, labels)
        )

    def unvalidated(self, classes: Sequence[str]) -> TermFindings:
        """Return thresholds of a half."""
        return self.findings_class(self.grouped, Thresholds.unknown(self.hierarchy(classes).groups))

    def measure_set_aside(
        self, head: TermHead, findings: TermFindings, apart: SetAside, shares: Shares, features: GetFeatures
    ) -> TermFindings:
        """Ask for the probabilities of what calibration rows have: sets with a stated coverage are made of them."""
        rows = apart.calibration
        if not len(rows):
            return findings
        hierarchy = self.hierarchy(head.classes)
        truth = with_unseen(self.labels(rows), hierarchy.classes, hierarchy.groups)
        return replace(findings, sets=CalibratedSets.measure(hierarchy.blocks(head, features(rows)), truth))

    def read_findings(self, folder: Path, classes: Sequence[str]) -> TermFindings:
        """Read the thresholds from a model folder."""
        return self.findings_class.load(folder, self.grouped, classes)

    def combine(
        self,
        models: Sequence[Fitted[TermHead, TermFindings]],
        validation: Dataset,
        features: GetFeatures,
        settings: Mapping[str, Any],
        *,
        device: str = "cpu",
        log: Log | None = None,
    ) -> Combined[TermHead, TermFindings]:
        """Weigh models by what each says of the validation rows; members that bring nothing are left out."""
        self.check_ensemble_settings(settings)
        ranked = parse_settings(TermEnsembleConfig, settings).ranked
        if not len(validation):
            raise UsageError("the split has no validation part, which weighs the members; embed with --validation")
        for model in models:
            if model.refitted:
                problem = "was fitted on the validation rows, too: nothing tells how much to trust it"
                raise ModelError(model.folder, problem, "fit it again with --no-refit")
        labels = self.labels(validation, models[0].classes)
        x = features(validation)
        held = x.take(range(min(len(x), HELD_MOST)))
        truth = labels.take(slice(HELD_MOST))
        members = [TermMember(model.name, model.head_name, model.head, model.spec) for model in models]
        about = About(np.array(models[0].class_counts, np.int64), find_distance(members, held))
        head = TermEnsembleHead.of(
            members, truth, lambda: said(members, held), find_related(members, held), device, log, about, ranked
        )
        scores, findings = self.validate(head, x, labels)
        return Combined(head, scores, findings, head.specs)

    def check_ensemble_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse all but `ranked`: it takes the models as they are."""
        if settings.keys() - {"ranked"}:
            problem = f"fitted models of {self.called} are combined as they are"
            raise UsageError(f"--set of an ensemble: {problem}; esmcls fit --head ensemble without --of takes knobs")

    def beside(self) -> tuple[str, ...]:
        """Return the naive model, and homology where an engine for it is installed."""
        return (NAIVE, HOMOLOGY) if installed() is not None else (NAIVE,)


def leakage(counts: Mapping[str, TermCounts], nearness: Nearness | None) -> Leakage | None:
    """Return what each model reaches by how near proteins are to those that were trained on."""
    if nearness is None:
        return None
    return nearness.leakage({name: partial(mean_fmax_of, of_model) for name, of_model in counts.items()})


def mean_fmax_of(counts: TermCounts, rows: Flags) -> float | None:
    """Return the mean over groups of the Fmax of some proteins; None where none has a class."""
    chosen = counts.take(rows)
    groups = np.flatnonzero(chosen.measured).tolist()
    return float(np.mean([peaks(chosen, group)["fmax"][0] for group in groups])) if groups else None


def decided_blocks(
    blocks: Iterator[tuple[slice, Probabilities]],
    model: FittedModel[TermHead, TermFindings],
    hierarchy: ClassHierarchy,
    predicted: dict[int, Predicted],
) -> Iterator[tuple[slice, Probabilities]]:
    """Pass blocks on, and keep which classes the model predicts of each protein."""
    for rows, scores in blocks:
        decided = model.findings.thresholds.decide(scores, hierarchy)
        for row, has, values in zip(range(rows.start, rows.stop), decided, scores, strict=True):
            codes = np.flatnonzero(has)
            predicted[row] = codes, values[codes].astype(np.float64)
        yield rows, scores
