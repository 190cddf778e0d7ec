"""What a model of terms reached on the test proteins and what each of them has right: all that a comparison needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.files import atomic_path, refuse_what_is_no_file
from esmcls.heads.base import TermHead
from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import Ontology
from esmcls.metrics.average_precision import AveragePrecision
from esmcls.metrics.cafa import Counts
from esmcls.metrics.cafa_curves import draw
from esmcls.tasks.fitted import FittedModel
from esmcls.tasks.folds import mean_facts
from esmcls.tasks.go_terms.hierarchy import TermHierarchy
from esmcls.tasks.go_terms.known.knowledge import Kept, News, count_news, keeping
from esmcls.tasks.go_terms.known.known_terms import KnownTerms
from esmcls.tasks.kept_answers import as_metadata, from_metadata, read_seconds, write_seconds
from esmcls.tasks.label_sets.counts import arrays_of, counts_of, join_counts, timed_blocks
from esmcls.tasks.label_sets.evaluation import aspect_scores, evaluate_terms, with_unseen
from esmcls.tasks.label_sets.scores import AspectScores, Bucket
from esmcls.tasks.label_sets.thresholds import TermFindings
from esmcls.tasks.label_sets.trust.set_scores import SetCounts, join_sets, with_sets
from esmcls.tasks.label_sets.trust.sets import SHOWN
from esmcls.types import Indices


@dataclass(frozen=True, eq=False)
class TermAnswers:
    """A model's answers for n proteins.

    Parameters
    ----------
    counts : Counts
    evaluation : dict
        `TermEvaluation.to_json`.
    seconds : (float, float)
        Of fitting, None where that is not known, and of predicting with vectors at hand.
    about : dict
        model: the digest of its folder; validation: the scores there; megabytes; explanation: see `ExplainsItself`.
    lengths : int64 array, (n,)
        Residues.
    news : News, optional
        What each protein has right of what was not known of it, where it is told what was.
    """

    counts: Counts
    evaluation: dict[str, Any]
    seconds: tuple[float | None, float]
    about: dict[str, Any]
    lengths: Indices
    news: News | None = None

    @property
    def mean_fmax(self) -> float:
        """The mean over aspects of Fmax."""
        return float(np.mean([aspect["metrics"]["fmax"]["value"] for aspect in self.evaluation["aspects"].values()]))

    @property
    def headline(self) -> str:
        """Its main measure, for a line of progress."""
        return f"mean Fmax {self.mean_fmax:.3f}"

    def timing(self) -> tuple[float | None, int | None]:
        """Return the seconds of fitting and the proteins a second of predicting, where they are known."""
        fit, predict = self.seconds
        return None if fit is None else round(fit, 2), round(len(self.counts) / predict) if predict else None

    def save(self, path: Path, key: str) -> None:
        """Write a safetensors file, whole or not at all, and the seconds beside; `key` says what the answers are of."""
        write_seconds(path, self.seconds)
        facts = {"evaluation": self.evaluation, "about": self.about}
        metadata = as_metadata(key, **facts, groups=self.counts.groups)  # in their own order: it is that of columns
        with atomic_path(path) as temporary:
            news = {} if self.news is None else self.news.arrays()
            save_file(arrays_of(self.counts) | {"lengths": self.lengths} | news, temporary, metadata)

    @classmethod
    def load(cls, path: Path, key: str | None = None) -> TermAnswers | None:
        """Read what `save` wrote; None where there is no file, or one of another key, if any is given."""
        try:
            refuse_what_is_no_file(path)
            with safe_open(path, "numpy") as file:
                facts = from_metadata(file.metadata() or {})
                if key is not None and facts.get("key") != key:
                    return None
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            fit, predict = facts["seconds"] if "seconds" in facts else read_seconds(path)  # 0.1.0 has them inside
            counts = counts_of(tuple(facts["groups"]), arrays)
            news = News.of_arrays(counts.groups, arrays)
            return cls(counts, facts["evaluation"], (fit, predict), facts["about"], arrays["lengths"], news)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            return None  # as if it were not there: it is computed again

    @classmethod
    def joined(cls, folds: Sequence[TermAnswers], seed: int = 0) -> TermAnswers:
        """Put the answers of folds one after another.

        All that follows from each protein's counts is measured on all of them together: Fmax, Smin, intervals, curves
        and lengths. Average precision and what is told by frequency of the term are means over the folds, since these
        rank scores of different models.
        """
        if len(folds) == 1:
            return folds[0]
        counts = join_counts([fold.counts for fold in folds])
        lengths = np.concatenate([fold.lengths for fold in folds])
        evaluation = join_evaluations([fold.evaluation for fold in folds], counts, lengths, seed)
        fits = [fold.seconds[0] for fold in folds]
        fit = None if None in fits else float(sum(seconds for seconds in fits if seconds is not None))
        about = mean_facts([fold.about for fold in folds])
        news = News.joined([fold.news for fold in folds if fold.news is not None])
        return cls(counts, evaluation, (fit, sum(fold.seconds[1] for fold in folds)), about, lengths, news)


@dataclass(frozen=True, eq=False)
class TermQuestions:
    """Who is asked about, and what is true of them.

    Parameters
    ----------
    known : Dataset
    truth : LabelSets
        Their terms, propagated.
    bits : dict of str to float
        Information accretion of each training term; any other adds none.
    ontology : Ontology
    seed : int
        Of the bootstrap.
    coverage : float
        Of sets, where a model has calibration rows.
    known_terms : KnownTerms, optional
        What was known of the proteins.
    unseen : Dataset
        Nobody: families are not held out of terms.
    """

    known: Dataset
    truth: LabelSets
    bits: Mapping[str, float]
    ontology: Ontology
    seed: int = 0
    coverage: float = SHOWN
    known_terms: KnownTerms | None = None
    unseen: Dataset = field(default_factory=lambda: Dataset([], [], [], []))

    def ask(
        self,
        model: FittedModel[TermHead, TermFindings],
        x: Features,
        unseen: Features,
        fit_seconds: float | None,
        about: dict[str, Any],
    ) -> TermAnswers:
        """Ask a model about all of them.

        Parameters
        ----------
        model : FittedModel
        x : Features
            Of the proteins, in their order.
        unseen : Features
            Of nobody.
        fit_seconds, about
            See `TermAnswers`.
        """
        hierarchy = TermHierarchy(self.ontology, model.classes)
        truth = with_unseen(self.truth, hierarchy.classes, hierarchy.groups)
        bits = np.array([self.bits.get(name, 0.0) for name in truth.classes])
        lengths = np.array([len(sequence) for sequence in self.known.sequences], dtype=np.int64)
        if x.width and x.spec is not None:
            x.vectors(x.spec.pooled[0])  # read before it is timed
        seconds: list[float] = []
        sets, scored = SetCounts(model.findings.sets, truth, self.coverage), list[Kept]()
        blocks = sets.counting(timed_blocks(hierarchy.blocks(model.head, x), seconds.append))
        blocks = blocks if self.known_terms is None else keeping(blocks, scored)
        counts = np.array(model.class_counts, dtype=np.int64)
        evaluation = evaluate_terms(truth, blocks, counts, bits, self.seed, lengths=lengths)
        news = None if self.known_terms is None else count_news(truth, scored, self.known_terms, self.known.ids, bits)
        numbers, took = with_sets(evaluation.to_json(), sets), (fit_seconds, sum(seconds))
        return TermAnswers(evaluation.counts, numbers, took, about, lengths, news)

    def without_model(self, train: Dataset) -> dict[str, TermAnswers]:
        """Return nothing: the baseline of terms, `naive`, is fitted like a head."""
        return {}


def join_evaluations(folds: Sequence[dict[str, Any]], counts: Counts, lengths: Indices, seed: int) -> dict[str, Any]:
    """Return what `TermEvaluation.to_json` says, of the proteins of all folds; see `TermAnswers.joined`."""
    aspects = {}
    draws = draw(len(counts), folds[0]["folds"], seed)
    for group, name in enumerate(counts.groups):
        if counts.measured[group]:
            by_fold = [AspectScores.from_json(fold["aspects"][name]) for fold in folds if name in fold["aspects"]]
            buckets = [_mean_bucket(bucket) for bucket in zip(*(fold.buckets for fold in by_fold), strict=True)]
            precisions = [fold.aupr for fold in by_fold]
            aupr = AveragePrecision(
                float(np.mean([precision.micro for precision in precisions])),
                float(np.mean([precision.macro for precision in precisions])),
                max(precision.terms for precision in precisions),
            )
            aspects[name] = asdict(aspect_scores(counts, group, aupr, buckets, draws, lengths))
    largest = {key: max(fold[key] for fold in folds) for key in ("n_terms", "unseen_terms")}
    summed = {key: sum(fold[key] for fold in folds) for key in ("n", "unseen")}
    return folds[0] | largest | summed | {"aspects": aspects} | join_sets(folds)


def _mean_bucket(folds: Sequence[Bucket]) -> Bucket:
    measures = [_mean_known([getattr(fold, name) for fold in folds]) for name in ("fmax", "micro", "macro")]
    return Bucket(folds[0].name, max(fold.terms for fold in folds), *measures)


def _mean_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
