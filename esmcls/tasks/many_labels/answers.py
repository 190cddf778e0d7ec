"""What a model of many labels reached on the test proteins, and what each of them has right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.files import atomic_path, refuse_what_is_no_file
from esmcls.heads.base import TermHead
from esmcls.labels.labels import LabelSets
from esmcls.metrics.average_precision import AveragePrecision
from esmcls.metrics.cafa import Counts
from esmcls.metrics.cafa_curves import draw
from esmcls.metrics.label_f1 import Decided
from esmcls.plain_values import from_plain
from esmcls.tasks.fitted import FittedModel
from esmcls.tasks.folds import mean_facts
from esmcls.tasks.kept_answers import as_metadata, from_metadata, read_seconds, write_seconds
from esmcls.tasks.label_sets.counts import arrays_of, counts_of, join_counts, timed_blocks
from esmcls.tasks.label_sets.evaluation import Predicted, aspect_scores, with_unseen
from esmcls.tasks.label_sets.task import decided_blocks
from esmcls.tasks.label_sets.thresholds import TermFindings
from esmcls.tasks.label_sets.trust.set_scores import SetCounts, join_sets, with_sets
from esmcls.tasks.label_sets.trust.sets import SHOWN
from esmcls.tasks.many_labels.classes import FlatClasses, LabelSetFindings
from esmcls.tasks.many_labels.evaluation import evaluate_labels, scores_of
from esmcls.tasks.many_labels.results import LabelBucket, LabelScores
from esmcls.types import Indices


@dataclass(frozen=True, eq=False)
class LabelAnswers:
    """A model's answers for n proteins.

    Parameters
    ----------
    counts : Counts
    decided : Decided
    members : int64 array, (classes,)
        Training proteins of each label of `decided`.
    evaluation : dict
        `LabelEvaluation.to_json`.
    seconds : (float, float)
        Of fitting, None where that is not known, and of predicting with vectors at hand.
    about : dict
        model: the digest of its folder; validation: the scores there; megabytes; explanation: see `ExplainsItself`.
    lengths : int64 array, (n,)
        Residues.
    """

    counts: Counts
    decided: Decided
    members: Indices
    evaluation: dict[str, Any]
    seconds: tuple[float | None, float]
    about: dict[str, Any]
    lengths: Indices

    @property
    def scores(self) -> LabelScores:
        """The measures."""
        return from_plain(LabelScores, self.evaluation["scores"])

    @property
    def fmax(self) -> float:
        """The measure by which models are put in order."""
        return float(self.evaluation["scores"]["metrics"]["fmax"]["value"])

    @property
    def headline(self) -> str:
        """Its main measure, for a line of progress."""
        return f"Fmax {self.fmax:.3f}"

    def timing(self) -> tuple[float | None, int | None]:
        """Return the seconds of fitting and the proteins a second of predicting, where they are known."""
        fit, predict = self.seconds
        return None if fit is None else round(fit, 2), round(len(self.counts) / predict) if predict else None

    def save(self, path: Path, key: str) -> None:
        """Write a safetensors file, whole or not at all, and the seconds beside; `key` says what the answers are of."""
        write_seconds(path, self.seconds)
        truth, predicted = self.decided.truth, self.decided.predicted
        facts = {"evaluation": self.evaluation, "about": self.about, "classes": truth.classes}
        metadata = as_metadata(key, **facts, groups=self.counts.groups)
        arrays = {"lengths": self.lengths, "members": self.members}
        for name, labels in (("truth", truth), ("predicted", predicted)):
            arrays |= {f"{name}_offsets": labels.offsets, f"{name}_codes": labels.codes}
        with atomic_path(path) as temporary:
            save_file(arrays_of(self.counts) | arrays, temporary, metadata)

    @classmethod
    def load(cls, path: Path, key: str | None = None) -> LabelAnswers | None:
        """Read what `save` wrote; None where there is no file, or one of another key, if any is given."""
        try:
            refuse_what_is_no_file(path)
            with safe_open(path, "numpy") as file:
                facts = from_metadata(file.metadata() or {})
                if key is not None and facts.get("key") != key:
                    return None
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            counts = counts_of(tuple(facts["groups"]), arrays)
            decided = _decided(tuple(facts["classes"]), arrays)
            fit, predict = read_seconds(path)
            measured = facts["evaluation"], (fit, predict), facts["about"]
            return cls(counts, decided, arrays["members"], *measured, arrays["lengths"])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            return None  # as if it were not there: it is computed again

    @classmethod
    def joined(cls, folds: Sequence[LabelAnswers], seed: int = 0) -> LabelAnswers:
        """Put the answers of folds one after another.

        All that follows from each protein's counts and decisions is measured on all of them together. Average precision
        and Fmax by frequency are means over the folds, since these rank scores of different models.
        """
        if len(folds) == 1:
            return folds[0]
        counts = join_counts([fold.counts for fold in folds])
        lengths = np.concatenate([fold.lengths for fold in folds])
        decided, members = _join_decisions(folds)
        draws = draw(len(counts), folds[0].evaluation["folds"], seed)
        parts = [fold.scores for fold in folds]
        precision = AveragePrecision(
            _mean([part.aupr.micro for part in parts]),
            _mean([part.aupr.macro for part in parts]),
            max(part.aupr.terms for part in parts),
        )
        ranked = aspect_scores(counts, 0, precision, [], draws, lengths)
        scores = scores_of(ranked, decided, members, draws)
        buckets = [_mean_bucket(buckets) for buckets in zip(*(part.buckets for part in parts), strict=True)]
        largest = {key: max(fold.evaluation[key] for fold in folds) for key in ("n_labels", "unseen_labels")}
        summed = {key: sum(fold.evaluation[key] for fold in folds) for key in ("n", "unseen")}
        evaluation = folds[0].evaluation | largest | summed | {"scores": asdict(scores) | {"buckets": buckets}}
        evaluation |= join_sets([fold.evaluation for fold in folds])
        fits = [fold.seconds[0] for fold in folds]
        fit = None if None in fits else float(sum(seconds for seconds in fits if seconds is not None))
        seconds = fit, sum(fold.seconds[1] for fold in folds)
        return cls(counts, decided, members, evaluation, seconds, mean_facts([fold.about for fold in folds]), lengths)


def _decided(classes: tuple[str, ...], arrays: Mapping[str, npt.NDArray[Any]]) -> Decided:
    truth, predicted = (
        LabelSets(classes, arrays[f"{name}_offsets"], arrays[f"{name}_codes"]) for name in ("truth", "predicted")
    )
    return Decided(truth, predicted)


def _join_decisions(folds: Sequence[LabelAnswers]) -> tuple[Decided, Indices]:
    """Return the decisions of all folds by the labels of all, and the mean of the training proteins of each."""
    classes = tuple(sorted({name for fold in folds for name in fold.decided.truth.classes}))
    truth, predicted = (
        LabelSets.from_names([names for fold in folds for names in getattr(fold.decided, part).names()], classes)
        for part in ("truth", "predicted")
    )
    place = {name: code for code, name in enumerate(classes)}
    members = np.zeros(len(classes))
    for fold in folds:
        members[[place[name] for name in fold.decided.truth.classes]] += fold.members / len(folds)
    return Decided(truth, predicted), np.rint(members).astype(np.int64)


def _mean_bucket(folds: Sequence[LabelBucket]) -> dict[str, Any]:
    measures = {name: _mean_known([getattr(fold, name) for fold in folds]) for name in ("fmax", "micro", "macro", "f1")}
    return {"name": folds[0].name, "terms": max(fold.terms for fold in folds), **measures}


def _mean_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


@dataclass(frozen=True, eq=False)
class LabelQuestions:
    """Who is asked about, and what is true of them.

    Parameters
    ----------
    known : Dataset
    truth : LabelSets
    seed : int
        Of the bootstrap.
    coverage : float
        Of sets, where a model has calibration rows.
    unseen : Dataset
        Nobody: families are not held out.
    """

    known: Dataset
    truth: LabelSets
    seed: int = 0
    coverage: float = SHOWN
    unseen: Dataset = field(default_factory=lambda: Dataset([], [], [], []))

    def ask(
        self,
        model: FittedModel[TermHead, TermFindings],
        x: Features,
        unseen: Features,
        fit_seconds: float | None,
        about: dict[str, Any],
    ) -> LabelAnswers:
        """Ask a model about all of them; see `esmcls.tasks.comparing.Questions`."""
        classes = FlatClasses(model.classes)
        truth = with_unseen(self.truth, classes.classes, classes.groups)
        lengths = np.array([len(sequence) for sequence in self.known.sequences], dtype=np.int64)
        if x.width and x.spec is not None:
            x.vectors(x.spec.pooled[0])  # read before it is timed
        seconds: list[float] = []
        predicted: dict[int, Predicted] = {}
        sets = SetCounts(model.findings.sets, truth, self.coverage, LabelSetFindings.noun)
        blocks = sets.counting(timed_blocks(classes.blocks(model.head, x), seconds.append))
        blocks = decided_blocks(blocks, model, classes, predicted)
        counts = np.array(model.class_counts, dtype=np.int64)
        measured = evaluate_labels(truth, blocks, predicted, counts, self.seed, lengths=lengths)
        members = np.zeros(truth.n_classes, dtype=np.int64)
        members[: len(counts)] = counts
        took = fit_seconds, sum(seconds)
        numbers = with_sets(measured.to_json(), sets)
        return LabelAnswers(measured.counts, measured.decided, members, numbers, took, about, lengths)

    def without_model(self, train: Dataset) -> dict[str, LabelAnswers]:
        """Return nothing: the baseline, `naive`, is fitted like a head."""
        return {}
